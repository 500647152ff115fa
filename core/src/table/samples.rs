//! Addresses and records to fill tables with in tests: each number stands for one thing, and all addresses differ.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::Dual;
use crate::ids::{Endpoint, NodeId, NodeKey, ServiceName};
use crate::sync::message::{InstanceRecord, NodeRecord, ServiceHeader, ServiceIpRecord};

fn dual(v4: [u8; 2], v6: [u16; 2], n: u32) -> Dual {
    let v4 = Ipv4Addr::new(v4[0], v4[1], 0, 0).to_bits() + n;
    let v6 = Ipv6Addr::new(v6[0], v6[1], 0, 0, 0, 0, 0, 0).to_bits() + u128::from(n);
    Dual::new(Ipv4Addr::from_bits(v4), Ipv6Addr::from_bits(v6))
}

/// The `n`-th service IP: `10.30.0.n`, `fdff:2000::n`.
pub fn service_ip(n: u32) -> Dual {
    dual([10, 30], [0xfdff, 0x2000], n)
}

/// The instance IP of instance `number` of service `service`: from `10.30.64.0` on.
pub fn instance_ip(service: u32, number: u32) -> Dual {
    dual([10, 30], [0xfdff, 0], 0x4000 + service * 1024 + number)
}

/// The `n`-th namespace IP of a node.
pub fn namespace_ip(node: u32, n: u32) -> Dual {
    dual([10, 18], [0xfc00, 0], node * 2048 + n)
}

pub fn node_record(n: u32) -> NodeRecord {
    NodeRecord { id: NodeId(n), key: NodeKey([n as u8; 32]), endpoint: endpoint(n), epoch: 1 }
}

pub fn endpoint(n: u32) -> Endpoint {
    Endpoint::from(std::net::SocketAddr::from(([192, 0, 2, n as u8], 50103)))
}

/// A living instance: number, node, and the namespace IP of the same number there.
pub fn record(service: u32, number: u32, node: u32) -> InstanceRecord {
    InstanceRecord {
        number,
        instance_ip: instance_ip(service, number),
        namespace_ip: namespace_ip(node, service * 64 + number),
        node: NodeId(node),
        weight: 1,
        alive: true,
        ..InstanceRecord::default()
    }
}

/// A header with these service IPs, all round robin.
pub fn header(ips: &[u32]) -> ServiceHeader {
    ServiceHeader {
        name: ServiceName::new("app.ns.svc.ns").unwrap(),
        service_ips: ips
            .iter()
            .map(|n| ServiceIpRecord { ip_type: "RR".try_into().unwrap(), address: service_ip(*n) })
            .collect(),
    }
}
