//! How long flows live, and what happens when an instance moves or goes.

use super::harness::*;
use crate::addr::Family;
use crate::packet::samples::{Kind, Sample};
use crate::packet::{Offload, View};
use crate::stats::DropReason;
use crate::table::samples::{header, record, service_ip};
use crate::time::{Duration, Instant};

fn millis(n: u64) -> Instant {
    Instant::from_millis(n)
}

/// A TCP connection of client 0 through the service IP to server 0 on B, as A sees it: all three segments.
fn connect(a: &mut Side, family: Family, now: Instant, port: u16) {
    let (na, dialled) = ((client(0).1, port), (service_ip(DIALLED), 80));
    a.send(now, &segment(family, SYN, na, dialled).build()).to(B);
    let answer = segment(family, SYN_ACK, (server(0, B).0, 80), na);
    a.receive(now, B, &answer.build()).delivered();
    a.send(now, &segment(family, ACK, na, dialled).build()).to(B);
}

/// Whether the flow of client 0's port still hears its server at that time, as from the dialled address.
fn hears(a: &mut Side, kind: Kind, now: Instant, port: u16) -> bool {
    let from_server = Sample { tcp_flags: ACK, ..packet(Family::V4, kind, (server(0, B).0, 80), (client(0).1, port)) };
    let inside = a.receive(now, B, &from_server.build()).delivered();
    inside == readdressed(&from_server, service_ip(DIALLED), client(0).1)
}

#[test]
fn an_idle_connection_lives_two_hours_and_not_two_hours_and_four_minutes() {
    for (minutes, alive) in [(3, true), (120, true), (124, false)] {
        let mut a = node_with(A, &[B]);
        connect(&mut a, Family::V4, at(0), 4000);
        a.router.expire_flows(at(60 * minutes), 64);
        assert_eq!(a.flows_to(SERVERS, 0), u32::from(alive), "{minutes} min");
        assert_eq!(hears(&mut a, Kind::Tcp, at(60 * minutes), 4000), alive, "{minutes} min");
    }
}

#[test]
fn a_dead_flow_is_no_flow_even_before_it_is_found() {
    let mut a = node_with(A, &[B]);
    connect(&mut a, Family::V4, at(0), 4000);
    let data = segment(Family::V4, ACK, (client(0).1, 4000), (service_ip(DIALLED), 80));
    a.send(at(7440), &data.build()).reply(DropReason::NoFlow);
    assert_eq!(a.flows_to(SERVERS, 0), 0);
    // Nor does what comes on it come from the service IP any more.
    connect(&mut a, Family::V4, at(8000), 4000);
    assert!(hears(&mut a, Kind::Tcp, at(8000), 4000));
    assert!(!hears(&mut a, Kind::Tcp, at(8000 + 7440), 4000));
}

#[test]
fn half_open_connections_live_30_seconds() {
    let mut a = node_with(A, &[B]);
    let syn = segment(Family::V4, SYN, (client(0).1, 4000), (service_ip(DIALLED), 80));
    a.send(at(0), &syn.build()).to(B);
    // An answer alone does not make a connection of it.
    a.receive(at(0), B, &answer_to(&syn, server(0, B).0, client(0).1).build()).delivered();
    a.router.expire_flows(millis(29_999), 64);
    assert_eq!(a.router.flows.len(), 1);
    a.router.expire_flows(at(30), 64);
    assert_eq!(a.router.flows.len(), 0);
}

#[test]
fn connections_live_10_seconds_after_both_have_closed_or_one_has_reset() {
    let (na, dialled) = ((client(0).1, 4000), (service_ip(DIALLED), 80));
    let from_client = |flags| segment(Family::V4, flags, na, dialled).build();
    let from_server = |flags| segment(Family::V4, flags, (server(0, B).0, 80), na).build();
    for ends in [[Some(FIN_ACK), Some(FIN_ACK)], [Some(RST), None], [None, Some(RST | ACK)]] {
        let mut a = node_with(A, &[B]);
        connect(&mut a, Family::V4, at(0), 4000);
        let [client_says, server_says] = ends;
        if let Some(flags) = server_says {
            a.receive(at(100), B, &from_server(flags)).delivered();
        }
        if let Some(flags) = client_says {
            a.send(at(100), &from_client(flags)).to(B);
        }
        a.router.expire_flows(millis(109_999), 64);
        assert_eq!(a.router.flows.len(), 1);
        a.router.expire_flows(at(110), 64);
        assert_eq!(a.router.flows.len(), 0);
    }
}

