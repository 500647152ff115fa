//! How a service IP picks an instance. One file per policy, and one line in the [`Registry`].
//!
//! `docs/adding-a-policy.md` walks through adding one.

mod candidates;
mod closest;
mod failover;
mod registry;
mod round_robin;
#[cfg(test)]
mod samples;
mod sticky;
mod underutilized;
mod weighted;

pub use candidates::{Candidate, Candidates};
pub use closest::Closest;
pub use failover::Failover;
pub use registry::{Registry, RegistryError};
pub use round_robin::RoundRobin;
pub use sticky::Sticky;
pub use underutilized::Underutilized;
pub use weighted::Weighted;

/// A flow that is about to begin. Addresses are in their 16-byte form, IPv4 mapped (RFC 4291 section 2.5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewFlow {
    /// The local sender's instance IP: its IPv4 one, whichever family the flow is of, so that a sender is one source.
    pub source: [u8; 16],
    /// The service IP that it dials.
    pub destination: [u8; 16],
    /// The protocol's number.
    pub protocol: u8,
    /// The source port; the identifier of an ICMP echo.
    pub src_port: u16,
    /// The destination port.
    pub dst_port: u16,
}

/// What a service IP remembers from flow to flow. All zero when new. It outlives the table entry, but not the node's daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Flows begun under this service IP; wraps.
    pub turns: u32,
    /// The number of the instance that was picked last, plus 1; 0 is none. So it is also the lowest number whose turn is next.
    pub last: u32,
}

impl Memory {
    pub(crate) const NEW: Self = Self { turns: 0, last: 0 };

    /// A flow to the instance of this number has begun.
    pub(crate) fn note(&mut self, number: u32) {
        self.turns = self.turns.wrapping_add(1);
        self.last = number.wrapping_add(1);
    }
}

/// A balancing policy.
///
/// It has no state of its own: everything that it may remember is in [`Memory`]. It runs for every new flow, on a
/// microcontroller too, so it neither allocates nor panics.
pub trait Policy: Sync {
    /// Its short name in JSON and in tables: the `IpType`. Case counts; at most
    /// [`IP_TYPE_MAX`](crate::sync::message::IP_TYPE_MAX) bytes.
    fn ip_type(&self) -> &'static str;

    /// The SLA's field for a fixed IPv4 address; with `_v6` behind it the one for IPv6.
    fn sla_field(&self) -> &'static str;

    /// The number of its IPv6 block: its service IPs are in `fdff:<block>000::/21`. Never reused, 1 to 15.
    fn block(&self) -> u8;

    /// What it does, in one sentence for people.
    fn summary(&self) -> &'static str;

    /// Whether it goes by [`Candidate::distance`]: then the nodes of the instances are measured while a service has flows.
    fn needs_distance(&self) -> bool {
        false
    }

    /// Picks an instance for a new flow; none only when there are no candidates. The same arguments bring the same answer.
    fn pick(&self, flow: &NewFlow, memory: &Memory, candidates: &Candidates<'_>) -> Option<Candidate>;
}
