//! Which instances of a service are gone, for clients whose tables are older: what the root and a cluster remember alike.

use std::collections::{BTreeMap, BTreeSet};

use acorn_core::sync::directory::Change;
use acorn_core::sync::message::InstanceRecord;

/// The versions in which numbers were withdrawn that are not in use now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Removals {
    by_number: BTreeMap<u32, u32>,
    by_version: BTreeSet<(u32, u32)>,
}

impl Removals {
    /// A number is in use again.
    pub(crate) fn end(&mut self, number: u32) {
        if let Some(version) = self.by_number.remove(&number) {
            self.by_version.remove(&(version, number));
        }
    }

    /// A number is withdrawn in `version`, which no version before is above. At most `most` are remembered, the latest ones. Returns the
    /// version up to which something is forgotten, if that is so: who has applied it knows of those.
    pub(crate) fn begin(&mut self, number: u32, version: u32, most: usize) -> Option<u32> {
        self.end(number);
        self.by_number.insert(number, version);
        self.by_version.insert((version, number));
        let mut forgotten = None;
        while self.by_number.len() > most
            && let Some((version, number)) = self.by_version.pop_first()
        {
            self.by_number.remove(&number);
            forgotten = Some(version);
        }
        forgotten
    }

    /// The lowest-numbered change from number `from` on after version `since`, given that of the instances which are `present`. Of
    /// version 0 nothing that was removed is told.
    pub(crate) fn next_change(&self, from: u32, since: u32, present: Option<(u32, InstanceRecord)>) -> Option<Change> {
        let removed = self.by_number.range(from..).find(|(_, version)| since != 0 && **version > since);
        match (present, removed) {
            (Some((number, _)), Some((&removed, _))) if removed < number => Some(Change::Removed(removed)),
            (Some((_, record)), _) => Some(Change::Present(record)),
            (None, removed) => removed.map(|(number, _)| Change::Removed(*number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_the_oldest() {
        let mut removals = Removals::default();
        assert_eq!(removals.begin(7, 10, 2), None);
        assert_eq!(removals.begin(3, 11, 2), None);
        assert_eq!(removals.begin(5, 12, 2), Some(10));
        assert_eq!(removals.next_change(0, 9, None), Some(Change::Removed(3)));
        assert_eq!(removals.next_change(0, 11, None), Some(Change::Removed(5)));
        assert_eq!(removals.next_change(0, 0, None), None, "who has nothing has nothing to lose");
        removals.end(3);
        assert_eq!(removals.next_change(0, 9, None), Some(Change::Removed(5)));
    }

    #[test]
    fn changes_come_in_the_order_of_their_numbers() {
        let mut removals = Removals::default();
        removals.begin(4, 10, 8);
        let present = |number| Some((number, InstanceRecord { number, ..InstanceRecord::default() }));
        assert_eq!(removals.next_change(0, 9, present(5)), Some(Change::Removed(4)));
        assert!(matches!(removals.next_change(0, 9, present(3)), Some(Change::Present(record)) if record.number == 3));
        assert!(matches!(removals.next_change(5, 9, present(5)), Some(Change::Present(_))));
    }
}
