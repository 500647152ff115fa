//! More peers than tunnels.

use super::super::*;
use super::network::*;
use crate::tunnels::slot::{IDLE_AFTER, MANAGER_IDLE_AFTER};

/// Node 0 has room for two tunnels and knows `count - 1` peers; the first `managers` of them are its managers.
fn crowd(count: u8, managers: usize) -> Network<2, 4> {
    let mut net = Network::<2, 4>::new(count);
    let keys: Vec<_> = net.nodes[1..=managers].iter().map(|node| node.key).collect();
    net.nodes[0].table.iter_mut().for_each(|peer| peer.is_manager = keys.contains(&peer.key));
    net
}

fn has(net: &Network<2, 4>, peers: &[usize]) -> bool {
    (1..net.nodes.len()).all(|peer| net.nodes[0].tunnels.has(&net.nodes[peer].key) == peers.contains(&peer))
}

#[test]
fn the_idle_peer_used_longest_ago_makes_room() {
    let mut net = crowd(5, 0);
    net.assert_talking(0, 1);
    net.advance(Duration::from_secs(1));
    net.assert_talking(0, 2);
    net.advance(IDLE_AFTER);
    net.seal(0, 1, &payload(1));
    net.settle();
    net.assert_talking(0, 3);
    assert!(has(&net, &[1, 3]), "node 2 was used longest ago now");
    assert_eq!(net.nodes[0].tunnels.counters.peers_evicted, 1);
    // By its own initiation as well.
    net.advance(IDLE_AFTER);
    net.assert_talking(0, 1);
    net.assert_talking(4, 0);
    assert!(has(&net, &[1, 4]));
}

#[test]
fn without_an_idle_peer_the_newcomer_is_refused_and_counted_and_nobody_else_notices() {
    let mut net = crowd(4, 0);
    net.assert_talking(0, 1);
    net.assert_talking(0, 2);
    net.take_events(0);
    let refused = net.row(0, 3);
    (0..20).for_each(|n| net.seal(0, 3, &payload(n)));
    net.settle();
    assert_eq!(net.take_events(0), [Event::Refused(refused)], "said once however many payloads it was");
    assert_eq!(net.nodes[0].tunnels.counters.peers_full, 20);
    assert_eq!(net.nodes[0].tunnels.counters.peers_evicted, 0);
    net.assert_talking(0, 1);
    net.assert_talking(0, 2);

    // The same from the other side: no answer, and it gets through when there is room.
    net.seal(3, 0, &payload(7));
    net.settle();
    assert_eq!(net.nodes[0].tunnels.counters.peers_full, 21);
    assert!(has(&net, &[1, 2]));
    net.advance(IDLE_AFTER + Duration::from_secs(6));
    assert_eq!(net.take_payloads(0, 3), [payload(7)]);
    assert!(net.nodes[0].tunnels.has(&net.nodes[3].key));
}

#[test]
fn a_manager_makes_room_for_nobody_and_gets_it_from_anybody() {
    let mut net = crowd(4, 1);
    net.assert_talking(0, 2);
    net.assert_talking(0, 3);
    net.assert_talking(0, 1);
    assert!(has(&net, &[1, 3]), "the peer used longest ago made room, idle or not");
    net.advance(IDLE_AFTER);
    net.assert_talking(0, 2);
    net.advance(IDLE_AFTER);
    net.assert_talking(0, 3);
    assert!(has(&net, &[1, 3]), "the manager was used longest ago");
    assert_eq!(net.nodes[0].tunnels.counters.peers_evicted, 3);
}

#[test]
fn managers_that_are_not_spoken_to_any_more_do_not_fill_the_room() {
    let mut net = crowd(4, 2);
    net.assert_talking(0, 1);
    net.assert_talking(0, 2);
    net.advance(MANAGER_IDLE_AFTER - Duration::from_secs(1));
    net.assert_talking(0, 2);
    net.seal(0, 3, &payload(1));
    assert!(has(&net, &[1, 2]));
    net.advance(Duration::from_secs(1));
    net.assert_talking(0, 3);
    assert!(has(&net, &[2, 3]));
}

#[test]
fn nobody_makes_room_for_a_peer_that_is_nowhere() {
    let mut net = crowd(4, 0);
    net.assert_talking(0, 1);
    net.assert_talking(0, 2);
    net.advance(IDLE_AFTER);
    let key = net.nodes[3].key;
    let peer = net.nodes[0].table.iter_mut().find(|peer| peer.key == key).expect("known");
    peer.endpoint = None;
    net.seal(0, 3, &payload(1));
    assert!(has(&net, &[1, 2]) && net.wire.is_empty());
    assert_eq!(net.nodes[0].tunnels.counters.no_endpoint, 1);
    // It makes itself known.
    net.assert_talking(3, 0);
}

#[test]
fn what_waits_for_a_tunnel_that_makes_room_is_counted_as_lost() {
    let mut net = crowd(4, 0);
    net.seal(0, 1, &payload(1));
    net.seal(0, 1, &payload(2));
    net.advance_but(IDLE_AFTER, |datagram| datagram.to == address(2));
    net.assert_talking(0, 2);
    net.assert_talking(0, 3);
    assert!(has(&net, &[2, 3]));
    assert_eq!(net.nodes[0].tunnels.counters.queue_lost, 2);
}

#[test]
fn a_peer_that_the_engine_has_forgotten_is_opened_under_no_row_and_makes_room() {
    let mut net = crowd(4, 1);
    net.assert_talking(0, 1);
    net.assert_talking(0, 2);
    let row = net.row(0, 1);
    net.nodes[0].tunnels.forget(row);
    net.seal(1, 0, &payload(1));
    net.settle();
    let key = net.nodes[1].key;
    let got = Delivery { row: RowRef::NONE, key, payload: payload(1) };
    assert_eq!(net.nodes[0].inbox.pop(), Some(got));
    net.advance(IDLE_AFTER);
    net.assert_talking(0, 2);
    net.assert_talking(0, 3);
    assert!(has(&net, &[2, 3]));
}

#[test]
fn a_tunnel_that_is_removed_is_set_up_again_by_the_next_payload() {
    let mut net = crowd(3, 0);
    net.assert_talking(0, 1);
    net.advance(Duration::from_secs(1));
    let key = net.nodes[1].key;
    net.nodes[0].tunnels.remove(&key);
    assert!(has(&net, &[]));
    net.assert_talking(0, 1);
}
