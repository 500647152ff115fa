//! A router that actions happen to.

mod tell;

use core::fmt;

use acorn_core::addr::{AddressPlan, Dual};
use acorn_core::flow::Lifetimes;
use acorn_core::mtu::OverlayMtu;
use acorn_core::packet::reply::MAX_REPLY_LEN;
use acorn_core::policy::Registry;
use acorn_core::router::{Attachment, Router};
use acorn_core::stats::Counters;
use acorn_core::sync::message::{InstanceRecord, NodeRecord, ServiceHeader, ServiceIpRecord};
use acorn_core::table::TableFull;
use acorn_core::time::Instant;
use acorn_core::{Endpoint, HashKey, NodeId, NodeKey, ServiceId, ServiceName};

use super::outcome::{Heap, Outcome};
use super::{Action, Packet};

/// The longest packet, in bytes.
pub const PACKET_MAX: usize = 10_240;

/// The most bytes that tell what is different in a packet, or what the counters are.
const TOLD_MAX: usize = 1024;

/// How many flows each step of a sweep looks at, and how many are looked at when their time may be over.
const SWEEP: usize = 3;
const EXPIRY: usize = 1000;

/// As small as in the runs that the router's model has taken part in: tables are never full, flows often.
type Small = Router<4, 16, 4, 8, 4>;

/// An action that can't happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A packet, or what is to be told of it, is longer than the buffers here.
    TooLong,
    /// An MTU below 1,280 bytes, too many service IPs, a packet that has to wait and was changed, or one that has to be cut and can't be.
    Impossible,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "longer than the buffers",
            Self::Impossible => "impossible",
        })
    }
}

impl core::error::Error for Flaw {}

/// A router, and the buffers that its packets lie in. About 32 KiB.
pub struct Replay {
    router: Small,
    came: [u8; PACKET_MAX],
    packet: [u8; PACKET_MAX],
    piece: [u8; PACKET_MAX],
    reply: [u8; MAX_REPLY_LEN],
    told: [u8; TOLD_MAX],
}

