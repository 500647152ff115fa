//! Wake-ups: as few as there have to be, and never without an end.

use wireguard_sans_io::testing::FailingRng;

use super::super::*;
use super::network::*;

/// WireGuard forgets sessions that are older than this (three times REJECT_AFTER_TIME).
const DISCARD: Duration = Duration::from_secs(540);

#[test]
fn an_idle_pair_wakes_a_few_times_and_is_quiet_then() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    net.wakes = 0;
    net.advance(Duration::from_secs(3_600));
    assert!(net.wakes <= 4, "{} in an hour", net.wakes);
    assert_eq!((net.due(0), net.due(1)), (None, None), "nothing is left to do");
    net.assert_talking(0, 1);
}

#[test]
fn a_one_way_talk_wakes_each_side_rarely() {
    let mut net = Network::<4, 4>::new(2);
    for _ in 0..120 {
        net.seal(0, 1, &payload(1));
        net.advance(Duration::from_secs(30));
    }
    assert_eq!(net.take_payloads(1, 0).len(), 120);
    // A keepalive of the receiver's for each payload, 10 s later, and now and then a handshake.
    assert!(net.wakes <= 120 * 2, "{} in an hour", net.wakes);
}

#[test]
fn a_stream_of_payloads_one_way_is_answered_every_ten_seconds() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    net.advance(Duration::from_secs(11));
    net.log.clear();
    for _ in 0..100 {
        net.seal(0, 1, &payload(1));
        net.advance(Duration::from_secs(1));
    }
    let answers: Vec<_> = net.log.iter().filter(|datagram| datagram.from == address(2)).collect();
    assert!((9..=10).contains(&answers.len()), "{}", answers.len());
    assert!(answers.iter().all(|datagram| datagram.bytes.len() == 32), "each is a keepalive");
}

#[test]
fn a_peer_that_is_gone_costs_a_handshake_every_five_seconds_for_ninety_and_nothing_then() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    net.advance(Duration::from_secs(11));
    net.log.clear();
    net.wakes = 0;
    net.seal(0, 1, &payload(1));
    net.advance_but(Duration::from_secs(3_600), |_| true);
    let initiations = net.log.iter().filter(|datagram| datagram.kind() == 1).count();
    assert!((17..=19).contains(&initiations), "{initiations}");
    assert!(net.wakes <= 30, "{} in an hour", net.wakes);
    assert_eq!(net.due(0), None);
}

#[test]
fn a_handshake_with_a_peer_that_has_nothing_to_say_is_not_repeated() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    net.advance(Duration::from_secs(11));
    net.restart(1, 2);
    net.log.clear();
    net.seal(0, 1, &payload(1));
    net.wakes = 0;
    net.advance(Duration::from_secs(3_600));
    assert_eq!(net.log.iter().filter(|datagram| datagram.kind() == 1).count(), 1, "the session is set up anew, once");
    assert!(net.wakes <= 4, "{} in an hour", net.wakes);
    net.assert_talking(1, 0);
}

#[test]
fn an_established_tunnel_that_is_idle_has_nothing_due_before_its_session_ends() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    let began = net.now;
    net.advance(Duration::from_secs(11));
    for node in 0..2 {
        assert_eq!(net.due(node), Some(began + DISCARD), "of node {node}");
    }
}

#[test]
fn an_initiation_that_nobody_confirms_leaves_nothing_behind() {
    let mut net = Network::<4, 4>::new(2);
    net.seal(0, 1, &payload(1));
    net.settle_but(|datagram| datagram.kind() == 2);
    net.wakes = 0;
    net.advance_but(Duration::from_secs(3_600), |_| true);
    assert_eq!(net.due(1), None);
    assert_eq!(net.nodes[1].tunnels.len(), (1, 0));
    net.assert_talking(1, 0);
}

/// Moves the time of one node's tunnels from timeout to timeout, without entropy. Returns how often in how long.
fn wakes_without_entropy(net: &mut Network<4, 4>, during: Duration) -> usize {
    let (until, mut wakes, mut out) = (net.now + during, 0, [0; DATAGRAM_MAX]);
    loop {
        let (now, tunnels) = (net.time_of(0), &mut net.nodes[0].tunnels);
        tunnels.handle_timeout(now);
        while tunnels.poll_transmit(now, &mut out, &mut FailingRng).is_some() {}
        match tunnels.poll_timeout(now) {
            Some(due) if due <= until => net.now = due.max(net.now),
            _ => return wakes,
        }
        wakes += 1;
        assert!(wakes < 10_000, "it does not sleep");
    }
}

#[test]
fn without_entropy_nothing_is_tried_more_than_once_a_second_and_all_is_well_when_it_is_back() {
    // A handshake that can't be begun.
    let mut net = Network::<4, 4>::new(2);
    let (now, key) = (net.time_of(0), net.nodes[1].key);
    let (peer, mut out) = (net.nodes[0].peer(&key), [0; DATAGRAM_MAX]);
    let sent = net.nodes[0].tunnels.seal(now, peer, Local::Own, &payload(1), &mut out, &mut FailingRng);
    assert_eq!(sent, None);
    let wakes = wakes_without_entropy(&mut net, Duration::from_secs(10));
    assert!((5..=11).contains(&wakes), "{wakes} in 10 s");
    assert!(net.nodes[0].tunnels.counters.no_entropy > 1);
    net.advance(Duration::from_secs(1));
    assert_eq!(net.take_payloads(1, 0), [payload(1)], "what waited is sent");

    // One that has to be repeated.
    let mut net = Network::<4, 4>::new(2);
    net.seal(0, 1, &payload(1));
    net.wire.clear();
    let wakes = wakes_without_entropy(&mut net, Duration::from_secs(10));
    assert!((5..=11).contains(&wakes), "{wakes} in 10 s");
    net.advance(Duration::from_secs(1));
    assert_eq!(net.take_payloads(1, 0), [payload(1)]);
}
