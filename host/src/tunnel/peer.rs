//! One peer: its key, its endpoint, its WireGuard state, and what waits for it. And the table of all peers, which
//! gives out dense handles.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sanstun::Tunnel;

use super::queue::PayloadQueue;
use crate::identity::NodeKey;

/// A peer is reported unreachable when a handshake has gone unanswered this long: two attempts, 5 s apart.
pub const UNREACHABLE_AFTER: Duration = Duration::from_secs(8);

/// The most peers a process has tunnels to.
pub const MAX_PEERS: usize = 1 << 16;

/// Which of the process's keys a tunnel is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Local {
    /// The node's own key.
    Own,
    /// The key of a join token.
    Join,
}

/// A peer, until it is removed. Handles are never mixed up: that of a removed peer stays invalid when its place is
/// taken by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerHandle {
    pub(super) slot: u32,
    generation: u32,
}

impl PeerHandle {
    /// A small number, unique among the peers of the moment: an index for the caller's own tables.
    pub const fn index(self) -> usize {
        self.slot as usize
    }
}

pub(super) struct Peer {
    pub(super) key: NodeKey,
    pub(super) via: Local,
    /// Where to send: the last authenticated source, or what was configured.
    pub(super) endpoint: Option<SocketAddr>,
    /// What the caller said last. Only a change of it may override what the peer itself has shown.
    configured: Option<SocketAddr>,
    /// Made on first use and dropped when it expires: 10 KB that an idle peer does without.
    pub(super) tunnel: Option<Box<Tunnel>>,
    pub(super) queue: PayloadQueue,
    /// On the list of peers whose queue can be sent.
    pub(super) ready: bool,
    /// Our handshake that waits for an answer.
    pub(super) attempt: Option<Attempt>,
    /// When we last answered a handshake of the peer.
    pub(super) answered: Option<Instant>,
    /// Since when the session is in doubt, because the peer is said to have restarted: payloads wait for a newer one.
    pub(super) hold: Option<Instant>,
    /// Reported unreachable, and not heard of since.
    pub(super) silent: bool,
    pub(super) news: News,
}

#[derive(Clone, Copy)]
pub(super) struct Attempt {
    /// When it began, or the peer was last heard of.
    pub(super) since: Instant,
    pub(super) reported: bool,
}

/// What the caller was not told yet. At most one piece of news of a kind per peer, so the news are bounded too.
#[derive(Default)]
pub(super) struct News {
    pub(super) reach: Option<Reach>,
    pub(super) endpoint: bool,
    /// On the list of peers with news.
    pub(super) listed: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Reach {
    Established,
    Unreachable,
}

impl Peer {
    fn new(key: NodeKey, via: Local, endpoint: Option<SocketAddr>) -> Self {
        Self {
            key,
            via,
            endpoint,
            configured: endpoint,
            tunnel: None,
            queue: PayloadQueue::default(),
            ready: false,
            attempt: None,
            answered: None,
            hold: None,
            silent: false,
            news: News::default(),
        }
    }

    /// Takes what the caller says about the endpoint. Returns whether that moved it.
    pub(super) fn configure(&mut self, endpoint: Option<SocketAddr>) -> bool {
        if endpoint.is_none() || endpoint == self.configured {
            return false;
        }
        self.configured = endpoint;
        std::mem::replace(&mut self.endpoint, endpoint) != endpoint
    }

    /// Notes that one of our handshakes is under way.
    pub(super) fn attempted(&mut self, now: Instant) {
        self.attempt.get_or_insert(Attempt { since: now, reported: false });
    }

    /// Whether a handshake that the library begins by itself at `now` has no other reason than that the last session
    /// is over. It would go on so for ever between two nodes that have nothing to say.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let session = self.tunnel.as_ref().and_then(|tunnel| tunnel.time_since_last_handshake(now));
        let being_joined = self.answered.is_some_and(|at| now.duration_since(at) < UNREACHABLE_AFTER);
        session.is_none() && self.attempt.is_none() && self.queue.is_empty() && !being_joined
    }

    fn unreachable_at(&self) -> Option<Instant> {
        let attempt = self.attempt.filter(|attempt| !attempt.reported)?;
        Some(attempt.since + UNREACHABLE_AFTER)
    }

    /// Whether it is time to report the peer as unreachable. True once per unanswered handshake.
    pub(super) fn became_unreachable(&mut self, now: Instant) -> bool {
        let due = self.unreachable_at().is_some_and(|at| now >= at);
        if due {
            self.silent = true;
            if let Some(attempt) = &mut self.attempt {
                attempt.reported = true;
            }
        }
        due
    }

