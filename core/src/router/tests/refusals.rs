//! What is dropped, why, and what the application is told.

use std::net::IpAddr;

use super::harness::*;
use crate::addr::{Dual, Family};
use crate::packet::samples::{Kind, Sample};
use crate::packet::{IcmpKind, Offload, View};
use crate::stats::DropReason;
use crate::table::samples::{instance_ip, namespace_ip, service_ip};
use crate::time::Instant;

const NOW: Instant = Instant::ZERO;

fn view(packet: &[u8]) -> View {
    View::parse(packet, Offload::NONE).unwrap()
}

/// Each drop is counted once, under its own reason and no other.
#[track_caller]
fn assert_dropped(side: &mut Side, reason: DropReason, drop: impl FnOnce(&mut Side) -> Fate) {
    let before = DropReason::ALL.map(|r| side.drops(r));
    let flows = side.router.flows.len();
    assert_eq!(drop(side), Fate::Drop(reason));
    for (r, before) in DropReason::ALL.into_iter().zip(before) {
        assert_eq!(side.drops(r), before + u64::from(r == reason), "{r}");
    }
    assert_eq!(side.router.flows.len(), flows, "a drop begins no flow");
}

#[test]
fn a_source_that_belongs_to_another_node_or_to_no_instance_is_spoofed() {
    for family in FAMILIES {
        let (_, mut b) = pair();
        let to = (server(0, B).1, 80);
        b.instance(CLIENTS, 5, C);
        let outside = match family {
            Family::V4 => "198.51.100.7",
            Family::V6 => "2001:db8::7",
        };
        let spoofed = [
            ("an instance of a third node", instance_ip(CLIENTS, 5).of(family)),
            ("an instance of B itself", server(0, B).0.of(family)),
            ("a service IP", service_ip(DIALLED).of(family)),
            ("A's namespace IP", client(0).1.of(family)),
            ("a namespace IP that nobody has", namespace_ip(A, 60).of(family)),
            ("an address outside the plan", outside.parse().unwrap()),
        ];
        for (what, src) in spoofed {
            for kind in [Kind::Tcp, Kind::Udp, Kind::EchoRequest] {
                let packet = Sample { src, ..packet(family, kind, (client(0).0, 1), to) };
                println!("{what}, {kind:?}");
                assert_dropped(&mut b, DropReason::SpoofedSource, |b| b.receive(NOW, A, &packet.build()));
            }
        }
    }
}

#[test]
fn on_a_flow_of_one_peer_another_one_is_not_heard() {
    for family in FAMILIES {
        let (mut a, mut b) = pair();
        let request = packet(family, Kind::Tcp, (client(0).1, 4000), (service_ip(DIALLED), 80));
        let wire = a.send(NOW, &request.build()).to(B);
        b.receive(NOW, A, &wire).delivered();
        assert_dropped(&mut b, DropReason::SpoofedSource, |b| b.receive(NOW, C, &wire));
        let answer = answer_to(&request, server(0, B).0, client(0).1);
        assert_dropped(&mut a, DropReason::SpoofedSource, |a| a.receive(NOW, C, &answer.build()));
        assert_dropped(&mut a, DropReason::SpoofedSource, |a| a.receive(at(8000), C, &answer.build()));
        a.receive(NOW, B, &answer.build()).delivered();
    }
}

#[test]
fn a_source_that_is_not_known_yet_waits_for_the_table() {
    for family in FAMILIES {
        let (_, mut b) = pair();
        let unknown = instance_ip(CLIENTS, 40);
        let packet = packet(family, Kind::Udp, (unknown, 1), (server(0, B).1, 80));
        let fate = b.receive(NOW, A, &packet.build());
        assert_eq!(fate, Fate::Wait(unknown.of(family)));
        assert!(b.router.flows.is_empty());
    }
}

