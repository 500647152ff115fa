//! What a node knows of services, instances and nodes, in fixed-capacity storage.
//!
//! The table answers two questions at the speed of packets: what is this address, and which instances has this service.
//! It changes only through the pages that the sync client applies.

mod list;
mod nodes;
mod pick;
mod rows;

use core::net::IpAddr;

pub use rows::{Instance, Node, Service, ServiceIp};

use crate::addr::Dual;
pub(crate) use crate::addr::key_of;
use crate::coordinate::Coordinate;
use crate::ids::{NodeKey, ServiceId};
use crate::index::{HashIndex, HashKey};
use crate::link::Link;
use crate::policy::{Memory, Registry};
use crate::slots::{RowRef, Slots};
use crate::sync::message::{InstanceRecord, PAGE_RECORDS, SERVICE_IPS_MAX, ServiceHeader};

/// Both families of every service IP of a service are keys of its row.
const SERVICE_KEYS: usize = SERVICE_IPS_MAX.saturating_mul(2);

/// How many service IPs' memories are kept beyond their table entries at most: all of them are looked through for a service that is new.
const MEMORIES_MAX: usize = 64;

/// How many nodes can be taken out before that is told: as many as one page can bring.
const GONE: usize = PAGE_RECORDS;

/// What a service IP remembered when its table entry went.
#[derive(Clone, Copy)]
struct Remembered {
    address: Dual,
    memory: Memory,
}

/// A kind of row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Services.
    Services,
    /// Instances.
    Instances,
    /// Nodes.
    Nodes,
    /// Instances that are attached to this node.
    Attachments,
}

/// A table is full: the kind of row and how many fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull {
    /// The kind of row.
    pub kind: Kind,
    /// How many fit.
    pub limit: usize,
}

/// What owns an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A service IP: the service, and which of its addresses.
    Service(usize, usize),
    /// An instance IP.
    Instance(usize),
    /// A namespace IP.
    Namespace(usize),
}

/// Services, instances and nodes: at most `S`, `I` and `N` of them. All zero when new.
pub struct Table<const S: usize, const I: usize, const N: usize> {
    hash: HashKey,
    services: [Service; S],
    service_slots: Slots<S>,
    services_by_id: HashIndex<S, 1>,
    services_by_ip: HashIndex<S, SERVICE_KEYS>,
    instances: [Instance; I],
    instance_slots: Slots<I>,
    /// Keys: instance IPv4 and IPv6, namespace IPv4 and IPv6.
    instances_by_ip: HashIndex<I, 4>,
    /// Key: the service's row and the instance's number.
    instances_by_number: HashIndex<I, 1>,
    nodes: [Node; N],
    node_slots: Slots<N>,
    nodes_by_key: HashIndex<N, 1>,
    /// Some node has news.
    node_news: bool,
    /// Some node may have become idle.
    node_idle: bool,
    /// Some instance may have got its first flow or lost its last one.
    use_news: bool,
    /// Nodes that were taken out and not told yet.
    nodes_gone: heapless::Deque<(RowRef, NodeKey), GONE>,
    /// Memories of service IPs that are not in the table any more, the latest at `next_memory - 1`.
    memories: heapless::Vec<Remembered, S>,
    next_memory: usize,
    /// Where this node is.
    coordinate: Coordinate,
    /// Service IPs under a policy that this node does not know.
    unknown_policies: u64,
}

impl<const S: usize, const I: usize, const N: usize> Table<S, I, N> {
    /// How many service IPs' memories are kept beyond their table entries.
    const MEMORIES: usize = if S < MEMORIES_MAX { S } else { MEMORIES_MAX };

    /// An empty table.
    pub const fn new() -> Self {
        Self {
            hash: HashKey(0, 0),
            services: [const { Service::EMPTY }; S],
            service_slots: Slots::new(),
            services_by_id: HashIndex::new(),
            services_by_ip: HashIndex::new(),
            instances: [const { Instance::EMPTY }; I],
            instance_slots: Slots::new(),
            instances_by_ip: HashIndex::new(),
            instances_by_number: HashIndex::new(),
            nodes: [const { Node::EMPTY }; N],
            node_slots: Slots::new(),
            nodes_by_key: HashIndex::new(),
            node_news: false,
            node_idle: false,
            use_news: false,
            nodes_gone: heapless::Deque::new(),
            memories: heapless::Vec::new(),
            next_memory: 0,
            coordinate: Coordinate::UNKNOWN,
            unknown_policies: 0,
        }
    }

