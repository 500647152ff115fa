//! The root's tests, on a disk in memory that can fail at any write, and some on a real file.

mod adjusting;
mod clusters;
mod crash;
mod disk;
mod etcd;
mod file;
mod instances;
mod joining;
mod places;
mod requests;
mod restart;
mod services;
mod subnets;
mod tables;
mod transfer;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use acorn_core::addr::{AddressPlan, Dual, PlanPools, PolicyBlock, Subnet4};
use acorn_core::ids::{Endpoint, InstanceId, NodeId, NodeKey, ServiceId, ServiceName};
use acorn_core::sync::directory::{Admission, Denied, Directory, Sender};
use acorn_core::sync::message::{
    Adjust, Adjustment, Attach, AttachKind, Attached, Capacities, Detach, Digest, Hello, IpType, ManagerRecord,
    Refusal, ResolveKey, Turn,
};
use acorn_core::time::{Duration, Instant};

use super::settings::Limits;
use super::{AddressRequest, Root, RootSettings, ServiceError, ServiceInfo, ServiceRequest};
use disk::Disk;

/// The wall clock at [`Instant::ZERO`].
const UNIX: u64 = 1_800_000_000;

const SETTINGS: RootSettings = RootSettings {
    lease: Duration::from_secs(10),
    quarantine: Duration::from_secs(60),
    retention: Duration::from_secs(86_400),
};

/// A root, its disk and its clock.
struct Rig {
    root: Root,
    disk: Disk,
    plan: AddressPlan,
    limits: Limits,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        Self::with(AddressPlan::DEFAULT, Limits::default())
    }

    fn with(plan: AddressPlan, limits: Limits) -> Self {
        let disk = Disk::default();
        let root = disk.open(plan, limits, Instant::ZERO, UNIX).unwrap();
        Self { root, disk, plan, limits, now: Instant::ZERO }
    }

    fn unix(&self) -> u64 {
        UNIX + self.now.as_millis() / 1_000
    }

    /// Lets time pass and has its effects.
    fn pass(&mut self, seconds: u64) {
        self.now = self.now.saturating_add(Duration::from_secs(seconds));
        self.root.expire(self.now, self.unix());
    }

    /// The process dies, and another starts from what is on the disk.
    fn restart(&mut self) {
        self.disk.die();
        let disk = self.disk.copy();
        self.root = disk.open(self.plan, self.limits, self.now, self.unix()).unwrap();
        self.disk = disk;
    }

    fn create(&mut self, name: &str) -> Result<ServiceInfo, ServiceError> {
        self.create_at(name, None, None)
    }

    fn create_at(&mut self, name: &str, v4: Option<&str>, v6: Option<&str>) -> Result<ServiceInfo, ServiceError> {
        let request = ServiceRequest { name: named(name), addresses: vec![round_robin(v4, v6)], fixed: Vec::new() };
        self.root.create_service(self.now, request)
    }

    fn hello(&mut self, key: u8, hello: &Hello) -> Result<Admission, Denied> {
        self.root.hello(self.now, sender(key), hello)
    }

    /// A node with this key, registered beforehand, in its first epoch.
    fn node(&mut self, key: u8) -> NodeId {
        self.node_in(key, None)
    }

    fn node_in(&mut self, key: u8, subnet: Option<&str>) -> NodeId {
        self.root.register_node_key(self.now, node_key(key)).unwrap();
        let subnet = subnet.map(|base| base.parse().unwrap());
        self.hello(key, &Hello { subnet, ..hello(1) }).unwrap().node
    }

    fn attach(&mut self, node: NodeId, kind: AttachKind, offset: u32) -> Result<Attached, Denied> {
        self.attach_as(node, kind, offset, Adjustment::default())
    }

    fn attach_as(
        &mut self,
        node: NodeId,
        kind: AttachKind,
        offset: u32,
        settings: Adjustment,
    ) -> Result<Attached, Denied> {
        let info = self.root.nodes().into_iter().find(|info| info.id == node);
        let subnet = info.map_or_else(|| self.plan.worker_subnet(0).unwrap(), |info| info.subnet.unwrap());
        let namespace_ip = subnet.namespace_ip(offset).unwrap().dual();
        // A later request than any before it.
        self.root.detached.clear();
        self.root.attach(self.now, node, &Attach { request: 7, kind, namespace_ip }, settings)
    }

    /// The node's request of this number in its first epoch.
    fn adjust(&mut self, node: NodeId, request: u32, instance: InstanceId, change: Adjustment) -> Result<(), Denied> {
        self.root.adjust(self.now, node, &Adjust { turn: Turn { epoch: 1, request }, instance, change })
    }

    fn detach(&mut self, node: NodeId, instance: InstanceId) {
        self.root.detach(self.now, node, &gone(instance)).unwrap();
    }

    /// All clients know all there is to know of a service.
    fn acknowledge(&mut self, service: ServiceId) {
        let version = self.root.version(service).unwrap_or(u32::MAX);
        self.root.acknowledged(self.now, service, version);
    }
}

/// The request of the number after that of [`Rig::attach`].
fn gone(instance: InstanceId) -> Detach {
    Detach { request: 8, instance }
}

fn named(name: &str) -> ServiceName {
    ServiceName::new(&format!("{name}.test.{name}.test")).unwrap()
}

fn new(name: &str) -> AttachKind {
    AttachKind::New(named(name))
}

fn take(name: &str, number: u32) -> AttachKind {
    AttachKind::Take(named(name), number)
}

fn round_robin(v4: Option<&str>, v6: Option<&str>) -> AddressRequest {
    AddressRequest {
        ip_type: IpType::try_from("RR").unwrap(),
        block: PolicyBlock::new(2).unwrap(),
        v4: v4.map(|v4| v4.parse().unwrap()),
        v6: v6.map(|v6| v6.parse().unwrap()),
    }
}

fn node_key(key: u8) -> NodeKey {
    NodeKey([key; 32])
}

fn own() -> ManagerRecord {
    ManagerRecord { key: node_key(250), endpoint: endpoint(250) }
}

fn endpoint(host: u8) -> Endpoint {
    SocketAddr::from(([192, 0, 2, host], 50_103)).into()
}

fn sender(key: u8) -> Sender {
    Sender { key: node_key(key), observed: endpoint(key) }
}

fn hello(epoch: u32) -> Hello {
    Hello {
        request: 1,
        epoch,
        joining: None,
        name: "node".try_into().unwrap(),
        endpoint: Endpoint::UNKNOWN,
        subnet: None,
        lease_ms: 0,
        capacities: Capacities::default(),
        streams: Digest::default(),
        instances: Digest::default(),
    }
}

fn pair(v4: &str, v6: &str) -> Dual {
    Dual::new(v4.parse::<Ipv4Addr>().unwrap(), v6.parse::<Ipv6Addr>().unwrap())
}

fn address(text: &str) -> ResolveKey {
    ResolveKey::Address(text.parse().unwrap())
}

/// The default plan with another IPv4 service net.
fn plan_of(service_v4: &str) -> AddressPlan {
    let service_v4: Subnet4 = service_v4.parse().unwrap();
    AddressPlan::new(PlanPools { service_v4, ..PlanPools::DEFAULT }).unwrap()
}
