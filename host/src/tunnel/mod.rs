//! Tunnels to all peers of this process: WireGuard (by the `sanstun` library) without IO. Datagrams, payloads, time and
//! randomness are arguments; what is to be sent and what happened is polled.
//!
//! What this adds to the library: many peers behind dense handles, a second key to join with, queues for payloads
//! whose handshake is under way, tunnels that are made again after they expired, and silence: a key that is not a peer gets
//! no answer at all. The one exception is WireGuard's cookie reply under load, behind a limit per source address.
//!
//! ```text
//! payload  --seal-->  datagram, or queued until the handshake is done
//! datagram --open-->  payload, or a handshake message that was consumed
//! after both, and after handle_timeout: poll_transmit and poll_event until they are empty
//! ```
//!
//! **Padding.** WireGuard pads payloads with zeros to a multiple of 16 bytes and does not keep their length. An IP
//! packet is cut to the length in its header; a control message is in postcard, which ignores what follows it.

mod counters;
mod data;
mod deadlines;
mod gate;
mod handshake;
mod outcome;
mod peer;
mod queue;
#[cfg(test)]
mod tests;
mod unknown;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sanstun::{Datagram, Interface, TunnelConfig, TunnelId};
use zeroize::Zeroizing;

use crate::identity::{Identity, NodeKey};
use data::Flush;
use deadlines::Deadlines;
use gate::SourceGate;
use peer::{PeerTable, Reach};
use unknown::KeptInitiations;

pub use counters::{TunnelCounters, TunnelDrop};
pub use gate::{SOURCE_BURST, SOURCE_RATE};
pub use outcome::{AddPeerError, Opened, Sealed, SendError, Transmit, TunnelEvent};
pub use peer::{Local, MAX_PEERS, PeerHandle, UNREACHABLE_AFTER};
pub use queue::{QUEUE_AGE, QUEUE_BYTES, QUEUE_PAYLOADS, QUEUES_BYTES};
pub use unknown::{KEPT_FOR, KEPT_INITIATIONS};

/// Bytes of a data message before the payload.
const HEADER_LEN: usize = 16;

/// Bytes a data message is longer than its padded payload: header and authentication tag.
pub const DATA_OVERHEAD: usize = HEADER_LEN + 16;

/// The longest payload: padded and sealed it fits the largest UDP datagram over IPv4 (65,507 bytes).
pub const MAX_PAYLOAD: usize = (65_507 - DATA_OVERHEAD) / 16 * 16;

/// Handshake messages and keepalives that wait to be fetched with [`Tunnels::poll_transmit`]. The oldest give way.
const MAX_TRANSMITS: usize = 4096;

/// The length of the datagram that carries a payload of `payload_len` bytes.
pub const fn sealed_len(payload_len: usize) -> usize {
    payload_len.next_multiple_of(16) + DATA_OVERHEAD
}

/// All tunnels of a process. See the [module](self) for how to drive it.
///
/// `now` must come from one monotonic clock; a `now` before an earlier one is taken as that earlier one. Addresses
/// are compared as given: over a dual-stack socket, pass IPv4 sources in one form (canonical is best).
pub struct Tunnels {
    own: Interface,
    join: Option<Interface>,
    /// Time since 1970 at `started`: the base of the handshake time stamps.
    unix: Duration,
    started: Instant,
    latest: Instant,
    peers: PeerTable,
    /// Which slot a message to us belongs to. Ids are random and chosen by us, so nobody can make them collide.
    ids: HashMap<TunnelId, u32, BuildHasherDefault<IdHasher>>,
    deadlines: Deadlines,
    gate: SourceGate,
    kept: KeptInitiations,
    transmits: VecDeque<(SocketAddr, Datagram)>,
    /// Peers that have a session and a queue to send.
    ready: VecDeque<PeerHandle>,
    /// Bytes in all queues.
    queued_bytes: usize,
    news: VecDeque<PeerHandle>,
    counters: TunnelCounters,
}

