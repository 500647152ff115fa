//! A packet in, a verdict out: classify, find or begin the flow, rewrite.
//!
//! [`Router::outbound`] takes what a local application sends, [`Router::inbound`] what a peer sends. On the wire between two
//! nodes a packet always reads *instance IP → namespace IP*; the applications see the addresses that they dialled.

mod answer;
mod attachments;
mod inbound;
mod outbound;

use core::net::IpAddr;

pub use attachments::{Attachment, Attachments};

use crate::addr::{AddressPlan, Family, WorkerSubnet};
use crate::flow::{Flow, FlowTable, Lifetimes, Stage};
use crate::index::HashKey;
use crate::late::Late;
use crate::packet::{IcmpKind, Protocol, Transport, View};
use crate::policy::Registry;
use crate::slots::RowRef;
use crate::stats::{Counters, DropReason};
use crate::table::Table;
use crate::time::Instant;

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send the first `len` bytes of the packet, which have been rewritten, to the node in row `node` of the table.
    Forward {
        /// The node's row.
        node: usize,
        /// The packet's length in bytes.
        len: usize,
    },
    /// Give the first `len` bytes of the packet, which have been rewritten, to the local network stack.
    Deliver {
        /// The packet's length in bytes.
        len: usize,
    },
    /// The packet is dropped for this reason; give the first `len` bytes of the reply buffer to the local network stack.
    Reply {
        /// Why the packet is dropped.
        reason: DropReason,
        /// The reply's length in bytes.
        len: usize,
    },
    /// The packet, which is unchanged, has to wait until the table knows this address.
    Wait {
        /// The address: a destination of a local application, or the inner source of a peer's packet.
        address: IpAddr,
        /// The local attachment that sent it.
        asker: RowRef,
    },
    /// The packet is dropped.
    Drop(DropReason),
}

/// Tables, flows and attachments of one node, and the rules by which packets go through them. All zero when new.
///
/// Capacities: `S` services, `I` instances, `N` nodes, `F` flows, `L` attachments.
pub struct Router<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize> {
    /// What is known of the network.
    pub table: Table<S, I, N>,
    /// The flows.
    pub flows: FlowTable<F>,
    /// The instances on this node.
    pub attachments: Attachments<L>,
    /// What happened to packets.
    pub counters: Counters,
    rules: Late<Rules>,
    /// Where the search for flows whose instance is gone stands; none when there is nothing to look for.
    sweep: Option<usize>,
}

/// What does not change while a router runs.
#[derive(Clone, Copy)]
struct Rules {
    plan: AddressPlan,
    registry: Registry,
    subnet: Option<WorkerSubnet>,
}

impl<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize> Router<S, I, N, F, L> {
    /// A router that drops everything until it is configured.
    pub const fn new() -> Self {
        Self {
            table: Table::new(),
            flows: FlowTable::new(),
            attachments: Attachments::new(),
            counters: Counters::new(),
            rules: Late::new(),
            sweep: None,
        }
    }

    /// Sets the address plan, the policies, how long flows live and the secret of all hashes. Once, before the first packet.
    pub fn configure(&mut self, plan: AddressPlan, registry: Registry, lifetimes: Lifetimes, key: HashKey) {
        self.table.set_hash_key(key);
        self.flows.configure(key, lifetimes);
        self.attachments.set_hash_key(key);
        self.rules.set(Rules { plan, registry, subnet: None });
    }

    /// The policies.
    pub fn registry(&self) -> Registry {
        self.rules.get().map_or(Registry::built_in(), |rules| rules.registry)
    }

    /// Sets the subnets that this node's instances live in.
    pub fn set_subnet(&mut self, subnet: WorkerSubnet) {
        if let Some(rules) = self.rules.get_mut() {
            rules.subnet = Some(subnet);
        }
    }

    /// Looks at up to `budget` flows and ends those whose time is over.
    pub fn expire_flows(&mut self, now: Instant, budget: usize) {
        let table = &mut self.table;
        self.flows.expire(now, budget, |flow, _| table.count_flow(flow.counted(), false));
    }

    /// Begins to look for flows whose instance or attachment is gone; [`Self::poll_sweep`] finds them.
    pub fn begin_sweep(&mut self) {
        self.sweep = Some(0);
    }

    /// Whether flows are still to be looked at.
    pub fn is_sweeping(&self) -> bool {
        self.sweep.is_some()
    }

