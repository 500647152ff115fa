//! Sessions: how they begin, what waits for them, and how they are renewed.

use super::super::*;
use super::network::*;
use crate::tunnels::queue::{QUEUE_AGE, QUEUE_PAYLOADS};
use crate::tunnels::slot::UNREACHABLE_AFTER;

#[test]
fn payloads_that_waited_arrive_in_order_after_one_handshake() {
    let mut net = Network::<4, 4>::new(2);
    (1..=5).for_each(|n| net.seal(0, 1, &payload(n)));
    net.settle();
    assert_eq!(net.take_payloads(1, 0), (1..=5).map(payload).collect::<Vec<_>>());
    assert_eq!(net.log.iter().filter(|datagram| datagram.kind() == 1).count(), 1);
    let (row, other) = (net.row(0, 1), net.row(1, 0));
    assert_eq!(net.take_events(0), [Event::Established(row)]);
    assert_eq!(net.take_events(1), [Event::Established(other)]);
    for node in &net.nodes {
        assert_eq!(node.tunnels.counters.handshakes, 1, "each side counts the session");
        assert_eq!(node.tunnels.len(), (1, 1));
        assert_eq!(node.tunnels.counters.queue_lost, 0);
    }
    assert_eq!(net.nodes[0].tunnels.counters.sealed, 5);
    net.assert_talking(0, 1);
}

#[test]
fn a_payload_does_not_overtake_those_that_wait() {
    let mut net = Network::<4, 4>::new(2);
    net.seal(0, 1, &payload(1));
    net.seal(0, 1, &payload(2));
    // The response comes, and before what waits has left the application sends again.
    assert!(net.step() && net.step());
    net.seal(0, 1, &payload(3));
    net.settle();
    assert_eq!(net.take_payloads(1, 0), [payload(1), payload(2), payload(3)]);
}

#[test]
fn simultaneous_handshakes_end_in_talk() {
    let mut net = Network::<4, 4>::new(2);
    for n in 1..=3 {
        net.seal(0, 1, &payload(n));
        net.seal(1, 0, &payload(10 + n));
    }
    net.settle();
    assert_eq!(net.take_payloads(1, 0), [payload(1), payload(2), payload(3)]);
    assert_eq!(net.take_payloads(0, 1), [payload(11), payload(12), payload(13)]);
    net.assert_talking(0, 1);
    net.advance(Duration::from_secs(30));
    assert_eq!(net.log.iter().filter(|datagram| datagram.kind() == 1).count(), 2, "nobody begins again");
}

#[test]
fn the_join_key_first_and_the_own_key_then() {
    let mut net = Network::<4, 4>::new(2);
    // The manager (node 1) knows the join key as a peer like any other.
    let join = StaticSecret::from_bytes(secret(77));
    let join_key = NodeKey(*join.public_key().as_bytes());
    let node = &mut net.nodes[0];
    *node.tunnels = Tunnels::new();
    assert_eq!(node.tunnels.start(StaticSecret::from_bytes(secret(1)), Some(join), 1), node.key);
    assert!(node.tunnels.can_join());
    node.table[0].is_manager = true;
    let joiner = Peer { key: join_key, row: RowRef::NONE, endpoint: None, is_manager: false };
    net.nodes[1].table.push(joiner);

    net.seal_as(0, 1, Local::Join, &payload(1));
    net.settle();
    let Delivery { key, payload: got, .. } = net.nodes[1].inbox.pop().expect("it came");
    assert_eq!((key, got), (join_key, payload(1)));
    net.deliver_back(&joiner, &payload(2));
    assert_eq!(net.take_payloads(0, 1), [payload(2)], "the manager answers under its own row");

    // The tunnel of the join key ends with the first payload under the own key; the manager sees another peer.
    net.seal_as(0, 1, Local::Own, &payload(3));
    net.settle();
    assert_eq!(net.take_payloads(1, 0), [payload(3)]);
    assert_eq!(net.nodes[0].tunnels.len(), (1, 1));
    net.assert_talking(0, 1);
}

impl Network<4, 4> {
    /// Has node 1 send a payload to a peer that is not in its table.
    fn deliver_back(&mut self, peer: &Peer, payload: &[u8]) {
        let (now, mut out) = (self.time_of(1), [0; DATAGRAM_MAX]);
        let node = &mut self.nodes[1];
        let sent = node.tunnels.seal(now, *peer, Local::Own, payload, &mut out, &mut node.rng).expect("a session");
        self.deliver(0, address(2), &out[..sent.len]);
    }
}

