//! Payloads that wait for their peer's handshake: first in, first out, bounded in number, bytes and time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The most payloads that wait for one peer.
pub const QUEUE_PAYLOADS: usize = 64;

/// The most bytes that wait for one peer.
pub const QUEUE_BYTES: usize = 128 * 1024;

/// The most bytes that wait for all peers together.
pub const QUEUES_BYTES: usize = 16 * 1024 * 1024;

/// How long a payload waits: two handshake attempts, 5 s apart, with their jitter. Whoever sent it has
/// repeated it by then.
pub const QUEUE_AGE: Duration = Duration::from_secs(11);

#[derive(Default)]
pub(super) struct PayloadQueue {
    payloads: VecDeque<(Instant, Box<[u8]>)>,
    bytes: usize,
}

impl PayloadQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a payload. Returns how many of the oldest gave way.
    pub(super) fn push(&mut self, payload: &[u8], now: Instant) -> usize {
        let mut displaced = 0;
        while !self.payloads.is_empty()
            && (self.payloads.len() >= QUEUE_PAYLOADS || self.bytes + payload.len() > QUEUE_BYTES)
        {
            self.pop();
            displaced += 1;
        }
        self.bytes += payload.len();
        self.payloads.push_back((now, payload.into()));
        displaced
    }

    /// The oldest payload.
    pub(super) fn front(&self) -> Option<&[u8]> {
        self.payloads.front().map(|(_, payload)| &payload[..])
    }

    pub(super) fn pop(&mut self) {
        if let Some((_, payload)) = self.payloads.pop_front() {
            self.bytes -= payload.len();
        }
    }

    /// Drops what has waited too long. Returns how many those were.
    pub(super) fn drop_stale(&mut self, now: Instant) -> usize {
        let before = self.payloads.len();
        while self.payloads.front().is_some_and(|(since, _)| now.duration_since(*since) > QUEUE_AGE) {
            self.pop();
        }
        before - self.payloads.len()
    }

    /// Drops everything and gives its memory back. Returns how many payloads there were.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(self).payloads.len()
    }

    /// Gives the memory of an empty queue back.
    pub(super) fn shrink(&mut self) {
        if self.payloads.is_empty() {
            self.payloads = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_give_way_by_number_and_by_bytes() {
        let now = Instant::now();
        let mut queue = PayloadQueue::default();
        for n in 0..QUEUE_PAYLOADS {
            assert_eq!(queue.push(&[n as u8; 10], now), 0);
        }
        assert_eq!(queue.push(&[200; 10], now), 1);
        assert_eq!(queue.front(), Some(&[1; 10][..]));
        assert_eq!(queue.bytes(), QUEUE_PAYLOADS * 10);
        assert_eq!(queue.push(&vec![201; QUEUE_BYTES - 10], now), QUEUE_PAYLOADS - 1);
        assert_eq!(queue.bytes(), QUEUE_BYTES);
        assert_eq!(queue.front(), Some(&[200; 10][..]));
        assert_eq!(queue.clear(), 2);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn stale_payloads_go_and_fresh_ones_stay() {
        let start = Instant::now();
        let mut queue = PayloadQueue::default();
        queue.push(b"old", start);
        queue.push(b"fresh", start + Duration::from_secs(5));
        assert_eq!(queue.drop_stale(start + QUEUE_AGE), 0);
        assert_eq!(queue.drop_stale(start + QUEUE_AGE + Duration::from_secs(1)), 1);
        assert_eq!(queue.front(), Some(&b"fresh"[..]));
    }
}
