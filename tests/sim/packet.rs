//! The packets of applications: built and read with a checksum computation of their own, so that a wrong rewrite shows.

use std::net::IpAddr;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A packet as an application means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Udp {
        src_port: u16,
        dst_port: u16,
        payload: Vec<u8>,
    },
    Tcp(Segment),
    /// ICMP "destination unreachable" of either family, with what it says of the packet that it quotes.
    Unreachable {
        code: u8,
        src: IpAddr,
        dst: IpAddr,
        src_port: u16,
        dst_port: u16,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub src_port: u16,
    pub dst_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub payload: Vec<u8>,
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

impl Packet {
    /// The bytes of a UDP or TCP packet, with every checksum.
    pub fn build(&self) -> Vec<u8> {
        let (protocol, checksum_at, mut message) = match &self.body {
            Body::Udp { src_port, dst_port, payload } => {
                let mut message = [*src_port, *dst_port, 8 + payload.len() as u16, 0].map(u16::to_be_bytes).concat();
                message.extend_from_slice(payload);
                (UDP, 6, message)
            }
            Body::Tcp(segment) => {
                let mut message = [segment.src_port, segment.dst_port].map(u16::to_be_bytes).concat();
                message.extend([segment.seq, segment.ack].map(u32::to_be_bytes).concat());
                message.extend([5 << 4, segment.flags, 0xff, 0xff, 0, 0, 0, 0]);
                message.extend_from_slice(&segment.payload);
                (TCP, 16, message)
            }
            Body::Unreachable { .. } => unreachable!("applications send none"),
        };
        let sum = match !sum(&pseudo_header(self.src, self.dst, protocol, &message)) {
            0 if protocol == UDP => 0xffff,
            sum => sum,
        };
        message[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        let mut packet = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let length = (20 + message.len() as u16).to_be_bytes();
                let mut header = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
                header.extend(src.octets());
                header.extend(dst.octets());
                let own = !self::sum(&header);
                header[10..12].copy_from_slice(&own.to_be_bytes());
                header
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let length = (message.len() as u16).to_be_bytes();
                let mut header = vec![0x60, 0, 0, 0, length[0], length[1], protocol, 64];
                header.extend(src.octets());
                header.extend(dst.octets());
                header
            }
            _ => panic!("mixed families"),
        };
        packet.append(&mut message);
        packet
    }

    /// Reads a packet that was delivered.
    ///
    /// # Errors
    /// What is wrong with it; a wrong checksum is.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (src, dst, protocol, message) = split(bytes)?;
        if bytes[0] >> 4 == 4 && sum(&bytes[..20]) != 0xffff {
            return Err("the checksum of the IPv4 header is wrong".into());
        }
        let covered = if protocol == 1 { message.to_vec() } else { pseudo_header(src, dst, protocol, message) };
        if sum(&covered) != 0xffff {
            return Err(format!("the checksum of protocol {protocol} is wrong"));
        }
        let told = u16::from_be_bytes(if bytes[0] >> 4 == 4 { [bytes[2], bytes[3]] } else { [bytes[4], bytes[5]] });
        let len = if bytes[0] >> 4 == 4 { bytes.len() } else { bytes.len() - 40 };
        if usize::from(told) != len {
            return Err(format!("{len} bytes, but the header says {told}"));
        }
        let port = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
        let word = |at: usize| u32::from_be_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
        let body = match (protocol, message.len()) {
            (UDP, 8..) => Body::Udp { src_port: port(0), dst_port: port(2), payload: message[8..].to_vec() },
            (TCP, 20..) => Body::Tcp(Segment {
                src_port: port(0),
                dst_port: port(2),
                seq: word(4),
                ack: word(8),
                flags: message[13],
                payload: message[usize::from(message[12] >> 4) * 4..].to_vec(),
            }),
            (1, 36..) if message[0] == 3 => unreachable_of(message)?,
            (58, 56..) if message[0] == 1 => unreachable_of(message)?,
            _ => return Err(format!("protocol {protocol} in {} bytes", message.len())),
        };
        Ok(Self { src, dst, body })
    }
}

fn unreachable_of(message: &[u8]) -> Result<Body, String> {
    let (src, dst, _, quoted) = split(&message[8..])?;
    let port = |at: usize| u16::from_be_bytes([quoted[at], quoted[at + 1]]);
    Ok(Body::Unreachable { code: message[1], src, dst, src_port: port(0), dst_port: port(2) })
}

/// Addresses, protocol and what follows the header, which has neither options nor extensions.
fn split(bytes: &[u8]) -> Result<(IpAddr, IpAddr, u8, &[u8]), String> {
    let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap());
    let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap());
    match (bytes.first().map(|first| first >> 4), bytes.len()) {
        (Some(4), 28..) => Ok((v4(12), v4(16), bytes[9], &bytes[20..])),
        (Some(6), 48..) => Ok((v6(8), v6(24), bytes[6], &bytes[40..])),
        _ => Err(format!("{} bytes are no packet", bytes.len())),
    }
}

fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40 + message.len());
    for address in [src, dst] {
        match address {
            IpAddr::V4(v4) => bytes.extend(v4.octets()),
            IpAddr::V6(v6) => bytes.extend(v6.octets()),
        }
    }
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes.extend_from_slice(message);
    bytes
}

/// RFC 1071: the ones' complement sum; `0xffff` over bytes that hold their own checksum.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_and_a_changed_byte_is_noticed() {
        let body = Body::Udp { src_port: 1, dst_port: 2, payload: b"odd".to_vec() };
        for (src, dst) in [("10.18.0.1", "10.30.0.1"), ("fc00::1", "fdff::1")] {
            let packet = Packet { src: src.parse().unwrap(), dst: dst.parse().unwrap(), body: body.clone() };
            let bytes = packet.build();
            assert_eq!(Packet::parse(&bytes), Ok(packet));
            for at in 0..bytes.len() {
                // The hop limit and the flow label of IPv6 are covered by no checksum.
                if src == "fc00::1" && [1, 2, 3, 7].contains(&at) {
                    continue;
                }
                let mut wrong = bytes.clone();
                wrong[at] ^= 0x10;
                assert_ne!(Packet::parse(&wrong).map(|packet| packet.build()), Ok(bytes.clone()), "byte {at}");
            }
        }
    }
}
