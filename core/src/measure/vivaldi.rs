//! Vivaldi: every node is pulled and pushed by springs as long as the round trips that it measures, until places predict them (Dabek,
//! Cox, Kaashoek, Morris: "Vivaldi: A Decentralized Network Coordinate System", SIGCOMM 2004; figure 3 and section 5.4).
//!
//! Fixed point. Inside, a place is 256 times finer than a [`Coordinate`], or small corrections would be lost in rounding.

use crate::coordinate::Coordinate;

/// An estimated relative error of 1, as it goes over the network.
pub const ERROR_ONE: u16 = 4096;
const ONE: i64 = ERROR_ONE as i64;
/// No estimate is better than this: the network changes.
const ERROR_LEAST: i64 = ONE / 64;
/// `c_c` and `c_e` of the paper: a sample moves a place, and its error, by a quarter of what it says at most.
const SHARE: i64 = 4;
/// One unit of a [`Coordinate`].
const UNIT: i64 = 256;
/// The least height: 1/8 ms. It also tells a place from none.
const HEIGHT_LEAST: i64 = 2 * UNIT;
/// The largest value of an axis.
const FAR: i64 = 32_767 * UNIT;
/// Round trips that are longer say nothing of places, in microseconds.
const ROUND_TRIP_MOST: u32 = 5_000_000;

/// A measured round trip, and what the other node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// In microseconds.
    pub round_trip: u32,
    /// Where the other node believes to be.
    pub place: Coordinate,
    /// Its estimated relative error, [`ERROR_ONE`] being 1.
    pub error: u16,
    /// Anything: the direction for two nodes at the same place.
    pub random: u32,
}

/// Where a node believes to be, and how sure it is. All zero when new: at the origin, knowing nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    axes: [i32; 2],
    height: i32,
    /// What is sure: [`ERROR_ONE`] less the estimated error.
    sureness: u16,
}

impl Place {
    /// Knows nothing.
    pub const NEW: Self = Self { axes: [0; 2], height: 0, sureness: 0 };

    /// The place, rounded; unknown before the first sample.
    pub fn coordinate(&self) -> Coordinate {
        let [x, y] = self.axes;
        Coordinate([x, y, self.height].map(|value| i16::try_from(value >> 8).unwrap_or(i16::MAX)))
    }

    /// The estimated relative error of what it predicts, [`ERROR_ONE`] being 1 and the worst.
    pub fn error(&self) -> u16 {
        ERROR_ONE.saturating_sub(self.sureness)
    }
}

/// Moves a place by what a sample says, by more the less sure it is and the surer the other node is. A round trip of nothing or of
/// more than 5 s says nothing.
pub fn learn(place: &mut Place, sample: Sample) {
    if sample.round_trip == 0 || sample.round_trip > ROUND_TRIP_MOST {
        return;
    }
    // A unit of a coordinate is 62.5 µs.
    let round_trip = i64::from(sample.round_trip).saturating_mul(UNIT.saturating_mul(2)).saturating_div(125);
    let [x, y, height] = sample.place.0.map(|value| i64::from(value).saturating_mul(UNIT));
    let [own_x, own_y] = place.axes.map(i64::from);
    let own_height = i64::from(place.height).max(HEIGHT_LEAST);
    let (dx, dy) = (own_x.saturating_sub(x), own_y.saturating_sub(y));
    let plane = root(dx.saturating_mul(dx).saturating_add(dy.saturating_mul(dy)));
    let heights = own_height.saturating_add(height.max(0));
    let distance = plane.saturating_add(heights);

    let own_error = i64::from(place.error()).max(ERROR_LEAST);
    // Whoever has no place yet is as unsure as can be, whatever it says.
    let error = if sample.place.is_known() { i64::from(sample.error).clamp(ERROR_LEAST, ONE) } else { ONE };
    let both = own_error.saturating_add(error);
    let share = part(own_error.saturating_mul(ONE), both.saturating_mul(SHARE));
    let off = round_trip.saturating_sub(distance);
    let relative = part(off.saturating_abs().saturating_mul(ONE), round_trip).min(ONE);
    let kept = own_error.saturating_mul(ONE.saturating_sub(share));
    let own_error = (relative.saturating_mul(share).saturating_add(kept) >> 12).clamp(ERROR_LEAST, ONE);
    place.sureness = u16::try_from(ONE.saturating_sub(own_error)).unwrap_or(0);

    let force = off.saturating_mul(share) >> 12;
    let (dx, dy, plane) = if plane == 0 { direction(sample.random, heights) } else { (dx, dy, plane) };
    let length = plane.saturating_add(heights);
    let along = |way: i64| part(force.saturating_mul(way), length);
    let axis = |own: i64, way: i64| narrow(own.saturating_add(along(way)).clamp(FAR.saturating_neg(), FAR));
    place.axes = [axis(own_x, dx), axis(own_y, dy)];
    place.height = narrow(own_height.saturating_add(along(heights)).clamp(HEIGHT_LEAST, FAR));
}

/// A way of about the length `far` out of a common place: nodes that begin at the same one have to come apart.
fn direction(random: u32, far: i64) -> (i64, i64, i64) {
    let axis = |bits: u32| i64::from(bits & 0xff).saturating_sub(127).saturating_mul(far) >> 7;
    let (dx, dy) = (axis(random), axis(random >> 8));
    let length = root(dx.saturating_mul(dx).saturating_add(dy.saturating_mul(dy)));
    (dx, dy, length)
}

