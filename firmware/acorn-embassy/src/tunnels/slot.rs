//! One tunnel to one peer.

use core::net::SocketAddrV4;

use acorn_core::{NodeKey, RowRef};
use embassy_time::{Duration, Instant};
use wireguard_sans_io::Tunnel;

use super::Way;
use super::stamps::Initiation;

/// A peer is reported unreachable when a handshake has gone unanswered this long: two attempts, 5 s apart.
pub(crate) const UNREACHABLE_AFTER: Duration = Duration::from_secs(8);

/// A tunnel that has carried nothing for this long may make room for another peer's. Nothing is lost with it but a handshake: the next
/// packet sets it up again.
pub(crate) const IDLE_AFTER: Duration = Duration::from_secs(10);

/// The same for a manager's: no session lives longer without being used (WireGuard's REJECT_AFTER_TIME).
pub(crate) const MANAGER_IDLE_AFTER: Duration = Duration::from_secs(180);

/// Who has got a payload and has sent nothing since says with an empty one that it is there (WireGuard's KEEPALIVE_TIMEOUT). Counted from
/// the first such payload. The library counts from the last one, so a stream of payloads one way would never be answered.
const ANSWER_AFTER: Duration = Duration::from_secs(10);

/// A peer from which nothing has come for this long since a payload was sent to it has no session any more (KEEPALIVE_TIMEOUT and
/// REKEY_TIMEOUT). Counted from the first such payload, for the same reason.
const DEAD_AFTER: Duration = Duration::from_secs(15);

/// How long a session counts as one that has just been set up: the peer began no other in this time (WireGuard's REKEY_TIMEOUT).
const FRESH: Duration = Duration::from_secs(5);

/// How long after a peer was heard the way to it counts as known: a little less than a stack remembers a neighbour (60 s in smoltcp),
/// so that nothing that is sent on it has to wait for an answer to an ARP request.
const LIVE_FOR: Duration = Duration::from_secs(55);

/// Which of the node's keys a tunnel is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// The node's own key.
    Own,
    /// The key of the join token.
    Join,
}

/// Whom a tunnel is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Its key.
    pub(crate) key: NodeKey,
    /// What names it in the engine; [`RowRef::NONE`] when the engine has forgotten it.
    pub(crate) row: RowRef,
    /// Where the manager says that it is.
    pub(crate) endpoint: Option<SocketAddrV4>,
    /// It makes room for no peer.
    pub(crate) is_manager: bool,
}

/// Our handshake that waits for an answer.
#[derive(Clone, Copy)]
struct Attempt {
    since: Instant,
    reported: bool,
}

pub(crate) struct Slot {
    pub(crate) peer: Peer,
    pub(crate) local: Local,
    /// What names the slot in the queue; unique among the slots of a start.
    pub(crate) id: u32,
    pub(crate) tunnel: Tunnel,
    /// Where to send: the last authenticated source, or what the manager says.
    pub(crate) endpoint: Option<SocketAddrV4>,
    /// When a payload was last sent or received.
    pub(crate) last_used: Instant,
    /// When something authentic was last received.
    pub(crate) last_heard: Option<Instant>,
    /// The last initiation that was taken, if any.
    accepted: heapless::Vec<Initiation, 1>,
    /// It was taken by an earlier tunnel to the peer: this one does not know its stamp.
    is_inherited: bool,
    /// A handshake has to be begun as soon as the library's pacing lets it.
    pub(crate) restart: bool,
    attempt: Option<Attempt>,
    /// When the first payload was sent that nothing in a session has come after.
    unanswered: Option<Instant>,
    /// When the first payload came that nothing has been sent after.
    owed: Option<Instant>,
    /// Sessions that the library has set up, as far as they have been noticed.
    completed: u64,
    /// When a session was last set up, or an initiation taken.
    renewed: Option<Instant>,
    /// The last session was set up by a handshake that this node began.
    is_session_ours: bool,
    /// The peer has been started again and was not heard since.
    is_peer_new: bool,
    /// The engine knows that the peer answers.
    is_announced: bool,
}

