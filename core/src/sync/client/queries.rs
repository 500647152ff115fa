//! Look-ups of addresses and nodes that the table does not know.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use super::{NEGATIVE_LIFETIME, RESOLVE_TIMEOUT};
use crate::ids::{InstanceId, NodeKey};
use crate::sync::Backoff;
use crate::sync::message::{Resolve, ResolveKey};
use crate::time::Instant;

const REPEAT: Backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_millis(400) };

/// What is looked up. Numbered, so that a free row is all zero bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wanted {
    /// Who owns an address.
    Address(IpAddr),
    /// Which node has a key.
    Node(NodeKey),
}

/// How a look-up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The table knows it now.
    Known,
    /// There is no such thing.
    NotFound,
    /// The manager did not answer in time.
    TimedOut,
    /// Too many look-ups are under way.
    TooMany,
}

/// Numbered, so that a free row is all zero bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    Free,
    Asked,
    /// The answer has to be reported.
    Answered(Answer),
    /// Nothing has the address; believed until the deadline.
    Negative,
}

#[derive(Clone, Copy, Debug)]
struct Query {
    state: State,
    wanted: Wanted,
    stream: u32,
    asker: Option<InstanceId>,
    tries: u8,
    next: Instant,
    deadline: Instant,
}

impl Query {
    const EMPTY: Self = Self {
        state: State::Free,
        wanted: Wanted::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        stream: 0,
        asker: None,
        tries: 0,
        next: Instant::ZERO,
        deadline: Instant::ZERO,
    };
}

/// Up to `Q` look-ups, negative answers that are still believed included: those give way to new questions.
pub(super) struct Queries<const Q: usize> {
    rows: [Query; Q],
    /// Rows that are not free.
    used: usize,
    /// Rows with an answer to report.
    answered: usize,
}

impl<const Q: usize> Queries<Q> {
    /// How many rows questions may take that no local application asks: peers and strangers cause those, and must not keep
    /// applications from asking.
    const FOREIGN_ROWS: usize = if Q < 4 { 1 } else { Q / 4 };

    pub(super) const fn new() -> Self {
        Self { rows: [const { Query::EMPTY }; Q], used: 0, answered: 0 }
    }