#[test]
fn a_half_closed_connection_may_be_silent_for_long() {
    let (na, dialled) = ((client(0).1, 4000), (service_ip(DIALLED), 80));
    for client_closes in [true, false] {
        let mut a = node_with(A, &[B]);
        connect(&mut a, Family::V4, at(0), 4000);
        if client_closes {
            a.send(at(100), &segment(Family::V4, FIN_ACK, na, dialled).build()).to(B);
        } else {
            let last = segment(Family::V4, FIN_ACK, (server(0, B).0, 80), na);
            a.receive(at(100), B, &last.build()).delivered();
        }
        a.router.expire_flows(at(7000), 64);
        assert_eq!(a.router.flows.len(), 1);
        assert!(hears(&mut a, Kind::Tcp, at(7000), 4000));
    }
}

#[test]
fn udp_lives_30_seconds_one_way_and_5_minutes_both_ways() {
    let dial = packet(Family::V4, Kind::Udp, (client(0).1, 4000), (service_ip(DIALLED), 80));
    let mut a = node_with(A, &[B]);
    a.send(at(0), &dial.build()).to(B);
    a.send(at(20), &dial.build()).to(B);
    a.router.expire_flows(millis(49_999), 64);
    assert_eq!(a.router.flows.len(), 1, "each packet renews it");
    assert!(hears(&mut a, Kind::Udp, millis(49_999), 4000));
    a.router.expire_flows(millis(349_998), 64);
    assert_eq!(a.router.flows.len(), 1);
    a.router.expire_flows(millis(349_999), 64);
    assert_eq!(a.router.flows.len(), 0);
}

#[test]
fn echo_lives_60_seconds() {
    for family in FAMILIES {
        let mut a = node_with(A, &[B]);
        let dial = packet(family, Kind::EchoRequest, (client(0).1, 7), (service_ip(DIALLED), 0));
        a.send(at(0), &dial.build()).to(B);
        let answer = answer_to(&dial, server(0, B).0, client(0).1);
        a.receive(at(0), B, &answer.build()).delivered();
        a.router.expire_flows(millis(59_999), 64);
        assert_eq!(a.router.flows.len(), 1);
        a.router.expire_flows(at(60), 64);
        assert_eq!(a.router.flows.len(), 0);
    }
}

#[test]
fn a_port_that_is_used_again_after_the_close_is_balanced_anew_at_both_ends() {
    let (na, dialled) = ((client(0).1, 4000), (service_ip(DIALLED), 80));
    let (mut a, mut b) = (node_with(A, &[B, B]), node_with(B, &[B, B]));
    let syn = segment(Family::V4, SYN, na, dialled);
    let fin = segment(Family::V4, FIN_ACK, na, dialled);
    for number in [0, 1, 0] {
        let wire = a.send(at(0), &syn.build()).to(B);
        assert_eq!(wire, readdressed(&syn, client(0).0, server(number, B).1));
        b.receive(at(0), A, &wire).delivered();
        let answer = segment(Family::V4, SYN_ACK, (server(number, B).1, 80), (client(0).0, 4000));
        let back = b.send(at(0), &answer.build()).to(A);
        a.receive(at(0), B, &back).delivered();
        let confirmed = segment(Family::V4, ACK, na, dialled);
        b.receive(at(0), A, &a.send(at(0), &confirmed.build()).to(B)).delivered();
        if number == 1 || b.router.counters.flows_begun < 3 {
            let wire = a.send(at(0), &fin.build()).to(B);
            b.receive(at(0), A, &wire).delivered();
            let too = segment(Family::V4, FIN_ACK, (server(number, B).1, 80), (client(0).0, 4000));
            let back = b.send(at(0), &too.build()).to(A);
            a.receive(at(0), B, &back).delivered();
        }
    }
    assert_eq!(a.router.counters.flows_begun, 3);
    // The last one is open, and lives as such at both ends.
    a.router.expire_flows(at(60), 64);
    b.router.expire_flows(at(60), 64);
    assert_eq!((a.router.flows.len(), b.router.flows.len()), (1, 1));
}

#[test]
fn a_repeated_syn_belongs_to_the_flow_that_it_began() {
    let mut a = node_with(A, &[B, B]);
    let syn = segment(Family::V4, SYN, (client(0).1, 4000), (service_ip(DIALLED), 80));
    let first = a.send(at(0), &syn.build()).to(B);
    assert_eq!(a.send(at(1), &syn.build()).to(B), first);
    connect(&mut a, Family::V4, at(1), 4000);
    assert_eq!(a.send(at(2), &syn.build()).to(B), first);
    assert_eq!(a.router.flows.len(), 1);
}

