//! What a board brings.

use acorn_core::provision::Provisioning;
use acorn_embassy::{Clashes, EntropySource};
use embassy_net::Stack;

/// Remembers, over losses of power, whether the manager has taken the node in.
pub trait Store {
    /// Whether it has.
    fn joined(&self) -> bool;
    /// It has, or it has not any more. What can't be stored is forgotten: the node then finds it out again.
    fn set_joined(&mut self, joined: bool);
}

/// One lamp.
pub trait Indicator {
    /// Switches it on or off.
    fn set(&mut self, on: bool);
}

/// What resets the board when the application hangs.
pub trait Watchdog {
    /// Says that it does not. Called every 4 s.
    fn feed(&mut self);
}

/// Readings that only the board has.
pub trait Meter {
    /// Calls `tell` with the name and value of each.
    fn each(&self, tell: &mut dyn FnMut(&'static str, u32));
}

/// A board without readings of its own.
pub struct NoMeter;

impl Meter for NoMeter {
    fn each(&self, _tell: &mut dyn FnMut(&'static str, u32)) {}
}

/// A board that is ready for the application.
pub struct Board {
    /// The stack on the underlay, made with [`underlay_config`](crate::underlay_config), its runner running.
    pub underlay: Stack<'static>,
    /// What the board was provisioned with.
    pub provisioning: Provisioning,
    /// How often the board has been started, this time included; written before anything is sent.
    pub boot: u32,
    /// Its random number generator.
    pub entropy: &'static mut dyn EntropySource,
    /// What it remembers.
    pub store: &'static mut dyn Store,
    /// Its lamp.
    pub indicator: &'static mut dyn Indicator,
    /// Its watchdog, running. It has to bear 8 s without being fed.
    pub watchdog: &'static mut dyn Watchdog,
    /// Its own readings.
    pub meter: &'static dyn Meter,
    /// What watches its driver for others that use its address.
    pub clashes: &'static Clashes,
    /// Why it was reset, when that was a panic.
    pub last_panic: Option<&'static str>,
}
