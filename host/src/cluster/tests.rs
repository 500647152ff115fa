//! Three tiers over a network that loses, delays and doubles: the real root on a real file, clusters, and nodes' engines.

use std::collections::BTreeSet;
use std::net::IpAddr;

use acorn_core::HashKey;
use acorn_core::addr::{AddressPlan, PolicyBlock};
use acorn_core::flow::Lifetimes;
use acorn_core::ids::{Endpoint, InstanceId, NodeKey, ServiceName};
use acorn_core::node::{Node, NodeConfig, Output, PENDING_LEN};
use acorn_core::policy::Registry;
use acorn_core::sync::Server;
use acorn_core::sync::client::{Outcome, Profile};
use acorn_core::sync::directory::Sender;
use acorn_core::sync::message::{AttachKind, Capacities, MESSAGE_MAX, ManagerRecord};
use acorn_core::time::{Duration, Instant};

use super::*;
use crate::root::{AddressRequest, Root, RootSettings, ServiceError, ServiceRequest};

const ROOT: NodeKey = NodeKey([1; 32]);
const CLUSTERS: [NodeKey; 2] = [NodeKey([11; 32]), NodeKey([12; 32])];
const JOIN_KEYS: [NodeKey; 2] = [NodeKey([21; 32]), NodeKey([22; 32])];
const NODES: [NodeKey; 2] = [NodeKey([31; 32]), NodeKey([32; 32])];
const UNIX: u64 = 1_800_000_000;
const STEP: Duration = Duration::from_millis(5);
/// How long anything may take that has no promise of its own.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many of a hundred datagrams are lost.
const LOSS: u64 = 20;

type SmallCluster = Cluster<'static, 16, 256, 256>;
type SmallNode = Node<16, 64, 16, 64, 8, 16>;

fn leak<T>(value: T) -> &'static mut T {
    Box::leak(Box::new(value))
}

fn record(key: NodeKey) -> ManagerRecord {
    ManagerRecord { key, endpoint: endpoint(key) }
}

fn endpoint(key: NodeKey) -> Endpoint {
    Endpoint::from(Some(std::net::SocketAddr::from(([192, 0, 2, key.0[0]], 50_103))))
}

struct Datagram {
    at: Instant,
    from: NodeKey,
    to: NodeKey,
    payload: Vec<u8>,
}

struct World {
    now: Instant,
    random: u64,
    root: Root,
    server: Box<Server<16, 256>>,
    clusters: [SmallCluster; 2],
    nodes: [Box<SmallNode>; 2],
    wire: Vec<Datagram>,
    cut: BTreeSet<NodeKey>,
    /// Nodes' messages to the root that were passed on.
    passed: usize,
    _directory: tempfile::TempDir,
}

fn start_cluster(now: Instant, place: usize, epoch: u32, joining: bool, nodes: Vec<KnownNode>) -> SmallCluster {
    let key = CLUSTERS[place];
    let start = ClusterStart {
        key,
        name: format!("c{place}"),
        joining,
        epoch,
        endpoint: endpoint(key),
        managers: vec![record(ROOT)],
        own: record(key),
        nodes,
        hash_key: HashKey(3, epoch.into()),
    };
    Cluster::new(now, start, leak(Server::new()), leak(Upstream::new()))
}

fn start_node(now: Instant, place: usize) -> Box<SmallNode> {
    let mut node = Box::new(SmallNode::new());
    let profile = Profile {
        key: NODES[place],
        name: "n".try_into().unwrap(),
        joining: false,
        epoch: 1,
        endpoint: Endpoint::UNKNOWN,
        subnet: None,
        lease_ms: 0,
        capacities: Capacities { services: 16, instances: 64, nodes: 16 },
    };
    let managers = [record(CLUSTERS[place])];
    let (registry, lifetimes) = (Registry::built_in(), Lifetimes::default());
    let (plan, hash_key) = (AddressPlan::DEFAULT, HashKey(5, 6));
    node.start(now, NodeConfig { plan, registry, lifetimes, hash_key, profile, managers: &managers }).unwrap();
    node
}

