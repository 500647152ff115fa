use std::net::IpAddr;

use crate::addr::{AddressPlan, Dual, Family};
use crate::flow::Lifetimes;
use crate::ids::{InstanceId, NodeKey, ServiceId};
use crate::index::HashKey;
use crate::packet::reply::MAX_REPLY_LEN;
use crate::packet::samples::{Kind, Sample, slow_checksum, slow_sum};
use crate::packet::{Offload, Protocol, View};
use crate::policy::Registry;
use crate::router::{Attachment, Router, Verdict};
use crate::stats::DropReason;
use crate::sync::message::InstanceRecord;
use crate::table::samples::{header, instance_ip, namespace_ip, node_record, record};
use crate::time::Instant;

/// The nodes.
pub const A: u32 = 1;
pub const B: u32 = 2;
pub const C: u32 = 3;

/// A service whose instances dial others.
pub const CLIENTS: u32 = 9;
/// A service that is dialled. Its service IPs are [`DIALLED`] and [`ALSO_DIALLED`].
pub const SERVERS: u32 = 1;
pub const DIALLED: u32 = 1;
pub const ALSO_DIALLED: u32 = 2;

pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;
pub const SYN_ACK: u8 = 0x12;
pub const FIN_ACK: u8 = 0x11;
pub const RST: u8 = 0x04;

/// A node's router.
pub struct Side<const I: usize = 64, const F: usize = 64> {
    pub router: Box<Router<8, I, 8, F, 16>>,
    node: u32,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Forward(u32, Vec<u8>),
    /// To be cut into pieces of this length.
    Fragment(u32, Vec<u8>, u16),
    Deliver(Vec<u8>),
    Reply(DropReason, Vec<u8>),
    Wait(IpAddr),
    Drop(DropReason),
}

impl Fate {
    /// The packet that goes to this node.
    #[track_caller]
    pub fn to(self, node: u32) -> Vec<u8> {
        match self {
            Self::Forward(to, packet) if to == node => packet,
            other => panic!("not forwarded to {node}: {other:?}"),
        }
    }

    /// The packet that is delivered.
    #[track_caller]
    pub fn delivered(self) -> Vec<u8> {
        match self {
            Self::Deliver(packet) => packet,
            other => panic!("not delivered: {other:?}"),
        }
    }

    /// The reply, whose checksums are right.
    #[track_caller]
    pub fn reply(self, reason: DropReason) -> Vec<u8> {
        match self {
            Self::Reply(why, packet) if why == reason => {
                assert_whole(&packet);
                packet
            }
            other => panic!("not answered for {reason}: {other:?}"),
        }
    }
}

impl<const I: usize, const F: usize> Side<I, F> {
    /// A node that knows the three nodes and nothing else.
    pub fn new(node: u32) -> Self {
        let mut router: Box<Router<8, I, 8, F, 16>> = Box::default();
        router.configure(AddressPlan::DEFAULT, Registry::built_in(), Lifetimes::default(), HashKey(3, 4));
        for n in [A, B, C] {
            let slot = router.table.put_node(&node_record(n)).unwrap();
            router.table.node_mut(slot).unwrap().is_self = n == node;
        }
        Self { router, node }
    }

    /// Makes a service known, whole, with these service IPs.
    pub fn service(&mut self, id: u32, ips: &[u32]) {
        let registry = self.router.registry();
        let slot = self.router.table.ensure_service(ServiceId(id)).unwrap();
        self.router.table.set_header(slot, &header(ips), &registry);
        self.router.table.set_complete(slot, true);
    }

    /// Makes an instance known.
    pub fn instance(&mut self, service: u32, number: u32, node: u32) {
        self.put(service, record(service, number, node), node);
    }

    pub fn put(&mut self, service: u32, record: InstanceRecord, node: u32) {
        let slot = self.service_row(service);
        let node = self.node_row(node);
        self.router.table.put_instance(slot, &record, node).unwrap();
    }

    pub fn withdraw(&mut self, service: u32, number: u32) {
        let slot = self.instance_row(service, number);
        self.router.table.remove_instance(slot);
    }

    /// Attaches an instance here.
    pub fn attach(&mut self, service: u32, number: u32) {
        let record = record(service, number, self.node);
        let attachment = Attachment {
            id: InstanceId { service: ServiceId(service), number },
            instance_ip: record.instance_ip,
            namespace_ip: record.namespace_ip,
        };
        self.router.attachments.put(attachment).unwrap();
    }

    pub fn detach(&mut self, service: u32, number: u32) {
        let id = InstanceId { service: ServiceId(service), number };
        self.router.attachments.remove(id).unwrap();
    }

    /// A local application sends.
    pub fn send(&mut self, now: Instant, packet: &[u8]) -> Fate {
        self.send_with(now, packet, Offload::NONE)
    }

    pub fn send_with(&mut self, now: Instant, packet: &[u8], offload: Offload) -> Fate {
        let (mut buffer, mut reply) = (packet.to_vec(), [0; MAX_REPLY_LEN]);
        let verdict = self.router.outbound(now, &mut buffer, offload, &mut reply);
        self.fate(verdict, packet, buffer, &reply)
    }

    /// A packet comes from the tunnel of a node.
    pub fn receive(&mut self, now: Instant, from: u32, packet: &[u8]) -> Fate {
        let mut buffer = packet.to_vec();
        let peer = self.node_row(from);
        let verdict = self.router.inbound(now, peer, &mut buffer, Offload::NONE);
        self.fate(verdict, packet, buffer, &[])
    }

