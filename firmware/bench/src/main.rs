//! Does each thing that `cargo xtask bench mcu` measures between two calls that the emulator notices, and prints a line about each: its
//! name, and how often it was done. Ends with another exit code than 0 when something was not done.

#![no_std]
#![no_main]

mod marks;
mod packets;
mod tunnel;

use mps2_an385::{entry, host};

#[entry]
fn main() -> ! {
    // What the marks themselves cost, to be taken off the rest.
    marks::measure("nothing", 1, || ());
    packets::measure();
    tunnel::measure();
    host::exit(0)
}
