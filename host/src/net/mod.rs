//! The Linux side of a node: the TUN, containers' veth pairs, their namespaces,
//! addresses, routes and forwarding.
//!
//! ```text
//!   container's namespace          │ host's namespace
//!                                  │                       10.30.0.0/16, fdff::/16,
//!   10.30.0.0/16 via 169.254.1.1   │  10.18.30.65/32 ──┐   the node's /26 and /120
//!   fdff::/16    via fe80::1       │                   │            │
//!   [acorn] ───────────────────── veth ────────── [acv1]   ─────  [acorn0] TUN ── engine
//!   10.18.30.65, its IPv6          │               no address     10.18.30.126, its IPv6
//!                                  │               a guard
//! ```
//!
//! Everything goes through netlink, `/proc/sys` and `/dev/net/tun`; no program is
//! run. The functions act on the network namespace of the calling thread, so the
//! tokio runtime has to be built on a thread of that namespace. All of it needs
//! root, or `CAP_NET_ADMIN` and `CAP_SYS_ADMIN` in that namespace.

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};
use thiserror::Error;

mod adopt;
mod fence;
mod forwarding;
mod guard;
mod interface;
mod netlink;
mod netns;
mod readiness;
mod route;
mod sysctl;
pub mod teardown;
pub mod tun;
pub mod veth;

pub use forwarding::Ipv6Forwarding;
pub use interface::{AttachmentPrefix, IfName, InterfaceMtu, InvalidAttachmentPrefix, InvalidIfName, MtuTooSmall};
pub use netlink::{Netlink, NetlinkError};
pub use netns::{NamespaceId, Netns, NetnsError, NetnsRef};
pub use route::ROUTE_PROTOCOL;
pub use sysctl::{SysctlError, SysctlJournal};

/// The networks of the service and instance IPs: what containers and the host
/// send into the overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceNets {
    /// `10.30.0.0/16` by default of the address plan.
    pub v4: Ipv4Network,
    /// `fdff::/16` by default of the address plan.
    pub v6: Ipv6Network,
}

/// The namespace that the daemon runs in, ready for a TUN and attachments.
#[derive(Clone, Debug)]
pub struct Host {
    netlink: Netlink,
    forwarding: Ipv6Forwarding,
}

/// The host cannot carry the overlay.
#[derive(Debug, Error)]
pub enum HostError {
    /// The kernel runs without IPv6.
    #[error("IPv6 is switched off in this kernel: boot it without ipv6.disable=1")]
    NoIpv6,
    /// Netlink refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A kernel setting could not be changed.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

impl Host {
    /// Connects to the namespace of the calling thread, and switches on what
    /// forwarding needs of the host as a whole. That is recorded in `journal`,
    /// which the caller keeps on disk for [`teardown::remove_all`].
    ///
    /// # Errors
    /// [`HostError`]; what was changed before it is in the journal.
    ///
    /// # Panics
    /// Outside of a tokio runtime with IO and time.
    pub fn open(journal: &mut SysctlJournal) -> Result<Self, HostError> {
        Self::open_with(Ipv6Forwarding::detect(), journal)
    }

    /// As [`Host::open`], with a given kind of IPv6 forwarding instead of what the
    /// kernel offers best.
    ///
    /// # Errors
    /// As [`Host::open`].
    ///
    /// # Panics
    /// As [`Host::open`].
    pub fn open_with(forwarding: Ipv6Forwarding, journal: &mut SysctlJournal) -> Result<Self, HostError> {
        if !sysctl::exists("net/ipv6/conf/all") {
            return Err(HostError::NoIpv6);
        }
        forwarding.prepare(journal)?;
        Ok(Self { netlink: Netlink::connect()?, forwarding })
    }
}

/// What every interface of Acorn's gets before it is up: IPv6 on (a host or an
/// image may have it off by default) but silent. No link-local address, no
/// router solicitations or advertisements, no duplicate address detection.
fn silence_ipv6(interface: &IfName) -> Result<(), SysctlError> {
    let settings = [
        ("addr_gen_mode", "1"),
        ("accept_ra", "0"),
        ("router_solicitations", "0"),
        ("accept_dad", "0"),
        ("disable_ipv6", "0"),
    ];
    settings
        .into_iter()
        .try_for_each(|(setting, value)| sysctl::write(&format!("net/ipv6/conf/{interface}/{setting}"), value))
}
