//! Packets to test with: real ones, and generated ones of every kind with checksums from a slow and separate computation.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use crate::addr::Family;

/// An IPv4 TCP segment with ACK, from a capture.
pub const V4_ACK: &str =
    "4500003471ab40003f06b54e0a1e00130a120088a8fc0050866d4e41ec673059801001f6a3fd00000101080aac259946269fb537";
/// An IPv4 TCP segment with SYN, from a capture.
pub const V4_SYN: &str = "4500003cf20440003f0635810a1e00010a120006b5a2005071f2e51a00000000a002fd5c8ee50000020405820402080a3b625f570000000001030307";
/// An IPv6 TCP segment with SYN, from a capture.
pub const V6_SYN: &str = "600219310028063ffc000000000000000000000000000203fdff1000000000000000000000000001b98400502a8697ed00000000a002ff322a8900000204056e0402080a7fb1168c0000000001030307";

pub fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// RFC 1071 as it is told: one word at a time, the carry added at once.
pub fn slow_sum(bytes: &[u8]) -> u16 {
    let mut sum: u16 = 0;
    for pair in bytes.chunks(2) {
        let word = u16::from(pair[0]) * 256 + u16::from(*pair.get(1).unwrap_or(&0));
        let (next, carry) = sum.overflowing_add(word);
        sum = next + u16::from(carry);
    }
    sum
}

/// The sum of the pseudo-header, written out as the bytes that it stands for.
pub fn slow_pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> u16 {
    slow_sum(&pseudo_header_bytes(src, dst, protocol, len))
}

/// What the checksum of `message` must be; its checksum field must be zero, or the result tells how it differs.
pub fn slow_checksum(src: IpAddr, dst: IpAddr, protocol: u8, message: &[u8]) -> u16 {
    let mut bytes = pseudo_header_bytes(src, dst, protocol, message.len());
    bytes.extend_from_slice(message);
    !slow_sum(&bytes)
}

fn pseudo_header_bytes(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            bytes.extend_from_slice(&src.octets());
            bytes.extend_from_slice(&dst.octets());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            bytes.extend_from_slice(&src.octets());
            bytes.extend_from_slice(&dst.octets());
        }
        _ => panic!("mixed families"),
    }
    bytes.extend_from_slice(&(len as u32).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, protocol]);
    bytes
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Udp,
    /// UDP with checksum 0.
    UdpUnchecked,
    EchoRequest,
    EchoReply,
    IcmpError,
    Other,
}

pub const KINDS: [Kind; 7] =
    [Kind::Tcp, Kind::Udp, Kind::UdpUnchecked, Kind::EchoRequest, Kind::EchoReply, Kind::IcmpError, Kind::Other];

#[derive(Clone, Copy, Debug)]
pub enum Extension {
    HopByHop,
    Routing,
    Destination,
    /// A fragment header on a packet that is whole.
    Atomic,
}

impl Extension {
    const fn number(self) -> u8 {
        match self {
            Self::HopByHop => 0,
            Self::Routing => 43,
            Self::Atomic => 44,
            Self::Destination => 60,
        }
    }
}

/// All that a generated packet is made of.
#[derive(Clone, Debug)]
pub struct Sample {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub kind: Kind,
    pub src_port: u16,
    pub dst_port: u16,
    /// IPv4 only, in words of four bytes.
    pub ip_options: usize,
    /// IPv6 only.
    pub extensions: Vec<Extension>,
    /// TCP only, in words of four bytes.
    pub tcp_options: usize,
    pub tcp_flags: u8,
    pub payload: Vec<u8>,
    /// Bytes behind the packet.
    pub padding: usize,
}

