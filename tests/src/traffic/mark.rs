//! Sends one datagram that ends a capture: once it is in the capture's file, so is everything that came before it.

use crate::capture::END;
use nix::net::if_::if_nametoindex;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};

/// A link-local group for experiments (RFC 4727 section 4): nobody listens to it, and no router forwards it.
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x114);
/// The port "discard" (RFC 863).
const PORT: u16 = 9;

/// Sends the mark out of `interface` (`any`: to this machine itself).
///
/// # Errors
/// When the interface does not exist or has no IPv6 address yet.
pub fn send(interface: &str) -> io::Result<()> {
    let to = match interface {
        "any" => SocketAddrV6::new(Ipv6Addr::LOCALHOST, PORT, 0, 0),
        name => SocketAddrV6::new(GROUP, PORT, 0, if_nametoindex(name)?),
    };
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?.send_to(END.as_bytes(), to).map(drop)
}
