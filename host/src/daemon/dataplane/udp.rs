//! The underlay socket: one UDP socket for all tunnels.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use tracing::trace;

use super::path_mtu::{Discovery, Narrow};

/// A non-blocking UDP socket that shows IPv4 addresses as such even when it serves both families.
pub struct Udp {
    socket: UdpSocket,
    is_v6: bool,
    discovery: Discovery,
}

impl Udp {
    /// Binds the socket. An IPv6 wildcard address serves IPv4 too, as the system's default is.
    ///
    /// # Errors
    /// What the system says, for instance that the port is in use.
    pub fn bind(at: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(at)?;
        socket.set_nonblocking(true)?;
        let is_v6 = at.is_ipv6();
        let discovery = Discovery::start(&socket, is_v6)?;
        Ok(Self { socket, is_v6, discovery })
    }

    /// Where the socket is bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Receives a datagram.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none, or what the system says.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, from) = self.socket.recv_from(buffer)?;
        Ok((len, SocketAddr::new(from.ip().to_canonical(), from.port())))
    }

    /// Sends a datagram. One that the system does not take is lost, as it could be anywhere on its way.
    pub fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        let address = match to.ip() {
            IpAddr::V4(v4) if self.is_v6 => SocketAddr::V6(SocketAddrV6::new(v4.to_ipv6_mapped(), to.port(), 0, 0)),
            _ => to,
        };
        if let Err(error) = self.discovery.send(&self.socket, to.ip(), address, datagram) {
            trace!(%to, %error, "the network took no datagram");
        }
    }

    /// What the network says of a path. `Ok(None)`: it said something else.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it said nothing more.
    pub(super) fn next_narrow(&mut self) -> io::Result<Option<Narrow>> {
        self.discovery.next(&self.socket)
    }
}

impl AsFd for Udp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
