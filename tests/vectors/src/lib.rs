//! What the core and the cryptography under it have to give, byte for byte, wherever they run.
//!
//! The vectors lie beside this crate in files: they were recorded or collected on a host, and everything that uses the same code
//! has to agree with them. `firmware/vectors` does so on a Cortex-M3, where a `usize` has 32 bits and nothing lies where it lay.
//!
//! - [`router`]: packets in, verdicts and bytes out. Recorded from the router that its model has agreed with (`tests/sim/reference`).
//! - [`cryptography`]: the vectors of the RFCs and of Wycheproof, for [`WireGuardSansIo`](cryptography::WireGuardSansIo) or for any
//!   other [`Primitives`](cryptography::Primitives).
//!
//! The files are checked by the tests that make them, which say how to write them anew.

#![cfg_attr(not(test), no_std)]

pub mod cryptography;
pub mod router;
mod stream;

pub use stream::{NotWritten, Stream, Unreadable, write};

/// The environment variable that makes the tests write the vectors anew instead of comparing them.
pub const WRITE: &str = "ACORN_WRITE_VECTORS";

/// How many vectors were held against something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that were.
    pub ran: u32,
    /// Those of them that came out differently.
    pub failed: u32,
    /// Those that were not, because what they are for is not to be had.
    pub not_offered: u32,
}

impl Tally {
    /// Whether there were vectors and none has failed.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.ran > 0 && self.failed == 0
    }
}
