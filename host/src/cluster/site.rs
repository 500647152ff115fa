//! A cluster as its sync server sees it: what it knows it answers, the rest waits for the root.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use acorn_core::ids::{NodeId, NodeKey, ServiceId};
use acorn_core::sync::client::NEGATIVE_LIFETIME;
use acorn_core::sync::directory::{Admission, Change, Denied, Directory, Lookup, Sender};
use acorn_core::sync::message::{
    Adjust, Adjustment, Attach, Attached, Detach, Hello, MESSAGE_MAX, ManagerRecord, Message, NodeRecord, Refusal,
    Report, ResolveKey, ServiceHeader, Subject,
};
use acorn_core::sync::server::SETTLE;
use acorn_core::time::Instant;

use super::members::Members;
use super::orders::{Order, Orders};
use super::tables::Tables;
use super::{ANSWERS_MAX, NEGATIVE_MAX};
use crate::root::KeyEvent;

/// Something to ask the root.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Question {
    Address(IpAddr),
    Node(NodeKey),
    Subject(Subject),
}

pub(super) struct Site {
    pub(super) tables: Tables,
    pub(super) members: Members,
    pub(super) orders: Orders,
    /// The root answers.
    pub(super) root_is_there: bool,
    own: ManagerRecord,
    /// The root's answers to nodes' requests, by key and request.
    answers: BTreeMap<(NodeKey, u32), (Instant, Message)>,
    /// What nobody has, until then.
    negative: Vec<(Instant, Question)>,
    /// What is to be passed on, and to be asked.
    pub(super) passed: VecDeque<(Sender, Vec<u8>)>,
    pub(super) questions: VecDeque<Question>,
    pub(super) key_events: VecDeque<KeyEvent>,
    pub(super) nodes_changed: bool,
    /// Keys that are answered for a while because the root knows them.
    pub(super) guests: HashMap<NodeKey, Instant>,
}

impl Site {
    pub(super) fn new(own: ManagerRecord) -> Self {
        Self {
            tables: Tables::default(),
            members: Members::default(),
            orders: Orders::default(),
            root_is_there: false,
            own,
            answers: BTreeMap::new(),
            negative: Vec::new(),
            passed: VecDeque::new(),
            questions: VecDeque::new(),
            key_events: VecDeque::new(),
            nodes_changed: false,
            guests: HashMap::new(),
        }
    }

    /// The root has answered a request.
    pub(super) fn take_answer(&mut self, now: Instant, of: NodeKey, request: u32, answer: Message) {
        if self.answers.len() < ANSWERS_MAX {
            self.answers.insert((of, request), (now, answer));
        }
    }

    /// Nobody has this.
    pub(super) fn note_nothing(&mut self, now: Instant, question: Question) {
        self.negative.retain(|(until, _)| *until > now);
        if self.negative.len() < NEGATIVE_MAX {
            self.negative.push((now.saturating_add(NEGATIVE_LIFETIME), question));
        }
    }

    /// Forgets answers that nobody has come for.
    pub(super) fn expire(&mut self, now: Instant) {
        self.answers.retain(|_, (at, _)| now < at.saturating_add(NEGATIVE_LIFETIME));
        let members = &self.members;
        let key_events = &mut self.key_events;
        self.guests.retain(|key, until| {
            let stays = *until > now;
            if !stays && members.id_of(key).is_none() {
                key_events.push_back(KeyEvent::Remove { key: *key });
            }
            stays && members.id_of(key).is_none()
        });
    }

    /// What is known of a key without asking.
    pub(super) fn look_up(&self, now: Instant, key: &ResolveKey) -> Lookup {
        let (subject, question) = match key {
            ResolveKey::Subject(subject) => (Some(*subject), Some(Question::Subject(*subject))),
            ResolveKey::Address(address) => (self.tables.owner(*address), Some(Question::Address(*address))),
            ResolveKey::Node(key) => (self.tables.any_instance_of(key), Some(Question::Node(*key))),
            ResolveKey::Name(name) => (self.tables.named(name), None),
        };
        match subject.map(|subject| (subject, self.tables.holds(subject))) {
            Some((subject, Some(true))) => return Lookup::Found(subject),
            Some((_, Some(false))) => return Lookup::NotFound,
            _ => {}
        }
        let is_nothing = self.negative.iter().any(|(until, nothing)| *until > now && Some(*nothing) == question);
        if is_nothing { Lookup::NotFound } else { Lookup::Pending }
    }

