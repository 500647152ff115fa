//! The gate before the handshakes: a token bucket per source address, asked before any cryptography. It bounds what
//! one source can make this process compute, and how many cookie replies it can have sent anywhere.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Handshake messages per second that one source address may send for long. Hundreds of nodes behind one
/// address stay far below.
pub const SOURCE_RATE: u32 = 200;

/// Handshake messages that one source address may send at once after a pause.
pub const SOURCE_BURST: u32 = 400;

/// Buckets. Sources that fall into the same one share it; the hash is keyed, so that nobody can aim.
const BUCKETS: usize = 1024;

const COST: Duration = Duration::from_nanos(1_000_000_000 / SOURCE_RATE as u64);
const TOLERANCE: Duration = COST.saturating_mul(SOURCE_BURST - 1);

pub(super) struct SourceGate {
    /// Per bucket, when it will be full again, since `base` (the generic cell rate algorithm).
    full_at: Box<[Duration; BUCKETS]>,
    base: Instant,
    hash: RandomState,
}

impl SourceGate {
    pub(super) fn new(now: Instant) -> Self {
        Self { full_at: Box::new([Duration::ZERO; BUCKETS]), base: now, hash: RandomState::new() }
    }

    /// Whether a handshake message from `from` may pass, and takes a token if so.
    pub(super) fn admit(&mut self, from: SocketAddr, now: Instant) -> bool {
        let elapsed = now.duration_since(self.base);
        let place = self.hash.hash_one(source(from)) as usize % BUCKETS;
        let full_at = self.full_at[place].max(elapsed);
        if full_at - elapsed > TOLERANCE {
            return false;
        }
        self.full_at[place] = full_at + COST;
        true
    }
}

/// What counts as one source: an IPv4 address or an IPv6 /64.
fn source(from: SocketAddr) -> u64 {
    match from.ip().to_canonical() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        // Never below 2^32 for a global address, so the two families don't meet.
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut gate = SourceGate::new(start);
        let from = "192.0.2.1:1".parse().unwrap();
        let admitted = |gate: &mut SourceGate, at| (0..10_000).filter(|_| gate.admit(from, at)).count();
        assert_eq!(admitted(&mut gate, start), SOURCE_BURST as usize);
        assert_eq!(admitted(&mut gate, start + Duration::from_secs(1)), SOURCE_RATE as usize);
        assert_eq!(admitted(&mut gate, start + Duration::from_secs(60)), SOURCE_BURST as usize);
    }

    #[test]
    fn one_source_does_not_use_up_what_others_may_send() {
        let start = Instant::now();
        let mut gate = SourceGate::new(start);
        let noisy: SocketAddr = "192.0.2.1:1".parse().unwrap();
        while gate.admit(noisy, start) {}
        // Other ports are the same source; of 100 other sources at most a few share its bucket.
        assert!(!gate.admit("192.0.2.1:2".parse().unwrap(), start));
        let quiet = (0..100u8).filter(|n| gate.admit(SocketAddr::from(([198, 51, 100, *n], 1)), start)).count();
        assert!(quiet >= 95, "{quiet}");
    }

    #[test]
    fn an_ipv6_source_is_its_64_bit_prefix() {
        let a: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        let b: SocketAddr = "[2001:db8::ffff:2]:9".parse().unwrap();
        let c: SocketAddr = "[2001:db8:0:1::1]:1".parse().unwrap();
        assert_eq!(source(a), source(b));
        assert_ne!(source(a), source(c));
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:1".parse().unwrap();
        assert_eq!(source(mapped), source("192.0.2.1:1".parse().unwrap()));
    }
}
