//! The addresses of the small network that every run plays in. Node 1 is the one under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use acorn_core::addr::Dual;

/// Services: two that are dialled, and one whose instances only dial.
pub const SERVICES: [u32; 3] = [1, 2, 9];
pub const CLIENTS: u32 = 9;
/// Instances have numbers below this.
pub const NUMBERS: u32 = 5;
pub const NODES: [u32; 3] = [1, 2, 3];

/// The service IPs that a service can have.
pub fn service_ips(service: u32) -> [Dual; 2] {
    let n = service as u8 * 2;
    [pair([10, 30, 0, n], [0xfdff, 0x2000], n.into()), pair([10, 30, 0, n + 1], [0xfdff, 0x2000], u16::from(n) + 1)]
}

/// An instance can have either of two instance IPs, one after the other.
pub fn instance_ip(service: u32, number: u32, is_other: bool) -> Dual {
    let (service, number) = (service as u8, number as u8 + if is_other { 100 } else { 1 });
    pair([10, 30, service + 100, number], [0xfdff, u16::from(service)], number.into())
}

/// Where an instance is on a node.
pub fn namespace_ip(node: u32, service: u32, number: u32, is_other: bool) -> Dual {
    let host = service as u8 * 8 + number as u8 + if is_other { 128 } else { 0 };
    pair([10, 18, node as u8, host], [0xfc00, node as u16], host.into())
}

/// Addresses that are special, or nobody's.
pub fn strange(v6: bool, which: u8) -> IpAddr {
    let v4 = [
        Ipv4Addr::new(10, 30, 0, 0),
        Ipv4Addr::new(10, 30, 255, 255),
        Ipv4Addr::new(10, 30, 200, 1),
        Ipv4Addr::new(10, 30, 0, 255),
        Ipv4Addr::new(10, 18, 7, 7),
        Ipv4Addr::new(0, 0, 0, 0),
        Ipv4Addr::new(0, 1, 2, 3),
        Ipv4Addr::new(127, 0, 0, 1),
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::new(240, 0, 0, 1),
        Ipv4Addr::new(255, 255, 255, 255),
        Ipv4Addr::new(192, 0, 2, 1),
        Ipv4Addr::new(10, 31, 0, 1),
    ];
    let v6s = [
        Ipv6Addr::new(0xfdff, 0, 0, 0, 0, 0, 0, 0),
        Ipv6Addr::new(0xfdff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff),
        Ipv6Addr::new(0xfdff, 0x2000, 0, 0, 0, 0, 0, 0xff),
        Ipv6Addr::new(0xfc00, 7, 0, 0, 0, 0, 0, 7),
        Ipv6Addr::UNSPECIFIED,
        Ipv6Addr::LOCALHOST,
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x0a1e, 2),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x0a12, 0x0148),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0xfdfe, 0, 0, 0, 0, 0, 0, 1),
    ];
    if v6 { IpAddr::V6(v6s[usize::from(which) % v6s.len()]) } else { IpAddr::V4(v4[usize::from(which) % v4.len()]) }
}

pub fn of(pair: Dual, v6: bool) -> IpAddr {
    if v6 { IpAddr::V6(pair.v6) } else { IpAddr::V4(pair.v4) }
}

fn pair(v4: [u8; 4], v6: [u16; 2], last: u16) -> Dual {
    Dual::new(Ipv4Addr::from(v4), Ipv6Addr::new(v6[0], v6[1], 0, 0, 0, 0, 0, last))
}
