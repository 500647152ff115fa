//! `RR`: each new flow goes to the instance behind the one that the last flow went to.

use super::{Candidate, Candidates, Memory, NewFlow, Policy};

/// Exact round robin per service IP: over any run of flows, two instances that stay in the table differ by at most one.
#[derive(Clone, Copy, Debug)]
pub struct RoundRobin;

impl Policy for RoundRobin {
    fn ip_type(&self) -> &'static str {
        "RR"
    }

    fn sla_field(&self) -> &'static str {
        "rr_ip"
    }

    fn block(&self) -> u8 {
        2
    }

    fn summary(&self) -> &'static str {
        "Round robin: each new flow goes to the instance behind the one that the last flow went to."
    }

    fn pick(&self, _flow: &NewFlow, _memory: &Memory, candidates: &Candidates<'_>) -> Option<Candidate> {
        candidates.iter().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::samples::{Fleet, candidate};

    #[test]
    fn all_have_their_turn_and_one_that_collides_is_skipped_once() {
        let mut fleet = Fleet::of([0, 2, 5].map(candidate));
        assert_eq!(fleet.run(&RoundRobin, 6), [0, 2, 5, 0, 2, 5]);
        fleet.exclude(2);
        assert_eq!(fleet.run(&RoundRobin, 3), [0, 5, 0]);
        fleet.admit(2);
        assert_eq!(fleet.run(&RoundRobin, 3), [2, 5, 0]);
    }
}
