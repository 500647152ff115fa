//! Probes on their way: which are to be sent, which are to be answered, and which answers are awaited.

use heapless::{Deque, Vec};

use super::Learn;
use super::vivaldi::Place;
use crate::slots::RowRef;
use crate::time::{Duration, Instant};

/// How often a peer is measured that flows go to, give or take [`JITTER`].
const AGAIN: Duration = Duration::from_secs(10);
const JITTER_MS: u32 = 2_000;
/// How far the first measurements of a peer are apart, and how many of them there are: the first one may have waited for a tunnel.
const FIRST: Duration = Duration::from_secs(1);
const RECENT: usize = 4;
/// After so long an answer says nothing any more.
const LOST: Duration = Duration::from_secs(5);
/// Answers to one peer: so many at once, then one in so many milliseconds.
const ANSWER_BURST: u32 = 4;
const ANSWER_MS: u32 = 250;
/// Probes and answers that wait or are under way.
const AT_ONCE: usize = 16;
/// The engine's clock tells milliseconds: nothing is closer than one.
const LEAST_MS: u16 = 1;

/// What became of probes. Counters only grow, and wrap at 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeCounters {
    /// Probes sent.
    pub sent: u32,
    /// Answers that were measured.
    pub measured: u32,
    /// Answers to nothing that was asked, or too late.
    pub unasked: u32,
    /// Probes of others that were answered.
    pub answered: u32,
    /// Probes of others that were not: the peer, or all of them, sent too many.
    pub refused: u32,
}

/// What is known of the way to one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// The last round trips in milliseconds; 0 is none.
    recent: [u16; RECENT],
    /// How many probes it has been sent since it was last measured.
    tries: u8,
    /// When it may be measured again.
    pub(crate) next: Instant,
    /// Until when its probes have been answered in advance.
    answered_until: Instant,
}

impl Way {
    pub(crate) const NEW: Self =
        Self { recent: [0; RECENT], tries: 0, next: Instant::ZERO, answered_until: Instant::ZERO };

    /// Whether nothing has been asked yet.
    pub(crate) fn is_new(&self) -> bool {
        self.next == Instant::ZERO
    }

    /// Takes a measurement in. Returns the shortest of the last few: what is longer was held up on its way.
    fn measured(&mut self, millis: u64) -> Duration {
        let millis = u16::try_from(millis).unwrap_or(u16::MAX).max(LEAST_MS);
        self.recent.rotate_right(1);
        if let Some(first) = self.recent.first_mut() {
            *first = millis;
        }
        let shortest = self.recent.iter().copied().filter(|recent| *recent != 0).min();
        Duration::from_millis(shortest.unwrap_or(millis).into())
    }

    /// A probe goes out: when the next one may.
    fn sent(&mut self, now: Instant, random: u32) {
        let wait = if self.recent.last().is_some_and(|oldest| *oldest != 0) {
            let jitter = random.checked_rem(JITTER_MS.saturating_mul(2)).unwrap_or(0);
            AGAIN
                .saturating_add(Duration::from_millis(jitter.into()))
                .saturating_sub(Duration::from_millis(JITTER_MS.into()))
        } else {
            FIRST.saturating_mul(1u32.checked_shl(self.tries.into()).unwrap_or(u32::MAX)).min(AGAIN)
        };
        self.tries = self.tries.saturating_add(1);
        self.next = now.saturating_add(wait);
    }

    /// Whether a probe of the peer is answered.
    fn may_answer(&mut self, now: Instant) -> bool {
        let limit = now.saturating_add_millis(ANSWER_MS.saturating_mul(ANSWER_BURST.saturating_sub(1)));
        if self.answered_until > limit {
            return false;
        }
        self.answered_until = self.answered_until.max(now).saturating_add_millis(ANSWER_MS);
        true
    }
}

/// A probe that is under way.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    peer: RowRef,
    token: u32,
    since: Instant,
}

/// What is to be sent to a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    Probe(RowRef),
    Answer(RowRef, u32),
}