    /// The root's answer to a request, or else the request goes to it.
    fn ask(&mut self, from: Sender, request: u32, message: &Message) -> Option<Message> {
        if let Some((_, answer)) = self.answers.remove(&(from.key, request)) {
            return Some(answer);
        }
        let mut payload = [0; MESSAGE_MAX];
        if let Ok(length) = message.encode(&mut payload) {
            self.passed.push_back((from, payload[..length].to_vec()));
        }
        None
    }

    fn ask_for(&mut self, node: NodeId, request: u32, message: &Message) -> Option<Message> {
        let known = self.members.get(node)?.known;
        self.ask(Sender { key: known.key, observed: known.endpoint }, request, message)
    }

    fn admission(&self, id: NodeId, reattach: bool) -> Result<Admission, Denied> {
        let grant = self.members.get(id).and_then(|member| member.grant).ok_or(Denied::Pending)?;
        Ok(Admission {
            node: id,
            subnet: grant.subnet,
            lease_ms: grant.lease_ms,
            managers: std::iter::once(self.own).collect(),
            reattach,
        })
    }

    fn let_in(
        &mut self,
        now: Instant,
        from: Sender,
        hello: &Hello,
        welcome: &acorn_core::sync::message::Welcome,
    ) -> Result<Admission, Denied> {
        if let Some(key) = hello.joining {
            // The node comes back under its own key, which has to be answered by then.
            self.key_events.push_back(KeyEvent::Add { key, endpoint: from.observed, join: false });
            self.guests.insert(key, now.saturating_add(super::GUEST));
            return Ok(Admission {
                node: welcome.node,
                subnet: welcome.subnet,
                lease_ms: welcome.lease_ms,
                managers: std::iter::once(self.own).collect(),
                reattach: welcome.reattach,
            });
        }
        let (is_new, restarted) = self.members.welcome(now, from, hello, welcome);
        if is_new {
            self.nodes_changed = true;
            self.guests.remove(&from.key);
            self.key_events.push_back(KeyEvent::Add { key: from.key, endpoint: from.observed, join: false });
        }
        if let Some(member) = self.members.get_mut(welcome.node)
            && (restarted || welcome.reattach)
        {
            member.settle_at = Some(now.saturating_add(SETTLE));
        }
        self.admission(welcome.node, welcome.reattach)
    }

    /// The root does not have a node any more.
    fn forget_node(&mut self, key: NodeKey) {
        if self.members.remove(&key) {
            self.nodes_changed = true;
            self.key_events.push_back(KeyEvent::Remove { key });
        }
    }
}

impl Directory for Site {
    fn hello(&mut self, now: Instant, from: Sender, hello: &Hello) -> Result<Admission, Denied> {
        if hello.joining.is_none()
            && let Some(member) = self.members.granted(now, from, hello, self.root_is_there)
        {
            return self.admission(member.known.id, false);
        }
        match self.ask(from, hello.request, &Message::Hello(hello.clone())) {
            Some(Message::Welcome(welcome)) => self.let_in(now, from, hello, &welcome),
            Some(Message::Refused { refusal, .. }) => {
                if refusal == Refusal::NotANode {
                    self.forget_node(from.key);
                }
                Err(Denied::Refused(refusal))
            }
            _ => Err(Denied::Pending),
        }
    }

    fn node_of(&self, key: &NodeKey) -> Option<NodeId> {
        self.members.id_of(key)
    }

    fn node(&self, id: NodeId) -> Option<NodeRecord> {
        // What the root says of a node is what its table goes by.
        self.tables.node(id).or_else(|| self.members.record(id))
    }

