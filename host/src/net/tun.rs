//! The TUN: where the overlay enters and leaves the host's IP stack.
//!
//! It is not persistent: the kernel removes it, with its addresses and routes, as
//! soon as the process that opened it is gone, however that ended.
//!
//! Source validation (`rp_filter`) is left alone. Strict mode passes, because every
//! packet comes in where the route to its source goes out: service and instance
//! IPs from the TUN, a namespace IP from its own veth.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use nix::errno::Errno;
use thiserror::Error;
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::net::interface::{IfName, InterfaceMtu};
use crate::net::netlink::{Existing, Link, NetlinkError};
use crate::net::route::Route;
use crate::net::sysctl::SysctlError;
use crate::net::{Host, ServiceNets, fence, silence_ipv6};
use acorn_core::packet::Offload;

/// An open TUN, non-blocking. Dropping it removes the interface.
pub struct Tun {
    device: SyncDevice,
    name: IfName,
}

/// The addresses and routes of a node's TUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunAddressing {
    /// The host's own namespace IP: a `/32` on the TUN, the preferred source of
    /// the routes.
    pub host_ip: Ipv4Addr,
    /// The same in IPv6, a `/128`.
    pub host_ip_v6: Ipv6Addr,
    /// The node's worker subnet.
    pub worker_subnet: Ipv4Network,
    /// The node's worker subnet in IPv6.
    pub worker_subnet_v6: Ipv6Network,
    /// Where service and instance IPs come from.
    pub service_nets: ServiceNets,
}

/// The TUN could not be opened or configured.
#[derive(Debug, Error)]
pub enum TunError {
    /// An interface of this name exists.
    #[error(
        "there is an interface {0} already: another daemon runs here, \
         or it needs another name (--tun)"
    )]
    NameTaken(IfName),
    /// The kernel has no TUN driver, or hides it.
    #[error("there is no /dev/net/tun: load the module tun, or give the container the device")]
    NoDriver,
    /// The daemon lacks privileges.
    #[error("no permission to create the TUN {0}: run acorn as root, or with CAP_NET_ADMIN")]
    NotPermitted(IfName),
    /// The driver refused for another reason.
    #[error("cannot create the TUN {name}: {source}")]
    Create {
        /// Its name.
        name: IfName,
        /// Why.
        source: io::Error,
    },
    /// The interface to configure is not there.
    #[error("the TUN {0} is gone: somebody deleted it; restart acorn")]
    Gone(IfName),
    /// The host has a route of its own to a network of the overlay.
    #[error(
        "the host has a route of its own to {0}: remove it, \
         or configure other overlay networks"
    )]
    RouteTaken(IpNetwork),
    /// Netlink refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A kernel setting could not be changed.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

impl Tun {
    /// Creates the interface, down and without addresses.
    ///
    /// # Errors
    /// [`TunError::NameTaken`], [`TunError::NoDriver`], [`TunError::NotPermitted`],
    /// or what else the kernel says.
    pub async fn open(host: &Host, name: &IfName, mtu: InterfaceMtu) -> Result<Self, TunError> {
        // Without this, a persistent TUN of that name would be taken over.
        if host.netlink.link(name).await?.is_some() {
            return Err(TunError::NameTaken(name.clone()));
        }
        let build = || {
            let builder = DeviceBuilder::new().name(name.as_str()).mtu(mtu.get());
            let device = builder.packet_information(false).inherit_enable_state().build_sync()?;
            device.set_nonblocking(true)?;
            Ok(device)
        };
        match build() {
            Ok(device) => Ok(Self { device, name: name.clone() }),
            Err(source) => Err(TunError::create(name, source)),
        }
    }

    /// The name of the interface.
    #[must_use]
    pub fn name(&self) -> &IfName {
        &self.name
    }