impl Sample {
    pub fn plain(family: Family, kind: Kind, payload: usize) -> Self {
        let (src, dst) = match family {
            Family::V4 => (IpAddr::V4(Ipv4Addr::new(10, 18, 0, 65)), IpAddr::V4(Ipv4Addr::new(10, 30, 0, 1))),
            Family::V6 => (
                IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 1)),
                IpAddr::V6(Ipv6Addr::new(0xfdff, 0x2000, 0, 0, 0, 0, 0, 1)),
            ),
        };
        Self {
            src,
            dst,
            kind,
            src_port: 40_000,
            dst_port: 80,
            ip_options: 0,
            extensions: Vec::new(),
            tcp_options: 0,
            tcp_flags: 0x02,
            payload: (0..payload).map(|at| at as u8).collect(),
            padding: 0,
        }
    }

    pub fn family(&self) -> Family {
        Family::of(self.src)
    }

    pub fn protocol(&self) -> u8 {
        match (self.kind, self.family()) {
            (Kind::Tcp, _) => 6,
            (Kind::Udp | Kind::UdpUnchecked, _) => 17,
            (Kind::EchoRequest | Kind::EchoReply | Kind::IcmpError, Family::V4) => 1,
            (Kind::EchoRequest | Kind::EchoReply | Kind::IcmpError, Family::V6) => 58,
            (Kind::Other, _) => 47,
        }
    }

    /// Where the checksum is in the transport header; `None` when it has none.
    pub fn checksum_at(&self) -> Option<usize> {
        match self.protocol() {
            6 => Some(16),
            17 => Some(6),
            1 | 58 => Some(2),
            _ => None,
        }
    }

    pub fn transport_offset(&self) -> usize {
        match self.family() {
            Family::V4 => 20 + 4 * self.ip_options,
            Family::V6 => 40 + self.extension_bytes().1.len(),
        }
    }

    /// The packet, with every checksum computed in full.
    pub fn build(&self) -> Vec<u8> {
        let mut message = self.message();
        if let Some(at) = self.checksum_at()
            && self.kind != Kind::UdpUnchecked
        {
            let sum = match self.protocol() {
                1 => !slow_sum(&message),
                17 => match slow_checksum(self.src, self.dst, 17, &message) {
                    0 => 0xffff,
                    sum => sum,
                },
                protocol => slow_checksum(self.src, self.dst, protocol, &message),
            };
            message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        let mut packet = self.ip_header(message.len());
        packet.extend_from_slice(&message);
        packet.extend(core::iter::repeat_n(0xee, self.padding));
        packet
    }

    /// The transport header and the payload, with checksum 0.
    fn message(&self) -> Vec<u8> {
        let [src, dst] = [self.src_port, self.dst_port].map(u16::to_be_bytes);
        let mut message = match self.kind {
            Kind::Tcp => {
                let mut header = [&src[..], &dst[..]].concat();
                header.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
                header.extend_from_slice(&[(5 + self.tcp_options as u8) << 4, self.tcp_flags]);
                header.extend_from_slice(&[0xfa, 0xf0, 0, 0, 0, 0]);
                header.extend(vec![1; 4 * self.tcp_options]);
                header
            }
            Kind::Udp | Kind::UdpUnchecked => {
                let len = (8 + self.payload.len() as u16).to_be_bytes();
                [&src[..], &dst[..], &len[..], &[0, 0]].concat()
            }
            Kind::EchoRequest | Kind::EchoReply | Kind::IcmpError => {
                let kind = match (self.kind, self.family()) {
                    (Kind::EchoRequest, Family::V4) => 8,
                    (Kind::EchoRequest, Family::V6) => 128,
                    (Kind::EchoReply, Family::V4) => 0,
                    (Kind::EchoReply, Family::V6) => 129,
                    (_, Family::V4) => 11,
                    (_, Family::V6) => 3,
                };
                [&[kind, 0, 0, 0][..], &src[..], &[0, 1][..]].concat()
            }
            Kind::Other => Vec::new(),
        };
        message.extend_from_slice(&self.payload);
        message
    }

    fn ip_header(&self, message_len: usize) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let words = 5 + self.ip_options;
                let total = (4 * words + message_len) as u16;
                let mut header = vec![0x40 | words as u8, 0];
                header.extend_from_slice(&total.to_be_bytes());
                header.extend_from_slice(&[0x12, 0x34, 0x40, 0, 63, self.protocol(), 0, 0]);
                header.extend_from_slice(&src.octets());
                header.extend_from_slice(&dst.octets());
                header.extend(vec![1; 4 * self.ip_options]);
                let sum = !slow_sum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                header
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let (first, extensions) = self.extension_bytes();
                let len = (extensions.len() + message_len) as u16;
                let mut header = vec![0x60, 0x02, 0x19, 0x31];
                header.extend_from_slice(&len.to_be_bytes());
                header.extend_from_slice(&[first, 63]);
                header.extend_from_slice(&src.octets());
                header.extend_from_slice(&dst.octets());
                header.extend_from_slice(&extensions);
                header
            }
            _ => panic!("mixed families"),
        }
    }

    /// The number of the first header, and all of them.
    fn extension_bytes(&self) -> (u8, Vec<u8>) {
        let numbers: Vec<u8> =
            self.extensions.iter().map(|extension| extension.number()).chain([self.protocol()]).collect();
        let bytes = self
            .extensions
            .iter()
            .zip(&numbers[1..])
            .flat_map(|(extension, &next)| match extension {
                // PadN over the rest; the destination options are longer by eight.
                Extension::HopByHop => vec![next, 0, 1, 4, 0, 0, 0, 0],
                Extension::Destination => [&[next, 1, 1, 12][..], &[0; 12]].concat(),
                Extension::Routing => vec![next, 0, 253, 0, 0, 0, 0, 0],
                Extension::Atomic => vec![next, 0, 0, 0, 0, 0, 0, 7],
            })
            .collect();
        (numbers[0], bytes)
    }
}

