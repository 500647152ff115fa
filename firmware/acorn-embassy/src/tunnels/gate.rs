//! The gate before the handshakes. One initiation that is let through costs the arithmetic of one X25519 (RFC 7748) per tunnel that it is
//! offered, tens of milliseconds each on a small core. So each source has a token bucket, asked before any such arithmetic; and when
//! initiations come in number, or one source has used up its bucket, only those get on that have proven their address by a cookie.
//!
//! An address that is not proven may be somebody else's. So what is sent from it counts apart: it costs the owner of the address a cookie,
//! which is one round trip more, and never its handshake.

use core::net::Ipv4Addr;

use embassy_time::{Duration, Instant};

/// So many initiations within [`LOAD_WINDOW`] are a load: from then on a source has to show a cookie.
pub(crate) const LOAD_INITIATIONS: u32 = 6;
/// Over what time initiations are counted.
pub(crate) const LOAD_WINDOW: Duration = Duration::from_secs(1);
/// One initiation from one source takes this long to be earned.
pub(crate) const SOURCE_INTERVAL: Duration = Duration::from_secs(1);
/// Initiations that one source may send at once after a pause.
pub(crate) const SOURCE_BURST: u64 = 4;
/// Sources that are told apart.
pub(crate) const SOURCES: usize = 8;

const TOLERANCE: Duration = Duration::from_ticks(SOURCE_INTERVAL.as_ticks() * (SOURCE_BURST - 1));

/// When a source's bucket will be full again (the generic cell rate algorithm).
#[derive(Clone, Copy)]
struct Source {
    address: Ipv4Addr,
    full_at: Instant,
}

/// The buckets of some sources. One that is full again is as good as none.
struct Buckets(heapless::Vec<Source, SOURCES>);

impl Buckets {
    /// Whether a source has a token, and takes it. When all buckets are in use a newcomer gets none, unless `may_push_out` lets it have
    /// the place of the one that has been refilled most.
    fn admit(&mut self, address: Ipv4Addr, may_push_out: bool, now: Instant) -> bool {
        let place = match self.0.iter().position(|source| source.address == address) {
            Some(place) => place,
            None => {
                if self.0.is_full()
                    && let Some((place, source)) = self.0.iter().enumerate().min_by_key(|(_, s)| s.full_at)
                {
                    if source.full_at > now && !may_push_out {
                        return false;
                    }
                    self.0.swap_remove(place);
                }
                let _ = self.0.push(Source { address, full_at: now });
                self.0.len().saturating_sub(1)
            }
        };
        let Some(source) = self.0.get_mut(place) else {
            return false;
        };
        let full_at = source.full_at.max(now);
        if full_at.saturating_duration_since(now) > TOLERANCE {
            return false;
        }
        source.full_at = full_at + SOURCE_INTERVAL;
        true
    }
}

pub(crate) struct Gate {
    claimed: Buckets,
    proven: Buckets,
    window_began: Instant,
    in_window: u32,
    in_last_window: u32,
}

impl Gate {
    pub(crate) const fn new() -> Self {
        Self {
            claimed: Buckets(heapless::Vec::new()),
            proven: Buckets(heapless::Vec::new()),
            window_began: Instant::MIN,
            in_window: 0,
            in_last_window: 0,
        }
    }

    /// Counts an initiation whose first MAC is right. Returns whether there are so many that a cookie has to be shown.
    pub(crate) fn is_under_load(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.window_began);
        if since >= LOAD_WINDOW {
            self.in_last_window = if since < LOAD_WINDOW * 2 { self.in_window } else { 0 };
            (self.window_began, self.in_window) = (now, 0);
        }
        self.in_window = self.in_window.saturating_add(1);
        self.in_window.max(self.in_last_window) > LOAD_INITIATIONS
    }

    /// Whether a source may cost arithmetic without having proven its address; takes a token if so. How many such there are in all,
    /// [`Self::is_under_load`] bounds.
    pub(crate) fn admit_claimed(&mut self, address: Ipv4Addr, now: Instant) -> bool {
        self.claimed.admit(address, true, now)
    }

    /// Whether a source that has proven its address may cost arithmetic once more; takes a token if so. So many sources in all get on as
    /// are told apart; one that is a peer's address (`is_peer`) always does.
    pub(crate) fn admit_proven(&mut self, address: Ipv4Addr, is_peer: bool, now: Instant) -> bool {
        self.proven.admit(address, is_peer, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_secs(100);
    const FROM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn admitted(gate: &mut Gate, at: Instant) -> usize {
        (0..100).filter(|_| gate.admit_proven(FROM, false, at)).count()
    }

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let mut gate = Gate::new();
        assert_eq!(admitted(&mut gate, START), SOURCE_BURST as usize);
        assert_eq!(admitted(&mut gate, START + SOURCE_INTERVAL * 2), 2);
        assert_eq!(admitted(&mut gate, START + Duration::from_secs(60)), SOURCE_BURST as usize);
    }

    #[test]
    fn an_address_that_others_claim_loses_nothing_that_it_has_proven() {
        let mut gate = Gate::new();
        assert_eq!((0..100).filter(|_| gate.admit_claimed(FROM, START)).count(), SOURCE_BURST as usize);
        assert_eq!(admitted(&mut gate, START), SOURCE_BURST as usize);
    }

    #[test]
    fn sources_in_number_share_a_bound_that_peers_are_above() {
        let mut gate = Gate::new();
        let source = |n| Ipv4Addr::new(198, 51, 100, n);
        let all = |gate: &mut Gate, at| {
            (0..5).map(|_| (0..200).filter(|n| gate.admit_proven(source(*n), false, at)).count()).sum::<usize>()
        };
        assert_eq!(all(&mut gate, START), SOURCES * SOURCE_BURST as usize);
        assert_eq!(all(&mut gate, START + SOURCE_INTERVAL), SOURCES, "whoever has a bucket has it alone");
        assert!(!gate.admit_proven(FROM, false, START + SOURCE_INTERVAL));
        assert!(gate.admit_proven(FROM, true, START + SOURCE_INTERVAL));
        let later = START + SOURCE_INTERVAL * 60;
        assert!(gate.admit_proven(source(250), false, later), "buckets that are full again are free");
    }

    #[test]
    fn load_begins_with_the_seventh_initiation_of_a_second_and_ends_with_a_quiet_one() {
        let mut gate = Gate::new();
        let loads = |gate: &mut Gate, at| (0..10).map(|_| gate.is_under_load(at)).filter(|load| *load).count();
        assert_eq!(loads(&mut gate, START), 4);
        let next = START + Duration::from_millis(1100);
        assert!(gate.is_under_load(next), "the second before was a load");
        assert!(!gate.is_under_load(next + Duration::from_secs(5)));
    }
}