#[test]
fn a_destination_that_is_not_attached_here_is_not_ours() {
    for family in FAMILIES {
        let (_, mut b) = pair();
        let from = (client(0).0, 1);
        for dst in [namespace_ip(B, 9), server(3, B).0, service_ip(DIALLED), client(1).1] {
            let packet = packet(family, Kind::Udp, from, (dst, 80));
            assert_dropped(&mut b, DropReason::NotOurs, |b| b.receive(NOW, A, &packet.build()));
        }
        b.detach(SERVERS, 0);
        let packet = packet(family, Kind::Udp, from, (server(0, B).1, 80));
        assert_dropped(&mut b, DropReason::NotOurs, |b| b.receive(NOW, A, &packet.build()));
    }
}

#[test]
fn what_is_not_well_formed_is_dropped_in_both_directions() {
    let whole = packet(Family::V4, Kind::Tcp, (client(0).1, 1), (service_ip(DIALLED), 2)).build();
    let wrong: [&[u8]; 6] = [&[], &[0x45], &[0x60], &[0x00], &[0xff; 40], &whole[..whole.len() - 1]];
    for bytes in wrong {
        let (mut a, mut b) = pair();
        assert_dropped(&mut a, DropReason::Malformed, |a| a.send(NOW, bytes));
        assert_dropped(&mut b, DropReason::Malformed, |b| b.receive(NOW, A, bytes));
    }
}

/// What this node does not carry, between two addresses that it would carry.
fn not_carried(family: Family, src: Dual, dst: Dual) -> Vec<(DropReason, Vec<u8>)> {
    let between = |kind| packet(family, kind, (src, 1), (dst, 2)).build();
    let with_type = |kind, code| {
        let mut message = between(Kind::IcmpError);
        let at = message.len() - 20 - 8;
        message[at..at + 2].copy_from_slice(&[kind, code]);
        message
    };
    let with_protocol = |number| {
        let mut other = between(Kind::Other);
        match family {
            Family::V4 => other[9] = number,
            Family::V6 => other[6] = number,
        }
        other
    };
    let messages: &[u8] = match family {
        // Source quench, redirect, router advertisement and solicitation, timestamp, address mask.
        Family::V4 => &[4, 5, 9, 10, 13, 14, 17, 18],
        // Unassigned error, multicast listener, neighbour and router discovery, redirect.
        Family::V6 => &[100, 127, 130, 133, 134, 135, 136, 137],
    };
    let mut list: Vec<_> = messages.iter().map(|kind| (DropReason::IcmpMessage, with_type(*kind, 0))).collect();
    // IGMP, DCCP, AH, no next header, OSPF, PIM, UDP-Lite, and ICMP over the other family.
    let wrong_icmp = if family == Family::V4 { 58 } else { 1 };
    let numbers = [2, 33, 51, 59, 89, 103, 136, wrong_icmp];
    list.extend(numbers.map(|number| (DropReason::Protocol, with_protocol(number))));
    // An error whose quote makes no sense.
    list.push((DropReason::Malformed, between(Kind::IcmpError)));
    list
}

#[test]
fn what_can_not_be_translated_is_dropped_under_its_reason() {
    for family in FAMILIES {
        let (mut a, mut b) = pair();
        for (reason, packet) in not_carried(family, client(0).1, service_ip(DIALLED)) {
            assert_dropped(&mut a, reason, |a| a.send(NOW, &packet));
        }
        for (reason, packet) in not_carried(family, client(0).0, server(0, B).1) {
            assert_dropped(&mut b, reason, |b| b.receive(NOW, A, &packet));
        }
    }
}

#[test]
fn the_edges_of_the_service_net_are_the_network_and_its_broadcast() {
    let mut a = node_with(A, &[B]);
    for dst in ["10.30.0.0", "10.30.255.255"].map(|text| text.parse().unwrap()) {
        let out = Sample { dst, ..packet(Family::V4, Kind::Udp, (client(0).1, 1), (service_ip(DIALLED), 2)) };
        assert_dropped(&mut a, DropReason::NotUnicast, |a| a.send(NOW, &out.build()));
    }
    // In between they are ordinary addresses.
    for dst in ["10.30.0.255", "10.30.1.0"].map(|text| text.parse().unwrap()) {
        let out = Sample { dst, ..packet(Family::V4, Kind::Udp, (client(0).1, 1), (service_ip(DIALLED), 2)) };
        assert_eq!(a.send(NOW, &out.build()), Fate::Wait(dst));
    }
}

