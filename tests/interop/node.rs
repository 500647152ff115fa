//! A router with one client and one service, and packets made and read by a library of others.

use std::net::IpAddr;

use acorn_core::addr::{AddressPlan, Dual};
use acorn_core::flow::Lifetimes;
use acorn_core::packet::Offload;
use acorn_core::packet::reply::MAX_REPLY_LEN;
use acorn_core::policy::Registry;
use acorn_core::router::{Attachment, Router, Verdict};
use acorn_core::sync::message::{InstanceRecord, NodeRecord, ServiceHeader, ServiceIpRecord};
use acorn_core::time::Instant;
use acorn_core::{HashKey, InstanceId, NodeId, NodeKey, ServiceId, ServiceName};
use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

/// The row of this node, and that of the one that the service's instance runs on.
const HERE: u32 = 1;
const THERE: u32 = 2;

/// An address pair.
pub fn pair(v4: &str, v6: &str) -> Dual {
    Dual::new(v4.parse().unwrap(), v6.parse().unwrap())
}

/// A node with one attached instance that knows one service with one instance elsewhere.
pub struct Node {
    router: Box<Router<4, 8, 4, 16, 4>>,
    there: usize,
}

impl Node {
    /// `client` and `server` are instance IP and namespace IP.
    pub fn new(client: [Dual; 2], service_ip: Dual, server: [Dual; 2]) -> Self {
        let mut router: Box<Router<4, 8, 4, 16, 4>> = Box::default();
        router.configure(AddressPlan::DEFAULT, Registry::built_in(), Lifetimes::default(), HashKey(1, 2));
        let mut rows = [HERE, THERE].map(|n| {
            let record = NodeRecord { id: NodeId(n), key: NodeKey([n as u8; 32]), epoch: 1, ..NodeRecord::default() };
            router.table.put_node(&record).unwrap()
        });
        router.table.node_mut(rows[0]).unwrap().is_self = true;
        let id = InstanceId { service: ServiceId(9), number: 0 };
        router.attachments.put(Attachment { id, instance_ip: client[0], namespace_ip: client[1] }).unwrap();

        let service = router.table.ensure_service(ServiceId(1)).unwrap();
        let header = ServiceHeader {
            name: ServiceName::new("a1.a1.a2.a2").unwrap(),
            service_ips: [ServiceIpRecord { ip_type: "RR".try_into().unwrap(), address: service_ip }]
                .into_iter()
                .collect(),
        };
        let registry = router.registry();
        router.table.set_header(service, &header, &registry);
        router.table.set_complete(service, true);
        let record = InstanceRecord {
            instance_ip: server[0],
            namespace_ip: server[1],
            node: NodeId(THERE),
            weight: 1,
            alive: true,
            ..InstanceRecord::default()
        };
        router.table.put_instance(service, &record, rows[1]).unwrap();
        Self { router, there: std::mem::take(&mut rows[1]) }
    }

    /// The local application sends; the packet that goes to the other node, or the verdict.
    pub fn send(&mut self, packet: &[u8]) -> Result<Vec<u8>, Verdict> {
        let (mut packet, mut reply) = (packet.to_vec(), [0; MAX_REPLY_LEN]);
        match self.router.outbound(Instant::ZERO, &mut packet, Offload::NONE, &mut reply) {
            Verdict::Forward { node, len } => {
                assert_eq!((node, len), (self.there, packet.len()));
                Ok(packet)
            }
            verdict => Err(verdict),
        }
    }

    /// The other node sends; the packet that the application gets, or the verdict.
    pub fn receive(&mut self, at: Instant, packet: &[u8]) -> Result<Vec<u8>, Verdict> {
        let mut packet = packet.to_vec();
        match self.router.inbound(at, self.there, &mut packet, Offload::NONE) {
            Verdict::Deliver { len } => {
                assert_eq!(len, packet.len());
                Ok(packet)
            }
            verdict => Err(verdict),
        }
    }
}

/// A TCP SYN.
pub fn syn(from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
    write(ip(from.0, to.0).tcp(from.1, to.1, 1, 64_000).syn(), &[])
}

/// A TCP SYN with ACK.
pub fn syn_ack(from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
    write(ip(from.0, to.0).tcp(from.1, to.1, 1, 64_000).syn().ack(2), &[])
}

/// A UDP datagram.
pub fn datagram(from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
    let mut packet = Vec::new();
    ip(from.0, to.0).udp(from.1, to.1).write(&mut packet, b"hello").unwrap();
    packet
}

/// A ping.
pub fn ping(from: &str, to: &str) -> Vec<u8> {
    let mut packet = Vec::new();
    ip(from, to).icmpv4_echo_request(7, 1).write(&mut packet, b"hello").unwrap();
    packet
}

/// Source and destination of a packet whose checksums are right.
pub fn ends(packet: &[u8]) -> ((IpAddr, u16), (IpAddr, u16)) {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let (src, dst) = match sliced.net.as_ref().unwrap() {
        etherparse::NetSlice::Ipv4(v4) => {
            let header = v4.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            (IpAddr::from(header.source), IpAddr::from(header.destination))
        }
        etherparse::NetSlice::Ipv6(v6) => (IpAddr::from(v6.header().source()), IpAddr::from(v6.header().destination())),
        other => panic!("not IP: {other:?}"),
    };
    let (src_port, dst_port) = match sliced.transport.as_ref().unwrap() {
        TransportSlice::Tcp(tcp) => {
            let expected = match (src, dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => tcp.calc_checksum_ipv4(src.octets(), dst.octets()),
                (IpAddr::V6(src), IpAddr::V6(dst)) => tcp.calc_checksum_ipv6(src.octets(), dst.octets()),
                _ => panic!("mixed families"),
            };
            assert_eq!(tcp.checksum(), expected.unwrap());
            (tcp.source_port(), tcp.destination_port())
        }
        TransportSlice::Udp(udp) => {
            let expected = match (src, dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    udp.to_header().calc_checksum_ipv4_raw(src.octets(), dst.octets(), udp.payload())
                }
                (IpAddr::V6(src), IpAddr::V6(dst)) => {
                    udp.to_header().calc_checksum_ipv6_raw(src.octets(), dst.octets(), udp.payload())
                }
                _ => panic!("mixed families"),
            };
            assert_eq!(udp.checksum(), expected.unwrap());
            (udp.source_port(), udp.destination_port())
        }
        _ => (0, 0),
    };
    ((src, src_port), (dst, dst_port))
}

/// An address and a port as [`ends`] tells them.
pub fn end(address: &str, port: u16) -> (IpAddr, u16) {
    (address.parse().unwrap(), port)
}

fn ip(src: &str, dst: &str) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    match (src.parse().unwrap(), dst.parse().unwrap()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => PacketBuilder::ipv4(src.octets(), dst.octets(), 64),
        (IpAddr::V6(src), IpAddr::V6(dst)) => PacketBuilder::ipv6(src.octets(), dst.octets(), 64),
        _ => panic!("mixed families"),
    }
}

fn write(builder: etherparse::PacketBuilderStep<etherparse::TcpHeader>, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    packet
}
