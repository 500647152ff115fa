//! The simulated tunnel against WireGuard's rules.

use super::*;

const A: NodeKey = NodeKey([1; 32]);
const B: NodeKey = NodeKey([2; 32]);

fn at(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 50103))
}

/// Two ends, and a wire that delivers at once what the test lets through.
struct Pair {
    now: Instant,
    a: Tunnels,
    b: Tunnels,
    /// Payloads that came out at B.
    at_b: Vec<Vec<u8>>,
    at_a: Vec<Vec<u8>>,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            now: Instant::from_secs(1),
            a: Tunnels::new(A, 0, Random::new(1, 1)),
            b: Tunnels::new(B, 0, Random::new(2, 2)),
            at_b: Vec::new(),
            at_a: Vec::new(),
        };
        pair.a.add_peer(pair.now, B, Some(at(2)));
        pair.b.add_peer(pair.now, A, Some(at(1)));
        pair
    }

    fn exchange(&mut self) {
        loop {
            if let Some((to, frame)) = self.a.poll_transmit() {
                assert_eq!(to, at(2));
                self.at_b.extend(self.b.open(self.now, at(1), frame).map(|(_, payload)| payload));
            } else if let Some((to, frame)) = self.b.poll_transmit() {
                assert_eq!(to, at(1));
                self.at_a.extend(self.a.open(self.now, at(2), frame).map(|(_, payload)| payload));
            } else {
                return;
            }
        }
    }

    /// Lets time pass; `deliver` says whether the wire does.
    fn run(&mut self, time: Duration, deliver: bool) -> Vec<(Instant, Frame)> {
        let end = self.now.saturating_add(time);
        let mut lost = Vec::new();
        while let Some(due) =
            [self.a.deadline(), self.b.deadline()].into_iter().flatten().min().filter(|due| *due <= end)
        {
            self.now = self.now.max(due);
            self.a.handle_timeout(self.now);
            self.b.handle_timeout(self.now);
            if deliver {
                self.exchange();
            }
            lost.extend(std::iter::from_fn(|| self.a.poll_transmit()).map(|(_, frame)| (self.now, frame)));
        }
        self.now = end;
        lost
    }
}

fn events(tunnels: &mut Tunnels) -> Vec<Event> {
    std::iter::from_fn(|| tunnels.poll_event()).collect()
}

#[test]
fn payloads_wait_for_the_handshake_and_come_in_order() {
    let mut pair = Pair::new();
    for n in 0..20 {
        pair.a.send(pair.now, B, &[n; 16]);
    }
    pair.exchange();
    assert_eq!(pair.at_b, (0..20).map(|n| vec![n; 16]).collect::<Vec<_>>());
    assert_eq!(pair.a.counters.initiations_sent, 1);
    assert_eq!(events(&mut pair.a), [Event::Established(B)]);
    assert_eq!(events(&mut pair.b), [Event::Established(A)]);
}

#[test]
fn a_stranger_gets_no_answer_until_its_key_becomes_known_within_five_seconds() {
    for (wait, is_answered) in [(4, true), (5, false)] {
        let mut pair = Pair::new();
        pair.b.remove_peer(&A);
        pair.a.send(pair.now, B, b"0123456789abcdef");
        pair.exchange();
        assert_eq!(events(&mut pair.b), [Event::Unknown(A)]);
        assert!(pair.at_b.is_empty());
        pair.now = pair.now.saturating_add(Duration::from_secs(wait));
        pair.b.add_peer(pair.now, A, None);
        pair.exchange();
        assert_eq!(!pair.at_b.is_empty(), is_answered, "after {wait} s");
    }
}