#[test]
fn only_one_host_speaks_to_one_host() {
    let not_one_host: [&[&str]; 2] = [
        &["224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255", "0.0.0.0", "0.1.2.3", "127.0.0.1"],
        &["ff02::1", "ff05::2", "::", "::1", "::ffff:10.30.0.1"],
    ];
    for (family, addresses) in FAMILIES.into_iter().zip(not_one_host) {
        let (mut a, mut b) = pair();
        for address in addresses.iter().map(|text| text.parse::<IpAddr>().unwrap()) {
            let out = packet(family, Kind::Udp, (client(0).1, 1), (service_ip(DIALLED), 2));
            let to = Sample { dst: address, ..out.clone() };
            assert_dropped(&mut a, DropReason::NotUnicast, |a| a.send(NOW, &to.build()));
            let from = Sample { src: address, ..out };
            assert_dropped(&mut a, DropReason::NotUnicast, |a| a.send(NOW, &from.build()));
            let inside = packet(family, Kind::Udp, (client(0).0, 1), (server(0, B).1, 2));
            let from = Sample { src: address, ..inside.clone() };
            assert_dropped(&mut b, DropReason::NotUnicast, |b| b.receive(NOW, A, &from.build()));
            let to = Sample { dst: address, ..inside };
            assert_dropped(&mut b, DropReason::NotUnicast, |b| b.receive(NOW, A, &to.build()));
        }
    }
}

/// In its mapped form an IPv4 address has the same key in the tables as the address itself.
#[test]
fn an_ipv4_address_in_its_mapped_form_is_nobodys() {
    let mapped = |dual: Dual| IpAddr::V6(dual.v4.to_ipv6_mapped());
    let (mut a, mut b) = pair();
    let out = packet(Family::V6, Kind::Udp, (client(0).1, 1), (service_ip(DIALLED), 2));
    let from = Sample { src: mapped(client(0).1), ..out };
    assert_dropped(&mut a, DropReason::NotUnicast, |a| a.send(NOW, &from.build()));
    let inside = packet(Family::V6, Kind::Udp, (client(0).0, 1), (server(0, B).1, 2));
    let from = Sample { src: mapped(client(0).0), ..inside.clone() };
    assert_dropped(&mut b, DropReason::NotUnicast, |b| b.receive(NOW, A, &from.build()));
    let to = Sample { dst: mapped(server(0, B).1), ..inside };
    assert_dropped(&mut b, DropReason::NotUnicast, |b| b.receive(NOW, A, &to.build()));
    // Not even when there is a flow of the IPv4 addresses.
    let over_v4 = packet(Family::V4, Kind::Udp, (client(0).1, 1), (service_ip(DIALLED), 2));
    b.receive(NOW, A, &a.send(NOW, &over_v4.build()).to(B)).delivered();
    let out = Sample { src: mapped(client(0).1), dst: mapped(service_ip(DIALLED)), ..to.clone() };
    assert_dropped(&mut a, DropReason::NotUnicast, |a| a.send(NOW, &out.build()));
    assert_dropped(&mut a, DropReason::NotUnicast, |a| a.send(at(60), &out.build()));
    let inside = Sample { src: mapped(client(0).0), dst: mapped(server(0, B).1), ..to };
    assert_dropped(&mut b, DropReason::NotUnicast, |b| b.receive(NOW, A, &inside.build()));
}

#[test]
fn a_destination_outside_the_service_networks_is_not_for_us() {
    for family in FAMILIES {
        let mut a = node_with(A, &[B]);
        let out = packet(family, Kind::Udp, (client(0).1, 1), (service_ip(DIALLED), 2));
        let elsewhere = match family {
            Family::V4 => ["198.51.100.1", "10.18.8.9", "10.31.0.1"],
            Family::V6 => ["2001:db8::1", "fc00::1000", "fdfe::1"],
        };
        for dst in elsewhere.map(|text| text.parse().unwrap()) {
            let packet = Sample { dst, ..out.clone() };
            assert_dropped(&mut a, DropReason::NotAService, |a| a.send(NOW, &packet.build()));
        }
        let sibling = Sample { dst: client(1).1.of(family), ..out };
        assert_dropped(&mut a, DropReason::NotAService, |a| a.send(NOW, &sibling.build()));
    }
}

