//! A machine that speaks the tunnel's protocol with acorn's own library, but says in it what no daemon would.

use crate::stage::sockets;
use acorn::identity::{Identity, NodeKey};
use acorn::tunnel::{Local, MAX_PAYLOAD, PeerHandle, Sealed, Tunnels, sealed_len};
use acorn_tests::world::Namespace;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// A hand-driven end of tunnels.
pub struct Impostor {
    tunnels: Tunnels,
    socket: UdpSocket,
    datagram: Vec<u8>,
    payload: Vec<u8>,
}

impl Impostor {
    /// One with this identity, on port 50103 of a namespace. `unix` is the time of its handshakes since 1970.
    pub fn new(namespace: &Namespace, identity: &Identity, unix: Duration) -> Impostor {
        let seed: [u8; 32] = *Identity::generate().unwrap().public().as_bytes();
        let room = sealed_len(MAX_PAYLOAD);
        Impostor {
            tunnels: Tunnels::new(identity, seed.into(), Instant::now(), unix),
            socket: sockets(namespace).udp(false, 50103).unwrap(),
            datagram: vec![0; room],
            payload: vec![0; room],
        }
    }

    /// The other end of a tunnel.
    pub fn peer(&mut self, key: NodeKey, endpoint: SocketAddr) -> PeerHandle {
        let now = Instant::now();
        self.tunnels.add_peer(key, Some(endpoint), Local::Own, now).unwrap()
    }

    /// Sends a payload, or a handshake first.
    pub fn send(&mut self, peer: PeerHandle, payload: &[u8]) {
        match self.tunnels.seal(peer, payload, &mut self.datagram, Instant::now()).unwrap() {
            Sealed::Datagram { to, len } => {
                self.socket.send_to(&self.datagram[..len], to).unwrap();
            }
            Sealed::Queued { .. } => self.transmit(),
        }
    }

    /// Takes in what comes within `patience`, or until there is a session with the peer. True when anything came.
    pub fn is_answered(&mut self, peer: PeerHandle, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut heard = false;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.has_session(peer) {
                return heard;
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            match self.socket.recv_from(&mut self.datagram) {
                Ok((len, from)) => {
                    heard = true;
                    self.tunnels.open(from, &self.datagram[..len], &mut self.payload, Instant::now());
                    self.transmit();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return heard,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn has_session(&self, peer: PeerHandle) -> bool {
        self.tunnels.session_age(peer, Instant::now()).is_some()
    }

    fn transmit(&mut self) {
        while let Some(transmit) = self.tunnels.poll_transmit(&mut self.datagram, Instant::now()) {
            self.socket.send_to(&self.datagram[..transmit.len], transmit.to).unwrap();
        }
    }
}

/// An IPv4 packet with a UDP datagram (RFC 791, RFC 768; the UDP checksum 0 says that there is none).
pub fn udp_packet(from: Ipv4Addr, to: Ipv4Addr, port: u16, data: &[u8]) -> Vec<u8> {
    let udp_len = 8 + data.len() as u16;
    let total = 20 + udp_len;
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet.extend(from.octets());
    packet.extend(to.octets());
    let words = packet.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum: u32 = words.sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    for field in [7001, port, udp_len, 0] {
        packet.extend(u16::to_be_bytes(field));
    }
    packet.extend(data);
    packet
}
