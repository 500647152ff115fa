//! Initiations: who is it? An initiation does not say in clear whose it is, so it is offered to one tunnel after the other, which costs one
//! X25519 (RFC 7748) each. Between two of them the caller lets others run.
//!
//! Order: the tunnels that there are, the one that was last heard from that address first; then nodes of the table without a tunnel, those
//! at that address first, at most [`CANDIDATES`]. A tunnel is only made room for when it is proven whose the initiation is. What nobody
//! takes is kept for a moment, and offered again to nodes that the manager introduces.

use core::net::SocketAddrV4;

use acorn_core::NodeKey;
use embassy_time::{Duration, Instant};
use wireguard_sans_io::consts::HANDSHAKE_RESPONSE_LEN;
use wireguard_sans_io::{EntropySource, Error, HandshakeGate, Now, Received, Tunnel};

use super::counters::bump;
use super::slot::{Local, Peer};
use super::stamps::Initiation;
use super::{Transmit, Tunnels, Way, remote};

/// Nodes without a tunnel that an initiation is offered to.
pub(crate) const CANDIDATES: usize = 3;
/// How long an initiation that nobody took is kept: its sender repeats it then.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// Initiations that are kept.
const KEPT: usize = 2;

/// How far an initiation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Not for anybody, or answered: there may be a datagram to send.
    Done(Option<Transmit>),
    /// Offer it to the tunnel in this place next.
    Offer(Place),
    /// None of the tunnels takes it: [`Tunnels::try_candidate`] with nodes that have none, or [`Tunnels::keep_initiation`].
    Unknown,
}

/// Which tunnels an initiation has been offered to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The place that was offered first: the tunnel that was last heard from that address.
    first: Option<usize>,
    next: usize,
}

/// An initiation that nobody took.
pub(crate) struct Kept {
    pub(crate) from: SocketAddrV4,
    pub(crate) initiation: Initiation,
    since: Instant,
}

pub(super) struct Initiations {
    kept: heapless::Vec<Kept, KEPT>,
    /// A tunnel that is tried out, one at a time.
    trial: heapless::Vec<Tunnel, 1>,
}

impl Initiations {
    pub(super) const fn new() -> Self {
        Self { kept: heapless::Vec::new(), trial: heapless::Vec::new() }
    }
}

impl<const PEERS: usize, const STAMPS: usize> Tunnels<PEERS, STAMPS> {
    /// Asks the gate about an initiation. `out` needs room for a cookie reply, 64 bytes.
    pub(crate) fn receive_initiation(
        &mut self,
        now: Instant,
        from: SocketAddrV4,
        initiation: &Initiation,
        out: &mut [u8],
        rng: &mut dyn EntropySource,
    ) -> Step {
        let clock = self.clock.now(now);
        let Some(keys) = self.keys.first_mut() else {
            return Step::Done(None);
        };
        // Without load first: only what shows that its sender knows this node's key counts as a load.
        match keys.checker.gate(clock, &remote(from), false, initiation, out, rng) {
            Ok(HandshakeGate::Pass) => {}
            Ok(_) | Err(_) => {
                bump(&mut self.counters.wrong_mac);
                return Step::Done(None);
            }
        }
        let is_calm = !self.gate.is_under_load(now);
        if !(is_calm && self.gate.admit_claimed(*from.ip(), now)) {
            match keys.checker.gate(clock, &remote(from), true, initiation, out, rng) {
                Ok(HandshakeGate::Pass) => {}
                Ok(HandshakeGate::CookieReply(len)) => {
                    bump(&mut self.counters.cookies);
                    return Step::Done(Some(Transmit { to: from, len, way: Way::Stray }));
                }
                Ok(HandshakeGate::Drop) => return Step::Done(None),
                Err(error) => {
                    self.counters.note(error);
                    return Step::Done(None);
                }
            }
            let is_peer =
                self.slots.iter().any(|slot| slot.endpoint.is_some_and(|endpoint| endpoint.ip() == from.ip()));
            if !self.gate.admit_proven(*from.ip(), is_peer, now) {
                bump(&mut self.counters.limited);
                return Step::Done(None);
            }
        }
        let first = self.slots.iter().position(|slot| slot.local == Local::Own && slot.endpoint == Some(from));
        self.offer_next(Place { first, next: 0 }, first)
    }

    /// Offers an initiation to one tunnel.
    pub(crate) fn offer(
        &mut self,
        now: Instant,
        from: SocketAddrV4,
        initiation: &Initiation,
        place: Place,
        out: &mut [u8],
        rng: &mut dyn EntropySource,
    ) -> Step {
        let clock = self.clock.now(now);
        let (at, place) = match place {
            Place { first: Some(first), next: 0 } => (first, Place { first: Some(first), next: 1 }),
            // Places count from one behind the first.
            Place { first, next } => {
                let at = next.saturating_sub(usize::from(first.is_some()));
                (at, Place { first, next: next.saturating_add(1) })
            }
        };
        let is_again = place.first == Some(at) && place.next > 1;
        let Some(slot) = self.slots.get_mut(at) else {
            return Step::Unknown;
        };
        if slot.local != Local::Own || is_again {
            return self.offer_next(place, None);
        }
        match slot.tunnel.decapsulate(clock, &remote(from), false, initiation, out, rng) {
            Ok(Received::Reply(reply)) => {
                let len = reply.len();
                if let Some(last) = slot.inherited()
                    && is_replay(&mut slot.tunnel, clock, initiation, &last, rng)
                {
                    bump(&mut self.counters.replayed);
                    return Step::Done(None);
                }
                slot.accept(initiation, now);
                // Not believed as the peer's new address before it has shown that it has the session.
                Step::Done(Some(Transmit { to: from, len, way: Way::Stray }))
            }
            Ok(_) => Step::Done(None),
            Err(Error::UnknownPeer | Error::AuthFailure) => self.offer_next(place, None),
            Err(error) => {
                self.counters.note(error);
                Step::Done(None)
            }
        }
    }

