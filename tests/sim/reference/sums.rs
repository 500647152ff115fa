//! Translation, byte by byte: the new addresses are written, and every checksum that covers them is chosen anew so that the sum of
//! all that it covers is what it was. So a right one is right again, and a wrong one is wrong by the same difference.

use std::net::IpAddr;

use acorn_core::packet::{Checksum, Offload};

use super::wire::{self, Body, Packet, Quote, UDP};

/// Gives a packet new addresses.
pub fn translate(bytes: &mut [u8], packet: &Packet, offload: Offload, src: IpAddr, dst: IpAddr) {
    let transport = packet.checksum_at();
    let before = transport.map(|at| transport_sum(bytes, packet, at, offload));
    let header_before = sum(&bytes[..ip_header(bytes)]);
    put_addresses(bytes, 0, src, dst);
    settle_header(bytes, 0, header_before);
    if let (Some(at), Some(before)) = (transport, before) {
        settle_transport(bytes, packet, at, offload, before);
    }
}

/// Gives an ICMP error and what it quotes new addresses.
pub fn translate_error(
    bytes: &mut [u8],
    error: &Packet,
    quote: &Quote,
    offload: Offload,
    outer: (IpAddr, IpAddr),
    quoted: (IpAddr, IpAddr),
) {
    let message = error.body_at + 2;
    let message_before = message_sum(bytes, error, offload);
    let header_before = sum(&bytes[..ip_header(bytes)]);
    let quoted_end = quote.at + ip_header(&bytes[quote.at..]);
    let quoted_before = sum(&bytes[quote.at..quoted_end]);
    let field = wire::covering_checksum(error.v6, quote.protocol).map(|at| quote.body_at + at);
    let field = field.filter(|at| at + 2 <= quote.end);
    let field_before = field.map(|at| addresses_sum(bytes, quote.at) + u64::from(word(bytes, at)));

    put_addresses(bytes, 0, outer.0, outer.1);
    put_addresses(bytes, quote.at, quoted.0, quoted.1);
    settle_header(bytes, 0, header_before);
    settle_header(bytes, quote.at, quoted_before);
    if let (Some(at), Some(before)) = (field, field_before)
        && !(quote.protocol == UDP && word(bytes, at) == 0)
    {
        let new = minus(before, addresses_sum(bytes, quote.at));
        put(bytes, at, if quote.protocol == UDP && new == 0 { 0xffff } else { new });
    }
    let is_unfinished = is_unfinished(error, offload);
    if is_unfinished && !error.v6 {
        // It covers no addresses, and what it covers is summed up later.
        return;
    }
    put(bytes, message, 0);
    let new = minus(message_before, message_sum(bytes, error, offload));
    put(bytes, message, if is_unfinished && new == 0 { 0xffff } else { new });
}

/// Lowers the MSS option of a TCP segment to at most `mss`.
pub fn clamp_mss(bytes: &mut [u8], packet: &Packet, offload: Offload, mss: u16) {
    let (Body::Tcp { header, .. }, Some(checksum)) = (packet.body, packet.checksum_at()) else {
        return;
    };
    let (mut at, end) = (packet.body_at + 20, packet.body_at + header);
    while at < end {
        let kind = bytes[at];
        let len = match kind {
            0 => return,
            1 => 1,
            _ if at + 1 < end => usize::from(bytes[at + 1]),
            _ => return,
        };
        if (kind != 1 && len < 2) || at + len > end {
            return;
        }
        if kind == 2 && len == 4 && word(bytes, at + 2) > mss {
            let before = transport_sum(bytes, packet, checksum, offload);
            put(bytes, at + 2, mss);
            if offload.checksum == Checksum::Full {
                settle_transport(bytes, packet, checksum, offload, before);
            }
        }
        at += len;
    }
}

/// Whether every checksum of a whole packet that covers addresses is right. One that is missing is.
pub fn is_right(bytes: &[u8], packet: &Packet) -> bool {
    let header = ip_header(bytes);
    let is_header_right = packet.v6 || sum(&bytes[..header]) == 0;
    let is_transport_right = match packet.checksum_at() {
        None => packet.v6 || packet.protocol != wire::ICMP || sum(&bytes[packet.body_at..packet.len]) == 0,
        Some(at) if packet.protocol == UDP && word(bytes, at) == 0 => true,
        Some(_) => whole_sum(bytes, packet) == 0,
    };
    is_header_right && is_transport_right
}

/// Writes the right checksums into a packet that is whole.
pub fn make_right(bytes: &mut [u8], packet: &Packet) {
    if !packet.v6 {
        put(bytes, 10, 0);
        let new = minus(0, sum(&bytes[..ip_header(bytes)]));
        put(bytes, 10, new);
    }
    let at = match packet.checksum_at() {
        Some(at) => at,
        None if !packet.v6 && packet.protocol == wire::ICMP && packet.body != Body::Behind => packet.body_at + 2,
        None => return,
    };
    put(bytes, at, 0);
    let covered = match packet.checksum_at() {
        Some(_) => whole_sum(bytes, packet),
        None => sum(&bytes[packet.body_at..packet.len]),
    };
    let new = minus(0, covered);
    put(bytes, at, if packet.protocol == UDP && new == 0 { 0xffff } else { new });
}

