//! Which instance a new flow goes to.

use std::collections::BTreeMap;

use super::harness::*;
use crate::addr::Family;
use crate::packet::samples::{Kind, Sample};
use crate::stats::DropReason;
use crate::sync::message::InstanceRecord;
use crate::table::samples::{record, service_ip};
use crate::time::Instant;

const NOW: Instant = Instant::ZERO;

/// Dials from client 0 and a source port; returns the number of the server that was picked.
fn dial<const I: usize, const F: usize>(side: &mut Side<I, F>, family: Family, port: u16) -> u32 {
    let request = packet(family, Kind::Tcp, (client(0).1, port), (service_ip(DIALLED), 80));
    let wire = side.send(NOW, &request.build()).to(B);
    let dst = crate::packet::View::parse(&wire, Default::default()).unwrap().dst();
    (0..2000).find(|number| record(SERVERS, *number, B).namespace_ip.of(family) == dst).unwrap()
}

#[test]
fn a_thousand_flows_over_three_instances_are_dealt_in_turn() {
    let mut a: Side<64, 1024> = Side::new(A);
    fill(&mut a, &[B, B, B]);
    let picked: Vec<_> = (0..1000).map(|port| dial(&mut a, Family::V4, port)).collect();
    let expected: Vec<_> = (0..1000).map(|n| n % 3).collect();
    assert_eq!(picked, expected);
    let flows: Vec<_> = (0..3).map(|n| a.flows_to(SERVERS, n)).collect();
    assert_eq!(flows, [334, 333, 333]);
    // Packets of flows that are there take no turn.
    assert_eq!(dial(&mut a, Family::V4, 7), 7 % 3);
    assert_eq!(dial(&mut a, Family::V4, 1000), 1);
}

