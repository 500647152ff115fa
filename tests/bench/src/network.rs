//! The network around the measured node: each number stands for one thing, and all addresses differ.
//!
//! The node runs clients; one other node runs all instances of all services that they dial.

use acorn_core::addr::{AddressPlan, Dual, WorkerSubnet};
use acorn_core::router::Attachment;
use acorn_core::sync::message::{InstanceRecord, NodeRecord, ServiceHeader, ServiceIpRecord};
use acorn_core::{Endpoint, InstanceId, NodeId, NodeKey, ServiceId, ServiceName};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The node that is measured.
pub const HERE: u32 = 1;
/// The node with the instances.
pub const THERE: u32 = 2;
/// The manager.
pub const MANAGER: u32 = 3;

/// The service that the clients are instances of.
pub const CLIENTS: u32 = 1;
/// The service that the live flows go to.
pub const BUSY: Dialled = Dialled { service: 2, instances: 8 };
/// The port that is dialled.
pub const PORT: u16 = 80;

/// Instance numbers are below this.
const NUMBERS: u32 = 1024;

/// A service that clients dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialled {
    /// Its number.
    pub service: u32,
    /// How many instances it has.
    pub instances: u32,
}

impl Dialled {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let balanced = crate::case::INSTANCES.into_iter().zip(BUSY.service + 1..);
        let balanced = balanced.map(|(instances, service)| Self { service, instances });
        [BUSY].into_iter().chain(balanced)
    }

    /// The one with so many instances.
    pub fn of_size(instances: u32) -> Self {
        Self::all().find(|dialled| dialled.instances == instances).unwrap_or(BUSY)
    }

    /// Its service IP.
    pub fn service_ip(self) -> Dual {
        dual([10, 30], [0xfdff, 0x2000], self.service)
    }

    /// Its name and address.
    pub fn header(self) -> ServiceHeader {
        let ip_type = "RR".try_into().unwrap_or_default();
        let record = ServiceIpRecord { ip_type, address: self.service_ip() };
        ServiceHeader { name: name(), service_ips: [record].into_iter().collect() }
    }

    /// One of its instances.
    pub fn record(self, number: u32) -> InstanceRecord {
        let place = self.service * NUMBERS + number;
        let namespace_ip = dual([10, 18], [0xfc00, 1], 0x4000 + place);
        record(number, instance_ip(self.service, number), namespace_ip, THERE)
    }

    /// The instance IP that a namespace IP belongs to.
    pub fn instance_at(self, namespace_ip: IpAddr) -> Option<Dual> {
        let mut records = (0..self.instances).map(|number| self.record(number));
        records.find(|record| record.namespace_ip.contains(namespace_ip)).map(|record| record.instance_ip)
    }
}

/// A client, as it is attached to the measured node.
pub fn client(number: u32) -> Attachment {
    let id = InstanceId { service: ServiceId(CLIENTS), number };
    let namespace_ip = subnet().namespace_ip(number + 1).map_or(Dual::UNSPECIFIED, |ip| ip.dual());
    Attachment { id, instance_ip: instance_ip(CLIENTS, number), namespace_ip }
}

/// What a table says of a client.
pub fn client_record(number: u32) -> InstanceRecord {
    let client = client(number);
    record(number, client.instance_ip, client.namespace_ip, HERE)
}

/// The header of the clients' service, which nobody dials.
pub fn clients_header() -> ServiceHeader {
    ServiceHeader { name: name(), ..ServiceHeader::default() }
}

/// The subnets of the measured node.
pub fn subnet() -> WorkerSubnet {
    AddressPlan::DEFAULT.worker_subnet(0).expect("the plan has a first subnet")
}

/// What a table says of a node.
pub fn node_record(node: u32) -> NodeRecord {
    NodeRecord { id: NodeId(node), key: key(node), endpoint: endpoint(node), epoch: 1 }
}

/// A node's key.
pub fn key(node: u32) -> NodeKey {
    NodeKey([node as u8; 32])
}

/// Where a node is.
pub fn endpoint(node: u32) -> Endpoint {
    SocketAddr::from(([192, 0, 2, node as u8], 50103)).into()
}

fn record(number: u32, instance_ip: Dual, namespace_ip: Dual, node: u32) -> InstanceRecord {
    let node = NodeId(node);
    InstanceRecord { number, instance_ip, namespace_ip, node, weight: 1, alive: true, ..InstanceRecord::default() }
}

fn instance_ip(service: u32, number: u32) -> Dual {
    dual([10, 30], [0xfdff, 0], 0x4000 + service * NUMBERS + number)
}

fn name() -> ServiceName {
    ServiceName::new("app.ns.svc.ns").expect("a service's name")
}

fn dual(v4: [u8; 2], v6: [u16; 2], n: u32) -> Dual {
    let v4 = Ipv4Addr::new(v4[0], v4[1], 0, 0).to_bits() + n;
    let v6 = Ipv6Addr::new(v6[0], v6[1], 0, 0, 0, 0, 0, 0).to_bits() + u128::from(n);
    Dual::new(Ipv4Addr::from_bits(v4), Ipv6Addr::from_bits(v6))
}
