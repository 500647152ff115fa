//! The client half of the table protocol: keeps a node's lease, its interests and its instances right at the manager.
//!
//! Everything here is repeated until it is answered and survives a manager that forgets everything: when the manager's boot
//! epoch changes, interests are opened and instances attached again. The table itself lives in the router; pages are applied
//! to it as they come.

mod interests;
mod pages;
mod queries;
mod replica;
mod reports;
mod requests;
mod session;

use core::net::IpAddr;
use core::time::Duration;

use heapless::Deque;

pub use queries::{Answer, Wanted};
pub use replica::Replica;
pub use requests::{Outcome, RequestId};
pub use session::Membership;

use crate::ids::{Endpoint, InstanceId, NODE_NAME_MAX, NodeKey};
use crate::index::HashKey;
use crate::late::Late;
use crate::measure::Place;
use crate::sync::message::{Capacities, Digest, ManagerRecord, Message, Refusal, Subject};
use crate::time::Instant;
use interests::{Due, Interests};
use queries::Queries;
use reports::Reports;
use requests::Requests;
use session::Session;

/// How long an interest outlives its last flow. It does not end while the manager does not answer: nobody could bring it back.
pub const INTEREST_IDLE: Duration = Duration::from_secs(10);
/// How long a look-up may take before the application is told that it failed.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_millis(800);
/// How long a negative answer is believed.
pub const NEGATIVE_LIFETIME: Duration = Duration::from_secs(1);
/// How far apart questions for unknown keys are.
pub const NODE_QUESTIONS: Duration = Duration::from_millis(20);
/// How often idle interests are looked for, at most.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its key.
    pub key: NodeKey,
    /// Its name, for people.
    pub name: heapless::String<NODE_NAME_MAX>,
    /// It speaks through a join key until its manager knows its own.
    pub joining: bool,
    /// Its boot epoch: different with every start, never 0.
    pub epoch: u32,
    /// The endpoint that it wants others to use; unknown means the one that its manager sees.
    pub endpoint: Endpoint,
    /// The IPv4 worker subnet that it asks for.
    pub subnet: Option<core::net::Ipv4Addr>,
    /// The lease that it asks for in milliseconds; 0 leaves it to the manager.
    pub lease_ms: u32,
    /// What it can hold.
    pub capacities: Capacities,
}

/// What happened in the protocol. Counters only grow, and wrap at 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounters {
    /// Pages applied.
    pub pages: u32,
    /// Pages that came again, too early, or for a stream that is not open.
    pub stale_pages: u32,
    /// Rows and attachments that had no room.
    pub table_full: u32,
    /// Interests that could not be held because there were too many.
    pub interests_full: u32,
    /// Look-ups that ended without an answer.
    pub resolve_timeouts: u32,
    /// Answers to nothing that was asked.
    pub unexpected: u32,
}

/// The client of at most `M` interests, `Q` look-ups at once and `R` requests at once.
pub struct Client<const M: usize, const Q: usize, const R: usize> {
    profile: Late<Profile>,
    session: Session,
    interests: Interests<M>,
    queries: Queries<Q>,
    requests: Requests<R>,
    reports: Reports,
    /// Acknowledgements that wait to be sent; the oldest goes when there are more, and the manager repeats its page.
    acks: Deque<(Subject, u32, u32), Q>,
    /// Streams that the manager shall close, alike.
    forgets: Deque<(Subject, u32), Q>,
    /// The number of the last stream or request.
    last_number: u32,
    /// When idle interests may be looked for again.
    next_housekeeping: Instant,
    /// When the first interest may have been idle for long enough.
    next_idle: Instant,
    next_node_question: Instant,
    /// The version of the protocol that a manager spoke last, when it is another; 0 when it is this one.
    foreign_version: u8,
    /// What happened.
    pub counters: ClientCounters,
}

