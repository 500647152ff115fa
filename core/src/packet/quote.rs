//! ICMP errors are translated together with the packet that they quote (RFC 792, RFC 4443 §2.4c, RFC 5508 §4), or the application that
//! sent it would not recognize it.

use core::net::IpAddr;

use smoltcp::wire::{Ipv4Packet, Ipv6Packet};

use super::checksum::Delta;
use super::parse::{Chain, checksum_offset, parse_icmp};
use super::rewrite::{field_mut, finished, rewrite_v4, rewrite_v6};
use super::{Checksum, Fragment, IcmpKind, Malformed, Protocol, RewriteError, Transport, View};
use crate::addr::Family;

const ICMP_HEADER_LEN: usize = 8;

/// How much of its transport a quoted packet has at least (RFC 792), in bytes, unless the whole packet has less.
const MIN_TRANSPORT: usize = 8;

/// An ICMP error with extensions quotes at least this many bytes, padded if need be (RFC 4884 §3).
const MIN_EXTENDED: usize = 128;

/// What an ICMP error quotes: whose packet it was, and where it lies in the error.
///
/// A quote belongs to the bytes it was made of. Used with others it gives wrong results, but never a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    src: IpAddr,
    dst: IpAddr,
    protocol: Protocol,
    ports: Option<(u16, u16)>,
    icmp_error: bool,
    later_fragment: bool,
    /// Where the quoted packet, its transport header, and the quote's end are, in bytes from the start of the outer packet.
    start: u32,
    transport: u32,
    end: u32,
}

impl Quote {
    /// Finds the packet quoted by the ICMP error in `packet`, which `view` was made from.
    ///
    /// It may be cut off anywhere behind the first eight bytes of its transport, or be a whole packet that has less; its total length and
    /// its checksums are not verified, because those who quote get them wrong. Extensions behind it (RFC 4884) don't belong to it.
    ///
    /// # Errors
    /// [`Malformed::Quote`] when there is less, when it is of the other IP version or has a header length or extension headers that
    /// can't be, and when `packet` is no ICMP error.
    pub fn of(packet: &[u8], view: &View) -> Result<Self, Malformed> {
        Self::find(packet, view).ok_or(Malformed::Quote)
    }

    fn find(packet: &[u8], view: &View) -> Option<Self> {
        let (start, quoted) = quoted_bytes(packet, view)?;
        let header = match view.family() {
            Family::V4 => Header::parse_v4(quoted)?,
            Family::V6 => Header::parse_v6(quoted)?,
        };
        let (protocol, transport) = (header.protocol, header.transport);
        if transport.len() < header.transport_len.min(MIN_TRANSPORT) {
            return None;
        }
        let (ports, icmp_error) =
            if header.fragment.is_first() { identify(protocol, transport) } else { (None, false) };
        // All are below 2¹⁷, for they are inside of a packet.
        let end = start.saturating_add(quoted.len());
        Some(Self {
            src: header.src,
            dst: header.dst,
            protocol,
            ports,
            icmp_error,
            later_fragment: !header.fragment.is_first(),
            start: start as u32,
            transport: end.saturating_sub(transport.len()) as u32,
            end: end as u32,
        })
    }

    /// The source address of the quoted packet.
    #[inline]
    #[must_use]
    pub const fn src(&self) -> IpAddr {
        self.src
    }

    /// The destination address of the quoted packet.
    #[inline]
    #[must_use]
    pub const fn dst(&self) -> IpAddr {
        self.dst
    }

    /// The protocol of the quoted packet, above IP and its extension headers.
    #[inline]
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The ports of the quoted packet as [`View::ports`] tells them, and (0, 0) for another protocol that
    /// [is translated](Protocol::is_translatable). `None` for everything else, for fragments behind the first, and where the packet ends
    /// before them.
    #[inline]
    #[must_use]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        self.ports
    }

    /// Whether the quoted packet is an ICMP error itself. Nothing should have answered it (RFC 1122 §3.2.2, RFC 4443 §2.4e).
    #[inline]
    #[must_use]
    pub const fn is_icmp_error(&self) -> bool {
        self.icmp_error
    }
}

