//! Packets through an engine of the size that the node has, with half of its flows in use.

use acorn_bench::case::{Case, PACKETS, Path};
use acorn_bench::engine::{FIRST_PORT, Measured, first_packet};
use acorn_bench::network::BUSY;
use acorn_bench::packet::Packet;
use acorn_core::addr::Family;
use acorn_core::node::Node;
use acorn_node::{FLOWS, INSTANCES, NODES, SERVICES};
use static_cell::ConstStaticCell;

use crate::marks;

/// One application, and as many packets that wait as `acorn-embassy` lets.
const ATTACHMENTS: usize = 1;
const WAITING: usize = 4;

/// The application.
const CLIENT: u32 = 0;

/// Packets of each case: enough to average out how far each flow is from where its hash says.
const BATCH: usize = 16;

/// Ports of flows that are live.
const LIVE: u16 = FLOWS as u16 / 4;

static NODE: ConstStaticCell<Node<SERVICES, INSTANCES, NODES, FLOWS, ATTACHMENTS, WAITING>> =
    ConstStaticCell::new(Node::new());

/// Measures every case.
pub fn measure() {
    static BATCHES: ConstStaticCell<[Packet; BATCH]> = ConstStaticCell::new([const { Packet::EMPTY }; BATCH]);
    let batch = BATCHES.take();
    let mut node = Measured::start(NODE.take(), CLIENT, [BUSY].into_iter());
    for case in PACKETS {
        // Flows of one case would be in the way of the next one's.
        node.forget(CLIENT);
        for port in FIRST_PORT..FIRST_PORT + LIVE {
            for family in [Family::V4, Family::V6] {
                assert!(node.begin(family, CLIENT, port), "there is room for {FLOWS} flows");
            }
        }
        for (packet, port) in batch.iter_mut().zip(0..) {
            *packet = match case {
                Case::Packet(direction, Path::Hit, family) => {
                    node.packet_of_flow(direction, family, CLIENT, FIRST_PORT + port).expect("the flow was begun")
                }
                Case::Packet(direction, Path::First, family) => {
                    first_packet(direction, family, CLIENT, BUSY, FIRST_PORT + LIVE + port)
                }
                Case::Balance(_) => continue,
            };
        }
        let sent = marks::measure(case, BATCH, || node.handle(case, batch));
        assert!(sent == BATCH, "{case}: {sent} of {BATCH} packets were sent on");
    }
}
