//! Who is there: sessions, leases, boot epochs, and the nodes that are told of a restart.

use core::time::Duration;

use super::counters::bump;
use super::timers::Timers;
use super::{Answer, Server, denied_with};
use crate::ids::{NodeId, NodeKey};
use crate::index::{HashIndex, HashKey};
use crate::slots::{RowRef, Slots};
use crate::sync::Backoff;
use crate::sync::directory::{Admission, Denied, Directory, Sender};
use crate::sync::message::{Capacities, Digest, Hello, Message, Refusal, Welcome};
use crate::time::Instant;

/// How long a node has after the first `Hello` of a boot epoch to say which of its instances still run; the rest is withdrawn.
pub const SETTLE: Duration = Duration::from_secs(10);
/// How long a silent client's subscriptions are kept unless [`Server::set_retention`] says otherwise: one day.
pub const RETENTION: Duration = Duration::from_hours(24);
/// How long an announced node has to say `Hello` before it counts as silent: the longest usual lease, a sleeping board's.
pub const ANNOUNCE_LEASE: Duration = Duration::from_secs(60);
/// The shortest lease that is kept, whatever the directory grants.
const LEASE_MIN_MS: u32 = 100;
/// Digests that differ for less than this may differ only because a message is under way.
const MISMATCH_MIN: Duration = Duration::from_secs(1);
/// The announcement of a restart is repeated until the node says `Hello` or its time is over.
const ANNOUNCE: Backoff = Backoff { first: Duration::from_millis(200), most: ANNOUNCE_LEASE };

/// Whether a client is heard from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was told of a restart and has not said `Hello` yet: there is no session.
    #[default]
    Announced,
    /// Its lease lives.
    Alive,
    /// Its lease has ended.
    Silent,
}

/// A client: a node, or a cluster's server in its place.
#[derive(Clone, Copy, Default)]
pub(super) struct Session {
    pub(super) key: NodeKey,
    pub(super) node: NodeId,
    pub(super) standing: Standing,
    pub(super) capacities: Capacities,
    pub(super) epoch: u32,
    /// It is a cluster.
    pub(super) cluster: bool,
    lease_ms: u32,
    heard: Instant,
    /// When the instances that were not attached again in this epoch are withdrawn; counts only while `settling`.
    settle_at: Instant,
    settling: bool,
    /// Since when the digests of all `Hello`s differ; counts only while `differs`.
    differs_since: Instant,
    differs: bool,
    /// How often a restart was announced.
    tries: u8,
}

impl Session {
    const EMPTY: Self = Self {
        key: NodeKey([0; 32]),
        node: NodeId(0),
        standing: Standing::Announced,
        capacities: Capacities { services: 0, instances: 0, nodes: 0 },
        epoch: 0,
        cluster: false,
        lease_ms: 0,
        heard: Instant::ZERO,
        settle_at: Instant::ZERO,
        settling: false,
        differs_since: Instant::ZERO,
        differs: false,
        tries: 0,
    };

    fn lease_end(&self) -> Instant {
        self.heard.saturating_add(Duration::from_millis(u64::from(self.lease_ms)))
    }
}

/// Up to `C` sessions, found by key.
pub(super) struct Sessions<const C: usize> {
    hash_key: HashKey,
    rows: [Session; C],
    slots: Slots<C>,
    by_key: HashIndex<C, 1>,
    /// When each session's lease, retention or settling is to be looked at.
    pub(super) leases: Timers<C>,
    /// When each announcement is to be sent.
    pub(super) announcements: Timers<C>,
}

impl<const C: usize> Sessions<C> {
    pub(super) const fn new() -> Self {
        Self {
            hash_key: HashKey(0, 0),
            rows: [Session::EMPTY; C],
            slots: Slots::new(),
            by_key: HashIndex::new(),
            leases: Timers::new(),
            announcements: Timers::new(),
        }
    }

