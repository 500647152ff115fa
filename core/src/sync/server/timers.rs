//! When which row is due: a binary heap that knows the place of every row, so that a row's time can be changed.

use crate::time::Instant;

/// At most one time for each of `N` rows. All zero when new: nothing is due.
pub(super) struct Timers<const N: usize> {
    at: [Instant; N],
    /// The rows that have a time, the earliest first, no row earlier than the one at half its place.
    heap: [u32; N],
    /// Where each row is in the heap, plus one; 0 for a row without a time.
    place: [u32; N],
    len: u32,
}

impl<const N: usize> Timers<N> {
    pub(super) const fn new() -> Self {
        Self { at: [Instant::ZERO; N], heap: [0; N], place: [0; N], len: 0 }
    }

    /// Gives a row a time, in the stead of the one that it had.
    pub(super) fn set(&mut self, row: usize, at: Instant) {
        let (Some(time), Some(place)) = (self.at.get_mut(row), self.place.get(row).copied()) else {
            return;
        };
        *time = at;
        let place = match (place as usize).checked_sub(1) {
            Some(place) => place,
            None => {
                let last = self.len as usize;
                self.len = self.len.saturating_add(1);
                self.put(last, row as u32);
                last
            }
        };
        let place = self.rise(place);
        self.sink(place);
    }

    /// Takes a row's time away; nothing happens when it has none.
    pub(super) fn clear(&mut self, row: usize) {
        let Some(place) = self.place.get(row).and_then(|place| (*place as usize).checked_sub(1)) else {
            return;
        };
        let last = (self.len as usize).saturating_sub(1);
        self.len = self.len.saturating_sub(1);
        let moved = self.row(last);
        if let Some(gone) = self.place.get_mut(row) {
            *gone = 0;
        }
        if place < last {
            self.put(place, moved);
            let place = self.rise(place);
            self.sink(place);
        }
    }

    /// The earliest time.
    pub(super) fn next(&self) -> Option<Instant> {
        (self.len > 0).then(|| self.time(0))
    }

    /// Takes the row with the earliest time if that time has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<usize> {
        if self.next()? > now {
            return None;
        }
        let row = self.row(0) as usize;
        self.clear(row);
        Some(row)
    }

    fn row(&self, place: usize) -> u32 {
        self.heap.get(place).copied().unwrap_or(0)
    }

    fn time(&self, place: usize) -> Instant {
        self.at.get(self.row(place) as usize).copied().unwrap_or(Instant::MAX)
    }

    fn put(&mut self, place: usize, row: u32) {
        if let (Some(at), Some(back)) = (self.heap.get_mut(place), self.place.get_mut(row as usize)) {
            *at = row;
            *back = (place as u32).saturating_add(1);
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (row_a, row_b) = (self.row(a), self.row(b));
        self.put(a, row_b);
        self.put(b, row_a);
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while let Some(parent) = place.checked_sub(1).map(|below| below / 2)
            && self.time(place) < self.time(parent)
        {
            self.swap(place, parent);
            place = parent;
        }
        place
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let left = place.saturating_mul(2).saturating_add(1);
            let right = left.saturating_add(1);
            let mut first = place;
            for child in [left, right] {
                if child < self.len as usize && self.time(child) < self.time(first) {
                    first = child;
                }
            }
            if first == place {
                return;
            }
            self.swap(place, first);
            place = first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn rows_come_out_when_and_in_the_order_that_they_are_due(
            ops in proptest::collection::vec((0usize..12, 0u64..40, 0u8..4), 0..300)
        ) {
            let mut timers = Timers::<12>::new();
            let mut model: BTreeMap<usize, u64> = BTreeMap::new();
            for (row, at, op) in ops {
                match op {
                    0 | 1 => {
                        timers.set(row, Instant(at));
                        model.insert(row, at);
                    }
                    2 => {
                        timers.clear(row);
                        model.remove(&row);
                    }
                    _ => {
                        let earliest = model.values().min().copied();
                        prop_assert_eq!(timers.next(), earliest.map(Instant));
                        match timers.pop_due(Instant(at)) {
                            Some(row) => prop_assert_eq!(model.remove(&row), earliest.filter(|due| *due <= at)),
                            None => prop_assert!(earliest.is_none_or(|due| due > at)),
                        }
                    }
                }
            }
            while let Some(row) = timers.pop_due(Instant::MAX) {
                let due = model.remove(&row);
                prop_assert!(due.is_some() && model.values().all(|other| Some(*other) >= due));
            }
            prop_assert!(model.is_empty());
        }
    }
}