    fn attach(
        &mut self,
        _now: Instant,
        node: NodeId,
        attach: &Attach,
        settings: Adjustment,
    ) -> Result<Attached, Denied> {
        let message = if settings == Adjustment::default() {
            Message::Attach(attach.clone())
        } else {
            Message::AttachAs(attach.clone(), settings)
        };
        match self.ask_for(node, attach.request, &message) {
            Some(Message::Attached(attached)) => Ok(attached),
            Some(Message::Refused { refusal, .. }) => Err(Denied::Refused(refusal)),
            _ => Err(Denied::Pending),
        }
    }

    fn detach(&mut self, _now: Instant, node: NodeId, detach: &Detach) -> Result<(), Denied> {
        match self.ask_for(node, detach.request, &Message::Detach(*detach)) {
            Some(Message::Detached { .. }) => Ok(()),
            Some(Message::Refused { refusal, .. }) => Err(Denied::Refused(refusal)),
            _ => Err(Denied::Pending),
        }
    }

    fn adjust(&mut self, _now: Instant, node: NodeId, adjust: &Adjust) -> Result<(), Denied> {
        match self.ask_for(node, adjust.turn.request, &Message::Adjust(*adjust)) {
            Some(Message::Adjusted { .. }) => Ok(()),
            Some(Message::Refused { refusal, .. }) => Err(Denied::Refused(refusal)),
            _ => Err(Denied::Pending),
        }
    }

    fn report(&mut self, _now: Instant, node: NodeId, report: &Report) -> bool {
        matches!(self.ask_for(node, report.request, &Message::Report(*report)), Some(Message::Reported { .. }))
    }

    fn resolve(&mut self, key: &ResolveKey) -> Lookup {
        let found = self.look_up(self.tables.now, key);
        match (found, key) {
            (Lookup::Found(subject), _) => self.tables.note_asked(subject),
            (Lookup::Pending, ResolveKey::Address(address)) => {
                self.questions.push_back(match self.tables.owner(*address) {
                    // Its owner is known, but not all of it.
                    Some(subject) => Question::Subject(subject),
                    None => Question::Address(*address),
                })
            }
            (Lookup::Pending, ResolveKey::Node(key)) => self.questions.push_back(Question::Node(*key)),
            (Lookup::Pending, ResolveKey::Subject(subject)) => self.questions.push_back(Question::Subject(*subject)),
            // No node asks by name.
            (Lookup::Pending, ResolveKey::Name(_)) | (Lookup::NotFound, _) => {}
        }
        found
    }

    fn version(&self, service: ServiceId) -> Option<u32> {
        self.tables.version(service)
    }

    fn header_version(&self, service: ServiceId) -> u32 {
        self.tables.header_version(service)
    }

    fn header(&self, service: ServiceId) -> Option<ServiceHeader> {
        self.tables.header(service)
    }

    fn next_change(&self, service: ServiceId, from: u32, since: u32) -> Option<Change> {
        self.tables.next_change(service, from, since)
    }

    fn patchable_since(&self, service: ServiceId) -> u32 {
        self.tables.patchable_since(service)
    }

    fn set_alive(&mut self, now: Instant, node: NodeId, alive: bool) {
        let Some(member) = self.members.get_mut(node) else {
            return;
        };
        member.alive = alive;
        member.silent_since = now;
        let key = member.known.key;
        self.orders.put(now, Order::Standing { node: key, alive });
        self.tables.set_alive(&key, alive);
    }

    fn acknowledged(&mut self, _now: Instant, service: ServiceId, version: u32) {
        self.tables.acknowledged(service, version);
    }

    /// Not by this: what the root has made of a `Hello` says when a node is to settle.
    fn settle(&mut self, _now: Instant, _node: NodeId, _epoch: u32) {}

    fn opened(&mut self, subject: Subject) {
        self.tables.opened(subject);
    }

    fn closed(&mut self, subject: Subject) {
        self.tables.closed(subject);
    }

    fn poll_changed(&mut self) -> Option<ServiceId> {
        self.tables.poll_changed()
    }
}