impl Tunnels {
    /// Tunnels of `identity`. `seed` is fresh randomness from the system, never used twice. `unix` is the time since
    /// 1970 at `now`, from a [`HandshakeClock`](crate::identity::HandshakeClock): it must be later than any time used
    /// with this key before.
    pub fn new(identity: &Identity, seed: Zeroizing<[u8; 32]>, now: Instant, unix: Duration) -> Self {
        Self {
            own: Interface::new(seed, now, unix).with_static_private(identity.private().to_static_secret()),
            join: None,
            unix,
            started: now,
            latest: now,
            peers: PeerTable::default(),
            ids: HashMap::default(),
            deadlines: Deadlines::default(),
            gate: SourceGate::new(now),
            kept: KeptInitiations::default(),
            transmits: VecDeque::new(),
            ready: VecDeque::new(),
            queued_bytes: 0,
            news: VecDeque::new(),
            counters: TunnelCounters::default(),
        }
    }

    /// Sets the key pair of a join token, for peers with [`Local::Join`], in place of an earlier one: the peers of
    /// that are removed. `seed` as in [`Tunnels::new`].
    pub fn set_join(&mut self, join: &Identity, seed: Zeroizing<[u8; 32]>, now: Instant) {
        self.clear_join();
        let now = self.advance(now);
        let interface = Interface::new(seed, now, self.handshake_time(now));
        self.join = Some(interface.with_static_private(join.private().to_static_secret()));
    }

    /// Forgets the join key, and removes the peers of it.
    pub fn clear_join(&mut self) {
        let joined: Vec<PeerHandle> =
            self.peers.handles().filter(|peer| self.via(*peer) == Some(Local::Join)).collect();
        for peer in joined {
            self.remove_peer(peer);
        }
        self.join = None;
    }

    /// Adds a peer, or finds it. A kept initiation of its key is answered.
    ///
    /// An endpoint that differs from the one given before replaces the current one; the same one again does not
    /// override where the peer was heard since. Without an endpoint the peer has to come to us.
    ///
    /// # Errors
    /// See [`AddPeerError`].
    pub fn add_peer(
        &mut self,
        key: NodeKey,
        endpoint: Option<SocketAddr>,
        via: Local,
        now: Instant,
    ) -> Result<PeerHandle, AddPeerError> {
        let now = self.advance(now);
        if let Some(peer) = self.peers.find(&key, via) {
            self.move_configured(peer, endpoint, now);
            return Ok(peer);
        }
        if self.peers.len() >= MAX_PEERS {
            return Err(AddPeerError::Full);
        }
        let interface = self.interface_mut(via).ok_or(AddPeerError::NoJoinKey)?;
        if NodeKey(interface.static_public().to_bytes()) == key {
            return Err(AddPeerError::OwnKey);
        }
        // The tunnel itself is made on first use. This one proves the key and has the library watch for replays of
        // its initiations from now on.
        interface.new_tunnel(key.0.into(), TunnelConfig::default(), now).map_err(|_| AddPeerError::WeakKey(key))?;
        let peer = self.peers.insert(key, via, endpoint);
        if via == Local::Own {
            self.answer_kept(&key, now);
        }
        Ok(peer)
    }

    /// Removes a peer with everything that is known of it. From then on it is a stranger. Does nothing when it is
    /// gone already.
    pub fn remove_peer(&mut self, peer: PeerHandle) {
        let Some(mut removed) = self.peers.remove(peer) else {
            return;
        };
        if let Some(tunnel) = &removed.tunnel {
            self.ids.remove(&tunnel.id());
        }
        self.deadlines.disarm(peer.slot);
        self.queued_bytes -= removed.queue.bytes();
        let lost = removed.queue.clear();
        self.counters.count_many(TunnelDrop::PeerRemoved, lost);
    }

