//! What the manager is told of where this node is: seldom, because everyone who follows an instance here hears of it.

use crate::coordinate::Coordinate;
use crate::measure::{ERROR_ONE, Place};
use crate::sync::Backoff;
use crate::sync::message::Report;
use crate::time::{Duration, Instant};

const REPEAT: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(4) };
/// How far reports are apart at least.
const SPACING: Duration = Duration::from_secs(10);
/// A place that moved by less than this, in microseconds, is the same to everybody.
const MOVED: u32 = 2_000;
/// A node that is less sure than this knows nothing worth telling.
const SURE: u16 = ERROR_ONE / 2;

/// The report that is under way, and the one before. All zero when new.
pub(super) struct Reports {
    told: Coordinate,
    error: u16,
    /// The number of the report that is under way; 0 when none is.
    request: u32,
    tries: u8,
    next: Instant,
    /// No new report before this.
    spaced: Instant,
}

impl Reports {
    pub(super) const fn new() -> Self {
        Self { told: Coordinate::UNKNOWN, error: 0, request: 0, tries: 0, next: Instant::ZERO, spaced: Instant::ZERO }
    }

    /// Whether a place is to be told. One that is unsure moves without being elsewhere: the less sure, the farther.
    pub(super) fn is_news(&self, now: Instant, place: &Place) -> bool {
        if self.request != 0 || now < self.spaced || place.error() > SURE {
            return false;
        }
        let (here, error) = (place.coordinate(), u32::from(place.error()));
        if !self.told.is_known() {
            return here.is_known();
        }
        // Two places at no distance are two heights apart.
        let flat = |place: Coordinate| Coordinate([place.0[0], place.0[1], 0]);
        let heights = u32::from(here.0[2].abs_diff(self.told.0[2])).saturating_mul(125) >> 1;
        let moved = flat(here).distance(flat(self.told)).saturating_add(heights);
        // Twice as far at an error of 1/4.
        moved > MOVED.saturating_add(MOVED.saturating_mul(error) >> 10)
    }

    pub(super) fn begin(&mut self, now: Instant, number: u32, place: &Place) {
        self.told = place.coordinate();
        self.error = place.error();
        self.spaced = now.saturating_add(SPACING);
        self.say(now, number);
    }

    pub(super) fn answered(&mut self, request: u32) {
        if self.request == request {
            self.request = 0;
        }
    }

    /// The manager does not remember what it was told.
    pub(super) fn forgotten(&mut self, now: Instant, number: u32) {
        if self.told.is_known() {
            self.say(now, number);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (self.request != 0).then_some(self.next)
    }

    /// The report that is to be said.
    pub(super) fn due(&mut self, now: Instant) -> Option<Report> {
        if self.request == 0 || now < self.next {
            return None;
        }
        self.next = now.saturating_add(REPEAT.after(self.tries));
        self.tries = self.tries.saturating_add(1);
        Some(Report { request: self.request, coordinate: self.told.0, error: self.error })
    }

    fn say(&mut self, now: Instant, number: u32) {
        (self.request, self.tries, self.next) = (number.max(1), 0, now);
    }
}
