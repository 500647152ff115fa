//! The streams that a node has open: one per service or instance that it has to know.

use core::time::Duration;

use crate::ids::{InstanceId, ServiceId};
use crate::index::{HashIndex, HashKey};
use crate::slots::Slots;
use crate::sync::Backoff;
use crate::sync::message::{Resolve, ResolveKey, Subject};
use crate::time::Instant;

const REPEAT: Backoff = Backoff { first: Duration::from_millis(250), most: Duration::from_secs(2) };

/// How far a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has to be opened, or opened again; the first page has not come.
    Opening,
    /// Its pages come.
    Open,
    /// The interest is over; the manager has not confirmed it.
    Ending,
}

/// One interest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interest {
    pub(super) subject: Subject,
    pub(super) stream: u32,
    /// The number of the last page that was applied.
    pub(super) sequence: u32,
    pub(super) state: State,
    /// It stays while an attachment needs it.
    pub(super) pinned: bool,
    /// The local instance that asked for it, to which the nodes in the table are introduced; [`InstanceId::NONE`] when none has.
    asker: InstanceId,
    /// Since when nothing has used it; `Instant::MAX` while something does.
    pub(super) idle_since: Instant,
    tries: u8,
    next: Instant,
}

impl Interest {
    const EMPTY: Self = Self {
        subject: Subject { service: ServiceId(0), instance: None },
        stream: 0,
        sequence: 0,
        state: State::Opening,
        pinned: false,
        asker: InstanceId::NONE,
        idle_since: Instant::ZERO,
        tries: 0,
        next: Instant::ZERO,
    };

    /// The local instance that asked for it.
    fn asker(&self) -> Option<InstanceId> {
        (self.asker != InstanceId::NONE).then_some(self.asker)
    }

    /// It has been asked for by another local instance; none leaves it as it is.
    pub(super) fn set_asker(&mut self, asker: Option<InstanceId>) {
        self.asker = asker.unwrap_or(self.asker);
    }
}

/// What is to be said of an interest.
pub(super) enum Due {
    /// Its stream is to be opened.
    Opening(Resolve),
    /// The stream of this subject is to be closed.
    Ending(Subject, u32),
}

/// Up to `M` interests, found by subject.
pub(super) struct Interests<const M: usize> {
    hash: HashKey,
    rows: [Interest; M],
    slots: Slots<M>,
    by_subject: HashIndex<M, 1>,
    /// No interest is to be repeated before this; `Instant::MAX` when none is.
    next_due: Instant,
}

impl<const M: usize> Interests<M> {
    pub(super) const fn new() -> Self {
        Self {
            hash: HashKey(0, 0),
            rows: [const { Interest::EMPTY }; M],
            slots: Slots::new(),
            by_subject: HashIndex::new(),
            next_due: Instant::ZERO,
        }
    }

    pub(super) fn set_hash_key(&mut self, key: HashKey) {
        self.hash = key;
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn find(&self, subject: Subject) -> Option<usize> {
        let found = self
            .by_subject
            .find(self.hash_of(subject), |row, _| self.rows.get(row).is_some_and(|i| i.subject == subject));
        found.map(|(row, _)| row)
    }

    pub(super) fn get(&self, row: usize) -> Option<&Interest> {
        if self.slots.is_used(row) { self.rows.get(row) } else { None }
    }

    pub(super) fn get_mut(&mut self, row: usize) -> Option<&mut Interest> {
        if self.slots.is_used(row) { self.rows.get_mut(row) } else { None }
    }

    /// The first row in use from `from` on.
    pub(super) fn next_row(&self, from: usize) -> Option<usize> {
        self.slots.next_used(from)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.slots.iter()
    }

    /// Adds an interest whose stream has been opened by either side; none when there is no room.
    pub(super) fn add(&mut self, now: Instant, subject: Subject, stream: u32) -> Option<usize> {
        let row = self.slots.take()?.row();
        if let Some(interest) = self.rows.get_mut(row) {
            *interest = Interest { subject, stream, state: State::Open, idle_since: now, ..Interest::EMPTY };
        }
        self.by_subject.insert(self.hash_of(subject), row, 0);
        Some(row)
    }

    /// Opens the stream of an interest afresh under a new number.
    pub(super) fn reopen(&mut self, now: Instant, row: usize, stream: u32) {
        if let Some(interest) = self.get_mut(row) {
            *interest = Interest { stream, sequence: 0, state: State::Opening, tries: 0, next: now, ..*interest };
            self.next_due = now;
        }
    }

    /// Begins to end an interest.
    pub(super) fn end(&mut self, now: Instant, row: usize) {
        if let Some(interest) = self.get_mut(row) {
            interest.state = State::Ending;
            interest.tries = 0;
            interest.next = now;
            self.next_due = now;
        }
    }

    /// The manager has confirmed an end.
    pub(super) fn forgotten(&mut self, subject: Subject, stream: u32) {
        if let Some(row) = self.find(subject)
            && self.get(row).is_some_and(|i| i.stream == stream && i.state == State::Ending)
        {
            self.remove(row);
        }
    }

    pub(super) fn remove(&mut self, row: usize) {
        let Some(subject) = self.get(row).map(|i| i.subject) else {
            return;
        };
        self.by_subject.remove(self.hash_of(subject), row, 0);
        self.slots.give_back(row);
    }

    /// All streams that the manager should have open, for the digest.
    pub(super) fn for_each_open(&self, mut f: impl FnMut(Subject, u32)) {
        self.slots.iter().filter_map(|row| self.rows.get(row)).for_each(|i| f(i.subject, i.stream));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (self.slots.len() > 0 && self.next_due != Instant::MAX).then_some(self.next_due)
    }

    /// The next repeat that is due. Looks at the rows only when one may be.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        if now < self.next_due || self.slots.len() == 0 {
            return None;
        }
        let mut next_due = Instant::MAX;
        for row in self.slots.iter() {
            let Some(interest) = self.rows.get_mut(row) else {
                continue;
            };
            if interest.state == State::Open {
                continue;
            }
            if now < interest.next {
                next_due = next_due.min(interest.next);
                continue;
            }
            interest.next = now.saturating_add(REPEAT.after(interest.tries));
            interest.tries = interest.tries.saturating_add(1);
            let (subject, stream, asker) = (interest.subject, interest.stream, interest.asker());
            return Some(match interest.state {
                State::Ending => Due::Ending(subject, stream),
                _ => Due::Opening(Resolve { stream, key: ResolveKey::Subject(subject), asker }),
            });
        }
        self.next_due = next_due;
        None
    }

    fn hash_of(&self, subject: Subject) -> u64 {
        let instance = subject.instance.map_or(0, |n| u64::from(n).saturating_add(1));
        self.hash.hash(&(u128::from(subject.service.0) << 64 | u128::from(instance)).to_le_bytes())
    }
}
