//! Sockets of a namespace in the hands of this process, so that a test sees both ends of a connection.
//!
//! A socket belongs for ever to the network namespace in which it was made, whoever holds it. So a program makes it inside
//! (`acorn-traffic socket`) and passes it out through its standard input, which is a Unix socket (unix(7), `SCM_RIGHTS`).

use crate::world::Namespace;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage, bind,
    connect, listen, recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

/// How long a socket waits to connect, and for each read and write, unless it is told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Opens sockets in one namespace.
#[derive(Debug, Clone)]
pub struct Sockets {
    namespace: Namespace,
    /// The command line of [`crate::traffic`].
    program: Vec<String>,
}

/// What kind of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// An IP protocol by its number, without any transport header made for it. 255: the sender makes the IPv4 header too (raw(7)).
    Raw(u8),
}

impl Sockets {
    /// Sockets of `namespace`; `program` is the command line of [`crate::traffic`].
    pub fn of(namespace: &Namespace, program: &[&str]) -> Sockets {
        let program = program.iter().map(|&word| word.to_owned()).collect();
        Sockets { namespace: namespace.clone(), program }
    }

    /// A TCP connection.
    ///
    /// # Errors
    /// As the system's `connect`; `TimedOut` after 5 s.
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.connect_from(0, to)
    }

    /// A TCP connection from a port of one's own choice (0: any).
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and when the port is taken.
    pub fn connect_from(&self, port: u16, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.open(Kind::Tcp, to.is_ipv6())?;
        bind_to(&socket, any(to.is_ipv6(), port))?;
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
            // So Linux says that SO_SNDTIMEO is over.
            Err(Errno::EINPROGRESS) => Err(io::ErrorKind::TimedOut.into()),
            Err(errno) => Err(errno.into()),
            Ok(()) => Ok(TcpStream::from(socket)),
        }
    }

    /// A TCP server on all IPv6 and IPv4 addresses. `accept` waits 5 s.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn listen(&self, port: u16) -> io::Result<TcpListener> {
        let socket = self.open(Kind::Tcp, true)?;
        bind_to(&socket, any(true, port))?;
        listen(&socket, Backlog::MAXCONN)?;
        Ok(TcpListener::from(socket))
    }

    /// A UDP socket on all IPv6 addresses, or else on all IPv4 addresses. Once connected, it hears ICMP errors.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn udp(&self, ipv6: bool, port: u16) -> io::Result<UdpSocket> {
        let socket = self.open(Kind::Udp, ipv6)?;
        bind_to(&socket, any(ipv6, port))?;
        Ok(UdpSocket::from(socket))
    }

    /// A raw socket, which receives (over IPv4 with the IP header) what is sent to this address by this protocol.
    ///
    /// # Errors
    /// When it is not allowed.
    pub fn raw(&self, ipv6: bool, protocol: u8) -> io::Result<OwnedFd> {
        self.open(Kind::Raw(protocol), ipv6)
    }

    /// Fetches a socket out of the namespace.
    fn open(&self, kind: Kind, ipv6: bool) -> io::Result<OwnedFd> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        let mut command = self.namespace.command(&self.program[0]);
        command
            .args(&self.program[1..])
            .args(["socket", &kind.word(), if ipv6 { "6" } else { "4" }])
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null());
        let mut maker = command.spawn()?;
        // Holds the other end, which would keep the wait below from ending when the program fails.
        drop(command);
        let received = receive(&ours);
        maker.wait()?;
        let socket = received?;
        let patience = TimeVal::milliseconds(PATIENCE.as_millis() as i64);
        setsockopt(&socket, sockopt::SendTimeout, &patience)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        Ok(socket)
    }
}

impl Kind {
    /// Its name on the command line.
    pub fn word(self) -> String {
        match self {
            Kind::Tcp => "tcp".to_owned(),
            Kind::Udp => "udp".to_owned(),
            Kind::Raw(protocol) => format!("raw-{protocol}"),
        }
    }

    /// The kind of this name.
    pub fn of(word: &str) -> Option<Kind> {
        match word {
            "tcp" => Some(Kind::Tcp),
            "udp" => Some(Kind::Udp),
            raw => raw.strip_prefix("raw-")?.parse().ok().map(Kind::Raw),
        }
    }
}

/// The program's half: makes a socket where it runs, and passes it to whoever holds the other end of its standard input.
///
/// # Errors
/// When the socket can't be made, or standard input is not a Unix socket.
pub fn pass_out(kind: Kind, ipv6: bool) -> io::Result<()> {
    let family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let made = match kind {
        Kind::Tcp => socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?,
        Kind::Udp => socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?,
        Kind::Raw(protocol) => raw(ipv6, protocol)?,
    };
    let rights = [made.as_raw_fd()];
    sendmsg::<()>(
        io::stdin().as_raw_fd(),
        &[IoSlice::new(b"!")],
        &[ControlMessage::ScmRights(&rights)],
        MsgFlags::empty(),
        None,
    )?;
    Ok(())
}

/// By hand, because `nix` has names for a few protocols only.
fn raw(ipv6: bool, protocol: u8) -> io::Result<OwnedFd> {
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: no memory is passed.
    let made = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol.into()) };
    let made = Errno::result(made)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

fn receive(from: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(from.as_raw_fd(), &mut bytes, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let [socket] = descriptors[..]
        {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            return Ok(unsafe { OwnedFd::from_raw_fd(socket) });
        }
    }
    Err(io::Error::other("the program in the namespace passed no socket out; its message is above"))
}

fn any(ipv6: bool, port: u16) -> SocketAddr {
    if ipv6 { (Ipv6Addr::UNSPECIFIED, port).into() } else { (Ipv4Addr::UNSPECIFIED, port).into() }
}

fn bind_to(socket: &OwnedFd, local: SocketAddr) -> io::Result<()> {
    bind(socket.as_raw_fd(), &SockaddrStorage::from(local)).map_err(Into::into)
}
