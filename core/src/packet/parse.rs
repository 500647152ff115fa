//! From bytes to a [`View`]: every length and offset is checked here, and nowhere else.

use smoltcp::wire::{Ipv4Packet, Ipv6FragmentHeader, Ipv6Packet, TcpPacket, UdpPacket};

use super::{Checksum, Fragment, IcmpKind, Malformed, Offload, Protocol, TcpFlags, TcpSegment, Transport, View};
use crate::addr::{Family, v4_key};

/// The most IPv6 extension headers that are walked. Real packets have none to three.
const MAX_EXTENSION_HEADERS: usize = 8;

/// Where the checksum lies in a transport header, in bytes, when it covers the pseudo-header.
pub(super) const fn checksum_offset(protocol: Protocol) -> Option<u16> {
    match protocol {
        Protocol::Tcp => Some(16),
        Protocol::Udp => Some(6),
        Protocol::Icmpv6 => Some(2),
        Protocol::Icmp | Protocol::Other(_) => None,
    }
}

#[inline]
pub(super) fn parse(buf: &[u8], offload: Offload) -> Result<View, Malformed> {
    match buf.first() {
        None => Err(Malformed::Empty),
        Some(first) => match first >> 4 {
            4 => parse_v4(buf, offload),
            6 => parse_v6(buf, offload),
            _ => Err(Malformed::Version),
        },
    }
}

#[inline]
fn parse_v4(buf: &[u8], offload: Offload) -> Result<View, Malformed> {
    let fixed = buf.first_chunk::<20>().ok_or(Malformed::Truncated)?;
    let ip = Ipv4Packet::new_unchecked(fixed);
    let header_len = ip.header_len();
    if header_len < 20 {
        return Err(Malformed::HeaderLength);
    }
    let total_len = ip.total_len();
    if total_len < u16::from(header_len) {
        return Err(Malformed::TotalLength);
    }
    let packet = buf.get(..usize::from(total_len)).ok_or(Malformed::Truncated)?;
    let payload = packet.get(usize::from(header_len)..).ok_or(Malformed::TotalLength)?;

    if let Some(options) = packet.get(20..usize::from(header_len)).filter(|options| !options.is_empty()) {
        check_options(options)?;
    }
    let fragment = Fragment {
        offset: ip.frag_offset(),
        // An IPv4 packet is below 2¹⁶ bytes.
        len: payload.len() as u16,
        more: ip.more_frags(),
        id: u32::from(ip.ident()),
    };
    if !fragment.is_whole() {
        check_fragment(fragment, payload.len(), usize::from(header_len))?;
    }
    let [_, _, _, _, _, _, _, _, _, number, ..] = *fixed;
    let protocol = Protocol::from_number(number, Family::V4);
    check_offload(View {
        family: Family::V4,
        src: v4_key(ip.src_addr().octets()),
        dst: v4_key(ip.dst_addr().octets()),
        transport: parse_transport(protocol, payload, fragment)?,
        protocol,
        fragment,
        dont_fragment: ip.dont_frag(),
        transport_offset: u16::from(header_len),
        total_len: u32::from(total_len),
        offload,
    })
}

/// An IPv4 source route would take the packet to addresses that nobody translated (RFC 7126 sections 4.3 and 4.4). What is not well formed
/// among the options is left to who reads them.
#[inline(never)]
fn check_options(mut options: &[u8]) -> Result<(), Malformed> {
    loop {
        let len = match options {
            [] | [END_OF_OPTIONS, ..] => return Ok(()),
            [NO_OPERATION, ..] => 1,
            [LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, ..] => return Err(Malformed::SourceRoute),
            [_, len, ..] if *len >= 2 => usize::from(*len),
            [..] => return Ok(()),
        };
        match options.get(len..) {
            Some(rest) => options = rest,
            None => return Ok(()),
        }
    }
}

/// The numbers of IPv4 options that matter here (RFC 791 section 3.1).
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