impl<const M: usize, const Q: usize, const R: usize> Client<M, Q, R> {
    /// A client that does nothing until it is started.
    pub const fn new() -> Self {
        Self {
            profile: Late::new(),
            session: Session::new(),
            interests: Interests::new(),
            queries: Queries::new(),
            requests: Requests::new(),
            reports: Reports::new(),
            acks: Deque::new(),
            forgets: Deque::new(),
            last_number: 0,
            next_housekeeping: Instant::ZERO,
            next_idle: Instant::ZERO,
            next_node_question: Instant::ZERO,
            foreign_version: 0,
            counters: ClientCounters {
                pages: 0,
                stale_pages: 0,
                table_full: 0,
                interests_full: 0,
                resolve_timeouts: 0,
                unexpected: 0,
            },
        }
    }

    /// Begins to say `Hello` to the first of the managers.
    pub fn start(&mut self, now: Instant, profile: Profile, managers: &[ManagerRecord], key: HashKey) {
        // Stream and request numbers of one start must not meet those of the one before.
        self.last_number = profile.epoch.wrapping_mul(0x9e37_79b9) >> 1;
        self.interests.set_hash_key(key);
        self.session.start(now, managers);
        self.profile.set(profile);
    }

    /// Whether messages from this key are those of a manager.
    pub fn is_manager(&self, key: &NodeKey) -> bool {
        self.session.is_manager(key)
    }

    /// Whether the node still speaks through its join key. The shell watches this turn false and goes over to the own key.
    pub fn is_joining(&self) -> bool {
        self.profile.get().is_some_and(|profile| profile.joining)
    }

    /// Speaks through the join key from now on, or under the own key: what was tried before got no answer. Not for a member.
    pub fn set_joining(&mut self, now: Instant, joining: bool) {
        if let Some(profile) = self.profile.get_mut() {
            profile.joining = joining;
            self.session.hello_now(now);
        }
    }

    /// A manager speaks this version of the protocol, which is not this node's; none when all that came could be read.
    pub fn foreign_version(&self) -> Option<u8> {
        (self.foreign_version != 0).then_some(self.foreign_version)
    }

    /// Notes the version of a manager's message that could not be read for it.
    pub(crate) fn note_version(&mut self, version: u8) {
        self.foreign_version = version;
    }

    /// Why the manager refuses this node, if it does.
    pub fn refusal(&self) -> Option<Refusal> {
        self.session.refusal()
    }

    /// The managers that this node believes.
    pub fn managers(&self) -> &[ManagerRecord] {
        self.session.managers()
    }

    /// What the manager has made of this node; none before its first answer.
    pub fn membership(&self) -> Option<&Membership> {
        self.session.membership()
    }

    /// Whether the manager has answered within the lease.
    pub fn is_connected(&self, now: Instant) -> bool {
        self.session.is_connected(now)
    }

    /// The manager that is spoken to.
    pub fn manager(&self) -> Option<ManagerRecord> {
        self.session.manager()
    }

    /// The manager is heard from through a new tunnel, or asks for it: says `Hello` at once.
    pub fn hello_now(&mut self, now: Instant) {
        self.session.hello_now(now);
    }

    /// Asks which service or instance has an address; the answer comes through [`Self::poll_answer`]. One question however
    /// many packets wait for it.
    ///
    /// # Errors
    /// [`Answer`] when it is clear already that there will be none.
    pub fn resolve(&mut self, now: Instant, address: IpAddr, asker: Option<InstanceId>) -> Result<(), Answer> {
        let stream = self.last_number.wrapping_add(1) & 0x7fff_ffff;
        if self.queries.ask(now, Wanted::Address(address), asker, stream)? {
            self.last_number = stream;
        }
        Ok(())
    }

    /// Asks which node has a key: somebody wants a tunnel under it. Anyone can make keys, so questions are spaced out by
    /// [`NODE_QUESTIONS`]; whoever is meant repeats itself.
    pub fn resolve_node(&mut self, now: Instant, key: NodeKey) {
        if now < self.next_node_question {
            return;
        }
        let stream = self.last_number.wrapping_add(1) & 0x7fff_ffff;
        if let Ok(true) = self.queries.ask(now, Wanted::Node(key), None, stream) {
            self.last_number = stream;
            self.next_node_question = now.saturating_add(NODE_QUESTIONS);
        }
    }

