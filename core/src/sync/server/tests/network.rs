//! Clients that do what a node does, and a network between them and the server that loses, doubles, delays and reorders.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::model::{Model, adjusted, key, pair};
use crate::ids::{Endpoint, InstanceId, NodeId, NodeKey};
use crate::index::HashKey;
use crate::sync::directory::{Directory, Sender};
use crate::sync::message::*;
use crate::sync::server::Server;
use crate::time::{Duration, Instant};

pub(super) type TestServer = Server<8, 64>;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and every seed is another run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Opening,
    Open,
    Ending,
}

/// A stream as the client holds it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) number: u32,
    pub(super) sequence: u32,
    pub(super) state: State,
    pub(super) whole: bool,
    pub(super) header: Option<ServiceHeader>,
    pub(super) records: BTreeMap<u32, InstanceRecord>,
    asker: Option<InstanceId>,
    next: Instant,
}

pub(super) struct Client {
    pub(super) id: u8,
    pub(super) epoch: u32,
    pub(super) lease_ms: u32,
    pub(super) capacities: Capacities,
    pub(super) mute: bool,
    pub(super) streams: BTreeMap<Subject, Held>,
    pub(super) nodes: BTreeMap<NodeId, NodeRecord>,
    /// What runs here, and whether the manager has said so.
    pub(super) instances: BTreeMap<InstanceId, bool>,
    pub(super) detaching: BTreeSet<InstanceId>,
    /// Adjustments that are not answered yet, by instance in order.
    pub(super) adjusting: BTreeMap<InstanceId, VecDeque<(u32, Adjustment)>>,
    /// All that was asked for of each instance, the later of two for the same thing.
    pub(super) adjusted: BTreeMap<InstanceId, Adjustment>,
    /// Streams of the server's that have ended: a late page of one does not begin it again.
    ended: BTreeSet<u32>,
    /// Every page that was applied, in order.
    pub(super) pages: Vec<TablePage>,
    /// When each stream's first page was applied.
    pub(super) first_pages: BTreeMap<Subject, Instant>,
    pub(super) welcomes: Vec<Welcome>,
    pub(super) refusals: Vec<(u32, Refusal)>,
    pub(super) not_found: BTreeSet<u32>,
    manager_epoch: u32,
    request: u32,
    awaits_welcome: bool,
    next_hello: Instant,
    next_request: Instant,
    last_number: u32,
    out: Vec<Message>,
}

impl Client {
    pub(super) fn new(id: u8) -> Self {
        Self {
            id,
            epoch: 1,
            lease_ms: 3_000,
            capacities: Capacities { services: 100, instances: 1_000, nodes: 100 },
            mute: false,
            streams: BTreeMap::new(),
            nodes: BTreeMap::new(),
            instances: BTreeMap::new(),
            detaching: BTreeSet::new(),
            adjusting: BTreeMap::new(),
            adjusted: BTreeMap::new(),
            ended: BTreeSet::new(),
            pages: Vec::new(),
            first_pages: BTreeMap::new(),
            welcomes: Vec::new(),
            refusals: Vec::new(),
            not_found: BTreeSet::new(),
            manager_epoch: 0,
            request: 0,
            awaits_welcome: false,
            next_hello: Instant::ZERO,
            next_request: Instant::ZERO,
            last_number: 0x7fff_fff0,
            out: Vec::new(),
        }
    }

    pub(super) fn key(&self) -> NodeKey {
        key(self.id)
    }

    fn number(&mut self) -> u32 {
        self.last_number = (self.last_number + 1) % SERVER_STREAMS;
        self.last_number
    }

    /// Follows a subject from now on. Returns the stream's number.
    pub(super) fn follow(&mut self, now: Instant, subject: Subject, asker: Option<InstanceId>) -> u32 {
        if let Some(held) = self.streams.get(&subject)
            && held.state != State::Ending
        {
            return held.number;
        }
        let number = self.number();
        let held = Held {
            number,
            sequence: 0,
            state: State::Opening,
            whole: false,
            header: None,
            records: BTreeMap::new(),
            asker,
            next: now,
        };
        self.streams.insert(subject, held);
        number
    }

