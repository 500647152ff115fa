//! What two peers share: sessions, the handshake that is under way, and WireGuard's timers.
//!
//! The times are those of the WireGuard paper, section 6, in the reading of the library that the daemon uses.

use std::collections::BTreeSet;

use acorn_core::time::{Duration, Instant};

use crate::random::Random;

const REKEY_AFTER: Duration = Duration::from_secs(120);
const REJECT_AFTER: Duration = Duration::from_secs(180);
const ATTEMPT: Duration = Duration::from_secs(90);
const REPEAT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(10);
const JITTER_MS: u64 = 333;
/// Sessions that are kept, so that what is under way of an older one still counts.
const SESSIONS: usize = 8;
/// How far behind the latest a counter may be.
const WINDOW: u64 = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Initiator,
    Responder,
}

pub(super) struct Session {
    /// What stands for its keys: who does not know it can't have sent its messages.
    secret: u64,
    /// The number by which the peer calls it towards us, and we towards the peer.
    pub(super) local: u32,
    remote: u32,
    since: Instant,
    role: Role,
    sent_data: bool,
    received_data: bool,
    next_counter: u64,
    seen: BTreeSet<u64>,
    floor: u64,
}

/// What the timers ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Initiate,
    Keepalive,
    /// The connection is over, and has forgotten everything.
    Expire,
}

/// What one sealed message carries outside of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) index: u32,
    pub(super) secret: u64,
    pub(super) counter: u64,
}

struct Attempt {
    index: u32,
    sent: Instant,
}

pub(super) struct Connection {
    sessions: Vec<Session>,
    current: Option<u32>,
    under_way: Option<Attempt>,
    /// When the round of attempts began that is under way.
    begun: Instant,
    completed: Instant,
    unanswered_since: Option<Instant>,
    unreplied_since: Option<Instant>,
    scheduled: Option<Instant>,
    established: bool,
}

impl Connection {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            sessions: Vec::new(),
            current: None,
            under_way: None,
            begun: now,
            completed: now,
            unanswered_since: None,
            unreplied_since: None,
            scheduled: None,
            established: false,
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Notes that an initiation with this index goes out, in place of one that is under way.
    pub(super) fn initiate(&mut self, now: Instant, index: u32) {
        if self.under_way.is_none() {
            self.begun = now;
        }
        self.under_way = Some(Attempt { index, sent: now });
        self.unreplied_since = None;
    }

    /// Takes a session in that the peer has asked for.
    pub(super) fn answer(&mut self, now: Instant, local: u32, remote: u32, secret: u64) {
        self.insert(Session::new(now, Role::Responder, local, remote, secret));
        self.completed = now;
        self.unanswered_since = None;
        self.unreplied_since = None;
    }

    /// Takes the session in that the peer has granted. False when that was not asked for.
    pub(super) fn complete(&mut self, now: Instant, local: u32, remote: u32, secret: u64) -> bool {
        if self.under_way.as_ref().is_none_or(|attempt| attempt.index != local) {
            return false;
        }
        self.under_way = None;
        self.insert(Session::new(now, Role::Initiator, local, remote, secret));
        self.completed = now;
        self.unanswered_since = None;
        self.use_session(local);
        true
    }

    /// The first session of the connection is confirmed. True only once.
    pub(super) fn confirm(&mut self) -> bool {
        !std::mem::replace(&mut self.established, true)
    }

    /// Seals a message; none when there is no session to do it with.
    pub(super) fn seal(&mut self, now: Instant, is_keepalive: bool) -> Option<Seal> {
        let current = self.current?;
        let session = self.sessions.iter_mut().find(|session| session.local == current)?;
        let too_old = session.role == Role::Initiator && now.saturating_add(KEEPALIVE) > session.ends();
        if now >= session.ends() || too_old {
            return None;
        }
        let seal = Seal { index: session.remote, secret: session.secret, counter: session.next_counter };
        session.next_counter += 1;
        self.unreplied_since = None;
        if !is_keepalive {
            session.sent_data = true;
            self.unanswered_since.get_or_insert(now);
        }
        Some(seal)
    }

    /// Opens a message. False when its session is not there, or it came before.
    pub(super) fn open(&mut self, now: Instant, seal: Seal, is_keepalive: bool) -> bool {
        let found =
            self.sessions.iter_mut().find(|s| s.local == seal.index && s.secret == seal.secret && now < s.ends());
        let Some(session) = found else { return false };
        if !session.accept(seal.counter) {
            return false;
        }
        session.received_data |= !is_keepalive;
        self.use_session(seal.index);
        self.unanswered_since = None;
        if !is_keepalive {
            self.unreplied_since = Some(now);
        }
        true
    }

    /// Since when the session in use exists.
    pub(super) fn session_since(&self) -> Option<Instant> {
        Some(self.current_session()?.since)
    }

