//! A machine: what it remembers when its daemon dies, the applications that run on it, and the daemon while that lives.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use acorn_core::addr::{AddressPlan, Dual, Pool, WorkerSubnet};
use acorn_core::flow::Lifetimes;
use acorn_core::node::NodeConfig;
use acorn_core::policy::Registry;
use acorn_core::router::Attachment;
use acorn_core::sync::client::{Outcome, Profile, RequestId};
use acorn_core::sync::message::{AttachKind, Capacities, ManagerRecord, Refusal};
use acorn_core::time::{Duration, Instant};
use acorn_core::{Endpoint, HashKey, InstanceId, NodeKey, ServiceName};
use tempfile::TempDir;

use crate::app::App;
use crate::manager::Manager;
use crate::process::{Process, SimNode};
use crate::random::Random;
use crate::tunnel::Tunnels;

/// How long the manager may take to attach an instance before that is given up.
const MANAGER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a namespace IP rests before another instance gets it.
const NAMESPACE_QUARANTINE: Duration = Duration::from_secs(60);

/// What became of what the operator asked for, and what happened to what ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Attached(InstanceId),
    Refused(Refusal),
    TimedOut,
    Detached(InstanceId),
    Lost(InstanceId),
}

/// What a machine remembers.
#[derive(Default)]
struct Disk {
    subnet: Option<WorkerSubnet>,
    host: Option<Attachment>,
    attachments: Vec<Attachment>,
    boots: u32,
    stamp: u64,
    root: Option<TempDir>,
}

enum Purpose {
    Attach { namespace_ip: Dual, service_ips: Vec<Dual>, late: bool },
    Host,
    Detach,
}

struct Asked {
    id: RequestId,
    since: Instant,
    purpose: Purpose,
}

pub struct Host {
    pub key: NodeKey,
    pub address: SocketAddr,
    managers: Vec<ManagerRecord>,
    plan: AddressPlan,
    is_node: bool,
    /// The policies that its daemon knows when it starts next.
    pub registry: Registry,
    disk: Disk,
    random: Random,
    pool: Pool<64>,
    asked: Vec<Asked>,
    /// The applications, which live on when the daemon dies. The host's own is among them.
    pub apps: BTreeMap<InstanceId, App>,
    /// The daemon, while it runs.
    pub process: Option<Process>,
    pub events: Vec<(Instant, Event)>,
}

impl Host {
    /// A machine with a node on it, and a root too when it has no managers but itself.
    pub fn new(number: u8, plan: AddressPlan, manager: Option<ManagerRecord>, is_node: bool, random: Random) -> Self {
        let (key, address) = (NodeKey([number; 32]), SocketAddr::from(([192, 0, 2, number], 50103)));
        let own = ManagerRecord { key, endpoint: Endpoint::from(address) };
        let mut disk = Disk::default();
        if manager.is_none() {
            disk.root = Some(memory_directory());
        }
        Self {
            key,
            address,
            managers: vec![manager.unwrap_or(own)],
            plan,
            is_node,
            registry: Registry::built_in(),
            disk,
            random,
            pool: Pool::new(1, 0),
            asked: Vec::new(),
            apps: BTreeMap::new(),
            process: None,
            events: Vec::new(),
        }
    }

    pub fn record(&self) -> ManagerRecord {
        ManagerRecord { key: self.key, endpoint: Endpoint::from(self.address) }
    }

    pub fn node(&self) -> Option<&SimNode> {
        self.process.as_ref()?.node.as_deref()
    }

    pub fn is_member(&self) -> bool {
        self.node().is_some_and(|node| node.client().membership().is_some()) && self.disk.host.is_some()
    }

    /// The application that the host itself is.
    pub fn own_app(&self) -> InstanceId {
        self.disk.host.expect("the host is attached").id
    }

    /// The instances on it that an operator attached.
    pub fn attached(&self) -> Vec<InstanceId> {
        self.disk.attachments.iter().map(|attachment| attachment.id).collect()
    }

    /// The daemon dies. Nothing is said, and what was in memory is gone.
    pub fn crash(&mut self) {
        if let Some(process) = self.process.take() {
            self.disk.stamp = process.tunnels.last_stamp();
        }
        self.asked.clear();
    }

