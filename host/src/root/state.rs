//! The root's state in memory: the rows of the file with their indexes, and what is not worth storing (liveness, versions).
//!
//! It changes by [`State::apply`] only, one stored row at a time, and by liveness. So whatever is in memory is what a restart
//! finds.
//!
//! Versions of tables are not stored; a ceiling above all of them is. After a start every table is of the ceiling's version, and
//! clients from before get it whole. The ceiling is raised in large steps, inside of whatever operation first comes near it.

mod releases;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use acorn_core::addr::AddressPlan;
use acorn_core::ids::{Endpoint, InstanceId, NodeId, NodeKey, ServiceId, ServiceName};
use acorn_core::policy::Registry;
use acorn_core::sync::message::{Digest, Subject, Turn};
use acorn_core::time::Instant;

use super::addresses::Addresses;
use super::clock::{Clock, millis};
use super::keys::KeyEvent;
use super::requests::Requests;
use super::row::{
    ClusterRow, Counters, Edit, InstanceRow, JoinKeyRow, NodeRow, Resource, Row, RowKey, ServiceRow, WatchRow,
};
use super::settings::{LAST_SEEN_STEP, Limits, RootSettings};
use crate::removals::Removals;

#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) row: ServiceRow,
    pub(super) version: u32,
    pub(super) header_version: u32,
    pub(super) patchable_since: u32,
    pub(super) instances: BTreeMap<u32, Instance>,
    pub(super) removals: Removals,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Instance {
    pub(super) row: InstanceRow,
    /// The version in which something of it last changed.
    pub(super) changed_at: u32,
    /// When its node last said to this process that it runs it.
    pub(super) said: Option<Instant>,
    /// In thousandths, as its node last reported to this process.
    pub(super) load: u16,
    /// The last request that said how it is to be picked. Later than the stored one when it said nothing but the load.
    pub(super) turn: Turn,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) row: NodeRow,
    pub(super) alive: bool,
    /// Its last `Hello` to this process.
    pub(super) heard: Option<Instant>,
    /// Since when its `Hello`s count other instances on it than we do.
    pub(super) disagrees_since: Option<Instant>,
    /// When it is forgotten if it stays silent.
    pub(super) forget_at: Instant,
    pub(super) instances: BTreeSet<InstanceId>,
    /// Where it says to be, and when it said so last.
    pub(super) place: ([i16; 3], Option<Instant>),
}

#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) row: ClusterRow,
    pub(super) alive: bool,
    /// Its last `Hello` to this process.
    pub(super) heard: Option<Instant>,
    /// When it is forgotten if it stays silent.
    pub(super) forget_at: Instant,
}

/// A resource without an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// Waits until all clients have acknowledged `version` of the service, at most until `until`.
    Withdrawn {
        service: ServiceId,
        version: u32,
        until: Instant,
        since_unix_ms: u64,
        /// The roots whose clients have, where there are several.
        acknowledged: BTreeSet<NodeKey>,
    },
    /// Free from `until` on.
    Quarantine { until: Instant },
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) counters: Counters,
    pub(super) services: BTreeMap<ServiceId, Service>,
    pub(super) names: BTreeMap<ServiceName, ServiceId>,
    /// The hidden services of the nodes' hosts.
    pub(super) hosts: HashMap<NodeId, ServiceId>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) node_keys: HashMap<NodeKey, NodeId>,
    pub(super) clusters: BTreeMap<NodeId, Cluster>,
    pub(super) cluster_keys: HashMap<NodeKey, NodeId>,
    pub(super) join_keys: BTreeMap<NodeKey, JoinKeyRow>,
    /// The join keys that admitted a node, by that node's key.
    pub(super) used_join_keys: HashMap<NodeKey, BTreeSet<NodeKey>>,
    pub(super) registered_keys: BTreeSet<NodeKey>,
    pub(super) addresses: Addresses,
    pub(super) requests: Requests,
    pub(super) watches: BTreeMap<NodeId, WatchRow>,
    pub(super) releases: BTreeMap<Resource, Release>,
    /// The withdrawn resources by service.
    pub(super) withdrawn: BTreeMap<ServiceId, BTreeSet<Resource>>,
    /// Which instance is where: by node and IPv4 namespace IP, which says the IPv6 one too.
    pub(super) places: HashMap<(NodeId, Ipv4Addr), InstanceId>,
    pub(super) instance_count: usize,
    pub(super) changed: BTreeSet<ServiceId>,
    pub(super) key_events: VecDeque<KeyEvent>,
    /// The last versions of removed services that still have withdrawn addresses.
    gone: BTreeMap<ServiceId, u32>,
    /// No table is of a higher version.
    pub(super) highest_version: u32,
    removals_max: usize,
    version_step: u32,
    retention: Duration,
    quarantine: Duration,
}