impl Slot {
    pub(crate) fn new(id: u32, peer: Peer, local: Local, tunnel: Tunnel, now: Instant) -> Self {
        Self {
            peer,
            local,
            id,
            tunnel,
            endpoint: peer.endpoint,
            last_used: now,
            last_heard: None,
            accepted: heapless::Vec::new(),
            is_inherited: false,
            restart: false,
            attempt: None,
            unanswered: None,
            owed: None,
            completed: 0,
            renewed: None,
            is_session_ours: false,
            is_peer_new: false,
            is_announced: false,
        }
    }

    /// Takes what the manager says about the peer. Only a new endpoint overrides what the peer itself has shown.
    pub(crate) fn configure(&mut self, peer: Peer) {
        if peer.endpoint.is_some() && peer.endpoint != self.peer.endpoint {
            self.endpoint = peer.endpoint;
        }
        let endpoint = peer.endpoint.or(self.peer.endpoint);
        self.peer = Peer { endpoint, ..peer };
    }

    /// Notes that one of our handshakes is under way: none has to be begun.
    pub(crate) fn attempted(&mut self, now: Instant) {
        (self.restart, self.is_peer_new) = (false, false);
        self.attempt.get_or_insert(Attempt { since: now, reported: false });
    }

    /// Notes that something was sent in a session.
    pub(crate) fn sent(&mut self, is_payload: bool, now: Instant) {
        self.owed = None;
        if is_payload {
            self.unanswered.get_or_insert(now);
        }
    }

    /// Notes that a payload was received.
    pub(crate) fn received(&mut self, now: Instant) {
        self.last_used = now;
        self.owed.get_or_insert(now);
    }

    /// When [`Self::owes_an_answer`] or [`Self::look_for_death`] has something to say.
    pub(crate) fn silence_ends_at(&self) -> [Option<Instant>; 2] {
        [self.owed.map(|since| since + ANSWER_AFTER), self.unanswered.map(|since| since + DEAD_AFTER)]
    }

    /// Whether it is time to say that this node is there. Once per payload.
    pub(crate) fn owes_an_answer(&mut self, now: Instant) -> bool {
        let is_due = self.owed.is_some_and(|since| now.saturating_duration_since(since) >= ANSWER_AFTER);
        if is_due {
            self.owed = None;
        }
        is_due
    }

    /// Ends the sessions and has a handshake begun when the peer has lost them. What is sent meanwhile waits for it. They have to end: the
    /// library would find the same payload unanswered after the handshake too, and begin another one every five seconds for ever.
    pub(crate) fn look_for_death(&mut self, now: Instant) {
        if self.unanswered.is_some_and(|since| now.saturating_duration_since(since) >= DEAD_AFTER) {
            self.unanswered = None;
            self.tunnel.reset();
            self.restart = true;
        }
    }

    /// Notes that something authentic came from an address, in a session or not. Returns whether the engine has to be told that the peer
    /// answers.
    pub(crate) fn heard(&mut self, from: SocketAddrV4, in_session: bool, now: Instant) -> bool {
        self.endpoint = Some(from);
        self.last_heard = Some(now);
        self.attempt = None;
        if in_session {
            // As the library has it: a response to a handshake is no answer to a payload.
            self.unanswered = None;
        }
        // Whoever is heard has a session: there is no need for another one.
        (self.restart, self.is_peer_new) = (false, false);
        let is_news = !self.is_announced && self.tunnel.is_established();
        self.is_announced |= is_news;
        is_news
    }

    /// Whether a session has been set up since this was last asked. `by_us`: with what was just received we have completed a handshake of ours.
    pub(crate) fn has_new_session(&mut self, by_us: bool, now: Instant) -> bool {
        let completed = self.tunnel.stats().handshakes_completed;
        let is_new = completed != self.completed;
        if is_new {
            self.completed = completed;
            self.renewed = Some(now);
            self.is_session_ours = by_us;
        }
        is_new
    }

