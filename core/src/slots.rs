//! Which rows of a fixed table are in use: constant-time take and give back, and a generation per row so that a stale
//! reference is noticed.

use crate::link::{Link, reach};

/// A reference to a row that tells whether the row still holds what it held when the reference was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowRef {
    row: u32,
    generation: u32,
}

impl RowRef {
    /// A reference to nothing: never current.
    pub const NONE: Self = Self { row: 0, generation: 0 };

    /// The row's number in its table.
    pub const fn row(self) -> usize {
        self.row as usize
    }
}

/// The occupancy of a table of `N` rows. All zero when new: everything is free.
pub(crate) struct Slots<const N: usize> {
    /// Odd while the row is in use. Grows with every take, give-back and renewal.
    generation: [u32; N],
    /// The free row behind each free row, plus one.
    next_free: [Link; N],
    /// The first free row that was in use before, plus one; 0 when there is none.
    free: Link,
    /// Rows below this have been in use.
    fresh: u32,
    used: u32,
}

impl<const N: usize> Slots<N> {
    pub(crate) const fn new() -> Self {
        const { assert!(reach(N), "too many rows for this target") };
        Self { generation: [0; N], next_free: [0; N], free: 0, fresh: 0, used: 0 }
    }

    /// Takes a free row; none when all are in use.
    pub(crate) fn take(&mut self) -> Option<RowRef> {
        let row = match self.free.checked_sub(1) {
            Some(row) => {
                let row = row as usize;
                self.free = self.next_free.get(row).copied()?;
                row
            }
            None if self.fresh < N as u32 => {
                self.fresh = self.fresh.saturating_add(1);
                self.fresh.saturating_sub(1) as usize
            }
            None => return None,
        };
        let generation = self.generation.get_mut(row)?;
        *generation = generation.wrapping_add(1);
        self.used = self.used.saturating_add(1);
        Some(RowRef { row: row as u32, generation: *generation })
    }

    /// Gives a row back. Nothing happens when it is free already.
    pub(crate) fn give_back(&mut self, row: usize) {
        let (Some(generation), Some(next)) = (self.generation.get_mut(row), self.next_free.get_mut(row)) else {
            return;
        };
        if generation.is_multiple_of(2) {
            return;
        }
        *generation = generation.wrapping_add(1);
        *next = self.free;
        self.free = (row as Link).saturating_add(1);
        self.used = self.used.saturating_sub(1);
    }

    /// Makes all references to a used row stale while the row stays in use.
    pub(crate) fn renew(&mut self, row: usize) {
        if self.is_used(row)
            && let Some(generation) = self.generation.get_mut(row)
        {
            *generation = generation.wrapping_add(2);
        }
    }

    pub(crate) fn is_used(&self, row: usize) -> bool {
        self.generation.get(row).is_some_and(|generation| !generation.is_multiple_of(2))
    }

    /// Whether the row still holds what it held when the reference was made.
    #[inline]
    pub(crate) fn is_current(&self, reference: RowRef) -> bool {
        self.generation.get(reference.row()) == Some(&reference.generation) && !reference.generation.is_multiple_of(2)
    }

    /// A reference to a used row.
    pub(crate) fn reference(&self, row: usize) -> Option<RowRef> {
        self.is_used(row)
            .then(|| RowRef { row: row as u32, generation: self.generation.get(row).copied().unwrap_or(0) })
    }

    /// Rows in use.
    pub(crate) fn len(&self) -> usize {
        self.used as usize
    }

    /// The used rows, in the order of their numbers. Rows that were never used cost nothing.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.fresh as usize).filter(|row| self.is_used(*row))
    }

    /// The first used row from `from` on.
    pub(crate) fn next_used(&self, from: usize) -> Option<usize> {
        (from..self.fresh as usize).find(|row| self.is_used(*row))
    }

    /// Rows from here on have never been in use.
    pub(crate) fn high_water(&self) -> usize {
        self.fresh as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rows_are_given_once_and_again_after_their_return() {
        let mut slots = Slots::<4>::new();
        let taken: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(taken.iter().map(|r| r.row()).collect::<Vec<_>>(), [0, 1, 2, 3]);
        slots.give_back(2);
        slots.give_back(2);
        assert_eq!(slots.len(), 3);
        let again = slots.take().unwrap();
        assert_eq!(again.row(), 2);
        assert!(slots.is_current(again) && !slots.is_current(taken[2]));
        assert!(slots.take().is_none());
    }

    #[test]
    fn renewal_makes_references_stale() {
        let mut slots = Slots::<1>::new();
        let old = slots.take().unwrap();
        slots.renew(0);
        assert!(!slots.is_current(old) && slots.is_current(slots.reference(0).unwrap()));
    }
}
