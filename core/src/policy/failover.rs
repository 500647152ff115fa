//! `Failover`: each new flow goes to an instance of the best rank that is there.

use super::{Candidate, Candidates, Memory, NewFlow, Policy};

/// The lowest priority value among the living; round robin among those that have it. When a better one comes back, new flows go to
/// it again, while the flows that have begun stay where they are.
#[derive(Clone, Copy, Debug)]
pub struct Failover;

impl Policy for Failover {
    fn ip_type(&self) -> &'static str {
        "Failover"
    }

    fn sla_field(&self) -> &'static str {
        "failover_ip"
    }

    fn block(&self) -> u8 {
        6
    }

    fn summary(&self) -> &'static str {
        "The living instances with the lowest priority value, round robin among them; the others stand by."
    }

    fn pick(&self, _flow: &NewFlow, _memory: &Memory, candidates: &Candidates<'_>) -> Option<Candidate> {
        // Of several with the lowest value this is the first one.
        candidates.iter().min_by_key(|candidate| candidate.priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::samples::{Fleet, candidate};

    #[test]
    fn the_best_rank_is_served_round_robin_until_it_is_gone_and_again_when_it_is_back() {
        let ranks = [(0, 7), (1, 3), (2, 7), (3, 3), (4, u16::MAX)];
        let mut fleet = Fleet::of(ranks.map(|(number, priority)| Candidate { priority, ..candidate(number) }));
        assert_eq!(fleet.run(&Failover, 4), [1, 3, 1, 3]);
        fleet.exclude(1);
        assert_eq!(fleet.run(&Failover, 2), [3, 3]);
        fleet.exclude(3);
        assert_eq!(fleet.run(&Failover, 3), [0, 2, 0]);
        fleet.exclude(0);
        fleet.exclude(2);
        assert_eq!(fleet.run(&Failover, 1), [4]);
        fleet.admit(3);
        assert_eq!(fleet.run(&Failover, 2), [3, 3]);
        fleet.admit(1);
        assert_eq!(fleet.run(&Failover, 2), [1, 3]);
    }
}
