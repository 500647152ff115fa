//! A cluster: a manager between the root and the nodes of a site. Sans-IO.
//!
//! To its nodes it is a sync server, to the root a sync client: the same two state machines that root and node have. Between them are
//! the tables that it keeps for its nodes ([`tables`](self)), its members, and what only the root can decide, which it passes on and
//! whose answer it passes back. It owns nothing: after a restart the root and the nodes say everything again.
//!
//! Call [`Cluster::poll_output`], [`Cluster::poll_key_event`] and [`Cluster::poll_news`] until they return nothing after every other call.

mod members;
mod orders;
mod site;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use acorn_core::HashKey;
use acorn_core::ids::{Endpoint, NodeId, NodeKey};
use acorn_core::sync::client::{Answer, Client, Profile, Wanted};
use acorn_core::sync::cluster::{ClusterMessage, KeyStanding, PASSED_MAX, Passed};
use acorn_core::sync::directory::{Lookup, Sender};
use acorn_core::sync::message::{
    Capacities, MESSAGE_MAX, ManagerRecord, Message, PageKind, Refusal, Report, Resolve, ResolveKey, Subject, TablePage,
};
use acorn_core::sync::server::{Server, ServerCounters};
use acorn_core::time::Instant;

use crate::root::KeyEvent;
use orders::Order;
use site::{Question, Site};

pub use members::{BELIEVED, KnownNode};
pub use tables::KEPT;

/// Requests of nodes that wait for the root's answer; more are lost, and come again.
pub const WAITING_MAX: usize = 4_096;
/// Answers of the root that nobody has come for.
const ANSWERS_MAX: usize = 4_096;
/// Negative answers that are believed.
const NEGATIVE_MAX: usize = 1_024;
/// How long a request waits for the root. By then the node has repeated it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a key that is not a member's is answered because the root knows it.
const GUEST: Duration = Duration::from_secs(60);
/// The most keys that are asked for at once, and that are guests. Anyone can make keys.
const GUESTS_MAX: usize = 1_024;
/// How long a silent node is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 3_600);
/// How often what has come to its end is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// The sync client of a cluster, with at most `M` subjects.
pub type Upstream<const M: usize> = Client<M, 1_024, 1>;

/// What a cluster begins with.
#[derive(Clone, Debug)]
pub struct ClusterStart {
    /// Its key.
    pub key: NodeKey,
    /// Its name, for people; one that is too long is left out.
    pub name: String,
    /// It speaks through a join key until the root knows its own.
    pub joining: bool,
    /// Its boot epoch: different with every start, never 0.
    pub epoch: u32,
    /// The endpoint that it wants others to use; unknown means the one that the root sees.
    pub endpoint: Endpoint,
    /// The managers of the root.
    pub managers: Vec<ManagerRecord>,
    /// What its nodes are told of itself.
    pub own: ManagerRecord,
    /// The nodes from before the start.
    pub nodes: Vec<KnownNode>,
    /// From the shell's entropy.
    pub hash_key: HashKey,
}

/// Something that the shell has to know.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterNews {
    /// The root has taken the cluster in, or its managers have changed.
    Joined {
        /// The cluster's number.
        node: NodeId,
        /// The managers of the root.
        managers: Vec<ManagerRecord>,
    },
    /// The root refuses the cluster.
    Refused(Refusal),
    /// The nodes that are to be remembered have changed.
    NodesChanged,
}

/// How a cluster is.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// The root answers.
    pub root_is_there: bool,
    /// The manager that is spoken to.
    pub manager: Option<NodeKey>,
    /// Nodes behind it.
    pub members: usize,
    /// Services whose tables are here.
    pub services: usize,
    /// Instances in them.
    pub instances: usize,
    /// Subjects that are followed at the root.
    pub followed: usize,
    /// Subscriptions of its nodes.
    pub subscriptions: usize,
    /// Requests that wait for the root.
    pub waiting: usize,
    /// What the root has not confirmed.
    pub unconfirmed: usize,
    /// Requests of nodes that were lost because too many waited.
    pub overflow: u64,
    /// What its server counts.
    pub server: ServerCounters,
}

/// A node's message that waits for the root.
struct Waiting {
    from: Sender,
    payload: Vec<u8>,
    until: Instant,
    /// What it looks up, if that is what it does.
    key: Option<ResolveKey>,
}

