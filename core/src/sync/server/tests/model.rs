//! A directory in maps, and the history that it needs to tell whether an address was let go of too early.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::{Dual, Subnet4, Subnet6, WorkerSubnet};
use crate::ids::{InstanceId, NodeId, NodeKey, ServiceId, ServiceName};
use crate::sync::directory::{Admission, Change, Denied, Directory, Lookup, Sender};
use crate::sync::message::*;
use crate::time::Instant;

#[derive(Clone, Debug, Default)]
pub(super) struct Service {
    pub(super) header: ServiceHeader,
    pub(super) header_version: u32,
    pub(super) version: u32,
    pub(super) instances: BTreeMap<u32, (InstanceRecord, u32)>,
    removed: BTreeMap<u32, u32>,
    patchable_since: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) record: NodeRecord,
    pub(super) alive: bool,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) services: BTreeMap<ServiceId, Service>,
    pub(super) members: BTreeMap<NodeId, Member>,
    pub(super) join_keys: BTreeSet<NodeKey>,
    pub(super) refuse_hello: Option<Refusal>,
    /// What `acknowledged` said last of each service.
    pub(super) acknowledged: BTreeMap<ServiceId, u32>,
    /// Instance IPs that were withdrawn: of which service, in which version.
    pub(super) withdrawn: BTreeMap<Dual, (ServiceId, u32)>,
    pub(super) settled: Vec<(NodeId, u32)>,
    pub(super) alive_log: Vec<(Instant, NodeId, bool)>,
    attached_in: BTreeMap<InstanceId, (NodeId, u32)>,
    /// The last adjustment of each instance by the node that has it.
    turns: BTreeMap<InstanceId, Turn>,
    pub(super) changed: VecDeque<ServiceId>,
    next_service: u32,
    next_address: u32,
}

pub(super) fn pair(n: u32) -> Dual {
    Dual::new(Ipv4Addr::from(0x0a1e_0000 | n), Ipv6Addr::from(0xfdff_u128 << 112 | u128::from(n)))
}

pub(super) fn key(n: u8) -> NodeKey {
    NodeKey([n; 32])
}

pub(super) fn subnet() -> WorkerSubnet {
    let v4 = Subnet4::new(Ipv4Addr::new(10, 18, 30, 64), 26).unwrap();
    let v6 = Subnet6::new("fc00::100".parse().unwrap(), 120).unwrap();
    WorkerSubnet::new(v4, v6).unwrap()
}

/// A record as an adjustment leaves it.
pub(super) fn adjusted(record: InstanceRecord, change: Adjustment) -> InstanceRecord {
    InstanceRecord {
        weight: change.weight.unwrap_or(record.weight),
        priority: change.priority.unwrap_or(record.priority),
        load: change.load.unwrap_or(record.load),
        draining: change.draining.unwrap_or(record.draining),
        ..record
    }
}

impl Model {
    pub(super) fn add_node(&mut self, id: u32) -> NodeId {
        let record = NodeRecord { id: NodeId(id), key: key(u8::try_from(id).unwrap()), ..NodeRecord::default() };
        self.members.insert(record.id, Member { record, alive: true });
        record.id
    }

    pub(super) fn add_service(&mut self) -> ServiceId {
        self.next_service += 1;
        let id = ServiceId(self.next_service);
        let service = Service { version: 1, header_version: 1, ..Service::default() };
        self.services.insert(id, service);
        self.rename(id, 1);
        id
    }

    /// Changes a service's header: `n` addresses.
    pub(super) fn rename(&mut self, id: ServiceId, n: usize) {
        self.change(id, |service, version, fresh| {
            service.header_version = version;
            let record =
                |_| ServiceIpRecord { ip_type: IpType::try_from("RoundRobinPolicy").unwrap(), address: pair(fresh) };
            service.header = ServiceHeader {
                name: ServiceName::new(&format!("{0}.{0}.{0}.{1}", "a".repeat(30), id.0)).unwrap(),
                service_ips: (0..n).map(record).collect(),
            };
        });
    }

    /// Puts an instance on a node, new or taken over from another.
    pub(super) fn place(&mut self, service: ServiceId, number: u32, node: NodeId) {
        let alive = self.members[&node].alive;
        self.change(service, |service, version, fresh| {
            let instance_ip = match service.instances.get(&number) {
                Some((record, _)) => record.instance_ip,
                None => pair(fresh),
            };
            let record = InstanceRecord {
                number,
                instance_ip,
                namespace_ip: pair(fresh),
                node,
                weight: u16::MAX,
                priority: u16::MAX,
                load: u16::MAX,
                coordinate: [i16::MIN; 3],
                alive,
                draining: false,
            };
            service.removed.remove(&number);
            service.instances.insert(number, (record, version));
        });
        self.turns.remove(&InstanceId { service, number });
        self.note(service, number, node);
    }

    pub(super) fn withdraw(&mut self, service: ServiceId, number: u32) {
        let Some((record, _)) = self.services[&service].instances.get(&number).copied() else {
            return;
        };
        self.change(service, |service, version, _| {
            service.instances.remove(&number);
            service.removed.insert(number, version);
        });
        self.attached_in.remove(&InstanceId { service, number });
        self.withdrawn.insert(record.instance_ip, (service, self.services[&service].version));
    }