    pub(super) fn unfollow(&mut self, now: Instant, subject: Subject) {
        if let Some(held) = self.streams.get_mut(&subject) {
            self.ended.insert(held.number);
            held.state = State::Ending;
            held.records.clear();
            held.next = now;
        }
    }

    pub(super) fn adjust(&mut self, instance: InstanceId, change: Adjustment) {
        let number = self.number();
        self.adjusting.entry(instance).or_default().push_back((number, change));
        let all = self.adjusted.entry(instance).or_default();
        all.weight = change.weight.or(all.weight);
        all.priority = change.priority.or(all.priority);
        all.load = change.load.or(all.load);
        all.draining = change.draining.or(all.draining);
    }

    /// What was asked for of an instance does not matter any more.
    pub(super) fn let_be(&mut self, instance: InstanceId) {
        self.adjusting.remove(&instance);
        self.adjusted.remove(&instance);
    }

    /// The node crashes and starts again with what runs on it.
    pub(super) fn restart(&mut self, now: Instant) {
        let fresh = Self::new(self.id);
        *self = Self {
            epoch: self.epoch + 1,
            lease_ms: self.lease_ms,
            capacities: self.capacities,
            mute: self.mute,
            instances: self.instances.keys().map(|instance| (*instance, false)).collect(),
            last_number: self.last_number.wrapping_add(1_000) % SERVER_STREAMS,
            next_hello: now,
            ..fresh
        };
    }

    fn reopen(&mut self, now: Instant) {
        self.streams.retain(|_, held| held.state != State::Ending);
        let subjects: Vec<_> = self.streams.keys().copied().collect();
        for subject in subjects {
            let number = self.number();
            let held = self.streams.get_mut(&subject).unwrap();
            (held.number, held.sequence, held.state, held.next) = (number, 0, State::Opening, now);
        }
    }

    pub(super) fn hello(&mut self, request: u32) -> Hello {
        let mut streams = Digest::default();
        self.streams.iter().for_each(|(subject, held)| streams.add_stream(*subject, held.number));
        let mut instances = Digest::default();
        self.instances.keys().for_each(|instance| instances.add_instance(*instance));
        Hello {
            request,
            epoch: self.epoch,
            joining: None,
            name: heapless::String::new(),
            endpoint: Endpoint::UNKNOWN,
            subnet: None,
            lease_ms: self.lease_ms,
            capacities: self.capacities,
            streams,
            instances,
        }
    }

    fn poll(&mut self, now: Instant) -> Vec<Message> {
        let mut out = std::mem::take(&mut self.out);
        if now >= self.next_hello {
            self.request += 1;
            self.awaits_welcome = true;
            self.next_hello = now.saturating_add(Duration::from_millis(250));
            out.push(Message::Hello(self.hello(self.request)));
        }
        if self.manager_epoch == 0 {
            return out;
        }
        for (subject, held) in &mut self.streams {
            if held.state == State::Open || now < held.next {
                continue;
            }
            held.next = now.saturating_add(Duration::from_millis(250));
            let (subject, stream) = (*subject, held.number);
            out.push(match held.state {
                State::Ending => Message::Forget { subject, stream },
                _ => Message::Resolve(Resolve { stream, key: ResolveKey::Subject(subject), asker: held.asker }),
            });
        }
        if now >= self.next_request {
            self.next_request = now.saturating_add(Duration::from_millis(250));
            let unsaid = self.instances.iter().filter(|(_, said)| !**said);
            out.extend(unsaid.map(|(instance, _)| {
                let request = instance.service.0 << 16 | instance.number;
                let kind = AttachKind::Resume(*instance);
                Message::Attach(Attach { request, kind, namespace_ip: pair(0) })
            }));
            out.extend(self.detaching.iter().map(|instance| {
                let request = 0x4000_0000 | instance.service.0 << 16 | instance.number;
                Message::Detach(Detach { request, instance: *instance })
            }));
            let first = self.adjusting.iter().filter_map(|(instance, all)| Some((*instance, *all.front()?)));
            out.extend(first.map(|(instance, (request, change))| {
                Message::Adjust(Adjust { turn: Turn { epoch: self.epoch, request }, instance, change })
            }));
        }
        out
    }

