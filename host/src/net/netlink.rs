//! Links, addresses and neighbours of one network namespace, over
//! rtnetlink.
//!
//! A [`Netlink`] belongs to the namespace of the thread that connected it. It
//! does only what the rest of `net` asks for, in its words, and every error says
//! what was being done.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use futures_util::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth};
use thiserror::Error;

use crate::net::interface::{IfName, InterfaceMtu, MacAddr};

/// A connection to the kernel's routing tables in one network namespace.
/// Clones share it.
#[derive(Clone, Debug)]
pub struct Netlink {
    pub(super) handle: Handle,
}

/// The kernel refused something, or could not be asked.
#[derive(Debug, Error)]
#[error("cannot {action}: {source}{}", advice(.source))]
pub struct NetlinkError {
    pub(super) action: String,
    pub(super) source: std::io::Error,
}

impl NetlinkError {
    /// The kernel's reason.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.source.raw_os_error().map(Errno::from_raw)
    }
}

/// What is known of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) is_veth: bool,
    /// Whether somebody set it up.
    pub(super) is_up: bool,
    /// Whether it also passes packets.
    pub(super) is_operational: bool,
    pub(super) mac: Option<MacAddr>,
    pub(super) mtu: u32,
    /// Of a veth: the index of the other end, in the namespace where that is.
    pub(super) peer_index: Option<u32>,
}

/// What to do where something of the same key is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// It is somebody else's: an error.
    Refuse,
    /// It is ours: make it right.
    Repair,
}

/// A veth pair to make.
pub(super) struct VethPair<'a> {
    pub(super) name: &'a IfName,
    pub(super) mac: MacAddr,
    pub(super) peer_name: &'a IfName,
    pub(super) peer_mac: MacAddr,
    pub(super) peer_namespace: BorrowedFd<'a>,
    pub(super) mtu: InterfaceMtu,
}

