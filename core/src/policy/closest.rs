//! `Closest`: each new flow goes to the instance with the shortest round trip.

use super::{Candidate, Candidates, Memory, NewFlow, Policy};

/// A node that is closer by less than this, in microseconds, is not worth a move: two machines on one switch differ by less.
const WORTH_MICROS: u32 = 200;

/// The shortest distance, with hysteresis; round robin where distance says nothing.
///
/// A distance is a measured round trip, or one that network coordinates predict; both are noisy. So the node that was picked last is
/// kept until another one is *clearly* closer: nearer than three quarters of its distance, and nearer by at least 200 µs. Noise of
/// ±10 % on both sides never reaches that between two nodes that are equally far. This node itself is at distance 0, which is not
/// noise: an instance on it is always clearly closer than one elsewhere.
///
/// Instances on the same node are equally far, whatever the measurements say: they take turns. So do those whose distance is not
/// known, which come behind all with a distance.
///
/// When the reverse path to the kept node's instances is taken, the flow goes to the next best one. That one is kept from then on if
/// the other is not clearly closer.
#[derive(Clone, Copy, Debug)]
pub struct Closest;

impl Policy for Closest {
    fn ip_type(&self) -> &'static str {
        "Closest"
    }

    fn sla_field(&self) -> &'static str {
        "closest_ip"
    }

    fn block(&self) -> u8 {
        1
    }

    fn summary(&self) -> &'static str {
        "The instance with the shortest round trip, measured or predicted; a small difference does not move it."
    }

    fn needs_distance(&self) -> bool {
        true
    }

    fn pick(&self, _flow: &NewFlow, memory: &Memory, candidates: &Candidates<'_>) -> Option<Candidate> {
        // Of several with the lowest value this is the first one. None would come before all others.
        let best = candidates.iter().min_by_key(|candidate| candidate.distance.map_or(u64::MAX, u64::from))?;
        let Some(distance) = best.distance else {
            return Some(best);
        };
        let kept = candidates.iter().find(|candidate| candidate.number.checked_add(1) == Some(memory.last));
        let node = match kept.and_then(|kept| Some((kept.node, kept.distance?))) {
            Some((node, far)) if !is_clearly_closer(distance, far) => node,
            _ => best.node,
        };
        candidates.iter().find(|candidate| candidate.node == node)
    }
}

