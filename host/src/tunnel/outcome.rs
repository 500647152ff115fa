//! What comes of the calls: outcomes, errors and events.

use std::net::SocketAddr;

use super::{Local, MAX_PAYLOAD, MAX_PEERS, PeerHandle, TunnelDrop};
use crate::identity::NodeKey;

/// What became of a payload that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// The first `len` bytes of the output are a datagram to send to `to` now.
    Datagram {
        /// The peer's endpoint.
        to: SocketAddr,
        /// The length of the datagram.
        len: usize,
    },
    /// The payload waits for the handshake and will come out of [`Tunnels::poll_transmit`](super::Tunnels::poll_transmit), in order.
    Queued {
        /// How many older payloads of this peer gave way.
        displaced: usize,
    },
}

/// Why a payload was refused. Each case is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer was removed.
    #[error("the peer was removed")]
    UnknownPeer,
    /// A payload needs at least one byte.
    #[error("an empty payload can't be sent: the tunnel sends keepalives itself")]
    Empty,
    /// The payload fits no datagram.
    #[error("a payload of {len} bytes fits no datagram: at most {MAX_PAYLOAD}")]
    TooLong {
        /// The payload's length.
        len: usize,
    },
    /// The output is shorter than [`sealed_len`](super::sealed_len) of the payload.
    #[error("the output buffer is too small: {needed} bytes are needed")]
    BufferTooSmall {
        /// The length that is needed.
        needed: usize,
    },
    /// There is no session and no endpoint to make one with.
    #[error("the peer has no endpoint yet")]
    NoEndpoint,
    /// The queues of all peers together are full.
    #[error("too much is waiting for handshakes")]
    QueuesFull,
}

/// Why a peer was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddPeerError {
    /// The key is the process's own.
    #[error("a node is not a peer of itself")]
    OwnKey,
    /// The key is one of the few that offer no secrecy.
    #[error("the key {0} is not a usable X25519 key")]
    WeakKey(NodeKey),
    /// There is no join key to reach the peer with.
    #[error("there is no join key")]
    NoJoinKey,
    /// There are [`MAX_PEERS`] peers.
    #[error("there are {MAX_PEERS} peers already")]
    Full,
}

/// What became of a received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// The first `len` bytes of the output are a payload of `peer`, padding included.
    Data {
        /// Who sent it, proven by its key.
        peer: PeerHandle,
        /// The length with padding: a multiple of 16, or what an implementation that does not pad sent.
        len: usize,
        /// Which of our keys it was sent to.
        via: Local,
    },
    /// The peer showed that it lives.
    Keepalive {
        /// Who.
        peer: PeerHandle,
    },
    /// A handshake message was consumed. Fetch what there may be to send.
    Handshake {
        /// The peer it was from.
        peer: PeerHandle,
    },
    /// An initiation of an unknown key was kept; an event tells the key. Nothing was answered.
    Kept,
    /// Nothing came of it.
    Dropped(TunnelDrop),
}

/// A datagram to send: the first `len` bytes of the buffer, to `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// Its length.
    pub len: usize,
}

/// What happened to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEvent {
    /// The peer has proven itself: the first session of a tunnel was confirmed, or a peer that was reported
    /// unreachable was heard again.
    Established {
        /// Who.
        peer: PeerHandle,
    },
    /// A handshake with the peer has gone unanswered for [`UNREACHABLE_AFTER`](super::UNREACHABLE_AFTER). It is repeated for 90 s, and begun
    /// anew when there is something to send.
    Unreachable {
        /// Who.
        peer: PeerHandle,
    },
    /// The peer was heard from another address, authenticated, and is answered there from now on.
    EndpointChanged {
        /// Who.
        peer: PeerHandle,
        /// The new address.
        endpoint: SocketAddr,
    },
    /// Somebody holds this key and wants a tunnel. If [`Tunnels::add_peer`](super::Tunnels::add_peer) names the key within [`KEPT_FOR`](super::KEPT_FOR), the
    /// handshake goes on at once. Anyone can make keys: this alone is no reason to add it.
    UnknownInitiation {
        /// The key.
        key: NodeKey,
        /// Where it came from; not proven.
        from: SocketAddr,
    },
}