    pub(super) fn set_hash_key(&mut self, key: HashKey) {
        self.hash_key = key;
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The row of a key, be it of a session or of an announcement.
    pub(super) fn find(&self, key: &NodeKey) -> Option<usize> {
        let hash = self.hash_key.hash(&key.0);
        self.by_key.find(hash, |row, _| self.rows.get(row).is_some_and(|s| s.key == *key)).map(|(row, _)| row)
    }

    /// The row of a key that has a session.
    pub(super) fn find_session(&self, key: &NodeKey) -> Option<usize> {
        self.find(key).filter(|row| self.get(*row).is_some_and(|s| s.standing != Standing::Announced))
    }

    pub(super) fn get(&self, row: usize) -> Option<&Session> {
        if self.slots.is_used(row) { self.rows.get(row) } else { None }
    }

    pub(super) fn reference(&self, row: usize) -> RowRef {
        self.slots.reference(row).unwrap_or(RowRef::NONE)
    }

    pub(super) fn is_current(&self, session: RowRef) -> bool {
        self.slots.is_current(session)
    }

    fn get_mut(&mut self, row: usize) -> Option<&mut Session> {
        if self.slots.is_used(row) { self.rows.get_mut(row) } else { None }
    }

    fn add(&mut self, key: NodeKey) -> Option<usize> {
        let row = self.slots.take()?.row();
        if let Some(session) = self.rows.get_mut(row) {
            *session = Session { key, ..Session::EMPTY };
        }
        self.by_key.insert(self.hash_key.hash(&key.0), row, 0);
        Some(row)
    }

    fn remove(&mut self, row: usize) {
        let Some(key) = self.get(row).map(|s| s.key) else {
            return;
        };
        self.by_key.remove(self.hash_key.hash(&key.0), row, 0);
        self.leases.clear(row);
        self.announcements.clear(row);
        self.slots.give_back(row);
    }
}

impl<const C: usize, const S: usize> Server<C, S> {
    /// Tells a node that the manager has started again, so that it says `Hello` at once instead of at its next renewal.
    /// Repeated until it does; a node that stays silent for [`ANNOUNCE_LEASE`] is reported to the directory as not alive.
    /// Nothing happens when the node has said `Hello` already; when all client slots are in use, that is counted.
    pub fn announce(&mut self, key: NodeKey) {
        if self.sessions.find(&key).is_some() {
            return;
        }
        let Some(row) = self.sessions.add(key) else {
            bump(&mut self.counters.clients_full);
            return;
        };
        if let Some(session) = self.sessions.get_mut(row) {
            session.heard = self.started;
        }
        self.sessions.leases.set(row, self.started.saturating_add(ANNOUNCE_LEASE));
        self.sessions.announcements.set(row, self.started);
    }

    /// The next announcement that is due.
    pub(super) fn next_announcement(&mut self, now: Instant) -> Option<(NodeKey, Message)> {
        let row = self.sessions.announcements.pop_due(now)?;
        let session = self.sessions.get_mut(row)?;
        let key = session.key;
        let again = now.saturating_add(ANNOUNCE.after(session.tries));
        session.tries = session.tries.saturating_add(1);
        self.sessions.announcements.set(row, again);
        Some((key, Message::Restarted { epoch: self.epoch }))
    }

    pub(super) fn hello(
        &mut self,
        now: Instant,
        from: Sender,
        hello: &Hello,
        directory: &mut impl Directory,
    ) -> Answer {
        let refuse = |refusal| Some(Message::Refused { request: hello.request, refusal });
        let known = directory.node_of(&from.key);
        if hello.joining.is_some() {
            if known.is_some() {
                // A node's own key is no join key, whatever is said through it.
                bump(&mut self.counters.hello_refused);
                return refuse(Refusal::JoinKey);
            }
            return match directory.hello(now, from, hello) {
                Ok(admission) => {
                    bump(&mut self.counters.joining);
                    // No session: the node comes back under its own key.
                    Some(self.welcome(from, hello, admission, false))
                }
                Err(denied) => denied_with(&mut self.counters.hello_refused, hello.request, denied),
            };
        }
        if self.sessions.find(&from.key).is_none() && self.sessions.len() >= C {
            bump(&mut self.counters.clients_full);
            return refuse(Refusal::Full);
        }
        let recorded_epoch = known.and_then(|node| directory.node(node)).map(|record| record.epoch);
        let admission = match directory.hello(now, from, hello) {
            Ok(admission) => admission,
            Err(Denied::Pending) => {
                if let Some(row) = self.sessions.find_session(&from.key) {
                    self.heard(now, row, directory);
                }
                return None;
            }
            Err(Denied::Refused(refusal)) => {
                bump(&mut self.counters.hello_refused);
                match self.sessions.find_session(&from.key) {
                    Some(row) if directory.node_of(&from.key).is_none() => self.drop_session(now, row, directory),
                    Some(row) => self.heard(now, row, directory),
                    None => {}
                }
                return refuse(refusal);
            }
        };
        let reopen = self.admit(now, from, hello, &admission, recorded_epoch, directory)?;
        Some(self.welcome(from, hello, admission, reopen))
    }

