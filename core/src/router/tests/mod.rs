//! One, two or three small routers with tables that are filled directly; packets are carried by hand.

mod balancing;
mod flows;
mod harness;
mod refusals;
mod wire;