    pub(super) fn remove_service(&mut self, id: ServiceId) {
        if let Some(service) = self.services.remove(&id) {
            for (record, _) in service.instances.values() {
                self.withdrawn.insert(record.instance_ip, (id, u32::MAX));
            }
            self.attached_in.retain(|instance, _| instance.service != id);
            self.changed.push_back(id);
        }
    }

    /// Forgets removals: clients that have not seen them get the whole table.
    pub(super) fn compact(&mut self, id: ServiceId) {
        if let Some(service) = self.services.get_mut(&id) {
            service.removed.clear();
            service.patchable_since = service.version;
        }
    }

    pub(super) fn holds(&self, subject: Subject) -> bool {
        let Some(service) = self.services.get(&subject.service) else {
            return false;
        };
        subject.instance.is_none_or(|number| service.instances.contains_key(&number))
    }

    /// What a client that follows the subject is to hold in the end.
    pub(super) fn truth(&self, subject: Subject) -> BTreeMap<u32, InstanceRecord> {
        let all = self.services[&subject.service].instances.iter();
        all.filter(|(number, _)| subject.instance.is_none_or(|n| n == **number)).map(|(n, (r, _))| (*n, *r)).collect()
    }

    fn note(&mut self, service: ServiceId, number: u32, node: NodeId) {
        let epoch = self.members[&node].record.epoch;
        self.attached_in.insert(InstanceId { service, number }, (node, epoch));
    }

    fn change(&mut self, id: ServiceId, f: impl FnOnce(&mut Service, u32, u32)) {
        self.next_address += 1;
        let fresh = self.next_address;
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        service.version += 1;
        let version = service.version;
        f(service, version, fresh);
        if !self.changed.contains(&id) {
            self.changed.push_back(id);
        }
    }

    fn settle_record(&mut self, id: InstanceId, settings: Adjustment) {
        self.change(id.service, |service, version, _| {
            let (record, changed) = service.instances.get_mut(&id.number).unwrap();
            *record = adjusted(*record, settings);
            *changed = version;
        });
    }

    /// Something that tables say of a node has changed.
    fn touch(&mut self, node: NodeId) {
        let alive = self.members[&node].alive;
        let on_it = |s: &Service| s.instances.values().any(|(record, _)| record.node == node);
        let services: Vec<_> = self.services.iter().filter(|(_, s)| on_it(s)).map(|(id, _)| *id).collect();
        for id in services {
            self.change(id, |service, version, _| {
                for (record, changed) in service.instances.values_mut().filter(|(record, _)| record.node == node) {
                    record.alive = alive;
                    *changed = version;
                }
            });
        }
    }
}

impl Directory for Model {
    fn hello(&mut self, _: Instant, from: Sender, hello: &Hello) -> Result<Admission, Denied> {
        if let Some(refusal) = self.refuse_hello {
            return Err(refusal.into());
        }
        let node = match hello.joining {
            Some(own) => {
                if !self.join_keys.contains(&from.key) {
                    return Err(Refusal::JoinKey.into());
                }
                let known = self.node_of(&own);
                known.unwrap_or_else(|| self.add_node(u32::from(own.0[0])))
            }
            None => self.node_of(&from.key).ok_or(Refusal::NotANode)?,
        };
        let mut ours = Digest::default();
        for (instance, _) in self.attached_in.iter().filter(|(_, (on, _))| *on == node) {
            ours.add_instance(*instance);
        }
        let member = self.members.get_mut(&node).unwrap();
        let before = member.record;
        member.record.epoch = hello.epoch;
        if hello.joining.is_none() {
            member.record.endpoint = from.observed;
        }
        if before != member.record {
            self.touch(node);
        }
        Ok(Admission {
            node,
            subnet: subnet(),
            lease_ms: if hello.lease_ms == 0 { 10_000 } else { hello.lease_ms },
            managers: heapless::Vec::new(),
            reattach: ours != hello.instances,
        })
    }

    fn node_of(&self, key: &NodeKey) -> Option<NodeId> {
        self.members.values().find(|member| member.record.key == *key).map(|member| member.record.id)
    }

    fn node(&self, id: NodeId) -> Option<NodeRecord> {
        self.members.get(&id).map(|member| member.record)
    }