    /// Asks. False when it is being asked for already.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        wanted: Wanted,
        asker: Option<InstanceId>,
        stream: u32,
    ) -> Result<bool, Answer> {
        let foreign = self.rows.iter().filter(|q| q.state == State::Asked && q.asker.is_none()).count();
        let known = self.rows.iter_mut().find(|q| q.state != State::Free && q.wanted == wanted);
        let query = match known {
            None if asker.is_none() && foreign >= Self::FOREIGN_ROWS => return Err(Answer::TooMany),
            Some(Query { state: State::Asked, .. }) => return Ok(false),
            Some(Query { state: State::Negative, deadline, .. }) if now < *deadline => return Err(Answer::NotFound),
            // An answer that waits to be reported: the packet goes with the others that it is for.
            Some(Query { state: State::Answered(_), .. }) => return Ok(false),
            Some(query) => query,
            None => {
                let free = self.rows.iter().position(|q| q.state == State::Free);
                let oldest = || {
                    let negative = self.rows.iter().enumerate().filter(|(_, q)| q.state == State::Negative);
                    negative.min_by_key(|(_, q)| q.deadline).map(|(place, _)| place)
                };
                let place = match free {
                    Some(place) => {
                        self.used = self.used.saturating_add(1);
                        place
                    }
                    None => oldest().ok_or(Answer::TooMany)?,
                };
                self.rows.get_mut(place).ok_or(Answer::TooMany)?
            }
        };
        let deadline = now.saturating_add(RESOLVE_TIMEOUT);
        *query = Query { state: State::Asked, wanted, stream, asker, tries: 0, next: now, deadline };
        Ok(true)
    }

    /// The local instance on whose behalf a look-up is under way.
    pub(super) fn asker_of(&self, stream: u32) -> Option<InstanceId> {
        let asked = |q: &&Query| q.state == State::Asked && q.stream == stream;
        self.rows.iter().find(asked)?.asker
    }

    /// Whether a look-up with this stream number is under way.
    pub(super) fn is_asked(&self, stream: u32) -> bool {
        self.used > 0 && self.rows.iter().any(|q| q.state == State::Asked && q.stream == stream)
    }

    /// Ends all look-ups for which `is_known` holds: the table knows what they ask now.
    pub(super) fn settle(&mut self, mut is_known: impl FnMut(Wanted) -> bool) {
        if self.used == 0 {
            return;
        }
        for query in &mut self.rows {
            if matches!(query.state, State::Asked | State::Negative) && is_known(query.wanted) {
                query.state = State::Answered(Answer::Known);
                self.answered = self.answered.saturating_add(1);
            }
        }
    }

    /// The manager says that there is no such thing. False when nothing was asked under this number.
    pub(super) fn not_found(&mut self, now: Instant, stream: u32) -> bool {
        let until = now.saturating_add(NEGATIVE_LIFETIME);
        if let Some(query) = self.rows.iter_mut().find(|q| q.state == State::Asked && q.stream == stream) {
            query.deadline = until;
        }
        self.finish(stream, Answer::NotFound)
    }

    /// The manager can't serve the look-up.
    pub(super) fn refused(&mut self, stream: u32) -> bool {
        self.finish(stream, Answer::TooMany)
    }

    /// Ends look-ups that took too long, and forgets old negative answers. Returns how many took too long.
    pub(super) fn expire(&mut self, now: Instant) -> u32 {
        let mut timed_out = 0u32;
        if self.used == 0 {
            return timed_out;
        }
        for query in &mut self.rows {
            if now < query.deadline {
                continue;
            }
            match query.state {
                State::Asked => {
                    query.state = State::Answered(Answer::TimedOut);
                    self.answered = self.answered.saturating_add(1);
                    timed_out = timed_out.saturating_add(1);
                }
                State::Negative => {
                    query.state = State::Free;
                    self.used = self.used.saturating_sub(1);
                }
                State::Free | State::Answered(_) => {}
            }
        }
        timed_out
    }

    /// The next answer to report. A negative one is remembered.
    pub(super) fn poll_answer(&mut self) -> Option<(Wanted, Answer)> {
        if self.answered == 0 {
            return None;
        }
        let query = self.rows.iter_mut().find(|q| matches!(q.state, State::Answered(_)))?;
        let State::Answered(answer) = query.state else {
            return None;
        };
        self.answered = self.answered.saturating_sub(1);
        if answer == Answer::NotFound {
            query.state = State::Negative;
        } else {
            query.state = State::Free;
            self.used = self.used.saturating_sub(1);
        }
        Some((query.wanted, answer))
    }

    /// When the next question is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.used == 0 {
            return None;
        }
        let asked = self.rows.iter().filter(|q| q.state == State::Asked);
        asked.map(|q| q.next).min()
    }

    /// When the next look-up or negative answer is over, or an answer is to be reported.
    pub(super) fn poll_expiry(&self) -> Option<Instant> {
        if self.used == 0 {
            return None;
        }
        self.rows
            .iter()
            .filter_map(|q| match q.state {
                State::Free => None,
                State::Asked | State::Negative => Some(q.deadline),
                State::Answered(_) => Some(Instant::ZERO),
            })
            .min()
    }

    /// The next question that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Resolve> {
        if self.used == 0 {
            return None;
        }
        let query = self.rows.iter_mut().find(|q| q.state == State::Asked && now >= q.next)?;
        query.next = now.saturating_add(REPEAT.after(query.tries));
        query.tries = query.tries.saturating_add(1);
        let key = match query.wanted {
            Wanted::Address(address) => ResolveKey::Address(address),
            Wanted::Node(key) => ResolveKey::Node(key),
        };
        Some(Resolve { stream: query.stream, key, asker: query.asker })
    }

    fn finish(&mut self, stream: u32, answer: Answer) -> bool {
        let Some(query) = self.rows.iter_mut().find(|q| q.state == State::Asked && q.stream == stream) else {
            return false;
        };
        query.state = State::Answered(answer);
        self.answered = self.answered.saturating_add(1);
        true
    }
}
