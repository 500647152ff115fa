//! All tunnels of the node: WireGuard to at most `PEERS` peers at once, sans-IO.
//!
//! The protocol is the library's (`wireguard-sans-io`), one tunnel per peer. Here is what it leaves to its user: which datagram belongs to
//! which tunnel, payloads that wait for a handshake, who makes room when there are more peers than tunnels, and what a stranger may cost.
//!
//! A call does at most the arithmetic of one handshake message (about ten million instructions on a Cortex-M3); what may take
//! more is cut into steps, and the caller lets others run between them: [`Tunnels::receive`] answers with the next step.

mod counters;
mod gate;
mod initiations;
mod queue;
mod slot;
mod stamps;
#[cfg(test)]
mod tests;

use core::net::SocketAddrV4;

use acorn_core::{NodeKey, RowRef};
use embassy_time::{Duration, Instant};
use wireguard_sans_io::message::PacketKind;
use wireguard_sans_io::{
    Config, CookieChecker, Encapsulated, EntropySource, Error, Now, PollOutput, Received, SendReason, StaticSecret,
    Tunnel, peek, transport_datagram_len,
};

pub use counters::TunnelCounters;
use counters::bump;
use gate::Gate;
use initiations::Initiations;
pub(crate) use initiations::{CANDIDATES, Step};
use queue::Queue;
use slot::Slot;
pub(crate) use slot::{Local, Peer};
use stamps::Stamps;

/// The longest payload in bytes: the overlay's MTU on Ethernet.
pub(crate) const PAYLOAD_MAX: usize = 1440;
/// Room for the longest datagram in bytes.
pub(crate) const DATAGRAM_MAX: usize = transport_datagram_len(PAYLOAD_MAX);
/// Events that wait to be fetched.
const EVENTS: usize = 8;
/// What can't be done yet, for want of entropy or because the library paces handshakes, is tried again after this long.
const STALL: Duration = Duration::from_secs(1);

/// A datagram to send: where to, and how many bytes of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transmit {
    pub(crate) to: SocketAddrV4,
    pub(crate) len: usize,
    pub(crate) way: Way,
}

/// What is known of the way to the receiver of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The peer was heard lately: it is there, and so is the way to it.
    Live,
    /// The peer may not be there. The number names it.
    Unsure(u32),
    /// Whoever claims to be there: the sender of a handshake message that proves nothing yet.
    Stray,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// A payload of `len` bytes in the buffer, from the peer that `row` names in the engine.
    Payload { row: RowRef, key: NodeKey, len: usize },
    /// Nothing that the engine has to see.
    Nothing,
    /// It is an initiation: [`Tunnels::receive_initiation`] takes it, in steps.
    Initiation,
}

/// What the engine has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The peer has a session with this node, or is heard again.
    Established(RowRef),
    /// A handshake with the peer has gone unanswered.
    Unreachable(RowRef),
    /// There is no room for a tunnel to the peer.
    Refused(RowRef),
}

/// The clock of handshakes: time stamps that grow over restarts, without a clock that does. A start is an era of 2^32 seconds.
#[derive(Clone, Copy, Debug)]
struct HandshakeClock {
    boot: u32,
}

impl HandshakeClock {
    fn now(&self, now: Instant) -> Now {
        let micros = now.as_micros();
        let nanos = u32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0);
        Now::new(micros.saturating_mul(1_000), (u64::from(self.boot) << 32) + now.as_secs(), nanos)
    }
}

/// The node's keys.
struct Keys {
    own: StaticSecret,
    join: Option<StaticSecret>,
    checker: CookieChecker,
}

impl Keys {
    /// Gives a peer a tunnel that nothing is known of in place of the one that it has. False when there is none to be had.
    #[inline(never)] // A tunnel has 4 KiB, which the frame of its caller need not have room for.
    fn start_over(&self, slot: &mut Slot) -> bool {
        let tunnel = self.tunnel(&slot.peer.key, slot.local);
        tunnel.map(|tunnel| slot.start_over(tunnel)).is_some()
    }