    /// Seals `payload` (1 to [`MAX_PAYLOAD`] bytes) for `peer` into `out`, which needs [`sealed_len`] bytes.
    ///
    /// Without a session a handshake begins, and the payload waits: [`Sealed::Queued`]. To keep a peer's payloads in
    /// order, fetch [`Tunnels::poll_transmit`] empty after every [`Tunnels::open`] before sealing more; what is
    /// sealed while older payloads wait goes behind them.
    ///
    /// # Errors
    /// See [`SendError`]. Nothing was sent then.
    pub fn seal(
        &mut self,
        peer: PeerHandle,
        payload: &[u8],
        out: &mut [u8],
        now: Instant,
    ) -> Result<Sealed, SendError> {
        let now = self.advance(now);
        let needed = sealed_len(payload.len());
        if payload.is_empty() {
            return Err(self.refuse(TunnelDrop::EmptyPayload, SendError::Empty));
        }
        if payload.len() > MAX_PAYLOAD {
            let len = payload.len();
            return Err(self.refuse(TunnelDrop::TooLong, SendError::TooLong { len }));
        }
        if out.len() < needed {
            return Err(self.refuse(TunnelDrop::BufferTooSmall, SendError::BufferTooSmall { needed }));
        }
        let Some(state) = self.peers.get_mut(peer) else {
            return Err(self.refuse(TunnelDrop::UnknownPeer, SendError::UnknownPeer));
        };
        if state.is_clear()
            && let (Some(tunnel), Some(to)) = (&mut state.tunnel, state.endpoint)
            && let Ok(pending) = tunnel.begin_encapsulate(now)
            && let Ok(message) = pending.encrypt(payload, out)
        {
            let len = message.len();
            self.deadlines.touch(peer.slot);
            self.counters.sealed += 1;
            return Ok(Sealed::Datagram { to, len });
        }
        self.enqueue(peer, payload, now)
    }

    /// Opens a datagram received from `from`. A payload is written to the start of `out`, which may be 16 bytes
    /// shorter than the datagram: the library copies the sealed part there and decrypts it in place.
    pub fn open(&mut self, from: SocketAddr, datagram: &[u8], out: &mut [u8], now: Instant) -> Opened {
        let now = self.advance(now);
        let opened = match datagram.first() {
            Some(4) => self.open_data(from, datagram, out, now),
            Some(1..=3) => self.open_handshake(from, datagram, now),
            Some(_) => Err(TunnelDrop::Malformed),
            None => Err(TunnelDrop::Empty),
        };
        opened.unwrap_or_else(|reason| {
            self.counters.count(reason);
            Opened::Dropped(reason)
        })
    }

    /// Begins a new handshake with `peer` at once, because it is known to have restarted and lost its sessions.
    /// Payloads wait until it is done; what still arrives of the old session is taken.
    ///
    /// # Errors
    /// [`SendError::UnknownPeer`] and [`SendError::NoEndpoint`].
    pub fn restart_handshake(&mut self, peer: PeerHandle, now: Instant) -> Result<(), SendError> {
        let now = self.advance(now);
        let state = self.peers.get_mut(peer).ok_or(SendError::UnknownPeer)?;
        if state.endpoint.is_none() {
            return Err(SendError::NoEndpoint);
        }
        state.hold = Some(now);
        state.attempt = None;
        self.initiate(peer, true, now);
        Ok(())
    }

