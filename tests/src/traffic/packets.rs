//! Writes every packet of an interface to a pcap file. tcpdump does it better, but refuses to run as the root of a user
//! namespace: it wants to drop its supplementary groups, which the kernel forbids there.

use crate::capture::pcap;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Packets that wait for the writer, in bytes.
const BUFFER: usize = 64 * 1024 * 1024;
/// Larger than any packet, one that is to be segmented later included.
const PACKET: usize = 128 * 1024;

/// Writes the packets of `interface` (`any`: of all) to `file` until the process is ended by a signal. `ready` is called
/// once no further packet will be missed.
///
/// # Errors
/// When the interface does not exist, packet sockets are not allowed, or the file can't be written.
pub fn write(interface: &str, file: &Path, ready: impl FnOnce()) -> io::Result<()> {
    let only = match interface {
        "any" => None,
        name => Some(if_nametoindex(name)? as usize),
    };
    let protocol = SockProtocol::EthAll;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    // Beyond the system's limit, and therefore only for the root of the first user namespace: as much as can be had.
    let _ =
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &BUFFER));
    let mut file = File::create(file)?;
    file.write_all(&pcap::header())?;
    ready();

    let mut packet = vec![0; PACKET];
    let mut record = Vec::with_capacity(PACKET);
    loop {
        let (length, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut packet)?;
        // The socket is not bound to one interface, and gets the packets of all.
        if only.is_some() && from.map(|from| from.ifindex()) != only {
            continue;
        }
        record.clear();
        pcap::append(&mut record, &packet[..length]);
        // One call per record, so that a signal never leaves half of one.
        file.write_all(&record)?;
    }
}
