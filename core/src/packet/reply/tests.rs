//! Replies: what they say, whom they quote, and whom they do not answer.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use core::net::IpAddr;

use super::*;
use crate::packet::samples::{Extension, Kind, Sample, slow_checksum, slow_sum};
use crate::packet::{Offload, TcpFlags};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn view(packet: &[u8]) -> View {
    View::parse(packet, Offload::NONE).unwrap()
}

/// The reply, after its lengths and checksums were found right.
fn checked(out: &[u8], len: usize) -> (View, Vec<u8>) {
    let packet = out[..len].to_vec();
    let view = view(&packet);
    assert_eq!(view.total_len(), len);
    let message = &packet[view.transport_offset()..];
    if view.family() == Family::V4 {
        assert_eq!(slow_sum(&packet[..20]), 0xffff);
    }
    match view.protocol() {
        Protocol::Icmp => assert_eq!(slow_sum(message), 0xffff),
        other => assert_eq!(slow_checksum(view.src(), view.dst(), other.number(), message), 0),
    }
    (view, packet)
}

#[test]
fn a_segment_with_ack_gets_a_reset_at_the_number_it_expects() {
    for family in FAMILIES {
        let sample = Sample { tcp_flags: 0x18, ..Sample::plain(family, Kind::Tcp, 33) };
        let mut out = [0xaa; MAX_REPLY_LEN];
        let len = tcp_reset_for(&mut out, &view(&sample.build())).unwrap();
        let (reply, _) = checked(&out, len);
        assert_eq!((reply.src(), reply.dst()), (sample.dst, sample.src));
        assert_eq!(reply.ports(), Some((sample.dst_port, sample.src_port)));
        let tcp = reply.tcp().unwrap();
        assert_eq!(tcp.flags, TcpFlags::RST);
        assert_eq!((tcp.seq, tcp.ack, tcp.payload_len), (0x0506_0708, 0, 0));
    }
}

#[test]
fn a_segment_without_ack_gets_a_reset_that_acknowledges_all_of_it() {
    for (flags, payload, expected) in [
        (0x02, 0, 0x0102_0305), // SYN
        (0x00, 33, 0x0102_0304 + 33),
        (0x03, 33, 0x0102_0304 + 35), // SYN and FIN
    ] {
        for family in FAMILIES {
            let sample = Sample { tcp_flags: flags, ..Sample::plain(family, Kind::Tcp, payload) };
            let mut out = [0xaa; MAX_REPLY_LEN];
            let len = tcp_reset_for(&mut out, &view(&sample.build())).unwrap();
            let (reply, _) = checked(&out, len);
            let tcp = reply.tcp().unwrap();
            assert_eq!(tcp.flags, TcpFlags(0x14));
            assert_eq!((tcp.seq, tcp.ack), (0, expected));
        }
    }
}

#[test]
fn a_reset_is_written_as_told() {
    let reset = TcpReset {
        src: "10.30.0.1".parse().unwrap(),
        dst: "10.18.30.65".parse().unwrap(),
        src_port: 80,
        dst_port: 40_000,
        seq: 0xffff_fff0,
        ack: None,
    };
    let mut out = [0; 40];
    assert_eq!(tcp_reset(&mut out, &reset), Ok(40));
    let (reply, _) = checked(&out, 40);
    assert_eq!((reply.src(), reply.dst()), (reset.src, reset.dst));
    let tcp = reply.tcp().unwrap();
    assert_eq!((tcp.seq, tcp.flags), (reset.seq, TcpFlags::RST));
    let mixed = TcpReset { dst: "fc00::1".parse().unwrap(), ..reset };
    assert_eq!(tcp_reset(&mut out, &mixed), Err(ReplyError::MixedFamilies));
    let nowhere = TcpReset { dst: "0.0.0.0".parse().unwrap(), ..reset };
    assert_eq!(tcp_reset(&mut out, &nowhere), Err(ReplyError::Refused(Refusal::Destination)));
}