#[test]
fn a_full_table_ends_established_tcp_last_and_counts_what_it_ends() {
    let mut a: Side<64, 4> = Side::new(A);
    fill(&mut a, &[B]);
    let dial = |kind, port| packet(Family::V4, kind, (client(0).1, port), (service_ip(DIALLED), 80));
    for port in 0..4 {
        a.send(at(0), &dial(Kind::Udp, port).build()).to(B);
    }
    for port in 4..8 {
        a.send(at(1), &dial(Kind::Tcp, port).build()).to(B);
        let answer = answer_to(&dial(Kind::Tcp, port), server(0, B).0, client(0).1);
        a.receive(at(1), B, &answer.build()).delivered();
        let confirmed = segment(Family::V4, ACK, (client(0).1, port), (service_ip(DIALLED), 80));
        a.send(at(1), &confirmed.build()).to(B);
    }
    let evicted = |a: &Side<64, 4>| (a.router.counters.flows_evicted, a.router.counters.established_evicted);
    assert_eq!(evicted(&a), (4, 0), "the datagrams made room");
    a.send(at(2), &dial(Kind::Udp, 9).build()).to(B);
    assert_eq!(evicted(&a), (5, 1));
    a.send(at(2), &dial(Kind::Udp, 10).build()).to(B);
    assert_eq!(evicted(&a), (6, 1), "the new one goes before another connection");
    assert_eq!(a.router.flows.len(), 4);
    assert_eq!(a.flows_to(SERVERS, 0), 4);
}

/// What the sweep says to client 0 of the connection of this port: a RST from the dialled address with the client's last ACK.
#[track_caller]
fn assert_reset(packet: &[u8], family: Family, port: u16) {
    assert_whole(packet);
    let view = View::parse(packet, Offload::NONE).unwrap();
    assert_eq!(view.src(), service_ip(DIALLED).of(family));
    assert_eq!(view.dst(), client(0).1.of(family));
    let tcp = view.tcp().unwrap();
    assert_eq!((tcp.src_port, tcp.dst_port), (80, port));
    assert_eq!((tcp.flags.0, tcp.seq), (RST, 0x0506_0708));
}

#[test]
fn when_an_instance_moves_its_connections_are_reset_at_once_and_others_are_not_touched() {
    for family in FAMILIES {
        for withdrawn in [false, true] {
            let mut a = node_with(A, &[B]);
            connect(&mut a, family, at(0), 4000);
            let udp = packet(family, Kind::Udp, (client(0).1, 4001), (service_ip(DIALLED), 80));
            a.send(at(0), &udp.build()).to(B);
            let half_open = segment(family, SYN, (client(0).1, 4002), (service_ip(DIALLED), 80));
            a.send(at(0), &half_open.build()).to(B);
            assert_eq!(a.flows_to(SERVERS, 0), 3);
            a.instance(SERVERS, 1, C);
            let other = packet(family, Kind::Tcp, (client(1).1, 4000), (service_ip(DIALLED), 80));
            let of_other = a.send(at(0), &other.build()).to(C);
            if withdrawn {
                a.withdraw(SERVERS, 0);
            } else {
                a.instance(SERVERS, 0, C);
                assert_eq!(a.flows_to(SERVERS, 0), 0, "those were flows to another place");
            }
            let resets = a.sweep(1);
            assert_eq!(resets.len(), 1, "TCP that is open");
            assert_reset(&resets[0], family, 4000);
            assert_eq!(a.router.flows.len(), 1, "the other instance's");
            // The next segment of the old connection hears it again.
            let data = segment(family, ACK, (client(0).1, 4000), (service_ip(DIALLED), 80));
            let reset = a.send(at(1), &data.build()).reply(DropReason::NoFlow);
            assert_reset(&reset, family, 4000);
            // What has no connection to lose goes on with who is there.
            a.send(at(1), &udp.build()).to(C);
            a.send(at(1), &half_open.build()).to(C);
            assert_eq!(a.send(at(1), &other.build()).to(C), of_other);
            assert_eq!(a.flows_to(SERVERS, 1) + if withdrawn { 0 } else { a.flows_to(SERVERS, 0) }, 3);
        }
    }
}

#[test]
fn a_packet_that_comes_before_the_sweep_does_not_reach_where_the_instance_was() {
    let mut a = node_with(A, &[B]);
    connect(&mut a, Family::V4, at(0), 4000);
    let udp = packet(Family::V4, Kind::Udp, (client(0).1, 4001), (service_ip(DIALLED), 80));
    a.send(at(0), &udp.build()).to(B);
    a.instance(SERVERS, 0, C);
    let data = segment(Family::V4, ACK, (client(0).1, 4000), (service_ip(DIALLED), 80));
    let reset = a.send(at(1), &data.build()).reply(DropReason::InstanceGone);
    assert_reset(&reset, Family::V4, 4000);
    let fin = segment(Family::V4, FIN_ACK, (client(0).1, 4000), (service_ip(DIALLED), 80));
    a.send(at(1), &fin.build()).reply(DropReason::NoFlow);
    let wire = a.send(at(1), &udp.build()).to(C);
    assert_eq!(wire, readdressed(&udp, client(0).0, server(0, C).1));
    assert!(a.sweep(64).is_empty(), "it has been told");
    // The node where it was has nothing to say for it any more.
    let late = segment(Family::V4, ACK, (server(0, B).0, 80), (client(0).1, 4000));
    let fate = a.receive(at(1), B, &late.build());
    assert_eq!(fate, Fate::Drop(DropReason::SpoofedSource));
}

