//! Which tables a node follows, for how long, and what their pages change.

use super::harness::*;
use crate::addr::Family;
use crate::ids::ServiceId;
use crate::node::PeerNews;
use crate::packet::samples::Kind;
use crate::packet::{Offload, View};
use crate::stats::DropReason;
use crate::sync::message::{Message, PageKind, SERVER_STREAMS, Subject, TablePage};
use crate::table::samples::service_ip;

/// The next page of a stream: a change of these instances.
fn patch(stream: u32, sequence: u32, instances: &[(u32, u32)], removed: &[u32]) -> TablePage {
    TablePage {
        sequence,
        kind: PageKind::Patch,
        header: None,
        removed: removed.iter().copied().collect(),
        ..table(stream, SERVERS, &[], instances)
    }
}

fn knows(world: &World) -> Vec<u32> {
    let table = &world.node.router().table;
    let Some(service) = table.find_service(ServiceId(SERVERS)) else {
        return Vec::new();
    };
    let instances = table.instances_of(service);
    instances.map(|slot| table.instance(slot).unwrap().number).collect()
}

#[test]
fn an_interest_ends_10_seconds_after_its_last_flow_and_is_said_until_it_is_confirmed() {
    let (mut world, stream) = World::with_servers(&[(0, B), (1, B)]);
    world.welcoming = Some(1);
    // The flow that asked is UDP and one-way: 30 s.
    world.run(29_000);
    world.dial(&dial(Family::V4, 1, DIALLED));
    world.run(38_000);
    world.said.clear();
    assert_eq!(knows(&world), [0, 1], "the flow has ended 8 s ago");
    world.run(4_000);
    assert!(knows(&world).is_empty());
    let forget = Message::Forget { subject: Subject::whole(ServiceId(SERVERS)), stream };
    assert!(world.messages().contains(&forget));
    world.run(5_000);
    let repeats = world.messages().iter().filter(|m| **m == forget).count();
    assert!(repeats >= 2, "{repeats}");
    let subject = Subject::whole(ServiceId(SERVERS));
    world.manager(Message::Forgotten { subject, stream: stream + 1 });
    assert_eq!(world.node.client().interests(), 2, "that was another stream");
    world.manager(Message::Forgotten { subject, stream });
    assert_eq!(world.node.client().interests(), 1, "the attached instance's own");
    world.said.clear();
    world.run(5_000);
    assert!(!world.messages().contains(&forget));
    // It comes back, and the turn goes on.
    world.dial(&dial(Family::V4, 9, DIALLED));
    let again = world.resolve().stream;
    world.manager(Message::Table(table(again, SERVERS, &[DIALLED], &[(0, B), (1, C)])));
    assert_eq!(world.forwarded.last().unwrap().0, C);
}

#[test]
fn no_interest_ends_while_the_manager_does_not_answer() {
    let (mut world, _) = World::with_servers(&[(0, B)]);
    world.welcoming = Some(1);
    // The flow that asked ends after 30 s; the manager is gone by then.
    world.run(36_000);
    world.welcoming = None;
    world.run(600_000);
    assert!(!world.node.client().is_connected(world.now));
    assert_eq!(knows(&world), [0], "nobody could bring it back");
    world.said.clear();
    world.dial(&dial(Family::V4, 2, DIALLED));
    assert_eq!(world.forwarded.len(), 1, "it is dialled as before");
    assert_eq!(world.resolves(), 0);
    // That flow ends too, and the manager is back later.
    world.run(60_000);
    assert_eq!(knows(&world), [0]);
    world.welcome(1);
    world.welcoming = Some(1);
    world.run(1_000);
    assert!(knows(&world).is_empty(), "it was idle for longer than 10 s");
    assert!(world.messages().iter().any(|m| matches!(m, Message::Forget { .. })));
}

