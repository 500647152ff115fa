//! The clock that the engine, the root and the attachments share.

use std::time::{Duration, Instant};

/// Translates between the system's monotonic clock and the milliseconds of `core`, which begin when the daemon does.
#[derive(Clone, Copy, Debug)]
pub struct EngineClock {
    zero: Instant,
}

impl EngineClock {
    /// A clock that begins at `zero`.
    pub fn new(zero: Instant) -> Self {
        Self { zero }
    }

    /// `now` as `core` counts it; zero for a time before the beginning.
    pub fn at(self, now: Instant) -> acorn_core::time::Instant {
        let millis = now.saturating_duration_since(self.zero).as_millis();
        acorn_core::time::Instant::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// The present as `core` counts it.
    pub fn now(self) -> acorn_core::time::Instant {
        self.at(Instant::now())
    }

    /// When a time of `core`'s is.
    pub fn when(self, at: acorn_core::time::Instant) -> Instant {
        self.zero + Duration::from_millis(at.as_millis())
    }
}
