//! What a microcontroller is told when it is flashed: who it is, who its managers are, and what it does. One blob in its flash.
//!
//! The blob is, with numbers of more than one byte in network byte order:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `ACNP` |
//! | 1 | version of the format, 1 |
//! | 2 | length of the content in bytes, at most 1,013 |
//! | as long | content: a [`Provisioning`] in postcard, its fields in the order below |
//! | 4 | CRC-32 (ISO-HDLC) of all bytes above |
//!
//! | field | in postcard |
//! |---|---|
//! | own private key | 32 bytes; secret |
//! | name | length, UTF-8 |
//! | underlay | 0 for DHCP; or 1, address in 4 bytes, prefix length in 1, and the gateway: 0, or 1 and 4 bytes |
//! | managers | number, 1 to 4; for each its public key in 32 bytes, address in 16 (IPv4 in mapped form) and port |
//! | join key | 0; or 1, private key in 32 bytes (secret), expiry in seconds since 1970 |
//! | UDP port | number |
//! | service that it serves | 0; or 1, length, name |
//! | collector that it calls | 0; or 1, address in 4 bytes, port, seconds between calls |
//!
//! Lengths and numbers without a size are postcard's: 7 bits in a byte, the lowest first. What is behind the checksum does not
//! count, so a whole region of flash can be decoded as it is.
//!
//! The checksum is against damage, not against malice: whoever can write a board's flash owns the board.

mod format;
mod rules;
mod secret;
#[cfg(test)]
mod tests;

use core::net::Ipv4Addr;

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use crate::ids::{NODE_NAME_MAX, ServiceName};
use crate::sync::message::{MANAGERS_MAX, ManagerRecord};

pub use format::{PROVISIONING_MAX, ProvisioningError, VERSION, decode};
pub use rules::Flaw;
pub use secret::SecretKey;

/// The UDP port of nodes, where nothing else is said.
pub const DEFAULT_PORT: u16 = 50103;

/// Everything that a board is told. Holds private keys: whoever reads the blob can be the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provisioning {
    /// The node's own X25519 private key (RFC 7748).
    pub key: SecretKey,
    /// The node's name, for people.
    pub name: String<NODE_NAME_MAX>,
    /// How it gets its address on the underlay.
    pub underlay: Underlay,
    /// The managers that it believes, 1 to 4, the preferred one first. Their keys differ.
    pub managers: Vec<ManagerRecord, MANAGERS_MAX>,
    /// What lets it in; none when an operator has registered its public key with the manager.
    pub join: Option<Join>,
    /// Its UDP port on the underlay, 1 to 65535; usually [`DEFAULT_PORT`].
    pub port: u16,
    /// The service that it is an instance of.
    pub serve: Option<ServiceName>,
    /// What it calls by itself.
    pub call: Option<Call>,
}

/// How a board gets its IPv4 address on the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Underlay {
    /// It asks the network (RFC 2131).
    Dhcp,
    /// It is told.
    Static {
        /// Its address: that of a host in its network.
        address: Ipv4Addr,
        /// The length of the network's prefix in bits, 1 to 32.
        prefix: u8,
        /// The router to other networks: another host of its network. Without one it reaches its own network only.
        gateway: Option<Ipv4Addr>,
    },
}

/// The secret part of a join token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The X25519 private key that the manager has registered for joining.
    pub secret: SecretKey,
    /// When the manager forgets it, in seconds since 1970. For those who have a clock; the manager keeps to it in any case.
    pub expires: u64,
}

/// A service that a board calls again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// A service IP or an instance IP.
    pub address: Ipv4Addr,
    /// The TCP port, 1 to 65535.
    pub port: u16,
    /// The time between the starts of two calls in seconds, at least 1.
    pub period_s: u16,
}