    /// Does what is due. Call it until it wants nothing.
    pub(super) fn handle_timeout(&mut self, now: Instant, random: &mut Random) -> Option<Wish> {
        if let Some(at) = self.scheduled {
            if now < at {
                return None;
            }
            self.scheduled = None;
            return Some(Wish::Initiate);
        }
        let mut initiate = false;
        if let Some(ended) = self.drop_ended(now) {
            if ended.sent_data && self.sessions.is_empty() {
                return Some(Wish::Expire);
            }
            initiate |= ended.role == Role::Initiator && self.under_way.is_none();
        }
        if now >= self.completed.saturating_add(REJECT_AFTER * 3) {
            return Some(Wish::Expire);
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        match &self.under_way {
            Some(_) if now >= self.begun.saturating_add(ATTEMPT) => return Some(Wish::Expire),
            Some(attempt) => initiate |= now >= attempt.sent.saturating_add(REPEAT),
            None => {
                initiate |= due(self.renewal());
                initiate |= due(self.silence());
            }
        }
        if initiate {
            self.scheduled = Some(now.saturating_add(Duration::from_millis(random.below(JITTER_MS + 1))));
            return None;
        }
        if self.under_way.is_none() && due(self.keepalive()) {
            self.unreplied_since = None;
            return Some(Wish::Keepalive);
        }
        None
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.scheduled.is_some() {
            return self.scheduled;
        }
        let expiry = self.completed.saturating_add(REJECT_AFTER * 3);
        let always = self.sessions.iter().map(Session::ends).chain([expiry]);
        let rest = match &self.under_way {
            Some(attempt) => {
                [Some(attempt.sent.saturating_add(REPEAT)), Some(self.begun.saturating_add(ATTEMPT)), None]
            }
            None => [self.renewal(), self.silence(), self.keepalive()],
        };
        always.chain(rest.into_iter().flatten()).min()
    }

    /// When the session is to be renewed: only who began it does so.
    fn renewal(&self) -> Option<Instant> {
        let session = self.current_session().filter(|session| session.role == Role::Initiator)?;
        let sending = session.sent_data.then(|| session.since.saturating_add(REKEY_AFTER));
        let receiving = session.received_data.then(|| session.ends().saturating_sub(KEEPALIVE + REPEAT));
        [sending, receiving].into_iter().flatten().min()
    }

    /// When the peer has been silent for too long after something was sent.
    fn silence(&self) -> Option<Instant> {
        Some(self.unanswered_since?.saturating_add(KEEPALIVE + REPEAT))
    }

    fn keepalive(&self) -> Option<Instant> {
        Some(self.unreplied_since?.saturating_add(KEEPALIVE))
    }

    fn current_session(&self) -> Option<&Session> {
        let current = self.current?;
        self.sessions.iter().find(|session| session.local == current)
    }

    fn insert(&mut self, session: Session) {
        if self.sessions.len() >= SESSIONS
            && let Some(place) = self.sessions.iter().position(|session| Some(session.local) != self.current)
        {
            self.sessions.remove(place);
        }
        self.sessions.push(session);
    }

    /// Sends with this session from now on, unless a younger one is in use.
    fn use_session(&mut self, local: u32) {
        let since = |local| self.sessions.iter().find(|s| s.local == local).map(|s| s.since);
        let younger = self.current.and_then(since).is_some_and(|current| Some(current) > since(local));
        if !younger {
            self.current = Some(local);
        }
    }

    /// Forgets sessions whose time is over. Returns the one that was in use.
    fn drop_ended(&mut self, now: Instant) -> Option<Session> {
        let mut ended = None;
        while let Some(place) = self.sessions.iter().position(|session| now >= session.ends()) {
            let session = self.sessions.remove(place);
            if self.current == Some(session.local) {
                self.current = None;
                ended = Some(session);
            }
        }
        ended
    }
}

impl Session {
    fn new(now: Instant, role: Role, local: u32, remote: u32, secret: u64) -> Self {
        Self {
            secret,
            local,
            remote,
            since: now,
            role,
            sent_data: false,
            received_data: false,
            next_counter: 0,
            seen: BTreeSet::new(),
            floor: 0,
        }
    }

    fn ends(&self) -> Instant {
        self.since.saturating_add(REJECT_AFTER)
    }

    /// Whether a counter is new and not too old, which it isn't from now on.
    fn accept(&mut self, counter: u64) -> bool {
        if counter < self.floor || !self.seen.insert(counter) {
            return false;
        }
        self.floor = self.floor.max(counter.saturating_sub(WINDOW));
        while self.seen.first().is_some_and(|first| *first < self.floor) {
            self.seen.pop_first();
        }
        true
    }
}
