//! A node with so many live flows, and the packets of each case.

use crate::case::{Case, Direction, INSTANCES, PACKETS, Path};
use crate::engine::{FIRST_PORT, Measured, first_packet};
use crate::network::{BUSY, Dialled};
use crate::packet::Packet;
use acorn_core::addr::Family;
use acorn_core::node::Node;
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
const ROOM_FOR_INSTANCES: usize = 2048;
const NODES: usize = 8;
const ATTACHMENTS: usize = 64;
const WAITING: usize = 32;

/// Clients whose flows are live; one more begins new flows.
const CLIENTS: u32 = 32;
const NEWCOMER: u32 = CLIENTS;

type Engine<const F: usize> = Node<SERVICES, ROOM_FOR_INSTANCES, NODES, F, ATTACHMENTS, WAITING>;

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

/// The cases that are measured with so many flows in the table.
pub fn cases_of(flows: usize) -> Vec<Case> {
    let balanced = INSTANCES.map(Case::Balance);
    // How a policy picks does not depend on the number of flows.
    let balanced = if flows == FEW { &balanced[..] } else { &[] };
    PACKETS.iter().chain(balanced).copied().collect()
}

struct Loaded<const F: usize> {
    measured: Measured<MutexGuard<'static, Engine<F>>>,
    /// How many flows were tried; not all of them need have found room.
    tried: usize,
}

impl<const F: usize> Stage for Loaded<F> {
    fn flows(&self) -> usize {
        self.measured.flows()
    }

    fn packets(&mut self, case: Case, limit: usize) -> Vec<Packet> {
        let first = |direction, family, dialled| {
            ports(limit).map(move |port| first_packet(direction, family, NEWCOMER, dialled, port)).collect()
        };
        match case {
            Case::Packet(direction, Path::Hit, family) => self.packets_of_flows(direction, family, limit),
            Case::Packet(direction, Path::First, family) => first(direction, family, BUSY),
            Case::Balance(instances) => first(Direction::Outbound, Family::V4, Dialled::of_size(instances)),
        }
    }

    fn handle(&mut self, case: Case, packets: &mut [Packet]) -> usize {
        self.measured.handle(case, packets)
    }

    fn forget_newcomer(&mut self) {
        self.measured.forget(NEWCOMER);
    }
}

impl<const F: usize> Loaded<F> {
    fn fill(engine: &'static Mutex<Engine<F>>, flows: usize) -> Self {
        let node = engine.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stage = Self { measured: Measured::start(node, NEWCOMER, Dialled::all()), tried: 0 };
        while stage.flows() < flows {
            assert!(stage.tried < F, "only {} of {flows} flows find room in a table for {F}", stage.flows());
            let (family, client, port) = flow(stage.tried);
            stage.measured.begin(family, client, port);
            stage.tried += 1;
        }
        stage
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
            if let Some(packet) = self.measured.packet_of_flow(direction, family, client, port) {
                packets.push(packet);
            }
            if packets.len() == limit {
                break;
            }
        }
        packets
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
