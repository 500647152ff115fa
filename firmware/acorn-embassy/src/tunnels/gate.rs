//! The gate before the handshakes. One initiation that is let through costs the arithmetic of one X25519 (RFC 7748) per tunnel that it is
//! offered, tens of milliseconds each on a small core. So when initiations come in number, only sources that have proven their address
//! by a cookie get on, and each source has a token bucket, asked before any such arithmetic.

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
/// Sources that are told apart; the one longest unheard makes room.
const SOURCES: usize = 8;

const TOLERANCE: Duration = Duration::from_ticks(SOURCE_INTERVAL.as_ticks() * (SOURCE_BURST - 1));

/// When a source's bucket will be full again (the generic cell rate algorithm).
#[derive(Clone, Copy)]
struct Source {
    address: Ipv4Addr,
    full_at: Instant,
}

pub(crate) struct Gate {
    sources: heapless::Vec<Source, SOURCES>,
    window_began: Instant,
    in_window: u32,
    in_last_window: u32,
}

impl Gate {
    pub(crate) const fn new() -> Self {
        Self { sources: heapless::Vec::new(), window_began: Instant::MIN, in_window: 0, in_last_window: 0 }
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

    /// Whether a source may cost arithmetic once more; takes a token if so.
    pub(crate) fn admit(&mut self, address: Ipv4Addr, now: Instant) -> bool {
        let place = match self.sources.iter().position(|source| source.address == address) {
            Some(place) => place,
            None => {
                if self.sources.is_full()
                    && let Some((oldest, _)) = self.sources.iter().enumerate().min_by_key(|(_, s)| s.full_at)
                {
                    self.sources.swap_remove(oldest);
                }
                let _ = self.sources.push(Source { address, full_at: now });
                self.sources.len().saturating_sub(1)
            }
        };
        let Some(source) = self.sources.get_mut(place) else {
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

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_secs(100);
    const FROM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn admitted(gate: &mut Gate, at: Instant) -> usize {
        (0..100).filter(|_| gate.admit(FROM, at)).count()
    }

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let mut gate = Gate::new();
        assert_eq!(admitted(&mut gate, START), SOURCE_BURST as usize);
        assert_eq!(admitted(&mut gate, START + SOURCE_INTERVAL * 2), 2);
        assert_eq!(admitted(&mut gate, START + Duration::from_secs(60)), SOURCE_BURST as usize);
    }

    #[test]
    fn one_source_does_not_use_up_what_others_may_send() {
        let mut gate = Gate::new();
        assert_eq!(admitted(&mut gate, START), SOURCE_BURST as usize);
        for n in 2..20 {
            assert!(gate.admit(Ipv4Addr::new(192, 0, 2, n), START));
        }
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