#[test]
fn a_source_that_is_not_attached_here_may_not_dial() {
    for family in FAMILIES {
        let mut a = node_with(A, &[B]);
        for src in [namespace_ip(A, 40), client(0).0, server(0, B).1] {
            for dst in [service_ip(DIALLED), service_ip(99), server(0, B).0] {
                let packet = packet(family, Kind::Udp, (src, 1), (dst, 2));
                assert_dropped(&mut a, DropReason::UnknownSource, |a| a.send(NOW, &packet.build()));
            }
        }
    }
}

/// RFC 9293 section 3.10.7.1: the reset has the number that the segment acknowledges.
#[test]
fn a_tcp_segment_of_no_connection_gets_a_reset_that_its_sender_believes() {
    for family in FAMILIES {
        for flags in [ACK, SYN_ACK, FIN_ACK, 0x18] {
            let mut a = node_with(A, &[B]);
            let stray = segment(family, flags, (client(0).1, 4000), (service_ip(DIALLED), 80));
            let reset = a.send(NOW, &stray.build()).reply(DropReason::NoFlow);
            let told = view(&reset);
            assert_eq!((told.src(), told.dst()), (stray.dst, stray.src));
            let tcp = told.tcp().unwrap();
            assert_eq!((tcp.src_port, tcp.dst_port), (80, 4000));
            assert_eq!((tcp.flags.0, tcp.seq), (RST, 0x0506_0708));
            assert!(a.router.flows.is_empty());
            assert_eq!(a.router.counters.replied, 1);
        }
        // Without an acknowledgement there is no such number: all of the segment is acknowledged instead.
        let mut a = node_with(A, &[B]);
        let stray = segment(family, 0x01, (client(0).1, 4000), (service_ip(DIALLED), 80));
        let reset = a.send(NOW, &stray.build()).reply(DropReason::NoFlow);
        let tcp = *view(&reset).tcp().unwrap();
        assert_eq!((tcp.flags.0, tcp.seq, tcp.ack), (RST | ACK, 0, 0x0102_0304 + 20 + 1));
        // A reset is never answered.
        for flags in [RST, RST | ACK] {
            let stray = segment(family, flags, (client(0).1, 4000), (service_ip(DIALLED), 80));
            assert_dropped(&mut a, DropReason::NoFlow, |a| a.send(NOW, &stray.build()));
        }
    }
}

/// Checks an ICMP "unreachable" from the dialled address that quotes the packet.
#[track_caller]
fn assert_unreachable(reply: &[u8], packet: &Sample, code: u8) {
    let told = view(reply);
    assert_eq!((told.src(), told.dst()), (packet.dst, packet.src));
    let kind = match packet.family() {
        Family::V4 => 3,
        Family::V6 => 1,
    };
    assert_eq!(told.icmp(), Some(IcmpKind::Error { kind, code }));
    let quote = &reply[told.transport_offset() + 8..];
    assert_eq!(quote, packet.build(), "the packet as the application sent it");
}

