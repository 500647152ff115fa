//! One, two or three small routers with tables that are filled directly; packets are carried by hand.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

mod balancing;
mod errors;
mod flows;
mod fragments;
mod harness;
mod path;
mod refusals;
mod wire;
