//! The two times of the root: the process's own, which only goes forward and decides everything while it runs, and the wall
//! clock, which is what deadlines are stored in.

use std::time::Duration;

use acorn_core::time::Instant;

/// What the wall clock said at some instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    at: Instant,
    unix_ms: u64,
}

impl Clock {
    pub(super) fn new(at: Instant, unix: u64) -> Self {
        Self { at, unix_ms: unix.saturating_mul(1_000) }
    }

    /// Milliseconds since 1970.
    pub(super) fn unix_ms(&self, now: Instant) -> u64 {
        self.unix_ms.saturating_add(now.as_millis()).saturating_sub(self.at.as_millis())
    }

    /// Seconds since 1970.
    pub(super) fn unix(&self, now: Instant) -> u64 {
        self.unix_ms(now) / 1_000
    }

    /// The instant of a stored deadline, at most `longest` from now on: a wall clock that was set back can't prolong it further.
    pub(super) fn deadline(&self, now: Instant, unix_ms: u64, longest: Duration) -> Instant {
        let left = Duration::from_millis(unix_ms.saturating_sub(self.unix_ms(now)));
        now.saturating_add(left.min(longest))
    }
}

/// A duration in milliseconds, for storing.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_survives_in_wall_time_and_a_clock_set_back_does_not_prolong_it() {
        let before = Clock::new(Instant(500), 1_000);
        let stored = before.unix_ms(Instant(2_500)) + 60_000;
        let minute = Duration::from_secs(60);
        assert_eq!(Clock::new(Instant(0), 1_012).deadline(Instant(0), stored, minute), Instant(50_000));
        assert_eq!(Clock::new(Instant(7), 5_000).deadline(Instant(7), stored, minute), Instant(7));
        assert_eq!(Clock::new(Instant(7), 0).deadline(Instant(7), stored, minute), Instant(60_007));
    }
}
