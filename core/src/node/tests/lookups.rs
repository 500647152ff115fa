//! Packets that wait until the manager has said what an address is.

use super::harness::*;
use crate::addr::Family;
use crate::packet::samples::{Kind, Sample};
use crate::packet::{IcmpKind, Offload, View};
use crate::stats::DropReason;
use crate::sync::message::{Message, Refusal, ResolveKey};
use crate::table::samples::{instance_ip, namespace_ip, service_ip};

fn view(packet: &[u8]) -> View {
    View::parse(packet, Offload::NONE).unwrap()
}

fn source_port(packet: &[u8]) -> u16 {
    view(packet).ports().unwrap().0
}

/// The ICMP "unreachable" that answers a packet.
#[track_caller]
fn assert_unreachable(reply: &[u8], packet: &Sample) {
    let told = view(reply);
    assert_eq!((told.src(), told.dst()), (packet.dst, packet.src));
    assert!(matches!(told.icmp(), Some(IcmpKind::Error { .. })));
    assert_eq!(reply[told.transport_offset() + 8..], packet.build());
}

#[test]
fn many_packets_wait_for_one_question_and_go_on_in_order() {
    let mut world = World::ready();
    for port in 1..=3 {
        world.dial(&dial(Family::V4, port, DIALLED));
    }
    assert_eq!((world.resolves(), world.node.waiting()), (1, 3));
    let question = world.resolve();
    assert_eq!(question.key, ResolveKey::Address(service_ip(DIALLED).of(Family::V4)));
    assert_eq!(question.asker, Some(attachment(0).id));
    let page = table(question.stream, SERVERS, &[DIALLED], &[(0, B)]);
    world.manager_only(MANAGER, Message::Table(page));
    // The answer is here and the three have not gone yet: what comes now goes behind them.
    world.dial_only(&dial(Family::V4, 4, DIALLED).build());
    world.settle();
    world.dial(&dial(Family::V4, 5, DIALLED));
    let ports: Vec<_> = world.forwarded.iter().map(|(_, p)| source_port(p)).collect();
    assert_eq!(ports, [1, 2, 3, 4, 5]);
    assert!(world.forwarded.iter().all(|(to, _)| *to == B));
    assert_eq!((world.node.waiting(), world.resolves()), (0, 1));
    assert_eq!(world.acks(), [(question.stream, 1)]);
    assert_eq!(world.node.client().counters.resolve_timeouts, 0);
    assert!(DropReason::ALL.iter().all(|r| world.drops(*r) == 0));
}