/// Writes what an operating system leaves in the checksum's place when the network card is to finish it.
pub fn make_partial(bytes: &mut [u8], packet: &Packet) {
    let Some(at) = packet.checksum_at() else { return };
    let pseudo_header = pseudo_header_sum(bytes, packet);
    put(bytes, at, if pseudo_header == 0 { 0xffff } else { pseudo_header as u16 });
}

/// The ones' complement sum, as a number below 65,535; so the sum over something with a right checksum is 0.
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let words = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u16::from_be_bytes(*word).into()));
    let last = rest.first().map_or(0, |last| u64::from(*last) << 8);
    (words + last) % 65_535
}

/// What a TCP, UDP or ICMPv6 checksum covers, and itself; for an unfinished one only the addresses, and with the other sign.
fn transport_sum(bytes: &[u8], packet: &Packet, field: usize, offload: Offload) -> u64 {
    match offload.checksum {
        Checksum::Full => whole_sum(bytes, packet),
        Checksum::Partial { .. } => u64::from(minus(u64::from(word(bytes, field)), pseudo_header_sum(bytes, packet))),
    }
}

fn settle_transport(bytes: &mut [u8], packet: &Packet, field: usize, offload: Offload, before: u64) {
    let is_udp = packet.protocol == UDP;
    let new = match offload.checksum {
        Checksum::Full if is_udp && word(bytes, field) == 0 => return,
        Checksum::Full => {
            put(bytes, field, 0);
            let new = minus(before, whole_sum(bytes, packet));
            if is_udp && new == 0 { 0xffff } else { new }
        }
        Checksum::Partial { .. } => match ((before + pseudo_header_sum(bytes, packet)) % 65_535) as u16 {
            0 => 0xffff,
            new => new,
        },
    };
    put(bytes, field, new);
}

/// The sum of what an ICMP checksum covers, and itself; for an unfinished one over IPv6 only the addresses, and with the other sign.
fn message_sum(bytes: &[u8], error: &Packet, offload: Offload) -> u64 {
    let message = sum(&bytes[error.body_at..error.len]);
    match (error.v6, is_unfinished(error, offload)) {
        (false, _) => message,
        (true, false) => (message + pseudo_header_sum(bytes, error)) % 65_535,
        (true, true) => u64::from(minus(u64::from(word(bytes, error.body_at + 2)), pseudo_header_sum(bytes, error))),
    }
}

/// Whether the checksum of an ICMP message is left to the network card.
fn is_unfinished(message: &Packet, offload: Offload) -> bool {
    offload.checksum == Checksum::Partial { start: message.body_at as u16, offset: 2 }
}

fn whole_sum(bytes: &[u8], packet: &Packet) -> u64 {
    (pseudo_header_sum(bytes, packet) + sum(&bytes[packet.body_at..packet.len])) % 65_535
}

fn pseudo_header_sum(bytes: &[u8], packet: &Packet) -> u64 {
    let len = (packet.len - packet.body_at) as u64;
    (addresses_sum(bytes, 0) + u64::from(packet.protocol) + len) % 65_535
}

/// The sum of both addresses of the IP header at an offset.
fn addresses_sum(bytes: &[u8], at: usize) -> u64 {
    if bytes[at] >> 4 == 6 { sum(&bytes[at + 8..at + 40]) } else { sum(&bytes[at + 12..at + 20]) }
}

fn ip_header(bytes: &[u8]) -> usize {
    if bytes[0] >> 4 == 6 { 40 } else { usize::from(bytes[0] & 15) * 4 }
}

fn settle_header(bytes: &mut [u8], at: usize, before: u64) {
    if bytes[at] >> 4 == 4 {
        put(bytes, at + 10, 0);
        let new = minus(before, sum(&bytes[at..at + ip_header(&bytes[at..])]));
        put(bytes, at + 10, new);
    }
}

fn put_addresses(bytes: &mut [u8], at: usize, src: IpAddr, dst: IpAddr) {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            bytes[at + 12..at + 16].copy_from_slice(&src.octets());
            bytes[at + 16..at + 20].copy_from_slice(&dst.octets());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            bytes[at + 8..at + 24].copy_from_slice(&src.octets());
            bytes[at + 24..at + 40].copy_from_slice(&dst.octets());
        }
        _ => panic!("{src} and {dst} are of different families"),
    }
}

fn minus(a: u64, b: u64) -> u16 {
    ((a % 65_535 + 65_535 - b % 65_535) % 65_535) as u16
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