#[test]
fn a_service_that_is_dialled_while_its_interest_ends_is_asked_for_again() {
    let (mut world, old) = World::with_servers(&[(0, B)]);
    world.welcoming = Some(1);
    world.run(45_000);
    assert!(knows(&world).is_empty());
    world.forwarded.clear();
    world.dial(&dial(Family::V4, 2, DIALLED));
    let stream = world.resolve().stream;
    world.manager(Message::Table(table(stream, SERVERS, &[DIALLED], &[(0, B)])));
    assert_eq!(world.forwarded.len(), 1);
    // The confirmation of the old end does not end the new beginning.
    let subject = Subject::whole(ServiceId(SERVERS));
    world.manager(Message::Forgotten { subject, stream: old });
    assert_eq!(world.node.client().interests(), 2);
    world.said.clear();
    world.run(3_000);
    assert!(world.messages().iter().all(|m| !matches!(m, Message::Forget { .. })));
}

#[test]
fn established_connections_keep_the_interest_for_hours() {
    let (mut world, _) = World::with_servers(&[(0, B)]);
    world.welcoming = Some(1);
    let dial = from_client(Family::V4, Kind::Tcp, 5, service_ip(DIALLED));
    world.dial(&dial);
    let answer = crate::packet::samples::Sample { kind: Kind::Tcp, tcp_flags: 0x12, ..from_server(Family::V4, 0, 5) };
    world.receive(B, &answer.build());
    assert_eq!(world.delivered.len(), 1);
    world.dial(&crate::packet::samples::Sample { tcp_flags: 0x10, ..dial });
    for _ in 0..120 {
        world.run(60_000);
        world.said.clear();
    }
    assert_eq!(knows(&world), [0]);
    world.run(5 * 60_000);
    assert!(knows(&world).is_empty());
}

#[test]
fn changes_are_applied_once_and_in_order_and_acknowledged_each_time() {
    let (mut world, stream) = World::with_servers(&[(0, B)]);
    world.manager(Message::Table(patch(stream, 2, &[(4, C), (2, B)], &[])));
    assert_eq!(knows(&world), [0, 2, 4]);
    world.manager(Message::Table(patch(stream, 4, &[(9, C)], &[])));
    assert_eq!(knows(&world), [0, 2, 4], "the third is missing");
    world.manager(Message::Table(patch(stream, 3, &[], &[0, 2])));
    assert_eq!(knows(&world), [4]);
    // Repeats whose acknowledgement was lost, and older ones.
    world.manager(Message::Table(patch(stream, 3, &[], &[4])));
    world.manager(Message::Table(patch(stream, 2, &[(0, B)], &[])));
    assert_eq!(knows(&world), [4]);
    assert_eq!(world.acks(), [(stream, 2), (stream, 3), (stream, 3)]);
    let counters = world.node.client().counters;
    assert_eq!(counters.stale_pages, 3);
    // Everything anew.
    let mut whole = table(stream, SERVERS, &[DIALLED], &[(1, B)]);
    whole.sequence = 4;
    world.manager(Message::Table(whole));
    assert_eq!(knows(&world), [1]);
}

#[test]
fn a_part_that_is_replaced_leaves_the_rest() {
    let (mut world, stream) = World::with_servers(&[(0, B), (3, B), (5, B), (9, C)]);
    let mut part = table(stream, SERVERS, &[], &[(4, C)]);
    (part.sequence, part.header) = (2, None);
    part.kind = PageKind::Replace { from: 3, to: Some(9) };
    world.manager(Message::Table(part));
    assert_eq!(knows(&world), [0, 4, 9]);
}

