//! The engine that is measured, taken through the table protocol to where its packets flow.

use crate::case::{Case, Direction};
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
use acorn_core::sync::message::{Capacities, MESSAGE_MAX, ManagerRecord, Message};
use acorn_core::time::Instant;
use acorn_core::{Endpoint, HashKey, RowRef};
use core::net::IpAddr;
use core::ops::DerefMut;

/// The lowest port that flows are begun from.
pub const FIRST_PORT: u16 = 1024;

/// Time stands still, so that no flow ends by itself.
const NOW: Instant = Instant::from_secs(1_000);

/// A node with its manager beside it.
pub struct Measured<D> {
    node: D,
    reply: [u8; MAX_REPLY_LEN],
    /// Where the instances are.
    there: RowRef,
}

impl<D, const S: usize, const I: usize, const N: usize, const F: usize, const L: usize, const P: usize> Measured<D>
where
    D: DerefMut<Target = Node<S, I, N, F, L, P>>,
{
    /// Starts a new node, attaches clients 0 to `last`, and has it learn the tables of services.
    ///
    /// # Panics
    /// When the node has no room for all that.
    pub fn start(mut node: D, last: u32, services: impl Iterator<Item = Dialled>) -> Self {
        let capacities = Capacities { services: S as u32, instances: I as u32, nodes: N as u32 };
        node.start(NOW, config(&[manager::record()], capacities)).expect("a table for one manager");
        let mut measured = Self { node, reply: [0; MAX_REPLY_LEN], there: RowRef::NONE };
        measured.settle();
        for number in 0..=last {
            measured.node.resume(NOW, network::client(number)).expect("there is room for all clients");
            measured.settle();
        }
        for dialled in services {
            // The first packet makes the node ask for the table.
            measured.send(&mut first_packet(Direction::Outbound, Family::V4, last, dialled, FIRST_PORT));
            measured.settle();
        }
        measured.there = measured.node.find_peer(&network::key(THERE)).expect("the tables name it");
        measured.forget(last);
        measured
    }

    /// Flows in the table.
    pub fn flows(&self) -> usize {
        self.node.router().flows.len()
    }

    /// Has the node handle all packets, and counts those that it sent on. This is what is measured.
    pub fn handle(&mut self, case: Case, packets: &mut [Packet]) -> usize {
        match case {
            Case::Packet(Direction::Inbound, ..) => measured_inbound(&mut self.node, self.there, packets),
            _ => measured_outbound(&mut self.node, &mut self.reply, packets),
        }
    }

    /// Ends all flows of a client.
    ///
    /// # Panics
    /// When the client is not attached.
    pub fn forget(&mut self, client: u32) {
        let client = network::client(client);
        self.node.detach(NOW, client.id).expect("there is room for one request");
        self.settle();
        self.node.resume(NOW, client).expect("it was attached before");
        self.settle();
    }

    /// A client begins a flow to the busy service, unmeasured. Whether there was room for it.
    pub fn begin(&mut self, family: Family, client: u32, port: u16) -> bool {
        self.send(&mut segment(family, client, port, SYN))
    }

    /// A packet of a flow that was begun, established by now; none when the flow found no room.
    pub fn packet_of_flow(&mut self, direction: Direction, family: Family, client: u32, port: u16) -> Option<Packet> {
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

    /// A client sends, unmeasured. Whether the packet went on.
    fn send(&mut self, packet: &mut Packet) -> bool {
        let action = self.node.handle_tun(NOW, packet.bytes(), Offload::NONE, &mut self.reply);
        matches!(action, Action::Forward { .. })
    }

    /// Exchanges messages with the manager until there is nothing more to say.
    fn settle(&mut self) {
        let (mut message, mut answer) = ([0; PENDING_LEN], [0; MESSAGE_MAX]);
        let manager = self.node.find_peer(&network::key(MANAGER)).expect("the node has a manager");
        while let Some(len) = said(&mut *self.node, &mut message) {
            let mut number = 0;
            while let Some(len) = answer_to(&message[..len], number, &mut answer) {
                self.node.handle_payload(NOW, manager, &mut answer[..len]);
                number += 1;
            }
        }
    }
}

// Two functions that are not inlined, so that messages are off the stack of a microcontroller when the node works on an answer.

/// Writes what the node has to say, and returns its length; none when there is nothing more.
#[inline(never)]
fn said<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize, const P: usize>(
    node: &mut Node<S, I, N, F, L, P>,
    out: &mut [u8],
) -> Option<usize> {
    loop {
        while node.poll_peer().is_some() {}
        while node.poll_event().is_some() {}
        if let Output::Peer { len, .. } = node.poll_output(NOW, out)? {
            return Some(len);
        }
    }
}

/// Writes one of the manager's answers, and returns its length; none when there are no more. What is not a message is a packet that
/// has waited.
#[inline(never)]
fn answer_to(message: &[u8], number: u32, answer: &mut [u8]) -> Option<usize> {
    let message = Message::decode(message).ok()?;
    manager::answer(&message, number).map(|message| message.encode(answer).expect("a message fits"))
}

/// The first packet of a client's flow; of one to it, when it comes in.
pub fn first_packet(direction: Direction, family: Family, client: u32, dialled: Dialled, port: u16) -> Packet {
    let client = network::client(client).namespace_ip.of(family);
    match direction {
        Direction::Outbound => Packet::tcp((client, port), (dialled.service_ip().of(family), PORT), SYN),
        Direction::Inbound => {
            let instance = dialled.record(u32::from(port) % dialled.instances).instance_ip.of(family);
            Packet::tcp((instance, port), (client, PORT), SYN)
        }
    }
}

/// Not inlined, and named so that a profiler can be told to count in here only. The set-up does not come through here.
#[inline(never)]
fn measured_outbound<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize, const P: usize>(
    node: &mut Node<S, I, N, F, L, P>,
    reply: &mut [u8],
    packets: &mut [Packet],
) -> usize {
    let mut sent = 0;
    for packet in packets {
        let action = node.handle_tun(NOW, packet.bytes(), Offload::NONE, reply);
        sent += usize::from(matches!(action, Action::Forward { .. }));
    }
    sent
}

/// As [`measured_outbound`].
#[inline(never)]
fn measured_inbound<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize, const P: usize>(
    node: &mut Node<S, I, N, F, L, P>,
    peer: RowRef,
    packets: &mut [Packet],
) -> usize {
    let mut sent = 0;
    for packet in packets {
        let action = node.handle_payload(NOW, peer, packet.bytes());
        sent += usize::from(matches!(action, Action::Deliver { .. }));
    }
    sent
}

/// A segment of a client's flow to the busy service.
fn segment(family: Family, client: u32, port: u16, flags: u8) -> Packet {
    let from: IpAddr = network::client(client).namespace_ip.of(family);
    Packet::tcp((from, port), (BUSY.service_ip().of(family), PORT), flags)
}

fn config(managers: &[ManagerRecord], capacities: Capacities) -> NodeConfig<'_> {
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
            capacities,
        },
        managers,
    }
}