    fn handle(&mut self, now: Instant, message: Message) {
        match message {
            Message::Welcome(welcome) => {
                if welcome.request != self.request || !self.awaits_welcome {
                    return;
                }
                self.awaits_welcome = false;
                self.next_hello = now.saturating_add(Duration::from_millis(u64::from(welcome.lease_ms / 3)));
                let forgotten = self.manager_epoch != welcome.epoch;
                self.manager_epoch = welcome.epoch;
                if forgotten || welcome.reopen {
                    self.reopen(now);
                }
                if forgotten || welcome.reattach {
                    self.instances.values_mut().for_each(|said| *said = false);
                }
                self.welcomes.push(welcome);
            }
            Message::Restarted { .. } if !self.awaits_welcome => self.next_hello = now,
            Message::Table(page) => self.page(now, page),
            Message::NotFound { stream } => {
                self.not_found.insert(stream);
                self.streams.retain(|_, held| held.number != stream || held.state != State::Opening);
            }
            Message::Attached(attached) => {
                if let Some(said) = self.instances.get_mut(&attached.instance) {
                    *said = true;
                }
            }
            Message::Detached { request } => {
                self.detaching.retain(|i| 0x4000_0000 | i.service.0 << 16 | i.number != request);
            }
            Message::Adjusted { request } => {
                for all in self.adjusting.values_mut() {
                    all.retain(|(number, _)| *number != request);
                }
            }
            Message::Forgotten { subject, stream } => {
                let held = self.streams.get(&subject);
                if held.is_some_and(|held| held.number == stream && held.state == State::Ending) {
                    self.streams.remove(&subject);
                }
            }
            Message::Refused { request, refusal } => {
                self.refusals.push((request, refusal));
                // It was moved or withdrawn behind this node's back: it does not run here any more.
                self.instances.retain(|i, _| i.service.0 << 16 | i.number != request);
                self.detaching.retain(|i| 0x4000_0000 | i.service.0 << 16 | i.number != request);
                self.adjusting.retain(|_, all| all.front().is_none_or(|(number, _)| *number != request));
                let known = &self.instances;
                self.adjusted.retain(|instance, _| known.contains_key(instance));
            }
            _ => {}
        }
    }

    fn page(&mut self, now: Instant, page: TablePage) {
        let (subject, stream, sequence) = (page.subject, page.stream, page.sequence);
        let introduced = stream >= SERVER_STREAMS;
        let forget = Message::Forget { subject, stream };
        match self.streams.get_mut(&subject) {
            Some(held) if held.number == stream => {
                if held.state == State::Ending {
                    return;
                }
                if sequence == held.sequence {
                    self.out.push(Message::Ack { subject, stream, sequence });
                    return;
                }
                if sequence != held.sequence + 1 {
                    return;
                }
            }
            Some(held) if introduced && held.number >= SERVER_STREAMS && sequence == 1 => {
                if stream.wrapping_sub(held.number) > 1 << 20 {
                    return;
                }
                (held.number, held.sequence) = (stream, 0);
            }
            // An introduction crosses a question of this node's, or is late: the own stream will tell.
            Some(_) => return,
            None if introduced && sequence == 1 && !self.ended.contains(&stream) => {
                self.follow(now, subject, None);
                self.streams.get_mut(&subject).unwrap().number = stream;
            }
            None => {
                self.out.push(forget);
                return;
            }
        }
        self.out.push(Message::Ack { subject, stream, sequence });
        self.first_pages.entry(subject).or_insert(now);
        for node in &page.nodes {
            self.nodes.insert(node.id, *node);
        }
        let held = self.streams.get_mut(&subject).unwrap();
        (held.sequence, held.state, held.whole) = (sequence, State::Open, !page.more);
        if page.header.is_some() {
            held.header.clone_from(&page.header);
        }
        match page.kind {
            PageKind::Replace { from, to } => {
                held.records.retain(|number, _| *number < from || to.is_some_and(|to| *number >= to));
            }
            PageKind::Patch => {}
            PageKind::Gone => {
                self.ended.insert(stream);
                self.streams.remove(&subject);
                self.pages.push(page);
                return;
            }
        }
        page.removed.iter().for_each(|number| _ = held.records.remove(number));
        for record in &page.records {
            held.records.insert(record.number, *record);
            assert!(page.nodes.iter().any(|node| node.id == record.node), "a page has the nodes that it names");
        }
        self.pages.push(page);
    }
}

