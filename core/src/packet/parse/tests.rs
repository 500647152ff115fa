//! What a view says of real and made packets, and that no bytes at all make it panic.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use core::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::packet::reply::{self, MAX_REPLY_LEN};
use crate::packet::rewrite;
use crate::packet::samples::{Extension, Kind, Sample, V4_ACK, V4_SYN, V6_SYN, family, from_hex, one_of_each, sample};

fn view(packet: &[u8]) -> Result<View, Malformed> {
    View::parse(packet, Offload::NONE)
}

#[test]
fn a_captured_ipv4_ack_is_read() {
    let packet = from_hex(V4_ACK);
    let view = view(&packet).unwrap();
    assert_eq!(view.family(), Family::V4);
    assert_eq!(view.src(), "10.30.0.19".parse::<IpAddr>().unwrap());
    assert_eq!(view.dst(), "10.18.0.136".parse::<IpAddr>().unwrap());
    assert_eq!(view.protocol(), Protocol::Tcp);
    assert_eq!(view.ports(), Some((0xa8fc, 80)));
    assert_eq!((view.transport_offset(), view.total_len()), (20, 52));
    assert!(view.dont_fragment());
    assert_eq!(view.fragment(), None);
    let tcp = view.tcp().unwrap();
    assert_eq!((tcp.seq, tcp.ack), (0x866d_4e41, 0xec67_3059));
    assert_eq!(tcp.flags, TcpFlags::ACK);
    assert_eq!((tcp.payload_len, tcp.sequence_len()), (0, 0));
}

