//! What the shell is told of other nodes, and what it tells of them.

use super::harness::*;
use crate::addr::Family;
use crate::ids::NodeKey;
use crate::node::PeerNews;
use crate::stats::DropReason;
use crate::sync::message::{Message, NodeRecord, PageKind, ResolveKey, TablePage};
use crate::table::samples::{endpoint, node_record};

fn known(news: &PeerNews) -> (u32, bool) {
    match news {
        PeerNews::Known { key, endpoint: at, restarted, .. } => {
            assert_ne!(*at, crate::ids::Endpoint::UNKNOWN);
            (u32::from(key.0[0]), *restarted)
        }
        PeerNews::Gone { key, .. } => panic!("{key:?} is gone"),
    }
}

#[test]
fn managers_are_peers_from_the_start_and_the_node_itself_is_none() {
    let world = World::start(profile(), &[MANAGER, STANDBY]);
    let peers: Vec<_> = world.peers.iter().map(known).collect();
    assert_eq!(peers, [(MANAGER, false), (STANDBY, false)]);
    let world = World::ready();
    assert_eq!(world.peers, [], "its own record in a table is no news");
}

#[test]
fn a_peer_is_told_of_before_its_first_packet_and_when_it_changes_and_when_it_goes() {
    let mut world = World::ready();
    world.dial(&dial(Family::V4, 1, DIALLED));
    let stream = world.resolve().stream;
    let page = table(stream, SERVERS, &[DIALLED], &[(0, B)]);
    world.manager(Message::Table(page.clone()));
    let [PeerNews::Known { peer, endpoint: at, .. }] = world.peers[..] else {
        panic!("{:?}", world.peers);
    };
    assert_eq!((world.forwarded[0].0, at), (B, endpoint(B)));
    world.peers.clear();
    let change = |sequence, record: NodeRecord| TablePage {
        sequence,
        kind: PageKind::Patch,
        header: None,
        nodes: [record].into_iter().collect(),
        ..page.clone()
    };
    let moved = NodeRecord { endpoint: endpoint(77), ..node_record(B) };
    world.manager(Message::Table(change(2, moved)));
    assert_eq!(world.peers, [PeerNews::Known { peer, key: key(B), endpoint: endpoint(77), restarted: false }]);
    world.peers.clear();
    let restarted = NodeRecord { epoch: 2, ..moved };
    world.manager(Message::Table(change(3, restarted)));
    assert_eq!(world.peers, [PeerNews::Known { peer, key: key(B), endpoint: endpoint(77), restarted: true }]);
    world.peers.clear();
    world.manager(Message::Table(change(4, restarted)));
    assert_eq!(world.peers, [], "nothing new");
    let mut gone = change(5, restarted);
    gone.kind = PageKind::Gone;
    world.manager(Message::Table(gone));
    world.run(LINGER - 2_000);
    assert_eq!(world.peers, [], "it may not know yet that nobody here needs it");
    world.run(4_000);
    assert_eq!(world.peers, [PeerNews::Gone { peer, key: key(B) }]);
    assert!(world.node.peer(peer).is_none());
    let before = world.drops(DropReason::UnknownPeer);
    let mut late = from_server(Family::V4, 0, 1).build();
    world.node.handle_payload(world.now, peer, &mut late);
    assert_eq!(world.drops(DropReason::UnknownPeer), before + 1);
}

#[test]
fn a_peer_that_does_not_answer_is_avoided_until_it_does_or_starts_again() {
    let (mut world, stream) = World::with_servers(&[(0, B), (1, C)]);
    let peer = world.node.find_peer(&key(B)).unwrap();
    let mut next = 100;
    let mut dial_twice = |world: &mut World| {
        world.forwarded.clear();
        for _ in 0..2 {
            next += 1;
            world.dial(&dial(Family::V4, next, DIALLED));
        }
        let mut to: Vec<_> = world.forwarded.iter().map(|(to, _)| *to).collect();
        to.sort_unstable();
        to
    };
    assert_eq!(dial_twice(&mut world), [B, C]);
    world.node.peer_unreachable(peer);
    assert_eq!(dial_twice(&mut world), [C, C]);
    world.node.peer_established(world.now, peer);
    assert_eq!(dial_twice(&mut world), [B, C]);
    world.node.peer_unreachable(peer);
    let again = TablePage {
        sequence: 2,
        kind: PageKind::Patch,
        header: None,
        nodes: [NodeRecord { epoch: 9, ..node_record(B) }].into_iter().collect(),
        ..table(stream, SERVERS, &[], &[(0, B)])
    };
    world.manager(Message::Table(again));
    assert_eq!(dial_twice(&mut world), [B, C]);
    world.node.peer_unreachable(crate::slots::RowRef::NONE);
}

#[test]
fn a_new_tunnel_to_the_manager_is_used_at_once_when_the_lease_is_over() {
    let mut world = World::ready();
    let peer = world.node.find_peer(&key(MANAGER)).unwrap();
    world.node.peer_established(world.now, peer);
    world.settle();
    assert_eq!(world.messages(), [], "all is well");
    world.run(11_000);
    world.said.clear();
    world.node.peer_established(world.now, peer);
    world.settle();
    assert!(matches!(world.messages()[..], [Message::Hello(_)]));
}

#[test]
fn an_unknown_key_is_asked_about_and_becomes_a_peer_when_it_is_a_nodes() {
    let mut world = World::ready();
    let asked = |world: &mut World| -> Vec<(u32, NodeKey)> {
        let messages = world.messages();
        let questions = messages.iter().filter_map(|m| match m {
            Message::Resolve(resolve) => match resolve.key {
                ResolveKey::Node(key) => Some((resolve.stream, key)),
                _ => None,
            },
            _ => None,
        });
        questions.collect()
    };
    world.node.unknown_key(world.now, key(B));
    world.settle();
    let questions = asked(&mut world);
    let [(stream, about)] = questions[..] else {
        panic!("{questions:?}");
    };
    assert_eq!(about, key(B));
    // Strangers can make as many keys as they like.
    for stranger in 100..200 {
        world.node.unknown_key(world.now, key(stranger));
    }
    world.settle();
    assert_eq!(asked(&mut world), []);
    world.manager(Message::Table(single(stream, SERVERS, 3, B)));
    let peers: Vec<_> = world.peers.iter().map(known).collect();
    assert_eq!(peers, [(B, false)]);
    world.run(5_000);
    world.said.clear();
    world.node.unknown_key(world.now, key(C));
    world.settle();
    let (stream, _) = asked(&mut world)[0];
    world.manager(Message::NotFound { stream });
    world.run(500);
    assert_eq!(asked(&mut world), [], "it is nobody's");
    assert_eq!((world.delivered.len(), world.peers.len()), (0, 1));
}
