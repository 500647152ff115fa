//! Names, MTUs and hardware addresses of the interfaces that Acorn makes.
//!
//! Each is a type, so that a name the kernel would refuse, or an MTU on which
//! it would silently switch IPv6 off, is found when it is configured and not
//! when the first container is attached.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The name of a network interface: 1 to 15 bytes, without `/`, `:`, white
/// space or control characters, and neither `.` nor `..` (what `dev_valid_name`
/// of the kernel accepts), nor `all` or `default`, which name no interface
/// under `/proc/sys/net`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

/// The text is not the name of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not an interface name: use 1 to 15 characters without '/', ':' and white space, \
     and none of '.', '..', 'all', 'default'"
)]
pub struct InvalidIfName(String);

impl IfName {
    /// The longest name, in bytes (`IFNAMSIZ` less the terminator).
    pub const MAX_LEN: usize = 15;

    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidIfName`] when the kernel would not take it.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidIfName> {
        let name = name.into();
        let reserved = matches!(name.as_str(), "." | ".." | "all" | "default");
        let strange = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > Self::MAX_LEN || reserved || name.contains(strange) {
            return Err(InvalidIfName(name));
        }
        Ok(Self(name))
    }

    pub(super) fn loopback() -> Self {
        Self("lo".to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for IfName {
    type Err = InvalidIfName;

    fn from_str(name: &str) -> Result<Self, InvalidIfName> {
        Self::new(name)
    }
}

impl TryFrom<String> for IfName {
    type Error = InvalidIfName;

    fn try_from(name: String) -> Result<Self, InvalidIfName> {
        Self::new(name)
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0
    }
}

/// What the host ends of one daemon's attachments are called: the prefix and a
/// decimal number. Two daemons in one network namespace need two prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttachmentPrefix(String);

/// The text cannot begin the names of attachments.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} cannot be the prefix of interface names: use 1 to 12 characters that make a valid \
     interface name and do not end in a digit, as \"acv\" does"
)]
pub struct InvalidAttachmentPrefix(String);

impl AttachmentPrefix {
    /// The longest prefix, in bytes: three digits must fit behind it.
    pub const MAX_LEN: usize = IfName::MAX_LEN - 3;

    /// Checks a prefix. It must not end in a digit, or `acv1` + `2` and
    /// `acv` + `12` would be the same interface.
    ///
    /// # Errors
    /// [`InvalidAttachmentPrefix`] when it is too long, ends in a digit, or
    /// makes no interface name.
    pub fn new(prefix: impl Into<String>) -> Result<Self, InvalidAttachmentPrefix> {
        let prefix = prefix.into();
        let fits = (1..=Self::MAX_LEN).contains(&prefix.len());
        let ambiguous = prefix.ends_with(|c: char| c.is_ascii_digit());
        if !fits || ambiguous || IfName::new(format!("{prefix}0")).is_err() {
            return Err(InvalidAttachmentPrefix(prefix));
        }
        Ok(Self(prefix))
    }

    /// The host end of the attachment whose namespace IP is the `offset`th
    /// address of the worker subnet.
    #[must_use]
    pub fn host_ifname(&self, offset: u8) -> IfName {
        IfName(format!("{}{offset}", self.0))
    }

    /// Whether an interface of this name is one of this daemon's attachments.
    #[must_use]
    pub fn owns(&self, name: &str) -> bool {
        name.strip_prefix(&self.0)
            .and_then(|offset| offset.parse::<u8>().ok())
            .is_some_and(|offset| self.host_ifname(offset).as_str() == name)
    }
}

impl Default for AttachmentPrefix {
    fn default() -> Self {
        Self("acv".to_owned())
    }
}

impl fmt::Display for AttachmentPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for AttachmentPrefix {
    type Error = InvalidAttachmentPrefix;

    fn try_from(prefix: String) -> Result<Self, InvalidAttachmentPrefix> {
        Self::new(prefix)
    }
}

impl From<AttachmentPrefix> for String {
    fn from(prefix: AttachmentPrefix) -> Self {
        prefix.0
    }
}

/// The MTU of an interface in bytes, 1,280 to 65,535. Below 1,280 Linux takes
/// IPv6 off the interface (RFC 8200 §5 demands that much of a link).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct InterfaceMtu(u16);

/// The MTU is too small for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an interface MTU of {0} is too small for IPv6: use at least {min}", min = InterfaceMtu::MIN.0)]
pub struct MtuTooSmall(u16);

impl InterfaceMtu {
    /// The smallest link that carries IPv6 (RFC 8200 §5).
    pub const MIN: Self = Self(1280);

    /// Checks an MTU in bytes.
    ///
    /// # Errors
    /// [`MtuTooSmall`] below 1,280.
    pub fn new(bytes: u16) -> Result<Self, MtuTooSmall> {
        if bytes < Self::MIN.0 {
            return Err(MtuTooSmall(bytes));
        }
        Ok(Self(bytes))
    }

    /// The MTU in bytes.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for InterfaceMtu {
    type Error = MtuTooSmall;

    fn try_from(bytes: u16) -> Result<Self, MtuTooSmall> {
        Self::new(bytes)
    }
}

impl From<InterfaceMtu> for u16 {
    fn from(mtu: InterfaceMtu) -> Self {
        mtu.0
    }
}

/// A hardware address of one end of an attachment. It follows from the
/// namespace IP, so that the permanent neighbour entries of both ends can be
/// written, and repaired after a restart, without asking anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MacAddr(pub(super) [u8; 6]);

impl MacAddr {
    /// The end on the host. Locally administered, unicast (RFC 7042 §2.1).
    pub(super) fn host_end(namespace_ip: Ipv4Addr) -> Self {
        Self::derived(0x0a, namespace_ip)
    }

    /// The end in the namespace. Locally administered, unicast.
    pub(super) fn namespace_end(namespace_ip: Ipv4Addr) -> Self {
        Self::derived(0x02, namespace_ip)
    }

    fn derived(first: u8, namespace_ip: Ipv4Addr) -> Self {
        let [a, b, c, d] = namespace_ip.octets();
        Self([first, 0xac, a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_refuses_are_refused() {
        for bad in ["", ".", "..", "all", "default", "a/b", "a:b", "a b", "a\n", "0123456789abcdef"] {
            assert!(IfName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["acorn0", "0123456789abcde", "eth0.5", "..."] {
            assert_eq!(IfName::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_prefix_owns_its_numbers_and_nothing_else() {
        let acv = AttachmentPrefix::default();
        for ours in ["acv1", "acv62", "acv254"] {
            assert!(acv.owns(ours), "{ours}");
        }
        for theirs in ["acv", "acvb1", "acv01", "acv+1", "acv256", "xacv1", "acv1x", "eth0"] {
            assert!(!acv.owns(theirs), "{theirs}");
        }
    }

    #[test]
    fn a_prefix_leaves_room_for_its_number_and_is_not_ambiguous() {
        let longest = AttachmentPrefix::new("abcdefghijkl").unwrap();
        assert_eq!(longest.host_ifname(255).as_str().len(), IfName::MAX_LEN);
        for bad in ["", "abcdefghijklm", "acv1", "a/b"] {
            assert!(AttachmentPrefix::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_mtu_below_1280_is_refused_from_a_file_too() {
        assert_eq!(InterfaceMtu::new(1279), Err(MtuTooSmall(1279)));
        assert_eq!(InterfaceMtu::new(1280).unwrap().get(), 1280);
        assert!(serde_json::from_str::<InterfaceMtu>("1279").is_err());
    }

    #[test]
    fn the_two_ends_have_different_local_unicast_addresses() {
        let ip = Ipv4Addr::new(10, 18, 30, 65);
        let ends = [MacAddr::host_end(ip), MacAddr::namespace_end(ip)];
        assert_ne!(ends[0], ends[1]);
        for MacAddr(mac) in ends {
            assert_eq!(mac[0] & 0b11, 0b10, "{mac:02x?}");
        }
    }
}
