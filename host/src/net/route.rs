//! Routes of one network namespace, over rtnetlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::{Stream, TryStreamExt};
use ipnetwork::IpNetwork;
use nix::errno::Errno;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use crate::net::netlink::{Existing, Netlink, NetlinkError, because, gone_is_fine, missing_unless_existing};

/// The routing protocol number of every route that Acorn adds: nobody registered
/// it in `rt_protos`, and `ip route show proto 172` lists what is Acorn's.
pub const ROUTE_PROTOCOL: u8 = 172;

/// A route over an interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) to: IpNetwork,
    pub(super) interface: u32,
    /// Taken to be on the link, whatever the addresses of the interface are.
    pub(super) gateway: Option<IpAddr>,
    pub(super) preferred_source: Option<IpAddr>,
}

impl Netlink {
    /// Adds a route. Returns whether it was missing.
    pub(super) async fn add_route(&self, route: &Route, existing: Existing) -> Result<bool, NetlinkError> {
        let action = || format!("add a route to {}", route.to);
        let request = || self.handle.route().add(route.message());
        let added = request().execute().await.map_err(because(action));
        let missing = missing_unless_existing(added, existing)?;
        if !missing {
            request().replace().execute().await.map_err(because(action))?;
        }
        Ok(missing)
    }

    /// Adds a route of last resort that answers "unreachable". Returns whether it
    /// was missing.
    pub(super) async fn add_unreachable(&self, to: IpNetwork) -> Result<bool, NetlinkError> {
        let mut message = destination(to);
        message.header.kind = RouteType::Unreachable;
        message.attributes.push(RouteAttribute::Priority(u32::MAX));
        let answer = self.handle.route().add(message).execute().await;
        let added = answer.map_err(because(|| format!("add an unreachable route to {to}")));
        missing_unless_existing(added, Existing::Repair)
    }

    /// Deletes the routes that [`Netlink::add_unreachable`] added. Returns where
    /// they went.
    pub(super) async fn delete_unreachable(&self) -> Result<Vec<IpNetwork>, NetlinkError> {
        let mut deleted = Vec::new();
        for message in self.routes().await? {
            let ours = message.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL)
                && message.header.kind == RouteType::Unreachable;
            if ours {
                deleted.extend(destination_of(&message));
                self.delete_route(message).await?;
            }
        }
        Ok(deleted)
    }

    /// Deletes the routes over an interface from the main table.
    pub(super) async fn flush_routes(&self, interface: u32) -> Result<(), NetlinkError> {
        for message in self.routes().await? {
            let over = |attribute: &RouteAttribute| *attribute == RouteAttribute::Oif(interface);
            let main = message.header.table == RouteHeader::RT_TABLE_MAIN;
            if main && message.attributes.iter().any(over) {
                self.delete_route(message).await?;
            }
        }
        Ok(())
    }

    /// Whether packets to an address are delivered in this namespace.
    pub(super) async fn is_local(&self, address: IpAddr) -> Result<bool, NetlinkError> {
        let query = self.handle.route().get(destination(address.into()));
        let action = || format!("look up the route to {address}");
        match collect(query.execute()).await.map_err(because(action)) {
            Ok(routes) => Ok(routes.iter().any(|route| route.header.kind == RouteType::Local)),
            Err(error) if is_unroutable(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn routes(&self) -> Result<Vec<RouteMessage>, NetlinkError> {
        let action = || "list routes".to_owned();
        let v4 = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build());
        let v6 = self.handle.route().get(RouteMessageBuilder::<Ipv6Addr>::new().build());
        let mut routes = collect(v4.execute()).await.map_err(because(action))?;
        routes.extend(collect(v6.execute()).await.map_err(because(action))?);
        Ok(routes)
    }

    async fn delete_route(&self, message: RouteMessage) -> Result<(), NetlinkError> {
        let to = destination_of(&message);
        let to = to.map_or_else(|| "default".to_owned(), |to| to.to_string());
        let answer = self.handle.route().del(message).execute().await;
        gone_is_fine(answer.map_err(because(|| format!("delete the route to {to}"))))
    }
}

impl Route {
    fn message(&self) -> RouteMessage {
        let mut message = destination(self.to);
        message.attributes.push(RouteAttribute::Oif(self.interface));
        if let Some(source) = self.preferred_source {
            message.attributes.push(RouteAttribute::PrefSource(source.into()));
        }
        match self.gateway {
            Some(gateway) => {
                message.attributes.push(RouteAttribute::Gateway(gateway.into()));
                message.header.flags |= RouteFlags::Onlink;
            }
            // As `ip route` does: a destination on the link itself.
            None if self.to.is_ipv4() => message.header.scope = RouteScope::Link,
            None => {}
        }
        message
    }
}

fn destination(to: IpNetwork) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.header.destination_prefix_length = to.prefix();
    message.attributes.push(RouteAttribute::Destination(to.network().into()));
    message
}

fn destination_of(message: &RouteMessage) -> Option<IpNetwork> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })?;
    IpNetwork::new(address, message.header.destination_prefix_length).ok()
}

async fn collect(
    routes: impl Stream<Item = Result<RouteMessage, rtnetlink::Error>>,
) -> Result<Vec<RouteMessage>, rtnetlink::Error> {
    routes.try_collect().await
}

fn is_unroutable(error: &NetlinkError) -> bool {
    matches!(error.errno(), Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL))
}