#[test]
fn a_lost_initiation_is_repeated_after_five_seconds() {
    for lost in [1, 2] {
        let mut net = Network::<4, 4>::new(2);
        net.seal(0, 1, &payload(1));
        net.settle_but(|datagram| datagram.kind() == lost);
        assert_eq!(net.take_payloads(1, 0), [[0; 0]; 0]);
        net.advance(Duration::from_millis(4_990));
        assert_eq!(net.take_payloads(1, 0), [[0; 0]; 0], "message {lost}");
        net.advance(Duration::from_millis(400));
        assert_eq!(net.take_payloads(1, 0), [payload(1)], "message {lost}");
        let row = net.row(0, 1);
        assert_eq!(net.take_events(0), [Event::Established(row)]);
    }
}

#[test]
fn a_peer_that_does_not_answer_is_reported_once_and_again_when_it_is_heard() {
    let mut net = Network::<4, 4>::new(2);
    let row = net.row(0, 1);
    net.seal(0, 1, &payload(1));
    net.advance_but(UNREACHABLE_AFTER - Duration::from_millis(1), |_| true);
    assert_eq!(net.take_events(0), []);
    net.advance_but(Duration::from_millis(1), |_| true);
    assert_eq!(net.take_events(0), [Event::Unreachable(row)]);
    net.advance_but(Duration::from_secs(70), |_| true);
    assert_eq!(net.take_events(0), [], "the same handshake is not reported again");
    assert_eq!(net.nodes[0].tunnels.counters.queue_lost, 1, "what waited is stale by now");
    net.seal(0, 1, &payload(2));
    net.advance(Duration::from_secs(6));
    assert_eq!(net.take_events(0), [Event::Established(row)]);
    assert_eq!(net.take_payloads(1, 0), [payload(2)]);
}

#[test]
fn a_peer_that_goes_is_reported_and_its_return_too() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    let row = net.row(0, 1);
    net.take_events(0);
    net.advance(Duration::from_secs(1));
    net.seal(0, 1, &payload(1));
    net.advance_but(Duration::from_secs(60), |_| true);
    assert_eq!(net.take_events(0), [Event::Unreachable(row)]);
    net.advance(Duration::from_secs(6));
    assert_eq!(net.take_events(0), [Event::Established(row)]);
    net.assert_talking(0, 1);
}

#[test]
fn a_peer_that_has_lost_the_session_is_found_out_however_often_it_is_sent_to() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    net.advance(Duration::from_secs(6));
    net.restart(1, 2);
    for second in 0..17 {
        net.seal(0, 1, &payload(second));
        net.advance(Duration::from_secs(1));
    }
    assert_eq!(net.take_payloads(1, 0), [payload(15), payload(16)]);
    net.assert_talking(1, 0);
}

#[test]
fn a_handshake_that_was_given_up_is_begun_anew_by_the_next_payload() {
    let mut net = Network::<4, 4>::new(2);
    net.seal(0, 1, &payload(1));
    net.advance_but(Duration::from_secs(200), |_| true);
    assert_eq!(net.due(0), None, "it has been given up");
    net.seal(0, 1, &payload(2));
    net.settle();
    assert_eq!(net.take_payloads(1, 0), [payload(2)]);
}

#[test]
fn the_first_payload_after_the_session_has_expired_waits_for_the_next_one() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    net.advance(Duration::from_secs(100));
    // A board that sleeps is not asked anything meanwhile.
    net.now += Duration::from_secs(100);
    net.seal(0, 1, &payload(9));
    net.settle();
    assert_eq!(net.take_payloads(1, 0), [payload(9)]);
    assert_eq!(net.nodes[0].tunnels.counters.queue_lost, 0);
}

#[test]
fn a_handshake_that_is_dropped_with_the_old_sessions_is_begun_again() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    // The library forgets everything 540 s after the last session began, a handshake that is under way too.
    net.advance(Duration::from_secs(538));
    net.seal(0, 1, &payload(9));
    net.settle_but(|_| true);
    net.advance(Duration::from_secs(7));
    assert_eq!(net.take_payloads(1, 0), [payload(9)]);
}

#[test]
fn sessions_are_renewed_under_traffic_without_a_loss() {
    let mut net = Network::<4, 4>::new(2);
    for second in 0..600_u32 {
        let sent: Vec<u8> = second.to_le_bytes().repeat(4);
        net.seal(0, 1, &sent);
        net.advance(Duration::from_secs(1));
        assert_eq!(net.take_payloads(1, 0), [sent], "after {second} s");
    }
    let handshakes = net.nodes[0].tunnels.counters.handshakes;
    assert_eq!(handshakes, 5, "every 120 s one");
    assert_eq!(net.nodes[1].tunnels.counters.handshakes, handshakes);
    assert_eq!(net.take_events(0).len(), 1, "a renewal is no news");
}