    /// A tunnel that nothing is known of. None when the peer's key is none, or there is no key to join with.
    #[inline(never)]
    fn tunnel(&self, key: &NodeKey, local: Local) -> Option<Tunnel> {
        let secret = match local {
            Local::Own => self.own.clone(),
            Local::Join => self.join.clone()?,
        };
        // The padding is a multiple of 16 already, and so is the overlay's MTU.
        Tunnel::new(Config::new(secret, key.0.into())).ok()
    }
}

/// Tunnels to at most `PEERS` peers, and the replay stamps of `STAMPS` further ones.
pub(crate) struct Tunnels<const PEERS: usize, const STAMPS: usize> {
    clock: HandshakeClock,
    keys: heapless::Vec<Keys, 1>,
    slots: heapless::Vec<Slot, PEERS>,
    next_id: u32,
    queue: Queue,
    stamps: Stamps<STAMPS>,
    gate: Gate,
    initiations: Initiations,
    events: heapless::Deque<Event, EVENTS>,
    /// There was no entropy: nothing is tried again before.
    stalled_until: Option<Instant>,
    pub(crate) counters: TunnelCounters,
}

impl<const PEERS: usize, const STAMPS: usize> Tunnels<PEERS, STAMPS> {
    pub(crate) const fn new() -> Self {
        Self {
            clock: HandshakeClock { boot: 0 },
            keys: heapless::Vec::new(),
            slots: heapless::Vec::new(),
            next_id: 0,
            queue: Queue::new(),
            stamps: Stamps::new(),
            gate: Gate::new(),
            initiations: Initiations::new(),
            events: heapless::Deque::new(),
            stalled_until: None,
            counters: TunnelCounters::ZERO,
        }
    }

    /// Sets the keys and the number of the start. Returns the own public key. Once, before anything else.
    pub(crate) fn start(&mut self, own: StaticSecret, join: Option<StaticSecret>, boot: u32) -> NodeKey {
        self.clock = HandshakeClock { boot };
        let public = own.public_key();
        self.keys.clear();
        let _ = self.keys.push(Keys { checker: CookieChecker::new(&public), own, join });
        NodeKey(*public.as_bytes())
    }

    /// Whether there is a key to join with.
    pub(crate) fn can_join(&self) -> bool {
        self.keys.first().is_some_and(|keys| keys.join.is_some())
    }

    /// Seals a payload for a peer into `out`, which needs [`DATAGRAM_MAX`] bytes. Without a session the payload waits, and what comes
    /// out is an initiation, or nothing.
    pub(crate) fn seal(
        &mut self,
        now: Instant,
        peer: Peer,
        local: Local,
        payload: &[u8],
        out: &mut [u8],
        rng: &mut dyn EntropySource,
    ) -> Option<Transmit> {
        let clock = self.clock.now(now);
        let place = match self.place_for(&peer.key, local) {
            Some(place) => place,
            None => self.open_slot(now, peer, local)?,
        };
        let slot = self.slots.get_mut(place)?;
        slot.last_used = now;
        if slot.endpoint.is_none() {
            slot.endpoint = peer.endpoint;
        }
        let Some(to) = slot.endpoint else {
            bump(&mut self.counters.no_endpoint);
            return None;
        };
        let way = slot.way(now);
        // What waits already goes first, in a session that has just begun too.
        let waiting = self.queue.first(slot.id);
        let waits = waiting.is_some();
        match slot.tunnel.encapsulate(clock, waiting.unwrap_or(payload), out, rng) {
            Ok(Encapsulated::Transport(datagram)) => {
                let len = datagram.len();
                bump(&mut self.counters.sealed);
                slot.sent(true, now);
                if waits {
                    self.queue.pop(slot.id);
                    self.counters.add_lost(self.queue.push(slot.id, payload, now));
                }
                Some(Transmit { to, len, way })
            }
            Ok(Encapsulated::HandshakeInitiation(datagram)) => {
                let len = datagram.len();
                slot.attempted(now);
                self.counters.add_lost(self.queue.push(slot.id, payload, now));
                Some(Transmit { to, len, way: Way::Unsure(slot.id) })
            }
            Err(Error::NotEstablished) => {
                self.counters.add_lost(self.queue.push(slot.id, payload, now));
                None
            }
            Err(error) => {
                if error == Error::EntropyFailure {
                    // No handshake is under way that the payload could wait for: it is begun later.
                    slot.restart = true;
                    self.stalled_until = Some(now + STALL);
                    self.counters.add_lost(self.queue.push(slot.id, payload, now));
                }
                self.counters.note(error);
                None
            }
        }
    }