#[test]
fn an_unanswered_handshake_is_repeated_every_five_seconds_reported_after_eight_and_given_up_after_ninety() {
    let mut pair = Pair::new();
    pair.a.send(pair.now, B, b"x");
    while pair.a.poll_transmit().is_some() {}
    let lost = pair.run(Duration::from_secs(8), false);
    assert_eq!(lost.len(), 1);
    assert!((5_000..=5_333).contains(&(lost[0].0.as_millis() - 1_000)), "{lost:?}");
    assert_eq!(events(&mut pair.a), [Event::Unreachable(B)]);
    let lost = pair.run(Duration::from_secs(600), false);
    assert!((14..=17).contains(&lost.len()), "{}", lost.len());
    assert!(lost.last().unwrap().0 <= Instant::from_secs(92));
    assert_eq!(pair.a.counters.queue_lost, 1);
    assert_eq!(pair.a.deadline(), None, "nothing is left to do");
}

#[test]
fn a_replayed_initiation_and_a_replayed_message_are_refused() {
    let mut pair = Pair::new();
    pair.a.send(pair.now, B, b"x");
    let (_, initiation) = pair.a.poll_transmit().unwrap();
    pair.b.open(pair.now, at(1), initiation.clone());
    pair.exchange();
    pair.b.open(pair.now, at(9), initiation);
    assert_eq!(pair.b.counters.replayed_initiations, 1);
    assert_eq!(pair.b.poll_transmit(), None);
    pair.a.send(pair.now, B, b"y");
    let (_, message) = pair.a.poll_transmit().unwrap();
    assert!(pair.b.open(pair.now, at(1), message.clone()).is_some());
    assert!(pair.b.open(pair.now, at(1), message).is_none());
    // A later start of A must not use a stamp of an earlier one.
    let mut again = Tunnels::new(A, pair.a.last_stamp(), Random::new(3, 3));
    again.add_peer(pair.now, B, Some(at(2)));
    again.send(pair.now, B, b"z");
    let (_, initiation) = again.poll_transmit().unwrap();
    pair.b.open(pair.now, at(1), initiation);
    assert_eq!(pair.b.counters.replayed_initiations, 1, "it is taken");
}

#[test]
fn a_peer_that_lost_its_session_is_noticed_fifteen_seconds_after_something_was_sent() {
    let mut pair = Pair::new();
    pair.a.send(pair.now, B, b"x");
    pair.exchange();
    // Until the keepalive that answers it.
    pair.run(Duration::from_secs(12), true);
    pair.b = Tunnels::new(B, pair.b.last_stamp(), Random::new(4, 4));
    pair.b.add_peer(pair.now, A, Some(at(1)));
    pair.at_b.clear();
    let before = pair.a.counters.initiations_sent;
    pair.a.send(pair.now, B, b"lost");
    pair.exchange();
    pair.run(Duration::from_millis(14_999), true);
    assert_eq!(pair.a.counters.initiations_sent, before);
    pair.run(Duration::from_millis(400), true);
    assert_eq!(pair.a.counters.initiations_sent, before + 1);
    pair.a.send(pair.now, B, b"y");
    pair.exchange();
    assert_eq!(pair.at_b.len(), 1, "what was sent into the dead session is lost");
}

#[test]
fn a_peer_that_is_known_to_have_restarted_costs_no_wait() {
    let mut pair = Pair::new();
    pair.a.send(pair.now, B, b"x");
    pair.exchange();
    pair.b = Tunnels::new(B, pair.b.last_stamp(), Random::new(4, 4));
    pair.b.add_peer(pair.now, A, Some(at(1)));
    pair.now = pair.now.saturating_add(Duration::from_secs(1));
    pair.a.restart_handshake(pair.now, B);
    pair.a.send(pair.now, B, b"y");
    pair.at_b.clear();
    pair.exchange();
    assert_eq!(pair.at_b.len(), 1);
}

#[test]
fn silence_after_data_is_broken_by_a_keepalive_and_an_idle_pair_says_nothing_for_ever() {
    let mut pair = Pair::new();
    pair.a.send(pair.now, B, b"x");
    pair.exchange();
    pair.run(Duration::from_secs(3_600), true);
    assert_eq!(
        pair.a.counters.initiations_sent + pair.b.counters.initiations_sent,
        2,
        "one renewal, two minutes later"
    );
    let before = (pair.a.counters, pair.b.counters);
    pair.run(Duration::from_secs(3_600), true);
    assert_eq!((pair.a.counters, pair.b.counters), before);
}
