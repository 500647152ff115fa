//! The identities that travel in tables and messages: services, instances, nodes and their keys.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// The longest service name in bytes: four parts of at most 30 characters and three dots.
pub const SERVICE_NAME_MAX: usize = 123;
/// The longest part of a service name in bytes.
pub const NAME_PART_MAX: usize = 30;
/// The longest node name in bytes (one DNS label, RFC 1035 section 2.3.4).
pub const NODE_NAME_MAX: usize = 63;

/// A service, as the root numbers it. Never reused for another service; 0 is no service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceId(pub u32);

/// A node, as the root numbers it. Never reused for another node; 0 is no node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

/// One instance of a service: its number is unique in the service and survives a move to another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    /// The service.
    pub service: ServiceId,
    /// The instance's number, from 0.
    pub number: u32,
}

/// A node's X25519 public key: its identity.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey(pub [u8; 32]);

impl InstanceId {
    /// No instance.
    pub const NONE: Self = Self { service: ServiceId(0), number: 0 };
}

/// The length of a key's text form: 32 bytes in padded base64.
const KEY_TEXT_LEN: usize = 44;

impl NodeKey {
    /// The 32 bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for NodeKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<NodeKey> for [u8; 32] {
    fn from(key: NodeKey) -> Self {
        key.0
    }
}

/// In base64 (RFC 4648 section 4), as WireGuard's tools show keys.
impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; KEY_TEXT_LEN];
        let length = STANDARD.encode_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
        let text = text.get(..length).and_then(|text| core::str::from_utf8(text).ok());
        f.pad(text.ok_or(fmt::Error)?)
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({self})")
    }
}

/// The text is not a node key: 32 bytes in padded base64, 44 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotANodeKey;

impl fmt::Display for NotANodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a node key: a key is 44 characters of base64, as `acorn status` shows it")
    }
}

impl core::error::Error for NotANodeKey {}

impl core::str::FromStr for NodeKey {
    type Err = NotANodeKey;

    fn from_str(text: &str) -> Result<Self, NotANodeKey> {
        // Room for the estimate of the decoder, which is a multiple of three.
        let mut bytes = [0; 33];
        match STANDARD.decode_slice(text, &mut bytes) {
            Ok(32) => bytes.first_chunk().copied().map(Self).ok_or(NotANodeKey),
            _ => Err(NotANodeKey),
        }
    }
}

/// As text in formats for people, as bytes in others.
impl Serialize for NodeKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for NodeKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = heapless::String::<KEY_TEXT_LEN>::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

/// A UDP endpoint on the underlay. IPv4 is held in its mapped form (RFC 4291 section 2.5.5.2); port 0 is no endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    addr: [u8; 16],
    port: u16,
}

impl Endpoint {
    /// No endpoint: the node is known, where it is is not.
    pub const UNKNOWN: Self = Self { addr: [0; 16], port: 0 };

    /// The socket address, if there is one.
    pub fn get(self) -> Option<SocketAddr> {
        (self.port != 0).then(|| SocketAddr::new(Ipv6Addr::from(self.addr).to_canonical(), self.port))
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(at: SocketAddr) -> Self {
        let addr = match at.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self { addr: addr.octets(), port: at.port() }
    }
}

impl From<Option<SocketAddr>> for Endpoint {
    fn from(at: Option<SocketAddr>) -> Self {
        at.map_or(Self::UNKNOWN, Self::from)
    }
}

/// A service's name: `app.app_ns.service.service_ns`, each part 1 to 30 ASCII letters and digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ServiceName(heapless::String<SERVICE_NAME_MAX>);

/// Why a text is not a service name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It does not have exactly four parts separated by dots.
    Parts,
    /// A part is empty or longer than [`NAME_PART_MAX`].
    PartLength,
    /// A part has a character that is not an ASCII letter or digit.
    Character,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parts => "a service name has exactly four parts: app.app_ns.service.service_ns",
            Self::PartLength => "each part of a service name has 1 to 30 characters",
            Self::Character => "a service name has only ASCII letters and digits between its dots",
        })
    }
}

impl core::error::Error for NameError {}

impl ServiceName {
    /// The name of nothing: what the service of a host's own instance is called.
    pub const EMPTY: Self = Self(heapless::String::new());

    /// Checks a text and takes it as a name.
    ///
    /// # Errors
    /// [`NameError`] says which rule the text breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        // By bytes: the search for a character can't be shown to stay inside.
        let parts = || text.as_bytes().split(|byte| *byte == b'.');
        if parts().count() != 4 {
            return Err(NameError::Parts);
        }
        for part in parts() {
            if part.is_empty() || part.len() > NAME_PART_MAX {
                return Err(NameError::PartLength);
            }
            if !part.iter().all(u8::is_ascii_alphanumeric) {
                return Err(NameError::Character);
            }
        }
        heapless::String::try_from(text).map(Self).map_err(|_| NameError::PartLength)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::str::FromStr for ServiceName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for ServiceName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = heapless::String::<SERVICE_NAME_MAX>::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self::EMPTY);
        }
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_four_alphanumeric_parts_of_at_most_30() {
        assert!(ServiceName::new("app.ns.svc.ns").is_ok());
        assert_eq!(ServiceName::new("app.ns.svc"), Err(NameError::Parts));
        assert_eq!(ServiceName::new("app.ns.svc.ns.x"), Err(NameError::Parts));
        assert_eq!(ServiceName::new("app..svc.ns"), Err(NameError::PartLength));
        assert_eq!(ServiceName::new("app.ns.s_c.ns"), Err(NameError::Character));
        let long = "a".repeat(30);
        assert!(ServiceName::new(&[long.as_str(); 4].join(".")).is_ok());
        let longer = "a".repeat(31);
        assert_eq!(ServiceName::new(&[longer.as_str(); 4].join(".")), Err(NameError::PartLength));
    }

    #[test]
    fn a_key_reads_as_it_is_shown() {
        let key = NodeKey(core::array::from_fn(|at| at as u8));
        let text = key.to_string();
        assert_eq!(text, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        assert_eq!(text.parse(), Ok(key));
        for wrong in ["", "AAEC", &text[1..], &format!("{text}="), &text.replace('=', "A")] {
            assert_eq!(wrong.parse::<NodeKey>(), Err(NotANodeKey), "{wrong}");
        }
    }

    #[test]
    fn an_endpoint_keeps_its_family() {
        for text in ["192.0.2.1:50103", "[2001:db8::1]:50103"] {
            let at: SocketAddr = text.parse().unwrap();
            assert_eq!(Endpoint::from(at).get(), Some(at));
        }
        assert_eq!(Endpoint::UNKNOWN.get(), None);
    }
}
