//! Attaching a container: a veth pair between its namespace and the host.
//!
//! The container gets routes for the service nets and nothing else; its own network
//! stays as it is. The gateways `169.254.1.1` and `fe80::1` exist nowhere: permanent
//! neighbour entries name the host's end, so nobody has to answer for them (proxy
//! ARP would, but stays silent without a default route on the host). The host's end
//! has no address; a `/32` and a `/128` lead to the container, and a guard drops what it
//! sends under other addresses than those.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use crate::net::adopt::{AdoptError, Adoption, adopt};
use crate::net::interface::{AttachmentPrefix, IfName, InterfaceMtu, MacAddr};
use crate::net::netlink::{Existing, Link, Netlink, NetlinkError, VethPair};
use crate::net::netns::{NamespaceId, Netns, NetnsError};
use crate::net::route::Route;
use crate::net::sysctl::SysctlError;
use crate::net::{Host, ServiceNets, silence_ipv6};

/// The gateway of a container's IPv4 routes (RFC 3927: link-local).
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The gateway of a container's IPv6 routes.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The host, in messages.
const HOST: &str = "the host";

/// What the interface in the container is called, unless told otherwise.
pub const CONTAINER_IFNAME: &str = "acorn";

/// One attachment. It is kept on disk by the daemon, together with the
/// [`NamespaceId`], so that it can be adopted after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachSpec {
    /// The host's end, of [`AttachmentPrefix::host_ifname`].
    pub host_ifname: IfName,
    /// The container's end, usually [`CONTAINER_IFNAME`].
    pub container_ifname: IfName,
    /// The container's address, unique in the overlay.
    pub namespace_ip: Ipv4Addr,
    /// The same in IPv6.
    pub namespace_ip_v6: Ipv6Addr,
    /// What the container reaches over the overlay.
    pub service_nets: ServiceNets,
    /// Of both ends; that of the TUN.
    pub mtu: InterfaceMtu,
}

