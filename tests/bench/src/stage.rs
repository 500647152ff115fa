//! A node with so many live flows, and the packets of each case.

use crate::case::{Case, Direction, Path};
use crate::manager;
use crate::network::{self, BUSY, Dialled, HERE, MANAGER, PORT, THERE};
use crate::packet::{ACK, Packet, SYN, SYN_ACK};
use acorn_core::addr::{AddressPlan, Family};
use acorn_core::flow::Lifetimes;
use acorn_core::node::{Action, Node, NodeConfig, Output, PENDING_LEN};
use acorn_core::packet::Offload;
use acorn_core::packet::reply::MAX_REPLY_LEN;
use acorn_core::policy::Registry;
use acorn_core::sync::client::Profile;
use acorn_core::sync::message::{Capacities, MESSAGE_MAX, Message};
use acorn_core::time::Instant;
use acorn_core::{Endpoint, HashKey, RowRef};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Live flows, and the capacity of the table that they are in: it is half full.
pub const FEW: usize = 1 << 10;
const ROOM_FOR_FEW: usize = FEW * 2;
/// As [`FEW`], at the size that budgets are given for.
pub const SOME: usize = 1 << 16;
const ROOM_FOR_SOME: usize = SOME * 2;
/// As [`FEW`], where no cache holds the table.
pub const MANY: usize = 1 << 20;
const ROOM_FOR_MANY: usize = MANY * 2;

const SERVICES: usize = 8;
const INSTANCES: usize = 2048;
const NODES: usize = 8;
const ATTACHMENTS: usize = 64;
const WAITING: usize = 32;

/// Clients whose flows are live; one more begins new flows.
const CLIENTS: u32 = 32;
const NEWCOMER: u32 = CLIENTS;
const FIRST_PORT: u16 = 1024;

/// Time stands still, so that no flow ends by itself.
const NOW: Instant = Instant::from_secs(1_000);

type Engine<const F: usize> = Node<SERVICES, INSTANCES, NODES, F, ATTACHMENTS, WAITING>;

/// The engines are all zero when new: in statics they cost nothing before they are used.
static WITH_FEW: Mutex<Engine<ROOM_FOR_FEW>> = Mutex::new(Node::new());
static WITH_SOME: Mutex<Engine<ROOM_FOR_SOME>> = Mutex::new(Node::new());
static WITH_MANY: Mutex<Engine<ROOM_FOR_MANY>> = Mutex::new(Node::new());

/// A node under load, whatever its capacity.
pub trait Stage {
    /// Flows in the table.
    fn flows(&self) -> usize;

    /// Up to `limit` packets of a case, none of them seen by the node before, if they begin flows.
    fn packets(&mut self, case: Case, limit: usize) -> Vec<Packet>;

    /// Has the node handle all packets, and counts those that it sent on. This is what is measured.
    fn handle(&mut self, case: Case, packets: &mut [Packet]) -> usize;

    /// Ends the flows that measured packets have begun.
    fn forget_newcomer(&mut self);
}

/// A node with so many live flows, one of [`FEW`], [`SOME`] and [`MANY`]. Once per process and size.
pub fn set_up(flows: usize) -> Box<dyn Stage> {
    match flows {
        FEW => Box::new(Loaded::fill(&WITH_FEW, flows)),
        SOME => Box::new(Loaded::fill(&WITH_SOME, flows)),
        MANY => Box::new(Loaded::fill(&WITH_MANY, flows)),
        _ => panic!("there is no node for {flows} flows"),
    }
}

struct Loaded<const F: usize> {
    node: MutexGuard<'static, Engine<F>>,
    reply: [u8; MAX_REPLY_LEN],
    /// Where the instances are.
    there: RowRef,
    /// How many flows were tried; not all of them need have found room.
    tried: usize,
}

impl<const F: usize> Stage for Loaded<F> {
    fn flows(&self) -> usize {
        self.node.router().flows.len()
    }