#[test]
fn both_families_of_a_service_ip_share_one_turn() {
    let mut a = node_with(A, &[B, B, B]);
    let picked: Vec<_> = (0..12).map(|port| dial(&mut a, FAMILIES[usize::from(port % 2)], port)).collect();
    assert_eq!(picked, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn each_service_ip_has_a_turn_of_its_own() {
    let mut a = node_with(A, &[B, B]);
    assert_eq!(dial(&mut a, Family::V4, 1), 0);
    let other = packet(Family::V4, Kind::Udp, (client(0).1, 1), (service_ip(ALSO_DIALLED), 80));
    let wire = a.send(NOW, &other.build()).to(B);
    assert_eq!(wire, readdressed(&other, client(0).0, server(0, B).1));
    assert_eq!(dial(&mut a, Family::V4, 2), 1);
}

#[test]
fn the_turn_stays_exact_while_instances_come_and_go() {
    let mut a = node_with(A, &[B, B, B]);
    let mut ports = 0..;
    let mut dial_on = |a: &mut Side, times: usize| -> Vec<u32> {
        (0..times).map(|_| dial(a, Family::V4, ports.next().unwrap())).collect()
    };
    let changed = |number, alive, draining| InstanceRecord { alive, draining, ..record(SERVERS, number, B) };
    assert_eq!(dial_on(&mut a, 4), [0, 1, 2, 0]);
    a.instance(SERVERS, 7, B);
    assert_eq!(dial_on(&mut a, 4), [1, 2, 7, 0], "one is added behind");
    a.instance(SERVERS, 5, B);
    assert_eq!(dial_on(&mut a, 5), [1, 2, 5, 7, 0], "one is added in the middle");
    a.withdraw(SERVERS, 1);
    assert_eq!(dial_on(&mut a, 4), [2, 5, 7, 0], "the one whose turn it was is gone");
    a.put(SERVERS, changed(2, false, false), B);
    assert_eq!(dial_on(&mut a, 3), [5, 7, 0], "one is silent");
    a.put(SERVERS, changed(2, true, false), B);
    a.put(SERVERS, changed(5, true, true), B);
    assert_eq!(dial_on(&mut a, 4), [2, 7, 0, 2], "one is back, one goes");
    a.withdraw(SERVERS, 7);
    a.withdraw(SERVERS, 5);
    assert_eq!(dial_on(&mut a, 3), [0, 2, 0], "the last two are gone");
}

#[test]
fn the_turn_goes_on_when_the_table_entry_has_been_away() {
    let mut a = node_with(A, &[B, B, B]);
    assert_eq!([1, 2].map(|port| dial(&mut a, Family::V4, port)), [0, 1]);
    let service = a.service_row(SERVERS);
    a.router.table.remove_service(service);
    a.sweep(64);
    fill(&mut a, &[B, B, B]);
    assert_eq!([3, 4].map(|port| dial(&mut a, Family::V6, port)), [2, 0]);
}

#[test]
fn a_thousand_instances_get_one_flow_each_and_then_another() {
    // A router of this size passes over the stack on its way to the heap.
    let large = std::thread::Builder::new().stack_size(64 << 20);
    large.spawn(deal_to_a_thousand).unwrap().join().unwrap();
}

fn deal_to_a_thousand() {
    let mut a: Side<1024, 4096> = Side::new(A);
    fill(&mut a, &[B; 1000]);
    for port in 0..2500u16 {
        assert_eq!(dial(&mut a, Family::V4, port), u32::from(port) % 1000);
    }
    let mut spread = BTreeMap::new();
    for number in 0..1000 {
        *spread.entry(a.flows_to(SERVERS, number)).or_insert(0) += 1;
    }
    assert_eq!(spread, BTreeMap::from([(2, 500), (3, 500)]));
}

#[test]
fn a_node_that_does_not_answer_is_passed_over_until_it_does() {
    let mut a = node_with(A, &[B, C, B]);
    let silent = a.node_row(C);
    a.router.table.node_mut(silent).unwrap().avoided = true;
    assert_eq!([1, 2, 3].map(|port| dial(&mut a, Family::V4, port)), [0, 2, 0]);
    a.router.table.node_mut(silent).unwrap().avoided = false;
    let request = packet(Family::V4, Kind::Tcp, (client(0).1, 4), (service_ip(DIALLED), 80));
    a.send(NOW, &request.build()).to(C);
}

#[test]
fn what_begins_no_flow_takes_no_turn() {
    let mut a: Side<64, 2> = Side::new(A);
    fill(&mut a, &[B, B, B]);
    let from = (client(0).1, 99);
    let reply = packet(Family::V4, Kind::EchoReply, from, (service_ip(DIALLED), 0));
    assert_eq!(a.send(NOW, &reply.build()), Fate::Drop(DropReason::NoFlow), "it answers nothing");
    let segment = segment(Family::V4, ACK, from, (service_ip(DIALLED), 80));
    a.send(NOW, &segment.build()).reply(DropReason::NoFlow);
    assert_eq!(dial(&mut a, Family::V4, 1), 0);
    assert_eq!(dial(&mut a, Family::V4, 2), 1);
    // Both instances but one have a flow whose replies look like those of this one.
    let refused = packet(Family::V4, Kind::EchoRequest, (client(1).1, 1), (service_ip(77), 0));
    assert_eq!(a.send(NOW, &refused.build()), Fate::Wait(refused.dst));
    assert_eq!(dial(&mut a, Family::V4, 3), 2, "what was refused took no turn");
    assert_eq!(a.router.counters.flows_evicted, 1);
    assert_eq!(a.flows_to(SERVERS, 0), 0, "the one that made room is counted out");
}

#[test]
fn two_service_ips_never_pick_one_instance_for_flows_whose_replies_look_alike() {
    for family in FAMILIES {
        for kind in [Kind::Tcp, Kind::Udp, Kind::EchoRequest] {
            let mut a = node_with(A, &[B, B]);
            let (ia, na) = client(0);
            let first = packet(family, kind, (na, 4000), (service_ip(DIALLED), 80));
            let second = packet(family, kind, (na, 4000), (service_ip(ALSO_DIALLED), 80));
            let wire = a.send(NOW, &first.build()).to(B);
            assert_eq!(wire, readdressed(&first, ia, server(0, B).1));
            let wire = a.send(NOW, &second.build()).to(B);
            assert_eq!(wire, readdressed(&second, ia, server(1, B).1), "the other one");
            for (n, request, dialled) in [(0, &first, DIALLED), (1, &second, ALSO_DIALLED)] {
                let answer = answer_to(request, server(n, B).0, na);
                let inside = a.receive(NOW, B, &answer.build()).delivered();
                assert_eq!(inside, readdressed(&answer, service_ip(dialled), na));
            }
        }
    }
}

/// However many it is shown in vain.
#[test]
fn the_one_instance_that_is_free_is_found() {
    for free in 0..9 {
        let mut a = node_with(A, &[B; 9]);
        for number in (0..9).filter(|number| *number != free) {
            let direct = packet(Family::V4, Kind::Udp, (client(0).1, 7), (server(number, B).0, 80));
            a.send(NOW, &direct.build()).to(B);
        }
        let dial = packet(Family::V4, Kind::Udp, (client(0).1, 7), (service_ip(DIALLED), 80));
        let wire = readdressed(&dial, client(0).0, server(free, B).1);
        assert_eq!(a.send(NOW, &dial.build()).to(B), wire, "{free}");
        let other = Sample { dst: service_ip(ALSO_DIALLED).of(Family::V4), ..dial };
        a.send(NOW, &other.build()).reply(DropReason::ReverseCollision);
    }
}

#[test]
fn with_one_instance_the_newcomer_is_refused_and_the_first_flow_goes_on() {
    for family in FAMILIES {
        for kind in [Kind::Tcp, Kind::Udp] {
            let (mut a, mut b) = pair();
            let (ia, na) = client(0);
            let first = packet(family, kind, (na, 4000), (service_ip(DIALLED), 80));
            let second = packet(family, kind, (na, 4000), (service_ip(ALSO_DIALLED), 80));
            let by_instance_ip = packet(family, kind, (na, 4000), (server(0, B).0, 80));
            let wire = a.send(NOW, &first.build()).to(B);
            for newcomer in [&second, &by_instance_ip] {
                let reply = a.send(NOW, &newcomer.build()).reply(DropReason::ReverseCollision);
                let view = crate::packet::View::parse(&reply, Default::default()).unwrap();
                assert_eq!(view.tcp().is_some(), kind == Kind::Tcp, "RST or ICMP");
                assert_eq!((view.src(), view.dst()), (newcomer.dst, newcomer.src));
            }
            assert_eq!(a.drops(DropReason::ReverseCollision), 2);
            b.receive(NOW, A, &wire).delivered();
            let answer = answer_to(&first, server(0, B).1, ia);
            let wire = b.send(NOW, &answer.build()).to(A);
            let inside = a.receive(NOW, B, &wire).delivered();
            assert_eq!(inside, readdressed(&answer, service_ip(DIALLED), na));
            // Another port is another matter.
            let elsewhere = packet(family, kind, (na, 4001), (service_ip(ALSO_DIALLED), 80));
            a.send(NOW, &elsewhere.build()).to(B);
        }
    }
}