#[test]
fn an_unreachable_quotes_the_packet_without_its_padding() {
    for (family, kind) in [(Family::V4, 3), (Family::V6, 1)] {
        for transport in [Kind::Tcp, Kind::Udp, Kind::EchoRequest] {
            let sample = Sample { padding: 7, ..Sample::plain(family, transport, 50) };
            let packet = sample.build();
            let mut out = [0xaa; MAX_REPLY_LEN];
            let len = unreachable(&mut out, &packet, &view(&packet), sample.dst, 13).unwrap();
            let (reply, bytes) = checked(&out, len);
            assert_eq!((reply.src(), reply.dst()), (sample.dst, sample.src));
            assert_eq!(reply.icmp(), Some(IcmpKind::Error { kind, code: 13 }));
            let at = reply.transport_offset();
            assert_eq!(&bytes[at + 4..at + 8], [0; 4]);
            assert_eq!(&bytes[at + 8..], &packet[..packet.len() - 7]);
        }
    }
}

#[test]
fn a_quote_is_cut_where_the_rfcs_say() {
    for (family, expected) in [(Family::V4, 576), (Family::V6, 1280)] {
        for payload in [expected, 1400, 60_000] {
            let packet = Sample::plain(family, Kind::Udp, payload).build();
            let view = view(&packet);
            let mut out = [0xaa; MAX_REPLY_LEN];
            let len = unreachable(&mut out, &packet, &view, view.dst(), 1).unwrap();
            assert_eq!(len, expected);
            let (reply, bytes) = checked(&out, len);
            let at = reply.transport_offset() + 8;
            assert_eq!(&bytes[at..], &packet[..len - at]);
        }
    }
}

#[test]
fn a_packet_too_big_tells_the_mtu() {
    for (family, kind, code) in [(Family::V4, 3, 4), (Family::V6, 2, 0)] {
        let packet = Sample::plain(family, Kind::Udp, 1400).build();
        let view = view(&packet);
        let mut out = [0xaa; MAX_REPLY_LEN];
        let len = too_big(&mut out, &packet, &view, view.dst(), 1408).unwrap();
        let (reply, bytes) = checked(&out, len);
        assert_eq!(reply.icmp(), Some(IcmpKind::Error { kind, code }));
        let at = reply.transport_offset();
        assert_eq!(&bytes[at + 4..at + 8], 1408_u32.to_be_bytes());
    }
    // In IPv4 the field has 16 bits.
    let packet = Sample::plain(Family::V4, Kind::Udp, 8).build();
    let view = view(&packet);
    let mut out = [0; MAX_REPLY_LEN];
    too_big(&mut out, &packet, &view, view.dst(), 70_000).unwrap();
    assert_eq!(&out[24..28], [0, 0, 0xff, 0xff]);
}

#[test]
fn what_must_not_be_answered_is_not_answered() {
    let refusals = |packet: &[u8]| {
        let view = view(packet);
        let mut out = [0; MAX_REPLY_LEN];
        [
            unreachable(&mut out, packet, &view, view.dst(), 1),
            too_big(&mut out, packet, &view, view.dst(), 1280),
            tcp_reset_for(&mut out, &view),
        ]
        .map(|reply| match reply {
            Err(ReplyError::Refused(refusal)) => Some(refusal),
            _ => None,
        })
    };
    let parse = |text: &str| text.parse::<IpAddr>().unwrap();
    for family in FAMILIES {
        let tcp = Sample::plain(family, Kind::Tcp, 8);
        assert_eq!(refusals(&tcp.build()), [None; 3]);
        let reset = Sample { tcp_flags: 0x04, ..tcp.clone() };
        assert_eq!(refusals(&reset.build())[2], Some(Refusal::Reset));
        let udp = Sample::plain(family, Kind::Udp, 8);
        assert_eq!(refusals(&udp.build()), [None, None, Some(Refusal::NotTcp)]);
        let error = Sample::plain(family, Kind::IcmpError, 8);
        assert_eq!(refusals(&error.build()), [Some(Refusal::IcmpError); 3]);
    }
    for (family, address) in [
        (Family::V4, "0.0.0.0"),
        (Family::V4, "127.0.0.1"),
        (Family::V4, "224.0.0.1"),
        (Family::V4, "240.0.0.1"),
        (Family::V4, "255.255.255.255"),
        (Family::V6, "::"),
        (Family::V6, "::1"),
        (Family::V6, "ff02::1"),
        (Family::V6, "::ffff:10.30.0.1"),
    ] {
        let plain = Sample::plain(family, Kind::Tcp, 8);
        let from = Sample { src: parse(address), ..plain.clone() };
        assert_eq!(refusals(&from.build()), [Some(Refusal::Source); 3]);
        let to = Sample { dst: parse(address), ..plain };
        assert_eq!(refusals(&to.build()), [Some(Refusal::Destination); 3]);
    }
    let mut fragment = Sample::plain(Family::V4, Kind::Tcp, 8).build();
    fragment[7] = 1;
    assert_eq!(refusals(&fragment), [Some(Refusal::LaterFragment); 3]);
    let fragment = later_fragment_v6(Kind::Tcp);
    assert_eq!(refusals(&fragment), [Some(Refusal::LaterFragment), None, Some(Refusal::LaterFragment)]);
}

