//! What the driver has counted since the start.

use core::sync::atomic::{AtomicU32, Ordering};

use super::chip::CHIP;
use super::registers::RX_DROP;

/// Counts since the start. Each wraps at 2^32.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, defmt::Format)]
pub struct Counters {
    /// Frames that were handed to the stack.
    pub rx_frames: u32,
    /// Frames that came in with an error, and were dropped.
    pub rx_errors: u32,
    /// Frames longer than 1514 bytes and their check sequence, dropped.
    pub rx_oversize: u32,
    /// Frames that the chip had no room for. QEMU's chip drops them uncounted.
    pub rx_dropped: u32,
    /// Frames that were handed to the chip.
    pub tx_frames: u32,
    /// Frames that the chip says it could not send.
    pub tx_errors: u32,
    /// Times when the stack had to wait because the chip had no room for a frame.
    pub tx_full: u32,
    /// Times when the chip had to be started anew because its FIFOs were out of step or it said so. What they held is lost.
    pub restarts: u32,
}

/// One counter.
pub(super) struct Counter(AtomicU32);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    pub(super) fn add(&self, count: u32) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) static RX_FRAMES: Counter = Counter::new();
pub(super) static RX_ERRORS: Counter = Counter::new();
pub(super) static RX_OVERSIZE: Counter = Counter::new();
static RX_DROPPED: Counter = Counter::new();
pub(super) static TX_FRAMES: Counter = Counter::new();
pub(super) static TX_ERRORS: Counter = Counter::new();
pub(super) static TX_FULL: Counter = Counter::new();
pub(super) static RESTARTS: Counter = Counter::new();

/// The counters as they stand. The driver itself has by then moved into the runner of the stack.
pub fn counters() -> Counters {
    RX_DROPPED.add(CHIP.read(RX_DROP));
    Counters {
        rx_frames: RX_FRAMES.get(),
        rx_errors: RX_ERRORS.get(),
        rx_oversize: RX_OVERSIZE.get(),
        rx_dropped: RX_DROPPED.get(),
        tx_frames: TX_FRAMES.get(),
        tx_errors: TX_ERRORS.get(),
        tx_full: TX_FULL.get(),
        restarts: RESTARTS.get(),
    }
}