#[test]
fn an_instance_that_moves_resets_its_connections_and_new_ones_go_where_it_is() {
    let (mut world, stream) = World::with_servers(&[(0, B)]);
    let tcp = |flags| crate::packet::samples::Sample {
        tcp_flags: flags,
        ..from_client(Family::V4, Kind::Tcp, 5, service_ip(DIALLED))
    };
    world.dial(&tcp(0x02));
    let answer = crate::packet::samples::Sample { kind: Kind::Tcp, tcp_flags: 0x12, ..from_server(Family::V4, 0, 5) };
    world.receive(B, &answer.build());
    world.dial(&tcp(0x10));
    world.delivered.clear();
    world.manager(Message::Table(patch(stream, 2, &[(0, C)], &[])));
    let [reset] = &world.delivered[..] else {
        panic!("{:?}", world.delivered);
    };
    let told = *View::parse(reset, Offload::NONE).unwrap().tcp().unwrap();
    assert_eq!((told.flags.0, told.seq, told.dst_port), (0x04, 0x0506_0708, 5));
    world.dial(&tcp(0x10));
    assert_eq!(world.delivered.len(), 2, "the next segment hears it again");
    assert_eq!(world.drops(DropReason::NoFlow), 1);
    world.forwarded.clear();
    world.dial(&tcp(0x02));
    assert_eq!(world.forwarded[0].0, C);
    world.run(LINGER + 2_000);
    assert!(world.peers.iter().any(|p| matches!(p, PeerNews::Gone { key: k, .. } if *k == key(B))));
}

#[test]
fn the_end_of_a_service_takes_everything_of_it_out() {
    let (mut world, stream) = World::with_servers(&[(0, B), (1, C)]);
    let gone = TablePage { kind: PageKind::Gone, ..patch(stream, 2, &[], &[]) };
    world.manager(Message::Table(gone.clone()));
    assert_eq!(world.acks(), [(stream, 2)]);
    assert_eq!((knows(&world), world.node.client().interests()), (vec![], 1));
    assert_eq!(world.node.router().flows.len(), 0);
    world.manager(Message::Table(gone));
    assert!(matches!(world.messages()[..], [Message::Forget { .. }]), "it is not known any more");
    world.dial(&dial(Family::V4, 3, DIALLED));
    let stream = world.resolve().stream;
    world.manager(Message::NotFound { stream });
    assert_eq!(world.drops(DropReason::UnknownService), 1);
}

#[test]
fn a_page_of_a_stream_that_was_never_opened_is_not_believed_and_given_back() {
    let mut world = World::ready();
    let page = table(4_711, SERVERS, &[DIALLED], &[(0, B)]);
    world.manager(Message::Table(page.clone()));
    assert!(knows(&world).is_empty());
    assert_eq!(world.messages(), [Message::Forget { subject: page.subject, stream: 4_711 }]);
}

#[test]
fn an_introduction_is_taken_as_it_comes_and_ends_by_itself() {
    let mut world = World::ready();
    world.welcoming = Some(1);
    let stream = SERVER_STREAMS + 3;
    world.manager(Message::Table(single(stream, SERVERS, 2, B)));
    assert_eq!(world.acks(), [(stream, 1)]);
    assert!(matches!(world.peers[..], [PeerNews::Known { .. }]));
    // So its first packet need not wait.
    world.receive(B, &from_server(Family::V6, 2, 7).build());
    assert_eq!((world.delivered.len(), world.node.waiting()), (1, 0));
    world.run(20_000);
    assert_eq!(knows(&world), [2]);
    world.said.clear();
    world.run(25_000);
    assert!(knows(&world).is_empty());
    let forget = Message::Forget { subject: subject_of(SERVERS, 2), stream };
    assert!(world.messages().contains(&forget));
}

#[test]
fn an_introduction_does_not_replace_a_stream_that_was_asked_for() {
    let (mut world, stream) = World::with_servers(&[(0, B)]);
    let mut page = table(SERVER_STREAMS + 1, SERVERS, &[DIALLED], &[]);
    world.manager(Message::Table(page.clone()));
    assert_eq!(knows(&world), [0]);
    world.manager(Message::Table(patch(stream, 2, &[(1, B)], &[])));
    assert_eq!(knows(&world), [0, 1]);
    // A later introduction replaces an earlier one.
    page = single(SERVER_STREAMS + 5, 2, 0, B);
    world.manager(Message::Table(page.clone()));
    page.stream += 1;
    world.said.clear();
    world.manager(Message::Table(page.clone()));
    assert_eq!(world.acks(), [(page.stream, 1)]);
}

