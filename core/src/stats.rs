//! Why packets are dropped, and how often.

use core::fmt;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Why a packet is not forwarded. Every drop has a reason, every reason a counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: [Self; [$($text,)+].len()] = [$(Self::$name,)+];

            /// The reason's name for people and programs.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// What the reason means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+),)+
                }
            }
        }
    };
}

drop_reasons! {
    /// The packet is not well formed.
    Malformed = "malformed",
    /// The first fragment of the datagram that the fragment belongs to has not been seen.
    FragmentUnknown = "fragment_unknown",
    /// The fragment overlaps another one of its datagram.
    FragmentOverlap = "fragment_overlap",
    /// The datagram's fragments come in too many separate pieces.
    FragmentScattered = "fragment_scattered",
    /// The packet is an ICMP message that is neither an echo nor an error about a packet that this node carries.
    IcmpMessage = "icmp_message",
    /// The packet's protocol is not carried.
    Protocol = "protocol",
    /// The destination is not one unicast host.
    NotUnicast = "not_unicast",
    /// The destination is not in the service networks.
    NotAService = "not_a_service",
    /// The source is not the namespace IP of an instance that is attached here.
    UnknownSource = "unknown_source",
    /// Nothing has the dialled address.
    UnknownService = "unknown_service",
    /// The manager did not answer in time which service has the address.
    ResolveTimeout = "resolve_timeout",
    /// Too many addresses are being resolved at once.
    ResolveFull = "resolve_full",
    /// No instance of the service can be reached.
    NoInstance = "no_instance",
    /// Every instance that could be picked already has a flow whose replies would look the same.
    ReverseCollision = "reverse_collision",
    /// The packet, or the one that it is about, belongs to no flow and does not begin one.
    NoFlow = "no_flow",
    /// The instance that the flow went to is gone or has moved.
    InstanceGone = "instance_gone",
    /// The packet is too long for the path to the node that it goes to.
    TooBig = "too_big",
    /// The inner source belongs to another node than the one that sent the packet.
    SpoofedSource = "spoofed_source",
    /// The inner destination is not an instance that is attached here.
    NotOurs = "not_ours",
    /// The queue of packets that wait for a table was full.
    PendingFull = "pending_full",
    /// The packet is too long to wait for a table.
    PendingTooLong = "pending_too_long",
    /// The packet waited for a table that did not come.
    PendingExpired = "pending_expired",
    /// A control payload came from a node that is not a manager of this one.
    NotAManager = "not_a_manager",
    /// A control payload could not be understood.
    BadControl = "bad_control",
    /// The payload came from a peer that is not in the tables.
    UnknownPeer = "unknown_peer",
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Counters of the router and its engine. They only grow, and wrap at 2^64.
#[derive(Clone, Debug)]
pub struct Counters {
    drops: [u64; DropReason::ALL.len()],
    /// Packets sent to a peer, those in fragments too.
    pub forwarded: u64,
    /// Packets sent to a peer in fragments.
    pub fragmented: u64,
    /// Packets delivered to a local instance.
    pub delivered: u64,
    /// RST segments and ICMP messages sent to a local instance in the stead of an answer.
    pub replied: u64,
    /// ICMP errors that were not sent because their addressee has had too many.
    pub errors_limited: u64,
    /// Flows begun.
    pub flows_begun: u64,
    /// Flows that ended before their time because there was no room for another one.
    pub flows_evicted: u64,
    /// Those of them that were established TCP connections: the table is too small.
    pub established_evicted: u64,
    /// Datagrams whose fragments were given up before their time because there was no room for another one.
    pub datagrams_evicted: u64,
}

impl Counters {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            drops: [0; DropReason::ALL.len()],
            forwarded: 0,
            fragmented: 0,
            delivered: 0,
            replied: 0,
            errors_limited: 0,
            flows_begun: 0,
            flows_evicted: 0,
            established_evicted: 0,
            datagrams_evicted: 0,
        }
    }

    /// Counts a drop.
    pub fn count(&mut self, reason: DropReason) {
        if let Some(counter) = self.drops.get_mut(reason as usize) {
            *counter = counter.wrapping_add(1);
        }
    }

    /// How often packets were dropped for a reason.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let mut counters = Counters::new();
        for (n, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, n);
            counters.count(reason);
            assert_eq!(counters.drops(reason), 1, "{reason}");
        }
        let names: std::collections::HashSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
    }
}
