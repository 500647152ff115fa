//! Payloads that wait for a handshake: first in, first out for each peer, bounded in number, bytes and time.

use embassy_time::{Duration, Instant};
use heapless::Vec;

/// How long a payload waits: two handshake attempts, 5 s apart, with their jitter. Whoever sent it has repeated it by then.
pub(crate) const QUEUE_AGE: Duration = Duration::from_secs(11);
/// The most payloads that wait, of all peers.
pub(crate) const QUEUE_PAYLOADS: usize = 12;
/// The most bytes that wait, of all peers: two packets of the overlay's MTU and a small one.
pub(crate) const QUEUE_BYTES: usize = 3072;
/// The most bytes that wait for one peer: three quarters, so that a peer that does not answer leaves room for others. That is one packet
/// of the overlay's MTU and some small ones.
const PEER_BYTES: usize = QUEUE_BYTES / 4 * 3;

struct Entry {
    peer: u32,
    len: usize,
    since: Instant,
}

/// The queue of all peers: one arena, compact and in the order of arrival.
pub(crate) struct Queue {
    entries: Vec<Entry, QUEUE_PAYLOADS>,
    bytes: [u8; QUEUE_BYTES],
    used: usize,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), bytes: [0; QUEUE_BYTES], used: 0 }
    }

    /// Appends a payload. Returns how many older ones gave way, those of the same peer first; the payload itself counts when it
    /// is too long for the queue.
    pub(crate) fn push(&mut self, peer: u32, payload: &[u8], now: Instant) -> u32 {
        if payload.len() > PEER_BYTES {
            return 1;
        }
        let mut lost = 0;
        while self.bytes_of(peer) + payload.len() > PEER_BYTES {
            self.remove_first(|entry| entry.peer == peer);
            lost += 1;
        }
        while self.used + payload.len() > QUEUE_BYTES || self.entries.is_full() {
            if !self.remove_first(|entry| entry.peer == peer) {
                self.remove_first(|_| true);
            }
            lost += 1;
        }
        let entry = Entry { peer, len: payload.len(), since: now };
        if let Some(place) = self.bytes.get_mut(self.used..self.used + payload.len())
            && self.entries.push(entry).is_ok()
        {
            place.copy_from_slice(payload);
            self.used += payload.len();
        }
        lost
    }

    /// The oldest payload for a peer.
    pub(crate) fn first(&self, peer: u32) -> Option<&[u8]> {
        let mut start = 0;
        for entry in &self.entries {
            if entry.peer == peer {
                return self.bytes.get(start..start + entry.len);
            }
            start += entry.len;
        }
        None
    }

    /// Removes the oldest payload for a peer.
    pub(crate) fn pop(&mut self, peer: u32) {
        self.remove_first(|entry| entry.peer == peer);
    }

    /// Drops all that waits for a peer. Returns how many payloads those were.
    pub(crate) fn clear(&mut self, peer: u32) -> u32 {
        let mut lost = 0;
        while self.remove_first(|entry| entry.peer == peer) {
            lost += 1;
        }
        lost
    }

    /// Drops what has waited too long. Returns how many payloads those were.
    pub(crate) fn drop_stale(&mut self, now: Instant) -> u32 {
        let mut lost = 0;
        while self.remove_first(|entry| now.saturating_duration_since(entry.since) > QUEUE_AGE) {
            lost += 1;
        }
        lost
    }

    fn bytes_of(&self, peer: u32) -> usize {
        self.entries.iter().filter(|entry| entry.peer == peer).map(|entry| entry.len).sum()
    }

    /// Removes the oldest entry of a kind and closes the gap. False when there is none.
    fn remove_first(&mut self, is_one: impl Fn(&Entry) -> bool) -> bool {
        let Some(place) = self.entries.iter().position(is_one) else {
            return false;
        };
        let start: usize = self.entries.iter().take(place).map(|entry| entry.len).sum();
        let len = self.entries.remove(place).len;
        self.bytes.copy_within(start + len..self.used, start);
        self.used -= len;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_secs(100);

    fn flush(queue: &mut Queue, peer: u32) -> std::vec::Vec<std::vec::Vec<u8>> {
        let mut all = std::vec::Vec::new();
        while let Some(payload) = queue.first(peer) {
            all.push(payload.to_vec());
            queue.pop(peer);
        }
        all
    }

    #[test]
    fn each_peer_gets_its_own_in_order() {
        let mut queue = Queue::new();
        for (peer, payload) in [(1, &b"one"[..]), (2, b"zwei"), (1, b"three"), (2, b"vier")] {
            assert_eq!(queue.push(peer, payload, NOW), 0);
        }
        assert_eq!(flush(&mut queue, 1), [&b"one"[..], b"three"]);
        assert!(queue.first(1).is_none() && queue.first(2).is_some());
        assert_eq!(flush(&mut queue, 2), [&b"zwei"[..], b"vier"]);
        assert_eq!(queue.used, 0);
    }

    #[test]
    fn a_peer_that_does_not_answer_pushes_out_its_own_first() {
        let mut queue = Queue::new();
        const LEN: usize = QUEUE_BYTES / 4;
        queue.push(2, &[2; LEN], NOW);
        let lost: u32 = (0..6).map(|n| queue.push(1, &[n; LEN], NOW)).sum();
        assert_eq!(lost, 3, "three quarters of the room are three of these");
        assert_eq!(flush(&mut queue, 1), [[3; LEN], [4; LEN], [5; LEN]]);
        assert_eq!(flush(&mut queue, 2).len(), 1);
    }

    #[test]
    fn number_and_length_are_bounded() {
        let mut queue = Queue::new();
        assert_eq!(queue.push(1, &[0; PEER_BYTES + 1], NOW), 1, "it is too long itself");
        assert_eq!(queue.first(1), None);
        let lost: u32 = (0..QUEUE_PAYLOADS as u32 + 3).map(|n| queue.push(n, &[0; 10], NOW)).sum();
        assert_eq!(lost, 3);
        assert!(queue.first(0).is_none() && queue.first(3).is_some());
    }

    #[test]
    fn stale_payloads_go_and_fresh_ones_stay() {
        let mut queue = Queue::new();
        queue.push(1, b"old", NOW);
        queue.push(1, b"fresh", NOW + Duration::from_secs(5));
        assert_eq!(queue.drop_stale(NOW + QUEUE_AGE), 0);
        assert_eq!(queue.drop_stale(NOW + QUEUE_AGE + Duration::from_secs(1)), 1);
        assert_eq!(queue.first(1), Some(&b"fresh"[..]));
        assert_eq!(queue.clear(1), 1);
        assert_eq!(queue.used, 0);
    }
}