#[test]
fn what_has_no_room_is_counted_and_the_rest_is_used() {
    let mut world = World::ready();
    world.dial(&dial(Family::V4, 1, DIALLED));
    let stream = world.resolve().stream;
    // One of the sixteen rows is the attached client's own.
    for (page, first) in [0, 8, 16].into_iter().enumerate() {
        let instances: Vec<_> = (first..first + 8).map(|n| (n, B)).collect();
        let mut part = table(stream, SERVERS, &[DIALLED], &instances);
        part.sequence = page as u32 + 1;
        part.kind = PageKind::Replace { from: first, to: Some(first + 8) };
        part.more = page < 2;
        world.manager(Message::Table(part));
    }
    assert_eq!(knows(&world), (0..15).collect::<Vec<_>>());
    assert_eq!(world.node.client().counters.table_full, 2);
    assert_eq!(world.forwarded.len(), 1);
    // A fifth service has no room at all; the others are not touched.
    for (n, service) in [(60, 2), (61, 3), (62, 4)] {
        world.dial(&dial(Family::V4, 1, n));
        let stream = world.resolve().stream;
        world.manager(Message::Table(table(stream, service, &[n], &[])));
    }
    assert_eq!(world.node.client().counters.table_full, 3);
    world.run(1_000);
    assert_eq!(world.drops(DropReason::ResolveTimeout), 1, "the application is told in time");
    world.forwarded.clear();
    world.dial(&dial(Family::V4, 2, DIALLED));
    assert_eq!(world.forwarded.len(), 1);
}

#[test]
fn a_part_of_a_large_table_does_not_take_out_who_is_followed_by_itself() {
    let (mut world, stream) = World::with_servers(&[(0, B), (1, B)]);
    world.manager(Message::Table(single(SERVER_STREAMS, SERVERS, 9, C)));
    world.receive(C, &from_server(Family::V4, 9, 5).build());
    assert_eq!(world.delivered.len(), 1);
    let mut part = table(stream, SERVERS, &[DIALLED], &[(1, B)]);
    part.sequence = 2;
    world.manager(Message::Table(part.clone()));
    assert_eq!(knows(&world), [1, 9]);
    world.receive(C, &from_server(Family::V4, 9, 5).build());
    assert_eq!(world.delivered.len(), 2);
    let mut gone = single(SERVER_STREAMS, SERVERS, 9, C);
    (gone.sequence, gone.kind) = (2, PageKind::Gone);
    world.manager(Message::Table(gone));
    assert_eq!(knows(&world), [1], "when it is withdrawn, it is");
    // The other way round the whole table says it.
    world.manager(Message::Table(patch(stream, 3, &[(9, C)], &[])));
    assert_eq!(knows(&world), [1, 9]);
    part.sequence = 4;
    world.manager(Message::Table(part));
    assert_eq!(knows(&world), [1]);
}

#[test]
fn an_instance_that_is_followed_by_itself_stays_when_its_service_is_not() {
    let (mut world, stream) = World::with_servers(&[(0, B), (1, C)]);
    world.manager(Message::Table(single(SERVER_STREAMS, SERVERS, 1, C)));
    world.receive(C, &from_server(Family::V4, 1, 9).build());
    let gone = TablePage { kind: PageKind::Gone, ..patch(stream, 2, &[], &[]) };
    world.manager(Message::Table(gone));
    assert_eq!(knows(&world), [1]);
    world.receive(C, &from_server(Family::V4, 1, 9).build());
    assert_eq!(world.delivered.len(), 2);
    // What is left is not the whole service: nothing is picked from it.
    world.said.clear();
    world.dial(&dial(Family::V4, 30, DIALLED));
    assert_eq!((world.resolves(), world.node.waiting()), (1, 1));
}
