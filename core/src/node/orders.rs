//! What the engine has its shell do.

use crate::ids::{Endpoint, NodeKey};
use crate::mtu::OverlayMtu;
use crate::packet::Offload;
use crate::slots::RowRef;

/// What the shell has to do with the packet that it passed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Seal the first `len` bytes of the packet and send them to the peer.
    Forward {
        /// The peer.
        peer: RowRef,
        /// The packet's length in bytes.
        len: usize,
    },
    /// Cut the first `len` bytes of the packet into [`Fragments`](crate::packet::Fragments) of at most `mtu` bytes, seal each and send it to the peer.
    Fragment {
        /// The peer.
        peer: RowRef,
        /// The packet's length in bytes.
        len: usize,
        /// The longest fragment.
        mtu: OverlayMtu,
    },
    /// Give the first `len` bytes of the packet to the local network stack.
    Deliver {
        /// The packet's length in bytes.
        len: usize,
    },
    /// Give the first `len` bytes of the reply buffer to the local network stack.
    Reply {
        /// The reply's length in bytes.
        len: usize,
    },
    /// Nothing: the packet waits, was dropped, or was a message.
    Nothing,
}

/// Something that the engine wants to send, in the buffer that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Seal the first `len` bytes and send them to the peer.
    Peer {
        /// The peer.
        peer: RowRef,
        /// The payload's length in bytes.
        len: usize,
        /// What the packet's sender left to be done.
        offload: Offload,
    },
    /// Cut the first `len` bytes into [`Fragments`](crate::packet::Fragments) of at most `mtu` bytes, seal each and send it to the peer.
    Fragments {
        /// The peer.
        peer: RowRef,
        /// The packet's length in bytes.
        len: usize,
        /// What the packet's sender left to be done.
        offload: Offload,
        /// The longest fragment.
        mtu: OverlayMtu,
    },
    /// Give the first `len` bytes to the local network stack.
    Local {
        /// The packet's length in bytes.
        len: usize,
        /// What the packet's sender left to be done.
        offload: Offload,
    },
}

/// Another node of which something has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerNews {
    /// It is new, or its endpoint or boot epoch has changed.
    Known {
        /// Names the peer from now on.
        peer: RowRef,
        /// Its key.
        key: NodeKey,
        /// Where it is.
        endpoint: Endpoint,
        /// It has been started again: its tunnel has to be set up anew.
        restarted: bool,
    },
    /// It has been of no interest for [`PEER_LINGER`](super::PEER_LINGER), or its place was needed.
    Gone {
        /// What named the peer.
        peer: RowRef,
        /// Its key.
        key: NodeKey,
    },
}
