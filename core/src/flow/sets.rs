//! A set-associative index: from the hash of a key to the row that holds the key, by looking at sixteen entries at most.
//!
//! Whatever is in the table, a look-up reads one set, which is one cache line, and then only the rows whose tag is right. Keys
//! are hashed with a secret of the shell's, so nobody outside can aim at one set.

/// Entries per set.
const WAYS: usize = 16;

/// Up to `2 * F` entries for the rows of a table of `F`. All zero when new.
///
/// An entry is a row's number plus one in its lower bits, as many as `F` needs, and a tag from the key's hash in the others; 0
/// is none. The set comes from the upper half of the hash, the tag from the lower half. Twice as many entries as rows keep
/// sets from overflowing: when all rows are in use, a set is half full on average.
// A set is one cache line where there are cache lines.
#[cfg_attr(not(target_os = "none"), repr(align(64)))]
pub(super) struct Sets<const F: usize> {
    ways: [[u32; 2]; F],
}

impl<const F: usize> Sets<F> {
    /// How many sets there are. A table of less than 8 rows has one of all the `2 * F` entries.
    pub(super) const COUNT: usize = if F < WAYS / 2 { 1 } else { F / (WAYS / 2) };

    /// The bits of an entry that hold the row's number plus one.
    const ROW: u32 = {
        assert!(F >= 1 && F < u32::MAX as usize, "a flow table has at least one row");
        match u32::MAX.checked_shr((F as u32).leading_zeros()) {
            Some(bits) => bits,
            None => 0,
        }
    };

    pub(super) const fn new() -> Self {
        Self { ways: [[0; 2]; F] }
    }