    fn fate(&self, verdict: Verdict, before: &[u8], mut after: Vec<u8>, reply: &[u8]) -> Fate {
        match verdict {
            Verdict::Forward { node, len } => {
                after.truncate(len);
                let node = self.router.table.node(node).unwrap().id.0;
                Fate::Forward(node, after)
            }
            Verdict::Fragment { node, len, mtu } => {
                after.truncate(len);
                let node = self.router.table.node(node).unwrap().id.0;
                Fate::Fragment(node, after, mtu.get())
            }
            Verdict::Deliver { len } => {
                after.truncate(len);
                Fate::Deliver(after)
            }
            Verdict::Reply { reason, len } => Fate::Reply(reason, reply[..len].to_vec()),
            Verdict::Wait { address, .. } => {
                assert_eq!(before, after, "a packet that waits is unchanged");
                Fate::Wait(address)
            }
            Verdict::Drop(reason) => Fate::Drop(reason),
        }
    }

    /// All that the sweep sends to local applications.
    pub fn sweep(&mut self, budget: usize) -> Vec<Vec<u8>> {
        let (mut resets, mut reply) = (Vec::new(), [0; MAX_REPLY_LEN]);
        self.router.begin_sweep();
        while self.router.is_sweeping() {
            if let Some(len) = self.router.poll_sweep(budget, &mut reply) {
                resets.push(reply[..len].to_vec());
            }
        }
        resets
    }

    pub fn drops(&self, reason: DropReason) -> u64 {
        self.router.counters.drops(reason)
    }

    pub fn service_row(&self, service: u32) -> usize {
        self.router.table.find_service(ServiceId(service)).unwrap()
    }

    pub fn instance_row(&self, service: u32, number: u32) -> usize {
        let slot = self.service_row(service);
        self.router.table.find_instance(slot, number).unwrap()
    }

    pub fn node_row(&self, node: u32) -> usize {
        let key = NodeKey([node as u8; 32]);
        self.router.table.find_node(&key).unwrap()
    }

    /// The flows of this node to an instance.
    pub fn flows_to(&self, service: u32, number: u32) -> u32 {
        let slot = self.instance_row(service, number);
        self.router.table.instance(slot).unwrap().flows
    }
}

/// A node where the clients 0 and 1 are attached and that knows the servers, which run on these nodes; those on the node
/// itself are attached.
pub fn node_with(node: u32, servers: &[u32]) -> Side {
    let mut side: Side = Side::new(node);
    fill(&mut side, servers);
    side
}

pub fn fill<const I: usize, const F: usize>(side: &mut Side<I, F>, servers: &[u32]) {
    side.service(SERVERS, &[DIALLED, ALSO_DIALLED]);
    for (number, on) in servers.iter().enumerate() {
        side.instance(SERVERS, number as u32, *on);
        if *on == side.node {
            side.attach(SERVERS, number as u32);
        }
    }
    side.service(CLIENTS, &[]);
    for number in [0, 1] {
        side.instance(CLIENTS, number, A);
        if side.node == A {
            side.attach(CLIENTS, number);
        }
    }
}

/// Node A with two clients, and node B with one server.
pub fn pair() -> (Side, Side) {
    (node_with(A, &[B]), node_with(B, &[B]))
}

/// The instance IP and the namespace IP of a client on A.
pub fn client(number: u32) -> (Dual, Dual) {
    let record = record(CLIENTS, number, A);
    (record.instance_ip, record.namespace_ip)
}

/// The instance IP and the namespace IP of a server.
pub fn server(number: u32, node: u32) -> (Dual, Dual) {
    (instance_ip(SERVERS, number), namespace_ip(node, SERVERS * 64 + number))
}

/// A packet between two addresses, without anything extra.
pub fn packet(family: Family, kind: Kind, from: (Dual, u16), to: (Dual, u16)) -> Sample {
    Sample {
        src: from.0.of(family),
        dst: to.0.of(family),
        src_port: from.1,
        dst_port: to.1,
        ..Sample::plain(family, kind, 20)
    }
}

/// A TCP segment with these flags.
pub fn segment(family: Family, flags: u8, from: (Dual, u16), to: (Dual, u16)) -> Sample {
    Sample { tcp_flags: flags, ..packet(family, Kind::Tcp, from, to) }
}

/// The same packet with other addresses: what a rewritten one must be, byte for byte.
pub fn readdressed(sample: &Sample, src: Dual, dst: Dual) -> Vec<u8> {
    Sample { src: src.of(sample.family()), dst: dst.of(sample.family()), padding: 0, ..sample.clone() }.build()
}

/// What answers a packet, from one address to another.
pub fn answer_to(sample: &Sample, src: Dual, dst: Dual) -> Sample {
    let family = sample.family();
    let kind = match sample.kind {
        Kind::EchoRequest => Kind::EchoReply,
        kind => kind,
    };
    let (src_port, dst_port) = match kind {
        // Both carry the identifier in the same place.
        Kind::EchoReply => (sample.src_port, 0),
        _ => (sample.dst_port, sample.src_port),
    };
    Sample { src: src.of(family), dst: dst.of(family), kind, src_port, dst_port, tcp_flags: SYN_ACK, ..sample.clone() }
}

/// Every checksum is what a full computation gives.
#[track_caller]
pub fn assert_whole(packet: &[u8]) {
    let view = View::parse(packet, Offload::NONE).unwrap();
    assert_eq!(view.total_len(), packet.len());
    let message = &packet[view.transport_offset()..];
    let protocol = view.protocol().number();
    let left = match view.protocol() {
        Protocol::Icmp => !slow_sum(message),
        _ => slow_checksum(view.src(), view.dst(), protocol, message),
    };
    assert_eq!(left, 0, "the transport checksum");
    if view.family() == Family::V4 {
        assert_eq!(slow_sum(&packet[..20]), 0xffff, "the header checksum");
    }
}

pub fn at(seconds: u64) -> Instant {
    Instant::from_secs(seconds)
}
