//! What protects against replayed initiations when a peer's tunnel has made room for another's.
//!
//! A tunnel refuses an initiation whose time stamp is not newer than the last it took (WireGuard's protection against replays). The
//! library keeps that stamp inside of the tunnel. So of a tunnel that goes the last initiation itself is kept; a new tunnel to the peer
//! is shown it before anything else, and has its stamp again.

use acorn_core::NodeKey;
use wireguard_sans_io::consts::HANDSHAKE_INITIATION_LEN;

/// An initiation as it was received.
pub(crate) type Initiation = [u8; HANDSHAKE_INITIATION_LEN];

struct Stamp {
    key: NodeKey,
    initiation: Initiation,
    /// When it was put in, in the order of all.
    turn: u32,
}

/// The last initiations of up to `N` peers that have no tunnel; the one longest unused makes room.
pub(crate) struct Stamps<const N: usize> {
    rows: heapless::Vec<Stamp, N>,
    turn: u32,
}

impl<const N: usize> Stamps<N> {
    pub(crate) const fn new() -> Self {
        Self { rows: heapless::Vec::new(), turn: 0 }
    }

    /// Keeps the last initiation of a peer whose tunnel goes.
    pub(crate) fn keep(&mut self, key: NodeKey, initiation: &Initiation) {
        let _ = self.take(&key);
        if self.rows.is_full()
            && let Some((oldest, _)) = self.rows.iter().enumerate().min_by_key(|(_, row)| row.turn)
        {
            self.rows.swap_remove(oldest);
        }
        self.turn = self.turn.saturating_add(1);
        let _ = self.rows.push(Stamp { key, initiation: *initiation, turn: self.turn });
    }

    /// Takes the kept initiation of a peer that gets a tunnel again.
    pub(crate) fn take(&mut self, key: &NodeKey) -> Option<Initiation> {
        let place = self.rows.iter().position(|row| row.key == *key)?;
        Some(self.rows.swap_remove(place).initiation)
    }

    /// The same, left in place.
    pub(crate) fn get(&self, key: &NodeKey) -> Option<&Initiation> {
        self.rows.iter().find(|row| row.key == *key).map(|row| &row.initiation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_each_key_has_one() {
        let mut stamps = Stamps::<2>::new();
        let key = |n| NodeKey([n; 32]);
        stamps.keep(key(1), &[1; 148]);
        stamps.keep(key(2), &[2; 148]);
        stamps.keep(key(1), &[11; 148]);
        stamps.keep(key(3), &[3; 148]);
        assert_eq!(stamps.get(&key(2)), None, "it was there longest");
        assert_eq!(stamps.take(&key(1)), Some([11; 148]));
        assert_eq!(stamps.take(&key(1)), None);
        assert_eq!(stamps.take(&key(3)), Some([3; 148]));
    }
}
