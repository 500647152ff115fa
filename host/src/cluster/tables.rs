//! The tables that a cluster keeps for its nodes: what its root's pages say, with versions of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use acorn_core::addr::WorkerSubnet;
use acorn_core::ids::{NodeId, NodeKey, ServiceId, ServiceName};
use acorn_core::router::Attachment;
use acorn_core::sync::client::{Replica, Wanted};
use acorn_core::sync::directory::Change;
use acorn_core::sync::message::{InstanceRecord, NodeRecord, PageKind, ServiceHeader, Subject, TablePage};
use acorn_core::table::TableFull;
use acorn_core::time::Instant;

use crate::removals::Removals;
use crate::root::REMOVALS_MAX;

/// How long a table is kept for which nobody has asked again and that no node follows.
pub const KEPT: Duration = Duration::from_secs(60);

struct Entry {
    record: InstanceRecord,
    node: NodeRecord,
    changed_at: u32,
}

#[derive(Default)]
struct Service {
    header: ServiceHeader,
    header_version: u32,
    version: u32,
    patchable_since: u32,
    /// All its instances are here.
    complete: bool,
    instances: BTreeMap<u32, Entry>,
    removals: Removals,
    /// All nodes that follow it know this version.
    acknowledged: u32,
}

/// Everything that the root has told.
#[derive(Default)]
pub(super) struct Tables {
    /// The time of whatever is being done.
    pub(super) now: Instant,
    services: BTreeMap<ServiceId, Service>,
    names: HashMap<ServiceName, ServiceId>,
    addresses: HashMap<IpAddr, Subject>,
    /// The nodes that run an instance, and how many of those that are here.
    nodes: HashMap<NodeId, (NodeRecord, usize)>,
    by_key: HashMap<NodeKey, BTreeSet<Subject>>,
    /// How many nodes follow a subject.
    followers: HashMap<Subject, u32>,
    followers_of: HashMap<ServiceId, u32>,
    asked: HashMap<Subject, Instant>,
    /// The subjects that are followed at the root.
    upstream: BTreeSet<Subject>,
    /// The last page of subjects that are gone, while nodes still have them.
    gone: BTreeMap<Subject, (u32, u32)>,
    changed: BTreeSet<ServiceId>,
    /// The services of which something may be known to all nodes now.
    settled: BTreeSet<ServiceId>,
    version: u32,
}

impl Tables {
    /// Whether a subject is here whole; none when that is not known.
    pub(super) fn holds(&self, subject: Subject) -> Option<bool> {
        let service = self.services.get(&subject.service)?;
        match subject.instance {
            None => service.complete.then_some(true),
            Some(number) if service.instances.contains_key(&number) => Some(true),
            Some(_) => service.complete.then_some(false),
        }
    }

    pub(super) fn owner(&self, address: IpAddr) -> Option<Subject> {
        self.addresses.get(&address).copied()
    }

    pub(super) fn named(&self, name: &ServiceName) -> Option<Subject> {
        self.names.get(name).copied().map(Subject::whole)
    }

    /// An instance on the node with this key.
    pub(super) fn any_instance_of(&self, key: &NodeKey) -> Option<Subject> {
        self.by_key.get(key)?.first().copied()
    }

    pub(super) fn node(&self, id: NodeId) -> Option<NodeRecord> {
        self.nodes.get(&id).map(|(record, _)| *record)
    }

    pub(super) fn version(&self, service: ServiceId) -> Option<u32> {
        self.services.get(&service).map(|service| service.version)
    }

    pub(super) fn header_version(&self, service: ServiceId) -> u32 {
        self.services.get(&service).map_or(0, |service| service.header_version)
    }

    pub(super) fn header(&self, service: ServiceId) -> Option<ServiceHeader> {
        self.services.get(&service).map(|service| service.header.clone())
    }

    pub(super) fn patchable_since(&self, service: ServiceId) -> u32 {
        self.services.get(&service).map_or(0, |service| service.patchable_since)
    }

    pub(super) fn next_change(&self, service: ServiceId, from: u32, since: u32) -> Option<Change> {
        let service = self.services.get(&service)?;
        let present = service.instances.range(from..).find(|(_, entry)| entry.changed_at > since);
        service.removals.next_change(from, since, present.map(|(number, entry)| (*number, entry.record)))
    }

    pub(super) fn poll_changed(&mut self) -> Option<ServiceId> {
        self.changed.pop_first()
    }

