//! Network coordinates: a place for each node, so that the distance of two places predicts the round trip between two nodes that
//! never spoke (Vivaldi; Dabek, Cox, Kaashoek, Morris: "Vivaldi: A Decentralized Network Coordinate System", 2004).
//!
//! Fixed point, so that boards without floating point predict the same as servers.

/// A place: two axes and the height above the plane, which is the node's way into the network (section 5.4 of the paper). In units of
/// 1/16 ms. All zero is no place: the node does not know its own yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coordinate(pub [i16; 3]);

impl Coordinate {
    /// No place.
    pub const UNKNOWN: Self = Self([0; 3]);

    /// Whether it is a place.
    pub fn is_known(self) -> bool {
        self != Self::UNKNOWN
    }

    /// The round trip that two places predict, in microseconds, rounded down: the way in the plane, and down from and up to both
    /// heights. A height below zero, which only a broken node says, counts as zero.
    pub fn distance(self, other: Self) -> u32 {
        let (Self([x, y, height]), Self([other_x, other_y, other_height])) = (self, other);
        let (dx, dy) = (u64::from(x.abs_diff(other_x)), u64::from(y.abs_diff(other_y)));
        let square = dx.saturating_mul(dx).saturating_add(dy.saturating_mul(dy));
        // A unit is 62.5 µs, its square 15,625 / 4 square microseconds.
        let plane = (square.saturating_mul(15_625) >> 2).isqrt();
        let heights = u64::from(height.max(0).unsigned_abs()).saturating_add(other_height.max(0).unsigned_abs().into());
        let distance = plane.saturating_add(heights.saturating_mul(125) >> 1);
        // It is below 10 s.
        u32::try_from(distance).unwrap_or(u32::MAX)
    }
}

impl From<[i16; 3]> for Coordinate {
    fn from(place: [i16; 3]) -> Self {
        Self(place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_distance_is_the_way_in_the_plane_and_both_heights() {
        let here = Coordinate([16, -32, 8]);
        assert_eq!(here.distance(here), 1_000, "two nodes at one place are two heights apart");
        assert_eq!(here.distance(Coordinate([16 + 48, -32 + 64, 0])), 5_000 + 500, "3, 4, 5 ms and half a millisecond");
        assert_eq!(here.distance(Coordinate([17, -32, -9])), 62 + 500);
        assert!(!Coordinate::UNKNOWN.is_known() && Coordinate([0, 0, 1]).is_known());
    }

    #[test]
    fn the_farthest_places_do_not_overflow() {
        let corner = Coordinate([i16::MIN, i16::MIN, i16::MAX]);
        assert_eq!(corner.distance(Coordinate([i16::MAX; 3])), 5_792_530 + 4_095_875);
        assert_eq!(corner.distance(Coordinate([i16::MIN; 3])), 2_047_937);
    }

    proptest! {
        #[test]
        fn a_distance_is_that_of_floating_point_and_the_same_from_both_sides(a in any::<[i16; 3]>(), b in any::<[i16; 3]>()) {
            let distance = Coordinate(a).distance(Coordinate(b));
            prop_assert_eq!(distance, Coordinate(b).distance(Coordinate(a)));
            let [dx, dy] = [0, 1].map(|axis| f64::from(a[axis]) - f64::from(b[axis]));
            let expected = (dx.hypot(dy) + f64::from(a[2].max(0)) + f64::from(b[2].max(0))) * 62.5;
            prop_assert!((f64::from(distance) - expected).abs() <= 2.0, "{} for {}", distance, expected);
        }
    }
}