/// Gives the ICMP error in `buf` new addresses (source, destination) outside, in its own header, and in the packet that it quotes, and
/// updates every checksum that covers them: those of both IPv4 headers, that of the quoted transport, and that of ICMP over all of it.
///
/// As with [`rewrite`](super::rewrite) a right one stays right, and equal to a full computation; a wrong one stays wrong by the same
/// difference. The quoted transport checksum is updated where the quote has all of it. Extensions behind the quote stay as they are.
///
/// # Errors
/// [`RewriteError::MixedFamilies`], [`RewriteError::Buffer`].
pub fn rewrite_error(
    buf: &mut [u8],
    view: &View,
    quote: &Quote,
    outer: (Option<IpAddr>, Option<IpAddr>),
    quoted: (Option<IpAddr>, Option<IpAddr>),
) -> Result<(), RewriteError> {
    let family = view.family();
    let mixed = |new: Option<IpAddr>| new.is_some_and(|new| Family::of(new) != family);
    if [outer.0, outer.1, quoted.0, quoted.1].into_iter().any(mixed) {
        return Err(RewriteError::MixedFamilies);
    }
    let is_error = matches!(view.icmp(), Some(IcmpKind::Error { .. })) && Family::of(quote.src) == family;
    if !is_error || buf.len() < view.total_len() || quote.end > view.total_len {
        return Err(RewriteError::Buffer);
    }
    let inside = rewrite_quoted(buf, quote, quoted)?;
    let pseudo_header = match family {
        Family::V4 => {
            rewrite_v4(buf, outer.0, outer.1)?;
            Delta::NONE
        }
        Family::V6 => rewrite_v6(buf, outer.0, outer.1)?,
    };
    let field = field_mut(buf, view.transport_offset().saturating_add(2)).ok_or(RewriteError::Buffer)?;
    let old = u16::from_be_bytes(*field);
    let new = match view.offload.checksum {
        // Whoever finishes it adds up the message as it then is.
        Checksum::Partial { start, offset: 2 } if start == view.transport_offset => pseudo_header.update_sum(old),
        _ => pseudo_header.and(inside).update(old),
    };
    *field = new.to_be_bytes();
    Ok(())
}

/// The bytes of the quoted packet, and where they start.
fn quoted_bytes<'a>(packet: &'a [u8], view: &View) -> Option<(usize, &'a [u8])> {
    let Transport::Icmp(IcmpKind::Error { kind, .. }) = view.transport else {
        return None;
    };
    let message = packet.get(view.transport_offset()..view.total_len())?;
    let (header, quoted) = message.split_first_chunk::<ICMP_HEADER_LEN>()?;
    let [_, _, _, _, fifth, sixth, ..] = *header;
    // Where extensions follow, the length of what is before them is told (RFC 4884 §4). Other uses of the byte give less.
    let len = match (view.family(), kind) {
        (Family::V4, 3 | 11 | 12) => usize::from(sixth).saturating_mul(4),
        (Family::V6, 1 | 3) => usize::from(fifth).saturating_mul(8),
        _ => 0,
    };
    let quoted = if len >= MIN_EXTENDED { quoted.get(..len).unwrap_or(quoted) } else { quoted };
    Some((view.transport_offset().saturating_add(ICMP_HEADER_LEN), quoted))
}

/// The IP header of a quoted packet, with its extension headers.
struct Header<'a> {
    src: IpAddr,
    dst: IpAddr,
    protocol: Protocol,
    fragment: Fragment,
    /// What is there behind it.
    transport: &'a [u8],
    /// How much there was, as it says itself, in bytes.
    transport_len: usize,
}

impl<'a> Header<'a> {
    fn parse_v4(quoted: &'a [u8]) -> Option<Self> {
        let fixed = quoted.first_chunk::<20>()?;
        let [first, _, _, _, _, _, _, _, _, number, ..] = *fixed;
        let ip = Ipv4Packet::new_unchecked(fixed);
        let header_len = usize::from(ip.header_len());
        if first >> 4 != 4 || header_len < 20 {
            return None;
        }
        Some(Self {
            src: IpAddr::V4(ip.src_addr()),
            dst: IpAddr::V4(ip.dst_addr()),
            protocol: Protocol::from_number(number, Family::V4),
            fragment: Fragment {
                offset: ip.frag_offset(),
                // A quote may end before its packet does.
                len: 0,
                more: ip.more_frags(),
                id: u32::from(ip.ident()),
            },
            transport: quoted.get(header_len..)?,
            transport_len: usize::from(ip.total_len()).saturating_sub(header_len),
        })
    }