    /// Makes a tunnel for a node that has none, to try it out with [`Self::try_candidate`]. False when its key is none.
    pub(crate) fn begin_trial(&mut self, key: &NodeKey) -> bool {
        self.initiations.trial.clear();
        let Some(tunnel) = self.make_tunnel(key, Local::Own) else {
            return false;
        };
        self.initiations.trial.push(tunnel).is_ok()
    }

    /// Offers an initiation to the node that the trial was begun for. `out` as in [`Self::offer`].
    pub(crate) fn try_candidate(
        &mut self,
        now: Instant,
        from: SocketAddrV4,
        initiation: &Initiation,
        peer: Peer,
        out: &mut [u8],
        rng: &mut dyn EntropySource,
    ) -> Step {
        let clock = self.clock.now(now);
        let Some(mut trial) = self.initiations.trial.pop() else {
            return Step::Unknown;
        };
        let len = match trial.decapsulate(clock, &remote(from), false, initiation, out, rng) {
            Ok(Received::Reply(reply)) => reply.len(),
            _ => return Step::Unknown,
        };
        // It is this peer's; but is it new? What its last tunnel took tells.
        if let Some(last) = self.stamps.get(&peer.key)
            && is_replay(&mut trial, clock, initiation, last, rng)
        {
            bump(&mut self.counters.replayed);
            return Step::Done(None);
        }
        if !self.has_room(now, peer.is_manager) {
            bump(&mut self.counters.peers_full);
            return Step::Done(None);
        }
        let _ = self.stamps.take(&peer.key);
        let place = self.put_slot(now, peer, Local::Own, trial);
        if let Some(slot) = place.and_then(|place| self.slots.get_mut(place)) {
            slot.accept(initiation, now);
        }
        Step::Done(Some(Transmit { to: from, len, way: Way::Stray }))
    }

    /// Keeps an initiation that nobody took: the manager may introduce its sender yet.
    pub(crate) fn keep_initiation(&mut self, now: Instant, from: SocketAddrV4, initiation: &Initiation) {
        bump(&mut self.counters.unknown_key);
        self.return_kept(Kept { from, initiation: *initiation, since: now });
    }

    /// Keeps an initiation on that was not of the node that was introduced.
    pub(crate) fn return_kept(&mut self, kept: Kept) {
        if self.initiations.kept.is_full() {
            self.initiations.kept.remove(0);
        }
        let _ = self.initiations.kept.push(kept);
    }

    /// Takes one of the kept initiations out, the oldest first, to offer it to a node that has just been introduced. Those that
    /// are too old go.
    pub(crate) fn take_kept(&mut self, now: Instant) -> Option<Kept> {
        self.initiations.kept.retain(|kept| now.saturating_duration_since(kept.since) < KEPT_FOR);
        (!self.initiations.kept.is_empty()).then(|| self.initiations.kept.remove(0))
    }

    /// How many initiations are kept.
    pub(crate) fn kept(&self) -> usize {
        self.initiations.kept.len()
    }

    /// Whether a peer has a tunnel.
    pub(crate) fn has(&self, key: &NodeKey) -> bool {
        self.find(key).is_some()
    }

    /// The next place, or none any more.
    fn offer_next(&self, place: Place, first: Option<usize>) -> Step {
        let left = place.next < self.slots.len().saturating_add(usize::from(place.first.is_some()));
        if first.is_some() || left { Step::Offer(place) } else { Step::Unknown }
    }
}

/// Whether an initiation that a tunnel has just taken is not newer than the last one that an earlier tunnel to the peer took. The library
/// keeps stamps to itself, so the tunnel is asked: it refuses the last one as a replay if and only if what it took is newer.
fn is_replay(
    tunnel: &mut Tunnel,
    clock: Now,
    taken: &Initiation,
    last: &Initiation,
    rng: &mut dyn EntropySource,
) -> bool {
    let mut reply = [0; HANDSHAKE_RESPONSE_LEN];
    let shown = tunnel.decapsulate(clock, &[], false, last, &mut reply, rng);
    authentic(taken) == authentic(last) || !matches!(shown, Err(Error::ReplayedTimestamp))
}

/// What of an initiation its sender's key vouches for: the ephemeral key, the static key and the time stamp. The sender's index before
/// them and the MACs behind them anybody can write anew.
fn authentic(initiation: &Initiation) -> Option<&[u8]> {
    initiation.get(8..116)
}