    /// The peer has been started again: its sessions are gone, and so are ours. But the news may come later than the peer's own
    /// handshake, so a session that has just been set up stays until the new one is there.
    pub(crate) fn peer_restarted(&mut self, now: Instant) {
        let is_fresh = self.renewed.is_some_and(|at| now.saturating_duration_since(at) < FRESH);
        if !is_fresh {
            self.tunnel.reset();
            (self.unanswered, self.owed) = (None, None);
        }
        self.is_announced = false;
        self.restart = true;
        self.is_peer_new = true;
    }

    /// Whether the library's pacing of handshakes may be got around with a tunnel that knows of none: the peer has been started again, and
    /// what it is paced for is a handshake of ours with the peer as it was. A session of the peer's making may be one of its new start.
    pub(crate) fn may_start_over(&self) -> bool {
        self.is_peer_new && (self.is_session_ours || !self.tunnel.is_established())
    }

    /// Puts a tunnel in place that knows of nothing, but for the last initiation that was taken.
    pub(crate) fn start_over(&mut self, tunnel: Tunnel) {
        self.tunnel = tunnel;
        self.is_inherited = !self.accepted.is_empty();
        (self.unanswered, self.owed, self.renewed, self.completed) = (None, None, None, 0);
        self.is_peer_new = false;
    }

    /// The handshake was given up, or all sessions have expired.
    pub(crate) fn gave_up(&mut self) {
        self.attempt = None;
        (self.unanswered, self.owed) = (None, None);
        self.is_announced = false;
    }

    pub(crate) fn unreachable_at(&self) -> Option<Instant> {
        let attempt = self.attempt.filter(|attempt| !attempt.reported)?;
        Some(attempt.since + UNREACHABLE_AFTER)
    }

    /// Whether it is time to report the peer as unreachable. True once per unanswered handshake.
    pub(crate) fn became_unreachable(&mut self, now: Instant) -> bool {
        let due = self.unreachable_at().is_some_and(|at| now >= at);
        if due {
            self.is_announced = false;
            if let Some(attempt) = &mut self.attempt {
                attempt.reported = true;
            }
        }
        due
    }

    /// What is known of the way to the peer.
    pub(crate) fn way(&self, now: Instant) -> Way {
        match self.last_heard {
            Some(at) if now.saturating_duration_since(at) < LIVE_FOR => Way::Live,
            _ => Way::Unsure(self.id),
        }
    }

    /// Whether the tunnel may make room. That to a manager only when there is nothing left in it to lose: a manager that is spoken to is
    /// never silent for so long, and the tunnels to those that others stand in for do not use up the room.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let after = if self.peer.is_manager { MANAGER_IDLE_AFTER } else { IDLE_AFTER };
        now.saturating_duration_since(self.last_used) >= after
    }

    /// Keeps an initiation that the tunnel has taken.
    pub(crate) fn accept(&mut self, initiation: &Initiation, now: Instant) {
        self.accepted.clear();
        let _ = self.accepted.push(*initiation);
        self.is_inherited = false;
        self.renewed = Some(now);
        self.last_used = now;
    }

    /// Keeps the last initiation that an earlier tunnel to the peer has taken.
    pub(crate) fn inherit(&mut self, initiation: &Initiation) {
        self.accepted.clear();
        let _ = self.accepted.push(*initiation);
        self.is_inherited = true;
    }

    /// The last initiation that was taken.
    pub(crate) fn accepted(&self) -> Option<&Initiation> {
        self.accepted.first()
    }

    /// The same, when the tunnel itself has not seen it.
    pub(crate) fn inherited(&self) -> Option<Initiation> {
        self.accepted.first().filter(|_| self.is_inherited).copied()
    }
}
