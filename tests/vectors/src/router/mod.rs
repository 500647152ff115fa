//! Runs of a router: what happens to it, and what has to become of every packet.
//!
//! - [`Action`]: what happens; [`Packet`]: packets in few bytes; [`Outcome`]: what comes of it.
//! - [`Replay`]: a router that actions happen to; [`judge`]: all runs of a file.

mod action;
mod judge;
mod outcome;
mod packet;
mod replay;

pub use action::Action;
pub use judge::{CHUNK_MAX, Difference, Failure, Room, judge, unpack};
pub use outcome::{Heap, Outcome};
pub use packet::Packet;
pub use replay::{Flaw, PACKET_MAX, Replay};

use serde::{Deserialize, Serialize};

/// The runs that `tests/sim/reference/vectors.rs` has chosen.
pub const FILE: &[u8] = include_bytes!("../../router.bin");

/// Something that happens, and what has to come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step<'a> {
    /// What happens.
    #[serde(borrow)]
    pub action: Action<'a>,
    /// What comes of it.
    #[serde(borrow)]
    pub outcome: Outcome<'a>,
}
