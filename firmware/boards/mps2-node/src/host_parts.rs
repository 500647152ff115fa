//! What other boards have in hardware.

use acorn_node::{EntropyError, EntropySource, Indicator, Meter, Store, Watchdog};
use mps2_an385::host::{self, State};
use mps2_an385::leds::Led;
use mps2_an385::{executor, lan9118, stack, watchdog};

/// The random numbers of the machine that runs QEMU.
pub struct HostEntropy;

impl EntropySource for HostEntropy {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        host::entropy(bytes).map_err(|_| EntropyError)
    }
}

/// One of the board's lamps.
pub struct Lamp(pub Led);

impl Indicator for Lamp {
    fn set(&mut self, on: bool) {
        self.0.set(on);
    }
}

/// The watchdog that is running.
pub struct Watch;

impl Watchdog for Watch {
    fn feed(&mut self) {
        watchdog::feed();
    }
}

/// A file of the machine that runs QEMU.
pub struct StateFile(State);

impl StateFile {
    /// Counts this start, and stores it. Without a file that works there is no start: a number that was used before would make the node's
    /// peers refuse it.
    pub fn open() -> Self {
        let before = defmt::unwrap!(State::load()).unwrap_or_default();
        let state = State { boots: before.boots.saturating_add(1), ..before };
        defmt::unwrap!(state.store());
        Self(state)
    }

    /// The number of this start.
    pub fn boot(&self) -> u32 {
        self.0.boots
    }
}

impl Store for StateFile {
    fn joined(&self) -> bool {
        self.0.joined
    }

    fn set_joined(&mut self, joined: bool) {
        self.0.joined = joined;
        if let Err(error) = self.0.store() {
            defmt::warn!("the state was not stored: {}", error);
        }
    }
}

/// Wake-ups, the stack, and what the Ethernet controller counted.
pub struct Readings;

impl Meter for Readings {
    fn each(&self, tell: &mut dyn FnMut(&'static str, u32)) {
        let frames = lan9118::counters();
        tell("wakeups", executor::wakeups());
        tell("stack_size", stack::size() as u32);
        tell("stack_used", stack::high_water() as u32);
        tell("rx_errors", frames.rx_errors);
    }
}
