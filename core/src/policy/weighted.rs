//! `Weighted`: each instance gets the share of new flows that its weight says.

use super::{Candidate, Candidates, Memory, NewFlow, Policy};

/// Exact shares: of any run of flows that is as long as the sum of the weights, each instance gets exactly its weight's number,
/// while the weights and the set of instances stay as they are. (But for the one run in 2^32 flows in which the count of flows
/// wraps, and for flows that went elsewhere because their reverse path was taken.)
///
/// The instances lie side by side on a line, each as long as its weight. Each flow goes one step further on it, from the end back to
/// the beginning. The step has no divisor in common with the line's length, so in one run every place is met once; it is near the
/// golden section, so the picks of one instance are spread over the run.
///
/// An instance of weight 0 is picked only when all have that weight; then it is round robin.
#[derive(Clone, Copy, Debug)]
pub struct Weighted;

impl Policy for Weighted {
    fn ip_type(&self) -> &'static str {
        "Weighted"
    }

    fn sla_field(&self) -> &'static str {
        "weighted_ip"
    }

    fn block(&self) -> u8 {
        5
    }

    fn summary(&self) -> &'static str {
        "Exact shares: each instance gets the part of all flows that its weight says."
    }

    fn pick(&self, _flow: &NewFlow, memory: &Memory, candidates: &Candidates<'_>) -> Option<Candidate> {
        // 2^32 instances of the highest weight would fit.
        let length = candidates.by_number().fold(0u64, |sum, c| sum.saturating_add(u64::from(c.weight)));
        let Some(place) = u64::from(memory.turns).wrapping_mul(step(length)).checked_rem(length) else {
            return candidates.iter().next();
        };
        let mut left = place;
        // In an order that does not depend on the last pick, or the line would change under the step.
        candidates.by_number().find(|candidate| match left.checked_sub(u64::from(candidate.weight)) {
            Some(behind) => {
                left = behind;
                false
            }
            None => true,
        })
    }
}

/// The step through a line of this length: the first number from its golden section on that has no divisor in common with it. There
/// is one within a few dozen numbers, usually within three.
fn step(length: u64) -> u64 {
    // 2^32 times 0.618..., which no sum of weights in a table of 65,536 instances brings to overflow.
    let golden = length.saturating_mul(2_654_435_769) >> 32;
    (golden..=length).find(|step| divisor(*step, length) == 1).unwrap_or(1)
}

/// The greatest common divisor (Euclid).
fn divisor(mut a: u64, mut b: u64) -> u64 {
    while let Some(rest) = a.checked_rem(b) {
        (a, b) = (b, rest);
    }
    a
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::samples::{Fleet, candidate};

    fn fleet(weights: &[u16]) -> Fleet {
        Fleet::of((0..).zip(weights).map(|(number, weight)| Candidate { weight: *weight, ..candidate(number * 3) }))
    }

    proptest! {
        #[test]
        fn any_run_of_the_sum_of_weights_gives_each_its_weight(
            weights in prop::collection::vec(0u16..50, 1..12),
            turns in any::<u32>(),
            last in 0u32..40,
        ) {
            let mut fleet = fleet(&weights);
            let sum = weights.iter().map(|weight| u32::from(*weight)).sum::<u32>();
            prop_assume!(sum > 0 && turns.checked_add(sum).is_some());
            fleet.memory = Memory { turns, last };
            let mut picked = BTreeMap::new();
            for number in fleet.run(&Weighted, sum as usize) {
                *picked.entry(number).or_insert(0u16) += 1;
            }
            let expected: BTreeMap<_, _> =
                (0u32..).zip(&weights).filter(|(_, weight)| **weight > 0).map(|(n, weight)| (n * 3, *weight)).collect();
            prop_assert_eq!(picked, expected);
        }

        #[test]
        fn a_step_meets_every_place_and_is_near_the_golden_section(length in 1u64..=65_536 * 65_535) {
            let step = step(length);
            prop_assert_eq!(divisor(step, length), 1);
            prop_assert!(length < 100 || step.abs_diff((length as f64 * 0.618_034) as u64) <= 50, "{} of {}", step, length);
        }
    }

    #[test]
    fn the_picks_of_one_instance_are_spread_over_the_run() {
        assert_eq!(fleet(&[1, 1]).run(&Weighted, 4), [0, 3, 0, 3]);
        // Never more than two of the heavy one between two of the others where it has three fifths.
        let picked = fleet(&[30, 20]).run(&Weighted, 100);
        let longest = picked.chunk_by(|a, b| a == b).map(<[u32]>::len).max();
        assert_eq!(longest, Some(2), "{picked:?}");
    }

    #[test]
    fn weight_zero_is_picked_only_when_all_have_it() {
        assert_eq!(fleet(&[0, 2, 0]).run(&Weighted, 5), [3; 5]);
        assert_eq!(fleet(&[0, 0, 0]).run(&Weighted, 5), [0, 3, 6, 0, 3], "round robin");
        let mut fleet = fleet(&[0, 2, 0]);
        fleet.exclude(3);
        assert_eq!(fleet.run(&Weighted, 3), [0, 6, 0], "the only one with a weight is gone");
        fleet.exclude(0);
        fleet.exclude(6);
        assert!(fleet.run(&Weighted, 1).is_empty());
    }

    #[test]
    fn one_that_collides_leaves_its_flow_to_the_others_by_their_weights() {
        let mut fleet = fleet(&[3, 2, 1]);
        fleet.exclude(0);
        let mut picked = fleet.run(&Weighted, 30);
        picked.sort_unstable();
        assert_eq!(picked, [[3; 20].as_slice(), &[6; 10]].concat());
    }

    #[test]
    fn the_heaviest_table_does_not_overflow() {
        let mut fleet = fleet(&[u16::MAX; 64]);
        for turns in [0, 1, u32::MAX - 1, u32::MAX] {
            fleet.memory.turns = turns;
            assert_eq!(fleet.run(&Weighted, 1).len(), 1);
        }
        let length = 65_536 * u64::from(u16::MAX);
        assert!(u64::from(u32::MAX).checked_mul(step(length)).is_some());
        assert!(length.checked_mul(2_654_435_769).is_some());
    }
}
