//! Packets in and out of a TUN.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use acorn::net::tun::Tun;
use acorn::net::veth::AttachSpec;
use acorn_core::packet::Offload;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::stage::DEADLINE;

/// An instance elsewhere.
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 30, 0, 9);
pub const REMOTE_V6: Ipv6Addr = Ipv6Addr::new(0xfdff, 0x2000, 0, 0, 0, 0, 0, 9);

/// An echo request of a remote instance goes in at the TUN; the next packet out
/// of it must be the container's reply.
pub fn echo(tun: &mut Tun, spec: &AttachSpec) {
    let v6 = (REMOTE_V6, spec.namespace_ip_v6);
    tun.send(&echo_request(REMOTE, spec.namespace_ip)).unwrap();
    let reply = next_packet(tun);
    assert_eq!(endpoints(&reply), (spec.namespace_ip.into(), REMOTE.into()));
    assert_eq!((reply[20], &reply[24..]), (0, ECHO), "{reply:02x?}");
    tun.send(&echo_request_v6(v6.0, v6.1)).unwrap();
    let reply = next_packet(tun);
    assert_eq!(endpoints(&reply), (v6.1.into(), v6.0.into()));
    assert_eq!((reply[40], &reply[44..]), (129, ECHO), "{reply:02x?}");
}

/// Identifier, sequence number and data.
const ECHO: &[u8] = &[0xac, 0x04, 0x00, 0x01, b'a', b'c', b'o', b'r', b'n', b'!'];

fn echo_request(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let len = u8::try_from(24 + ECHO.len()).unwrap();
    let mut packet = vec![0x45, 0, 0, len, 0, 1, 0, 0, 64, 1, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let header = checksum(&packet);
    packet[10..12].copy_from_slice(&header);
    packet.extend([8, 0, 0, 0]);
    packet.extend(ECHO);
    let sum = checksum(&packet[20..]);
    packet[22..24].copy_from_slice(&sum);
    packet
}

fn echo_request_v6(source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let len = u8::try_from(4 + ECHO.len()).unwrap();
    let mut packet = vec![0x60, 0, 0, 0, 0, len, 58, 64];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend([128, 0, 0, 0]);
    packet.extend(ECHO);
    let mut summed = packet[8..40].to_vec();
    summed.extend([0, 0, 0, len, 0, 0, 0, 58]);
    summed.extend(&packet[40..]);
    packet[42..44].copy_from_slice(&checksum(&summed));
    packet
}

/// A whole packet with an empty UDP datagram.
pub fn udp(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    const UDP: u8 = 17;
    const LEN: u8 = 8;
    let mut datagram = Vec::new();
    datagram.extend([source.port(), destination.port(), LEN.into(), 0].iter().flat_map(|word| word.to_be_bytes()));
    let (mut packet, addresses) = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let addresses = [source.octets(), destination.octets()].concat();
            // The kernel fills in what is 0 here.
            (vec![0x45, 0, 0, 20 + LEN, 0, 0, 0, 0, 64, UDP, 0, 0], addresses)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            (vec![0x60, 0, 0, 0, 0, LEN, UDP, 64], [source.octets(), destination.octets()].concat())
        }
        mixed => panic!("{mixed:?}"),
    };
    let summed = [&addresses[..], &[0, UDP, 0, LEN], &datagram].concat();
    datagram[6..8].copy_from_slice(&checksum(&summed));
    packet.extend(addresses);
    packet.extend(datagram);
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

pub fn endpoints(packet: &[u8]) -> (IpAddr, IpAddr) {
    let v4 = |at: usize| <[u8; 4]>::try_from(&packet[at..at + 4]).unwrap().into();
    let v6 = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).unwrap().into();
    if packet[0] >> 4 == 4 { (v4(12), v4(16)) } else { (v6(8), v6(24)) }
}

pub fn next_packet(tun: &mut Tun) -> Vec<u8> {
    let millis = PollTimeout::try_from(DEADLINE).unwrap();
    let ready = poll(&mut [PollFd::new(tun.as_fd(), PollFlags::POLLIN)], millis).unwrap();
    assert_eq!(ready, 1, "no packet came out of the TUN");
    let mut packet = vec![0; 2048];
    let (len, offload) = tun.recv(&mut packet).unwrap();
    assert_eq!(offload, Offload::NONE);
    packet.truncate(len);
    packet
}
