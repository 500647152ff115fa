//! Who is on the underlay and belongs to nobody: what it sends, and storms of it.

use crate::stage::*;
use acorn::identity::NodeKey;
use acorn_tests::sockets::Sockets;
use acorn_tests::world::Namespace;
use nix::libc::{in_addr, in_pktinfo};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use wireguard_sans_io::testing::DeterministicRng;
use wireguard_sans_io::{Config, Encapsulated, EntropySource, Now, Received, StaticSecret, Tunnel};

/// Where the first board is on the underlay.
pub const BOARD_1_ENDPOINT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 50, 21), 50103);
/// The stranger's own address.
const ADDRESS: &str = "192.168.50.99/24";
/// Addresses that are the stranger's too: it answers ARP requests for all of them.
const FURTHER: &str = "192.168.50.128/25";

/// A machine on the underlay without a key that anybody knows.
pub struct Stranger {
    pub namespace: Namespace,
}

impl Stranger {
    /// Connects it.
    pub fn of(stage: &Stage) -> Stranger {
        let namespace = stage.world.namespace("stranger").unwrap();
        stage.underlay.connect(&namespace, &[ADDRESS]).unwrap();
        namespace.run(["ip", "route", "add", "local", FURTHER, "dev", "lo"]).unwrap();
        Stranger { namespace }
    }

    /// A UDP socket of it.
    pub fn socket(&self) -> UdpSocket {
        Sockets::of(&self.namespace, &PROGRAM).udp(false, 0).unwrap()
    }
}

/// The addresses of [`Stranger`] but its own: each once, and then again from the start.
pub fn further_addresses() -> impl Iterator<Item = Ipv4Addr> {
    (129..255).map(|last| Ipv4Addr::new(192, 168, 50, last)).cycle()
}

/// Sends a datagram from one of the machine's addresses.
pub fn send_from(socket: &UdpSocket, source: Ipv4Addr, datagram: &[u8], to: SocketAddrV4) {
    let source = in_addr { s_addr: u32::from(source).to_be() };
    let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: in_addr { s_addr: 0 } };
    let (parts, control) = ([IoSlice::new(datagram)], [ControlMessage::Ipv4PacketInfo(&info)]);
    sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&SockaddrIn::from(to))).unwrap();
}

/// Something that is done again and again beside a test, until it is dropped.
pub struct Storm {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Storm {
    /// Begins it: `gust` is done, then there is a pause.
    pub fn begin(pause: Duration, mut gust: impl FnMut() + Send + 'static) -> Storm {
        let end = Arc::new(AtomicBool::new(false));
        let is_over = end.clone();
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                gust();
                std::thread::sleep(pause);
            }
        });
        Storm { end, thread: Some(thread) }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "a storm ended by itself");
    }
}

/// Random numbers, the same in every run.
pub struct Noise(DeterministicRng);

impl Noise {
    /// A stream of them.
    pub fn new(stream: u64) -> Noise {
        Noise(DeterministicRng::new(stream))
    }

    /// One below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    /// So many bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill(&mut bytes).unwrap();
        bytes
    }
}

/// A node that no manager knows, at a tunnel to a board: its handshakes are without fault.
pub struct Initiator {
    tunnel: Tunnel,
    rng: DeterministicRng,
    /// Its clock in seconds. It runs as fast as the library wants it to.
    clock: u64,
}

/// How far apart the library's initiations are, in seconds, with room for its jitter (WireGuard's REKEY_TIMEOUT).
const PACE: u64 = 6;

impl Initiator {
    /// One with a key of its own for each `number`.
    pub fn new(board: &NodeKey, number: u64) -> Initiator {
        let mut rng = DeterministicRng::new(number);
        let secret = StaticSecret::generate(&mut rng).unwrap();
        let tunnel = Tunnel::new(Config::new(secret, (*board.as_bytes()).into())).unwrap();
        Initiator { tunnel, rng, clock: 1 }
    }

    /// Its next initiation, with the cookie that it was given last.
    pub fn initiation(&mut self) -> Vec<u8> {
        self.clock += PACE;
        let mut out = [0; 256];
        let now = self.now();
        if self.clock == 1 + PACE {
            match self.tunnel.encapsulate(now, b"in", &mut out, &mut self.rng).unwrap() {
                Encapsulated::HandshakeInitiation(initiation) => return initiation.to_vec(),
                Encapsulated::Transport(_) => panic!("a session with a stranger"),
            }
        }
        self.tunnel.initiate_handshake(now, &mut out, &mut self.rng).unwrap().to_vec()
    }

    /// Takes what the board answers. True when it is a cookie.
    pub fn is_given_cookie(&mut self, datagram: &[u8]) -> bool {
        let (now, mut out) = (self.now(), [0; 256]);
        let received = self.tunnel.decapsulate(now, &[], false, datagram, &mut out, &mut self.rng);
        matches!(received, Ok(Received::CookieStored))
    }

    fn now(&self) -> Now {
        Now::new(self.clock * 1_000_000_000, self.clock, 0)
    }
}