    fn attach(&mut self, _: Instant, node: NodeId, attach: &Attach, settings: Adjustment) -> Result<Attached, Denied> {
        let instance = match &attach.kind {
            AttachKind::Resume(instance) => *instance,
            AttachKind::Take(name, number) => {
                let found = self.services.iter().find(|(_, service)| service.header.name == *name);
                InstanceId { service: *found.ok_or(Refusal::NoSuchService)?.0, number: *number }
            }
            AttachKind::New(_) | AttachKind::Host => return Err(Refusal::Full.into()),
        };
        let service = self.services.get(&instance.service).ok_or(Refusal::NoSuchService)?;
        let current = service.instances.get(&instance.number).map(|(record, _)| *record);
        if let (AttachKind::Resume(_), Some(record)) = (&attach.kind, current)
            && record.node != node
        {
            return Err(Refusal::Moved.into());
        }
        match current {
            Some(record) if record.node == node => self.note(instance.service, instance.number, node),
            // A late repeat must not bring back what has been detached since.
            None if matches!(attach.kind, AttachKind::Resume(_)) => {
                return Err(Refusal::NoSuchInstance.into());
            }
            _ => {
                self.place(instance.service, instance.number, node);
                self.settle_record(instance, settings);
                let epoch = self.members[&node].record.epoch;
                self.turns.insert(instance, Turn { epoch, request: attach.request });
            }
        }
        let instance_ip = self.services[&instance.service].instances[&instance.number].0.instance_ip;
        Ok(Attached { request: attach.request, instance, instance_ip })
    }

    fn detach(&mut self, _: Instant, node: NodeId, detach: &Detach) -> Result<(), Denied> {
        let instance = detach.instance;
        let Some(service) = self.services.get(&instance.service) else {
            return Ok(());
        };
        match service.instances.get(&instance.number) {
            Some((record, _)) if record.node != node => Err(Refusal::Moved.into()),
            Some(_) => {
                self.withdraw(instance.service, instance.number);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn adjust(&mut self, _: Instant, node: NodeId, adjust: &Adjust) -> Result<(), Denied> {
        let service = self.services.get(&adjust.instance.service).ok_or(Refusal::NoSuchInstance)?;
        let (record, _) = service.instances.get(&adjust.instance.number).ok_or(Refusal::NoSuchInstance)?;
        if record.node != node {
            return Err(Refusal::Moved.into());
        }
        if self.turns.get(&adjust.instance).is_none_or(|last| adjust.turn.is_after(*last)) {
            self.turns.insert(adjust.instance, adjust.turn);
            self.settle_record(adjust.instance, adjust.change);
        }
        Ok(())
    }

    fn resolve(&mut self, key: &ResolveKey) -> Lookup {
        let subject = match key {
            ResolveKey::Subject(subject) => self.holds(*subject).then_some(*subject),
            ResolveKey::Node(_) => None,
            ResolveKey::Name(name) => {
                let found = self.services.iter().find(|(_, service)| service.header.name == *name);
                found.map(|(id, _)| Subject::whole(*id))
            }
            ResolveKey::Address(address) if address.is_unspecified() => return Lookup::Pending,
            ResolveKey::Address(address) => {
                let all = self.services.iter();
                let mut all = all.flat_map(|(id, s)| s.instances.values().map(|(record, _)| (*id, record)));
                let found = all.find(|(_, record)| record.instance_ip.contains(*address));
                found.map(|(service, record)| Subject { service, instance: Some(record.number) })
            }
        };
        subject.map_or(Lookup::NotFound, Lookup::Found)
    }

    fn version(&self, service: ServiceId) -> Option<u32> {
        self.services.get(&service).map(|service| service.version)
    }

    fn header_version(&self, service: ServiceId) -> u32 {
        self.services.get(&service).map_or(0, |service| service.header_version)
    }

    fn header(&self, service: ServiceId) -> Option<ServiceHeader> {
        self.services.get(&service).map(|service| service.header.clone())
    }

    fn next_change(&self, service: ServiceId, from: u32, since: u32) -> Option<Change> {
        let service = self.services.get(&service)?;
        let present = service.instances.range(from..).find(|(_, (_, version))| *version > since);
        let removed = service.removed.range(from..).find(|(_, version)| since > 0 && **version > since);
        match (present, removed) {
            (Some((number, _)), Some((gone, _))) if gone < number => Some(Change::Removed(*gone)),
            (Some((_, (record, _))), _) => Some(Change::Present(*record)),
            (None, Some((gone, _))) => Some(Change::Removed(*gone)),
            (None, None) => None,
        }
    }

    fn patchable_since(&self, service: ServiceId) -> u32 {
        self.services.get(&service).map_or(0, |service| service.patchable_since)
    }

    fn set_alive(&mut self, now: Instant, node: NodeId, alive: bool) {
        self.alive_log.push((now, node, alive));
        let member = self.members.get_mut(&node).unwrap();
        if member.alive != alive {
            member.alive = alive;
            self.touch(node);
        }
    }

    fn acknowledged(&mut self, _: Instant, service: ServiceId, version: u32) {
        let known = self.acknowledged.entry(service).or_default();
        *known = version.max(*known);
    }

    fn settle(&mut self, _: Instant, node: NodeId, epoch: u32) {
        self.settled.push((node, epoch));
        let old = |(_, (on, attached)): &(&InstanceId, &(NodeId, u32))| *on == node && *attached != epoch;
        let gone: Vec<_> = self.attached_in.iter().filter(old).map(|(instance, _)| *instance).collect();
        for instance in gone {
            self.withdraw(instance.service, instance.number);
        }
    }

    fn poll_changed(&mut self) -> Option<ServiceId> {
        self.changed.pop_front()
    }
}
