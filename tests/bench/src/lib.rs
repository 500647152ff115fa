//! The engine of a node under load, to be measured: how many flows it has is known, and so is what each packet must become.
//!
//! `router-instructions` counts instructions and allocations, `benches/router.rs` takes times. Both measure the same functions
//! on the same packets: [`case`] says which, [`stage`] makes the node and its packets. `cargo xtask bench router` runs them.

pub mod case;
mod manager;
pub mod network;
pub mod packet;
pub mod stage;