#[test]
fn a_peer_is_followed_to_where_it_is_heard_and_not_to_where_it_is_claimed() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    let moved = SocketAddrV4::new(*address(1).ip(), 4711);
    // What proves nothing moves nothing.
    net.seal(0, 1, &payload(1));
    let datagram = net.wire.pop_back().expect("sealed");
    let mut forged = datagram.bytes.clone();
    *forged.last_mut().expect("not empty") ^= 1;
    net.deliver(1, moved, &forged);
    net.seal(1, 0, &payload(2));
    assert_eq!(net.wire.pop_back().map(|datagram| datagram.to), Some(address(1)));
    // What is authentic does.
    net.deliver(1, moved, &datagram.bytes);
    net.seal(1, 0, &payload(3));
    assert_eq!(net.wire.pop_back().map(|datagram| datagram.to), Some(moved));
    // Hearing from the manager what it said before changes nothing; what is new does.
    net.configure(1, 0, false);
    net.seal(1, 0, &payload(4));
    assert_eq!(net.wire.pop_back().map(|datagram| datagram.to), Some(moved));
    let news = SocketAddrV4::new(*address(1).ip(), 4712);
    net.nodes[1].table[0].endpoint = Some(news);
    net.configure(1, 0, false);
    net.seal(1, 0, &payload(5));
    assert_eq!(net.wire.pop_back().map(|datagram| datagram.to), Some(news));
}

#[test]
fn what_waits_is_bounded_in_number_and_time_and_counted() {
    let mut net = Network::<4, 4>::new(2);
    (0..20).for_each(|n| net.seal(0, 1, &payload(n)));
    let lost = 20 - QUEUE_PAYLOADS as u32;
    assert_eq!(net.nodes[0].tunnels.counters.queue_lost, lost, "the oldest gave way");
    net.settle();
    let newest: Vec<_> = (lost as u8..20).map(payload).collect();
    assert_eq!(net.take_payloads(1, 0), newest);

    let mut net = Network::<4, 4>::new(2);
    net.seal(0, 1, &payload(1));
    net.advance_but(QUEUE_AGE - Duration::from_secs(1), |_| true);
    net.seal(0, 1, &payload(2));
    net.advance_but(Duration::from_secs(2), |_| true);
    net.advance(Duration::from_secs(6));
    assert_eq!(net.take_payloads(1, 0), [payload(2)], "the first has waited too long");
    assert_eq!(net.nodes[0].tunnels.counters.queue_lost, 1);
}

#[test]
fn a_payload_of_any_length_up_to_the_longest_arrives() {
    let mut net = Network::<4, 4>::new(2);
    for len in (1..=PAYLOAD_MAX).step_by(7).chain([PAYLOAD_MAX]) {
        let sent: Vec<u8> = (0..len).map(|n| n as u8 | 1).collect();
        net.seal(0, 1, &sent);
        net.settle();
        let got = net.take_payloads(1, 0).pop().expect("it came");
        assert_eq!(got[..len], sent);
        assert!(got.len() < len + 16 && got[len..].iter().all(|byte| *byte == 0), "padding of {len}");
    }
    net.seal(0, 1, &[1; PAYLOAD_MAX + 1]);
    assert!(net.wire.is_empty(), "one byte more is refused");
}

#[test]
fn the_way_is_live_only_while_the_peer_is_heard() {
    let mut net = Network::<4, 4>::new(2);
    let way = |net: &mut Network<4, 4>| {
        net.seal(0, 1, &payload(1));
        let way = net.log.last().expect("sent").way;
        net.settle();
        way
    };
    assert!(matches!(way(&mut net), Way::Unsure(_)), "nobody has been heard");
    net.assert_talking(0, 1);
    net.advance(Duration::from_secs(54));
    assert_eq!(way(&mut net), Way::Live);
    // Its keepalive is the last that is heard, 10 s later.
    net.advance(Duration::from_secs(10 + 54));
    assert_eq!(way(&mut net), Way::Live);
    net.advance(Duration::from_secs(10 + 56));
    assert!(matches!(way(&mut net), Way::Unsure(_)));
    let response = net.log.iter().find(|datagram| datagram.kind() == 2).expect("a response");
    assert_eq!(response.way, Way::Stray, "whoever sent the initiation has not proven its address");
}