#[inline]
fn parse_v6(buf: &[u8], offload: Offload) -> Result<View, Malformed> {
    let fixed = buf.first_chunk::<40>().ok_or(Malformed::Truncated)?;
    let [_, _, _, _, _, _, next_header, ..] = *fixed;
    let ip = Ipv6Packet::new_unchecked(fixed);
    let total_len = 40_u32.saturating_add(u32::from(ip.payload_len()));
    let packet = buf.get(..total_len as usize).ok_or(Malformed::Truncated)?;
    let payload = packet.get(40..).ok_or(Malformed::Truncated)?;
    let (number, payload, fragment) = if is_extension(next_header) {
        let chain = Chain::walk(next_header, payload)?;
        (chain.next_header, chain.payload, chain.fragment)
    } else {
        (next_header, payload, Fragment::WHOLE)
    };
    let protocol = Protocol::from_number(number, Family::V6);
    check_offload(View {
        family: Family::V6,
        src: ip.src_addr().octets(),
        dst: ip.dst_addr().octets(),
        transport: parse_transport(protocol, payload, fragment)?,
        protocol,
        fragment,
        dont_fragment: true,
        // Both lengths are below 2¹⁷, and the walk is bounded to 8 × 2,048 bytes.
        transport_offset: packet.len().saturating_sub(payload.len()) as u16,
        total_len,
        offload,
    })
}

/// The numbers of the extension headers that are walked (RFC 8200 §4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
}

/// A place in the chain of IPv6 extension headers: the number of what comes next, and the bytes from there on.
pub(super) struct Chain<'a> {
    pub(super) next_header: u8,
    pub(super) payload: &'a [u8],
    pub(super) fragment: Fragment,
    /// Whether it may be cut off.
    quoted: bool,
}

impl<'a> Chain<'a> {
    /// Walks to the transport header, or to the end of the fragment header of a fragment behind the first.
    fn walk(first: u8, payload: &'a [u8]) -> Result<Self, Malformed> {
        Self { next_header: first, payload, fragment: Fragment::WHOLE, quoted: false }.walked()
    }

    /// The same, also where there is none, in a packet that is quoted and may be cut off.
    pub(super) fn walk_quoted(first: u8, payload: &'a [u8]) -> Result<Self, Malformed> {
        let chain = Self { next_header: first, payload, fragment: Fragment::WHOLE, quoted: true };
        if is_extension(first) { chain.walked() } else { Ok(chain) }
    }

    /// Not inlined, because hardly a packet has extension headers.
    #[inline(never)]
    fn walked(self) -> Result<Self, Malformed> {
        let mut chain = self;
        let mut fragmented = false;
        for position in 0..MAX_EXTENSION_HEADERS {
            match chain.next_header {
                // Hop-by-hop options come first or not at all (§4.1).
                HOP_BY_HOP if position > 0 => return Err(Malformed::ExtensionHeaders),
                FRAGMENT if fragmented => return Err(Malformed::ExtensionHeaders),
                FRAGMENT => {
                    fragmented = true;
                    chain.step_fragment()?;
                }
                _ => chain.step()?,
            }
            if !is_extension(chain.next_header) || !chain.fragment.is_first() {
                return Ok(chain);
            }
        }
        Err(Malformed::ExtensionHeaders)
    }

    /// Steps over a header with a length: hop-by-hop options, destination options, routing.
    fn step(&mut self) -> Result<(), Malformed> {
        let fixed = self.payload.first_chunk::<8>().ok_or(Malformed::ExtensionHeaders)?;
        let [next_header, len, _, segments_left, ..] = *fixed;
        if self.next_header == ROUTING && segments_left != 0 {
            return Err(Malformed::SourceRoute);
        }
        let len = usize::from(len).saturating_add(1).saturating_mul(8);
        self.next_header = next_header;
        self.payload = self.payload.get(len..).ok_or(Malformed::ExtensionHeaders)?;
        Ok(())
    }

    fn step_fragment(&mut self) -> Result<(), Malformed> {
        let (fixed, payload) = self.payload.split_first_chunk::<8>().ok_or(Malformed::ExtensionHeaders)?;
        let [next_header, _, fields @ ..] = fixed;
        // smoltcp's header starts behind the two bytes that all extension headers share, and counts in units of eight bytes.
        let header = Ipv6FragmentHeader::new_unchecked(fields);
        let fragment = Fragment {
            offset: header.frag_offset().saturating_mul(8),
            // What is behind the fixed header of an IPv6 packet is below 2¹⁶ bytes.
            len: payload.len() as u16,
            more: header.more_frags(),
            id: header.ident(),
        };
        // A packet may have the header and still be whole ("atomic", RFC 6946).
        if !fragment.is_whole() {
            if !self.quoted {
                check_fragment(fragment, payload.len(), 0)?;
            }
            self.fragment = fragment;
        }
        self.next_header = *next_header;
        self.payload = payload;
        Ok(())
    }
}

