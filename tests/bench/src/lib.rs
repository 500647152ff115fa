//! The engine of a node under load, to be measured: how many flows it has is known, and so is what each packet must become.
//!
//! `router-instructions` counts instructions and allocations, `benches/router.rs` takes times. Both measure the same functions
//! on the same packets: [`case`] says which, [`stage`] makes the node and its packets. `cargo xtask bench router` runs them.
//!
//! Without the feature `std` this is what a microcontroller measures itself with: all but [`stage`].

#![cfg_attr(not(feature = "std"), no_std)]

pub mod case;
pub mod engine;
mod manager;
pub mod network;
pub mod packet;
#[cfg(feature = "std")]
pub mod stage;