    /// Sets the secret of the hashes. Only on an empty table.
    pub(crate) fn set_hash_key(&mut self, key: HashKey) {
        self.hash = key;
    }

    /// What owns this address, if the table knows.
    #[inline]
    pub fn owner(&self, address: IpAddr) -> Option<Owner> {
        let key = key_of(address);
        let hash = self.hash.hash(&key);
        if let Some((slot, which)) =
            self.services_by_ip.find(hash, |slot, which| self.service_key(slot, which) == Some(key))
        {
            return Some(Owner::Service(slot, which >> 1));
        }
        let (slot, which) =
            self.instances_by_ip.find(hash, |slot, which| self.instance_key(slot, which) == Some(key))?;
        Some(if which < 2 { Owner::Instance(slot) } else { Owner::Namespace(slot) })
    }

    /// The service in a row.
    pub fn service(&self, slot: usize) -> Option<&Service> {
        if self.service_slots.is_used(slot) { self.services.get(slot) } else { None }
    }

    /// The instance in a row.
    #[inline]
    pub fn instance(&self, slot: usize) -> Option<&Instance> {
        if self.instance_slots.is_used(slot) { self.instances.get(slot) } else { None }
    }

    /// The node in a row.
    pub fn node(&self, slot: usize) -> Option<&Node> {
        if self.node_slots.is_used(slot) { self.nodes.get(slot) } else { None }
    }

    /// A reference to the instance in a row, to notice later that it went or moved.
    pub fn instance_ref(&self, slot: usize) -> Option<RowRef> {
        self.instance_slots.reference(slot)
    }

    /// Whether an instance is still what and where it was when the reference was made.
    #[inline]
    pub fn is_current(&self, instance: RowRef) -> bool {
        self.instance_slots.is_current(instance)
    }

    /// A reference to the node in a row.
    pub fn node_ref(&self, slot: usize) -> Option<RowRef> {
        self.node_slots.reference(slot)
    }

    /// The row of a service.
    pub fn find_service(&self, id: ServiceId) -> Option<usize> {
        let hash = self.hash.hash(&id.0.to_le_bytes());
        self.services_by_id
            .find(hash, |slot, _| self.services.get(slot).is_some_and(|s| s.id == id))
            .map(|(slot, _)| slot)
    }

    /// The row of the instance with this number.
    pub fn find_instance(&self, service: usize, number: u32) -> Option<usize> {
        self.instances_by_number
            .find(self.number_hash(service, number), |slot, _| {
                self.instances.get(slot).is_some_and(|i| i.service == service && i.number == number)
            })
            .map(|(slot, _)| slot)
    }

    /// The row of the node with this key.
    pub fn find_node(&self, key: &NodeKey) -> Option<usize> {
        let hash = self.hash.hash(&key.0);
        self.nodes_by_key
            .find(hash, |slot, _| self.nodes.get(slot).is_some_and(|n| n.key == *key))
            .map(|(slot, _)| slot)
    }