    /// What was looked up, and how that ended.
    pub fn poll_answer(&mut self) -> Option<(Wanted, Answer)> {
        self.queries.poll_answer()
    }

    /// Attachments that have been asked for and not answered.
    pub fn attaching(&self) -> usize {
        self.requests.attaching()
    }

    /// The interests in services and instances that are held.
    pub fn interests(&self) -> usize {
        self.interests.len()
    }

    /// Handles one message of a manager.
    ///
    /// Only the one that is spoken to is heard: the numbers of streams and requests are of that conversation.
    pub fn handle(&mut self, now: Instant, from: &NodeKey, message: &Message, replica: &mut impl Replica) {
        if self.session.manager().is_none_or(|manager| manager.key != *from) {
            self.counters.unexpected = self.counters.unexpected.wrapping_add(1);
            return;
        }
        match message {
            Message::Welcome(welcome) => {
                let was_away = !self.session.is_answered(now);
                let news = self.session.welcome(now, from, welcome);
                let Some(news) = news else {
                    self.counters.unexpected = self.counters.unexpected.wrapping_add(1);
                    return;
                };
                replica.set_subnet(welcome.subnet);
                if was_away {
                    // What has become idle meanwhile may end now.
                    self.next_idle = Instant::ZERO;
                }
                if let Some(profile) = self.profile.get_mut().filter(|profile| profile.joining) {
                    profile.joining = false;
                    self.session.joined(now);
                    return;
                }
                if news.forgotten || welcome.reopen {
                    self.reopen_interests(now);
                }
                if news.forgotten {
                    let number = self.next_number();
                    self.reports.forgotten(now, number);
                }
                if news.forgotten || welcome.reattach {
                    for attachment in replica.attachments() {
                        let number = self.next_number();
                        self.requests.resume(now, number, attachment);
                    }
                }
            }
            // A manager that has lost its session with this node says so even when its epoch is the known one.
            Message::Restarted { epoch: _ } => self.session.restarted(now),
            Message::Table(page) => self.handle_page(now, page, replica),
            Message::NotFound { stream } => self.handle_not_found(now, *stream, replica),
            Message::Attached(attached) => {
                if let Some(attachment) = self.requests.attached(attached) {
                    match replica.attach(attachment) {
                        Ok(()) => self.pin(now, attachment.id),
                        Err(_) => {
                            self.requests.no_room(attached.request);
                            self.counters.table_full = self.counters.table_full.wrapping_add(1);
                        }
                    }
                }
            }
            Message::Detached { request } => self.requests.detached(*request),
            Message::Adjusted { request } => self.requests.adjusted(*request),
            Message::Reported { request } => self.reports.answered(*request),
            Message::Refused { request, refusal } => {
                if !self.requests.refused(*request, *refusal) && !self.session.refused(now, *request, *refusal) {
                    self.queries.refused(*request);
                }
            }
            Message::Forgotten { subject, stream } => self.interests.forgotten(*subject, *stream),
            Message::Hello(_)
            | Message::Resolve(_)
            | Message::Attach(_)
            | Message::Detach(_)
            | Message::Adjust(_)
            | Message::AttachAs(..)
            | Message::Report(_)
            | Message::Probe(_)
            | Message::ProbeAnswer(_)
            | Message::Forget { .. }
            | Message::Ack { .. } => self.counters.unexpected = self.counters.unexpected.wrapping_add(1),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, replica: &mut impl Replica) {
        self.counters.resolve_timeouts = self.counters.resolve_timeouts.wrapping_add(self.queries.expire(now));
        if self.housekeeping_due(replica).is_some_and(|due| now >= due) {
            self.next_housekeeping = now.saturating_add(HOUSEKEEPING);
            replica.take_use_news();
            self.next_idle = self.end_idle_interests(now, replica);
        }
    }

    /// When interests are to be looked at; none while there are none, or all are in use or stay.
    fn housekeeping_due(&self, replica: &impl Replica) -> Option<Instant> {
        let due = if replica.has_use_news() { Instant::ZERO } else { self.next_idle };
        (self.interests.len() > 0 && due != Instant::MAX).then_some(due.max(self.next_housekeeping))
    }

    /// When [`Self::handle_timeout`] or [`Self::poll_transmit`] has something to do next.
    pub fn poll_timeout(&self, replica: &impl Replica) -> Option<Instant> {
        self.profile.get()?;
        let due = [self.session.next_hello(), self.queries.poll_expiry(), self.housekeeping_due(replica)];
        // Nothing but Hello is sent before there is a membership: what is due then has to wait for it.
        let said = self.session.is_member().then(|| {
            let at_once = !self.acks.is_empty() || !self.forgets.is_empty();
            [
                at_once.then_some(Instant::ZERO),
                self.queries.poll_timeout(),
                self.requests.poll_timeout(),
                self.reports.poll_timeout(),
                self.interests.poll_timeout(),
            ]
        });
        let said = said.into_iter().flatten();
        due.into_iter().chain(said).flatten().min()
    }

    /// Writes the next message that is due into `out`. Returns the manager that it is for and its length in bytes.
    pub fn poll_transmit(&mut self, now: Instant, replica: &impl Replica, out: &mut [u8]) -> Option<(NodeKey, usize)> {
        let length = self.write_next(now, replica, out)?;
        Some((self.session.manager()?.key, length))
    }

    /// Writes the next message that is due. In pieces that have little on the stack: a [`Message`] has room for a whole page.
    fn write_next(&mut self, now: Instant, replica: &impl Replica, out: &mut [u8]) -> Option<usize> {
        let profile = self.profile.get()?;
        if let Some(request) = self.session.due(now) {
            let mut streams = Digest::default();
            self.interests.for_each_open(|subject, stream| streams.add_stream(subject, stream));
            let mut instances = Digest::default();
            replica.attachments().for_each(|a| instances.add_instance(a.id));
            return write(&Message::Hello(session::hello(profile, request, streams, instances)), out);
        }
        if !self.session.is_member() {
            return None;
        }
        if let Some((subject, stream, sequence)) = self.acks.pop_front() {
            return write(&Message::Ack { subject, stream, sequence }, out);
        }
        if let Some((subject, stream)) = self.forgets.pop_front() {
            return write(&Message::Forget { subject, stream }, out);
        }
        if let Some(resolve) = self.queries.due(now) {
            return write(&Message::Resolve(resolve), out);
        }
        if let Some(message) = &self.requests.due(now, profile.epoch) {
            return write(message, out);
        }
        if let Some(report) = self.reports.due(now) {
            return write(&Message::Report(report), out);
        }
        match self.interests.due(now)? {
            Due::Opening(resolve) => write(&Message::Resolve(resolve), out),
            Due::Ending(subject, stream) => write(&Message::Forget { subject, stream }, out),
        }
    }

    /// Tells the manager where this node is, when that is far enough from what it was told and long enough ago.
    pub(crate) fn report(&mut self, now: Instant, place: &Place) {
        if self.reports.is_news(now, place) {
            let number = self.next_number();
            self.reports.begin(now, number, place);
        }
    }

    fn next_number(&mut self) -> u32 {
        self.last_number = self.last_number.wrapping_add(1) & 0x7fff_ffff;
        self.last_number
    }
}

/// Writes a message and returns its length; none when it does not fit.
#[inline(never)]
fn write(message: &Message, out: &mut [u8]) -> Option<usize> {
    message.encode(out).ok()
}

impl<const M: usize, const Q: usize, const R: usize> Default for Client<M, Q, R> {
    fn default() -> Self {
        Self::new()
    }
}
