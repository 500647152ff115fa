//! Peers that are started again.

use super::super::*;
use super::network::*;

#[test]
fn news_of_a_restart_sets_up_a_new_session_at_once() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    net.advance(Duration::from_secs(30));
    net.restart(1, 2);
    // Without the news the payload is sealed for a session that is gone.
    net.seal(0, 1, &payload(1));
    net.settle();
    assert_eq!(net.take_payloads(1, 0), [[0; 0]; 0]);
    net.take_events(0);
    net.configure(0, 1, true);
    net.seal(0, 1, &payload(2));
    net.settle();
    assert_eq!(net.take_payloads(1, 0), [payload(2)]);
    let row = net.row(0, 1);
    assert_eq!(net.take_events(0), [Event::Established(row)]);
    net.assert_talking(0, 1);
}

#[test]
fn a_restarted_peer_is_talked_to_at_once_however_young_the_last_handshake_is() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    net.restart(1, 2);
    net.configure(0, 1, true);
    // Our own handshake was just now, with the peer as it was: the library alone would not begin another one before 5 s.
    net.settle();
    net.seal(0, 1, &payload(1));
    net.settle();
    assert_eq!(net.take_payloads(1, 0), [payload(1)]);
    net.assert_talking(0, 1);
}

#[test]
fn news_that_comes_later_than_the_peers_own_handshake_breaks_nothing() {
    for own_handshake_before in [Duration::from_secs(60), Duration::from_secs(1)] {
        let mut net = Network::<4, 4>::new(2);
        net.assert_talking(0, 1);
        net.advance(own_handshake_before);
        net.restart(1, 2);
        net.seal(1, 0, &payload(1));
        net.settle();
        assert_eq!(net.take_payloads(0, 1), [payload(1)]);
        net.configure(0, 1, true);
        net.seal(1, 0, &payload(2));
        net.seal(0, 1, &payload(3));
        net.settle();
        assert_eq!(net.take_payloads(0, 1), [payload(2)], "what the peer sends in its new session is opened");
        assert_eq!(net.take_payloads(1, 0), [payload(3)]);
        net.assert_talking(0, 1);
    }
}

#[test]
fn news_of_a_restart_ends_a_handshake_with_the_peer_as_it_was() {
    let mut net = Network::<4, 4>::new(2);
    net.seal(0, 1, &payload(1));
    net.advance_but(Duration::from_secs(7), |_| true);
    net.restart(1, 2);
    net.configure(0, 1, true);
    net.advance(Duration::from_secs(5));
    net.assert_talking(0, 1);
}

#[test]
fn stamps_of_a_later_start_are_newer_however_short_it_runs() {
    let mut net = Network::<4, 4>::new(2);
    net.advance(Duration::from_secs(4_000));
    net.assert_talking(0, 1);
    let before = net.nodes[1].tunnels.counters;
    // The clock of the new start begins at zero, as that of a board does.
    net.restart(0, 2);
    assert_eq!(net.time_of(0), Instant::from_ticks(0));
    net.seal(0, 1, &payload(1));
    net.settle();
    assert_eq!(net.take_payloads(1, 0), [payload(1)]);
    assert_eq!(net.nodes[1].tunnels.counters.replayed, before.replayed);
}

#[test]
fn stamps_of_an_earlier_start_are_refused() {
    let mut net = Network::<4, 4>::new(2);
    net.restart(0, 7);
    net.assert_talking(0, 1);
    net.restart(0, 6);
    net.advance(Duration::from_secs(4_000));
    net.seal(0, 1, &payload(1));
    net.settle();
    assert_eq!(net.take_payloads(1, 0), [[0; 0]; 0]);
    assert_eq!(net.nodes[1].tunnels.counters.replayed, 1);
    let newest = 1 << 24;
    net.restart(0, newest);
    net.assert_talking(0, 1);
}

#[test]
fn a_restarted_peer_without_an_endpoint_costs_no_wake_ups() {
    let mut net = Network::<4, 4>::new(2);
    net.nodes[1].table[0].endpoint = None;
    // It is taken by its own initiation, and goes before it has shown where it is.
    net.seal(0, 1, &payload(1));
    net.settle_but(|datagram| datagram.kind() == 2);
    assert_eq!(net.nodes[1].tunnels.len(), (1, 0));
    net.advance_but(Duration::from_secs(300), |_| true);
    net.configure(1, 0, true);
    net.wakes = 0;
    net.advance_but(Duration::from_secs(3_600), |_| true);
    assert_eq!(net.wakes, 0);
}
