//! A second router, slow and plain, and the real one held against it.
//!
//! Both take the same steps: packets of every kind from both sides, whole and damaged, while tables change and time passes. After each
//! step they must agree on the verdict, on every byte, on every counter and on every flow. `docs/router.md` is what the [`model`]
//! was written from; it shares no code with the router but its types.
//!
//! - [`drive`]: a run and what is compared; [`steps`]: how a run is made of bytes; [`build`]: packets; [`world`]: addresses.
//! - [`model`]: the second router; [`wire`] and [`sums`]: how it reads and changes packets. [`system`]: the real one.
//!
//! The fuzz target of `tests/fuzz` runs [`drive::play`] on bytes that it looks for; the tests here, on those that it has found. Some of
//! these become the vectors that a microcontroller is held against.

mod build;
mod chance;
pub mod drive;
mod model;
mod steps;
mod sums;
mod system;
mod wire;
mod world;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
