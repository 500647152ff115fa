//! Everything at once, on one clock: hosts, the underlay between them, and what holds after every step.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::net::IpAddr;

use acorn_core::addr::{AddressPlan, Dual};
use acorn_core::policy::{Policy, Registry, RoundRobin};
use acorn_core::time::{Duration, Instant};
use acorn_core::{InstanceId, NodeKey};

use crate::app::{App, What};
use crate::host::{Event, Host};
use crate::invariants;
use crate::manager::Manager;
use crate::network::{Conditions, Datagram, Network};
use crate::process::SimNode;
use crate::random::Random;
use crate::trace::Trace;

/// So many turns of one host at one instant, and it spins.
const SPIN: u32 = 5_000;
/// How long joining and attaching may take where nothing is lost.
const SOON: Duration = Duration::from_secs(10);

/// Something that an application saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub at: Instant,
    pub host: usize,
    pub app: InstanceId,
    pub what: What,
}

/// Where the root is.
pub const ROOT: usize = 0;

pub struct World {
    pub seed: u64,
    pub now: Instant,
    /// For the scenario's own choices.
    pub random: Random,
    pub network: Network,
    pub hosts: Vec<Host>,
    pub arrivals: Vec<Arrival>,
    /// The services and their addresses.
    pub services: BTreeMap<String, Dual>,
    /// The policies that hosts know which are added from now on.
    pub registry: Registry,
    pub trace: Trace,
    plan: AddressPlan,
    due: Vec<Option<Instant>>,
    turns: (Instant, u32),
    next_audit: Instant,
}

