//! A packet in, a verdict out: classify, find or begin the flow, rewrite.
//!
//! [`Router::outbound`] takes what a local application sends, [`Router::inbound`] what a peer sends. On the wire between two
//! nodes a packet always reads *instance IP → namespace IP*; the applications see the addresses that they dialled.
//! `docs/router.md` has every rule.

mod answer;
mod attachments;
mod classify;
mod datagrams;
mod errors;
mod inbound;
mod outbound;
mod path;

use core::net::IpAddr;

pub use attachments::{Attachment, Attachments, ERRORS_PER_SECOND};
pub use datagrams::{DATAGRAM_LIFETIME, PIECES_MAX};
pub use path::PATH_MTU_LIFETIME;

use self::datagrams::{DatagramKey, Datagrams};
use crate::addr::{AddressPlan, WorkerSubnet};
use crate::flow::{Ended, Flow, FlowTable, Lifetimes, Marks, Stage};
use crate::index::HashKey;
use crate::late::Late;
use crate::mtu::OverlayMtu;
use crate::packet::{Fragment, Protocol};
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
    /// Send the first `len` bytes of the packet, which have been rewritten, to the node in row `node` in fragments of at most `mtu`
    /// bytes: see [`Fragments`](crate::packet::Fragments).
    Fragment {
        /// The node's row.
        node: usize,
        /// The packet's length in bytes.
        len: usize,
        /// The longest fragment.
        mtu: OverlayMtu,
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
/// Capacities: `S` services, `I` instances, `N` nodes, `F` flows, `L` attachments and datagrams in fragments.
pub struct Router<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize> {
    /// What is known of the network.
    pub table: Table<S, I, N>,
    /// The flows.
    pub flows: FlowTable<F>,
    /// The instances on this node.
    pub attachments: Attachments<L>,
    /// What happened to packets.
    pub counters: Counters,
    datagrams: Datagrams<L>,
    rules: Late<Rules>,
    /// What fits every path that nothing smaller was learned of; 0 for the default.
    overlay_mtu: u16,
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
            datagrams: Datagrams::new(),
            rules: Late::new(),
            overlay_mtu: 0,
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

    /// Looks at up to `budget` flows and ends those whose time is over. Returns from when on there may be more to end: now, when not
    /// all have been looked at.
    pub fn expire_flows(&mut self, now: Instant, budget: usize) -> Instant {
        let table = &mut self.table;
        self.flows.expire(now, budget, |flow, _| table.count_flow(flow.counted(), false))
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
            if !self.is_stale(flow) {
                continue;
            }
            let here = self.attachments.is_current(flow.attachment);
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
        if flow.marks.has(Marks::WITHIN) {
            self.attachments.is_current(flow.instance)
        } else {
            self.table.is_current(flow.instance)
        }
    }

    /// Whether one of a flow's ends is not what it was any more.
    #[inline]
    fn is_stale(&self, flow: &Flow) -> bool {
        !self.attachments.is_current(flow.attachment) || !self.is_remote_current(flow)
    }

    /// Whether the address is that of this node's own host: the last one of its subnet.
    fn is_host(&self, namespace_ip: IpAddr) -> bool {
        let subnet = self.rules.get().and_then(|rules| rules.subnet);
        subnet.is_some_and(|subnet| subnet.offset_of(namespace_ip) == Some(subnet.last_host()))
    }

    /// Whether the node in a row is this one.
    #[inline]
    fn is_self(&self, node: usize) -> bool {
        self.table.node(node).is_some_and(|node| node.is_self)
    }

    /// Takes a flow in and counts it in.
    /// The flow in row `kept` makes no room for it: it is the other half.
    fn begin_flow(&mut self, flow: Flow, now: Instant, kept: Option<usize>) -> Result<usize, DropReason> {
        let (table, counters) = (&mut self.table, &mut self.counters);
        let ended = |flow: &Flow, how: Ended| {
            table.count_flow(flow.counted(), false);
            if how != Ended::Expired {
                counters.flows_evicted = counters.flows_evicted.wrapping_add(1);
            }
            if how == Ended::EvictedEstablished {
                counters.established_evicted = counters.established_evicted.wrapping_add(1);
            }
        };
        let row = self.flows.insert(flow, now, kept, ended).map_err(|_| DropReason::ReverseCollision)?;
        self.table.count_flow(flow.counted(), true);
        self.counters.flows_begun = self.counters.flows_begun.wrapping_add(1);
        Ok(row)
    }

    /// Remembers the flow that a first fragment went by, when it went on.
    fn begin_datagram(&mut self, now: Instant, key: DatagramKey, fragment: Fragment, flow: RowRef, verdict: &Verdict) {
        let goes_on = matches!(verdict, Verdict::Forward { .. } | Verdict::Fragment { .. } | Verdict::Deliver { .. });
        if goes_on && self.datagrams.begin(now, key, fragment, flow) {
            self.counters.datagrams_evicted = self.counters.datagrams_evicted.wrapping_add(1);
        }
    }

    /// The row of the flow that a fragment behind the first goes by.
    fn follow_datagram(&mut self, now: Instant, key: &DatagramKey, fragment: Fragment) -> Result<usize, DropReason> {
        let flow = self.datagrams.flow_of(now, key).ok_or(DropReason::FragmentUnknown)?;
        let row = self.row_of(now, flow)?;
        self.datagrams.follow(now, key, fragment)?;
        Ok(row)
    }

    /// Whether a first fragment begins a datagram that is not known yet.
    fn check_first(&mut self, now: Instant, key: &DatagramKey) -> Result<(), DropReason> {
        let Some(flow) = self.datagrams.flow_of(now, key) else {
            return Ok(());
        };
        self.row_of(now, flow)?;
        self.datagrams.check_first(now, key)
    }

    /// The row of a datagram's flow.
    fn row_of(&self, now: Instant, flow: RowRef) -> Result<usize, DropReason> {
        let row = self.flows.is_current(flow).then_some(flow.row());
        row.filter(|row| self.valid_flow(now, Some(*row)).is_some()).ok_or(DropReason::NoFlow)
    }

    /// The flow in a row, if its time is not over.
    fn live_flow(&self, now: Instant, row: Option<usize>) -> Option<&Flow> {
        self.flows.get(row?).filter(|flow| !self.flows.is_dead(flow, now))
    }

    /// The flow in a row, if its time is not over and both its ends are what they were.
    fn valid_flow(&self, now: Instant, row: Option<usize>) -> Option<&Flow> {
        self.live_flow(now, row).filter(|flow| !self.is_stale(flow))
    }

    /// The verdict on a dropped packet whose sender has an ICMP error of this length to hear; none when there is none to be told.
    fn tell(&mut self, now: Instant, reason: DropReason, sender: IpAddr, error: Option<usize>) -> Verdict {
        let Some(len) = error else {
            return Verdict::Drop(reason);
        };
        if !self.attachments.may_be_told(now, sender) {
            self.counters.errors_limited = self.counters.errors_limited.wrapping_add(1);
            return Verdict::Drop(reason);
        }
        self.counters.replied = self.counters.replied.wrapping_add(1);
        Verdict::Reply { reason, len }
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

#[cfg(test)]
mod tests;