fn root(square: i64) -> i64 {
    i64::try_from(square.unsigned_abs().isqrt()).unwrap_or(i64::MAX)
}

fn part(whole: i64, of: i64) -> i64 {
    whole.checked_div(of).unwrap_or(0)
}

fn narrow(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may panic")]

    use proptest::prelude::*;

    use super::*;

    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as u32
        }
    }

    /// Lets nodes measure each other at random, and returns their places.
    fn settle(nodes: usize, rounds: usize, mut round_trip: impl FnMut(usize, usize, u32) -> u32) -> Vec<Place> {
        let (mut places, mut chance) = (vec![Place::NEW; nodes], Chance(7));
        for _ in 0..rounds {
            for a in 0..nodes {
                let b = (a + 1 + chance.next() as usize % (nodes - 1)) % nodes;
                let other = places[b];
                let sample = Sample {
                    round_trip: round_trip(a, b, chance.next()),
                    place: other.coordinate(),
                    error: other.error(),
                    random: chance.next(),
                };
                learn(&mut places[a], sample);
            }
        }
        places
    }

    /// The relative errors of what places predict, sorted.
    fn errors(places: &[Place], truth: impl Fn(usize, usize) -> u32) -> Vec<f64> {
        let mut errors = Vec::new();
        for a in 0..places.len() {
            for b in 0..a {
                let predicted = f64::from(places[a].coordinate().distance(places[b].coordinate()));
                errors.push((predicted - f64::from(truth(a, b))).abs() / f64::from(truth(a, b)));
            }
        }
        errors.sort_by(f64::total_cmp);
        errors
    }

    /// Nodes on a plane, each with a way in: what two axes and a height can say exactly.
    fn truth(a: usize, b: usize) -> u32 {
        let at = |n: usize| ((n * 7919 % 100) as f64, (n * 104_729 % 83) as f64, (n % 5) as f64 * 2.0 + 0.5);
        let ((ax, ay, ah), (bx, by, bh)) = (at(a), at(b));
        (((ax - bx).hypot(ay - by) + ah + bh) * 1_000.0) as u32
    }

    #[test]
    fn places_come_to_predict_round_trips_and_know_it() {
        let places = settle(40, 400, |a, b, _| truth(a, b));
        let errors = errors(&places, truth);
        let median = errors[errors.len() / 2];
        assert!(median < 0.03, "half of the predictions are off by more than {median}");
        assert!(errors[errors.len() * 95 / 100] < 0.2, "{}", errors[errors.len() * 95 / 100]);
        assert!(places.iter().all(|place| place.error() < ERROR_ONE / 8));
    }

    #[test]
    fn noise_of_a_tenth_leaves_predictions_usable() {
        let places = settle(40, 400, |a, b, chance| truth(a, b) * (95 + chance % 11) / 100);
        let errors = errors(&places, truth);
        assert!(errors[errors.len() / 2] < 0.06, "{}", errors[errors.len() / 2]);
    }

    #[test]
    fn a_new_node_finds_its_place_and_hardly_moves_the_others() {
        let mut places = settle(30, 400, |a, b, _| truth(a, b));
        let before = places[0];
        let sample = |other: &Place, round_trip| Sample {
            round_trip,
            place: other.coordinate(),
            error: other.error(),
            random: 99,
        };
        let mut new = Place::NEW;
        assert!(!new.coordinate().is_known() && new.error() == ERROR_ONE);
        let mut moved = places[0];
        learn(&mut moved, sample(&new, truth(0, 30)));
        let by = |axis: usize| before.axes[axis].abs_diff(moved.axes[axis]);
        assert!(by(0).max(by(1)) < 2 * 16 * 256, "by less than 2 ms: {before:?} {moved:?}");
        for round in 0..40 {
            let n = round % 30;
            let other = places[n];
            learn(&mut new, sample(&other, truth(30, n)));
        }
        places.push(new);
        let off = |n: usize| {
            let predicted = f64::from(places[n].coordinate().distance(new.coordinate()));
            (predicted - f64::from(truth(30, n))).abs() / f64::from(truth(30, n))
        };
        let mut errors: Vec<_> = (0..30).map(off).collect();
        errors.sort_by(f64::total_cmp);
        assert!(errors[15] < 0.1, "{errors:?}");
    }

    #[test]
    fn what_says_nothing_changes_nothing() {
        let mut place = Place::NEW;
        for round_trip in [0, ROUND_TRIP_MOST + 1, u32::MAX] {
            learn(&mut place, Sample { round_trip, place: Coordinate([1; 3]), error: 1, random: 0 });
        }
        assert_eq!(place, Place::NEW);
    }

    proptest! {
        #[test]
        fn no_samples_bring_a_place_out_of_its_range(
            samples in prop::collection::vec((any::<u32>(), any::<[i16; 3]>(), any::<u16>(), any::<u32>()), 0..200),
        ) {
            let mut place = Place::NEW;
            for (round_trip, other, error, random) in samples {
                let round_trip = round_trip % (ROUND_TRIP_MOST * 2);
                learn(&mut place, Sample { round_trip, place: Coordinate(other), error, random });
                prop_assert!(place.error() <= ERROR_ONE);
                prop_assert!(place == Place::NEW || place.coordinate().is_known());
                prop_assert!(place.coordinate().0[2] >= 0);
            }
        }
    }
}
