//! What comes of an action.

use core::net::IpAddr;

use acorn_core::addr::Dual;
use serde::{Deserialize, Serialize};

use super::Packet;

/// What comes of an action. Reasons go by their places in [`DropReason::ALL`](acorn_core::stats::DropReason::ALL), nodes by their ids.
///
/// What a packet has become is told by what is different in the whole buffer, what lies behind the packet included: how many bytes are the
/// same, then those that are not, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<'a> {
    /// Nothing that is to be seen.
    Nothing,
    /// The table is full, or has none of that name.
    Refused,
    /// `Verdict::Forward`.
    Forward {
        /// The node's id.
        node: u32,
        /// The packet's length in bytes.
        len: u32,
        /// What is different in it.
        changes: &'a [u8],
    },
    /// `Verdict::Fragment`.
    Fragment {
        /// The node's id.
        node: u32,
        /// The packet's length in bytes.
        len: u32,
        /// The longest fragment, in bytes.
        mtu: u16,
        /// What is different in it.
        changes: &'a [u8],
        /// The fragments.
        pieces: Heap,
    },
    /// `Verdict::Deliver`.
    Deliver {
        /// The packet's length in bytes.
        len: u32,
        /// What is different in it.
        changes: &'a [u8],
    },
    /// `Verdict::Reply`, the packet unchanged.
    Reply {
        /// Why the packet is dropped.
        reason: u8,
        /// The reply.
        #[serde(borrow)]
        reply: Packet<'a>,
    },
    /// `Verdict::Wait`, the packet unchanged.
    Wait {
        /// For which address.
        address: IpAddr,
        /// The namespace IP of who asks.
        asker: Option<Dual>,
    },
    /// `Verdict::Drop`. What the packet has become is nobody's business.
    Drop {
        /// Why.
        reason: u8,
    },
    /// The resets of a sweep.
    Resets(Heap),
    /// The end of a run.
    End {
        /// Flows that are left.
        flows: u32,
        /// All counters: each in the format of the vectors, drops first.
        counters: &'a [u8],
    },
}

/// Packets that are not told one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heap {
    /// How many.
    pub packets: u32,
    /// A digest of their lengths and bytes (FNV-1a, 64 bits).
    pub digest: u64,
}

impl Heap {
    /// No packets.
    pub const EMPTY: Self = Self { packets: 0, digest: 0xcbf2_9ce4_8422_2325 };

    /// One more packet.
    pub fn add(&mut self, packet: &[u8]) {
        self.packets = self.packets.wrapping_add(1);
        let len = (packet.len() as u64).to_le_bytes();
        for byte in len.iter().chain(packet) {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