impl World {
    /// A world with nothing in it.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            now: Instant::ZERO,
            random: Random::new(seed, 1),
            network: Network::new(Random::new(seed, 2)),
            hosts: Vec::new(),
            arrivals: Vec::new(),
            services: BTreeMap::new(),
            registry: Registry::built_in(),
            trace: Trace::new(),
            plan: AddressPlan::DEFAULT,
            due: Vec::new(),
            turns: (Instant::ZERO, 0),
            next_audit: Instant::ZERO,
        }
    }

    /// A root and `nodes` nodes that have joined it, the first of them at place 1.
    pub fn with_nodes(seed: u64, nodes: usize) -> Self {
        let mut world = Self::new(seed);
        world.add_root(false);
        for _ in 0..nodes {
            world.add_node();
        }
        world.join();
        world
    }

    /// Waits until all nodes have joined the root.
    pub fn join(&mut self) {
        self.run_until(SOON, "all nodes have joined", |world| world.hosts[1..].iter().all(Host::is_member));
    }

    /// Adds the root, on a host that may be a node too.
    pub fn add_root(&mut self, is_node: bool) {
        let random = Random::new(self.seed, 100);
        let host = Host::new(250, self.plan, None, is_node, random);
        self.add(host);
    }

    /// Adds a node whose key the root knows. Returns its place.
    pub fn add_node(&mut self) -> usize {
        let place = self.hosts.len();
        let number = u8::try_from(place).expect("few hosts");
        let manager = self.hosts[ROOT].record();
        let host = Host::new(number, self.plan, Some(manager), true, Random::new(self.seed, 100 + u64::from(number)));
        let key = host.key;
        self.with_root(|manager, now| manager.root.register_node_key(now, key).expect("the key is new"));
        self.add(host);
        place
    }

    fn add(&mut self, mut host: Host) {
        host.registry = self.registry;
        host.start(self.now);
        self.hosts.push(host);
        self.due.push(None);
        self.turn(self.hosts.len() - 1);
    }

    /// Does something at the root, as its operator.
    pub fn with_root<T>(&mut self, operation: impl FnOnce(&mut Manager, Instant) -> T) -> T {
        let now = self.now;
        let manager = self.hosts[ROOT].process.as_mut().and_then(|process| process.manager.as_mut());
        let result = operation(manager.expect("the root runs"), now);
        self.turn(ROOT);
        self.audit();
        result
    }

    pub fn manager(&self) -> &Manager {
        let process = self.hosts[ROOT].process.as_ref();
        process.and_then(|process| process.manager.as_ref()).expect("the root runs")
    }

    pub fn node(&self, host: usize) -> &SimNode {
        self.hosts[host].node().expect("the node runs")
    }

    /// Creates a service; its name is four times the same word. Returns its round-robin address.
    pub fn create_service(&mut self, word: &str) -> Dual {
        self.create_service_under(word, &RoundRobin)
    }

    /// The same with an address under a policy. The root gives one under whatever name it is asked for.
    pub fn create_service_under(&mut self, word: &str, policy: &dyn Policy) -> Dual {
        let name = name_of(word);
        let address = self.with_root(|manager, now| manager.create_service(now, &name, policy));
        self.services.insert(word.to_owned(), address);
        address
    }

    /// Asks for an instance without waiting for it.
    pub fn begin_attach(&mut self, host: usize, word: &str, number: Option<u32>) {
        let service_ips = vec![self.services[word]];
        let now = self.now;
        self.hosts[host].attach(now, &name_of(word), number, service_ips);
        self.turn(host);
    }

    /// Attaches an instance, and waits for it.
    pub fn attach(&mut self, host: usize, word: &str, number: Option<u32>) -> InstanceId {
        let before = self.hosts[host].events.len();
        self.begin_attach(host, word, number);
        let done = |world: &Self| {
            world.hosts[host].events[before..].iter().any(|(_, event)| !matches!(event, Event::Detached(_)))
        };
        self.run_until(SOON, "an instance is attached", done);
        match self.hosts[host].events[before..].iter().find(|(_, event)| !matches!(event, Event::Detached(_))) {
            Some((_, Event::Attached(id))) => *id,
            other => panic!("{word} was not attached to host {host}: {other:?}"),
        }
    }

    pub fn detach(&mut self, host: usize, instance: InstanceId) {
        let now = self.now;
        self.hosts[host].detach(now, instance);
        self.turn(host);
    }

    pub fn crash(&mut self, host: usize) {
        self.hosts[host].crash();
        self.due[host] = None;
    }

    pub fn start(&mut self, host: usize) {
        let now = self.now;
        self.hosts[host].start(now);
        self.turn(host);
    }

    /// Nothing goes between two hosts from now on.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.network.cut(self.hosts[a].address, self.hosts[b].address);
    }

    pub fn mend(&mut self, a: usize, b: usize) {
        self.network.mend(self.hosts[a].address, self.hosts[b].address);
    }

    pub fn app(&mut self, host: usize, app: InstanceId) -> &mut App {
        self.hosts[host].apps.get_mut(&app).expect("the application runs there")
    }

    /// An application sends a question over UDP, from a port of its own. Returns the port.
    pub fn ask(&mut self, host: usize, app: InstanceId, dst: IpAddr, sequence: u32) -> u16 {
        let port = self.app(host, app).new_port();
        self.ask_from(host, app, port, dst, sequence);
        port
    }

    /// The same from a given port.
    pub fn ask_from(&mut self, host: usize, app: InstanceId, port: u16, dst: IpAddr, sequence: u32) {
        let packet = self.app(host, app).ask(port, dst, sequence);
        self.send_packet(host, packet);
    }

    pub fn connect(&mut self, host: usize, app: InstanceId, dst: IpAddr) -> u16 {
        let port = self.app(host, app).new_port();
        let packet = self.app(host, app).connect(port, dst);
        self.send_packet(host, packet);
        port
    }

    pub fn say(&mut self, host: usize, app: InstanceId, port: u16, sequence: u32) {
        let packet = self.app(host, app).say(port, sequence);
        self.send_packet(host, packet);
    }

    /// An application sends a packet.
    pub fn send_packet(&mut self, host: usize, packet: Vec<u8>) {
        let now = self.now;
        // Without a daemon the packet goes into the void.
        if let Some(process) = &mut self.hosts[host].process {
            process.handle_tun(now, packet);
            self.turn(host);
        }
    }

    /// A host seals bytes of its own making for another.
    pub fn inject(&mut self, host: usize, to: NodeKey, payload: &[u8]) {
        let now = self.now;
        if let Some(process) = &mut self.hosts[host].process {
            process.inject(now, to, payload);
            self.turn(host);
        }
    }

    /// Somebody sends a frame from anywhere.
    pub fn forge(&mut self, datagram: Datagram) {
        self.network.send(self.now, datagram);
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now.saturating_add(time);
        while self.step(end) {}
    }

    /// Lets time pass until something holds, which it must within `limit`. Returns how long that took.
    #[track_caller]
    pub fn run_until(&mut self, limit: Duration, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let (begin, end) = (self.now, self.now.saturating_add(limit));
        while !holds(self) {
            assert!(self.step(end), "within {limit:?} it should have come to pass that {what}");
        }
        self.now.saturating_duration_since(begin)
    }

    /// Does what comes next, if it comes before `end`; otherwise it is `end` now, and nothing is left to do before.
    fn step(&mut self, end: Instant) -> bool {
        let timers = self.due.iter().flatten().copied().min();
        let next = [timers, self.network.next()].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= end) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        if let Some(datagram) = self.network.receive(self.now) {
            self.receive(datagram);
        } else if let Some(host) = self.due.iter().position(|due| due.is_some_and(|at| at <= self.now)) {
            self.turns = if self.turns.0 == self.now { (self.now, self.turns.1 + 1) } else { (self.now, 0) };
            assert!(self.turns.1 < SPIN, "host {host} spins");
            self.turn(host);
        }
        if self.now >= self.next_audit {
            self.next_audit = self.now.saturating_add(Duration::from_secs(1));
            self.audit();
        }
        true
    }

    fn receive(&mut self, datagram: Datagram) {
        let Some(host) = self.hosts.iter().position(|host| host.address == datagram.to) else { return };
        let now = self.now;
        let Some(process) = &mut self.hosts[host].process else { return };
        process.handle_frame(now, datagram.from, datagram.frame);
        self.turn(host);
        if host == ROOT {
            self.audit_root();
        }
    }

    /// Lets a host do everything that it can do now, its applications too.
    fn turn(&mut self, host: usize) {
        let now = self.now;
        self.hosts[host].turn(now);
        while let Some(packet) = self.hosts[host].process.as_mut().and_then(|process| process.delivered.pop_front()) {
            self.deliver(host, &packet);
        }
        let here = self.hosts[host].address;
        let sent = self.hosts[host].process.as_mut().map(|process| std::mem::take(&mut process.sent));
        for (to, frame) in sent.unwrap_or_default() {
            (now, here, to, &frame).hash(&mut self.trace);
            self.network.send(now, Datagram { from: here, to, frame });
        }
        self.due[host] = self.hosts[host].deadline();
    }

    fn deliver(&mut self, host: usize, packet: &[u8]) {
        let now = self.now;
        (now, host, packet).hash(&mut self.trace);
        let Some(dst) = destination(packet) else { panic!("delivered, but no packet: {packet:02x?}") };
        // Whoever had the address has gone: its interface is gone too.
        let Some(app) = self.hosts[host].app_at(dst) else { return };
        let id = app.id;
        let (what, answers) =
            app.receive(packet).unwrap_or_else(|wrong| panic!("application {id:?} on host {host}: {wrong}"));
        self.arrivals.extend(what.map(|what| Arrival { at: now, host, app: id, what }));
        for answer in answers {
            if let Some(process) = &mut self.hosts[host].process {
                process.handle_tun(now, answer);
            }
        }
        self.hosts[host].turn(now);
    }

    /// Looks at what must hold at the root whatever happens.
    fn audit_root(&mut self) {
        if let Some(manager) = self.hosts[ROOT].process.as_mut().and_then(|process| process.manager.as_mut())
            && manager.take_claims()
        {
            invariants::no_address_has_two_owners(manager);
        }
    }

    /// Looks at everything that must hold whatever happens.
    fn audit(&mut self) {
        self.audit_root();
        invariants::no_address_is_known_as_anothers(self);
    }

    /// What applications saw since `since`.
    pub fn arrivals_since(&self, since: usize) -> &[Arrival] {
        &self.arrivals[since..]
    }

    /// The answer to the question from a port.
    pub fn answer(&self, host: usize, app: InstanceId, asked_from: u16) -> Option<InstanceId> {
        self.arrivals.iter().rev().filter(|arrival| arrival.host == host && arrival.app == app).find_map(|arrival| {
            match arrival.what {
                What::Answered { port, by, .. } if port == asked_from => Some(by),
                _ => None,
            }
        })
    }

    /// Whether the application was told that what it asked from a port went nowhere.
    pub fn unreachable(&self, host: usize, app: InstanceId, asked_from: u16) -> bool {
        let is_it = |what: &What| matches!(what, What::Unreachable { port, .. } if *port == asked_from);
        self.arrivals.iter().any(|arrival| arrival.host == host && arrival.app == app && is_it(&arrival.what))
    }

    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.network.conditions = conditions;
    }
}

/// A failure names the seed that brings it again.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the simulation failed {:?} after its start, with seed {1}: SIM_SEED={1} runs that alone",
                Duration::from_millis(self.now.as_millis()),
                self.seed
            );
        }
    }
}

/// The seeds to run: the first `count`, or the one in `SIM_SEED`.
pub fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let only = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let range = match only {
        Some(seed) => seed..=seed,
        None => 1..=count,
    };
    range.into_iter()
}

pub fn name_of(word: &str) -> String {
    [word; 4].join(".")
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?)),
        6 => Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?)),
        _ => None,
    }
}