/// A cluster of at most `C` nodes with at most `S` subscriptions together, which follows at most `M` subjects.
pub struct Cluster<'a, const C: usize, const S: usize, const M: usize> {
    server: &'a mut Server<C, S>,
    client: &'a mut Upstream<M>,
    site: Site,
    /// By key and request (or stream) number.
    waiting: BTreeMap<(NodeKey, u32), Waiting>,
    outbox: VecDeque<(NodeKey, Vec<u8>)>,
    news: VecDeque<ClusterNews>,
    /// The boot epoch of the root that welcomed last.
    root_epoch: u32,
    told: Option<(NodeId, Vec<ManagerRecord>)>,
    refusal: Option<Refusal>,
    asked_keys: BTreeMap<NodeKey, Instant>,
    next_housekeeping: Instant,
    overflow: u64,
}

impl<'a, const C: usize, const S: usize, const M: usize> Cluster<'a, C, S, M> {
    /// Starts a cluster on a server and a client that are new.
    pub fn new(now: Instant, start: ClusterStart, server: &'a mut Server<C, S>, client: &'a mut Upstream<M>) -> Self {
        server.start(now, start.epoch, start.hash_key);
        server.set_retention(REMEMBERED);
        let most = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let profile = Profile {
            key: start.key,
            name: start.name.as_str().try_into().unwrap_or_default(),
            joining: start.joining,
            epoch: start.epoch,
            endpoint: start.endpoint,
            subnet: None,
            lease_ms: 0,
            capacities: Capacities { services: most(M), instances: most(M), nodes: most(M) },
        };
        client.start(now, profile, &start.managers, start.hash_key);
        let mut site = Site::new(start.own);
        for known in start.nodes.into_iter().take(C) {
            site.key_events.push_back(KeyEvent::Add { key: known.key, endpoint: known.endpoint, join: false });
            site.members.remember(known);
            server.announce(known.key);
        }
        Self {
            server,
            client,
            site,
            waiting: BTreeMap::new(),
            outbox: VecDeque::new(),
            news: VecDeque::new(),
            root_epoch: 0,
            told: None,
            refusal: None,
            asked_keys: BTreeMap::new(),
            next_housekeeping: now,
            overflow: 0,
        }
    }

    /// Handles one control payload, of a node or of the root.
    pub fn handle(&mut self, now: Instant, from: Sender, payload: &[u8]) {
        self.at(now);
        if self.client.is_manager(&from.key) {
            self.handle_root(now, &from.key, payload);
        } else {
            self.handle_node(now, from, payload, true);
        }
        self.go_on(now);
    }

    /// Somebody wants a tunnel under a key that is not known here: the root is asked whose it is.
    pub fn unknown_key(&mut self, now: Instant, key: NodeKey) {
        self.at(now);
        let is_known = self.asked_keys.contains_key(&key) || self.site.guests.contains_key(&key);
        let is_full = self.asked_keys.len() >= GUESTS_MAX || self.site.guests.len() >= GUESTS_MAX;
        if is_known || is_full || !self.site.root_is_there {
            return;
        }
        self.asked_keys.insert(key, now);
        self.tell_root(&ClusterMessage::AskKey { key });
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.at(now);
        self.server.handle_timeout(now, &mut self.site);
        self.client.handle_timeout(now, &mut self.site.tables);
        if now >= self.next_housekeeping {
            self.next_housekeeping = now.saturating_add(HOUSEKEEPING);
            self.keep_house(now);
        }
        self.go_on(now);
    }

