//! Tunnels that behave as WireGuard does, without cryptography: what a key proves there, a number proves here that only the two
//! ends know. The calls are those of the daemon's tunnels.
//!
//! - Silent to strangers: an initiation of an unknown key gets no answer. A few are kept for 5 s, in case the key becomes known.
//! - Initiations are repeated after 5 s, given up after 90 s, and their stamps must grow: a replay is refused.
//! - Sessions live in memory: a restart of either side loses them. The other side notices 15 s after it has sent something, or at
//!   once when it is told.
//! - Payloads for a peer whose handshake is under way wait, bounded, and go out in order when it is done.
//! - Payloads are padded with zeros to a multiple of 16 bytes.

mod connection;

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

use acorn_core::NodeKey;
use acorn_core::time::{Duration, Instant};

use crate::random::Random;
use connection::{Connection, Seal, Wish};

/// The most payloads that wait for one peer.
const QUEUE_PAYLOADS: usize = 64;
/// How long a payload waits.
const QUEUE_AGE: Duration = Duration::from_secs(11);
/// A peer is reported unreachable when a handshake has gone unanswered this long.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(8);
/// The most initiations of unknown keys that are kept, and how long.
pub const KEPT_INITIATIONS: usize = 16;
const KEPT_FOR: Duration = Duration::from_secs(5);

/// What goes over the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Initiation { from: NodeKey, to: NodeKey, index: u32, stamp: u64 },
    Response { to: NodeKey, index: u32, remote: u32, secret: u64 },
    Data { index: u32, secret: u64, counter: u64, payload: Vec<u8> },
}

impl Frame {
    /// The length that it has in WireGuard, in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Initiation { .. } => 148,
            Self::Response { .. } => 92,
            Self::Data { payload, .. } => 32 + payload.len(),
        }
    }
}

impl Hash for Frame {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Initiation { from, to, index, stamp } => (1u8, from.0, to.0, index, stamp).hash(state),
            Self::Response { to, index, remote, secret } => (2u8, to.0, index, remote, secret).hash(state),
            Self::Data { index, secret, counter, payload } => (4u8, index, secret, counter, payload).hash(state),
        }
    }
}

/// What the shell has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer has proven itself, or is heard again.
    Established(NodeKey),
    /// A handshake with the peer has gone unanswered.
    Unreachable(NodeKey),
    /// Somebody holds this key and wants a tunnel.
    Unknown(NodeKey),
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub initiations_sent: u64,
    pub kept: u64,
    pub replayed_initiations: u64,
    pub replayed_data: u64,
    /// Payloads that gave way to newer ones, or waited too long.
    pub queue_lost: u64,
}

struct Kept {
    from: SocketAddr,
    key: NodeKey,
    index: u32,
    stamp: u64,
    since: Instant,
    told: bool,
}

struct Peer {
    endpoint: Option<SocketAddr>,
    configured: Option<SocketAddr>,
    connection: Option<Connection>,
    queue: VecDeque<(Instant, Vec<u8>)>,
    /// Our handshake that waits for an answer: since when, and whether its failure was reported.
    attempt: Option<(Instant, bool)>,
    answered: Option<Instant>,
    /// The peer has restarted: payloads wait for a session that is younger than this.
    hold: Option<Instant>,
    silent: bool,
}

/// All tunnels of one process.
pub struct Tunnels {
    own: NodeKey,
    random: Random,
    peers: BTreeMap<NodeKey, Peer>,
    /// The latest stamp of each key that was accepted. Lost with the process, as in the real one.
    stamps: BTreeMap<NodeKey, u64>,
    indices: BTreeMap<u32, NodeKey>,
    last_index: u32,
    last_stamp: u64,
    kept: Vec<Kept>,
    transmits: VecDeque<(SocketAddr, Frame)>,
    news: Vec<Event>,
    pub counters: Counters,
}