#[test]
fn a_question_is_repeated_until_it_is_answered() {
    let mut world = World::ready();
    world.dial(&dial(Family::V6, 1, DIALLED));
    world.run(500);
    // At 0, 100 and 300 ms.
    assert_eq!(world.resolves(), 3);
    let streams: Vec<_> = world
        .messages()
        .into_iter()
        .map(|m| match m {
            Message::Resolve(resolve) => resolve.stream,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(streams.iter().all(|s| *s == streams[0]), "the same question");
    world.manager(Message::Table(table(streams[0], SERVERS, &[DIALLED], &[(0, B)])));
    world.run(2_000);
    assert_eq!(world.resolves(), 0);
    assert_eq!(world.forwarded.len(), 1);
}

#[test]
fn a_table_in_several_pages_releases_nothing_before_its_last() {
    let mut world = World::ready();
    for port in 1..=4 {
        world.dial(&dial(Family::V4, port, DIALLED));
    }
    let stream = world.resolve().stream;
    let mut first = table(stream, SERVERS, &[DIALLED], &[(0, B), (1, B)]);
    first.more = true;
    first.kind = crate::sync::message::PageKind::Replace { from: 0, to: Some(2) };
    let mut second = table(stream, SERVERS, &[DIALLED], &[(2, C)]);
    second.kind = crate::sync::message::PageKind::Replace { from: 2, to: None };
    (second.sequence, second.header) = (2, None);
    world.manager(Message::Table(second.clone()));
    assert_eq!(world.acks(), [], "a page too early");
    world.manager(Message::Table(first.clone()));
    assert_eq!((world.forwarded.len(), world.node.waiting()), (0, 4));
    world.manager(Message::Table(first));
    assert_eq!(world.acks(), [(stream, 1), (stream, 1)], "its acknowledgement was lost");
    world.manager(Message::Table(second));
    let to: Vec<_> = world.forwarded.iter().map(|(to, _)| *to).collect();
    assert_eq!(to, [B, B, C, B]);
}

#[test]
fn both_families_of_a_service_may_be_asked_for_at_once() {
    let mut world = World::ready();
    world.dial(&dial(Family::V4, 1, DIALLED));
    let first = world.resolve().stream;
    world.dial(&dial(Family::V6, 1, DIALLED));
    let second = world.resolve().stream;
    assert_ne!(first, second);
    // The manager follows the later question; its page under the first one was on the way already.
    world.manager(Message::Table(table(first, SERVERS, &[DIALLED], &[(0, B)])));
    assert_eq!((world.forwarded.len(), world.node.waiting()), (2, 0));
    world.said.clear();
    world.manager(Message::Table(table(second, SERVERS, &[DIALLED], &[(0, B)])));
    assert_eq!(world.acks(), [(second, 1)]);
    assert_eq!(world.messages(), [], "nothing is forgotten");
    // From now on changes come under the second.
    let mut change = table(second, SERVERS, &[], &[(1, C)]);
    change.kind = crate::sync::message::PageKind::Patch;
    (change.sequence, change.header) = (2, None);
    world.manager(Message::Table(change));
    world.forwarded.clear();
    world.dial(&dial(Family::V4, 2, DIALLED));
    world.dial(&dial(Family::V4, 3, DIALLED));
    let to: Vec<_> = world.forwarded.iter().map(|(to, _)| *to).collect();
    assert!(to.contains(&C));
    // And a late page of the first says nothing any more.
    world.manager(Message::Table(table(first, SERVERS, &[DIALLED], &[])));
    let service = world.node.router().table.find_service(crate::ids::ServiceId(SERVERS)).unwrap();
    assert_eq!(world.node.router().table.instances_of(service).count(), 2);
}

#[test]
fn what_nothing_has_is_refused_at_once_and_remembered_for_a_second() {
    for family in [Family::V4, Family::V6] {
        let mut world = World::ready();
        let (first, second) = (dial(family, 1, 50), dial(family, 2, 50));
        world.dial(&first);
        world.dial(&second);
        let stream = world.resolve().stream;
        world.manager(Message::NotFound { stream });
        assert_eq!(world.delivered.len(), 2);
        assert_unreachable(&world.delivered[0], &first);
        assert_unreachable(&world.delivered[1], &second);
        world.said.clear();
        world.run(999);
        world.dial(&first);
        assert_eq!((world.delivered.len(), world.resolves()), (3, 0), "without asking");
        assert_unreachable(&world.delivered[2], &first);
        assert_eq!(world.drops(DropReason::UnknownService), 3);
        world.run(1);
        world.dial(&first);
        assert_eq!((world.delivered.len(), world.resolves()), (3, 1), "a second is over");
        // Meanwhile it has been deployed.
        let stream = world.resolve().stream;
        world.manager(Message::Table(table(stream, SERVERS, &[50], &[(0, B)])));
        assert_eq!(world.forwarded.len(), 1);
    }
}

#[test]
fn a_negative_answer_ends_when_the_service_comes() {
    let mut world = World::ready();
    world.dial(&dial(Family::V4, 1, DIALLED));
    let stream = world.resolve().stream;
    world.manager(Message::NotFound { stream });
    world.dial(&dial(Family::V6, 1, DIALLED));
    let stream = world.resolve().stream;
    world.manager(Message::Table(table(stream, SERVERS, &[DIALLED], &[(0, B)])));
    world.dial(&dial(Family::V4, 1, DIALLED));
    assert_eq!(world.forwarded.len(), 2);
}

#[test]
fn a_silent_manager_is_waited_for_less_than_a_second() {
    for kind in [Kind::Udp, Kind::Tcp, Kind::EchoRequest] {
        let mut world = World::ready();
        let packet = from_client(Family::V4, kind, 1, service_ip(DIALLED));
        world.dial(&packet);
        world.run(700);
        assert_eq!(world.delivered.len(), 0, "an answer may still come");
        world.run(299);
        assert_unreachable(&world.delivered[0], &packet);
        assert_eq!(world.node.waiting(), 0);
        assert_eq!(world.drops(DropReason::ResolveTimeout), 1);
        assert_eq!(world.node.client().counters.resolve_timeouts, 1);
        // An answer that comes now is still worth having.
        world.dial(&packet);
        assert_eq!(world.node.waiting(), 1, "a time-out is not remembered");
    }
}

#[test]
fn what_the_manager_has_no_room_for_is_refused() {
    let mut world = World::ready();
    let packet = dial(Family::V4, 1, DIALLED);
    world.dial(&packet);
    let request = world.resolve().stream;
    world.manager(Message::Refused { request, refusal: Refusal::Full });
    assert_unreachable(&world.delivered[0], &packet);
    assert_eq!(world.drops(DropReason::ResolveFull), 1);
}

#[test]
fn with_too_many_questions_under_way_the_next_is_refused_at_once() {
    let mut world = World::ready();
    for n in 0..WAITING as u32 {
        world.dial(&dial(Family::V4, 1, 50 + n));
    }
    assert_eq!(world.resolves(), WAITING);
    let one_more = dial(Family::V4, 1, 80);
    world.dial(&one_more);
    assert_unreachable(&world.delivered[0], &one_more);
    assert_eq!(world.drops(DropReason::ResolveFull), 1);
    // A negative answer gives its place to a question.
    let stream = world.resolve().stream;
    world.manager(Message::NotFound { stream });
    world.dial(&one_more);
    assert_eq!(world.resolves(), WAITING + 1);
    assert_eq!(world.drops(DropReason::ResolveFull), 1);
}

#[test]
fn the_queue_is_bounded_per_address_and_drops_the_oldest_first() {
    let mut world = World::ready();
    for port in 1..=6 {
        world.dial(&dial(Family::V4, port, DIALLED));
    }
    assert_eq!(world.node.waiting(), WAITING / 2, "half of it for one address");
    assert_eq!(world.drops(DropReason::PendingFull), 2);
    let stream = world.resolve().stream;
    world.manager(Message::Table(table(stream, SERVERS, &[DIALLED], &[(0, B)])));
    let ports: Vec<_> = world.forwarded.iter().map(|(_, p)| source_port(p)).collect();
    assert_eq!(ports, [3, 4, 5, 6]);
}

#[test]
fn the_queue_is_bounded_in_all_and_drops_the_oldest_first() {
    let mut world = World::ready();
    for n in 0..4 {
        for port in [1, 2] {
            world.dial(&dial(Family::V4, port, 50 + n));
        }
    }
    assert_eq!((world.node.waiting(), world.drops(DropReason::PendingFull)), (WAITING, 0));
    world.dial(&dial(Family::V4, 3, 54));
    assert_eq!((world.node.waiting(), world.drops(DropReason::PendingFull)), (WAITING, 1));
    world.run(2_000);
    let told: Vec<_> = world.delivered.iter().map(|p| view(p).src()).collect();
    let of = |n: u32| service_ip(n).of(Family::V4);
    assert_eq!(told, [50, 51, 51, 52, 52, 53, 53, 54].map(of), "the first of them is missing");
}

#[test]
fn a_packet_that_is_too_long_does_not_wait_but_its_question_is_asked() {
    let mut world = World::ready();
    world.node.set_overlay_mtu(crate::mtu::OverlayMtu::new(9000).unwrap());
    let long = Sample { payload: vec![0; 1600], ..dial(Family::V4, 1, DIALLED) };
    world.dial(&long);
    assert_eq!(world.drops(DropReason::PendingTooLong), 1);
    assert_eq!((world.resolves(), world.node.waiting()), (1, 0));
    let stream = world.resolve().stream;
    world.manager(Message::Table(table(stream, SERVERS, &[DIALLED], &[(0, B)])));
    world.dial(&long);
    assert_eq!(world.forwarded.len(), 1);
}

#[test]
fn a_peer_with_many_unknown_sources_keeps_no_application_from_asking() {
    let (mut world, _) = World::with_servers(&[(0, B)]);
    for number in 5..15 {
        world.receive(B, &from_server(Family::V4, number, 1).build());
    }
    assert_eq!((world.resolves(), world.drops(DropReason::ResolveFull)), (WAITING / 4, 10 - WAITING as u64 / 4));
    world.dial(&dial(Family::V4, 1, 50));
    assert_eq!(world.resolves(), WAITING / 4 + 1);
    assert_eq!(world.drops(DropReason::ResolveFull), 10 - WAITING as u64 / 4);
}

#[test]
fn a_peers_packet_from_a_source_that_is_not_known_is_held_until_it_is() {
    let (mut world, _) = World::with_servers(&[(0, B)]);
    for port in [1, 2] {
        world.receive(B, &from_server(Family::V4, 5, port).build());
    }
    assert_eq!((world.resolves(), world.node.waiting()), (1, 2));
    let question = world.resolve();
    assert_eq!(question.key, ResolveKey::Address(instance_ip(SERVERS, 5).of(Family::V4)));
    assert_eq!(question.asker, None);
    world.manager_only(MANAGER, Message::Table(single(question.stream, SERVERS, 5, B)));
    world.receive_only(B, &from_server(Family::V4, 5, 3).build());
    world.settle();
    let ports: Vec<_> = world.delivered.iter().map(|p| view(p).ports().unwrap().1).collect();
    assert_eq!(ports, [1, 2, 3], "in order");
    assert_eq!(view(&world.delivered[0]).src(), instance_ip(SERVERS, 5).of(Family::V4));
}

#[test]
fn a_held_packet_whose_source_turns_out_to_be_anothers_or_nobodys_is_dropped() {
    let (mut world, _) = World::with_servers(&[(0, B)]);
    world.receive(B, &from_server(Family::V4, 5, 1).build());
    let stream = world.resolve().stream;
    world.manager(Message::Table(single(stream, SERVERS, 5, C)));
    assert_eq!(world.drops(DropReason::SpoofedSource), 1);
    world.receive(B, &from_server(Family::V4, 6, 1).build());
    let stream = world.resolve().stream;
    world.manager(Message::NotFound { stream });
    assert_eq!(world.drops(DropReason::UnknownService), 1);
    world.receive(B, &from_server(Family::V4, 6, 1).build());
    assert_eq!(world.drops(DropReason::UnknownService), 2, "for a second");
    world.receive(B, &from_server(Family::V4, 7, 1).build());
    world.run(1_000);
    assert_eq!(world.drops(DropReason::ResolveTimeout), 1);
    assert_eq!((world.delivered.len(), world.node.waiting()), (0, 0));
}

#[test]
fn a_held_packet_of_a_peer_that_is_gone_meanwhile_is_dropped() {
    let (mut world, stream) = World::with_servers(&[(0, B)]);
    world.receive(B, &from_server(Family::V4, 5, 1).build());
    let mut gone = table(stream, SERVERS, &[], &[]);
    (gone.sequence, gone.kind, gone.header) = (2, crate::sync::message::PageKind::Gone, None);
    world.manager(Message::Table(gone));
    let question = world.resolve();
    // So many other nodes that its place is needed.
    world.dial(&dial(Family::V4, 1, 2));
    let others: Vec<_> = (0..6).map(|n| (n, 10 + n)).collect();
    let mut page = table(world.resolve().stream, 2, &[2], &others);
    world.manager(Message::Table(page.clone()));
    assert!(world.node.find_peer(&key(B)).is_none());
    (page.sequence, page.kind) = (2, crate::sync::message::PageKind::Replace { from: 0, to: Some(1) });
    (page.records, page.nodes) = Default::default();
    world.manager(Message::Table(page));
    world.manager(Message::Table(single(question.stream, SERVERS, 5, B)));
    assert_eq!(world.drops(DropReason::UnknownPeer), 1);
    assert_eq!(world.delivered.len(), 0);
}

#[test]
fn nobody_is_asked_about_addresses_that_no_instance_can_have() {
    let (mut world, _) = World::with_servers(&[(0, B)]);
    let from = |dual: crate::addr::Dual| Sample { src: dual.of(Family::V4), ..from_server(Family::V4, 0, 1) };
    world.receive(B, &from(namespace_ip(B, 50)).build());
    world.receive(B, &from(service_ip(DIALLED)).build());
    assert_eq!((world.resolves(), world.drops(DropReason::SpoofedSource)), (0, 2));
    // A packet of a stranger among the local applications asks nothing either.
    let stranger = Sample { src: namespace_ip(A, 50).of(Family::V4), ..dial(Family::V4, 1, 77) };
    world.dial(&stranger);
    assert_eq!((world.resolves(), world.drops(DropReason::UnknownSource)), (0, 1));
}

#[test]
fn an_instance_ip_is_looked_up_too_and_brings_that_instance_only() {
    let mut world = World::ready();
    let packet = from_client(Family::V4, Kind::Tcp, 1, instance_ip(SERVERS, 3));
    world.dial(&packet);
    let stream = world.resolve().stream;
    let mut page = single(stream, SERVERS, 3, B);
    page.header = Some(crate::table::samples::header(&[DIALLED]));
    world.manager(Message::Table(page));
    assert_eq!(world.forwarded.len(), 1);
    // Its service is known by name now, but not whole: it is asked for before anything is picked.
    world.said.clear();
    world.dial(&dial(Family::V4, 1, DIALLED));
    assert_eq!((world.forwarded.len(), world.resolves()), (1, 1));
    let stream = world.resolve().stream;
    world.manager(Message::Table(table(stream, SERVERS, &[DIALLED], &[(2, C), (3, B)])));
    assert_eq!(world.forwarded[1].0, C);
}
