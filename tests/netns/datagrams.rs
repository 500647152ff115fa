//! What a datagram socket may be told, and tells: path MTU, fragmentation, the error queue.

use crate::stage::until;
use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, GetSockOpt, MsgFlags, SetSockOpt, SockaddrStorage, recvmsg};
use nix::sys::socket::{setsockopt, sockopt};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
use std::io::IoSliceMut;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;

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
sockopt_impl!(
    /// `IPV6_MTU` (ipv6(7)).
    Ipv6Mtu,
    GetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU,
    libc::c_int
);
sockopt_impl!(
    /// `IPV6_UNICAST_HOPS` (ipv6(7)).
    Ipv6Hops,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_UNICAST_HOPS,
    libc::c_int
);

/// Whether what is too long may be cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cutting {
    /// By nobody: over IPv4 DF is set, and what is known to be too long is not sent.
    Forbidden,
    /// By everybody: over IPv4 DF is not set.
    Allowed,
}

/// One message of an error queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complaint {
    /// Who complains.
    pub from: IpAddr,
    /// The ICMP type.
    pub kind: u8,
    /// The ICMP code.
    pub code: u8,
}

/// Says who may cut what the socket sends.
pub fn set_cutting(socket: &UdpSocket, cutting: Cutting) {
    if socket.local_addr().unwrap().is_ipv4() {
        let forbidden = cutting == Cutting::Forbidden;
        let mode = if forbidden { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_DONT };
        IpMtuDiscover.set(socket, &mode).unwrap();
    } else {
        let forbidden = cutting == Cutting::Forbidden;
        let mode = if forbidden { libc::IPV6_PMTUDISC_DO } else { libc::IPV6_PMTUDISC_DONT };
        Ipv6MtuDiscover.set(socket, &mode).unwrap();
    }
}

/// What the system believes of the path of a connected socket.
pub fn path_mtu(socket: &UdpSocket) -> i32 {
    if socket.local_addr().unwrap().is_ipv4() {
        sockopt::IpMtu.get(socket).unwrap()
    } else {
        Ipv6Mtu.get(socket).unwrap()
    }
}

/// Sends with this TTL or hop limit, and hears of what became of it.
pub fn set_hops(socket: &UdpSocket, hops: u32) {
    if socket.local_addr().unwrap().is_ipv4() {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true).unwrap();
        socket.set_ttl(hops).unwrap();
    } else {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true).unwrap();
        Ipv6Hops.set(socket, &hops.cast_signed()).unwrap();
    }
}

/// The next ICMP error.
pub fn complaint(socket: &UdpSocket) -> Complaint {
    until("an ICMP error", || {
        let mut control = cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
        let mut data = [0; 1];
        let mut data = [IoSliceMut::new(&mut data)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut data, Some(&mut control), flags)
            .map_err(|errno| errno.to_string())?;
        let told = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::Ipv4RecvErr(error, Some(from)) => {
                Some((error, IpAddr::from(u32::from_be(from.sin_addr.s_addr).to_be_bytes())))
            }
            ControlMessageOwned::Ipv6RecvErr(error, Some(from)) => Some((error, IpAddr::from(from.sin6_addr.s6_addr))),
            _ => None,
        });
        let (error, from) = told.ok_or("an error of this machine itself")?;
        Ok::<_, String>(Complaint { from, kind: error.ee_type, code: error.ee_code })
    })
}