/// What the network does to datagrams, in percent; delays in milliseconds.
#[derive(Clone, Copy)]
pub(super) struct Weather {
    pub(super) loss: u64,
    pub(super) doubles: u64,
    pub(super) delay: u64,
    pub(super) late: u64,
}

impl Weather {
    pub(super) const FAIR: Self = Self { loss: 0, doubles: 0, delay: 1, late: 0 };
    pub(super) const FOUL: Self = Self { loss: 20, doubles: 10, delay: 40, late: 5 };
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) server: Box<TestServer>,
    pub(super) model: Model,
    pub(super) clients: Vec<Client>,
    pub(super) weather: Weather,
    pub(super) random: Random,
    pub(super) to_clients: u64,
    /// Datagrams under way: when they arrive, at which client (or from it), and what they are.
    wire: BTreeMap<(Instant, u64), (usize, bool, Vec<u8>)>,
    sent: u64,
    server_epoch: u32,
    /// Nobody may use an address that the directory has let go of. A server that has just started does not know who does.
    pub(super) check_releases: bool,
}

impl World {
    pub(super) fn new(nodes: u8, seed: u64, weather: Weather) -> Self {
        let mut model = Model::default();
        (1..=nodes).for_each(|n| _ = model.add_node(u32::from(n)));
        let mut server = Box::new(TestServer::new());
        server.start(Instant::ZERO, 1, HashKey(seed, 2));
        Self {
            now: Instant::ZERO,
            server,
            model,
            clients: (1..=nodes).map(Client::new).collect(),
            weather,
            random: Random(seed),
            to_clients: 0,
            wire: BTreeMap::new(),
            sent: 0,
            server_epoch: 1,
            check_releases: true,
        }
    }

    /// The manager crashes and starts again. What it has written down is there, all else is not.
    pub(super) fn restart_server(&mut self, announce: bool) {
        self.server_epoch += 1;
        let counters = *self.server.counters();
        assert_eq!(counters.malformed + counters.not_a_request + counters.no_room, 0);
        *self.server = TestServer::new();
        self.server.start(self.now, self.server_epoch, HashKey(self.random.next(), 3));
        if announce {
            for member in self.model.members.values() {
                self.server.announce(member.record.key);
            }
        }
    }

    fn send(&mut self, client: usize, to_server: bool, payload: &[u8]) {
        assert!(payload.len() <= MESSAGE_MAX);
        let copies = 1 + u64::from(self.random.percent(self.weather.doubles));
        for _ in 0..copies {
            if self.random.percent(self.weather.loss) || self.clients[client].mute {
                continue;
            }
            let mut delay = 1 + self.random.below(self.weather.delay);
            if self.random.percent(self.weather.late) {
                delay += self.random.below(800);
            }
            self.sent += 1;
            let at = self.now.saturating_add(Duration::from_millis(delay));
            self.wire.insert((at, self.sent), (client, to_server, payload.to_vec()));
        }
    }

