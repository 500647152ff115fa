//! A pool of offsets for a planner: it says what it would give without giving it, so that a change that can't be stored never
//! happened.
//!
//! Unlike [`acorn_core::addr::Pool`], which a node uses for its own subnet, it is as large as the plan says, knows a state between
//! "taken" and "in quarantine", and accepts custom offsets that it would never give by itself.

use std::collections::{BTreeMap, BTreeSet};

use acorn_core::time::Instant;

/// The state of an offset that is not fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// It has an owner.
    Taken,
    /// It has none any more, but not everybody knows.
    Withdrawn,
    /// It is free when its rest is over.
    Quarantine(Rest),
}

/// The end of a quarantine. The order of these is the order of reuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rest {
    /// What counts. All that ended before this process began have the same.
    pub(super) until: Instant,
    /// The same in milliseconds since 1970, which tells those apart.
    pub(super) until_unix_ms: u64,
}

/// Gives the offsets 1 to `last`. Offsets beyond may be taken, but only by name.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    last: u32,
    /// The lowest and the highest fresh offset. A fresh offset that was taken is never fresh again.
    low: u32,
    high: u32,
    slots: BTreeMap<u128, Slot>,
    /// Those in `Quarantine` that may be given again, in the order of its end.
    queue: BTreeSet<(Rest, u32)>,
}

impl Pool {
    pub(super) fn new(last: u32) -> Self {
        Self { last, low: 1, high: last, slots: BTreeMap::new(), queue: BTreeSet::new() }
    }

    /// The offset that is next: the one that has been free longest, or else the lowest fresh one. Those in `claimed` are passed
    /// over.
    pub(super) fn next(&self, now: Instant, claimed: &BTreeSet<u128>) -> Option<u32> {
        self.next_recycled(now, claimed)
            .or_else(|| (self.low..=self.high).find(|&offset| self.is_fresh(offset, claimed)))
    }

    /// The highest fresh offset, or else the one that has been free longest. For what is to stay out of the way of the rest.
    pub(super) fn next_from_top(&self, now: Instant, claimed: &BTreeSet<u128>) -> Option<u32> {
        let fresh = (self.low..=self.high).rev().find(|&offset| self.is_fresh(offset, claimed));
        fresh.or_else(|| self.next_recycled(now, claimed))
    }

    /// What is known of an offset; none when it is fresh.
    pub(super) fn slot(&self, offset: u128) -> Option<Slot> {
        self.slots.get(&offset).copied()
    }

    /// Whether the pool gives this offset by itself.
    pub(super) fn gives(&self, offset: u128) -> bool {
        offset >= 1 && offset <= u128::from(self.last)
    }

    pub(super) fn set(&mut self, offset: u128, slot: Slot) {
        let before = self.slots.insert(offset, slot);
        let Some(own) = u32::try_from(offset).ok().filter(|_| self.gives(offset)) else {
            return;
        };
        if let Some(Slot::Quarantine(rest)) = before {
            self.queue.remove(&(rest, own));
        }
        if let Slot::Quarantine(rest) = slot {
            self.queue.insert((rest, own));
        }
        while self.low <= self.high && self.slots.contains_key(&u128::from(self.low)) {
            self.low += 1;
        }
        while self.high >= self.low && self.slots.contains_key(&u128::from(self.high)) {
            self.high -= 1;
        }
    }

    /// Forgets an offset that the pool does not give by itself; the others keep their place in the order of reuse.
    pub(super) fn forget(&mut self, offset: u128) {
        if !self.gives(offset) {
            self.slots.remove(&offset);
        }
    }

    fn next_recycled(&self, now: Instant, claimed: &BTreeSet<u128>) -> Option<u32> {
        let ready = self.queue.iter().take_while(|(rest, _)| rest.until <= now);
        ready.map(|(_, offset)| *offset).find(|&offset| !claimed.contains(&u128::from(offset)))
    }

    fn is_fresh(&self, offset: u32, claimed: &BTreeSet<u128>) -> bool {
        let offset = u128::from(offset);
        !self.slots.contains_key(&offset) && !claimed.contains(&offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resting(until: u64, until_unix_ms: u64) -> Slot {
        Slot::Quarantine(Rest { until: Instant(until), until_unix_ms })
    }

    fn take(pool: &mut Pool, now: Instant) -> Option<u32> {
        let offset = pool.next(now, &BTreeSet::new())?;
        pool.set(offset.into(), Slot::Taken);
        Some(offset)
    }

    #[test]
    fn every_offset_is_given_once_and_none_is_lost() {
        let mut pool = Pool::new(100);
        pool.set(7, Slot::Taken);
        pool.set(100, Slot::Taken);
        let given: Vec<u32> = std::iter::from_fn(|| take(&mut pool, Instant::ZERO)).collect();
        assert_eq!(given, (1..100).filter(|&offset| offset != 7).collect::<Vec<_>>());
        assert_eq!(pool.next_from_top(Instant::ZERO, &BTreeSet::new()), None);
    }

    #[test]
    fn the_longest_free_comes_first_and_none_before_its_time() {
        let mut pool = Pool::new(5);
        for _ in 0..4 {
            take(&mut pool, Instant::ZERO);
        }
        pool.set(3, Slot::Withdrawn);
        pool.set(4, resting(20, 0));
        pool.set(2, resting(30, 0));
        assert_eq!(take(&mut pool, Instant(19)), Some(5), "the fresh one, while the others rest");
        assert_eq!(take(&mut pool, Instant(19)), None);
        assert_eq!(take(&mut pool, Instant(40)), Some(4));
        assert_eq!(take(&mut pool, Instant(40)), Some(2));
        assert_eq!(take(&mut pool, Instant(40)), None, "3 is withdrawn, not free");
    }

    #[test]
    fn what_was_free_before_the_process_began_keeps_its_order() {
        let mut pool = Pool::new(3);
        for (offset, until_unix_ms) in [(1, 70), (2, 50), (3, 60)] {
            pool.set(offset, resting(0, until_unix_ms));
        }
        let given: Vec<u32> = std::iter::from_fn(|| take(&mut pool, Instant::ZERO)).collect();
        assert_eq!(given, [2, 3, 1]);
    }

    #[test]
    fn the_top_is_given_downward_past_what_is_claimed_or_taken() {
        let mut pool = Pool::new(10);
        pool.set(10, Slot::Taken);
        pool.set(8, Slot::Taken);
        assert_eq!(pool.next_from_top(Instant::ZERO, &BTreeSet::new()), Some(9));
        assert_eq!(pool.next_from_top(Instant::ZERO, &BTreeSet::from([9])), Some(7));
    }

    #[test]
    fn a_custom_offset_beyond_the_last_is_never_given_by_itself() {
        let mut pool = Pool::new(1);
        take(&mut pool, Instant::ZERO);
        pool.set(1 << 90, Slot::Taken);
        pool.set(1 << 90, resting(1, 0));
        assert_eq!(pool.next(Instant(9), &BTreeSet::new()), None);
        pool.forget(1 << 90);
        pool.forget(1);
        assert_eq!((pool.slot(1 << 90), pool.slot(1)), (None, Some(Slot::Taken)));
    }
}