    /// When [`Tunnels::handle_timeout`](super::Tunnels::handle_timeout) has something to do for this peer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let tunnel = self.tunnel.as_ref().and_then(|tunnel| tunnel.poll_timeout());
        [tunnel, self.unreachable_at()].into_iter().flatten().min()
    }

    /// Whether payloads may be sealed right away, if there is a session.
    #[inline]
    pub(super) fn is_clear(&self) -> bool {
        self.queue.is_empty() && self.hold.is_none()
    }
}

#[derive(Default)]
pub(super) struct PeerTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_key: HashMap<(NodeKey, Local), PeerHandle>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    peer: Option<Peer>,
}

impl PeerTable {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Adds a peer that is not in the table.
    pub(super) fn insert(&mut self, key: NodeKey, via: Local, endpoint: Option<SocketAddr>) -> PeerHandle {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        place.peer = Some(Peer::new(key, via, endpoint));
        let handle = PeerHandle { slot, generation: place.generation };
        self.by_key.insert((key, via), handle);
        handle
    }

    pub(super) fn remove(&mut self, handle: PeerHandle) -> Option<Peer> {
        let place = self.slots.get_mut(handle.slot as usize)?;
        if place.generation != handle.generation {
            return None;
        }
        let peer = place.peer.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(handle.slot);
        self.by_key.remove(&(peer.key, peer.via));
        Some(peer)
    }

    pub(super) fn find(&self, key: &NodeKey, via: Local) -> Option<PeerHandle> {
        self.by_key.get(&(*key, via)).copied()
    }

    #[inline]
    pub(super) fn get(&self, handle: PeerHandle) -> Option<&Peer> {
        let place = self.slots.get(handle.slot as usize)?;
        place.peer.as_ref().filter(|_| place.generation == handle.generation)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, handle: PeerHandle) -> Option<&mut Peer> {
        let place = self.slots.get_mut(handle.slot as usize)?;
        place.peer.as_mut().filter(|_| place.generation == handle.generation)
    }

    /// The peer that is in `slot` now.
    pub(super) fn at(&self, slot: u32) -> Option<PeerHandle> {
        let place = self.slots.get(slot as usize)?;
        place.peer.as_ref().map(|_| PeerHandle { slot, generation: place.generation })
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = PeerHandle> + '_ {
        (0..self.slots.len() as u32).filter_map(|slot| self.at(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handle_of_a_removed_peer_never_means_the_next_one() {
        let mut table = PeerTable::default();
        let first = table.insert(NodeKey::from([1; 32]), Local::Own, None);
        assert!(table.remove(first).is_some());
        let second = table.insert(NodeKey::from([2; 32]), Local::Own, None);
        assert_eq!(first.index(), second.index(), "places are used again");
        assert!(table.get(first).is_none());
        assert!(table.get_mut(first).is_none());
        assert!(table.remove(first).is_none());
        assert_eq!(table.get(second).unwrap().key, NodeKey::from([2; 32]));
        assert_eq!(table.handles().collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn the_same_key_can_be_a_peer_of_both_local_keys() {
        let mut table = PeerTable::default();
        let key = NodeKey::from([1; 32]);
        let own = table.insert(key, Local::Own, None);
        let join = table.insert(key, Local::Join, None);
        assert_ne!(own, join);
        assert_eq!(table.find(&key, Local::Own), Some(own));
        assert_eq!(table.find(&key, Local::Join), Some(join));
        table.remove(join);
        assert_eq!(table.find(&key, Local::Own), Some(own));
        assert_eq!(table.find(&key, Local::Join), None);
    }

    #[test]
    fn only_news_about_the_endpoint_override_what_the_peer_has_shown() {
        let told: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let shown: SocketAddr = "192.0.2.2:2".parse().unwrap();
        let moved: SocketAddr = "192.0.2.3:3".parse().unwrap();
        let mut peer = Peer::new(NodeKey::from([1; 32]), Local::Own, Some(told));
        peer.endpoint = Some(shown);
        assert!(!peer.configure(Some(told)), "told again, nothing new");
        assert!(!peer.configure(None));
        assert_eq!(peer.endpoint, Some(shown));
        assert!(peer.configure(Some(moved)));
        assert_eq!(peer.endpoint, Some(moved));
        assert!(!peer.configure(Some(moved)));
    }
}