    /// Looks at up to `budget` flows. The first one found whose instance or attachment is gone ends; when it is a local
    /// application's TCP connection, a RST for it is written into `reply` and its length returned. To be called again while
    /// [`Self::is_sweeping`].
    pub fn poll_sweep(&mut self, budget: usize, reply: &mut [u8]) -> Option<usize> {
        for _ in 0..budget {
            let row = self.sweep?;
            self.sweep = row.checked_add(1).filter(|next| *next < self.flows.high_water());
            let Some(flow) = self.flows.get(row) else {
                continue;
            };
            let here = self.attachments.is_current(flow.attachment);
            if here && self.is_remote_current(flow) {
                continue;
            }
            let Some(flow) = self.end_flow(row) else {
                continue;
            };
            if here
                && flow.protocol == Protocol::Tcp.number()
                && flow.stage != Stage::Opening
                && let Some(len) = answer::reset_flow(&flow, reply)
            {
                self.counters.replied = self.counters.replied.wrapping_add(1);
                return Some(len);
            }
        }
        None
    }

    /// Ends a flow and counts it out.
    fn end_flow(&mut self, row: usize) -> Option<Flow> {
        let flow = self.flows.remove(row)?;
        self.table.count_flow(flow.counted(), false);
        Some(flow)
    }

    /// Whether the remote instance of a flow is still what and where it was.
    #[inline]
    fn is_remote_current(&self, flow: &Flow) -> bool {
        if flow.within { self.attachments.is_current(flow.instance) } else { self.table.is_current(flow.instance) }
    }

    /// Takes a flow in and counts it in.
    fn begin_flow(&mut self, flow: Flow, now: Instant) -> Result<usize, DropReason> {
        let (table, counters) = (&mut self.table, &mut self.counters);
        let row = self
            .flows
            .insert(flow, now, |ended, how| {
                table.count_flow(ended.counted(), false);
                if how != crate::flow::Ended::Expired {
                    counters.flows_evicted = counters.flows_evicted.wrapping_add(1);
                }
            })
            .map_err(|error| match error {
                crate::flow::InsertError::Collision => DropReason::ReverseCollision,
            })?;
        self.table.count_flow(flow.counted(), true);
        self.counters.flows_begun = self.counters.flows_begun.wrapping_add(1);
        Ok(row)
    }

    /// Counts a drop and says so.
    fn drop(&mut self, reason: DropReason) -> Verdict {
        self.counters.count(reason);
        Verdict::Drop(reason)
    }
}

impl<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize> Default for Router<S, I, N, F, L> {
    fn default() -> Self {
        Self::new()
    }
}

/// What the router carries: TCP, UDP and ICMP echo, whole.
fn ports_of(view: &View) -> Result<(u16, u16), DropReason> {
    if view.fragment().is_some() {
        return Err(DropReason::Fragment);
    }
    match view.transport() {
        Transport::Icmp(IcmpKind::Error { .. } | IcmpKind::Other { .. }) => Err(DropReason::IcmpMessage),
        Transport::Other => Err(DropReason::Protocol),
        _ => view.ports().ok_or(DropReason::Protocol),
    }
}

/// Whether a packet may begin a flow at a service IP: one that answers something belongs to a flow, or to nothing.
fn opens(view: &View) -> bool {
    match view.transport() {
        Transport::Tcp(segment) => segment.flags.syn() && !segment.flags.ack(),
        Transport::Icmp(IcmpKind::EchoReply { .. }) => false,
        _ => true,
    }
}

/// An address from its 16-byte form.
fn address_of(bytes: [u8; 16], family: Family) -> IpAddr {
    let v6 = core::net::Ipv6Addr::from(bytes);
    match family {
        Family::V4 => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
        Family::V6 => IpAddr::V6(v6),
    }
}

/// Whether a packet may have the address: that of one host, so no multicast, no broadcast, not unspecified, no loopback. IPv4
/// in its mapped form never appears on a wire (RFC 4291 section 2.5.5.2); tables would take it for the IPv4 address.
fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_multicast() || v4.is_broadcast() || v4.is_unspecified() || v4.is_loopback()),
        IpAddr::V6(v6) => {
            !(v6.is_multicast() || v6.is_unspecified() || v6.is_loopback() || v6.to_ipv4_mapped().is_some())
        }
    }
}

#[cfg(test)]
mod tests;