/// The second fragment of a datagram over IPv6.
fn later_fragment_v6(kind: Kind) -> Vec<u8> {
    let whole = Sample { extensions: vec![Extension::Atomic], ..Sample::plain(Family::V6, kind, 1400) };
    let mut packet = whole.build();
    packet[42..44].copy_from_slice(&(184_u16 << 3).to_be_bytes());
    packet
}

#[test]
fn a_later_fragment_of_ipv6_is_told_that_it_is_too_big() {
    let packet = later_fragment_v6(Kind::Udp);
    let mut out = [0xaa; MAX_REPLY_LEN];
    let len = too_big(&mut out, &packet, &view(&packet), "fdff::1".parse().unwrap(), 1408).unwrap();
    let (reply, bytes) = checked(&out, len);
    assert_eq!(reply.icmp(), Some(IcmpKind::Error { kind: 2, code: 0 }));
    assert_eq!(&bytes[48..], &packet[..len - 48]);

    let to_many = Sample {
        dst: "ff02::1".parse().unwrap(),
        extensions: vec![Extension::Atomic],
        ..Sample::plain(Family::V6, Kind::Udp, 1400)
    };
    let mut packet = to_many.build();
    packet[42..44].copy_from_slice(&(184_u16 << 3).to_be_bytes());
    let refused = too_big(&mut out, &packet, &view(&packet), "fdff::1".parse().unwrap(), 1408);
    assert_eq!(refused, Err(ReplyError::Refused(Refusal::Destination)));
}

#[test]
fn a_buffer_that_is_too_small_is_told_how_much_is_needed() {
    for (family, reset_len, error_len) in [(Family::V4, 40, 76), (Family::V6, 60, 116)] {
        let packet = Sample::plain(family, Kind::Tcp, 8).build();
        let view = view(&packet);
        let mut out = [0; MAX_REPLY_LEN];
        assert_eq!(tcp_reset_for(&mut out[..reset_len - 1], &view), Err(ReplyError::TooSmall { needed: reset_len }));
        assert_eq!(tcp_reset_for(&mut out[..reset_len], &view), Ok(reset_len));
        assert_eq!(
            unreachable(&mut out[..error_len - 1], &packet, &view, view.dst(), 1),
            Err(ReplyError::TooSmall { needed: error_len })
        );
        assert_eq!(unreachable(&mut out[..error_len], &packet, &view, view.dst(), 1), Ok(error_len));
    }
}

#[test]
fn a_source_of_the_other_family_is_refused() {
    let packet = Sample::plain(Family::V4, Kind::Tcp, 8).build();
    let mut out = [0; MAX_REPLY_LEN];
    assert_eq!(
        unreachable(&mut out, &packet, &view(&packet), "fdff::1".parse().unwrap(), 1),
        Err(ReplyError::MixedFamilies)
    );
}
