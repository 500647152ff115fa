//! What happens to a router.

use acorn_core::InstanceId;
use acorn_core::addr::Dual;
use serde::{Deserialize, Serialize};

use super::Packet;

/// Something that happens. Services and nodes go by their ids, times are milliseconds.
///
/// What is said of something that is not there changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action<'a> {
    /// A run begins: the router is new, and knows this many nodes, of which the first is its own.
    Begin(u8),
    /// A run ends.
    End,
    /// A local application sends a packet.
    Outbound(u64, #[serde(borrow)] Packet<'a>),
    /// A node sends a packet.
    Inbound(u64, u32, #[serde(borrow)] Packet<'a>),
    /// A service has these service IPs, round robin.
    Service(u32, [Option<Dual>; 2]),
    /// Whether all instances of a service are known.
    Complete(u32, bool),
    /// A service is gone.
    RemoveService(u32),
    /// An instance is where and what this says.
    Put {
        /// Its name. Its service is there from now on.
        id: InstanceId,
        /// The node that it runs on.
        node: u32,
        /// Its instance IP.
        instance_ip: Dual,
        /// Its namespace IP.
        namespace_ip: Dual,
        /// Whether it is alive.
        alive: bool,
        /// Whether it takes no new flows.
        draining: bool,
    },
    /// An instance is gone.
    Withdraw(InstanceId),
    /// Whether new flows avoid a node.
    Avoid(u32, bool),
    /// An instance runs here, with its instance IP and its namespace IP.
    Attach(InstanceId, Dual, Dual),
    /// An instance does not run here any more.
    Detach(InstanceId),
    /// All flows that lost an end are looked for.
    Sweep,
    /// Flows whose time is over are looked for.
    Expire(u64),
    /// The MTU of every path, 1,280 bytes or more.
    OwnMtu(u16),
    /// The MTU of the path to a node, 1,280 bytes or more.
    PathMtu(u64, u32, u16),
}

impl Action<'_> {
    /// Whether this is a packet.
    #[must_use]
    pub const fn is_packet(&self) -> bool {
        matches!(self, Self::Outbound(..) | Self::Inbound(..))
    }
}