impl Tunnels {
    /// Tunnels of a process that has just started. `stamp` must be later than all that this key has used.
    pub fn new(own: NodeKey, stamp: u64, mut random: Random) -> Self {
        Self {
            own,
            last_index: random.next() as u32,
            random,
            peers: BTreeMap::new(),
            stamps: BTreeMap::new(),
            indices: BTreeMap::new(),
            last_stamp: stamp,
            kept: Vec::new(),
            transmits: VecDeque::new(),
            news: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// The latest stamp that was used.
    pub fn last_stamp(&self) -> u64 {
        self.last_stamp
    }

    /// Adds a peer, or finds it and takes its endpoint over if that differs from what was said before. A kept initiation of its
    /// key is answered.
    pub fn add_peer(&mut self, now: Instant, key: NodeKey, endpoint: Option<SocketAddr>) {
        if let Some(peer) = self.peers.get_mut(&key) {
            if endpoint.is_none() || endpoint == peer.configured {
                return;
            }
            peer.configured = endpoint;
            let moved = std::mem::replace(&mut peer.endpoint, endpoint) != endpoint;
            if moved && peer.attempt.is_some() {
                peer.attempt = None;
                self.initiate(now, key, true);
            }
            return;
        }
        let peer = Peer {
            endpoint,
            configured: endpoint,
            connection: None,
            queue: VecDeque::new(),
            attempt: None,
            answered: None,
            hold: None,
            silent: false,
        };
        self.peers.insert(key, peer);
        self.kept.retain(|kept| now < kept.since.saturating_add(KEPT_FOR));
        if let Some(place) = self.kept.iter().position(|kept| kept.key == key) {
            let kept = self.kept.remove(place);
            self.answer(now, kept.from, kept.key, kept.index, kept.stamp);
        }
    }

    pub fn remove_peer(&mut self, key: &NodeKey) {
        self.peers.remove(key);
        self.indices.retain(|_, owner| owner != key);
        self.news.retain(|event| !matches!(event, Event::Established(of) | Event::Unreachable(of) if of == key));
    }

    pub fn has_peer(&self, key: &NodeKey) -> bool {
        self.peers.contains_key(key)
    }

    /// Seals a payload and sends it, now or when the handshake is done.
    pub fn send(&mut self, now: Instant, key: NodeKey, payload: &[u8]) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(to) = peer.endpoint else { return };
        if peer.queue.is_empty()
            && peer.hold.is_none()
            && let Some(seal) = peer.connection.as_mut().and_then(|connection| connection.seal(now, false))
        {
            self.transmits.push_back((to, data(seal, payload)));
            return;
        }
        self.counters.queue_lost += peer.drop_stale(now);
        if peer.queue.len() >= QUEUE_PAYLOADS {
            peer.queue.pop_front();
            self.counters.queue_lost += 1;
        }
        peer.queue.push_back((now, payload.to_vec()));
        self.initiate(now, key, false);
    }

    /// Opens what has arrived. Returns who sent it, and its payload.
    pub fn open(&mut self, now: Instant, from: SocketAddr, frame: Frame) -> Option<(NodeKey, Vec<u8>)> {
        match frame {
            Frame::Initiation { from: key, to, index, stamp } if to == self.own => {
                if self.peers.contains_key(&key) {
                    self.answer(now, from, key, index, stamp);
                } else {
                    self.keep(Kept { from, key, index, stamp, since: now, told: false });
                }
                None
            }
            Frame::Response { to, index, remote, secret } if to == self.own => {
                let key = *self.indices.get(&index)?;
                let peer = self.peers.get_mut(&key)?;
                let connection = peer.connection.as_mut()?;
                if !connection.complete(now, index, remote, secret) {
                    return None;
                }
                (peer.attempt, peer.hold) = (None, None);
                let confirmed = connection.confirm();
                if let Some(seal) = connection.seal(now, true) {
                    self.transmits.push_back((from, data(seal, &[])));
                }
                self.heard(now, key, from, confirmed);
                None
            }
            Frame::Data { index, secret, counter, payload } => {
                let key = *self.indices.get(&index)?;
                let connection = self.peers.get_mut(&key)?.connection.as_mut()?;
                if !connection.open(now, Seal { index, secret, counter }, payload.is_empty()) {
                    self.counters.replayed_data += 1;
                    return None;
                }
                let confirmed = connection.confirm();
                self.heard(now, key, from, confirmed);
                (!payload.is_empty()).then_some((key, payload))
            }
            Frame::Initiation { .. } | Frame::Response { .. } => None,
        }
    }

    /// Begins a new handshake at once, because the peer has lost its sessions.
    pub fn restart_handshake(&mut self, now: Instant, key: NodeKey) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.endpoint.is_some()) else { return };
        peer.hold = Some(now);
        peer.attempt = None;
        self.initiate(now, key, true);
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let peers = self.peers.values();
        peers
            .filter_map(|peer| {
                [peer.connection.as_ref()?.deadline(), peer.unreachable_at()].into_iter().flatten().min()
            })
            .min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let due = self.peers.iter().filter(|(_, peer)| {
            let connection = peer.connection.as_ref().and_then(Connection::deadline);
            connection.is_some_and(|at| at <= now) || peer.unreachable_at().is_some_and(|at| at <= now)
        });
        for key in due.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.handle_peer_timeout(now, key);
        }
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Frame)> {
        self.transmits.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        if !self.news.is_empty() {
            return Some(self.news.remove(0));
        }
        let kept = self.kept.iter_mut().find(|kept| !kept.told)?;
        kept.told = true;
        Some(Event::Unknown(kept.key))
    }

    fn handle_peer_timeout(&mut self, now: Instant, key: NodeKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let wish = peer.connection.as_mut().and_then(|connection| connection.handle_timeout(now, &mut self.random));
        if peer.unreachable_at().is_some_and(|at| at <= now) {
            peer.attempt = peer.attempt.map(|(since, _)| (since, true));
            peer.silent = true;
            self.tell(Event::Unreachable(key));
        }
        let Some(peer) = self.peers.get_mut(&key) else { return };
        match wish {
            None => {}
            Some(Wish::Initiate) if peer.is_idle(now) => self.expire(now, key),
            Some(Wish::Initiate) => self.initiate(now, key, true),
            Some(Wish::Expire) => self.expire(now, key),
            Some(Wish::Keepalive) => {
                if let (Some(to), Some(connection)) = (peer.endpoint, &mut peer.connection)
                    && let Some(seal) = connection.seal(now, true)
                {
                    self.transmits.push_back((to, data(seal, &[])));
                }
            }
        }
    }

    fn keep(&mut self, mut new: Kept) {
        let now = new.since;
        self.kept.retain(|kept| now < kept.since.saturating_add(KEPT_FOR));
        if let Some(place) = self.kept.iter().position(|kept| kept.key == new.key) {
            let old = self.kept.remove(place);
            new.told = old.told && now < old.since.saturating_add(KEPT_FOR / 2);
        }
        if self.kept.len() >= KEPT_INITIATIONS {
            self.kept.remove(0);
        }
        self.counters.kept += 1;
        self.kept.push(new);
    }

    fn answer(&mut self, now: Instant, from: SocketAddr, key: NodeKey, remote: u32, stamp: u64) {
        if self.stamps.get(&key).is_some_and(|latest| stamp <= *latest) {
            self.counters.replayed_initiations += 1;
            return;
        }
        self.stamps.insert(key, stamp);
        let (index, secret) = (self.new_index(key), self.random.next());
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.connection.get_or_insert_with(|| Connection::new(now)).answer(now, index, remote, secret);
        peer.answered = Some(now);
        peer.endpoint = Some(from);
        self.transmits.push_back((from, Frame::Response { to: key, index: remote, remote: index, secret }));
    }

    /// Begins a handshake. One that is under way goes on, or is replaced when `anew`.
    fn initiate(&mut self, now: Instant, key: NodeKey, anew: bool) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(to) = peer.endpoint else { return };
        let connection = peer.connection.get_or_insert_with(|| Connection::new(now));
        if connection.is_under_way() && !anew {
            return;
        }
        // Time orders the stamps of different starts, the count those of one instant.
        self.last_stamp = (self.last_stamp + 1).max(now.as_millis() << 16);
        let (stamp, index) = (self.last_stamp, self.new_index(key));
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if let Some(connection) = &mut peer.connection {
            connection.initiate(now, index);
        }
        peer.attempt.get_or_insert((now, false));
        self.counters.initiations_sent += 1;
        self.transmits.push_back((to, Frame::Initiation { from: self.own, to: key, index, stamp }));
    }

    /// The peer has proven that it lives and is at `from`.
    fn heard(&mut self, now: Instant, key: NodeKey, from: SocketAddr, confirmed: bool) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.attempt = peer.attempt.map(|_| (now, false));
        let since = peer.connection.as_ref().and_then(Connection::session_since);
        if peer.hold.is_some_and(|hold| since.is_some_and(|since| since > hold)) {
            peer.hold = None;
        }
        let back = std::mem::take(&mut peer.silent);
        peer.endpoint = Some(from);
        if confirmed || back {
            self.tell(Event::Established(key));
        }
        self.flush(now, key);
    }

    /// Sends what has waited for the session.
    fn flush(&mut self, now: Instant, key: NodeKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        self.counters.queue_lost += peer.drop_stale(now);
        while peer.hold.is_none()
            && let (Some((_, payload)), Some(to), Some(connection)) =
                (peer.queue.front(), peer.endpoint, &mut peer.connection)
            && let Some(seal) = connection.seal(now, false)
        {
            self.transmits.push_back((to, data(seal, payload)));
            peer.queue.pop_front();
        }
    }

    fn expire(&mut self, now: Instant, key: NodeKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        (peer.connection, peer.hold) = (None, None);
        let unanswered = peer.attempt.take().is_some_and(|(_, reported)| !reported);
        peer.silent |= unanswered;
        self.counters.queue_lost += peer.drop_stale(now);
        let waiting = !peer.queue.is_empty();
        self.indices.retain(|_, owner| *owner != key);
        if unanswered {
            self.tell(Event::Unreachable(key));
        }
        if waiting {
            self.initiate(now, key, false);
        }
    }

    /// Only the latest news of a peer counts.
    fn tell(&mut self, event: Event) {
        if let Event::Established(of) | Event::Unreachable(of) = event {
            self.news.retain(|old| !matches!(old, Event::Established(key) | Event::Unreachable(key) if *key == of));
        }
        self.news.push(event);
    }

    fn new_index(&mut self, key: NodeKey) -> u32 {
        self.last_index = self.last_index.wrapping_add(1);
        self.indices.insert(self.last_index, key);
        self.last_index
    }
}

impl Peer {
    /// Whether a handshake would have no other reason than that the last session is over.
    fn is_idle(&self, now: Instant) -> bool {
        let session = self.connection.as_ref().and_then(Connection::session_since);
        let being_joined = self.answered.is_some_and(|at| now < at.saturating_add(UNREACHABLE_AFTER));
        session.is_none() && self.attempt.is_none() && self.queue.is_empty() && !being_joined
    }

    fn unreachable_at(&self) -> Option<Instant> {
        let (since, _) = self.attempt.filter(|(_, reported)| !reported)?;
        Some(since.saturating_add(UNREACHABLE_AFTER))
    }

    fn drop_stale(&mut self, now: Instant) -> u64 {
        let before = self.queue.len();
        self.queue.retain(|(since, _)| now <= since.saturating_add(QUEUE_AGE));
        (before - self.queue.len()) as u64
    }
}

fn data(seal: Seal, payload: &[u8]) -> Frame {
    let mut padded = payload.to_vec();
    padded.resize(payload.len().next_multiple_of(16), 0);
    Frame::Data { index: seal.index, secret: seal.secret, counter: seal.counter, payload: padded }
}

#[cfg(test)]
mod fidelity;
#[cfg(test)]
mod tests;