/// Any address of `family`, those with many ones and zeroes more often.
pub fn address(family: Family) -> BoxedStrategy<IpAddr> {
    let edge = prop_oneof![Just(0), Just(u128::MAX), any::<u128>(), (0..64_u32).prop_map(|bit| 1_u128 << bit)];
    match family {
        Family::V4 => edge.prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits as u32))).boxed(),
        Family::V6 => edge.prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))).boxed(),
    }
}

pub fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

/// Any valid packet of `family`.
pub fn sample(family: Family) -> impl Strategy<Value = Sample> {
    let extension = prop_oneof![Just(Extension::Routing), Just(Extension::Destination),];
    let extensions = (any::<bool>(), prop::collection::vec(extension, 0..4), any::<bool>()).prop_map(
        |(hop_by_hop, mut middle, atomic)| {
            if hop_by_hop {
                middle.insert(0, Extension::HopByHop);
            }
            if atomic {
                middle.push(Extension::Atomic);
            }
            middle
        },
    );
    let payload = prop_oneof![prop::collection::vec(any::<u8>(), 0..100), Just(vec![0; 40]), Just(vec![0xff; 41]),];
    (
        (address(family), address(family)),
        prop::sample::select(&KINDS[..]),
        (any::<u16>(), any::<u16>()),
        0..=10_usize,
        extensions,
        0..=10_usize,
        any::<u8>(),
        payload,
        0..16_usize,
    )
        .prop_map(
            |(
                (src, dst),
                kind,
                (src_port, dst_port),
                ip_options,
                extensions,
                tcp_options,
                tcp_flags,
                payload,
                padding,
            )| Sample {
                src,
                dst,
                kind,
                src_port,
                dst_port,
                ip_options,
                extensions,
                tcp_options,
                tcp_flags,
                payload,
                padding,
            },
        )
}

/// One packet of every kind and family, with everything on it.
pub fn one_of_each() -> Vec<Sample> {
    [Family::V4, Family::V6]
        .into_iter()
        .flat_map(|family| KINDS.map(|kind| (family, kind)))
        .map(|(family, kind)| Sample {
            ip_options: 2,
            extensions: vec![Extension::HopByHop, Extension::Destination, Extension::Routing, Extension::Atomic],
            tcp_options: 3,
            padding: 5,
            ..Sample::plain(family, kind, 9)
        })
        .collect()
}