    fn parse_v6(quoted: &'a [u8]) -> Option<Self> {
        let (fixed, payload) = quoted.split_first_chunk::<40>()?;
        let [first, _, _, _, _, _, next_header, ..] = *fixed;
        if first >> 4 != 6 {
            return None;
        }
        let ip = Ipv6Packet::new_unchecked(fixed);
        let chain = Chain::walk_quoted(next_header, payload).ok()?;
        let extensions_len = payload.len().saturating_sub(chain.payload.len());
        Some(Self {
            src: IpAddr::V6(ip.src_addr()),
            dst: IpAddr::V6(ip.dst_addr()),
            protocol: Protocol::from_number(chain.next_header, Family::V6),
            fragment: chain.fragment,
            transport: chain.payload,
            transport_len: usize::from(ip.payload_len()).saturating_sub(extensions_len),
        })
    }
}

/// The ports of a quoted packet, and whether it is an ICMP error.
fn identify(protocol: Protocol, transport: &[u8]) -> (Option<(u16, u16)>, bool) {
    let icmp = |family| match parse_icmp(transport, family) {
        Ok(Transport::Icmp(IcmpKind::EchoRequest { ident })) => (Some((ident, 0)), false),
        Ok(Transport::Icmp(IcmpKind::EchoReply { ident })) => (Some((0, ident)), false),
        Ok(Transport::Icmp(IcmpKind::Error { .. })) => (None, true),
        _ => (None, false),
    };
    match (protocol, transport) {
        (Protocol::Tcp | Protocol::Udp, &[a, b, c, d, ..]) => {
            (Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))), false)
        }
        (Protocol::Icmp, _) => icmp(Family::V4),
        (Protocol::Icmpv6, _) => icmp(Family::V6),
        (Protocol::Other(_), _) if protocol.is_translatable() => (Some((0, 0)), false),
        _ => (None, false),
    }
}

/// Returns what the changes do to the sum of the message around the quote.
fn rewrite_quoted(
    buf: &mut [u8],
    quote: &Quote,
    (src, dst): (Option<IpAddr>, Option<IpAddr>),
) -> Result<Delta, RewriteError> {
    if src.is_none() && dst.is_none() {
        return Ok(Delta::NONE);
    }
    let packet = buf.get_mut(quote.start as usize..quote.end as usize).ok_or(RewriteError::Buffer)?;
    let (addresses, header) = match Family::of(quote.src) {
        Family::V4 => {
            let old = word(packet, 10);
            let addresses = rewrite_v4(packet, src, dst)?;
            (addresses, Delta::word(old, word(packet, 10)))
        }
        Family::V6 => (rewrite_v6(packet, src, dst)?, Delta::NONE),
    };
    let transport = quote.transport.saturating_sub(quote.start) as usize;
    Ok(addresses.and(header).and(update_transport(packet, quote, transport, addresses)))
}

/// Updates the checksum of the quoted transport, if all of it is there, for `addresses`. Returns what that does to the sum around it.
fn update_transport(packet: &mut [u8], quote: &Quote, transport: usize, addresses: Delta) -> Delta {
    let Some(offset) = checksum_offset(quote.protocol).filter(|_| !quote.later_fragment) else {
        return Delta::NONE;
    };
    let Some(field) = field_mut(packet, transport.saturating_add(usize::from(offset))) else {
        return Delta::NONE;
    };
    let old = u16::from_be_bytes(*field);
    let new = finished(quote.protocol, old, addresses);
    *field = new.to_be_bytes();
    Delta::word(old, new)
}

fn word(packet: &mut [u8], at: usize) -> u16 {
    field_mut(packet, at).map_or(0, |field| u16::from_be_bytes(*field))
}

#[cfg(test)]
mod tests;