impl World {
    /// Two clusters with a node behind each, all of them members.
    fn new(seed: u64) -> Self {
        let now = Instant::from_millis(1_000);
        let directory = tempfile::tempdir().unwrap();
        let settings = RootSettings { quarantine: Duration::from_secs(1), ..RootSettings::default() };
        let path = directory.path().join(crate::root::FILE_NAME);
        let mut root = Root::open(&path, AddressPlan::DEFAULT, settings, record(ROOT), now, UNIX).unwrap();
        root.create_cluster_join_keys(now, &JOIN_KEYS, UNIX + 600).unwrap();
        for key in NODES {
            root.register_node_key(now, key).unwrap();
        }
        let mut server = Box::new(Server::new());
        server.start(now, 7, HashKey(1, 2));
        let clusters = [0, 1].map(|place| start_cluster(now, place, 9, true, Vec::new()));
        let nodes = [0, 1].map(|place| start_node(now, place));
        let (wire, cut) = (Vec::new(), BTreeSet::new());
        let mut world =
            Self { now, random: seed, root, server, clusters, nodes, wire, cut, passed: 0, _directory: directory };
        world.until("both nodes to be members", |world| {
            let nodes = world.root.nodes();
            world.nodes.iter().all(|node| node.client().membership().is_some())
                && NODES
                    .iter()
                    .all(|key| nodes.iter().any(|node| node.key == *key && node.alive && node.cluster.is_some()))
        });
        world
    }

    fn chance(&mut self, of: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % of
    }

    fn send(&mut self, from: NodeKey, to: NodeKey, payload: &[u8]) {
        if self.cut.contains(&from) || self.cut.contains(&to) {
            return;
        }
        let copies = match self.chance(100) {
            lost if lost < LOSS => 0,
            doubled if doubled < LOSS + 5 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let at = self.now.saturating_add(Duration::from_millis(5 + self.chance(20)));
            self.wire.push(Datagram { at, from, to, payload: payload.to_vec() });
        }
    }

    fn deliver(&mut self, datagram: Datagram) {
        let Datagram { from, to, mut payload, .. } = datagram;
        if self.cut.contains(&from) || self.cut.contains(&to) {
            return;
        }
        let sender = Sender { key: from, observed: endpoint(from) };
        if to == ROOT {
            self.passed += usize::from(matches!(ClusterMessage::decode(&payload), Ok(ClusterMessage::Pass { .. })));
            let mut out = [0; MESSAGE_MAX];
            if let Ok(Some(length)) = self.server.handle(self.now, sender, &payload, &mut self.root, &mut out) {
                self.send(ROOT, from, &out[..length]);
            }
        } else if let Some(place) = CLUSTERS.iter().zip(JOIN_KEYS).position(|(key, join)| *key == to || join == to) {
            self.clusters[place].handle(self.now, sender, &payload);
        } else if let Some(place) = NODES.iter().position(|key| *key == to) {
            let node = &mut self.nodes[place];
            if let Some(peer) = node.find_peer(&from) {
                node.handle_payload(self.now, peer, &mut payload);
            }
        }
    }

    fn step(&mut self) {
        self.now = self.now.saturating_add(STEP);
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.wire).into_iter().partition(|datagram| datagram.at <= now);
        self.wire = later;
        for datagram in due {
            self.deliver(datagram);
        }
        let mut out = [0; PENDING_LEN];
        self.root.expire(now, UNIX + now.as_millis() / 1_000);
        self.server.handle_timeout(now, &mut self.root);
        while let Some((to, length)) = self.server.poll_transmit(now, &mut self.root, &mut out) {
            self.send(ROOT, to, &out[..length]);
        }
        for place in 0..2 {
            self.clusters[place].handle_timeout(now);
            while let Some((to, length)) = self.clusters[place].poll_output(now, &mut out) {
                // Through which of its keys it speaks is the shell's to know.
                let joins = to == ROOT && self.clusters[place].is_joining();
                let from = if joins { JOIN_KEYS[place] } else { CLUSTERS[place] };
                self.send(from, to, &out[..length]);
            }
            self.nodes[place].handle_timeout(now);
            while let Some(output) = self.nodes[place].poll_output(now, &mut out) {
                if let Output::Peer { peer, len, .. } = output {
                    let to = self.nodes[place].peer(peer).unwrap().key;
                    self.send(NODES[place], to, &out[..len]);
                }
            }
        }
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = self.now.saturating_add(PATIENCE);
        while !holds(self) {
            assert!(self.now < end, "waited {PATIENCE:?} for {what}");
            self.step();
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.saturating_add(time);
        while self.now < end {
            self.step();
        }
    }