impl Netlink {
    /// Connects to the namespace of the calling thread, and leaves a task on the
    /// current tokio runtime that ends with the last clone.
    ///
    /// # Errors
    /// [`NetlinkError`] when the kernel gives no netlink socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime with IO and time.
    pub fn connect() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|source| NetlinkError { action: "open a netlink socket".to_owned(), source })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    pub(super) async fn link(&self, name: &IfName) -> Result<Option<Link>, NetlinkError> {
        let request = self.handle.link().get().match_name(name.as_str());
        let answer: Result<Vec<_>, _> = request.execute().try_collect().await;
        match answer.map_err(because(|| format!("look up interface {name}"))) {
            Ok(messages) => Ok(messages.into_iter().next().map(Link::from)),
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let links = self.handle.link().get().execute();
        links.map_ok(Link::from).try_collect().await.map_err(because(|| "list interfaces".to_owned()))
    }

    /// Both ends are made in one step, the peer in its namespace, so that no name
    /// of it is ever seen, or in the way, on the host.
    pub(super) async fn add_veth(&self, pair: &VethPair<'_>) -> Result<(), NetlinkError> {
        let mtu = u32::from(pair.mtu.get());
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(pair.peer_name.as_str())
            .address(pair.peer_mac.0.to_vec())
            .mtu(mtu)
            .setns_by_fd(pair.peer_namespace.as_raw_fd())
            .build();
        let message = LinkVeth::new(pair.name.as_str(), pair.peer_name.as_str())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .address(pair.mac.0.to_vec())
            .mtu(mtu)
            .build();
        let action = || format!("create the veth pair {} and {}", pair.name, pair.peer_name);
        self.handle.link().add(message).execute().await.map_err(because(action))
    }

    /// Deletes an interface. Returns whether it was there.
    pub(super) async fn delete_link(&self, link: &Link) -> Result<bool, NetlinkError> {
        let answer = self.handle.link().del(link.index).execute().await;
        match answer.map_err(because(|| format!("delete interface {}", link.name))) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn set_up(&self, interface: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(interface).up().build();
        let action = || format!("set interface {interface} up");
        self.handle.link().change(message).execute().await.map_err(because(action))
    }

    pub(super) async fn set_mtu(&self, interface: u32, mtu: InterfaceMtu) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(interface).mtu(u32::from(mtu.get())).build();
        let action = || format!("set the MTU of interface {interface} to {}", mtu.get());
        self.handle.link().change(message).execute().await.map_err(because(action))
    }

    /// Adds a host address (`/32`, `/128`), usable at once: no duplicate address
    /// detection, and no connected route beside those that Acorn adds. Returns
    /// whether it was missing.
    pub(super) async fn add_address(
        &self,
        interface: u32,
        address: IpAddr,
        existing: Existing,
    ) -> Result<bool, NetlinkError> {
        let prefix_len = if address.is_ipv4() { 32 } else { 128 };
        let mut request = self.handle.address().add(interface, address, prefix_len);
        if address.is_ipv6() {
            let message = request.message_mut();
            message.header.flags = AddressHeaderFlags::Nodad;
            let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
            message.attributes.push(AddressAttribute::Flags(flags));
        }
        let answer = request.execute().await;
        let added = answer.map_err(because(|| format!("add address {address}")));
        let missing = missing_unless_existing(added, existing)?;
        self.address_in_use(address).await?;
        Ok(missing)
    }

    /// Tells the kernel once and for all who has an address, so that it never asks.
    pub(super) async fn add_neighbour(
        &self,
        interface: u32,
        address: IpAddr,
        mac: MacAddr,
    ) -> Result<(), NetlinkError> {
        let request = self.handle.neighbours().add(interface, address);
        let request = request.link_layer_address(&mac.0).state(NeighbourState::Permanent);
        let answer = request.replace().execute().await;
        answer.map_err(because(|| format!("add a permanent neighbour entry for {address}")))
    }

    /// Takes every address and every route off an interface.
    pub(super) async fn flush(&self, interface: u32) -> Result<(), NetlinkError> {
        self.flush_routes(interface).await?;
        let action = || format!("flush the addresses of interface {interface}");
        let addresses = self.handle.address().get().set_link_index_filter(interface).execute();
        let addresses: Vec<AddressMessage> = addresses.try_collect().await.map_err(because(action))?;
        for message in addresses {
            let answer = self.handle.address().del(message).execute().await;
            gone_is_fine(answer.map_err(because(action)))?;
        }
        Ok(())
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            is_veth: false,
            is_up: message.header.flags.contains(LinkFlags::Up),
            is_operational: message.header.flags.contains(LinkFlags::Running | LinkFlags::LowerUp),
            mac: None,
            mtu: 0,
            peer_index: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(mac) => link.mac = mac.try_into().ok().map(MacAddr),
                LinkAttribute::Link(index) => link.peer_index = Some(index),
                LinkAttribute::LinkInfo(info) => {
                    link.is_veth = info.contains(&LinkInfo::Kind(InfoKind::Veth));
                }
                _ => {}
            }
        }
        link
    }
}

pub(super) fn missing_unless_existing(
    added: Result<(), NetlinkError>,
    existing: Existing,
) -> Result<bool, NetlinkError> {
    match added {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(Errno::EEXIST) && existing == Existing::Repair => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deleting an address takes routes with it, so both may be gone already.
pub(super) fn gone_is_fine(deleted: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match deleted {
        Err(error) if matches!(error.errno(), Some(Errno::ESRCH | Errno::EADDRNOTAVAIL | Errno::ENODEV)) => Ok(()),
        other => other,
    }
}

pub(super) fn because(action: impl FnOnce() -> String) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    |error| {
        let source = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => std::io::Error::other(other),
        };
        NetlinkError { action: action(), source }
    }
}

fn advice(error: &std::io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM) => "; run acorn as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN",
        Some(Errno::EOPNOTSUPP) => "; the kernel lacks the support, load the module (veth, tun)",
        _ => "",
    }
}