    fn packets(&mut self, case: Case, limit: usize) -> Vec<Packet> {
        match case {
            Case::Packet(direction, Path::Hit, family) => self.packets_of_flows(direction, family, limit),
            Case::Packet(direction, Path::First, family) => {
                ports(limit).map(|port| first_packet(direction, family, BUSY, port)).collect()
            }
            Case::Balance(instances) => {
                let dialled = Dialled::of_size(instances);
                ports(limit).map(|port| first_packet(Direction::Outbound, Family::V4, dialled, port)).collect()
            }
        }
    }

    fn handle(&mut self, case: Case, packets: &mut [Packet]) -> usize {
        match case {
            Case::Packet(Direction::Inbound, ..) => measured_inbound(&mut self.node, self.there, packets),
            _ => measured_outbound(&mut self.node, &mut self.reply, packets),
        }
    }

    fn forget_newcomer(&mut self) {
        let newcomer = network::client(NEWCOMER);
        self.node.detach(NOW, newcomer.id).expect("there is room for one request");
        self.settle();
        self.node.resume(NOW, newcomer).expect("it was attached before");
        self.settle();
    }
}

/// Not inlined, and named so that a profiler can be told to count in here only. The set-up does not come through here.
#[inline(never)]
fn measured_outbound<const F: usize>(node: &mut Engine<F>, reply: &mut [u8], packets: &mut [Packet]) -> usize {
    let mut sent = 0;
    for packet in packets {
        let action = node.handle_tun(NOW, packet.bytes(), Offload::NONE, reply);
        sent += usize::from(matches!(action, Action::Forward { .. }));
    }
    sent
}

/// As [`measured_outbound`].
#[inline(never)]
fn measured_inbound<const F: usize>(node: &mut Engine<F>, peer: RowRef, packets: &mut [Packet]) -> usize {
    let mut sent = 0;
    for packet in packets {
        let action = node.handle_payload(NOW, peer, packet.bytes());
        sent += usize::from(matches!(action, Action::Deliver { .. }));
    }
    sent
}

impl<const F: usize> Loaded<F> {
    fn fill(engine: &'static Mutex<Engine<F>>, flows: usize) -> Self {
        let mut node = engine.lock().unwrap_or_else(PoisonError::into_inner);
        node.start(NOW, config(&[manager::record()])).expect("a table for one manager");
        let mut stage = Self { node, reply: [0; MAX_REPLY_LEN], there: RowRef::NONE, tried: 0 };
        stage.settle();
        for number in 0..=NEWCOMER {
            stage.node.resume(NOW, network::client(number)).expect("there is room for all clients");
            stage.settle();
        }
        for dialled in Dialled::all() {
            // The first packet makes the node ask for the table.
            stage.send(&mut first_packet(Direction::Outbound, Family::V4, dialled, FIRST_PORT));
            stage.settle();
        }
        stage.there = stage.node.find_peer(&network::key(THERE)).expect("the tables name it");
        stage.forget_newcomer();
        while stage.flows() < flows {
            assert!(stage.tried < F, "only {} of {flows} flows find room in a table for {F}", stage.flows());
            let (family, client, port) = flow(stage.tried);
            stage.send(&mut segment(family, client, port, SYN));
            stage.tried += 1;
        }
        stage
    }

    /// Exchanges messages with the manager until there is nothing more to say.
    fn settle(&mut self) {
        let mut out = [0; PENDING_LEN];
        loop {
            while self.node.poll_peer().is_some() {}
            while self.node.poll_event().is_some() {}
            let Some(output) = self.node.poll_output(NOW, &mut out) else {
                return;
            };
            // What is not a message is a packet that has waited.
            if let Output::Peer { len, .. } = output
                && let Ok(message) = Message::decode(&out[..len])
            {
                let answers = manager::answer(&message);
                let manager = self.node.find_peer(&network::key(MANAGER)).expect("the node has a manager");
                for answer in answers {
                    let mut payload = [0; MESSAGE_MAX];
                    let len = answer.encode(&mut payload).expect("a message fits");
                    self.node.handle_payload(NOW, manager, &mut payload[..len]);
                }
            }
        }
    }