    /// Lets one millisecond pass.
    pub(super) fn step(&mut self) {
        self.now = self.now.saturating_add(Duration::from_millis(1));
        let mut out = [0; MESSAGE_MAX];
        // The shell polls the server when it has given it something, when its time has come and when the directory changed.
        let mut poll = !self.model.changed.is_empty();
        while let Some(entry) = self.wire.first_entry()
            && entry.key().0 <= self.now
        {
            let (client, to_server, payload) = entry.remove();
            if self.clients[client].mute {
                continue;
            }
            if to_server {
                poll = true;
                let from = Sender { key: self.clients[client].key(), observed: Endpoint::UNKNOWN };
                let answer = self.server.handle(self.now, from, &payload, &mut self.model, &mut out);
                if let Some(length) = answer.unwrap() {
                    self.send(client, false, &out[..length]);
                }
            } else {
                self.clients[client].handle(self.now, Message::decode(&payload).unwrap());
                self.check_releases();
            }
        }
        for client in 0..self.clients.len() {
            for message in self.clients[client].poll(self.now) {
                let length = message.encode(&mut out).unwrap();
                self.send(client, true, &out[..length]);
            }
        }
        if self.server.poll_timeout().is_some_and(|due| due <= self.now) {
            poll = true;
            self.server.handle_timeout(self.now, &mut self.model);
        }
        while poll && let Some((key, length)) = self.server.poll_transmit(self.now, &mut self.model, &mut out) {
            self.to_clients += 1;
            let client = self.clients.iter().position(|client| client.key() == key).unwrap();
            self.send(client, false, &out[..length]);
        }
        let due = self.server.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "what is due at {:?} has been done by {:?}", due, self.now);
    }

    pub(super) fn run(&mut self, millis: u64) {
        (0..millis).for_each(|_| self.step());
    }

    /// Lets time pass until a condition holds.
    pub(super) fn until(&mut self, millis: u64, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..millis {
            if holds(self) {
                return;
            }
            self.step();
        }
        panic!("not within {millis} ms: {what}");
    }

    fn check_releases(&self) {
        if !self.check_releases {
            return;
        }
        for client in &self.clients {
            for (subject, held) in &client.streams {
                for record in held.records.values() {
                    if let Some((service, version)) = self.model.withdrawn.get(&record.instance_ip) {
                        let let_go = self.model.acknowledged.get(service).is_some_and(|known| known >= version);
                        assert!(
                            !let_go,
                            "{} is free, but node {} has it in {subject:?}",
                            record.instance_ip, client.id
                        );
                    }
                }
            }
        }
    }

    /// Why a client does not hold what it should, if so.
    pub(super) fn difference(&self) -> Option<String> {
        for client in &self.clients {
            for (subject, held) in &client.streams {
                let at = format!("node {}, {subject:?}, {held:?}", client.id);
                if held.state != State::Open || !held.whole {
                    return Some(format!("{at}: not open"));
                }
                if !self.model.holds(*subject) {
                    return Some(format!("{at}: is gone"));
                }
                if held.records != self.model.truth(*subject) {
                    return Some(format!("{at}: records differ"));
                }
                if held.header != self.model.header(subject.service) {
                    return Some(format!("{at}: header differs"));
                }
                for record in held.records.values() {
                    if client.nodes.get(&record.node).copied() != self.model.node(record.node) {
                        return Some(format!("{at}: node differs"));
                    }
                }
            }
            for (instance, said) in &client.instances {
                let service = self.model.services.get(&instance.service);
                let record = service.and_then(|s| s.instances.get(&instance.number));
                if !said || record.is_none_or(|(record, _)| record.node.0 != u32::from(client.id)) {
                    return Some(format!("node {}: {instance:?} is not known to run there", client.id));
                }
            }
            for (instance, change) in &client.adjusted {
                let service = self.model.services.get(&instance.service);
                let record = service.and_then(|s| s.instances.get(&instance.number)).map(|(record, _)| *record);
                if record.is_none_or(|record| record != adjusted(record, *change)) {
                    return Some(format!("node {}: {instance:?} is {record:?}, not {change:?}", client.id));
                }
            }
            if client.adjusting.values().any(|all| !all.is_empty()) {
                return Some(format!("node {} adjusts", client.id));
            }
            if !client.detaching.is_empty() {
                return Some(format!("node {} detaches", client.id));
            }
        }
        None
    }
}