    /// When [`Self::handle_timeout`] or [`Self::poll_output`] has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let at_once = (!self.outbox.is_empty()).then_some(Instant::ZERO);
        let next = [
            at_once,
            Some(self.next_housekeeping),
            self.server.poll_timeout(),
            self.client.poll_timeout(&self.site.tables),
            self.site.orders.next().filter(|_| self.site.root_is_there),
        ];
        next.into_iter().flatten().min()
    }

    /// Writes the next payload into `out`, which must have room for [`MESSAGE_MAX`] bytes. Returns whom it is for and its length in bytes.
    pub fn poll_output(&mut self, now: Instant, out: &mut [u8]) -> Option<(NodeKey, usize)> {
        self.at(now);
        if let Some((to, payload)) = self.outbox.pop_front() {
            out.get_mut(..payload.len())?.copy_from_slice(&payload);
            return Some((to, payload.len()));
        }
        if let Some(sent) = self.server.poll_transmit(now, &mut self.site, out) {
            return Some(sent);
        }
        if let Some(sent) = self.client.poll_transmit(now, &self.site.tables, out) {
            return Some(sent);
        }
        self.note_held(now);
        if self.site.root_is_there
            && let Some(manager) = self.client.manager()
            && let Some(message) = self.site.orders.due(now)
        {
            return message.encode(out).ok().map(|length| (manager.key, length));
        }
        None
    }

    /// The next change of the set of nodes' keys that have to be answered.
    pub fn poll_key_event(&mut self) -> Option<KeyEvent> {
        self.site.key_events.pop_front()
    }

    /// The next thing that the shell has to know.
    pub fn poll_news(&mut self) -> Option<ClusterNews> {
        if std::mem::take(&mut self.site.nodes_changed) {
            self.news.push_back(ClusterNews::NodesChanged);
        }
        self.news.pop_front()
    }

    /// Whether the cluster still speaks through its join key.
    pub fn is_joining(&self) -> bool {
        self.client.is_joining()
    }

    /// The managers of the root.
    pub fn managers(&self) -> &[ManagerRecord] {
        self.client.managers()
    }

    /// The nodes to be remembered over a restart.
    pub fn known_nodes(&self) -> impl Iterator<Item = KnownNode> + '_ {
        self.site.members.iter().map(|member| member.known)
    }

    /// How it is.
    pub fn status(&self, now: Instant) -> ClusterStatus {
        let (services, instances) = self.site.tables.len();
        ClusterStatus {
            root_is_there: self.client.is_connected(now),
            manager: self.client.manager().map(|manager| manager.key),
            members: self.site.members.len(),
            services,
            instances,
            followed: self.site.tables.followed_upstream(),
            subscriptions: self.server.subscriptions(),
            waiting: self.waiting.len(),
            unconfirmed: self.site.orders.len(),
            overflow: self.overflow,
            server: *self.server.counters(),
        }
    }

    fn at(&mut self, now: Instant) {
        self.site.tables.now = now;
        self.site.root_is_there = self.client.is_connected(now);
    }

    /// Handles a node's message, for the first time or again because the root has answered.
    fn handle_node(&mut self, now: Instant, from: Sender, payload: &[u8], is_first: bool) {
        let mut out = [0; MESSAGE_MAX];
        let (passed, asked) = (self.site.passed.len(), self.site.questions.len());
        match self.server.handle(now, from, payload, &mut self.site, &mut out) {
            Ok(Some(length)) => self.outbox.push_back((from.key, out[..length].to_vec())),
            Ok(None) => {}
            Err(error) => tracing::debug!(?error, key = %from.key, "a message of a node was refused"),
        }
        let waits = self.site.passed.len() > passed || self.site.questions.len() > asked;
        if waits && is_first {
            self.wait(now, from, payload);
        }
    }

    /// Keeps a message until the root has answered.
    fn wait(&mut self, now: Instant, from: Sender, payload: &[u8]) {
        let (number, key) = match Message::decode(payload) {
            Ok(Message::Resolve(Resolve { stream, key, .. })) => (stream, Some(key)),
            Ok(message) => match request_of(&message) {
                Some(number) => (number, None),
                None => return,
            },
            Err(_) => return,
        };
        if self.waiting.len() >= WAITING_MAX {
            self.overflow += 1;
            return;
        }
        let waiting = Waiting { from, payload: payload.to_vec(), until: now.saturating_add(PATIENCE), key };
        self.waiting.insert((from.key, number), waiting);
    }

    fn handle_root(&mut self, now: Instant, from: &NodeKey, payload: &[u8]) {
        if ClusterMessage::is_one(payload) {
            if self.client.manager().is_some_and(|manager| manager.key == *from)
                && let Ok(message) = ClusterMessage::decode(payload)
            {
                self.handle_answer(now, message);
            }
            return;
        }
        let Ok(message) = Message::decode(payload) else {
            tracing::debug!(key = %from, "a message of the root can't be read");
            return;
        };
        let gone = match &message {
            Message::Table(page) if page.kind == PageKind::Gone => Some(page.clone()),
            _ => None,
        };
        let was_followed = gone.as_ref().and_then(|page| self.client.position(page.subject));
        self.client.handle(now, from, &message, &mut self.site.tables);
        if let Some(page) = gone {
            self.note_gone(&page, was_followed);
        }
        if let Message::Welcome(welcome) = &message
            && self.client.is_connected(now)
        {
            self.site.root_is_there = true;
            if welcome.epoch != self.root_epoch {
                self.root_epoch = welcome.epoch;
                self.tell_all_again(now);
            }
        }
        self.answer_lookups(now);
    }

    /// A subject that was followed is gone.
    fn note_gone(&mut self, page: &TablePage, was_followed: Option<(u32, u32)>) {
        let is_its_stream = was_followed.is_some_and(|(stream, _)| stream == page.stream);
        if is_its_stream && self.client.position(page.subject).is_none() {
            self.site.tables.note_gone(page);
        }
    }

    /// The root has started again: what it has to know of nodes that are not here it may have missed.
    fn tell_all_again(&mut self, now: Instant) {
        self.site.orders.forget_held();
        self.site.tables.forget_gone();
        self.site.members.say_all_again();
        let silent = self.site.members.iter().filter(|member| !member.alive).map(|member| member.known.key);
        for node in silent.collect::<Vec<_>>() {
            self.site.orders.put(now, Order::Standing { node, alive: false });
        }
    }

    fn handle_answer(&mut self, now: Instant, message: ClusterMessage) {
        match message {
            ClusterMessage::Answer { of, payload } => {
                let Ok(answer) = Message::decode(&payload) else { return };
                let Some(request) = request_of(&answer) else { return };
                let Some(waiting) = self.waiting.remove(&(of, request)) else { return };
                self.site.take_answer(now, of, request, answer);
                self.handle_node(now, waiting.from, &waiting.payload, false);
            }
            ClusterMessage::KeyIs { key, standing } => {
                if self.asked_keys.remove(&key).is_some() && standing != KeyStanding::Unknown {
                    let join = standing == KeyStanding::Join;
                    self.site.guests.insert(key, now.saturating_add(GUEST));
                    self.site.key_events.push_back(KeyEvent::Add { key, endpoint: Endpoint::UNKNOWN, join });
                }
            }
            ClusterMessage::Done { request } => self.site.orders.done(request),
            ClusterMessage::Noted { subject, stream, sequence } => self.site.orders.noted(subject, stream, sequence),
            ClusterMessage::Pass { .. }
            | ClusterMessage::AskKey { .. }
            | ClusterMessage::Standing { .. }
            | ClusterMessage::Settle { .. }
            | ClusterMessage::Held { .. } => {}
        }
    }

    /// Passes on and asks what the server's last work has left to be.
    fn go_on(&mut self, now: Instant) {
        while let Some((from, payload)) = self.site.passed.pop_front() {
            if let Ok(payload) = Passed::from_slice(&payload) {
                self.tell_root(&ClusterMessage::Pass { of: from.key, observed: from.observed, payload });
            } else {
                tracing::warn!(key = %from.key, length = payload.len(), most = PASSED_MAX, "a node's request is too long to be passed on");
            }
        }
        let mut nothing = false;
        while let Some(question) = self.site.questions.pop_front() {
            let asked = match question {
                Question::Address(address) => self.client.resolve(now, address, None),
                Question::Node(key) => {
                    self.client.resolve_node(now, key);
                    Ok(())
                }
                Question::Subject(subject) => {
                    if self.client.follow(now, subject) {
                        self.site.tables.note_asked(subject);
                    } else {
                        // There is no room for it. The node asks again.
                        self.waiting.retain(|_, waiting| waiting.key != Some(ResolveKey::Subject(subject)));
                    }
                    Ok(())
                }
            };
            if asked == Err(Answer::NotFound) {
                self.site.note_nothing(now, question);
                nothing = true;
            }
        }
        while let Some((wanted, answer)) = self.client.poll_answer() {
            if answer == Answer::NotFound {
                self.site.note_nothing(
                    now,
                    match wanted {
                        Wanted::Address(address) => Question::Address(address),
                        Wanted::Node(key) => Question::Node(key),
                    },
                );
                nothing = true;
            }
        }
        if nothing {
            self.answer_lookups(now);
        }
        self.tell_standing();
    }

    /// Handles again what nodes look up and is known by now.
    fn answer_lookups(&mut self, now: Instant) {
        let lookups = self.waiting.iter().filter_map(|(id, waiting)| Some((*id, waiting.key.as_ref()?)));
        let mut ready = Vec::new();
        for (id, key) in lookups {
            if let ResolveKey::Subject(subject) = key
                && !self.client.is_following(*subject)
            {
                // The root has said that there is no such thing.
                self.site.note_nothing(now, Question::Subject(*subject));
            }
            if self.site.look_up(now, key) != Lookup::Pending {
                ready.push(id);
            }
        }
        for id in ready {
            if let Some(waiting) = self.waiting.remove(&id) {
                self.handle_node(now, waiting.from, &waiting.payload, false);
            }
        }
    }

    /// Tells the shell of the cluster's own standing, when that has changed.
    fn tell_standing(&mut self) {
        if let Some(membership) = self.client.membership().filter(|_| !self.client.is_joining()) {
            let standing = (membership.node, self.client.managers().to_vec());
            if self.told.as_ref() != Some(&standing) {
                self.told = Some(standing.clone());
                self.news.push_back(ClusterNews::Joined { node: standing.0, managers: standing.1 });
            }
        }
        let refusal = self.client.refusal();
        if refusal != self.refusal {
            self.refusal = refusal;
            self.news.extend(refusal.map(ClusterNews::Refused));
        }
    }

    /// Orders that the root be told which pages all nodes know.
    fn note_held(&mut self, now: Instant) {
        let (known, ended) = self.site.tables.take_settled();
        for subject in known {
            if let Some((stream, sequence)) = self.client.position(subject) {
                self.site.orders.put(now, Order::Held { subject, stream, sequence });
            }
        }
        for (subject, stream, sequence) in ended {
            self.site.orders.put(now, Order::Held { subject, stream, sequence });
        }
    }

    fn keep_house(&mut self, now: Instant) {
        self.waiting.retain(|_, waiting| waiting.until > now);
        self.asked_keys.retain(|_, at| now < at.saturating_add(PATIENCE));
        self.site.expire(now);
        self.site.tables.expire();
        let client = &*self.client;
        self.site.orders.retain_noted(|subject| client.position(subject).is_some());
        let mut settled = Vec::new();
        let mut forgotten = Vec::new();
        for member in self.site.members.iter_mut() {
            if member.settle_at.is_some_and(|at| at <= now) {
                member.settle_at = None;
                settled.push((member.known.key, member.epoch));
            }
            if !member.alive && now >= member.silent_since.saturating_add(REMEMBERED) {
                forgotten.push(member.known.key);
            }
        }
        for (node, epoch) in settled {
            self.site.orders.put(now, Order::Settle { node, epoch });
        }
        for key in forgotten {
            self.site.members.remove(&key);
            self.site.nodes_changed = true;
            self.site.key_events.push_back(KeyEvent::Remove { key });
        }
    }

    fn tell_root(&mut self, message: &ClusterMessage) {
        let mut out = [0; MESSAGE_MAX];
        if let Some(manager) = self.client.manager()
            && let Ok(length) = message.encode(&mut out)
        {
            self.outbox.push_back((manager.key, out[..length].to_vec()));
        }
    }

    /// Whether a subject is followed at the root.
    pub fn follows(&self, subject: Subject) -> bool {
        self.client.is_following(subject)
    }
}

/// The number by which a request and its answer are told.
fn request_of(message: &Message) -> Option<u32> {
    Some(match message {
        Message::Hello(hello) => hello.request,
        Message::Attach(attach) | Message::AttachAs(attach, _) => attach.request,
        Message::Detach(detach) => detach.request,
        Message::Adjust(adjust) => adjust.turn.request,
        Message::Report(Report { request, .. }) | Message::Reported { request } => *request,
        Message::Welcome(welcome) => welcome.request,
        Message::Attached(attached) => attached.request,
        Message::Detached { request } | Message::Adjusted { request } | Message::Refused { request, .. } => *request,
        _ => return None,
    })
}
