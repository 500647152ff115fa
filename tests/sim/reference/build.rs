//! Packets of every kind, whole or damaged, from a few bytes of chance.

use std::net::IpAddr;

use acorn_core::packet::{Checksum, Offload};

use super::chance::Chance;
use super::sums;
use super::wire::{ICMP, ICMPV6, Packet, TCP, UDP};

/// A packet and what its sender left for the network card to do.
#[derive(Clone, PartialEq, Eq)]
pub struct Sent {
    pub bytes: Vec<u8>,
    pub offload: Offload,
}

impl From<Vec<u8>> for Sent {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, offload: Offload::NONE }
    }
}

/// From where to where.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub src_port: u16,
    pub dst_port: u16,
}

/// What a packet carries above IP.
#[derive(Clone, Debug)]
pub struct Payload {
    pub protocol: u8,
    pub bytes: Vec<u8>,
}

/// What stands around a payload.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    /// Bytes of IPv4 options, a multiple of 4.
    pub v4_options: usize,
    /// The numbers of IPv6 extension headers, a fragment header among them or not.
    pub v6_headers: Vec<u8>,
    pub dont_fragment: bool,
    /// Whether a fragment may have a length that it must not have.
    pub is_uneven: bool,
    /// Identification, offset in units of 8 bytes, more.
    pub fragment: Option<(u32, u16, bool)>,
}