    /// A client sends, unmeasured. Whether the packet went on.
    fn send(&mut self, packet: &mut Packet) -> bool {
        let action = self.node.handle_tun(NOW, packet.bytes(), Offload::NONE, &mut self.reply);
        matches!(action, Action::Forward { .. })
    }

    /// Packets of live flows, from all over the table.
    fn packets_of_flows(&mut self, direction: Direction, family: Family, limit: usize) -> Vec<Packet> {
        let mut packets = Vec::new();
        // A step that is odd visits every flow once, whatever power of two there are, and next to none in order.
        let step = (self.tried / limit.max(1)).max(self.tried / 3) | 1;
        for n in 0..self.tried {
            let (of, client, port) = flow(n * step % self.tried);
            if of != family {
                continue;
            }
            if let Some(packet) = self.packet_of_flow(direction, family, client, port) {
                packets.push(packet);
            }
            if packets.len() == limit {
                break;
            }
        }
        packets
    }

    /// A packet of a flow, established by now; none when the flow found no room.
    fn packet_of_flow(&mut self, direction: Direction, family: Family, client: u32, port: u16) -> Option<Packet> {
        let mut outbound = segment(family, client, port, ACK);
        if !self.send(&mut outbound) {
            return None;
        }
        let instance = BUSY.instance_at(outbound.destination())?.of(family);
        let to = network::client(client).namespace_ip.of(family);
        let mut opened = Packet::tcp((instance, PORT), (to, port), SYN_ACK);
        if !matches!(self.node.handle_payload(NOW, self.there, opened.bytes()), Action::Deliver { .. }) {
            return None;
        }
        Some(match direction {
            Direction::Outbound => segment(family, client, port, ACK),
            Direction::Inbound => Packet::tcp((instance, PORT), (to, port), ACK),
        })
    }
}

fn config(managers: &[acorn_core::sync::message::ManagerRecord]) -> NodeConfig<'_> {
    NodeConfig {
        plan: AddressPlan::DEFAULT,
        registry: Registry::built_in(),
        lifetimes: Lifetimes::default(),
        hash_key: HashKey(5, 6),
        profile: Profile {
            key: network::key(HERE),
            name: "here".try_into().unwrap_or_default(),
            joining: false,
            epoch: 1,
            endpoint: Endpoint::UNKNOWN,
            subnet: None,
            lease_ms: 0,
            capacities: Capacities { services: SERVICES as u32, instances: INSTANCES as u32, nodes: NODES as u32 },
        },
        managers,
    }
}

/// Family, client and port of the `n`-th live flow.
fn flow(n: usize) -> (Family, u32, u16) {
    let (client, rest) = (n % CLIENTS as usize, n / CLIENTS as usize);
    let family = if rest.is_multiple_of(2) { Family::V4 } else { Family::V6 };
    (family, client as u32, FIRST_PORT + (rest / 2) as u16)
}

fn ports(limit: usize) -> impl Iterator<Item = u16> {
    (FIRST_PORT..=u16::MAX).take(limit)
}

/// A segment of a live flow.
fn segment(family: Family, client: u32, port: u16, flags: u8) -> Packet {
    let from: IpAddr = network::client(client).namespace_ip.of(family);
    Packet::tcp((from, port), (BUSY.service_ip().of(family), PORT), flags)
}

/// The first packet of a flow of the newcomer's; of one to it, when it comes in.
fn first_packet(direction: Direction, family: Family, dialled: Dialled, port: u16) -> Packet {
    let newcomer = network::client(NEWCOMER).namespace_ip.of(family);
    match direction {
        Direction::Outbound => Packet::tcp((newcomer, port), (dialled.service_ip().of(family), PORT), SYN),
        Direction::Inbound => {
            let instance = dialled.record(u32::from(port) % dialled.instances).instance_ip.of(family);
            Packet::tcp((instance, port), (newcomer, PORT), SYN)
        }
    }
}
