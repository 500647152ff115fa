//! How large a datagram the path to a peer carries, found out from what the network says (RFC 1191, RFC 8201).
//!
//! Datagrams are sent so that nobody on the way cuts them: over IPv4 with DF. One that is too long is refused, by this machine, which
//! remembers what it heard of each path, or by a router, whose ICMP message says what fits. Both come out of the socket's error
//! queue, and the engine is told: from then on it sends nothing longer, and answers or cuts what is. What this machine
//! refuses is sent again in fragments, so only the datagram that meets a router first is lost.
//!
//! A datagram that holds no more than [`OverlayMtu::MIN`] can't become shorter. On a path that carries less it goes in fragments.

use std::collections::HashSet;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Instant;

use acorn_core::addr::Family;
use acorn_core::mtu::{OverlayMtu, UnderlayMtu};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SetSockOpt, SockaddrStorage, recvmsg};
use nix::sys::socket::{setsockopt, sockopt};
use nix::{setsockopt_impl, sockopt_impl};
use tracing::{debug, info, trace};

use super::{BATCH, Dataplane};
use crate::tunnel::{MAX_PEERS, sealed_len};

/// The longest datagram that can't become shorter, in bytes.
const SMALLEST: usize = sealed_len(OverlayMtu::MIN.get() as usize);

/// A path carries less than was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Narrow {
    /// Where it leads.
    pub(super) to: IpAddr,
    /// What it carries.
    pub(super) mtu: UnderlayMtu,
}

/// Path MTU discovery on one socket.
pub(super) struct Discovery {
    is_v6: bool,
    /// How the socket is set now.
    cutting: Cutting,
    /// Where not even the smallest overlay MTU fits into one datagram.
    narrow: HashSet<IpAddr>,
}

/// Whether the kernel may cut a datagram that is too long for what it knows of the path. It never lets others cut it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cutting {
    Forbidden,
    Allowed,
}

sockopt_impl!(
    /// `IP_MTU_DISCOVER` (ip(7)).
    IpMtuDiscover,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int
);
sockopt_impl!(
    /// `IPV6_MTU_DISCOVER` (ipv6(7)).
    Ipv6MtuDiscover,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU_DISCOVER,
    libc::c_int
);

impl Discovery {
    /// Sets the socket up. `is_v6`: it is an IPv6 socket, which may serve IPv4 too.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn start(socket: &UdpSocket, is_v6: bool) -> io::Result<Self> {
        // An IPv6 socket that sends over IPv4 goes by the options of both.
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
        if is_v6 {
            setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
        }
        let mut discovery = Self { is_v6, cutting: Cutting::Allowed, narrow: HashSet::new() };
        discovery.set(socket, Cutting::Forbidden)?;
        Ok(discovery)
    }

    /// Sends a datagram to `to`, which the socket knows as `address`.
    ///
    /// # Errors
    /// What the system says: the datagram was not sent.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        to: IpAddr,
        address: SocketAddr,
        datagram: &[u8],
    ) -> io::Result<()> {
        let is_narrow = !self.narrow.is_empty() && self.narrow.contains(&to);
        let mut cutting = if is_narrow && datagram.len() <= SMALLEST { Cutting::Allowed } else { Cutting::Forbidden };
        let mut tries = 0;
        loop {
            self.set(socket, cutting)?;
            let Err(error) = socket.send_to(datagram, address) else { break };
            tries += 1;
            match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EAGAIN) => return Err(error),
                _ if tries == 3 => return Err(error),
                Some(Errno::EMSGSIZE) => cutting = Cutting::Allowed,
                // What became of an earlier datagram is told once, in the place of sending this one.
                _ => {}
            }
        }
        if is_narrow && datagram.len() > SMALLEST && cutting == Cutting::Forbidden {
            // The path is wider now.
            self.narrow.remove(&to);
        }
        Ok(())
    }

    /// Takes the next message from the socket's error queue. `Ok(None)`: it was about something else.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none.
    pub(super) fn next(&mut self, socket: &UdpSocket) -> io::Result<Option<Narrow>> {
        // Room for the larger of the two kinds, with the address of the router that complains.
        let mut control = cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
        let mut datagram = [0; 1];
        let mut bytes = [IoSliceMut::new(&mut datagram)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut bytes, Some(&mut control), flags)?;
        let Some(to) = message.address.as_ref().and_then(ip_of) else { return Ok(None) };
        let narrow = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                trace!(%to, errno = error.ee_errno, info = error.ee_info, "the network complains");
                (error.ee_errno == libc::EMSGSIZE.cast_unsigned()).then(|| Narrow { to, mtu: believed(error.ee_info) })
            }
            _ => None,
        });
        if let Some(narrow) = narrow
            && usize::from(narrow.mtu.get()) < SMALLEST + headers_len(to)
        {
            // Forgetting costs each of them one more try.
            if self.narrow.len() >= MAX_PEERS {
                self.narrow.clear();
            }
            self.narrow.insert(to);
        }
        Ok(narrow)
    }

    fn set(&mut self, socket: &UdpSocket, cutting: Cutting) -> io::Result<()> {
        if self.cutting == cutting {
            return Ok(());
        }
        let (v4, v6) = match cutting {
            Cutting::Forbidden => (libc::IP_PMTUDISC_DO, libc::IPV6_PMTUDISC_DO),
            Cutting::Allowed => (libc::IP_PMTUDISC_WANT, libc::IPV6_PMTUDISC_WANT),
        };
        IpMtuDiscover.set(socket, &v4)?;
        if self.is_v6 {
            Ipv6MtuDiscover.set(socket, &v6)?;
        }
        self.cutting = cutting;
        Ok(())
    }
}