    fn create(&mut self, name: &str, v4: Option<IpAddr>) -> Result<(), ServiceError> {
        let v4 = v4.and_then(|v4| if let IpAddr::V4(v4) = v4 { Some(v4) } else { None });
        let block = PolicyBlock::new(2).unwrap();
        let addresses = vec![AddressRequest { ip_type: "RR".try_into().unwrap(), block, v4, v6: None }];
        let request = ServiceRequest { name: ServiceName::new(name).unwrap(), addresses, fixed: Vec::new() };
        self.root.create_service(self.now, request).map(drop)
    }

    fn attach(&mut self, place: usize, name: &str) -> InstanceId {
        let subnet = self.nodes[place].client().membership().unwrap().subnet;
        let namespace_ip = subnet.namespace_ip(1).unwrap().dual();
        let kind = AttachKind::New(ServiceName::new(name).unwrap());
        self.nodes[place].attach(self.now, kind, namespace_ip).unwrap();
        let mut attached = None;
        self.until("the attachment", |world| {
            if let Some((_, Outcome::Attached(attachment))) = world.nodes[place].poll_event() {
                attached = Some(attachment.id);
            }
            attached.is_some()
        });
        attached.unwrap()
    }

    fn knows(&self, place: usize, key: NodeKey) -> bool {
        self.nodes[place].find_peer(&key).is_some()
    }

    /// The second node asks for the first one, and learns of it.
    fn learn(&mut self) {
        self.until("the second node to know the first one", |world| {
            let now = world.now;
            world.nodes[1].unknown_key(now, NODES[0]);
            world.knows(1, NODES[0])
        });
    }
}

#[test]
fn what_one_site_runs_the_other_learns_and_unlearns() {
    for seed in 0..4 {
        let mut world = World::new(seed);
        world.create("a.b.c.d", None).unwrap();
        let instance = world.attach(0, "a.b.c.d");
        world.learn();
        assert!(world.clusters[1].follows(Subject::from(instance)), "seed {seed}");
        world.nodes[0].detach(world.now, instance).unwrap();
        world.until("the second node to have unlearned it", |world| {
            let table = &world.nodes[1].router().table;
            table
                .find_service(instance.service)
                .is_none_or(|service| table.find_instance(service, instance.number).is_none())
        });
        world.until("the root to list no instance", |world| world.root.services()[0].instances.is_empty());
    }
}

#[test]
fn an_address_is_not_free_before_the_nodes_behind_a_cluster_know_that_it_was_withdrawn() {
    let mut world = World::new(5);
    world.create("a.b.c.d", None).unwrap();
    let instance = world.attach(0, "a.b.c.d");
    let address = world.root.services()[0].instances[0].instance_ip.v4;
    world.learn();
    // The cluster learns of the end, its node does not.
    world.cut.insert(NODES[1]);
    world.nodes[0].detach(world.now, instance).unwrap();
    world.pass(Duration::from_secs(30));
    assert!(world.root.services()[0].instances.is_empty());
    let taken = world.create("e.f.g.h", Some(address.into()));
    assert!(matches!(taken, Err(ServiceError::AddressResting { .. })), "{taken:?}");
    world.cut.clear();
    world.until("the address to be free", |world| world.create("e.f.g.h", Some(address.into())).is_ok());
}

#[test]
fn a_cluster_that_has_forgotten_everything_is_whole_again_within_three_seconds() {
    let mut world = World::new(6);
    world.create("a.b.c.d", None).unwrap();
    let instance = world.attach(0, "a.b.c.d");
    world.learn();
    let nodes: Vec<KnownNode> = world.clusters[1].known_nodes().collect();
    assert_eq!(nodes.iter().map(|node| node.key).collect::<Vec<_>>(), [NODES[1]]);
    world.pass(Duration::from_secs(2));
    world.clusters[1] = start_cluster(world.now, 1, 10, false, nodes);
    let restarted = world.now;
    world.until("the new cluster to follow what its node follows", |world| {
        world.clusters[1].status(world.now).instances > 0 && world.clusters[1].follows(Subject::from(instance))
    });
    assert!(world.now.saturating_duration_since(restarted) < Duration::from_secs(3));
}

#[test]
fn renewals_of_a_node_that_says_nothing_new_stay_at_its_cluster() {
    let mut world = World::new(7);
    world.pass(Duration::from_secs(20));
    let before = world.passed;
    world.pass(Duration::from_secs(50));
    // Three a lease of 10 s and node; the root hears of each node once a minute.
    assert!(world.passed - before <= 4, "{}", world.passed - before);
    assert!(world.root.nodes().iter().all(|node| node.alive));
}
