//! Time as the engine knows it: milliseconds since an arbitrary start that the shell chooses.
//!
//! Nothing here reads a clock. The shell passes an [`Instant`] to every call that depends on time, so a test can be the clock.
//! No operation panics: those that could overflow saturate or return `None`.

pub use core::time::Duration;

/// A point in time, in milliseconds since an arbitrary start that is the same for the life of the process.
///
/// Instants are comparable within one process only. Wall-clock time is not derived from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The start: zero milliseconds.
    pub const ZERO: Self = Self(0);

    /// The latest instant there is. Used as "never".
    pub const MAX: Self = Self(u64::MAX);

    /// The instant `millis` milliseconds after the start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The instant `secs` seconds after the start; the latest one there is if that overflows.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the start.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This instant plus `duration` (whole milliseconds, rounded down), or [`Instant::MAX`] on overflow.
    #[must_use]
    pub const fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This instant plus `millis` milliseconds, or [`Instant::MAX`] on overflow. Costs less than a [`Duration`].
    #[must_use]
    pub const fn saturating_add_millis(self, millis: u32) -> Self {
        Self(self.0.saturating_add(millis as u64))
    }

    /// This instant plus `duration` (whole milliseconds, rounded down), or `None` on overflow.
    #[must_use]
    pub const fn checked_add(self, duration: Duration) -> Option<Self> {
        match self.0.checked_add(millis(duration)) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// This instant minus `duration` (whole milliseconds, rounded down), or [`Instant::ZERO`] when that lies before the start.
    #[must_use]
    pub const fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// How long ago `earlier` was, seen from here. Zero when `earlier` is in fact later.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Whole milliseconds, `u64::MAX` when there are more.
const fn millis(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1000).saturating_add(duration.subsec_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addition_saturates_at_the_end_of_time() {
        assert_eq!(Instant(5).saturating_add(Duration::from_micros(1_999)), Instant(6));
        assert_eq!(Instant(5).saturating_add(Duration::MAX), Instant::MAX);
        assert_eq!(Instant(5).checked_add(Duration::MAX), None);
        assert_eq!(Instant(5).checked_add(Duration::from_secs(1)), Some(Instant(1_005)));
        assert_eq!(Instant::from_secs(u64::MAX), Instant::MAX);
    }

    #[test]
    fn the_time_since_a_later_instant_is_zero() {
        assert_eq!(Instant(5).saturating_duration_since(Instant(9)), Duration::ZERO);
        assert_eq!(Instant(9).saturating_duration_since(Instant(5)), Duration::from_millis(4));
        assert_eq!(Instant(9).saturating_sub(Duration::from_secs(1)), Instant::ZERO);
    }
}