impl State {
    pub(super) fn new(plan: AddressPlan, settings: &RootSettings, limits: &Limits) -> Self {
        Self {
            counters: Counters::default(),
            services: BTreeMap::new(),
            names: BTreeMap::new(),
            hosts: HashMap::new(),
            nodes: BTreeMap::new(),
            node_keys: HashMap::new(),
            clusters: BTreeMap::new(),
            cluster_keys: HashMap::new(),
            join_keys: BTreeMap::new(),
            used_join_keys: HashMap::new(),
            registered_keys: BTreeSet::new(),
            addresses: Addresses::new(plan),
            requests: Requests::default(),
            watches: BTreeMap::new(),
            releases: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            places: HashMap::new(),
            instance_count: 0,
            changed: BTreeSet::new(),
            key_events: VecDeque::new(),
            gone: BTreeMap::new(),
            highest_version: 0,
            removals_max: limits.removals,
            version_step: limits.version_step,
            retention: settings.retention,
            quarantine: settings.quarantine,
        }
    }

    pub(super) fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.services.get(&id.service)?.instances.get(&id.number)
    }

    /// The instances on a node as its `Hello` counts them, the host's own included.
    pub(super) fn digest(&self, node: NodeId) -> Digest {
        let mut digest = Digest::default();
        for id in self.nodes.get(&node).iter().flat_map(|node| &node.instances) {
            digest.add_instance(*id);
        }
        digest
    }

    /// Whether `subject` exists.
    pub(super) fn has(&self, subject: Subject) -> bool {
        let Some(service) = self.services.get(&subject.service) else {
            return false;
        };
        subject.instance.is_none_or(|number| service.instances.contains_key(&number))
    }

    /// An instance on the node with this key, through whose table the node can be followed: its host's own, or else the first.
    pub(super) fn any_instance_of(&self, key: &NodeKey) -> Option<Subject> {
        let id = self.node_keys.get(key)?;
        let instances = &self.nodes.get(id)?.instances;
        let host = self.hosts.get(id);
        let own = instances.iter().find(|instance| Some(&instance.service) == host);
        own.or_else(|| instances.first()).copied().map(Subject::from)
    }

    /// A ceiling that `edits` more changes stay below, when the present one is too low for them.
    pub(super) fn next_ceiling(&self, edits: usize) -> Option<u32> {
        let needed = self.highest_version.saturating_add(u32::try_from(edits).unwrap_or(u32::MAX));
        (needed > self.counters.version_ceiling).then(|| needed.saturating_add(self.version_step))
    }

    /// Takes in what has been stored. Each edit raises the version of a table by at most one.
    pub(super) fn apply(&mut self, now: Instant, clock: &Clock, edit: Edit) {
        match edit {
            Edit::Put(Row::Counters(counters)) => self.counters = counters,
            Edit::Put(Row::Node(id, row)) => self.put_node(now, clock, id, row),
            Edit::Put(Row::Cluster(id, row)) => self.put_cluster(now, clock, id, row),
            Edit::Put(Row::Service(id, row)) => self.put_service(id, row),
            Edit::Put(Row::Instance(id, row)) => self.put_instance(id, row),
            Edit::Put(Row::Release(resource, row)) => self.put_release(now, clock, resource, row),
            Edit::Put(Row::JoinKey(key, row)) => self.put_join_key(key, row),
            Edit::Put(Row::RegisteredKey(key)) => {
                if self.registered_keys.insert(key) && !self.node_keys.contains_key(&key) {
                    self.key_events.push_back(KeyEvent::Add { key, endpoint: Endpoint::UNKNOWN, join: false });
                }
            }
            Edit::Delete(RowKey::Node(id)) => self.delete_node(id),
            Edit::Delete(RowKey::Cluster(id)) => self.delete_cluster(id),
            Edit::Delete(RowKey::Service(id)) => self.delete_service(id),
            Edit::Delete(RowKey::Instance(id)) => self.delete_instance(id),
            Edit::Delete(RowKey::Release(resource)) => {
                self.unindex_release(resource);
                self.addresses.forget(resource);
            }
            Edit::Delete(RowKey::JoinKey(key)) => self.delete_join_key(key),
            Edit::Put(Row::Request(id, row)) => self.requests.put(id, row),
            Edit::Put(Row::Watch(id, row)) => {
                self.watches.insert(id, row);
            }
            Edit::Delete(RowKey::Watch(id)) => {
                self.watches.remove(&id);
            }
            Edit::Delete(RowKey::Request(id)) => self.requests.delete(id),
            Edit::Delete(RowKey::Counters | RowKey::RegisteredKey(_)) => {}
        }
    }

    /// Ends the taking in of a file: all tables are of the version that no table was above, and nothing has happened yet.
    pub(super) fn begin(&mut self) {
        let version = self.counters.version_ceiling.max(self.highest_version).max(1);
        self.highest_version = version;
        for service in self.services.values_mut() {
            service.version = version;
            service.header_version = version;
            service.patchable_since = version;
            for instance in service.instances.values_mut() {
                instance.changed_at = version;
            }
        }
        for release in self.releases.values_mut() {
            if let Release::Withdrawn { version: withdrawn, .. } = release {
                *withdrawn = version;
            }
        }
        self.key_events.clear();
        // A withdrawal whose acknowledgement was not recorded must be reported again.
        self.changed = self.withdrawn.keys().copied().collect();
    }

    /// A node is heard from, and has said which instances run on it.
    pub(super) fn heard(&mut self, now: Instant, id: NodeId, instances: Digest) {
        let disagrees = self.digest(id) != instances;
        if let Some(node) = self.nodes.get_mut(&id) {
            node.heard = Some(now);
            node.forget_at = now.saturating_add(self.retention);
            node.disagrees_since = disagrees.then(|| node.disagrees_since.unwrap_or(now));
        }
        self.set_alive(id, true);
    }

    /// A node has said that it runs an instance.
    pub(super) fn said(&mut self, now: Instant, id: InstanceId) {
        if let Some(instance) = self.instance_mut(id) {
            instance.said = Some(now);
        }
    }

    /// A node's word on how an instance is to be picked has had its effect.
    pub(super) fn adjusted(&mut self, id: InstanceId, turn: Turn) {
        if let Some(instance) = self.instance_mut(id) {
            instance.turn = turn;
        }
    }

    pub(super) fn set_load(&mut self, id: InstanceId, load: u16) {
        let Some(version) = self.touch(id.service) else {
            return;
        };
        if let Some(instance) = self.instance_mut(id) {
            instance.load = load;
            instance.changed_at = version;
        }
    }

    pub(super) fn set_alive(&mut self, id: NodeId, alive: bool) {
        match self.nodes.get_mut(&id) {
            Some(node) if node.alive != alive => node.alive = alive,
            _ => return,
        }
        self.touch_node(id, |_| true);
    }

    /// A node is elsewhere in the network: the tables say so whose clients go by it.
    pub(super) fn set_place(&mut self, now: Instant, id: NodeId, place: [i16; 3]) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.place = (place, Some(now));
            self.touch_node(id, Self::goes_by_distance);
        }
    }

    fn put_node(&mut self, now: Instant, clock: &Clock, id: NodeId, row: NodeRow) {
        let Some(node) = self.nodes.get_mut(&id) else {
            let forget_at = self.forget_at(now, clock, row.last_seen_unix);
            self.node_keys.insert(row.key, id);
            self.addresses.take_subnet(row.subnet);
            self.unindex_release(Resource::Subnet(row.subnet.v4().base()));
            self.key_events.push_back(KeyEvent::Add { key: row.key, endpoint: row.spoken_at(), join: false });
            let node = Node {
                alive: row.confirmed,
                row,
                heard: None,
                disagrees_since: None,
                forget_at,
                instances: BTreeSet::new(),
                place: ([0; 3], None),
            };
            self.nodes.insert(id, node);
            return;
        };
        let before = std::mem::replace(&mut node.row, row.clone());
        if before.subnet != row.subnet {
            self.addresses.take_subnet(row.subnet);
            self.unindex_release(Resource::Subnet(row.subnet.v4().base()));
        }
        if before.spoken_at() != row.spoken_at() {
            self.key_events.push_back(KeyEvent::Add { key: row.key, endpoint: row.spoken_at(), join: false });
        }
        if before.endpoint != row.endpoint || before.epoch != row.epoch {
            self.touch_node(id, |_| true);
        }
    }

    fn delete_node(&mut self, id: NodeId) {
        let Some(node) = self.nodes.remove(&id) else {
            return;
        };
        self.node_keys.remove(&node.row.key);
        if !self.registered_keys.contains(&node.row.key) {
            self.key_events.push_back(KeyEvent::Remove { key: node.row.key });
        }
    }

    fn put_cluster(&mut self, now: Instant, clock: &Clock, id: NodeId, row: ClusterRow) {
        if let Some(cluster) = self.clusters.get_mut(&id) {
            let before = std::mem::replace(&mut cluster.row, row);
            if before.endpoint != cluster.row.endpoint {
                let (key, endpoint) = (cluster.row.key, cluster.row.endpoint);
                self.key_events.push_back(KeyEvent::Add { key, endpoint, join: false });
            }
            return;
        }
        self.cluster_keys.insert(row.key, id);
        self.key_events.push_back(KeyEvent::Add { key: row.key, endpoint: row.endpoint, join: false });
        let forget_at = self.forget_at(now, clock, row.last_seen_unix);
        self.clusters.insert(id, Cluster { alive: row.confirmed, row, heard: None, forget_at });
    }

    fn delete_cluster(&mut self, id: NodeId) {
        if let Some(cluster) = self.clusters.remove(&id) {
            self.cluster_keys.remove(&cluster.row.key);
            self.key_events.push_back(KeyEvent::Remove { key: cluster.row.key });
        }
    }

    /// When somebody who was last seen then is forgotten.
    fn forget_at(&self, now: Instant, clock: &Clock, last_seen_unix: u64) -> Instant {
        let silent = clock.unix_ms(now).saturating_sub(last_seen_unix.saturating_mul(1_000));
        let left = millis(self.retention.saturating_add(LAST_SEEN_STEP)).saturating_sub(silent);
        now.saturating_add(Duration::from_millis(left))
    }

    fn put_service(&mut self, id: ServiceId, row: ServiceRow) {
        for ip in &row.ips {
            for address in [ip.address.v4.into(), ip.address.v6.into()] {
                self.addresses.take_address(address, Subject::whole(id));
                self.unindex_release(Resource::Address(address));
            }
        }
        for fixed in &row.fixed {
            self.addresses.take_address(fixed.address, Subject { service: id, instance: Some(fixed.number) });
            self.unindex_release(Resource::Address(fixed.address));
        }
        match row.host {
            Some(node) => {
                self.hosts.insert(node, id);
            }
            None => {
                self.names.insert(row.name.clone(), id);
            }
        }
        let service = Service {
            row,
            version: 1,
            header_version: 1,
            patchable_since: 1,
            instances: BTreeMap::new(),
            removals: Removals::default(),
        };
        self.services.insert(id, service);
        self.highest_version = self.highest_version.max(1);
        self.changed.insert(id);
    }

    fn delete_service(&mut self, id: ServiceId) {
        let Some(service) = self.services.remove(&id) else {
            return;
        };
        match service.row.host {
            // It has no addresses of its own; those of its instance know their version.
            Some(node) => {
                self.hosts.remove(&node);
            }
            None => {
                self.names.remove(&service.row.name);
                self.gone.insert(id, service.version.saturating_add(1));
            }
        }
        self.changed.insert(id);
    }

    fn put_instance(&mut self, id: InstanceId, row: InstanceRow) {
        let Some(version) = self.touch(id.service) else {
            return;
        };
        let Some(service) = self.services.get_mut(&id.service) else {
            return;
        };
        service.removals.end(id.number);
        let mut instance = Instance { row, changed_at: version, said: None, load: 0, turn: row.settings.turn };
        // What its node has said of it is not forgotten, but what another one has is.
        if let Some(before) = service.instances.get(&id.number).filter(|before| before.row.node == row.node) {
            instance = Instance { row, changed_at: version, ..*before };
        }
        match service.instances.insert(id.number, instance) {
            Some(before) => self.unplace(id, &before.row),
            None => {
                self.instance_count += 1;
                for address in [row.instance_ip.v4.into(), row.instance_ip.v6.into()] {
                    self.addresses.take_address(address, Subject::from(id));
                    self.unindex_release(Resource::Address(address));
                }
            }
        }
        self.places.insert((row.node, row.namespace_ip.v4), id);
        if let Some(node) = self.nodes.get_mut(&row.node) {
            node.instances.insert(id);
        }
    }

    fn delete_instance(&mut self, id: InstanceId) {
        let Some(version) = self.touch(id.service) else {
            return;
        };
        let Some(service) = self.services.get_mut(&id.service) else {
            return;
        };
        let Some(instance) = service.instances.remove(&id.number) else {
            return;
        };
        if let Some(forgotten) = service.removals.begin(id.number, version, self.removals_max) {
            service.patchable_since = service.patchable_since.max(forgotten);
        }
        self.instance_count -= 1;
        self.unplace(id, &instance.row);
    }

    fn unplace(&mut self, id: InstanceId, row: &InstanceRow) {
        let place = (row.node, row.namespace_ip.v4);
        if self.places.get(&place) == Some(&id) {
            self.places.remove(&place);
        }
        if let Some(node) = self.nodes.get_mut(&row.node) {
            node.instances.remove(&id);
        }
    }

    fn put_join_key(&mut self, key: NodeKey, row: JoinKeyRow) {
        if let Some(node) = row.used_by {
            self.used_join_keys.entry(node).or_default().insert(key);
        }
        if self.join_keys.insert(key, row).is_none() {
            self.key_events.push_back(KeyEvent::Add { key, endpoint: Endpoint::UNKNOWN, join: true });
        }
    }

    fn delete_join_key(&mut self, key: NodeKey) {
        let Some(row) = self.join_keys.remove(&key) else {
            return;
        };
        self.key_events.push_back(KeyEvent::Remove { key });
        if let Some(node) = row.used_by
            && let Some(keys) = self.used_join_keys.get_mut(&node)
        {
            keys.remove(&key);
            if keys.is_empty() {
                self.used_join_keys.remove(&node);
            }
        }
    }

    fn instance_mut(&mut self, id: InstanceId) -> Option<&mut Instance> {
        self.services.get_mut(&id.service)?.instances.get_mut(&id.number)
    }

    /// Raises the version of a table.
    fn touch(&mut self, id: ServiceId) -> Option<u32> {
        let service = self.services.get_mut(&id)?;
        service.version = service.version.saturating_add(1);
        self.highest_version = self.highest_version.max(service.version);
        self.changed.insert(id);
        Some(service.version)
    }

    /// Raises the version of the tables that name a node.
    /// Whether an address of a service is under a policy that goes by distance, as far as is known here: nodes may have others.
    fn goes_by_distance(service: &Service) -> bool {
        let registry = Registry::built_in();
        service
            .row
            .ips
            .iter()
            .any(|ip| registry.find(&ip.ip_type).is_none_or(|at| registry.policy(at).needs_distance()))
    }

    /// The tables of those services that run on a node and are `concerned` change.
    fn touch_node(&mut self, id: NodeId, concerned: impl Fn(&Service) -> bool) {
        let Some(node) = self.nodes.get(&id) else {
            return;
        };
        let instances: Vec<InstanceId> = node.instances.iter().copied().collect();
        for together in instances.chunk_by(|a, b| a.service == b.service) {
            if !together.first().and_then(|id| self.services.get(&id.service)).is_some_and(&concerned) {
                continue;
            }
            let Some(version) = together.first().and_then(|id| self.touch(id.service)) else {
                continue;
            };
            for id in together {
                if let Some(instance) = self.instance_mut(*id) {
                    instance.changed_at = version;
                }
            }
        }
    }
}
