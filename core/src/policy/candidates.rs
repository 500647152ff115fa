//! The instances that a policy may pick from.

use core::fmt;

use crate::link::Link;
use crate::table::Instance;

/// An instance that may be picked: alive, not draining, on a node that answers, and without a reverse path that was found taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub(super) row: usize,
    /// Its number in the service.
    pub number: u32,
    /// Which node it is on: the same for instances on the same node.
    pub node: u32,
    /// Its share under a weighted policy; 1 is normal.
    pub weight: u16,
    /// Its rank under a failover policy; the lowest comes first.
    pub priority: u16,
    /// Its reported load, in thousandths of what it can take.
    pub load: u16,
    /// The flows of this node to it.
    pub flows: u32,
    /// The round trip to its node in microseconds, measured or predicted: 0 on this node and nowhere else; none when nothing is
    /// known of it.
    pub distance: Option<u32>,
}

impl Candidate {
    pub(crate) fn new(row: usize, instance: &Instance, distance: Option<u32>) -> Self {
        Self {
            row,
            number: instance.number,
            node: instance.node as u32,
            weight: instance.weight,
            priority: instance.priority,
            load: instance.load,
            flows: instance.flows,
            distance,
        }
    }

    pub(crate) fn row(&self) -> usize {
        self.row
    }
}

/// A look at a place of a service's list: the candidate there, if the instance is one, and the place behind it, which is the
/// first one behind the last. None ends the walk.
pub(crate) type Look<'a> = dyn Fn(Link) -> Option<(Option<Candidate>, Link)> + 'a;

/// The instances that may be picked for one flow. They can be gone through as often as a policy likes; each time costs a look at
/// the flow table per instance, so one that needs only the first takes only that.
#[derive(Clone, Copy)]
pub struct Candidates<'a> {
    first: Link,
    next: Link,
    look: &'a Look<'a>,
}

impl<'a> Candidates<'a> {
    /// Candidates of a list that begins at place `first`; `next` is in turn. Places are not 0, which is that of an empty list.
    pub(crate) fn new(first: Link, next: Link, look: &'a Look<'a>) -> Self {
        Self { first, next, look }
    }

    /// In the order of their numbers, beginning behind the one that was picked last under this service IP; each comes once.
    pub fn iter(&self) -> impl Iterator<Item = Candidate> + use<'a> {
        walk(self.next, self.look)
    }

    /// In the order of their numbers, beginning with the lowest, whichever was picked last; each comes once.
    pub fn by_number(&self) -> impl Iterator<Item = Candidate> + use<'a> {
        walk(self.first, self.look)
    }
}

impl fmt::Debug for Candidates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

fn walk<'a>(begin: Link, look: &'a Look<'a>) -> impl Iterator<Item = Candidate> + use<'a> {
    let mut at = begin;
    core::iter::from_fn(move || {
        while at != 0 {
            let (candidate, behind) = look(at)?;
            at = if behind == begin { 0 } else { behind };
            if candidate.is_some() {
                return candidate;
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use crate::policy::samples::{Fleet, candidate};

    #[test]
    fn a_walk_begins_behind_the_last_pick_and_can_be_repeated() {
        let mut fleet = Fleet::of([1, 3, 4, 8].map(candidate));
        fleet.memory.last = 4;
        fleet.exclude(8);
        fleet.with_candidates(|candidates| {
            for _ in 0..2 {
                assert_eq!(candidates.iter().map(|c| c.number).collect::<Vec<_>>(), [4, 1, 3]);
                assert_eq!(candidates.by_number().map(|c| c.number).collect::<Vec<_>>(), [1, 3, 4]);
            }
        });
    }

    #[test]
    fn a_walk_ends_where_nothing_is_and_where_nothing_may_be_picked() {
        let mut fleet = Fleet::of([]);
        fleet.with_candidates(|candidates| assert_eq!(candidates.iter().count(), 0));
        fleet = Fleet::of([0, 1].map(candidate));
        fleet.exclude(0);
        fleet.exclude(1);
        fleet.with_candidates(|candidates| assert_eq!(candidates.iter().chain(candidates.by_number()).count(), 0));
    }
}
