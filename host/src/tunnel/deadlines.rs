//! When which peer's timers are due, for thousands of peers, without asking each one at every turn of the loop.
//!
//! Traffic moves a peer's deadline at every packet, mostly to a later time. So a packet only marks its peer; the
//! deadline is asked for once before the loop sleeps, and is moved only when it became earlier. A deadline that
//! turns out to be too early costs one look at one peer.

use std::collections::BTreeSet;
use std::time::Instant;

#[derive(Default)]
pub(super) struct Deadlines {
    due: BTreeSet<(Instant, u32)>,
    slots: Vec<Slot>,
    touched: Vec<u32>,
}

#[derive(Clone, Default)]
struct Slot {
    armed: Option<Instant>,
    touched: bool,
}

impl Deadlines {
    /// Notes that the deadline of `slot` may have changed.
    #[inline]
    pub(super) fn touch(&mut self, slot: u32) {
        let index = slot as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::default());
        }
        if !std::mem::replace(&mut self.slots[index].touched, true) {
            self.touched.push(slot);
        }
    }

    /// The earliest deadline. `deadline_of` says that of a slot whose deadline may have changed.
    pub(super) fn next(&mut self, mut deadline_of: impl FnMut(u32) -> Option<Instant>) -> Option<Instant> {
        while let Some(slot) = self.touched.pop() {
            let state = &mut self.slots[slot as usize];
            state.touched = false;
            let Some(deadline) = deadline_of(slot) else {
                continue;
            };
            if state.armed.is_none_or(|armed| deadline < armed) {
                if let Some(armed) = state.armed.replace(deadline) {
                    self.due.remove(&(armed, slot));
                }
                self.due.insert((deadline, slot));
            }
        }
        self.due.first().map(|(deadline, _)| *deadline)
    }

    /// Takes a slot out that is due at `now`. Touch it again when its timers have been handled.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<u32> {
        let (deadline, slot) = *self.due.first()?;
        if deadline > now {
            return None;
        }
        self.due.pop_first();
        self.slots[slot as usize].armed = None;
        Some(slot)
    }

    /// Forgets the deadline of `slot`.
    pub(super) fn disarm(&mut self, slot: u32) {
        if let Some(state) = self.slots.get_mut(slot as usize)
            && let Some(armed) = state.armed.take()
        {
            self.due.remove(&(armed, slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_later_deadline_waits_for_the_armed_one_and_an_earlier_one_replaces_it() {
        let start = Instant::now();
        let at = |n| start + Duration::from_secs(n);
        let mut deadlines = Deadlines::default();
        deadlines.touch(3);
        assert_eq!(deadlines.next(|_| Some(at(10))), Some(at(10)));
        deadlines.touch(3);
        assert_eq!(deadlines.next(|_| Some(at(20))), Some(at(10)));
        deadlines.touch(3);
        assert_eq!(deadlines.next(|_| Some(at(5))), Some(at(5)));
        assert_eq!(deadlines.due.len(), 1, "one entry per slot");
        assert_eq!(deadlines.take_due(at(4)), None);
        assert_eq!(deadlines.take_due(at(5)), Some(3));
        assert_eq!(deadlines.next(|_| unreachable!("nobody was touched")), None);
    }

    #[test]
    fn slots_come_due_in_order_and_disarmed_ones_never() {
        let start = Instant::now();
        let mut deadlines = Deadlines::default();
        for slot in 0..5 {
            deadlines.touch(slot);
            deadlines.touch(slot);
        }
        deadlines.next(|slot| Some(start + Duration::from_secs(10 - u64::from(slot))));
        deadlines.disarm(2);
        let end = start + Duration::from_secs(100);
        let order: Vec<u32> = std::iter::from_fn(|| deadlines.take_due(end)).collect();
        assert_eq!(order, [4, 3, 1, 0]);
    }
}