    /// The daemon starts from what is on the disk.
    pub fn start(&mut self, now: Instant) {
        self.disk.boots += 1;
        let epoch = (self.random.next() as u32).max(1);
        let mut random = Random::new(self.random.next(), u64::from(self.disk.boots));
        let hash_key = HashKey(random.next(), random.next());
        let tunnels = Tunnels::new(self.key, self.disk.stamp, random);
        let manager = self.disk.root.as_ref().map(|directory| {
            let path = directory.path().join(acorn::root::FILE_NAME);
            let mut manager = Manager::open(&path, self.plan, self.record(), now, epoch, hash_key);
            if self.is_node {
                manager.root.register_node_key(now, self.key).expect("the own key is registered");
            }
            manager
        });
        let node = self.is_node.then(|| self.start_node(now, epoch, hash_key));
        let mut process = Process::new(self.key, tunnels, node, manager);
        process.begin(now);
        self.process = Some(process);
    }

    fn start_node(&mut self, now: Instant, epoch: u32, hash_key: HashKey) -> Box<SimNode> {
        let mut node = Box::new(SimNode::new());
        let profile = Profile {
            key: self.key,
            name: heapless_name(self.key.0[0]),
            joining: false,
            epoch,
            endpoint: Endpoint::UNKNOWN,
            subnet: None,
            lease_ms: 0,
            capacities: Capacities { services: 64, instances: 256, nodes: 64 },
        };
        let config = NodeConfig {
            plan: self.plan,
            registry: self.registry,
            lifetimes: Lifetimes::default(),
            hash_key,
            profile,
            managers: &self.managers,
        };
        node.start(now, config).expect("the managers fit");
        node.set_learning(acorn_core::measure::vivaldi::learn);
        if let Some(subnet) = self.disk.subnet {
            node.set_subnet(subnet);
            self.pool = Pool::new(1, subnet.last_host() - 1);
            for attachment in self.disk.host.iter().chain(&self.disk.attachments) {
                let offset = subnet.offset_of(IpAddr::V4(attachment.namespace_ip.v4)).expect("it is in the subnet");
                let _ = self.pool.reserve(offset, now);
                node.resume(now, *attachment).expect("there is room for what was there");
            }
        }
        node
    }

    /// Asks for an instance to run here: a new one, or the one with a number, taken over from wherever it is.
    pub fn attach(&mut self, now: Instant, service: &str, number: Option<u32>, service_ips: Vec<Dual>) {
        let name: ServiceName = service.parse().expect("a service's name");
        let subnet = self.disk.subnet.expect("the node is a member");
        let offset = self.pool.allocate(now).expect("there is room in the subnet");
        let namespace_ip = subnet.namespace_ip(offset).expect("the offset is the pool's").dual();
        let kind = match number {
            Some(number) => AttachKind::Take(name, number),
            None => AttachKind::New(name),
        };
        let id = self.process.as_mut().and_then(|process| process.node.as_mut()?.attach(now, kind, namespace_ip));
        match id {
            Some(id) => {
                let purpose = Purpose::Attach { namespace_ip, service_ips, late: false };
                self.asked.push(Asked { id, since: now, purpose });
            }
            None => {
                self.release(now, namespace_ip);
                self.events.push((now, Event::Refused(Refusal::Full)));
            }
        }
    }

    /// Ends an instance that runs here.
    pub fn detach(&mut self, now: Instant, instance: InstanceId) {
        self.forget(now, instance);
        let id = self.process.as_mut().and_then(|process| process.node.as_mut()?.detach(now, instance));
        if let Some(id) = id {
            self.asked.push(Asked { id, since: now, purpose: Purpose::Detach });
        }
    }

    /// Does what is due, and follows what the engine says of the node's standing and of what was asked for.
    pub fn turn(&mut self, now: Instant) {
        let Some(process) = &mut self.process else { return };
        process.turn(now);
        self.follow_membership(now);
        while let Some((id, outcome)) = self.process.as_mut().and_then(|process| process.node.as_mut()?.poll_event()) {
            let place = id.and_then(|id| self.asked.iter().position(|asked| asked.id == id));
            let asked = place.map(|place| self.asked.swap_remove(place));
            self.conclude(now, asked, outcome);
        }
        self.give_up_late(now);
    }

    pub fn deadline(&self) -> Option<Instant> {
        let late = |asked: &Asked| {
            matches!(asked.purpose, Purpose::Attach { late: false, .. })
                .then(|| asked.since.saturating_add(MANAGER_TIMEOUT))
        };
        let process = self.process.as_ref()?;
        process.deadline().into_iter().chain(self.asked.iter().filter_map(late)).min()
    }