    /// The rows of all services.
    pub fn services(&self) -> impl Iterator<Item = usize> + '_ {
        self.service_slots.iter()
    }

    /// The rows of a service's instances, by number.
    pub fn instances_of(&self, service: usize) -> impl Iterator<Item = usize> + '_ {
        let mut at = self.service(service).map_or(0, |s| s.first);
        core::iter::from_fn(move || {
            let slot = (at as usize).checked_sub(1)?;
            at = self.instances.get(slot)?.next;
            Some(slot)
        })
    }

    /// The rows of all nodes.
    pub fn nodes(&self) -> impl Iterator<Item = usize> + '_ {
        self.node_slots.iter()
    }

    /// Service IPs that came with a policy that this node does not know and that are served round robin instead.
    pub fn unknown_policies(&self) -> u64 {
        self.unknown_policies
    }

    /// Services, instances and nodes in the table.
    pub fn len(&self) -> (usize, usize, usize) {
        (self.service_slots.len(), self.instance_slots.len(), self.node_slots.len())
    }

    /// Whether there is nothing in the table.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0, 0)
    }

    /// Finds or makes the row of a service.
    ///
    /// # Errors
    /// [`TableFull`] when there is no room for another service.
    pub fn ensure_service(&mut self, id: ServiceId) -> Result<usize, TableFull> {
        if let Some(slot) = self.find_service(id) {
            return Ok(slot);
        }
        let slot = self.service_slots.take().ok_or(TableFull { kind: Kind::Services, limit: S })?.row();
        if let Some(service) = self.services.get_mut(slot) {
            *service = Service { id, ..Service::EMPTY };
        }
        self.services_by_id.insert(self.hash.hash(&id.0.to_le_bytes()), slot, 0);
        Ok(slot)
    }

    /// Sets a service's name and addresses. Addresses that stay keep their memory.
    pub fn set_header(&mut self, slot: usize, header: &ServiceHeader, registry: &Registry) {
        self.remember(slot, |address| {
            let mut staying = header.service_ips.iter();
            !staying.any(|record| record.address == address)
        });
        self.unindex_service_ips(slot);
        let Some(service) = self.services.get_mut(slot) else {
            return;
        };
        let old = core::mem::take(&mut service.ips);
        service.name = header.name.clone();
        for record in &header.service_ips {
            let known = registry.find(&record.ip_type);
            if known.is_none() {
                self.unknown_policies = self.unknown_policies.saturating_add(1);
            }
            let kept = old.iter().find(|ip| ip.address == record.address).map(|ip| ip.memory);
            let remembered = || self.memories.iter().find(|m| m.address == record.address).map(|m| m.memory);
            let memory = kept.or_else(remembered).unwrap_or_default();
            // The record list has the same capacity as the row: nothing can be left over.
            let _ = service.ips.push(ServiceIp {
                policy: known.unwrap_or(Registry::ROUND_ROBIN),
                address: record.address,
                memory,
                next_row: 0,
            });
        }
        for which in 0..SERVICE_KEYS {
            if let Some(key) = self.service_key(slot, which) {
                self.services_by_ip.insert(self.hash.hash(&key), slot, which);
            }
        }
    }

    /// Puts an instance in, or changes it. References to it become stale when its place or addresses changed. Returns its row.
    ///
    /// # Errors
    /// [`TableFull`] when there is no room for another instance.
    pub fn put_instance(&mut self, service: usize, record: &InstanceRecord, node: usize) -> Result<usize, TableFull> {
        if let Some(slot) = self.find_instance(service, record.number) {
            let same = self.instance(slot).is_some_and(|i| {
                i.node == node && i.instance_ip == record.instance_ip && i.namespace_ip == record.namespace_ip
            });
            if !same {
                self.unindex_instance(slot);
                self.release_node_of(slot);
                self.instance_slots.renew(slot);
                // It begins without flows.
                self.use_news = true;
            }
            if let Some(instance) = self.instances.get_mut(slot) {
                instance.set(record, node);
            }
            if !same {
                self.index_instance(slot);
                self.hold_node(node);
            }
            return Ok(slot);
        }
        let slot = self.instance_slots.take().ok_or(TableFull { kind: Kind::Instances, limit: I })?.row();
        if let Some(instance) = self.instances.get_mut(slot) {
            *instance = Instance { service, ..Instance::EMPTY };
            instance.set(record, node);
        }
        self.link(service, slot);
        self.index_instance(slot);
        self.hold_node(node);
        Ok(slot)
    }

    /// Takes an instance out.
    pub fn remove_instance(&mut self, slot: usize) {
        if !self.instance_slots.is_used(slot) {
            return;
        }
        self.unindex_instance(slot);
        self.release_node_of(slot);
        self.unlink(slot);
        self.instance_slots.give_back(slot);
        self.use_news = true;
    }

    /// Takes a service out, with all its instances.
    pub fn remove_service(&mut self, slot: usize) {
        loop {
            let first = self.instances_of(slot).next();
            let Some(instance) = first else { break };
            self.remove_instance(instance);
        }
        let Some(id) = self.service(slot).map(|s| s.id) else {
            return;
        };
        self.remember(slot, |_| true);
        self.unindex_service_ips(slot);
        self.services_by_id.remove(self.hash.hash(&id.0.to_le_bytes()), slot, 0);
        self.service_slots.give_back(slot);
    }

    /// Marks that the service's table is whole: it may be picked from.
    pub fn set_complete(&mut self, slot: usize, complete: bool) {
        if let Some(service) = self.services.get_mut(slot) {
            service.complete = complete;
        }
    }

    /// Counts a flow to an instance in (`true`) or out.
    pub(crate) fn count_flow(&mut self, instance: RowRef, begins: bool) {
        if !self.instance_slots.is_current(instance) {
            return;
        }
        let Some(row) = self.instances.get_mut(instance.row()) else {
            return;
        };
        row.flows = if begins { row.flows.saturating_add(1) } else { row.flows.saturating_sub(1) };
        self.use_news |= row.flows == u32::from(begins);
    }

    /// Whether some instance may have got its first flow or lost its last one since [`Self::take_use_news`].
    pub(crate) fn has_use_news(&self) -> bool {
        self.use_news
    }

    /// The same, and the news is known then.
    pub(crate) fn take_use_news(&mut self) -> bool {
        core::mem::take(&mut self.use_news)
    }

    /// The flows to all instances of a service.
    pub(crate) fn flows_of(&self, service: usize) -> u64 {
        self.instances_of(service).filter_map(|slot| self.instance(slot)).map(|i| u64::from(i.flows)).sum()
    }

    fn number_hash(&self, service: usize, number: u32) -> u64 {
        self.hash.hash(&((service as u128) << 32 | u128::from(number)).to_le_bytes())
    }

    fn service_key(&self, slot: usize, which: usize) -> Option<[u8; 16]> {
        let address = self.services.get(slot)?.ips.get(which >> 1)?.address;
        dual_key(address, which & 1)
    }

    fn instance_key(&self, slot: usize, which: usize) -> Option<[u8; 16]> {
        let instance = self.instances.get(slot)?;
        dual_key(if which < 2 { instance.instance_ip } else { instance.namespace_ip }, which & 1)
    }

    fn unindex_service_ips(&mut self, slot: usize) {
        for which in 0..SERVICE_KEYS {
            if let Some(key) = self.service_key(slot, which) {
                self.services_by_ip.remove(self.hash.hash(&key), slot, which);
            }
        }
    }

    fn index_instance(&mut self, slot: usize) {
        for which in 0..4 {
            if let Some(key) = self.instance_key(slot, which) {
                self.instances_by_ip.insert(self.hash.hash(&key), slot, which);
            }
        }
    }

    fn unindex_instance(&mut self, slot: usize) {
        for which in 0..4 {
            if let Some(key) = self.instance_key(slot, which) {
                self.instances_by_ip.remove(self.hash.hash(&key), slot, which);
            }
        }
    }

    /// An address that goes and comes back goes on where it stood.
    fn remember(&mut self, slot: usize, goes: impl Fn(Dual) -> bool) {
        let Some(service) = self.services.get(slot) else {
            return;
        };
        for ip in service.ips.iter().filter(|ip| goes(ip.address) && ip.memory != Memory::NEW) {
            let remembered = Remembered { address: ip.address, memory: ip.memory };
            let known = self.memories.iter().position(|m| m.address == ip.address);
            let place = known.unwrap_or(self.next_memory);
            if known.is_none() {
                self.next_memory = self.next_memory.saturating_add(1).checked_rem(Self::MEMORIES).unwrap_or(0);
            }
            if let Some(place) = self.memories.get_mut(place) {
                *place = remembered;
            } else {
                // There is room: the places are taken in turn.
                let _ = self.memories.push(remembered);
            }
        }
    }
}

impl<const S: usize, const I: usize, const N: usize> Default for Table<S, I, N> {
    fn default() -> Self {
        Self::new()
    }
}

fn dual_key(address: Dual, family: usize) -> Option<[u8; 16]> {
    match family {
        0 => Some(key_of(IpAddr::V4(address.v4))),
        1 => Some(key_of(IpAddr::V6(address.v6))),
        _ => None,
    }
}

/// A row as a list entry: its number plus one, because 0 is the end.
fn entry(slot: usize) -> Link {
    (slot as Link).saturating_add(1)
}

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
