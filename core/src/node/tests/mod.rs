//! A small node against a manager whose every message the test writes.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

mod attachments;
mod harness;
mod idle;
mod interests;
mod lookups;
mod measuring;
mod peers;
mod session;
