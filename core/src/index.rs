//! A fixed-capacity hash index: finds the slots of a table by a key that the table holds itself.
//!
//! Separate chaining with the chains threaded through arrays beside the table, so that nothing is allocated and nothing
//! moves. Keys are hashed by SipHash with a secret of the shell's, so nobody outside can aim at one chain.

use siphasher::sip::SipHasher13;

use crate::link::{Link, reach};

/// The secret of all hashes of one engine, from the shell's entropy.
#[derive(Clone, Copy, Debug, Default)]
pub struct HashKey(pub u64, pub u64);

impl HashKey {
    /// The hash of some bytes under this secret.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.0, self.1).hash(bytes)
    }
}

/// Maps hashes to slots of a table of `N` rows with `K` keys each. All zero when new.
pub(crate) struct HashIndex<const N: usize, const K: usize> {
    /// The first entry of each chain, plus one; 0 is an empty chain.
    heads: [[Link; K]; N],
    /// The entry behind each entry, plus one.
    next: [[Link; K]; N],
}

impl<const N: usize, const K: usize> HashIndex<N, K> {
    pub(crate) const fn new() -> Self {
        const { assert!(reach(N.saturating_mul(K)), "too many keys for this target") };
        Self { heads: [[0; K]; N], next: [[0; K]; N] }
    }

    /// Adds the `key`-th key of row `slot`. The entry must not be in the index already.
    pub(crate) fn insert(&mut self, hash: u64, slot: usize, key: usize) {
        let (bucket, lane) = Self::bucket(hash);
        let Some(head) = self.heads.get_mut(bucket).and_then(|row| row.get_mut(lane)) else {
            return;
        };
        let Some(next) = self.next.get_mut(slot).and_then(|row| row.get_mut(key)) else {
            return;
        };
        *next = *head;
        *head = Self::entry(slot, key);
    }

    /// Takes the `key`-th key of row `slot` out; nothing happens when it is not in.
    pub(crate) fn remove(&mut self, hash: u64, slot: usize, key: usize) {
        let (bucket, lane) = Self::bucket(hash);
        let wanted = Self::entry(slot, key);
        let behind = self.next_of(wanted);
        let Some(head) = self.heads.get_mut(bucket).and_then(|row| row.get_mut(lane)) else {
            return;
        };
        if *head == wanted {
            *head = behind;
            return;
        }
        let mut at = *head;
        while at != 0 {
            let (row, col) = Self::place(at);
            let Some(next) = self.next.get_mut(row).and_then(|r| r.get_mut(col)) else {
                return;
            };
            if *next == wanted {
                *next = behind;
                return;
            }
            at = *next;
        }
    }

    /// The first entry under `hash` for which `is_it(slot, key)` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(usize, usize) -> bool) -> Option<(usize, usize)> {
        let (bucket, lane) = Self::bucket(hash);
        let mut at = self.heads.get(bucket).and_then(|row| row.get(lane)).copied().unwrap_or(0);
        while at != 0 {
            let (slot, key) = Self::place(at);
            if is_it(slot, key) {
                return Some((slot, key));
            }
            at = self.next_of(at);
        }
        None
    }

    fn next_of(&self, entry: Link) -> Link {
        let (row, col) = Self::place(entry);
        self.next.get(row).and_then(|r| r.get(col)).copied().unwrap_or(0)
    }

    /// Spreads the upper half of the hash over all `N * K` chains by multiplication instead of a slow division.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "a 32-bit times a 32-bit number fits 64 bits; K is not 0")]
    fn bucket(hash: u64) -> (usize, usize) {
        let chains = N.saturating_mul(K) as u64;
        let chain = ((hash >> 32) * chains) >> 32;
        ((chain / K as u64) as usize, (chain % K as u64) as usize)
    }

    fn entry(slot: usize, key: usize) -> Link {
        slot.saturating_mul(K).saturating_add(key).saturating_add(1) as Link
    }

    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "K is not 0")]
    fn place(entry: Link) -> (usize, usize) {
        let flat = (entry as usize).saturating_sub(1);
        (flat / K, flat % K)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn it_finds_what_a_map_finds(ops in proptest::collection::vec((0usize..8, 0usize..3, 0u64..6, any::<bool>()), 0..200)) {
            let mut index = HashIndex::<8, 3>::new();
            let mut model: HashMap<(usize, usize), u64> = HashMap::new();
            for (slot, key, value, add) in ops {
                let hash = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                if let Some(old) = model.remove(&(slot, key)) {
                    index.remove(old.wrapping_mul(0x9e37_79b9_7f4a_7c15), slot, key);
                }
                if add {
                    index.insert(hash, slot, key);
                    model.insert((slot, key), value);
                }
                for slot in 0..8 {
                    for key in 0..3 {
                        for value in 0..6u64 {
                            let hash = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                            let found = index.find(hash, |s, k| (s, k) == (slot, key)).is_some();
                            let there = model.get(&(slot, key)) == Some(&value);
                            prop_assert!(found || !there, "a key that is there is found");
                            prop_assert!(!found || model.contains_key(&(slot, key)), "what was removed is not found");
                        }
                    }
                }
            }
        }
    }
}