    /// Services, and instances over all of them.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.services.len(), self.services.values().map(|service| service.instances.len()).sum())
    }

    /// Subjects that are followed at the root.
    pub(super) fn followed_upstream(&self) -> usize {
        self.upstream.len()
    }

    /// Somebody has asked for a subject: it is kept for a while.
    pub(super) fn note_asked(&mut self, subject: Subject) {
        self.asked.insert(subject, self.now);
    }

    /// Forgets who has asked long ago.
    pub(super) fn expire(&mut self) {
        self.asked.retain(|_, at| self.now < at.saturating_add(KEPT));
    }

    pub(super) fn opened(&mut self, subject: Subject) {
        *self.followers.entry(subject).or_default() += 1;
        *self.followers_of.entry(subject.service).or_default() += 1;
    }

    pub(super) fn closed(&mut self, subject: Subject) {
        less(&mut self.followers, &subject);
        less(&mut self.followers_of, &subject.service);
        self.settled.insert(subject.service);
    }

    /// A node of this cluster is heard from, or is not any more: known at once, whatever the root knows.
    pub(super) fn set_alive(&mut self, key: &NodeKey, alive: bool) {
        for subject in self.by_key.get(key).cloned().unwrap_or_default() {
            let Some(service) = self.services.get_mut(&subject.service) else { continue };
            let entry = subject.instance.and_then(|number| service.instances.get_mut(&number));
            if let Some(entry) = entry.filter(|entry| entry.record.alive != alive) {
                self.version += 1;
                entry.record.alive = alive;
                entry.changed_at = self.version;
                service.version = self.version;
                self.changed.insert(subject.service);
            }
        }
    }

    /// All nodes that follow a service know this version.
    pub(super) fn acknowledged(&mut self, service: ServiceId, version: u32) {
        if let Some(known) = self.services.get_mut(&service) {
            known.acknowledged = known.acknowledged.max(version);
        }
        self.settled.insert(service);
    }

    /// A subject is gone; this page has said so.
    pub(super) fn note_gone(&mut self, page: &TablePage) {
        self.gone.insert(page.subject, (page.stream, page.sequence));
        self.settled.insert(page.subject.service);
    }

    /// Forgets which pages ended what: the root has forgotten it too.
    pub(super) fn forget_gone(&mut self) {
        self.gone.clear();
    }

    /// What all nodes know now: subjects that are followed at the root, and last pages of those that are not any more.
    pub(super) fn take_settled(&mut self) -> (Vec<Subject>, Vec<(Subject, u32, u32)>) {
        let (mut known, mut ended) = (Vec::new(), Vec::new());
        for service in std::mem::take(&mut self.settled) {
            let is_known = self.services.get(&service).is_none_or(|s| s.acknowledged >= s.version);
            if is_known {
                let of_service = Subject::whole(service)..=Subject { service, instance: Some(u32::MAX) };
                known.extend(self.upstream.range(of_service.clone()));
                let left: Vec<_> = self.gone.range(of_service).map(|(subject, page)| (*subject, *page)).collect();
                for (subject, (stream, sequence)) in left {
                    if !self.followers.contains_key(&subject) {
                        self.gone.remove(&subject);
                        ended.push((subject, stream, sequence));
                    }
                }
            }
        }
        (known, ended)
    }

    fn put(&mut self, service: ServiceId, record: &InstanceRecord, node: &NodeRecord, version: u32) -> bool {
        let subject = Subject { service, instance: Some(record.number) };
        let Some(known) = self.services.get_mut(&service) else {
            return false;
        };
        if known.instances.get(&record.number).is_some_and(|entry| entry.record == *record && entry.node == *node) {
            return false;
        }
        let entry = Entry { record: *record, node: *node, changed_at: version };
        known.removals.end(record.number);
        let before = known.instances.insert(record.number, entry);
        if let Some(before) = before {
            self.unindex(subject, &before);
        }
        for address in [record.instance_ip.v4.into(), record.instance_ip.v6.into()] {
            self.addresses.insert(address, subject);
        }
        let known = self.nodes.entry(node.id).or_insert((*node, 0));
        *known = (*node, known.1 + 1);
        self.by_key.entry(node.key).or_default().insert(subject);
        true
    }

    fn remove(&mut self, subject: Subject, version: u32) -> bool {
        let Some(service) = self.services.get_mut(&subject.service) else {
            return false;
        };
        let Some((number, entry)) = subject.instance.and_then(|n| Some((n, service.instances.remove(&n)?))) else {
            return false;
        };
        if let Some(forgotten) = service.removals.begin(number, version, REMOVALS_MAX) {
            service.patchable_since = service.patchable_since.max(forgotten);
        }
        self.unindex(subject, &entry);
        true
    }

    fn unindex(&mut self, subject: Subject, entry: &Entry) {
        for address in [entry.record.instance_ip.v4.into(), entry.record.instance_ip.v6.into()] {
            if self.addresses.get(&address) == Some(&subject) {
                self.addresses.remove(&address);
            }
        }
        if let Some((_, count)) = self.nodes.get_mut(&entry.node.id) {
            *count -= 1;
            if *count == 0 {
                self.nodes.remove(&entry.node.id);
            }
        }
        if let Some(subjects) = self.by_key.get_mut(&entry.node.key) {
            subjects.remove(&subject);
            if subjects.is_empty() {
                self.by_key.remove(&entry.node.key);
            }
        }
    }

    fn set_header(&mut self, id: ServiceId, header: &ServiceHeader, version: u32) -> bool {
        let Some(service) = self.services.get_mut(&id).filter(|service| service.header != *header) else {
            return false;
        };
        let before = std::mem::replace(&mut service.header, header.clone());
        service.header_version = version;
        self.unindex_header(id, &before);
        if header.name != ServiceName::EMPTY {
            self.names.insert(header.name.clone(), id);
        }
        for ip in &header.service_ips {
            for address in [ip.address.v4.into(), ip.address.v6.into()] {
                self.addresses.insert(address, Subject::whole(id));
            }
        }
        true
    }

    fn unindex_header(&mut self, id: ServiceId, header: &ServiceHeader) {
        if self.names.get(&header.name) == Some(&id) {
            self.names.remove(&header.name);
        }
        for ip in &header.service_ips {
            for address in [ip.address.v4.into(), ip.address.v6.into()] {
                if self.addresses.get(&address) == Some(&Subject::whole(id)) {
                    self.addresses.remove(&address);
                }
            }
        }
    }
}