    /// Reads one packet that the host or a container sent into the overlay.
    /// Returns its length in bytes. `buf` must hold a packet of the interface's
    /// MTU: what does not fit is cut off by the kernel without a word.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none; `EBADFD` once the interface
    /// has been deleted.
    pub fn recv(&mut self, buf: &mut [u8]) -> io::Result<(usize, Offload)> {
        let len = self.device.recv(buf)?;
        Ok((len, Offload::NONE))
    }

    /// Hands one complete packet to the host's IP stack.
    ///
    /// # Errors
    /// `EINVAL` for what is not IPv4 or IPv6, `EIO` while the interface is down,
    /// [`io::ErrorKind::WouldBlock`] when the kernel is out of buffers.
    pub fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.device.send(packet).map(|_| ())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// Gives the TUN exactly these addresses and routes, sets it up, lets packets from
/// it be forwarded, and fences the service nets. Again with others when the node
/// gets another subnet: the old ones go.
///
/// # Errors
/// [`TunError`]. The TUN is then without addresses and routes.
pub async fn configure(host: &Host, name: &IfName, addressing: &TunAddressing) -> Result<(), TunError> {
    let tun = find(host, name).await?;
    let configured = apply(host, name, &tun, addressing).await;
    if configured.is_err() {
        // The first error is the one to tell.
        let _ = host.netlink.flush(tun.index).await;
        let _ = fence::lower(&host.netlink).await;
    }
    configured
}

/// Changes the MTU, when the underlay's turned out to be another.
///
/// # Errors
/// [`TunError::Gone`], or what the kernel says.
pub async fn set_mtu(host: &Host, name: &IfName, mtu: InterfaceMtu) -> Result<(), TunError> {
    let tun = find(host, name).await?;
    Ok(host.netlink.set_mtu(tun.index, mtu).await?)
}

async fn find(host: &Host, name: &IfName) -> Result<Link, TunError> {
    host.netlink.link(name).await?.ok_or_else(|| TunError::Gone(name.clone()))
}

async fn apply(host: &Host, name: &IfName, tun: &Link, addressing: &TunAddressing) -> Result<(), TunError> {
    silence_ipv6(name)?;
    host.forwarding.enable(name)?;
    let netlink = &host.netlink;
    netlink.set_up(tun.index).await?;
    netlink.flush(tun.index).await?;
    for address in addressing.addresses() {
        netlink.add_address(tun.index, address, Existing::Refuse).await?;
    }
    for (to, source) in addressing.routes() {
        let route = Route { to, interface: tun.index, gateway: None, preferred_source: Some(source) };
        netlink.add_route(&route, Existing::Refuse).await.map_err(|error| route_taken(error, to))?;
    }
    Ok(fence::raise(netlink, addressing.service_nets).await?)
}

impl TunAddressing {
    fn addresses(&self) -> [IpAddr; 2] {
        [self.host_ip.into(), self.host_ip_v6.into()]
    }

    /// Destinations with their preferred source.
    fn routes(&self) -> [(IpNetwork, IpAddr); 4] {
        let [v4, v6] = self.addresses();
        [
            (self.service_nets.v4.into(), v4),
            (self.worker_subnet.into(), v4),
            (self.service_nets.v6.into(), v6),
            (self.worker_subnet_v6.into(), v6),
        ]
    }
}

impl TunError {
    fn create(name: &IfName, source: io::Error) -> Self {
        match source.raw_os_error().map(Errno::from_raw) {
            // The name went to somebody else after it was looked up.
            Some(Errno::EBUSY | Errno::EINVAL | Errno::EEXIST) => Self::NameTaken(name.clone()),
            Some(Errno::EPERM | Errno::EACCES) => Self::NotPermitted(name.clone()),
            Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => Self::NoDriver,
            _ => Self::Create { name: name.clone(), source },
        }
    }
}

fn route_taken(error: NetlinkError, to: IpNetwork) -> TunError {
    match error.errno() {
        Some(Errno::EEXIST) => TunError::RouteTaken(to),
        _ => error.into(),
    }
}