    /// Opens or renews the session of a node that the directory has let in. Returns whether it is to open its streams again.
    fn admit(
        &mut self,
        now: Instant,
        from: Sender,
        hello: &Hello,
        admission: &Admission,
        recorded_epoch: Option<u32>,
        directory: &mut impl Directory,
    ) -> Option<bool> {
        let row = self.sessions.find(&from.key).or_else(|| self.sessions.add(from.key))?;
        let before = *self.sessions.get(row)?;
        let is_new = before.standing == Standing::Announced;
        // Without a session of before, the directory tells whether this is a new start of the node. If it is not, but the
        // two disagree on what runs there, the node says it again, and what it does not say is to go as after a start.
        let settle = if is_new {
            recorded_epoch != Some(hello.epoch) || admission.reattach
        } else {
            before.epoch != hello.epoch
        };
        if !is_new && before.epoch != hello.epoch {
            self.drop_streams_of(now, row, directory);
        }
        let session = self.sessions.get_mut(row)?;
        session.node = admission.node;
        session.epoch = hello.epoch;
        session.cluster = directory.is_cluster(admission.node);
        session.lease_ms = admission.lease_ms.max(LEASE_MIN_MS);
        session.capacities = hello.capacities;
        if settle {
            session.settling = true;
            session.settle_at = now.saturating_add(SETTLE);
        }
        self.sessions.announcements.clear(row);
        self.heard(now, row, directory);
        if is_new {
            // It can't have opened any of them in this session.
            return Some(hello.streams.count > 0);
        }
        let reopen = self.differs(now, row, hello.streams);
        if reopen {
            bump(&mut self.counters.reopened);
            self.probe_streams_of(now, row);
        }
        Some(reopen)
    }

    /// Whether the client's view of its open streams has differed from this one for longer than a message is under way.
    fn differs(&mut self, now: Instant, row: usize, theirs: Digest) -> bool {
        let mut ours = Digest::default();
        // One whose end the client has taken in is there only until its nodes have, too.
        for stream in self.streams.of_client(row).filter(|stream| !stream.is_over()) {
            ours.add_stream(stream.subject, stream.number);
        }
        let Some(session) = self.sessions.get_mut(row) else {
            return false;
        };
        if ours == theirs {
            session.differs = false;
            return false;
        }
        let persists = session.differs && now >= session.differs_since.saturating_add(MISMATCH_MIN);
        if persists || !session.differs {
            session.differs = true;
            session.differs_since = now;
        }
        persists
    }

    pub(super) fn welcome(&self, from: Sender, hello: &Hello, admission: Admission, reopen: bool) -> Message {
        Message::Welcome(Welcome {
            request: hello.request,
            epoch: self.epoch,
            node: admission.node,
            subnet: admission.subnet,
            lease_ms: admission.lease_ms.max(LEASE_MIN_MS),
            observed: from.observed,
            reopen,
            reattach: admission.reattach,
            managers: admission.managers,
        })
    }

    /// Any message shows that the client is there.
    pub(super) fn heard(&mut self, now: Instant, row: usize, directory: &mut impl Directory) {
        let Some(session) = self.sessions.get_mut(row) else {
            return;
        };
        session.heard = now;
        if session.standing == Standing::Alive {
            // The lease timer finds out by itself, but it may be set for later than a settling that has just begun.
            self.set_lease_timer(row);
            return;
        }
        session.standing = Standing::Alive;
        if session.settling {
            session.settle_at = now.saturating_add(SETTLE);
        }
        let node = session.node;
        self.set_lease_timer(row);
        directory.set_alive(now, node, true);
        self.wake_streams_of(now, row);
    }

    fn set_lease_timer(&mut self, row: usize) {
        let Some(session) = self.sessions.get(row) else {
            return;
        };
        let at = match session.standing {
            Standing::Announced => session.heard.saturating_add(ANNOUNCE_LEASE),
            Standing::Alive if session.settling => session.lease_end().min(session.settle_at),
            Standing::Alive => session.lease_end(),
            Standing::Silent => session.heard.saturating_add(self.retention),
        };
        self.sessions.leases.set(row, at);
    }

    /// Ends leases, retentions and settlings whose time has come.
    pub(super) fn handle_leases(&mut self, now: Instant, directory: &mut impl Directory) {
        while let Some(row) = self.sessions.leases.pop_due(now) {
            let Some(session) = self.sessions.get_mut(row) else {
                continue;
            };
            let (node, key, epoch) = (session.node, session.key, session.epoch);
            match session.standing {
                Standing::Announced => {
                    self.sessions.remove(row);
                    if let Some(node) = directory.node_of(&key) {
                        bump(&mut self.counters.leases_ended);
                        directory.set_alive(now, node, false);
                    }
                    continue;
                }
                Standing::Alive if now >= session.lease_end() => {
                    session.standing = Standing::Silent;
                    bump(&mut self.counters.leases_ended);
                    directory.set_alive(now, node, false);
                }
                Standing::Alive => {
                    if session.settling && now >= session.settle_at {
                        session.settling = false;
                        directory.settle(now, node, epoch);
                    }
                }
                Standing::Silent => {
                    if now >= session.heard.saturating_add(self.retention) {
                        bump(&mut self.counters.retentions_ended);
                        self.drop_session(now, row, directory);
                        continue;
                    }
                }
            }
            self.set_lease_timer(row);
        }
    }

    fn drop_session(&mut self, now: Instant, row: usize, directory: &mut impl Directory) {
        self.drop_streams_of(now, row, directory);
        self.sessions.remove(row);
    }
}