#[test]
fn the_server_of_a_client_that_is_gone_is_reset_too() {
    let (mut a, mut b) = pair();
    let dial = packet(Family::V4, Kind::Tcp, (client(0).1, 4000), (service_ip(DIALLED), 80));
    let wire = a.send(at(0), &dial.build()).to(B);
    b.receive(at(0), A, &wire).delivered();
    let answer = answer_to(&dial, server(0, B).1, client(0).0);
    b.send(at(0), &answer.build()).to(A);
    let confirmed = segment(Family::V4, ACK, (client(0).1, 4000), (service_ip(DIALLED), 80));
    let wire = readdressed(&confirmed, client(0).0, server(0, B).1);
    b.receive(at(0), A, &wire).delivered();
    b.withdraw(CLIENTS, 0);
    let resets = b.sweep(64);
    assert_eq!(resets.len(), 1);
    let view = View::parse(&resets[0], Offload::NONE).unwrap();
    assert_eq!((view.src(), view.dst()), (answer.dst, answer.src));
    assert_eq!(view.tcp().map(|t| t.seq), Some(0x0506_0708));
}

#[test]
fn a_container_that_is_detached_hears_nothing_and_leaves_no_flow() {
    let mut a = node_with(A, &[B]);
    connect(&mut a, Family::V4, at(0), 4000);
    a.detach(CLIENTS, 0);
    assert!(a.sweep(64).is_empty());
    assert!(a.router.flows.is_empty());
    assert_eq!(a.flows_to(SERVERS, 0), 0);
    // Whoever gets the address next is not taken for it.
    a.attach(CLIENTS, 0);
    let data = segment(Family::V4, ACK, (client(0).1, 4000), (service_ip(DIALLED), 80));
    a.send(at(1), &data.build()).reply(DropReason::NoFlow);
}

#[test]
fn an_attachment_in_another_namespace_takes_the_place_of_the_one_before() {
    let mut a = node_with(A, &[B]);
    let moved = crate::router::Attachment {
        namespace_ip: record(CLIENTS, 30, A).namespace_ip,
        ..*a.router.attachments.iter().next().unwrap()
    };
    assert_eq!(a.router.attachments.len(), 2);
    assert_eq!(a.router.attachments.put(moved), Ok(true));
    assert_eq!(a.router.attachments.put(moved), Ok(false), "it is there already");
    assert_eq!(a.router.attachments.len(), 2);
    let of_both = [moved.namespace_ip, client(0).1];
    let found = of_both.map(|ip| a.router.attachments.by_namespace_ip(ip.of(Family::V4)).is_some());
    assert_eq!(found, [true, false]);
    a.router.attachments.remove(moved.id).unwrap();
    assert_eq!(a.router.attachments.by_instance_ip(moved.instance_ip.of(Family::V6)), None);
}

#[test]
fn every_flow_that_is_counted_in_is_counted_out() {
    let mut a = node_with(A, &[A, B, C]);
    let (local, remote) = ((client(0).1, 1), [B, C]);
    for port in 0..21 {
        let kind = [Kind::Tcp, Kind::Udp, Kind::EchoRequest][usize::from(port) % 3];
        let dial = packet(Family::V6, kind, (local.0, port), (service_ip(DIALLED), port));
        a.send(at(0), &dial.build());
        let back = packet(Family::V6, kind, (server(1, B).0, port), (client(1).1, 900 + port));
        a.receive(at(0), remote[0], &back.build()).delivered();
    }
    let counted: u32 = (0..3).map(|n| a.flows_to(SERVERS, n)).sum();
    assert_eq!(
        (counted, a.router.flows.len()),
        (42, 49),
        "the seven within the node have two ends, one of them counts"
    );
    a.router.expire_flows(at(60).saturating_add(Duration::from_secs(1)), 1024);
    assert!(a.router.flows.is_empty());
    let counted: u32 = (0..3).map(|n| a.flows_to(SERVERS, n)).sum();
    assert_eq!(counted, 0);
    let registry = a.router.registry();
    let slot = a.service_row(SERVERS);
    a.router.table.set_header(slot, &header(&[DIALLED]), &registry);
    assert_eq!(a.flows_to(SERVERS, 0), 0);
}