impl Dataplane {
    /// Tells the engine what the network has said of paths.
    pub(super) fn learn_path_mtus(&mut self, now: Instant) {
        let mut told = None;
        for _ in 0..BATCH {
            let narrow = match self.udp.next_narrow() {
                Ok(narrow) => narrow,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    debug!(%error, "the error queue");
                    return;
                }
            };
            // Many datagrams of one burst meet the same end.
            if let Some(narrow) = narrow
                && told.replace(narrow) != Some(narrow)
            {
                self.learn_path_mtu(now, narrow);
            }
        }
    }

    /// A path belongs to all peers at its end.
    fn learn_path_mtu(&mut self, now: Instant, Narrow { to, mtu }: Narrow) {
        let at = self.engine_time(now);
        let Some(node) = &mut self.node else { return };
        let overlay = OverlayMtu::over(mtu, if to.is_ipv4() { Family::V4 } else { Family::V6 });
        for peer in self.tunnels.peers() {
            if self.tunnels.endpoint(peer).is_none_or(|endpoint| endpoint.ip() != to) {
                continue;
            }
            let Some(row) = self.peers.row_of(peer) else { continue };
            let before = node.engine.router().mtu_to(at, row.row());
            node.engine.learn_path_mtu(at, row, overlay);
            if overlay < before {
                info!(%to, underlay_mtu = mtu.get(), overlay_mtu = overlay.get(), "the path to a node carries less than others");
            }
        }
    }
}

/// IP and UDP headers of the underlay, in bytes.
fn headers_len(to: IpAddr) -> usize {
    if to.is_ipv4() { 28 } else { 48 }
}

/// What a message says of an MTU, within what can be.
fn believed(bytes: u32) -> UnderlayMtu {
    let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
    UnderlayMtu::new(bytes).unwrap_or(UnderlayMtu::MIN)
}

/// An address as the tunnels know it.
fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().to_canonical()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::super::Udp;
    use super::*;

    const ANY: [&str; 2] = ["127.0.0.1:0", "[::]:0"];

    fn bind(at: &str) -> Udp {
        Udp::bind(at.parse().unwrap()).unwrap()
    }

    /// Where another socket of this machine's reaches a socket.
    fn address_of(udp: &Udp) -> SocketAddr {
        let mut at = udp.local_addr().unwrap();
        if at.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            at.set_ip(Ipv6Addr::LOCALHOST.into());
        }
        at
    }

    /// A port that nobody listens on any more.
    fn closed(at: &str) -> SocketAddr {
        address_of(&bind(at))
    }

    fn events(udp: &Udp, patience: Duration) -> PollFlags {
        let mut fds = [PollFd::new(udp.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::try_from(patience).unwrap()).unwrap();
        fds[0].revents().unwrap()
    }

    #[test]
    fn an_error_queue_that_was_read_does_not_wake_the_loop_again() {
        for at in ANY {
            let mut udp = bind(at);
            udp.send(closed(at), b"nobody is there");
            assert!(events(&udp, Duration::from_secs(5)).contains(PollFlags::POLLERR), "{at}");
            assert!(matches!(udp.next_narrow(), Ok(None)), "{at}: refused, which says nothing of a size");
            assert_eq!(udp.next_narrow().unwrap_err().kind(), io::ErrorKind::WouldBlock);
            let _ = udp.recv(&mut [0; 16]);
            assert_eq!(events(&udp, Duration::ZERO), PollFlags::empty(), "{at}");
        }
    }

    #[test]
    fn what_became_of_one_datagram_does_not_keep_back_the_next() {
        for at in ANY {
            let (mut udp, other) = (bind(at), bind(at));
            udp.send(closed(at), b"nobody is there");
            assert!(events(&udp, Duration::from_secs(5)).contains(PollFlags::POLLERR), "{at}");
            udp.send(address_of(&other), b"somebody is");
            assert!(events(&other, Duration::from_secs(5)).contains(PollFlags::POLLIN), "{at}");
            let mut buffer = [0; 16];
            let (len, _) = other.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], b"somebody is");
        }
    }

    #[test]
    fn an_mtu_that_can_not_be_is_taken_as_the_nearest_that_can() {
        let believed = |bytes| believed(bytes).get();
        assert_eq!([0, 575, 576, 1400, 65_535, 70_000].map(believed), [576, 576, 576, 1400, 65_535, 65_535]);
    }
}