#[test]
fn without_an_instance_the_application_is_told_at_once_in_the_code_that_it_believes() {
    for (family, to_tcp, to_udp) in [(Family::V4, 1, 13), (Family::V6, 3, 1)] {
        let mut nobody = node_with(A, &[]);
        let mut only_silent = node_with(A, &[B]);
        let row = only_silent.node_row(B);
        only_silent.router.table.node_mut(row).unwrap().avoided = true;
        for mut a in [nobody, only_silent] {
            for (kind, code) in [(Kind::Tcp, to_tcp), (Kind::EchoRequest, to_tcp), (Kind::Udp, to_udp)] {
                let dial = packet(family, kind, (client(0).1, 1), (service_ip(DIALLED), 2));
                let reply = a.send(NOW, &dial.build()).reply(DropReason::NoInstance);
                assert_unreachable(&reply, &dial, code);
            }
            assert_eq!(a.drops(DropReason::NoInstance), 3);
            assert!(a.router.flows.is_empty());
        }
        nobody = node_with(A, &[B]);
        let mut silent = crate::table::samples::record(SERVERS, 0, B);
        silent.alive = false;
        nobody.put(SERVERS, silent, B);
        let dial = packet(family, Kind::Udp, (client(0).1, 1), (server(0, B).0, 2));
        let reply = nobody.send(NOW, &dial.build()).reply(DropReason::NoInstance);
        assert_unreachable(&reply, &dial, to_udp);
    }
}

#[test]
fn a_refused_reset_or_icmp_error_is_not_answered_whatever_the_reason() {
    for family in FAMILIES {
        let mut a = node_with(A, &[B]);
        let reset = segment(family, RST, (client(0).1, 1), (service_ip(77), 2));
        let error = packet(family, Kind::IcmpError, (client(0).1, 1), (service_ip(77), 2));
        for packet in [reset.build(), error.build()] {
            let told = view(&packet);
            let mut reply = [0; crate::packet::reply::MAX_REPLY_LEN];
            for reason in [DropReason::UnknownService, DropReason::ResolveTimeout, DropReason::NoFlow] {
                let verdict = a.router.refuse(NOW, reason, &packet, &told, &mut reply);
                assert_eq!(verdict, crate::router::Verdict::Drop(reason));
            }
        }
        assert_eq!(a.router.counters.replied, 0);
    }
}

#[test]
fn one_sender_is_told_a_thousand_errors_per_second_and_no_other_is_told_less() {
    for family in FAMILIES {
        let mut a = node_with(A, &[]);
        let dial = |number| packet(family, Kind::Udp, (client(number).1, 1), (service_ip(DIALLED), 2)).build();
        let told = |a: &mut Side, now, number| matches!(a.send(now, &dial(number)), Fate::Reply(..));
        let start = at(5);
        let heard = (0..1_500).filter(|_| told(&mut a, start, 0)).count();
        assert_eq!((heard, a.router.counters.errors_limited), (1_000, 500));
        assert!(told(&mut a, start, 1));
        let later = Instant::from_millis(5_250);
        assert_eq!((0..1_500).filter(|_| told(&mut a, later, 0)).count(), 250);
        assert_eq!(a.drops(DropReason::NoInstance), 3_001, "each is dropped and counted");
        // Resets are not errors: what they end would hang.
        let stray = segment(family, ACK, (client(0).1, 4000), (service_ip(DIALLED), 80));
        a.send(later, &stray.build()).reply(DropReason::NoFlow);
    }
}

#[test]
fn a_service_whose_table_is_not_whole_is_not_picked_from() {
    let mut a = node_with(A, &[B]);
    let slot = a.service_row(SERVERS);
    a.router.table.set_complete(slot, false);
    for flags in [SYN, ACK] {
        let dial = segment(Family::V4, flags, (client(0).1, 1), (service_ip(DIALLED), 2));
        assert_eq!(a.send(NOW, &dial.build()), Fate::Wait(dial.dst));
    }
    let direct = packet(Family::V4, Kind::Udp, (client(0).1, 1), (server(0, B).0, 2));
    a.send(NOW, &direct.build()).to(B);
}

#[test]
fn a_router_that_is_not_configured_drops_everything() {
    let mut router: Box<crate::router::Router<1, 1, 1, 1, 1>> = Box::default();
    let mut dial = packet(Family::V4, Kind::Udp, (client(0).1, 1), (service_ip(DIALLED), 2)).build();
    let verdict = router.outbound(NOW, &mut dial, Offload::NONE, &mut []);
    assert!(matches!(verdict, crate::router::Verdict::Drop(_)));
    let verdict = router.inbound(NOW, 0, &mut dial, Offload::NONE);
    assert!(matches!(verdict, crate::router::Verdict::Drop(_)));
}