/// Counts one down, and forgets what has none.
fn less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Replica for Tables {
    fn set_subnet(&mut self, _: WorkerSubnet) {}

    fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        std::iter::empty()
    }

    fn attach(&mut self, _: Attachment) -> Result<(), TableFull> {
        Ok(())
    }

    fn apply(&mut self, page: &TablePage, is_followed: impl Fn(u32) -> bool) -> Result<(), TableFull> {
        let id = page.subject.service;
        let version = self.version + 1;
        self.upstream.insert(page.subject);
        self.services.entry(id).or_insert_with(|| Service { patchable_since: version, ..Service::default() });
        let mut changed = page.header.as_ref().is_some_and(|header| self.set_header(id, header, version));
        let concerned = |number: &u32| page.subject.instance.is_none_or(|n| n == *number);
        let mut gone: Vec<u32> = page.removed.iter().copied().filter(concerned).collect();
        if let (PageKind::Replace { from, to }, Some(service)) = (page.kind, self.services.get(&id)) {
            let range = service.instances.range(from..).map(|(number, _)| *number);
            let range = range.take_while(|number| to.is_none_or(|to| *number < to));
            let named = |number: &u32| page.records.iter().any(|record| record.number == *number);
            gone.extend(range.filter(|number| concerned(number) && !named(number) && !is_followed(*number)));
        }
        for number in gone {
            changed |= self.remove(Subject { service: id, instance: Some(number) }, version);
        }
        for record in page.records.iter().filter(|record| concerned(&record.number)) {
            if let Some(node) = page.nodes.iter().find(|node| node.id == record.node) {
                changed |= self.put(id, record, node, version);
            }
        }
        let Some(service) = self.services.get_mut(&id) else {
            return Ok(());
        };
        if changed || service.version == 0 {
            self.version = version;
            service.version = version;
            self.changed.insert(id);
        }
        self.settled.insert(id);
        Ok(())
    }

    fn remove_named(&mut self, page: &TablePage) {
        self.version += 1;
        if self.remove(page.subject, self.version)
            && let Some(service) = self.services.get_mut(&page.subject.service)
        {
            service.version = self.version;
            self.changed.insert(page.subject.service);
        }
    }

    fn complete(&mut self, service: ServiceId) {
        if let Some(service) = self.services.get_mut(&service) {
            service.complete = true;
        }
    }

    fn clear(&mut self, subject: Subject, whole: bool, is_followed: impl Fn(u32) -> bool) {
        self.upstream.remove(&subject);
        self.asked.remove(&subject);
        if whole {
            return;
        }
        let Some(service) = self.services.get_mut(&subject.service) else {
            return;
        };
        service.complete = false;
        let numbers = service.instances.keys().copied();
        let concerned = numbers.filter(|number| subject.instance.is_none_or(|n| n == *number) && !is_followed(*number));
        self.version += 1;
        for number in concerned.collect::<Vec<_>>() {
            self.remove(Subject { service: subject.service, instance: Some(number) }, self.version);
        }
        let Some(service) = self.services.get_mut(&subject.service) else {
            return;
        };
        service.version = self.version;
        self.changed.insert(subject.service);
        if service.instances.is_empty()
            && let Some(service) = self.services.remove(&subject.service)
        {
            self.unindex_header(subject.service, &service.header);
        }
    }

    fn is_in_use(&self, subject: Subject) -> bool {
        let is_followed = match subject.instance {
            // A whole table serves those who follow a single instance too.
            None => self.followers_of.contains_key(&subject.service),
            Some(_) => self.followers.contains_key(&subject),
        };
        is_followed || self.asked.contains_key(&subject)
    }

    fn has_use_news(&self) -> bool {
        true
    }

    fn take_use_news(&mut self) {}

    fn is_known(&self, wanted: Wanted) -> bool {
        let subject = match wanted {
            Wanted::Address(address) => self.owner(address),
            Wanted::Node(key) => self.any_instance_of(&key),
        };
        subject.is_some_and(|subject| self.holds(subject) == Some(true))
    }
}