    /// The number of the set that a hash belongs to, below [`Self::COUNT`].
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "a 32-bit times a 32-bit number fits 64 bits")]
    pub(super) fn number(hash: u64) -> usize {
        (((hash >> 32) * Self::COUNT as u64) >> 32) as usize
    }

    /// The row under `hash` for which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(usize) -> bool) -> Option<usize> {
        let tag = Self::tag(hash);
        let padded;
        let set = match self.whole_set(Self::number(hash)) {
            Some(set) => set,
            None => {
                padded = self.padded_set();
                &padded
            }
        };
        // All tags are compared before any row is looked at: so there are no branches, and vectors do it. The bits begin at the
        // second, because the compiler would take a shift by nothing out of the vector.
        let mut hits = 0u32;
        for (way, entry) in set.iter().enumerate() {
            hits |= u32::from(entry & !Self::ROW == tag) << way << 1;
        }
        while hits != 0 {
            let way = (hits.trailing_zeros() as usize).wrapping_sub(1);
            hits &= hits.wrapping_sub(1);
            if let Some(row) = set.get(way).and_then(|entry| Self::row(*entry))
                && is_it(row)
            {
                return Some(row);
            }
        }
        None
    }

    /// Whether the set of a hash has no room.
    pub(super) fn is_full(&self, hash: u64) -> bool {
        self.set(Self::number(hash)).iter().all(|entry| *entry != 0)
    }

    /// Adds a row under a hash, under which it must not be yet. Says whether there was room.
    pub(super) fn insert(&mut self, hash: u64, row: usize) -> bool {
        self.replace(hash, 0, Self::entry(hash, row))
    }

    /// Takes a row out from under a hash; nothing happens when it is not there.
    pub(super) fn remove(&mut self, hash: u64, row: usize) {
        self.replace(hash, Self::entry(hash, row), 0);
    }

    /// The rows in a set.
    pub(super) fn rows(&self, number: usize) -> impl Iterator<Item = usize> + '_ {
        self.set(number).iter().filter_map(|entry| Self::row(*entry))
    }

    /// Puts an entry in the place of the first `old` one of its set. Says whether there was one.
    fn replace(&mut self, hash: u64, old: u32, new: u32) -> bool {
        match self.set_mut(Self::number(hash)).iter_mut().find(|entry| **entry == old) {
            Some(place) => {
                *place = new;
                true
            }
            None => false,
        }
    }

    #[inline]
    fn tag(hash: u64) -> u32 {
        hash as u32 & !Self::ROW
    }

    fn entry(hash: u64, row: usize) -> u32 {
        Self::tag(hash) | (row as u32).saturating_add(1)
    }

    #[inline]
    fn row(entry: u32) -> Option<usize> {
        (entry & Self::ROW).checked_sub(1).map(|row| row as usize)
    }

    /// A set of sixteen; none when the table has less than 8 rows.
    #[inline]
    fn whole_set(&self, number: usize) -> Option<&[u32; WAYS]> {
        if F < WAYS / 2 { None } else { self.ways.as_flattened().as_chunks().0.get(number) }
    }

    /// The only set of a table of less than 8 rows, with empty entries where there are less than sixteen.
    fn padded_set(&self) -> [u32; WAYS] {
        let mut set = [0; WAYS];
        for (place, entry) in set.iter_mut().zip(self.ways.as_flattened()) {
            *place = *entry;
        }
        set
    }

    fn set(&self, number: usize) -> &[u32] {
        self.whole_set(number).map_or(self.ways.as_flattened(), |set| set.as_slice())
    }

    fn set_mut(&mut self, number: usize) -> &mut [u32] {
        let all = self.ways.as_flattened_mut();
        if F < WAYS / 2 {
            return all;
        }
        all.as_chunks_mut::<WAYS>().0.get_mut(number).map_or(&mut [], |set| set.as_mut_slice())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// The set is in the upper half, the tag in the lower one: a few of each, so that they meet.
    fn hash() -> impl Strategy<Value = u64> {
        (0..4u64, 0..3u64).prop_map(|(set, tag)| set << 62 | tag << 28)
    }

    fn follows_a_set<const F: usize>(ops: &[(u64, usize, bool)]) -> Result<(), TestCaseError> {
        let mut sets = Sets::<F>::new();
        let mut model = HashSet::new();
        let room = if F < 8 { 2 * F } else { 16 };
        // What two hashes have in common as far as the index can tell.
        let seen = |hash| (Sets::<F>::number(hash), Sets::<F>::tag(hash));
        for &(hash, row, add) in ops {
            let row = row % F;
            let in_set = model.iter().filter(|((number, _), _)| *number == Sets::<F>::number(hash)).count();
            prop_assert_eq!(sets.is_full(hash), in_set == room);
            if model.remove(&(seen(hash), row)) || !add {
                sets.remove(hash, row);
            } else {
                let taken = sets.insert(hash, row);
                prop_assert_eq!(taken, in_set < room);
                if taken {
                    model.insert((seen(hash), row));
                }
            }
            for set in 0..4u64 {
                for tag in 0..3u64 {
                    let hash = set << 62 | tag << 28;
                    for row in 0..F {
                        let found = sets.find(hash, |r| r == row);
                        prop_assert_eq!(found.is_some(), model.contains(&(seen(hash), row)));
                    }
                }
            }
            for number in 0..Sets::<F>::COUNT {
                let mut rows: Vec<_> = sets.rows(number).collect();
                let mut expected: Vec<_> =
                    model.iter().filter(|((n, _), _)| *n == number).map(|(_, row)| *row).collect();
                rows.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(rows, expected);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn they_find_what_was_put_in_and_are_full_when_all_their_entries_are_used(
            ops in prop::collection::vec((hash(), 0..64usize, prop::bool::weighted(0.9)), 0..150),
        ) {
            follows_a_set::<1>(&ops)?;
            follows_a_set::<3>(&ops)?;
            follows_a_set::<7>(&ops)?;
            follows_a_set::<8>(&ops)?;
            follows_a_set::<21>(&ops)?;
            follows_a_set::<32>(&ops)?;
        }
    }

    #[test]
    fn every_hash_has_a_set_and_every_set_a_hash() {
        fn numbers<const F: usize>() -> HashSet<usize> {
            let step = u64::MAX / 1000;
            let numbers: HashSet<_> = (0..=1000u64)
                .map(|at| Sets::<F>::number(at.wrapping_mul(step)))
                .chain([Sets::<F>::number(!0)])
                .collect();
            assert_eq!(numbers.iter().max(), Some(&(Sets::<F>::COUNT - 1)));
            numbers
        }
        assert_eq!([numbers::<1>(), numbers::<7>(), numbers::<8>(), numbers::<15>()].map(|n| n.len()), [1; 4]);
        assert_eq!([numbers::<16>(), numbers::<23>(), numbers::<256>()].map(|n| n.len()), [2, 2, 32]);
    }
}
