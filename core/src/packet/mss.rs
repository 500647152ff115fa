//! Lowers the segment size that a TCP connection begins with to what the tunnel carries (RFC 9293 §3.7.1), so that it need not find out.

use super::checksum::Delta;
use super::rewrite::field_mut;
use super::{Checksum, Transport, View};
use crate::addr::Family;
use crate::mtu::OverlayMtu;

/// Where the checksum and the options are in a TCP header, in bytes.
const CHECKSUM: usize = 16;
const OPTIONS: usize = 20;

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// Lowers the maximum segment size in a TCP SYN to what `mtu` leaves behind headers without options: less 40 bytes over IPv4, 60 over
/// IPv6. Never raises one, and adds none. Returns whether it changed something.
///
/// The checksum follows by difference; one that is unfinished doesn't cover the options yet. A bad length ends the walk through
/// the options, as it does at the receiver, and what is behind it stays. Of a connection's packets only those count that have the TCP header.
pub fn clamp_mss(packet: &mut [u8], view: &View, mtu: OverlayMtu) -> bool {
    let Transport::Tcp(segment) = view.transport() else {
        return false;
    };
    if !segment.flags.syn() {
        return false;
    }
    let headers = match view.family() {
        Family::V4 => 40,
        Family::V6 => 60,
    };
    let most = mtu.get().saturating_sub(headers);
    let end = view.total_len.saturating_sub(segment.payload_len) as usize;
    let Some(header) = packet.get_mut(view.transport_offset()..end) else {
        return false;
    };
    let delta = lower(header, most);
    if delta == Delta::NONE {
        return false;
    }
    if view.offload().checksum == Checksum::Full
        && let Some(field) = field_mut(header, CHECKSUM)
    {
        *field = delta.update(u16::from_be_bytes(*field)).to_be_bytes();
    }
    true
}

/// Lowers every maximum segment size in the header: there should be one, but receivers differ in which of several they take.
fn lower(header: &mut [u8], most: u16) -> Delta {
    let mut delta = Delta::NONE;
    let mut at = OPTIONS;
    // Each step goes on by at least one byte, and the header has at most 60.
    while let Some((&kind, rest)) = header.get(at..).and_then(<[u8]>::split_first) {
        let len = match (kind, rest.first()) {
            (END_OF_OPTIONS, _) => break,
            (NO_OPERATION, _) => 1,
            (_, Some(&len @ 2..)) => usize::from(len),
            _ => break,
        };
        let next = at.saturating_add(len);
        if next > header.len() {
            break;
        }
        if (kind, len) == (MAXIMUM_SEGMENT_SIZE, 4) {
            delta = delta.and(lower_at(header, at.saturating_add(2), most));
        }
        at = next;
    }
    delta
}

fn lower_at(header: &mut [u8], at: usize, most: u16) -> Delta {
    let Some(field) = field_mut(header, at) else {
        return Delta::NONE;
    };
    let old = u16::from_be_bytes(*field);
    if old <= most {
        return Delta::NONE;
    }
    *field = most.to_be_bytes();
    // At an odd place its high byte is the low half of one word, and its low byte the high half of the next.
    if at.is_multiple_of(2) { Delta::word(old, most) } else { Delta::word(old.swap_bytes(), most.swap_bytes()) }
}

#[cfg(test)]
mod tests;
