//! What a board can work with: checked before a blob is written, and again when it is read.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr};

use super::{Call, Provisioning, Underlay};
use crate::ids::NodeKey;
use crate::sync::message::ManagerRecord;

/// Why no board can work with a [`Provisioning`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A private key is all zero.
    Key,
    /// There is no manager.
    NoManager,
    /// A manager has no key, or no endpoint that can be dialled.
    Manager,
    /// Two managers have the same key.
    ManagerTwice,
    /// The UDP port is 0.
    Port,
    /// The length of the underlay's prefix is not 1 to 32.
    Prefix,
    /// The underlay address is not that of a host in its network.
    Address,
    /// The gateway is not another host of the underlay's network.
    Gateway,
    /// The collector's address, port or period is not one.
    Call,
    /// The service that it serves has no name.
    Serve,
    /// The content is longer than a blob can hold.
    TooLong,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "a private key is all zero",
            Self::NoManager => "no manager is named",
            Self::Manager => "a manager has no key or no endpoint that a board can dial",
            Self::ManagerTwice => "two managers have the same key",
            Self::Port => "the UDP port is 0",
            Self::Prefix => "the length of the underlay's prefix is not 1 to 32 bits",
            Self::Address => "the underlay address is not that of a host in its network",
            Self::Gateway => "the gateway is not another host of the underlay's network",
            Self::Call => "the collector needs the address of a service, a port and a period of at least 1 s",
            Self::Serve => "the service that the board serves has no name",
            Self::TooLong => "the content is longer than a provisioning can hold",
        })
    }
}

impl core::error::Error for Flaw {}

impl Provisioning {
    /// Whether a board can work with it.
    ///
    /// # Errors
    /// The first [`Flaw`] that was found.
    pub fn check(&self) -> Result<(), Flaw> {
        let join = self.join.as_ref().map(|join| &join.secret);
        if core::iter::once(&self.key).chain(join).any(|key| key.as_bytes() == &[0; 32]) {
            return Err(Flaw::Key);
        }
        check_managers(&self.managers)?;
        self.underlay.check()?;
        if self.port == 0 {
            return Err(Flaw::Port);
        }
        if self.serve.as_ref().is_some_and(|name| name.as_str().is_empty()) {
            return Err(Flaw::Serve);
        }
        self.call.as_ref().map_or(Ok(()), Call::check)
    }
}

impl Underlay {
    /// Whether a board can have this address.
    ///
    /// # Errors
    /// [`Flaw::Prefix`], [`Flaw::Address`] or [`Flaw::Gateway`].
    pub fn check(&self) -> Result<(), Flaw> {
        let Self::Static { address, prefix, gateway } = *self else { return Ok(()) };
        if !(1..=32).contains(&prefix) {
            return Err(Flaw::Prefix);
        }
        if !is_host(address, prefix) {
            return Err(Flaw::Address);
        }
        match gateway {
            Some(gateway) if gateway == address || !is_host(gateway, prefix) => Err(Flaw::Gateway),
            Some(gateway) if network(gateway, prefix) != network(address, prefix) => Err(Flaw::Gateway),
            _ => Ok(()),
        }
    }
}

impl Call {
    /// Whether it can be called.
    ///
    /// # Errors
    /// [`Flaw::Call`].
    pub fn check(&self) -> Result<(), Flaw> {
        if is_unicast(self.address) && self.port != 0 && self.period_s != 0 { Ok(()) } else { Err(Flaw::Call) }
    }
}

fn check_managers(managers: &[ManagerRecord]) -> Result<(), Flaw> {
    if managers.is_empty() {
        return Err(Flaw::NoManager);
    }
    let mut rest = managers;
    while let Some((manager, later)) = rest.split_first() {
        if manager.key == NodeKey::default() || !manager.endpoint.get().is_some_and(|at| can_be_dialled(at.ip())) {
            return Err(Flaw::Manager);
        }
        if later.iter().any(|other| other.key == manager.key) {
            return Err(Flaw::ManagerTwice);
        }
        rest = later;
    }
    Ok(())
}

fn can_be_dialled(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_unicast(v4),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    }
}

fn is_unicast(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
}

/// Whether an interface can have this address: not loopback, and neither the first address of its network nor the last, which
/// stand for the network and for all (RFC 1122 section 3.2.1.3). A network of one or two addresses has no such two (RFC 3021).
fn is_host(address: Ipv4Addr, prefix: u8) -> bool {
    let host = address.to_bits() & !mask(prefix);
    let stands_for_many = prefix < 31 && (host == 0 || host == !mask(prefix));
    is_unicast(address) && !address.is_loopback() && !stands_for_many
}

fn network(address: Ipv4Addr, prefix: u8) -> u32 {
    address.to_bits() & mask(prefix)
}

fn mask(prefix: u8) -> u32 {
    !u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}
