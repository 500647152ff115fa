//! Handshake initiations of keys that are not peers (yet). They are kept unanswered for a moment, because the table
//! that introduces the key may be on its way, and the initiator repeats only after 5 s.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sanstun::HandshakeInitiation;

use crate::identity::NodeKey;

/// The most initiations that are kept.
pub const KEPT_INITIATIONS: usize = 16;

/// How long an initiation is kept: then the initiator repeats it.
pub const KEPT_FOR: Duration = Duration::from_secs(5);

/// The length of a WireGuard handshake initiation.
pub(super) const INITIATION_LEN: usize = 148;

pub(super) struct Kept {
    pub(super) key: NodeKey,
    pub(super) from: SocketAddr,
    pub(super) datagram: [u8; INITIATION_LEN],
    /// As it was parsed when it came.
    pub(super) parsed: Option<HandshakeInitiation>,
    since: Instant,
    told: bool,
}

/// What keeping an initiation cost.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cost {
    Nothing,
    /// Another key's initiation gave way.
    Displaced,
}

/// The datagrams are kept as they came, so that the replay check of a new peer sees them when they are used; and parsed, because for
/// a key that was a peer before that check has seen them already.
#[derive(Default)]
pub(super) struct KeptInitiations {
    kept: Vec<Kept>,
}

impl KeptInitiations {
    /// Keeps an initiation. One per key: a newer one replaces it. The oldest gives way when all places are taken:
    /// a stranger who floods must then do so for the whole time a real introduction takes.
    pub(super) fn keep(
        &mut self,
        key: NodeKey,
        from: SocketAddr,
        datagram: [u8; INITIATION_LEN],
        parsed: Option<HandshakeInitiation>,
        now: Instant,
    ) -> Cost {
        let mut told = false;
        if let Some(place) = self.kept.iter().position(|kept| kept.key == key) {
            // The news of this key is still waiting to be fetched, or it is time to tell it again.
            let old = self.kept.remove(place);
            told = old.told && now.duration_since(old.since) < KEPT_FOR / 2;
        }
        let mut cost = Cost::Nothing;
        if self.kept.len() >= KEPT_INITIATIONS {
            self.kept.remove(0);
            cost = Cost::Displaced;
        }
        self.kept.push(Kept { key, from, datagram, parsed, since: now, told });
        cost
    }

    /// Forgets what is too old. Returns how many those were.
    pub(super) fn drop_stale(&mut self, now: Instant) -> usize {
        let before = self.kept.len();
        self.kept.retain(|kept| now.duration_since(kept.since) < KEPT_FOR);
        before - self.kept.len()
    }

    /// Takes the initiation of `key` out.
    pub(super) fn take(&mut self, key: &NodeKey) -> Option<Kept> {
        let place = self.kept.iter().position(|kept| kept.key == *key)?;
        Some(self.kept.remove(place))
    }

    /// The next key to tell the caller about.
    pub(super) fn next_untold(&mut self) -> Option<(NodeKey, SocketAddr)> {
        let kept = self.kept.iter_mut().find(|kept| !kept.told)?;
        kept.told = true;
        Some((kept.key, kept.from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from() -> SocketAddr {
        "192.0.2.1:50103".parse().unwrap()
    }

    fn key(n: u8) -> NodeKey {
        NodeKey::from([n; 32])
    }

    #[test]
    fn a_flood_displaces_the_oldest_and_never_grows() {
        let now = Instant::now();
        let mut kept = KeptInitiations::default();
        for n in 0..KEPT_INITIATIONS as u8 {
            assert_eq!(kept.keep(key(n), from(), [n; 148], None, now), Cost::Nothing);
        }
        assert_eq!(kept.keep(key(100), from(), [100; 148], None, now), Cost::Displaced);
        assert!(kept.take(&key(0)).is_none());
        assert!(kept.take(&key(1)).is_some());
        assert!(kept.take(&key(100)).is_some());
        assert_eq!(kept.kept.len(), KEPT_INITIATIONS - 2);
    }

    #[test]
    fn one_place_per_key_and_the_newest_initiation_in_it() {
        let now = Instant::now();
        let mut kept = KeptInitiations::default();
        for n in 0..100 {
            assert_eq!(kept.keep(key(1), from(), [n; 148], None, now), Cost::Nothing);
        }
        assert_eq!(kept.take(&key(1)).unwrap().datagram, [99; 148]);
        assert!(kept.take(&key(1)).is_none());
    }

    #[test]
    fn a_key_is_told_once_while_it_repeats_quickly_and_again_after_a_while() {
        let now = Instant::now();
        let mut kept = KeptInitiations::default();
        kept.keep(key(1), from(), [1; 148], None, now);
        assert_eq!(kept.next_untold(), Some((key(1), from())));
        assert_eq!(kept.next_untold(), None);
        kept.keep(key(1), from(), [2; 148], None, now + Duration::from_secs(1));
        assert_eq!(kept.next_untold(), None);
        kept.keep(key(1), from(), [3; 148], None, now + Duration::from_secs(5));
        assert_eq!(kept.next_untold(), Some((key(1), from())));
    }

    #[test]
    fn an_initiation_is_forgotten_after_its_time() {
        let now = Instant::now();
        let mut kept = KeptInitiations::default();
        kept.keep(key(1), from(), [1; 148], None, now);
        assert_eq!(kept.drop_stale(now + KEPT_FOR - Duration::from_millis(1)), 0);
        assert_eq!(kept.drop_stale(now + KEPT_FOR), 1);
        assert!(kept.take(&key(1)).is_none());
    }
}
