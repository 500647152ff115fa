//! The fence: routes of last resort that keep overlay packets off the underlay.
//!
//! When a daemon is killed, its TUN goes and the overlay routes with it, while the
//! containers stay attached. Without a fence, their packets would then follow
//! the host's default route, in the clear. With it they get "unreachable" until the
//! daemon is back. Its metric is the worst there is, so that any other route wins.

use ipnetwork::IpNetwork;

use crate::net::ServiceNets;
use crate::net::netlink::{Netlink, NetlinkError};

pub(super) async fn raise(netlink: &Netlink, nets: ServiceNets) -> Result<(), NetlinkError> {
    netlink.add_unreachable(nets.v4.into()).await?;
    netlink.add_unreachable(nets.v6.into()).await?;
    Ok(())
}

/// Returns the networks that were fenced.
pub(super) async fn lower(netlink: &Netlink) -> Result<Vec<IpNetwork>, NetlinkError> {
    netlink.delete_unreachable().await
}