impl Replay {
    /// A router that knows nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            router: Router::new(),
            came: [0; PACKET_MAX],
            packet: [0; PACKET_MAX],
            piece: [0; PACKET_MAX],
            reply: [0; MAX_REPLY_LEN],
            told: [0; TOLD_MAX],
        }
    }

    /// What the router has counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.router.counters
    }

    /// Lets something happen, and tells what comes of it.
    ///
    /// # Errors
    /// When it can't happen.
    pub fn take(&mut self, action: &Action<'_>) -> Result<Outcome<'_>, Flaw> {
        match *action {
            Action::Outbound(now, packet) => return self.outbound(Instant(now), &packet),
            Action::Inbound(now, node, packet) => return self.inbound(Instant(now), node, &packet),
            Action::Sweep => return Ok(Outcome::Resets(self.sweep())),
            Action::End => return self.end(),
            Action::Begin(nodes) => return Ok(refused_or_not(self.begin(nodes))),
            Action::Service(id, service_ips) => return self.set_service(id, &service_ips),
            Action::Put { id, node, instance_ip, namespace_ip, alive, draining } => {
                let record = InstanceRecord {
                    number: id.number,
                    instance_ip,
                    namespace_ip,
                    node: NodeId(node),
                    weight: 1,
                    alive,
                    draining,
                    ..InstanceRecord::default()
                };
                return Ok(self.put(id.service, &record));
            }
            Action::Attach(id, instance_ip, namespace_ip) => {
                let attachment = Attachment { id, instance_ip, namespace_ip };
                return Ok(refused_or_not(self.router.attachments.put(attachment).map(|_| ())));
            }
            Action::OwnMtu(mtu) => self.router.set_overlay_mtu(OverlayMtu::new(mtu).ok_or(Flaw::Impossible)?),
            Action::PathMtu(now, node, mtu) => {
                let mtu = OverlayMtu::new(mtu).ok_or(Flaw::Impossible)?;
                let Some(node) = self.node(node) else { return Ok(Outcome::Refused) };
                self.router.learn_path_mtu(Instant(now), node, mtu);
            }
            Action::Complete(id, is_complete) => {
                if let Some(row) = self.service(id) {
                    self.router.table.set_complete(row, is_complete);
                }
            }
            Action::RemoveService(id) => {
                if let Some(row) = self.service(id) {
                    self.router.table.remove_service(row);
                }
            }
            Action::Withdraw(id) => {
                let row = self.service(id.service.0).and_then(|row| self.router.table.find_instance(row, id.number));
                if let Some(row) = row {
                    self.router.table.remove_instance(row);
                }
            }
            Action::Avoid(node, is_avoided) => {
                if let Some(node) = self.node(node).and_then(|row| self.router.table.node_mut(row)) {
                    node.avoided = is_avoided;
                }
            }
            Action::Detach(id) => {
                self.router.attachments.remove(id);
            }
            Action::Expire(now) => {
                self.router.expire_flows(Instant(now), EXPIRY);
            }
        }
        Ok(Outcome::Nothing)
    }

    fn begin(&mut self, nodes: u8) -> Result<(), TableFull> {
        // A constant is copied to where it goes; a result would take more of a microcontroller's stack than there is.
        const NEW: Small = Router::new();
        self.router = NEW;
        self.router.configure(AddressPlan::DEFAULT, Registry::built_in(), Lifetimes::default(), HashKey(1, 2));
        for id in 1..=nodes {
            let id = u32::from(id);
            let record = NodeRecord { id: NodeId(id), key: key(id), endpoint: Endpoint::UNKNOWN, epoch: 1 };
            let row = self.router.table.put_node(&record)?;
            if let Some(node) = self.router.table.node_mut(row) {
                node.is_self = id == 1;
            }
        }
        Ok(())
    }

    fn set_service(&mut self, id: u32, service_ips: &[Option<Dual>]) -> Result<Outcome<'_>, Flaw> {
        let mut header = ServiceHeader { name: ServiceName::EMPTY, ..ServiceHeader::default() };
        for address in service_ips.iter().flatten() {
            let ip_type = "RR".try_into().map_err(|_| Flaw::Impossible)?;
            let record = ServiceIpRecord { ip_type, address: *address };
            header.service_ips.push(record).map_err(|_| Flaw::Impossible)?;
        }
        let Ok(row) = self.router.table.ensure_service(ServiceId(id)) else { return Ok(Outcome::Refused) };
        self.router.table.set_header(row, &header, &Registry::built_in());
        Ok(Outcome::Nothing)
    }

    fn put(&mut self, service: ServiceId, record: &InstanceRecord) -> Outcome<'static> {
        let Some(node) = self.node(record.node.0) else { return Outcome::Refused };
        let table = &mut self.router.table;
        let put = table.ensure_service(service).and_then(|row| table.put_instance(row, record, node));
        refused_or_not(put.map(|_| ()))
    }

    fn sweep(&mut self) -> Heap {
        let mut resets = Heap::EMPTY;
        self.router.begin_sweep();
        while self.router.is_sweeping() {
            if let Some(reset) = self.router.poll_sweep(SWEEP, &mut self.reply).and_then(|len| self.reply.get(..len)) {
                resets.add(reset);
            }
        }
        resets
    }

    fn outbound(&mut self, now: Instant, packet: &Packet<'_>) -> Result<Outcome<'_>, Flaw> {
        let len = self.unfold(packet)?;
        let buffer = self.packet.get_mut(..len).ok_or(Flaw::TooLong)?;
        let verdict = self.router.outbound(now, buffer, packet.offload(), &mut self.reply);
        self.tell(verdict, len, packet.offload())
    }

    fn inbound(&mut self, now: Instant, node: u32, packet: &Packet<'_>) -> Result<Outcome<'_>, Flaw> {
        let len = self.unfold(packet)?;
        let Some(node) = self.node(node) else { return Ok(Outcome::Refused) };
        let buffer = self.packet.get_mut(..len).ok_or(Flaw::TooLong)?;
        let verdict = self.router.inbound(now, node, buffer, packet.offload());
        self.tell(verdict, len, packet.offload())
    }

    /// Puts a packet into both buffers and returns its length in bytes.
    fn unfold(&mut self, packet: &Packet<'_>) -> Result<usize, Flaw> {
        packet.unfold(&mut self.packet).ok_or(Flaw::TooLong)?;
        packet.unfold(&mut self.came).ok_or(Flaw::TooLong)
    }

    fn service(&self, id: u32) -> Option<usize> {
        self.router.table.find_service(ServiceId(id))
    }

    fn node(&self, id: u32) -> Option<usize> {
        self.router.table.find_node(&key(id))
    }

    fn id_of(&self, row: usize) -> u32 {
        self.router.table.node(row).map_or(0, |node| node.id.0)
    }
}

impl Default for Replay {
    fn default() -> Self {
        Self::new()
    }
}

fn refused_or_not(done: Result<(), TableFull>) -> Outcome<'static> {
    match done {
        Ok(()) => Outcome::Nothing,
        Err(_) => Outcome::Refused,
    }
}

/// The key of a node.
fn key(id: u32) -> NodeKey {
    let [low, ..] = id.to_le_bytes();
    NodeKey([low; 32])
}