/// A container could not be attached. Nothing of the attempt is left.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The container has no network of its own.
    #[error(
        "{0} is the host's own network: processes there use service IPs without being attached; \
         give the container a network namespace"
    )]
    HostNamespace(String),
    /// The host's end exists.
    #[error("there is an interface {0} on the host already: detach that instance first")]
    HostInterfaceTaken(IfName),
    /// The container's end exists.
    #[error(
        "{namespace} has an interface {interface} already: it is attached as another instance, \
         detach that first"
    )]
    ContainerInterfaceTaken {
        /// Which namespace.
        namespace: String,
        /// The container's end.
        interface: IfName,
    },
    /// A route of somebody else's is in the way.
    #[error("{place} has a route of its own to {to}: remove it, then attach again")]
    RouteTaken {
        /// The host or the namespace.
        place: String,
        /// Where the route goes.
        to: IpNetwork,
    },
    /// The container could not be kept from sending under the addresses of others.
    #[error(
        "{0}; no container is attached without that: the kernel needs its ingress qdisc and its BPF \
         classifier, load the modules sch_ingress and cls_bpf"
    )]
    Unguarded(#[source] NetlinkError),
    /// An interface went while the work was under way.
    #[error("interface {0} vanished while attaching: the container may have ended; try again")]
    Vanished(IfName),
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// Netlink refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A kernel setting could not be changed.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// An attachment could not be removed.
#[derive(Debug, Error)]
pub enum DetachError {
    /// The interface is no veth.
    #[error("{0} is no attachment of acorn's (not a veth): it stays; choose another prefix")]
    NotAnAttachment(IfName),
    /// Netlink refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Attaches the container whose namespace this is.
///
/// It is undone as a whole when a step fails, also when the caller stops waiting.
/// The container's `lo` is set up if it was down, and stays so.
///
/// # Errors
/// [`AttachError`], in words for the user.
///
/// # Panics
/// Outside of a tokio runtime with IO and time.
pub async fn attach(host: &Host, namespace: Netns, spec: &AttachSpec) -> Result<NamespaceId, AttachError> {
    let (host, spec) = (host.clone(), spec.clone());
    let (done, result) = tokio::sync::oneshot::channel();
    // A task of its own, so that a caller who goes away cannot stop it halfway.
    tokio::spawn(async move {
        let attached = attach_whole(&host, &namespace, &spec).await;
        if let Err(Ok(_)) = done.send(attached) {
            undo(&host, &spec).await;
        }
    });
    match result.await {
        Ok(attached) => attached,
        Err(_) => Err(NetnsError::Panicked("the attaching task".to_owned()).into()),
    }
}

/// Removes an attachment by its host end, and with it everything on both sides.
/// Returns whether it was there: it goes by itself when the container's namespace dies.
///
/// # Errors
/// [`DetachError`].
pub async fn detach(host: &Host, host_ifname: &IfName) -> Result<bool, DetachError> {
    match host.netlink.link(host_ifname).await? {
        Some(link) if link.is_veth => Ok(host.netlink.delete_link(&link).await?),
        Some(_) => Err(DetachError::NotAnAttachment(host_ifname.clone())),
        None => Ok(false),
    }
}

/// The host ends of all attachments with this prefix, for finding leaked ones.
///
/// # Errors
/// [`NetlinkError`].
pub async fn list_owned(host: &Host, prefix: &AttachmentPrefix) -> Result<Vec<IfName>, NetlinkError> {
    let links = host.netlink.links().await?;
    let ours = links.into_iter().filter(|link| link.is_veth && prefix.owns(&link.name));
    Ok(ours.filter_map(|link| IfName::new(link.name).ok()).collect())
}

async fn attach_whole(host: &Host, namespace: &Netns, spec: &AttachSpec) -> Result<NamespaceId, AttachError> {
    if namespace.id() == Netns::current()?.id() {
        return Err(AttachError::HostNamespace(namespace.to_string()));
    }
    create(host, namespace, spec).await?;
    let attached = furnish(host, namespace, spec, Existing::Refuse).await;
    if attached.is_err() {
        undo(host, spec).await;
    }
    attached.map(|_| namespace.id())
}

async fn create(host: &Host, namespace: &Netns, spec: &AttachSpec) -> Result<(), AttachError> {
    let pair = VethPair {
        name: &spec.host_ifname,
        mac: spec.host_mac(),
        peer_name: &spec.container_ifname,
        peer_mac: spec.container_mac(),
        peer_namespace: namespace.as_fd(),
        mtu: spec.mtu,
    };
    match host.netlink.add_veth(&pair).await {
        // The kernel does not say which of the two names was taken.
        Err(error) if error.errno() == Some(Errno::EEXIST) => Err(match host.netlink.link(&spec.host_ifname).await? {
            Some(_) => AttachError::HostInterfaceTaken(spec.host_ifname.clone()),
            None => AttachError::ContainerInterfaceTaken {
                namespace: namespace.to_string(),
                interface: spec.container_ifname.clone(),
            },
        }),
        created => Ok(created?),
    }
}

/// Gives both ends all they need. Returns what was missing. The host's end comes first,
/// because an end gets its carrier from the other, and the container's `lo` last,
/// because it is the one thing that would outlive a failure.
pub(super) async fn furnish(
    host: &Host,
    namespace: &Netns,
    spec: &AttachSpec,
    existing: Existing,
) -> Result<Vec<String>, AttachError> {
    let mut missing = furnish_host_end(host, spec, existing).await?;
    let (host, inner, place) = (host.clone(), spec.clone(), namespace.to_string());
    let container = namespace.run(async move |netlink| {
        let mut missing = furnish_container_end(&netlink, &inner, existing, &place).await?;
        netlink.operational(&inner.container_ifname).await?;
        host.netlink.operational(&inner.host_ifname).await?;
        raise(&netlink, &find(&netlink, &IfName::loopback()).await?, &place, &mut missing).await?;
        Ok::<_, AttachError>(missing)
    });
    missing.extend(container.await??);
    Ok(missing)
}

/// Deleting the host's end takes the other end and all that hangs on either.
async fn undo(host: &Host, spec: &AttachSpec) {
    if let Err(error) = detach(host, &spec.host_ifname).await {
        tracing::error!(interface = %spec.host_ifname, %error, "cannot undo an attachment");
    }
}

async fn furnish_host_end(host: &Host, spec: &AttachSpec, existing: Existing) -> Result<Vec<String>, AttachError> {
    let mut missing = Vec::new();
    silence_ipv6(&spec.host_ifname)?;
    host.forwarding.enable(&spec.host_ifname)?;
    let end = find(&host.netlink, &spec.host_ifname).await?;
    // Before the end is up, so that nothing ever passes without it.
    let guarded = host.netlink.guard(&end, spec.namespace_ip, spec.namespace_ip_v6, existing).await;
    if guarded.map_err(AttachError::Unguarded)? {
        missing.push(format!("guard of interface {} in {HOST}", spec.host_ifname));
    }
    raise(&host.netlink, &end, HOST, &mut missing).await?;
    for (address, ..) in spec.families() {
        host.netlink.add_neighbour(end.index, address, spec.container_mac()).await?;
        let route = Route { to: address.into(), interface: end.index, gateway: None, preferred_source: None };
        add_route(&host.netlink, &route, existing, HOST, &mut missing).await?;
    }
    Ok(missing)
}

/// Runs in the container's namespace.
async fn furnish_container_end(
    netlink: &Netlink,
    spec: &AttachSpec,
    existing: Existing,
    place: &str,
) -> Result<Vec<String>, AttachError> {
    let mut missing = Vec::new();
    silence_ipv6(&spec.container_ifname)?;
    let end = find(netlink, &spec.container_ifname).await?;
    raise(netlink, &end, place, &mut missing).await?;
    for (address, gateway, to) in spec.families() {
        if netlink.add_address(end.index, address, existing).await? {
            missing.push(format!("address {address} in {place}"));
        }
        netlink.add_neighbour(end.index, gateway, spec.host_mac()).await?;
        let route = Route { to, interface: end.index, gateway: Some(gateway), preferred_source: Some(address) };
        add_route(netlink, &route, existing, place, &mut missing).await?;
    }
    Ok(missing)
}

async fn find(netlink: &Netlink, name: &IfName) -> Result<Link, AttachError> {
    netlink.link(name).await?.ok_or_else(|| AttachError::Vanished(name.clone()))
}

async fn raise(netlink: &Netlink, end: &Link, place: &str, missing: &mut Vec<String>) -> Result<(), AttachError> {
    if !end.is_up {
        netlink.set_up(end.index).await?;
        missing.push(format!("interface {} up in {place}", end.name));
    }
    Ok(())
}

async fn add_route(
    netlink: &Netlink,
    route: &Route,
    existing: Existing,
    place: &str,
    missing: &mut Vec<String>,
) -> Result<(), AttachError> {
    match netlink.add_route(route, existing).await {
        Ok(true) => missing.push(format!("route to {} in {place}", route.to)),
        Ok(false) => {}
        Err(error) if error.errno() == Some(Errno::EEXIST) => {
            return Err(AttachError::RouteTaken { place: place.to_owned(), to: route.to });
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

impl AttachSpec {
    pub(super) fn host_mac(&self) -> MacAddr {
        MacAddr::host_end(self.namespace_ip)
    }

    pub(super) fn container_mac(&self) -> MacAddr {
        MacAddr::namespace_end(self.namespace_ip)
    }

    /// Address, gateway and destination of the container, per address family.
    fn families(&self) -> [(IpAddr, IpAddr, IpNetwork); 2] {
        [
            (self.namespace_ip.into(), GATEWAY.into(), self.service_nets.v4.into()),
            (self.namespace_ip_v6.into(), GATEWAY_V6.into(), self.service_nets.v6.into()),
        ]
    }
}