/// `header_len` is what counts toward the 65,535 bytes of a datagram besides its payload.
fn check_fragment(fragment: Fragment, payload_len: usize, header_len: usize) -> Result<(), Malformed> {
    let end = usize::from(fragment.offset).saturating_add(payload_len).saturating_add(header_len);
    let is_whole_eights = payload_len.is_multiple_of(8) && payload_len > 0;
    if end > usize::from(u16::MAX) || (fragment.more && !is_whole_eights) {
        return Err(Malformed::Fragment);
    }
    Ok(())
}

#[inline(always)]
fn parse_transport(protocol: Protocol, payload: &[u8], fragment: Fragment) -> Result<Transport, Malformed> {
    if !fragment.is_first() {
        return Ok(Transport::LaterFragment);
    }
    match protocol {
        Protocol::Tcp => parse_tcp(payload),
        Protocol::Udp => parse_udp(payload, fragment.more),
        Protocol::Icmp => parse_icmp(payload, Family::V4),
        Protocol::Icmpv6 => parse_icmp(payload, Family::V6),
        Protocol::Other(_) => Ok(Transport::Other),
    }
}

#[inline(always)]
fn parse_tcp(payload: &[u8]) -> Result<Transport, Malformed> {
    let fixed = transport_header::<20>(payload)?;
    let [.., flags, _, _, _, _, _, _] = *fixed;
    let header = TcpPacket::new_unchecked(fixed);
    let header_len = usize::from(header.header_len());
    if header_len < 20 {
        return Err(Malformed::TransportTruncated);
    }
    let payload_len = payload.len().checked_sub(header_len).ok_or(Malformed::TransportTruncated)?;
    Ok(Transport::Tcp(TcpSegment {
        src_port: header.src_port(),
        dst_port: header.dst_port(),
        seq: header.seq_number().0 as u32,
        ack: header.ack_number().0 as u32,
        flags: TcpFlags(flags),
        // An IP payload is below 2¹⁶ bytes.
        payload_len: payload_len as u32,
    }))
}

/// The length in the header is that of the whole datagram, so that a first fragment has less.
#[inline]
fn parse_udp(payload: &[u8], fragmented: bool) -> Result<Transport, Malformed> {
    let header = UdpPacket::new_unchecked(transport_header::<8>(payload)?);
    let len = usize::from(header.len());
    if len < 8 || (len > payload.len() && !fragmented) {
        return Err(Malformed::TransportTruncated);
    }
    Ok(Transport::Udp { src_port: header.src_port(), dst_port: header.dst_port() })
}

pub(super) fn parse_icmp(payload: &[u8], family: Family) -> Result<Transport, Malformed> {
    let [kind, code, _, _, ident_high, ident_low, _, _] = *transport_header::<8>(payload)?;
    let ident = u16::from_be_bytes([ident_high, ident_low]);
    Ok(Transport::Icmp(match (family, kind) {
        (Family::V4, 8) | (Family::V6, 128) => IcmpKind::EchoRequest { ident },
        (Family::V4, 0) | (Family::V6, 129) => IcmpKind::EchoReply { ident },
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122 §3.2.2).
        (Family::V4, 3 | 4 | 5 | 11 | 12) => IcmpKind::Error { kind, code },
        // RFC 4443 §2.1.
        (Family::V6, ..128) => IcmpKind::Error { kind, code },
        _ => IcmpKind::Other { kind, code },
    }))
}

#[inline(always)]
fn transport_header<const LEN: usize>(payload: &[u8]) -> Result<&[u8; LEN], Malformed> {
    payload.first_chunk::<LEN>().ok_or(Malformed::TransportTruncated)
}

/// An unfinished checksum of a protocol that we rewrite must be where that protocol has its checksum; any other just inside.
#[inline]
fn check_offload(view: View) -> Result<View, Malformed> {
    if view.offload == Offload::NONE {
        return Ok(view);
    }
    // Nobody can finish a checksum that is spread over several packets, or cut one of them into segments.
    if !view.fragment.is_whole() {
        return Err(Malformed::Offload);
    }
    match view.offload.checksum {
        Checksum::Full => Ok(view),
        Checksum::Partial { start, offset } => check_partial(view, start, offset),
    }
}

fn check_partial(view: View, start: u16, offset: u16) -> Result<View, Malformed> {
    let end = usize::from(start).saturating_add(usize::from(offset)).saturating_add(2);
    let fits = match checksum_offset(view.protocol) {
        Some(expected) => start == view.transport_offset && offset == expected,
        None => true,
    };
    if fits && end <= view.total_len() { Ok(view) } else { Err(Malformed::Offload) }
}

#[cfg(test)]
mod tests;