    /// The application with this namespace IP.
    pub fn app_at(&mut self, address: IpAddr) -> Option<&mut App> {
        self.apps.values_mut().find(|app| app.namespace_ip.contains(address))
    }

    fn follow_membership(&mut self, now: Instant) {
        let Some(subnet) = self.node().and_then(|node| Some(node.client().membership()?.subnet)) else { return };
        if self.disk.subnet != Some(subnet) {
            self.disk.subnet = Some(subnet);
            self.pool = Pool::new(1, subnet.last_host() - 1);
        }
        let is_asking = self.asked.iter().any(|asked| matches!(asked.purpose, Purpose::Host));
        if self.disk.host.is_some() || is_asking {
            return;
        }
        let namespace_ip = subnet.namespace_ip(subnet.last_host()).expect("a subnet has a last host").dual();
        let node = self.process.as_mut().and_then(|process| process.node.as_mut());
        if let Some(id) = node.and_then(|node| node.attach(now, AttachKind::Host, namespace_ip)) {
            self.asked.push(Asked { id, since: now, purpose: Purpose::Host });
        }
    }

    fn conclude(&mut self, now: Instant, asked: Option<Asked>, outcome: Outcome) {
        match (asked.map(|asked| asked.purpose), outcome) {
            (Some(Purpose::Host), Outcome::Attached(attachment)) => {
                self.disk.host = Some(attachment);
                self.run(attachment, &[]);
            }
            (Some(Purpose::Attach { late: true, .. }), Outcome::Attached(attachment)) => {
                // Given up already: it is taken back.
                let node = self.process.as_mut().and_then(|process| process.node.as_mut());
                if let Some(id) = node.and_then(|node| node.detach(now, attachment.id)) {
                    self.asked.push(Asked { id, since: now, purpose: Purpose::Detach });
                }
            }
            (Some(Purpose::Attach { service_ips, .. }), Outcome::Attached(attachment)) => {
                self.disk.attachments.push(attachment);
                self.run(attachment, &service_ips);
                self.events.push((now, Event::Attached(attachment.id)));
            }
            (Some(Purpose::Attach { namespace_ip, late, .. }), Outcome::Refused(refusal)) => {
                if !late {
                    self.release(now, namespace_ip);
                }
                self.events.push((now, Event::Refused(refusal)));
            }
            (_, Outcome::Detached(instance)) => self.events.push((now, Event::Detached(instance))),
            (_, Outcome::Lost(instance, _)) => {
                if self.disk.host.is_some_and(|host| host.id == instance) {
                    self.disk.host = None;
                    self.apps.remove(&instance);
                }
                self.forget(now, instance);
                self.events.push((now, Event::Lost(instance)));
            }
            _ => {}
        }
    }

    fn give_up_late(&mut self, now: Instant) {
        let mut freed = Vec::new();
        for asked in &mut self.asked {
            if let Purpose::Attach { namespace_ip, late, .. } = &mut asked.purpose
                && !*late
                && now >= asked.since.saturating_add(MANAGER_TIMEOUT)
            {
                *late = true;
                freed.push(*namespace_ip);
            }
        }
        for namespace_ip in freed {
            self.release(now, namespace_ip);
            self.events.push((now, Event::TimedOut));
        }
    }

    fn run(&mut self, attachment: Attachment, service_ips: &[Dual]) {
        let app = App::new(attachment.id, attachment.instance_ip, attachment.namespace_ip, service_ips);
        self.apps.insert(attachment.id, app);
    }

    fn forget(&mut self, now: Instant, instance: InstanceId) {
        if let Some(place) = self.disk.attachments.iter().position(|attachment| attachment.id == instance) {
            let attachment = self.disk.attachments.swap_remove(place);
            self.apps.remove(&instance);
            self.release(now, attachment.namespace_ip);
        }
    }

    fn release(&mut self, now: Instant, namespace_ip: Dual) {
        let offset = self.disk.subnet.and_then(|subnet| subnet.offset_of(IpAddr::V4(namespace_ip.v4)));
        if let Some(offset) = offset {
            let _ = self.pool.release(offset, now.saturating_add(NAMESPACE_QUARANTINE));
        }
    }
}

/// A directory in memory where there is one: a disk's flushes would take most of a run's time.
fn memory_directory() -> TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.expect("there is room for a directory")
}

fn heapless_name<T: for<'a> TryFrom<&'a str>>(number: u8) -> T {
    T::try_from(&format!("node{number}")).unwrap_or_else(|_| panic!("a short name fits"))
}
