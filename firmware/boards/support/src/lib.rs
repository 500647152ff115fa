//! What the boards with a flash and a noise source of their own share. A board itself is pins, clocks and registers; what can be wrong
//! without a chip around it is here, and is tested on the host.

#![no_std]

#[cfg(test)]
extern crate std;

pub mod mac;
pub mod noise;
pub mod store;
pub mod w5500;
