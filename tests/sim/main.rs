//! The system on one virtual clock: real engines and a real root, with tunnels and an underlay that a seed decides.
//!
//! Nothing waits and nothing is random but by the seed, so whatever goes wrong goes wrong again. `SIM_SEED=7 cargo test -p
//! acorn-tests --test sim` runs every scenario with that seed alone.
//!
//! - [`world`]: hosts, applications and the underlay, stepped together; [`invariants`]: what holds after every step.
//! - [`host`]: a machine, its memory and its daemon; [`process`]: the daemon; [`manager`]: the root in it.
//! - [`tunnel`]: WireGuard without cryptography; [`network`]: the underlay.
//! - [`app`] and [`packet`]: applications, which judge everything that reaches them.
//! - [`scenarios`]: what is proven.

mod app;
mod host;
mod invariants;
mod manager;
mod network;
mod packet;
mod process;
mod random;
mod reference;
mod scenarios;
mod trace;
mod tunnel;
mod world;