#[test]
fn captured_syns_are_read() {
    let packet = from_hex(V4_SYN);
    let v4 = view(&packet).unwrap();
    assert_eq!(v4.src(), "10.30.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(v4.dst(), "10.18.0.6".parse::<IpAddr>().unwrap());
    assert_eq!(v4.ports(), Some((0xb5a2, 80)));
    assert_eq!(v4.tcp().unwrap().flags, TcpFlags::SYN);
    assert_eq!(v4.tcp().unwrap().sequence_len(), 1);

    let packet = from_hex(V6_SYN);
    let v6 = view(&packet).unwrap();
    assert_eq!(v6.family(), Family::V6);
    assert_eq!(v6.src(), "fc00::203".parse::<IpAddr>().unwrap());
    assert_eq!(v6.dst(), "fdff:1000::1".parse::<IpAddr>().unwrap());
    assert_eq!((v6.protocol(), v6.protocol().number()), (Protocol::Tcp, 6));
    assert_eq!(v6.ports(), Some((0xb984, 80)));
    assert_eq!((v6.transport_offset(), v6.total_len()), (40, 80));
    assert_eq!(v6.tcp().unwrap().flags, TcpFlags::SYN);
}

#[test]
fn the_identifier_of_an_echo_serves_as_the_port_of_who_asks() {
    for family in [Family::V4, Family::V6] {
        let request = view(&Sample::plain(family, Kind::EchoRequest, 8).build()).unwrap();
        assert_eq!(request.icmp(), Some(IcmpKind::EchoRequest { ident: 40_000 }));
        assert_eq!(request.ports(), Some((40_000, 0)));
        let reply = view(&Sample::plain(family, Kind::EchoReply, 8).build()).unwrap();
        assert_eq!(reply.icmp(), Some(IcmpKind::EchoReply { ident: 40_000 }));
        assert_eq!(reply.ports(), Some((0, 40_000)));
    }
}

#[test]
fn icmp_errors_are_told_from_other_messages() {
    let kind_of = |family, kind: u8| {
        let sample = Sample::plain(family, Kind::EchoRequest, 8);
        let mut packet = sample.build();
        packet[sample.transport_offset()] = kind;
        view(&packet).unwrap().icmp().unwrap()
    };
    for kind in 0..=255 {
        let is_error = matches!(kind_of(Family::V4, kind), IcmpKind::Error { .. });
        assert_eq!(is_error, [3, 4, 5, 11, 12].contains(&kind), "ICMP {kind}");
        let is_error = matches!(kind_of(Family::V6, kind), IcmpKind::Error { .. });
        assert_eq!(is_error, kind < 128, "ICMPv6 {kind}");
    }
    assert_eq!(kind_of(Family::V4, 13), IcmpKind::Other { kind: 13, code: 0 });
}

#[test]
fn icmp_of_the_other_family_is_just_another_protocol() {
    for (family, number) in [(Family::V4, 58), (Family::V6, 1)] {
        let mut packet = Sample::plain(family, Kind::Other, 20).build();
        let at = if family == Family::V4 { 9 } else { 6 };
        packet[at] = number;
        let view = view(&packet).unwrap();
        assert_eq!(view.protocol(), Protocol::Other(number));
        assert_eq!(view.transport(), &Transport::Other);
        assert_eq!(view.ports(), None);
    }
}

#[test]
fn ipv4_fragments_have_ports_in_the_first_only() {
    let mut packet = Sample::plain(Family::V4, Kind::Udp, 16).build();
    packet[6..8].copy_from_slice(&0x2000_u16.to_be_bytes());
    // The datagram is longer than this fragment of it.
    packet[24..26].copy_from_slice(&1000_u16.to_be_bytes());
    let first = view(&packet).unwrap();
    let fragment = Fragment { offset: 0, len: 24, more: true, id: 0x1234 };
    assert_eq!(first.fragment(), Some(fragment));
    assert!(fragment.is_first());
    assert!(!first.dont_fragment());
    assert_eq!(first.ports(), Some((40_000, 80)));

    packet[6..8].copy_from_slice(&(0x2000_u16 | 185).to_be_bytes());
    let later = view(&packet).unwrap();
    assert_eq!(later.fragment(), Some(Fragment { offset: 1480, len: 24, more: true, id: 0x1234 }));
    assert_eq!(later.ports(), None);
    assert_eq!(later.protocol(), Protocol::Udp);
    assert_eq!(later.transport(), &Transport::LaterFragment);
}

#[test]
fn ipv6_fragments_have_ports_in_the_first_only() {
    let sample =
        Sample { extensions: vec![Extension::HopByHop, Extension::Atomic], ..Sample::plain(Family::V6, Kind::Udp, 16) };
    let mut packet = sample.build();
    assert_eq!(view(&packet).unwrap().fragment(), None, "atomic");

    let field = 40 + 8 + 2;
    packet[field..field + 2].copy_from_slice(&1_u16.to_be_bytes());
    let first = view(&packet).unwrap();
    assert_eq!(first.fragment(), Some(Fragment { offset: 0, len: 24, more: true, id: 7 }));
    assert_eq!(first.ports(), Some((40_000, 80)));

    packet[field..field + 2].copy_from_slice(&(1480_u16 | 1).to_be_bytes());
    let later = view(&packet).unwrap();
    assert_eq!(later.fragment(), Some(Fragment { offset: 1480, len: 24, more: true, id: 7 }));
    assert_eq!(later.ports(), None);
    assert_eq!(later.transport_offset(), 56);
    assert_eq!(later.protocol(), Protocol::Udp);
}

#[test]
fn nothing_is_read_behind_the_header_of_a_later_ipv6_fragment() {
    let sample = Sample {
        extensions: vec![Extension::Atomic, Extension::Destination],
        ..Sample::plain(Family::V6, Kind::Udp, 16)
    };
    let mut packet = sample.build();
    packet[42..44].copy_from_slice(&1480_u16.to_be_bytes());
    // What looks like the length of destination options is data.
    packet[49] = 255;
    let later = view(&packet).unwrap();
    assert_eq!(later.transport(), &Transport::LaterFragment);
    assert_eq!(later.transport_offset(), 48);
    assert_eq!(later.protocol(), Protocol::Other(60));
}

#[test]
fn fragments_that_cannot_be_put_together_are_malformed() {
    let mut packet = Sample::plain(Family::V4, Kind::Udp, 16).build();
    // Ends beyond 65,535.
    packet[6..8].copy_from_slice(&0x1fff_u16.to_be_bytes());
    assert_eq!(view(&packet), Err(Malformed::Fragment));
    // Not the last, and not whole eights.
    let mut packet = Sample::plain(Family::V4, Kind::Udp, 17).build();
    packet[6..8].copy_from_slice(&0x2001_u16.to_be_bytes());
    assert_eq!(view(&packet), Err(Malformed::Fragment));
    packet[6..8].copy_from_slice(&0x0001_u16.to_be_bytes());
    assert!(view(&packet).is_ok(), "the last may have any length");
}

#[test]
fn the_reasons_of_malformed_packets_are_told() {
    let v4 = Sample::plain(Family::V4, Kind::Tcp, 4).build();
    let v6 = Sample::plain(Family::V6, Kind::Udp, 4).build();
    let with = |packet: &[u8], at: usize, value: u8| {
        let mut packet = packet.to_vec();
        packet[at] = value;
        view(&packet)
    };
    assert_eq!(view(&[]), Err(Malformed::Empty));
    assert_eq!(view(&[0x00]), Err(Malformed::Version));
    assert_eq!(with(&v4, 0, 0x55), Err(Malformed::Version));
    assert_eq!(view(&[0x45]), Err(Malformed::Truncated));
    assert_eq!(with(&v4, 0, 0x44), Err(Malformed::HeaderLength));
    assert_eq!(with(&v4, 3, 19), Err(Malformed::TotalLength));
    assert_eq!(with(&v4, 3, 45), Err(Malformed::Truncated));
    assert_eq!(with(&v4, 3, 39), Err(Malformed::TransportTruncated));
    // TCP header length: below 20 bytes, beyond the packet.
    assert_eq!(with(&v4, 32, 0x40), Err(Malformed::TransportTruncated));
    assert_eq!(with(&v4, 32, 0x70), Err(Malformed::TransportTruncated));
    // UDP length: below 8 bytes, beyond the packet, shorter than the packet.
    assert_eq!(with(&v6, 45, 7), Err(Malformed::TransportTruncated));
    assert_eq!(with(&v6, 45, 13), Err(Malformed::TransportTruncated));
    assert!(with(&v6, 45, 11).is_ok());
    assert_eq!(with(&v6, 5, 13), Err(Malformed::Truncated));
}

#[test]
fn the_walk_over_extension_headers_is_bounded_and_ordered() {
    let with =
        |extensions: Vec<Extension>| view(&Sample { extensions, ..Sample::plain(Family::V6, Kind::Tcp, 0) }.build());
    assert!(with(vec![Extension::Destination; 8]).is_ok());
    for extensions in [
        vec![Extension::Destination; 9],
        vec![Extension::Destination, Extension::HopByHop],
        vec![Extension::Atomic, Extension::Atomic],
    ] {
        assert_eq!(with(extensions), Err(Malformed::ExtensionHeaders));
    }
    // A header that says it is longer than the packet.
    let mut packet =
        Sample { extensions: vec![Extension::Destination], ..Sample::plain(Family::V6, Kind::Tcp, 0) }.build();
    packet[41] = 200;
    assert_eq!(view(&packet), Err(Malformed::ExtensionHeaders));
}

#[test]
fn a_source_route_with_segments_left_is_refused() {
    let mut packet = Sample { extensions: vec![Extension::Routing], ..Sample::plain(Family::V6, Kind::Tcp, 0) }.build();
    assert!(view(&packet).is_ok());
    packet[43] = 1;
    assert_eq!(view(&packet), Err(Malformed::SourceRoute));
}

#[test]
fn an_ipv4_source_route_is_refused_wherever_it_stands_among_the_options() {
    let with = |options: [u8; 8]| {
        let mut packet = Sample { ip_options: 2, ..Sample::plain(Family::V4, Kind::Tcp, 0) }.build();
        packet[20..28].copy_from_slice(&options);
        view(&packet).map(|_| ())
    };
    for kind in [131, 137] {
        assert_eq!(with([kind, 7, 4, 10, 18, 8, 64, 0]), Err(Malformed::SourceRoute));
        assert_eq!(with([1, 68, 4, 5, 0, kind, 3, 4]), Err(Malformed::SourceRoute));
        assert_eq!(with([1, 1, 1, 1, 1, 1, 1, kind]), Err(Malformed::SourceRoute));
        assert_eq!(with([7, 8, kind, 7, 4, 1, 2, 3]), Ok(()), "inside another option");
        assert_eq!(with([0, kind, 7, 4, 1, 2, 3, 4]), Ok(()), "behind the end");
    }
    for broken in [
        [68, 0, 0, 0, 0, 0, 0, 0],
        [68, 1, 131, 0, 0, 0, 0, 0],
        [68, 200, 131, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 68],
    ] {
        assert_eq!(with(broken), Ok(()), "its reader decides");
    }
}

#[test]
fn a_fragment_comes_with_nothing_left_to_do() {
    for flags in [0x2000_u16, 3] {
        let mut packet = Sample::plain(Family::V4, Kind::Tcp, 12).build();
        packet[6..8].copy_from_slice(&flags.to_be_bytes());
        let parse = |offload| View::parse(&packet, offload).map(|_| ());
        assert_eq!(parse(Offload::NONE), Ok(()));
        let partial = Checksum::Partial { start: 20, offset: 16 };
        assert_eq!(parse(Offload { checksum: partial, gso_size: 0 }), Err(Malformed::Offload));
        assert_eq!(parse(Offload { checksum: Checksum::Full, gso_size: 500 }), Err(Malformed::Offload));
    }
}

#[test]
fn a_partial_checksum_must_be_where_the_protocol_has_it() {
    let packet = Sample::plain(Family::V4, Kind::Tcp, 100).build();
    let parse = |start, offset| {
        let checksum = Checksum::Partial { start, offset };
        View::parse(&packet, Offload { checksum, gso_size: 1400 })
    };
    assert_eq!(parse(20, 16).unwrap().offload().gso_size, 1400);
    for (start, offset) in [(20, 6), (24, 16), (0, 16), (u16::MAX, u16::MAX)] {
        assert_eq!(parse(start, offset), Err(Malformed::Offload));
    }
}

#[test]
fn the_first_bytes_of_a_packet_are_no_packet() {
    for sample in one_of_each() {
        let packet = sample.build();
        for len in 0..packet.len() - sample.padding {
            let expected = if len == 0 { Malformed::Empty } else { Malformed::Truncated };
            assert_eq!(view(&packet[..len]), Err(expected), "{:?}", sample.kind);
        }
        assert!(view(&packet).is_ok(), "{:?}", sample.kind);
    }
}

/// All that can be done with a packet.
fn exercise(packet: &[u8], offload: Offload) {
    let Ok(view) = View::parse(packet, offload) else {
        return;
    };
    assert!(view.total_len() <= packet.len());
    assert!(view.transport_offset() <= view.total_len());
    let mut out = [0; MAX_REPLY_LEN];
    let source = view.dst();
    for len in [
        reply::tcp_reset_for(&mut out, &view),
        reply::unreachable(&mut out, packet, &view, source, 1),
        reply::too_big(&mut out, packet, &view, source, 1280),
    ]
    .into_iter()
    .flatten()
    {
        assert!(len <= MAX_REPLY_LEN);
    }
    let mut packet = packet.to_vec();
    let (src, dst) = (view.src(), view.dst());
    rewrite(&mut packet, &view, Some(dst), Some(src)).unwrap();
    let view = view.with_addresses(Some(dst), Some(src));
    assert_eq!(View::parse(&packet, offload), Ok(view));
}

#[test]
fn every_corruption_of_one_byte_is_survived() {
    for sample in one_of_each() {
        let packet = sample.build();
        for at in 0..packet.len() {
            for value in 0..=255 {
                let mut packet = packet.clone();
                packet[at] = value;
                exercise(&packet, Offload::NONE);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        mut packet in prop::collection::vec(any::<u8>(), 0..200),
        version in prop::sample::select(vec![0x45_u8, 0x46, 0x4f, 0x60]),
        keep in any::<bool>(),
        partial in prop::option::of((any::<u16>(), any::<u16>())),
    ) {
        if let (Some(first), false) = (packet.first_mut(), keep) {
            *first = version;
            // A fitting length, so that more than the lengths is looked at.
            let len = packet.len() as u16;
            let (at, len) = if version == 0x60 { (4, len.saturating_sub(40)) } else { (2, len) };
            if let Some(field) = packet.get_mut(at..at + 2) {
                field.copy_from_slice(&len.to_be_bytes());
            }
        }
        let checksum = partial.map_or(Checksum::Full, |(start, offset)| Checksum::Partial { start, offset });
        exercise(&packet, Offload { checksum, gso_size: 0 });
    }

    #[test]
    fn a_view_says_what_the_packet_was_made_of(sample in family().prop_flat_map(sample)) {
        let packet = sample.build();
        let view = view(&packet).unwrap();
        prop_assert_eq!((view.src(), view.dst()), (sample.src, sample.dst));
        prop_assert_eq!(view.protocol().number(), sample.protocol());
        prop_assert_eq!(view.transport_offset(), sample.transport_offset());
        prop_assert_eq!(view.total_len(), packet.len() - sample.padding);
        let ports = match sample.kind {
            Kind::Tcp | Kind::Udp | Kind::UdpUnchecked => Some((sample.src_port, sample.dst_port)),
            Kind::EchoRequest => Some((sample.src_port, 0)),
            Kind::EchoReply => Some((0, sample.src_port)),
            Kind::IcmpError | Kind::Other => None,
        };
        prop_assert_eq!(view.ports(), ports);
        if let Some(tcp) = view.tcp() {
            prop_assert_eq!(tcp.flags.0, sample.tcp_flags);
            prop_assert_eq!(tcp.payload_len as usize, sample.payload.len());
            prop_assert_eq!((tcp.seq, tcp.ack), (0x0102_0304, 0x0506_0708));
        }
    }
}
