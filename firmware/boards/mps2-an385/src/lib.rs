//! Board support for Arm's MPS2 with the FPGA image AN385, as QEMU emulates it (`-M mps2-an385`): a Cortex-M3 at 25 MHz with
//! an SMSC LAN9118 Ethernet controller.
//!
//! What a firmware does with it:
//!
//! 1. call [`init`] first thing in `main`,
//! 2. make an [`executor::Executor`] and spawn its tasks,
//! 3. give [`lan9118::Lan9118`] to `embassy-net`,
//! 4. start the [`watchdog`] and feed it.
//!
//! Logs are defmt frames on the semihosting console, stamped with the microseconds since [`init`]. What the machine lacks
//! (entropy, storage, a command line) comes from the host through semihosting: see [`host`].
//!
//! A crate that links a program with this one needs the linker arguments `-Tlink.x` and `-Tdefmt.x`; the memory map comes
//! from here.
#![no_std]

use defmt_semihosting as _;

mod checksum;
pub mod executor;
pub mod host;
pub mod lan9118;
pub mod leds;
mod mmio;
pub mod panic;
pub mod stack;
pub mod time_driver;
pub mod vectors;
pub mod watchdog;

pub use cortex_m_rt::entry;

/// Guards the stack and starts the time. Call it first in `main`, once.
pub fn init() {
    stack::guard();
    time_driver::start();
}
