//! The real router, filled and asked as the model is.

use acorn_core::addr::{AddressPlan, Dual};
use acorn_core::flow::Lifetimes;
use acorn_core::mtu::OverlayMtu;
use acorn_core::packet::reply::MAX_REPLY_LEN;
use acorn_core::policy::Registry;
use acorn_core::router::{Attachment, Router, Verdict};
use acorn_core::sync::message::{InstanceRecord, NodeRecord, ServiceHeader, ServiceIpRecord};
use acorn_core::time::Instant;
use acorn_core::{Endpoint, HashKey, InstanceId, NodeId, NodeKey, RowRef, ServiceId, ServiceName};

use super::build::Sent;
use super::model::{ATTACHMENTS, FLOWS, Instance, Outcome, SELF};
use super::world::NODES;

/// A node's router. Tables are never full.
pub struct System {
    pub router: Box<Router<4, 16, 4, FLOWS, ATTACHMENTS>>,
    registry: Registry,
    reply: Box<[u8; MAX_REPLY_LEN]>,
}

impl System {
    pub fn new() -> Self {
        let registry = Registry::built_in();
        let mut router: Box<Router<4, 16, 4, FLOWS, ATTACHMENTS>> = Box::default();
        router.configure(AddressPlan::DEFAULT, registry, Lifetimes::default(), HashKey(1, 2));
        for node in NODES {
            let record = NodeRecord { id: NodeId(node), key: key(node), endpoint: Endpoint::UNKNOWN, epoch: 1 };
            let row = router.table.put_node(&record).expect("there is room");
            router.table.node_mut(row).expect("it was just put in").is_self = node == SELF;
        }
        Self { router, registry, reply: Box::new([0; MAX_REPLY_LEN]) }
    }

    pub fn set_service(&mut self, id: u32, ips: &[Dual]) {
        let row = self.router.table.ensure_service(ServiceId(id)).expect("there is room");
        let record = |address: &Dual| ServiceIpRecord { ip_type: "RR".try_into().expect("short"), address: *address };
        let header = ServiceHeader { name: ServiceName::EMPTY, service_ips: ips.iter().map(record).collect() };
        self.router.table.set_header(row, &header, &self.registry);
    }

    pub fn set_complete(&mut self, id: u32, is_complete: bool) {
        if let Some(row) = self.service(id) {
            self.router.table.set_complete(row, is_complete);
        }
    }

    pub fn remove_service(&mut self, id: u32) {
        if let Some(row) = self.service(id) {
            self.router.table.remove_service(row);
        }
    }

    pub fn put_instance(&mut self, service: u32, number: u32, instance: &Instance) {
        let row = self.router.table.ensure_service(ServiceId(service)).expect("there is room");
        let record = InstanceRecord {
            number,
            instance_ip: instance.instance_ip,
            namespace_ip: instance.namespace_ip,
            node: NodeId(instance.node),
            weight: 1,
            alive: instance.alive,
            draining: instance.draining,
            ..InstanceRecord::default()
        };
        let node = self.node(instance.node);
        self.router.table.put_instance(row, &record, node).expect("there is room");
    }

    pub fn remove_instance(&mut self, service: u32, number: u32) {
        if let Some(row) = self.instance(service, number) {
            self.router.table.remove_instance(row);
        }
    }

    pub fn avoid(&mut self, node: u32, is_avoided: bool) {
        let row = self.node(node);
        self.router.table.node_mut(row).expect("nodes stay").avoided = is_avoided;
    }

    pub fn attach(&mut self, id: (u32, u32), instance_ip: Dual, namespace_ip: Dual) {
        let id = InstanceId { service: ServiceId(id.0), number: id.1 };
        self.router.attachments.put(Attachment { id, instance_ip, namespace_ip }).expect("there is room");
    }

    pub fn detach(&mut self, id: (u32, u32)) {
        self.router.attachments.remove(InstanceId { service: ServiceId(id.0), number: id.1 });
    }

    pub fn set_mtu(&mut self, mtu: u16) {
        self.router.set_overlay_mtu(OverlayMtu::new(mtu).expect("1,280 or more"));
    }

    pub fn learn_mtu(&mut self, now: u64, node: u32, mtu: u16) {
        let node = self.node(node);
        self.router.learn_path_mtu(Instant(now), node, OverlayMtu::new(mtu).expect("1,280 or more"));
    }

    pub fn expire(&mut self, now: u64) {
        self.router.expire_flows(Instant(now), 1_000);
    }

    pub fn sweep(&mut self) -> Vec<Vec<u8>> {
        let mut resets = Vec::new();
        self.router.begin_sweep();
        while self.router.is_sweeping() {
            if let Some(len) = self.router.poll_sweep(3, &mut *self.reply) {
                resets.push(self.reply[..len].to_vec());
            }
        }
        resets
    }

    pub fn outbound(&mut self, now: u64, sent: &Sent) -> Outcome {
        let mut buffer = sent.bytes.clone();
        let verdict = self.router.outbound(Instant(now), &mut buffer, sent.offload, &mut *self.reply);
        self.outcome(verdict, buffer, sent)
    }

    pub fn inbound(&mut self, now: u64, peer: u32, sent: &Sent) -> Outcome {
        let mut buffer = sent.bytes.clone();
        let peer = self.node(peer);
        let verdict = self.router.inbound(Instant(now), peer, &mut buffer, sent.offload);
        self.outcome(verdict, buffer, sent)
    }

    /// The row of an instance.
    pub fn instance(&self, service: u32, number: u32) -> Option<usize> {
        self.router.table.find_instance(self.service(service)?, number)
    }

    fn service(&self, id: u32) -> Option<usize> {
        self.router.table.find_service(ServiceId(id))
    }

    fn node(&self, node: u32) -> usize {
        self.router.table.find_node(&key(node)).expect("nodes stay")
    }

    fn node_in(&self, row: usize) -> u32 {
        self.router.table.node(row).map_or(0, |node| node.id.0)
    }

    fn outcome(&self, verdict: Verdict, buffer: Vec<u8>, sent: &Sent) -> Outcome {
        match verdict {
            Verdict::Forward { node, len } => Outcome::Forward { node: self.node_in(node), len, buffer },
            Verdict::Fragment { node, len, mtu } => {
                Outcome::Fragment { node: self.node_in(node), len, mtu: mtu.get(), buffer }
            }
            Verdict::Deliver { len } => Outcome::Deliver { len, buffer },
            Verdict::Reply { reason, len } => {
                Outcome::Reply { reason: reason.name(), reply: self.reply[..len].to_vec() }
            }
            Verdict::Wait { address, asker } => {
                assert_eq!(buffer, sent.bytes, "a packet that waits is unchanged");
                let attachment = self.router.attachments.get(asker.row()).filter(|_| asker != RowRef::NONE);
                Outcome::Wait { address, asker: attachment.map(|attachment| attachment.namespace_ip) }
            }
            Verdict::Drop(reason) => Outcome::Drop(reason.name()),
        }
    }
}

fn key(node: u32) -> NodeKey {
    NodeKey([node as u8; 32])
}