pub fn tcp(ends: &Ends, flags: u8, seq: u32, ack: u32, options: &[u8], payload: usize) -> Payload {
    let mut bytes = Vec::with_capacity(20 + options.len() + payload);
    bytes.extend(ends.src_port.to_be_bytes());
    bytes.extend(ends.dst_port.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend(ack.to_be_bytes());
    bytes.extend([((5 + options.len() / 4) << 4) as u8, flags, 0x20, 0, 0, 0, 0, 0]);
    bytes.extend(options);
    fill(&mut bytes, payload);
    Payload { protocol: TCP, bytes }
}

pub fn udp(ends: &Ends, payload: usize) -> Payload {
    let mut bytes = Vec::with_capacity(8 + payload);
    bytes.extend(ends.src_port.to_be_bytes());
    bytes.extend(ends.dst_port.to_be_bytes());
    bytes.extend(((8 + payload) as u16).to_be_bytes());
    bytes.extend([0, 0]);
    fill(&mut bytes, payload);
    Payload { protocol: UDP, bytes }
}

/// An echo request with the source port for its identifier, or a reply with the destination port for it.
pub fn echo(ends: &Ends, is_request: bool, payload: usize) -> Payload {
    let v6 = ends.src.is_ipv6();
    let (kind, ident) = match (is_request, v6) {
        (true, false) => (8, ends.src_port),
        (true, true) => (128, ends.src_port),
        (false, false) => (0, ends.dst_port),
        (false, true) => (129, ends.dst_port),
    };
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(ident.to_be_bytes());
    bytes.extend([0, 1]);
    fill(&mut bytes, payload);
    Payload { protocol: if v6 { ICMPV6 } else { ICMP }, bytes }
}

/// Another ICMP message.
pub fn message(v6: bool, kind: u8, code: u8, detail: u32, body: &[u8]) -> Payload {
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(detail.to_be_bytes());
    bytes.extend(body);
    Payload { protocol: if v6 { ICMPV6 } else { ICMP }, bytes }
}

/// Something that is not looked into.
pub fn other(protocol: u8, payload: usize) -> Payload {
    let mut bytes = Vec::new();
    fill(&mut bytes, payload);
    Payload { protocol, bytes }
}

/// The whole packet, with right checksums; in a fragment they are those of its own bytes.
pub fn packet(ends: &Ends, envelope: &Envelope, payload: &Payload) -> Vec<u8> {
    let mut bytes = match (ends.src, ends.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = 20 + envelope.v4_options.min(40);
            let mut bytes = vec![0x40 | (header / 4) as u8, 0];
            bytes.extend(((header + payload.bytes.len()) as u16).to_be_bytes());
            let (id, offset, more) = envelope.fragment.unwrap_or((7, 0, false));
            bytes.extend((id as u16).to_be_bytes());
            let flags = u16::from(envelope.dont_fragment) << 14 | u16::from(more) << 13 | offset & 0x1fff;
            bytes.extend(flags.to_be_bytes());
            bytes.extend([63, payload.protocol, 0, 0]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes.resize(header, 1);
            bytes
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut headers = envelope.v6_headers.clone();
            if envelope.fragment.is_some() && !headers.contains(&44) {
                headers.push(44);
            }
            let mut bytes = vec![0x60, 0, 0, 0];
            bytes.extend(((headers.len() * 8 + payload.bytes.len()) as u16).to_be_bytes());
            bytes.extend([headers.first().copied().unwrap_or(payload.protocol), 63]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            for (at, header) in headers.iter().enumerate() {
                let next = headers.get(at + 1).copied().unwrap_or(payload.protocol);
                let (id, offset, more) = envelope.fragment.unwrap_or((7, 0, false));
                if *header == 44 {
                    bytes.extend([next, 0]);
                    bytes.extend((offset << 3 | u16::from(more)).to_be_bytes());
                    bytes.extend(id.to_be_bytes());
                } else {
                    bytes.extend([next, 0, 1, 0, 0, 0, 0, 0]);
                }
            }
            bytes
        }
        _ => panic!("{} and {} are of different families", ends.src, ends.dst),
    };
    bytes.extend(&payload.bytes);
    if envelope.fragment.is_some_and(|(.., more)| more) && !payload.bytes.len().is_multiple_of(8) && !envelope.is_uneven
    {
        // Only the last fragment may end anywhere.
        let missing = 8 - payload.bytes.len() % 8;
        bytes.resize(bytes.len() + missing, 0xaa);
        let at = if ends.src.is_ipv6() { 4 } else { 2 };
        let len = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        sums::put(&mut bytes, at, len + missing as u16);
    }
    if let Some(packet) = Packet::read(&bytes, Offload::NONE) {
        sums::make_right(&mut bytes, &packet);
    }
    bytes
}

/// What chance does to a whole packet: lies, damage, padding, and work for the network card.
pub fn spoil(chance: &mut Chance, what: u8, bytes: Vec<u8>) -> Sent {
    let mut sent = Sent::from(bytes);
    if what & 1 != 0 {
        leave_to_the_card(chance, &mut sent);
    }
    if what & 2 != 0 {
        let (at, with) = (usize::from(chance.byte()), chance.byte());
        if let Some(byte) = sent.bytes.get_mut(at) {
            *byte ^= with;
        }
    }
    if what & 4 != 0 {
        let how = chance.byte();
        let len = sent.bytes.len();
        match how & 3 {
            0 => sent.bytes.truncate(usize::from(how >> 2)),
            1 => sent.bytes.truncate(len.saturating_sub(usize::from(how >> 2))),
            2 => sent.bytes.resize(len + usize::from(how >> 2), 0xee),
            // The length in the IP header.
            _ => {
                let at = if sent.bytes.first().is_some_and(|first| first >> 4 == 6) { 4 } else { 2 };
                if let Some(byte) = sent.bytes.get_mut(at + 1) {
                    *byte = byte.wrapping_add((how >> 2).wrapping_sub(32));
                }
            }
        }
    }
    sent
}

fn leave_to_the_card(chance: &mut Chance, sent: &mut Sent) {
    let how = chance.byte();
    sent.offload.gso_size = [0, 0, 0, 1, 8, 536, 1200, 1380, 1400, 1420, 1460, 65_535][usize::from(how >> 4) % 12];
    let Some(packet) = Packet::read(&sent.bytes, Offload::NONE) else {
        return;
    };
    let at = packet.checksum_at().map(|at| at - packet.body_at);
    let (start, offset) = (packet.body_at as u16, at.unwrap_or(2) as u16);
    sent.offload.checksum = match how & 7 {
        0 => return,
        1 => Checksum::Partial { start: start.wrapping_add(1), offset },
        2 => Checksum::Partial { start, offset: offset.wrapping_add(u16::from(chance.byte())) },
        3 => Checksum::Partial { start: u16::from(chance.byte()) << 3, offset: 65_535 },
        _ => Checksum::Partial { start, offset },
    };
    sums::make_partial(&mut sent.bytes, &packet);
}

fn fill(bytes: &mut Vec<u8>, payload: usize) {
    bytes.extend((0..payload).map(|at| (at as u8).wrapping_mul(7)));
}
