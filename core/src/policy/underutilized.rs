//! `Underutilized`: each new flow goes to the instance with the lowest reported load.

use super::{Candidate, Candidates, Memory, NewFlow, Policy};

/// The lowest load that instances report; round robin among those that report the same. Reports come seconds apart, so a burst of
/// flows goes to one instance until the next one.
#[derive(Clone, Copy, Debug)]
pub struct Underutilized;

impl Policy for Underutilized {
    fn ip_type(&self) -> &'static str {
        "Underutilized"
    }

    fn sla_field(&self) -> &'static str {
        "underutilized_ip"
    }

    fn block(&self) -> u8 {
        3
    }

    fn summary(&self) -> &'static str {
        "The instance with the lowest reported load, round robin among equals."
    }

    fn pick(&self, _flow: &NewFlow, _memory: &Memory, candidates: &Candidates<'_>) -> Option<Candidate> {
        // Of several with the lowest value this is the first one.
        candidates.iter().min_by_key(|candidate| candidate.load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::samples::{Fleet, candidate};

    fn fleet(loads: &[u16]) -> Fleet {
        Fleet::of((0..).zip(loads).map(|(number, load)| Candidate { load: *load, ..candidate(number) }))
    }

    #[test]
    fn the_lowest_load_gets_all_flows_and_equals_take_turns() {
        assert_eq!(fleet(&[500, 20, 30]).run(&Underutilized, 3), [1, 1, 1]);
        assert_eq!(fleet(&[500, 20, 900, 20, 20]).run(&Underutilized, 6), [1, 3, 4, 1, 3, 4]);
        assert_eq!(fleet(&[0, 0]).run(&Underutilized, 4), [0, 1, 0, 1], "nobody has reported yet");
    }

    #[test]
    fn one_that_collides_is_replaced_by_the_next_lowest_load() {
        let mut fleet = fleet(&[500, 20, 30]);
        fleet.exclude(1);
        assert_eq!(fleet.run(&Underutilized, 2), [2, 2]);
        fleet.admit(1);
        assert_eq!(fleet.run(&Underutilized, 2), [1, 1]);
    }
}