/// All probes of a node. All zero when new.
pub(crate) struct Probes {
    due: Deque<Due, AT_ONCE>,
    awaited: Vec<Awaited, AT_ONCE>,
    random: u64,
    /// When peers are to be chosen again; [`Instant::ZERO`] is never.
    pub(crate) next_round: Instant,
    /// When one may be chosen at random again.
    pub(crate) next_stroll: Instant,
    /// Where this node is.
    pub(crate) place: Place,
    pub(crate) learn: Option<Learn>,
    pub(crate) counters: ProbeCounters,
}

impl Probes {
    pub(crate) const fn new() -> Self {
        Self {
            due: Deque::new(),
            awaited: Vec::new(),
            random: 0,
            next_round: Instant::ZERO,
            next_stroll: Instant::ZERO,
            place: Place::NEW,
            learn: None,
            counters: ProbeCounters { sent: 0, measured: 0, unasked: 0, answered: 0, refused: 0 },
        }
    }

    pub(crate) fn seed(&mut self, seed: u64) {
        self.random = seed | 1;
    }

    /// Chance that nobody outside can foresee who does not know the seed (Marsaglia's xorshift, multiplied).
    pub(crate) fn random(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// Looks for peers to measure soon.
    pub(crate) fn choose_at(&mut self, at: Instant) {
        let at = at.max(Instant(1));
        self.next_round = if self.next_round == Instant::ZERO { at } else { self.next_round.min(at) };
    }

    /// When something is to be done.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if !self.due.is_empty() {
            return Some(Instant::ZERO);
        }
        (self.next_round != Instant::ZERO).then_some(self.next_round)
    }

    /// A peer is to be measured, if there is room for that.
    pub(crate) fn ask(&mut self, peer: RowRef) {
        let is_there = self.due.iter().any(|due| matches!(due, Due::Probe(other) if *other == peer));
        if !is_there {
            // What has no room is chosen again in the next round.
            let _ = self.due.push_back(Due::Probe(peer));
        }
    }

    /// A tunnel to a peer has just been set up: what it was asked before has waited for that.
    pub(crate) fn ask_again(&mut self, peer: RowRef) {
        let before = self.awaited.len();
        self.awaited.retain(|awaited| awaited.peer != peer);
        if self.awaited.len() != before {
            self.ask(peer);
        }
    }

    /// A peer has sent a probe. Whether it is answered.
    pub(crate) fn asked(&mut self, now: Instant, peer: RowRef, way: &mut Way, token: u32) -> bool {
        let answers = way.may_answer(now) && self.due.push_back(Due::Answer(peer, token)).is_ok();
        let counter = if answers { &mut self.counters.answered } else { &mut self.counters.refused };
        *counter = counter.wrapping_add(1);
        answers
    }

    /// A peer has answered: the round trip, smoothed.
    pub(crate) fn answered(&mut self, now: Instant, peer: RowRef, way: &mut Way, token: u32) -> Option<Duration> {
        let place = self.awaited.iter().position(|awaited| awaited.token == token && awaited.peer == peer);
        let awaited = place.map(|place| self.awaited.swap_remove(place));
        let Some(took) =
            awaited.map(|awaited| now.saturating_duration_since(awaited.since)).filter(|took| *took < LOST)
        else {
            self.counters.unasked = self.counters.unasked.wrapping_add(1);
            return None;
        };
        self.counters.measured = self.counters.measured.wrapping_add(1);
        way.tries = 0;
        Some(way.measured(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The next probe or answer to send.
    pub(crate) fn next_due(&mut self) -> Option<Due> {
        self.due.pop_front()
    }

    /// A probe goes out. Returns its token.
    pub(crate) fn sends(&mut self, now: Instant, peer: RowRef, way: &mut Way) -> u32 {
        let token = self.random();
        way.sent(now, self.random());
        self.counters.sent = self.counters.sent.wrapping_add(1);
        self.awaited.retain(|awaited| now.saturating_duration_since(awaited.since) < LOST);
        if self.awaited.is_full() {
            self.awaited.remove(0);
        }
        // There is room now.
        let _ = self.awaited.push(Awaited { peer, token, since: now });
        token
    }
}
