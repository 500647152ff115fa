//! The root as the sync server sees it.

use acorn_core::ids::{NodeId, NodeKey, ServiceId};
use acorn_core::sync::cluster::KeyStanding;
use acorn_core::sync::directory::{Admission, Change, Denied, Directory, Lookup, Sender};
use acorn_core::sync::message::{
    Adjust, Adjustment, Attach, Attached, Detach, Hello, InstanceRecord, NodeRecord, Report, ResolveKey, ServiceHeader,
    ServiceIpRecord, Subject,
};
use acorn_core::time::Instant;

use super::Root;
use super::state::Instance;

impl Directory for Root {
    fn hello(&mut self, now: Instant, from: Sender, hello: &Hello) -> Result<Admission, Denied> {
        Ok(self.admit(now, from, hello)?)
    }

    fn node_of(&self, key: &NodeKey) -> Option<NodeId> {
        self.state.node_keys.get(key).or_else(|| self.state.cluster_keys.get(key)).copied()
    }

    fn node(&self, id: NodeId) -> Option<NodeRecord> {
        if let Some(cluster) = self.state.clusters.get(&id) {
            let row = &cluster.row;
            return Some(NodeRecord { id, key: row.key, endpoint: row.endpoint, epoch: row.epoch });
        }
        let row = &self.state.nodes.get(&id)?.row;
        Some(NodeRecord { id, key: row.key, endpoint: row.endpoint, epoch: row.epoch })
    }

    fn attach(
        &mut self,
        now: Instant,
        node: NodeId,
        attach: &Attach,
        settings: Adjustment,
    ) -> Result<Attached, Denied> {
        Ok(self.place(now, node, attach, settings)?)
    }

    fn adjust(&mut self, now: Instant, node: NodeId, adjust: &Adjust) -> Result<(), Denied> {
        Ok(self.repick(now, node, adjust)?)
    }

    fn report(&mut self, now: Instant, node: NodeId, report: &Report) -> bool {
        self.note_place(now, node, report.coordinate)
    }

    fn detach(&mut self, now: Instant, node: NodeId, detach: &Detach) -> Result<(), Denied> {
        Ok(self.withdraw(now, node, detach)?)
    }

    fn resolve(&mut self, key: &ResolveKey) -> Lookup {
        let subject = match key {
            ResolveKey::Address(address) => self.state.addresses.owner(*address),
            ResolveKey::Name(name) => self.state.names.get(name).copied().map(Subject::whole),
            ResolveKey::Subject(subject) => Some(*subject),
            ResolveKey::Node(key) => self.state.any_instance_of(key),
        };
        match subject.filter(|subject| self.state.has(*subject)) {
            Some(subject) => Lookup::Found(subject),
            None => Lookup::NotFound,
        }
    }

    fn version(&self, service: ServiceId) -> Option<u32> {
        Some(self.state.services.get(&service)?.version)
    }

    fn header_version(&self, service: ServiceId) -> u32 {
        self.state.services.get(&service).map_or(0, |service| service.header_version)
    }

    fn header(&self, service: ServiceId) -> Option<ServiceHeader> {
        let row = &self.state.services.get(&service)?.row;
        let mut header = ServiceHeader { name: row.name.clone(), ..ServiceHeader::default() };
        for ip in &row.ips {
            let record = ServiceIpRecord { ip_type: ip.ip_type.clone(), address: ip.address };
            // A service is not created with more than fit.
            let _ = header.service_ips.push(record);
        }
        Some(header)
    }

    fn next_change(&self, service: ServiceId, from: u32, since: u32) -> Option<Change> {
        let service = self.state.services.get(&service)?;
        let present = service.instances.range(from..).find(|(_, instance)| instance.changed_at > since);
        let present = present.map(|(number, instance)| (*number, self.record(*number, instance)));
        service.removals.next_change(from, since, present)
    }

    fn patchable_since(&self, service: ServiceId) -> u32 {
        self.state.services.get(&service).map_or(0, |service| service.patchable_since)
    }

    fn set_alive(&mut self, now: Instant, node: NodeId, alive: bool) {
        if let Some(cluster) = self.state.clusters.get_mut(&node) {
            cluster.alive = alive;
        }
        // A node that has moved behind a cluster leaves a session here that ends by and by.
        if self.state.nodes.get(&node).is_some_and(|node| node.row.via.is_none()) {
            self.mark_alive(now, node, alive);
        }
    }

    fn acknowledged(&mut self, now: Instant, service: ServiceId, version: u32) {
        self.note_acknowledged(now, service, version);
    }

    fn settle(&mut self, now: Instant, node: NodeId, epoch: u32) {
        // A disk that failed is logged. The instances stay until the node is heard to lack them.
        let _ = self.settle_node(now, node, epoch);
    }

    fn is_cluster(&self, client: NodeId) -> bool {
        self.state.clusters.contains_key(&client)
    }

    fn is_behind(&self, cluster: NodeId, node: &NodeKey) -> bool {
        self.is_node_behind(cluster, node)
    }

    fn hello_through(
        &mut self,
        now: Instant,
        cluster: NodeId,
        from: Sender,
        hello: &Hello,
    ) -> Result<Admission, Denied> {
        self.admit_through(now, cluster, from, hello)
    }

    fn key_standing(&self, now: Instant, key: &NodeKey) -> KeyStanding {
        self.standing_of(now, key)
    }

    fn set_alive_through(&mut self, now: Instant, cluster: NodeId, node: NodeId, alive: bool) {
        if self.state.nodes.get(&node).is_some_and(|node| node.row.via == Some(cluster)) {
            self.mark_alive(now, node, alive);
        }
    }

    fn poll_changed(&mut self) -> Option<ServiceId> {
        self.state.changed.pop_first()
    }
}

impl Root {
    fn record(&self, number: u32, instance: &Instance) -> InstanceRecord {
        let node = self.state.nodes.get(&instance.row.node);
        InstanceRecord {
            number,
            instance_ip: instance.row.instance_ip,
            namespace_ip: instance.row.namespace_ip,
            node: instance.row.node,
            weight: instance.row.settings.weight,
            priority: instance.row.settings.priority,
            load: instance.load,
            draining: instance.row.settings.draining,
            alive: node.is_some_and(|node| node.alive),
            coordinate: node.map_or([0; 3], |node| node.place.0),
        }
    }
}
