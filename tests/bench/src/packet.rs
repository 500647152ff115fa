//! TCP segments with right checksums.

use acorn_core::packet::checksum;
use core::net::IpAddr;

/// The flags of a segment that opens a connection.
pub const SYN: u8 = 0x02;
/// The flags of a segment that answers one of those.
pub const SYN_ACK: u8 = 0x12;
/// The flags of a segment in the middle.
pub const ACK: u8 = 0x10;

const TCP: u8 = 6;
const TCP_HEADER: usize = 20;
const PAYLOAD: usize = 20;
const ROOM: usize = 96;

/// An address and a port.
pub type End = (IpAddr, u16);

/// A packet in a buffer of its own, which also holds what it is made anew from.
#[derive(Clone)]
pub struct Packet {
    len: usize,
    bytes: [u8; ROOM],
    original: [u8; ROOM],
}

impl Packet {
    /// No packet: room for one.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; ROOM], original: [0; ROOM] };

    /// A segment of 20 bytes between two addresses of one family.
    pub fn tcp(from: End, to: End, flags: u8) -> Self {
        let mut bytes = [0; ROOM];
        let header = ip_header(&mut bytes, from.0, to.0);
        let len = header + TCP_HEADER + PAYLOAD;
        let segment = &mut bytes[header..len];
        segment[..2].copy_from_slice(&from.1.to_be_bytes());
        segment[2..4].copy_from_slice(&to.1.to_be_bytes());
        segment[4..12].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        segment[12..16].copy_from_slice(&[(TCP_HEADER as u8 / 4) << 4, flags, 0xff, 0xff]);
        let pseudo = checksum::pseudo_header(from.0, to.0, TCP, (TCP_HEADER + PAYLOAD) as u32);
        let sum = checksum::finish(checksum::plus(pseudo, checksum::sum(segment)));
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        Self { len, bytes, original: bytes }
    }

    /// The packet, to be rewritten.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    /// Undoes what was rewritten.
    pub fn restore(&mut self) {
        self.bytes = self.original;
    }

    /// The destination as it is now.
    pub fn destination(&self) -> IpAddr {
        if self.bytes[0] >> 4 == 4 {
            IpAddr::from(*self.bytes[16..].first_chunk::<4>().unwrap_or(&[0; 4]))
        } else {
            IpAddr::from(*self.bytes[24..].first_chunk::<16>().unwrap_or(&[0; 16]))
        }
    }
}

/// Writes an IP header and returns its length.
fn ip_header(bytes: &mut [u8; ROOM], from: IpAddr, to: IpAddr) -> usize {
    let message = TCP_HEADER + PAYLOAD;
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            bytes[0] = 0x45;
            bytes[3] = 20 + message as u8;
            bytes[8] = 64;
            bytes[9] = TCP;
            bytes[12..16].copy_from_slice(&from.octets());
            bytes[16..20].copy_from_slice(&to.octets());
            let sum = checksum::finish(checksum::sum(&bytes[..20]));
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            20
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            bytes[0] = 0x60;
            bytes[5] = message as u8;
            bytes[6] = TCP;
            bytes[7] = 64;
            bytes[8..24].copy_from_slice(&from.octets());
            bytes[24..40].copy_from_slice(&to.octets());
            40
        }
        _ => panic!("a packet from {from} to {to}"),
    }
}