    /// When [`Tunnels::handle_timeout`] is to be called next; may be in the past. `None`: not before something is
    /// sealed or opened.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let peers = &self.peers;
        self.deadlines.next(|slot| peers.get(peers.at(slot)?)?.deadline())
    }

    /// Does what is due at `now`: repeats and renews handshakes, sends keepalives, reports peers as unreachable,
    /// forgets what expired. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        self.poll_timeout();
        while let Some(slot) = self.deadlines.take_due(now) {
            let Some(peer) = self.peers.at(slot) else {
                continue;
            };
            self.deadlines.touch(slot);
            if let Some(state) = self.peers.get_mut(peer) {
                if let Some(tunnel) = &mut state.tunnel {
                    tunnel.handle_timeout(now);
                }
                if state.became_unreachable(now) {
                    self.tell_reach(peer, Reach::Unreachable);
                }
            }
            self.handle_tunnel_events(peer, now);
        }
    }

    /// The next datagram to send, written to `out`: handshake messages and keepalives, then queued payloads. `out`
    /// should hold [`sealed_len`] of the longest payload, and at least 148 bytes; what does not fit is dropped and counted.
    pub fn poll_transmit(&mut self, out: &mut [u8], now: Instant) -> Option<Transmit> {
        let now = self.advance(now);
        loop {
            if let Some((to, datagram)) = self.transmits.pop_front() {
                let len = datagram.len();
                let Some(place) = out.get_mut(..len) else {
                    self.counters.count(TunnelDrop::BufferTooSmall);
                    continue;
                };
                place.copy_from_slice(&datagram);
                return Some(Transmit { to, len });
            }
            let peer = *self.ready.front()?;
            match self.seal_queued(peer, out, now) {
                Flush::Sent(transmit) => return Some(transmit),
                Flush::More => {}
                Flush::Done => {
                    self.ready.pop_front();
                }
                Flush::NoSession => {
                    self.ready.pop_front();
                    self.initiate(peer, false, now);
                }
            }
        }
    }

    /// The next event. There is at most one of a kind per peer, and what is outdated is not told.
    pub fn poll_event(&mut self) -> Option<TunnelEvent> {
        while let Some(peer) = self.news.front().copied() {
            if let Some(state) = self.peers.get_mut(peer) {
                match state.news.reach.take() {
                    Some(Reach::Established) => return Some(TunnelEvent::Established { peer }),
                    Some(Reach::Unreachable) => return Some(TunnelEvent::Unreachable { peer }),
                    None => {}
                }
                if std::mem::take(&mut state.news.endpoint)
                    && let Some(endpoint) = state.endpoint
                {
                    return Some(TunnelEvent::EndpointChanged { peer, endpoint });
                }
                state.news.listed = false;
            }
            self.news.pop_front();
        }
        let (key, from) = self.kept.next_untold()?;
        Some(TunnelEvent::UnknownInitiation { key, from })
    }

    /// What was done and dropped since the start.
    pub fn counters(&self) -> &TunnelCounters {
        &self.counters
    }

    /// The time since 1970 that a handshake at `now` would be stamped with, for
    /// [`HandshakeClock::reserve`](crate::identity::HandshakeClock::reserve).
    pub fn handshake_time(&self, now: Instant) -> Duration {
        self.unix + now.duration_since(self.started)
    }

    /// The peer with `key`, if there is one.
    pub fn peer(&self, key: &NodeKey, via: Local) -> Option<PeerHandle> {
        self.peers.find(key, via)
    }

    /// All peers.
    pub fn peers(&self) -> impl Iterator<Item = PeerHandle> + '_ {
        self.peers.handles()
    }

    /// The key of a peer; `None` when it was removed.
    pub fn key(&self, peer: PeerHandle) -> Option<NodeKey> {
        Some(self.peers.get(peer)?.key)
    }

    /// Which of our keys a peer is reached with; `None` when it was removed.
    pub fn via(&self, peer: PeerHandle) -> Option<Local> {
        Some(self.peers.get(peer)?.via)
    }

    /// Where a peer is reached, if that is known.
    pub fn endpoint(&self, peer: PeerHandle) -> Option<SocketAddr> {
        self.peers.get(peer)?.endpoint
    }

    /// How old the session with a peer is; `None` when there is none.
    pub fn session_age(&self, peer: PeerHandle, now: Instant) -> Option<Duration> {
        let tunnel = self.peers.get(peer)?.tunnel.as_ref()?;
        tunnel.time_since_last_handshake(now.max(self.latest))
    }

    /// How many bytes wait for handshakes, of all peers.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }
}

/// Hashes the library's tunnel ids: 24 random bits, spread by one multiplication.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        // 2^64 divided by the golden ratio; the table uses the upper and the lower bits.
        let mixed = (self.0 ^ u64::from(id)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