    /// Takes a datagram in. A payload is written to the start of `out`, which needs [`DATAGRAM_MAX`] bytes.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        from: SocketAddrV4,
        datagram: &[u8],
        out: &mut [u8],
        rng: &mut dyn EntropySource,
    ) -> Opened {
        match peek(datagram) {
            Ok(PacketKind::HandshakeInitiation { .. }) => return Opened::Initiation,
            Ok(_) => {}
            Err(_) => {
                bump(&mut self.counters.malformed);
                return Opened::Nothing;
            }
        }
        let clock = self.clock.now(now);
        let remote = remote(from);
        for slot in &mut self.slots {
            // Whose it is the tunnels tell by the receiver's index, before any arithmetic worth mentioning.
            let received = slot.tunnel.decapsulate(clock, &remote, false, datagram, out, rng);
            let in_session = !matches!(received, Ok(Received::HandshakeComplete));
            let len = match received {
                Err(Error::UnknownReceiverIndex | Error::NoPendingHandshake | Error::InvalidMac1) => continue,
                Err(error) => {
                    self.counters.note(error);
                    return Opened::Nothing;
                }
                Ok(Received::Data(payload)) => Some(payload.len()),
                Ok(Received::Keepalive) => None,
                Ok(Received::HandshakeComplete) => None,
                // A cookie proves no more than that the peer's address answers.
                Ok(Received::CookieStored | Received::Reply(_)) => return Opened::Nothing,
            };
            bump(&mut self.counters.opened);
            if slot.has_new_session(!in_session, now) {
                bump(&mut self.counters.handshakes);
            }
            let (row, key) = (slot.peer.row, slot.peer.key);
            let is_news = slot.heard(from, in_session, now);
            if len.is_some() {
                slot.received(now);
            }
            if is_news {
                self.tell(Event::Established(row));
            }
            return len.map_or(Opened::Nothing, |len| Opened::Payload { row, key, len });
        }
        bump(&mut self.counters.rejected);
        Opened::Nothing
    }

    /// The next datagram to send, written to `out`: payloads that waited, handshakes, keepalives. After every other call, until there
    /// is none. At most one handshake message's arithmetic a call.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        out: &mut [u8],
        rng: &mut dyn EntropySource,
    ) -> Option<Transmit> {
        let clock = self.clock.now(now);
        self.counters.add_lost(self.queue.drop_stale(now));
        for slot in &mut self.slots {
            let way = slot.way(now);
            let Some(to) = slot.endpoint else {
                continue;
            };
            let handshake = Way::Unsure(slot.id);
            if slot.tunnel.is_established()
                && let Some(payload) = self.queue.first(slot.id)
            {
                match slot.tunnel.encapsulate(clock, payload, out, rng) {
                    Ok(Encapsulated::Transport(datagram)) => {
                        let len = datagram.len();
                        self.queue.pop(slot.id);
                        bump(&mut self.counters.sealed);
                        slot.sent(true, now);
                        return Some(Transmit { to, len, way });
                    }
                    // The session has ended since.
                    Ok(Encapsulated::HandshakeInitiation(datagram)) => {
                        let len = datagram.len();
                        slot.attempted(now);
                        return Some(Transmit { to, len, way: handshake });
                    }
                    Err(Error::NotEstablished) => {}
                    Err(error) => {
                        self.counters.note(error);
                        if error == Error::EntropyFailure {
                            self.stalled_until = Some(now + STALL);
                        } else {
                            // It can't be sealed: those behind it do not wait for it.
                            self.queue.pop(slot.id);
                            self.counters.add_lost(1);
                        }
                    }
                }
            }
            if slot.owes_an_answer(now)
                && slot.tunnel.is_established()
                && let Ok(Encapsulated::Transport(datagram)) = slot.tunnel.encapsulate(clock, &[], out, rng)
            {
                return Some(Transmit { to, len: datagram.len(), way });
            }
            slot.look_for_death(now);
            if slot.restart {
                let mut begun = slot.tunnel.initiate_handshake(clock, out, rng).map(<[u8]>::len);
                if begun == Err(Error::HandshakeRateLimited)
                    && slot.may_start_over()
                    && self.keys.first().is_some_and(|keys| keys.start_over(slot))
                {
                    begun = slot.tunnel.initiate_handshake(clock, out, rng).map(<[u8]>::len);
                }
                match begun {
                    Ok(len) => {
                        slot.attempted(now);
                        return Some(Transmit { to, len, way: handshake });
                    }
                    // It is tried again a little later: when the library's pacing is over, or there is entropy.
                    Err(error) => self.counters.note(error),
                }
            }
            loop {
                match slot.tunnel.poll(clock, out, rng) {
                    Ok(PollOutput::Send(datagram, reason)) => {
                        let len = datagram.len();
                        let is_handshake =
                            matches!(reason, SendReason::HandshakeInitiation | SendReason::HandshakeRetransmit);
                        if is_handshake {
                            slot.attempted(now);
                            return Some(Transmit { to, len, way: handshake });
                        }
                        slot.sent(false, now);
                        return Some(Transmit { to, len, way });
                    }
                    Ok(PollOutput::HandshakeExpired) => {
                        slot.gave_up();
                        self.counters.add_lost(self.queue.clear(slot.id));
                    }
                    Ok(PollOutput::SessionsExpired) => {
                        slot.gave_up();
                        // A handshake that was under way has gone with them, and what waits for it waits for a new one.
                        slot.restart |= self.queue.first(slot.id).is_some();
                    }
                    Ok(PollOutput::Idle) => break,
                    Err(error) => {
                        self.counters.note(error);
                        self.stalled_until = Some(now + STALL);
                        break;
                    }
                }
            }
        }
        None
    }

    /// Does what is due but sending.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for place in 0..self.slots.len() {
            if let Some(slot) = self.slots.get_mut(place)
                && slot.became_unreachable(now)
            {
                let row = slot.peer.row;
                self.tell(Event::Unreachable(row));
            }
        }
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_transmit`] have something to do next.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        // Without an endpoint there is nothing to do but wait for it.
        let due = self.slots.iter().filter(|slot| slot.endpoint.is_some()).flat_map(|slot| {
            let wake = slot.tunnel.next_wake().map(|at| Instant::from_micros(at.nanos().div_ceil(1000)));
            let paced = slot.restart.then(|| now + STALL);
            let [owed, unanswered] = slot.silence_ends_at();
            [wake, slot.unreachable_at(), owed, unanswered, paced]
        });
        let due = due.flatten().min()?;
        // What failed for want of entropy is still due, and is not tried again at once.
        Some(self.stalled_until.map_or(due, |until| due.max(until)))
    }

    /// The next event.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes what the engine says about a peer. One without a tunnel gets it on its first packet.
    pub(crate) fn configure(&mut self, now: Instant, peer: Peer, restarted: bool) {
        if let Some(place) = self.find(&peer.key)
            && let Some(slot) = self.slots.get_mut(place)
        {
            slot.configure(peer);
            if restarted {
                slot.peer_restarted(now);
            }
        }
    }

    /// The engine has forgotten a peer. Its tunnel stays until another one needs the room.
    pub(crate) fn forget(&mut self, row: RowRef) {
        for slot in self.slots.iter_mut().filter(|slot| slot.peer.row == row) {
            slot.peer.row = RowRef::NONE;
            slot.peer.is_manager = false;
        }
    }

    /// Ends the tunnel to a peer at once.
    pub(crate) fn remove(&mut self, key: &NodeKey) {
        if let Some(place) = self.find(key) {
            self.close_slot(place);
        }
    }

    /// Peers with a tunnel, and those of them with a session.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.slots.len(), self.slots.iter().filter(|slot| slot.tunnel.is_established()).count())
    }

    fn find(&self, key: &NodeKey) -> Option<usize> {
        self.slots.iter().position(|slot| slot.peer.key == *key)
    }

    /// The tunnel to a peer that is made with this key of the node. One that is made with the other key is of no use any more: it
    /// ends.
    fn place_for(&mut self, key: &NodeKey, local: Local) -> Option<usize> {
        let place = self.find(key)?;
        if self.slots.get(place)?.local == local {
            return Some(place);
        }
        self.close_slot(place);
        None
    }

    /// Makes a tunnel that nothing is known of.
    fn make_tunnel(&self, key: &NodeKey, local: Local) -> Option<Tunnel> {
        self.keys.first()?.tunnel(key, local)
    }

    /// Makes a tunnel for a payload. None when there is no room or no endpoint, or the key is none.
    fn open_slot(&mut self, now: Instant, peer: Peer, local: Local) -> Option<usize> {
        if peer.endpoint.is_none() {
            // Nobody has to make room for it.
            bump(&mut self.counters.no_endpoint);
            return None;
        }
        if !self.has_room(now, peer.is_manager) {
            bump(&mut self.counters.peers_full);
            self.tell(Event::Refused(peer.row));
            return None;
        }
        let tunnel = self.make_tunnel(&peer.key, local)?;
        // Taken first: the stamp of the tunnel that makes room may need the place.
        let stamp = self.stamps.take(&peer.key);
        let place = self.put_slot(now, peer, local, tunnel)?;
        if let (Some(stamp), Some(slot)) = (stamp, self.slots.get_mut(place)) {
            slot.inherit(&stamp);
        }
        Some(place)
    }

    /// Whether there is a free place, or one that an idle tunnel can give. Managers may take that of any other peer.
    fn has_room(&self, now: Instant, for_manager: bool) -> bool {
        !self.slots.is_full() || self.spare(now, for_manager).is_some()
    }

    /// The tunnel that makes room: of those that are idle the one used longest ago.
    fn spare(&self, now: Instant, for_manager: bool) -> Option<usize> {
        let may = |slot: &&Slot| slot.is_idle(now) || (for_manager && !slot.peer.is_manager);
        let oldest = self.slots.iter().filter(may).min_by_key(|slot| slot.last_used)?;
        self.slots.iter().position(|slot| slot.id == oldest.id)
    }

    fn put_slot(&mut self, now: Instant, peer: Peer, local: Local, tunnel: Tunnel) -> Option<usize> {
        if self.slots.is_full() {
            let place = self.spare(now, peer.is_manager)?;
            bump(&mut self.counters.peers_evicted);
            self.close_slot(place);
        }
        self.next_id = self.next_id.wrapping_add(1);
        self.slots.push(Slot::new(self.next_id, peer, local, tunnel, now)).ok()?;
        self.slots.len().checked_sub(1)
    }

    fn close_slot(&mut self, place: usize) {
        let Some(slot) = self.slots.get(place) else {
            return;
        };
        if let Some(initiation) = slot.accepted() {
            self.stamps.keep(slot.peer.key, initiation);
        }
        self.counters.add_lost(self.queue.clear(slot.id));
        self.slots.swap_remove(place);
    }

    fn tell(&mut self, event: Event) {
        // A refusal that is repeated with each payload does not push out what is said once.
        if self.events.iter().any(|waiting| *waiting == event) {
            return;
        }
        if self.events.is_full() {
            self.events.pop_front();
        }
        let _ = self.events.push_back(event);
    }
}

/// An address as the cookies bind it.
fn remote(from: SocketAddrV4) -> [u8; 6] {
    let [a, b, c, d] = from.ip().octets();
    let [high, low] = from.port().to_be_bytes();
    [a, b, c, d, high, low]
}