/// Whether a distance is so much shorter than another one that it is not noise, in microseconds.
fn is_clearly_closer(distance: u32, than: u32) -> bool {
    if distance == 0 {
        return than != 0;
    }
    let quarters = |distance: u32, n: u64| u64::from(distance).saturating_mul(n);
    quarters(distance, 4) < quarters(than, 3) && than.saturating_sub(distance) >= WORTH_MICROS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

    use std::collections::BTreeSet;

    use super::*;
    use crate::policy::samples::{Fleet, candidate};

    /// One instance per node, at these distances.
    fn fleet(distances: &[Option<u32>]) -> Fleet {
        Fleet::of((0..).zip(distances).map(|(number, distance)| at(number, number, *distance)))
    }

    fn at(number: u32, node: u32, distance: Option<u32>) -> Candidate {
        Candidate { node, distance, ..candidate(number) }
    }

    /// A number in -10 to 10, from a fixed sequence (Marsaglia's xorshift).
    fn percent(state: &mut u32) -> i64 {
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        i64::from(*state % 21) - 10
    }

    #[test]
    fn the_shortest_distance_gets_all_flows_and_an_unknown_one_comes_last() {
        assert_eq!(fleet(&[Some(9_000), None, Some(2_000), Some(30_000)]).run(&Closest, 3), [2, 2, 2]);
        let mut fleet = fleet(&[None, Some(u32::MAX), None]);
        assert_eq!(fleet.run(&Closest, 2), [1, 1]);
        fleet.exclude(1);
        assert_eq!(fleet.run(&Closest, 4), [2, 0, 2, 0], "nothing is known: round robin");
        fleet.admit(1);
        assert_eq!(fleet.run(&Closest, 2), [1, 1]);
    }

    #[test]
    fn noise_of_ten_percent_on_both_sides_never_moves_a_flow() {
        for distance in [100, 1_000, 20_000, 300_000] {
            let (mut fleet, mut state) = (fleet(&[None; 3]), 1);
            let mut picked = BTreeSet::new();
            for _ in 0..10_000 {
                for number in 0..3 {
                    let noisy = distance + distance * percent(&mut state) / 100;
                    fleet.put(at(number, number, Some(noisy as u32)));
                }
                picked.extend(fleet.run(&Closest, 1));
            }
            assert_eq!(picked.len(), 1, "{picked:?} at {distance} µs");
        }
    }

    #[test]
    fn whatever_the_distances_noise_moves_a_flow_at_most_once_to_the_closer_one() {
        for farther in (10_000..20_000i64).step_by(250) {
            let (mut fleet, mut state, mut moves, mut last) = (fleet(&[None; 2]), 7, 0, 1);
            fleet.memory.last = 2;
            for _ in 0..1_000 {
                for (number, distance) in [(0, 10_000), (1, farther)] {
                    let noisy = distance + distance * percent(&mut state) / 100;
                    fleet.put(at(number, number, Some(noisy as u32)));
                }
                let picked = fleet.run(&Closest, 1)[0];
                moves += u32::from(picked != last);
                last = picked;
            }
            assert!(moves <= 1, "{moves} moves at {farther} µs against 10,000 µs");
            assert!(farther < 15_000 || last == 0, "{farther} µs against 10,000 µs");
        }
    }

    #[test]
    fn what_is_clearly_closer_takes_over_and_what_is_not_does_not() {
        for (other, moves) in [(7_499, true), (7_500, false), (9_999, false), (20_000, false)] {
            let mut fleet = fleet(&[Some(10_000), None]);
            assert_eq!(fleet.run(&Closest, 1), [0]);
            fleet.put(at(1, 1, Some(other)));
            assert_eq!(fleet.run(&Closest, 2), [u32::from(moves); 2], "{other} µs against 10,000 µs");
        }
        let mut fleet = fleet(&[Some(300), Some(101)]);
        fleet.memory.last = 1;
        assert_eq!(fleet.run(&Closest, 1), [0], "on one switch a third of the distance is nothing");
        fleet.put(at(1, 1, Some(100)));
        assert_eq!(fleet.run(&Closest, 1), [1]);
    }

    #[test]
    fn an_instance_on_this_node_always_takes_over_and_is_left_for_none() {
        let mut fleet = fleet(&[Some(50), None]);
        assert_eq!(fleet.run(&Closest, 1), [0]);
        fleet.put(at(1, 1, Some(0)));
        assert_eq!(fleet.run(&Closest, 2), [1, 1]);
        fleet.put(at(0, 0, Some(1)));
        assert_eq!(fleet.run(&Closest, 2), [1, 1]);
    }

    #[test]
    fn instances_on_the_same_node_take_turns() {
        let near = [at(0, 1, Some(900)), at(3, 1, Some(900)), at(4, 1, Some(900))];
        let far = [at(1, 2, Some(1_000)), at(2, 2, Some(1_000))];
        let mut fleet = Fleet::of(near.into_iter().chain(far));
        assert_eq!(fleet.run(&Closest, 5), [0, 3, 4, 0, 3]);
    }

    #[test]
    fn one_that_collides_is_replaced_and_comes_back_when_it_is_clearly_closer() {
        let mut near = fleet(&[Some(10_000), Some(12_000), Some(90_000)]);
        assert_eq!(near.run(&Closest, 1), [0]);
        near.exclude(0);
        assert_eq!(near.run(&Closest, 1), [1]);
        near.admit(0);
        assert_eq!(near.run(&Closest, 1), [1], "12 ms are as good as 10 ms");
        near.exclude(0);
        near.exclude(1);
        assert_eq!(near.run(&Closest, 1), [2]);
        near.admit(0);
        near.admit(1);
        assert_eq!(near.run(&Closest, 2), [0, 0]);
        for number in 0..3 {
            near.exclude(number);
        }
        assert!(near.run(&Closest, 1).is_empty());
    }
}
