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
    /// It never makes room.
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

    /// Notes that one of our handshakes is under way.
    pub(crate) fn attempted(&mut self, now: Instant) {
        self.attempt.get_or_insert(Attempt { since: now, reported: false });
    }

    /// Notes that something authentic came from an address. Returns whether the engine has to be told that the peer answers.
    pub(crate) fn heard(&mut self, from: SocketAddrV4, now: Instant) -> bool {
        self.endpoint = Some(from);
        self.last_heard = Some(now);
        self.attempt = None;
        let is_news = !self.is_announced && self.tunnel.is_established();
        self.is_announced |= is_news;
        is_news
    }

    /// The peer has been started again: its sessions are gone, and so are ours.
    pub(crate) fn forget_sessions(&mut self) {
        self.tunnel.reset();
        self.is_announced = false;
        self.restart = true;
    }

    /// The handshake was given up, or all sessions have expired.
    pub(crate) fn gave_up(&mut self) {
        self.attempt = None;
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
            Some(at) if now.saturating_duration_since(at) < IDLE_AFTER => Way::Live,
            _ => Way::Unsure(self.id),
        }
    }

    /// Whether the tunnel may make room.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        !self.peer.is_manager && now.saturating_duration_since(self.last_used) >= IDLE_AFTER
    }

    /// Keeps an initiation that the tunnel has taken.
    pub(crate) fn accept(&mut self, initiation: &Initiation) {
        self.accepted.clear();
        let _ = self.accepted.push(*initiation);
        self.is_inherited = false;
    }

    /// Keeps the last initiation that an earlier tunnel to the peer has taken.
    pub(crate) fn inherit(&mut self, initiation: &Initiation) {
        self.accept(initiation);
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
