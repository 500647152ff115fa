//! New addresses for a packet, in place.

use core::fmt;
use core::net::IpAddr;

use smoltcp::wire::{Ipv4Packet, Ipv6Packet};

use super::checksum::Delta;
use super::parse::checksum_offset;
use super::{Checksum, Protocol, Transport, View};
use crate::addr::Family;

/// Why a packet can't be rewritten. Nothing has changed when it can't.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RewriteError {
    /// A new address is of the other IP version than the packet.
    MixedFamilies,
    /// The bytes are not those that the view was made from.
    Buffer,
}

impl fmt::Display for RewriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MixedFamilies => "a new address is of another IP version than the packet",
            Self::Buffer => "the buffer does not hold the packet",
        })
    }
}

impl core::error::Error for RewriteError {}

/// Gives the packet in `buf` a new source, a new destination, or both, and updates every checksum that covers them.
/// [`View::with_addresses`] is the view of the result; it needs no second parsing.
///
/// A checksum that was right is right, and equal to a full computation; one that was wrong is wrong by the same difference (RFC 1624).
/// A UDP checksum of 0, "none", stays 0, and one that becomes 0 is written 0xFFFF (RFC 768). An unfinished one
/// ([`Checksum::Partial`]) stays unfinished. ICMP over IPv4 and other protocols don't cover the addresses, and in a fragment behind
/// the first there is no checksum but that of the IP header. Ports, payload and TTL stay as they are.
///
/// # Errors
/// [`RewriteError::MixedFamilies`], [`RewriteError::Buffer`].
#[inline]
pub fn rewrite(
    buf: &mut [u8],
    view: &View,
    new_src: Option<IpAddr>,
    new_dst: Option<IpAddr>,
) -> Result<(), RewriteError> {
    let family = view.family();
    let fits = |new: Option<IpAddr>| new.is_none_or(|new| Family::of(new) == family);
    if !fits(new_src) || !fits(new_dst) {
        return Err(RewriteError::MixedFamilies);
    }
    if buf.len() < view.total_len() {
        return Err(RewriteError::Buffer);
    }
    // The old addresses are taken from the packet itself, not from the view: the sums then fit whatever is there.
    let delta = match family {
        Family::V4 => rewrite_v4(buf, new_src, new_dst),
        Family::V6 => rewrite_v6(buf, new_src, new_dst),
    }?;
    update_transport(buf, view, delta)
}

#[inline]
pub(super) fn rewrite_v4(
    buf: &mut [u8],
    new_src: Option<IpAddr>,
    new_dst: Option<IpAddr>,
) -> Result<Delta, RewriteError> {
    let header = buf.first_chunk_mut::<20>().ok_or(RewriteError::Buffer)?;
    let mut ip = Ipv4Packet::new_unchecked(header);
    let mut delta = Delta::NONE;
    if let Some(IpAddr::V4(src)) = new_src {
        delta = delta.and(Delta::v4(ip.src_addr(), src));
        ip.set_src_addr(src);
    }
    if let Some(IpAddr::V4(dst)) = new_dst {
        delta = delta.and(Delta::v4(ip.dst_addr(), dst));
        ip.set_dst_addr(dst);
    }
    ip.set_checksum(delta.update(ip.checksum()));
    Ok(delta)
}

#[inline]
pub(super) fn rewrite_v6(
    buf: &mut [u8],
    new_src: Option<IpAddr>,
    new_dst: Option<IpAddr>,
) -> Result<Delta, RewriteError> {
    let header = buf.first_chunk_mut::<40>().ok_or(RewriteError::Buffer)?;
    let mut ip = Ipv6Packet::new_unchecked(header);
    let mut delta = Delta::NONE;
    if let Some(IpAddr::V6(src)) = new_src {
        delta = delta.and(Delta::v6(ip.src_addr(), src));
        ip.set_src_addr(src);
    }
    if let Some(IpAddr::V6(dst)) = new_dst {
        delta = delta.and(Delta::v6(ip.dst_addr(), dst));
        ip.set_dst_addr(dst);
    }
    Ok(delta)
}

#[inline]
fn update_transport(buf: &mut [u8], view: &View, delta: Delta) -> Result<(), RewriteError> {
    let Some(offset) = checksum_offset(view.protocol) else {
        return Ok(());
    };
    if view.transport == Transport::LaterFragment {
        return Ok(());
    }
    let field =
        field_mut(buf, view.transport_offset().saturating_add(usize::from(offset))).ok_or(RewriteError::Buffer)?;
    let old = u16::from_be_bytes(*field);
    let new = match view.offload.checksum {
        Checksum::Partial { .. } => delta.update_sum(old),
        Checksum::Full => finished(view.protocol, old, delta),
    };
    *field = new.to_be_bytes();
    Ok(())
}

/// A finished transport checksum after `delta`.
#[inline]
pub(super) fn finished(protocol: Protocol, old: u16, delta: Delta) -> u16 {
    match protocol {
        // In IPv6 too: a missing checksum must not turn into one that looks like any other (RFC 8200 §8.1, RFC 6935).
        Protocol::Udp if old == 0 => 0,
        Protocol::Udp => match delta.update(old) {
            0 => 0xffff,
            sum => sum,
        },
        _ => delta.update(old),
    }
}

/// The two bytes at `at`.
#[inline]
pub(super) fn field_mut(buf: &mut [u8], at: usize) -> Option<&mut [u8; 2]> {
    buf.get_mut(at..).and_then(<[u8]>::first_chunk_mut)
}

#[cfg(test)]
mod tests;
