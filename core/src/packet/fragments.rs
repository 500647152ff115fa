//! Cuts an IPv4 packet that may be cut (RFC 791 §3.2), and finishes a checksum that was left to the network card.

use core::fmt;

use super::rewrite::field_mut;
use super::{Checksum, Protocol, View, checksum};
use crate::addr::Family;
use crate::mtu::OverlayMtu;

/// Why a packet is not cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FragmentError {
    /// Over IPv6 only the sender cuts (RFC 8200 §4.5).
    NotIpv4,
    /// The packet says that it must not be cut.
    DontFragment,
    /// It is to be cut into segments, which come first.
    Segmented,
    /// The bytes are not those that the view was made from.
    Buffer,
    /// Behind the header there is no room for eight bytes. No view of a packet gives this: an IPv4 header has at most 60 bytes.
    HeaderTooLong,
}

impl fmt::Display for FragmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotIpv4 => "not an IPv4 packet",
            Self::DontFragment => "must not be fragmented",
            Self::Segmented => "still to be cut into segments",
            Self::Buffer => "the buffer does not hold the packet",
            Self::HeaderTooLong => "the header leaves no room",
        })
    }
}

impl core::error::Error for FragmentError {}

/// The fragments of one packet that are still to be written.
///
/// A fragment that is cut again carries on with its own offset and "more fragments" flag. The identification is that of the packet, 0 too.
#[derive(Clone, Copy, Debug)]
pub struct Fragments {
    mtu: usize,
    header_len: usize,
    total_len: usize,
    /// Where the next fragment's payload starts in the packet, in bytes.
    at: usize,
    /// By how much the header checksum of the packet is wrong; 0 when it is right.
    wrong: u16,
    done: bool,
}

impl Fragments {
    /// Begins to cut the packet of `view` so that no fragment is longer than `mtu`. A packet that is not too long is its only fragment.
    ///
    /// An unfinished checksum is finished in place first, because nobody can do that once the packet is in pieces:
    /// do not use `view` for another change of the packet.
    ///
    /// # Errors
    /// [`FragmentError`]; nothing has changed then.
    pub fn new(packet: &mut [u8], view: &View, mtu: OverlayMtu) -> Result<Self, FragmentError> {
        if view.family() != Family::V4 {
            return Err(FragmentError::NotIpv4);
        }
        if view.dont_fragment() {
            return Err(FragmentError::DontFragment);
        }
        if view.offload().gso_size != 0 {
            return Err(FragmentError::Segmented);
        }
        let (header_len, total_len, mtu) = (view.transport_offset(), view.total_len(), usize::from(mtu.get()));
        let header =
            packet.get(..total_len).and_then(|packet| packet.get(..header_len)).ok_or(FragmentError::Buffer)?;
        if header_len.saturating_add(8) > mtu || header_len > MAX_HEADER {
            return Err(FragmentError::HeaderTooLong);
        }
        let wrong = checksum::finish(checksum::sum(header));
        finish_checksum(packet, view);
        Ok(Self { mtu, header_len, total_len, at: header_len, wrong, done: false })
    }

    /// Writes the next fragment of `packet`, the one given to [`new`](Self::new), to the start of `out`, and returns its length in bytes.
    ///
    /// The first has all options, the others those that are to be copied. `None` after the last, and when the fragment does not fit
    /// into `out`: it should have room for the MTU.
    pub fn next(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        if self.done {
            return None;
        }
        let header = packet.get(..self.header_len)?;
        let rest = packet.get(self.at..self.total_len)?;
        let is_first = self.at == self.header_len;
        let mut room = [0; MAX_HEADER];
        let header = if is_first { all(header, &mut room) } else { with_copied_options(header, &mut room) }?;

        let most = self.mtu.saturating_sub(header.len());
        let is_last = rest.len() <= most;
        // Whole eight bytes, but for the last.
        let payload = if is_last { rest } else { rest.get(..most & !7)? };
        let len = header.len().saturating_add(payload.len());
        self.finish_header(header, len, is_last)?;

        let (start, end) = out.get_mut(..len)?.split_at_mut_checked(header.len())?;
        start.copy_from_slice(header);
        if end.len() != payload.len() {
            return None;
        }
        end.copy_from_slice(payload);
        self.at = self.at.saturating_add(payload.len());
        self.done = is_last;
        Some(len)
    }

    /// Writes what differs from the header of the packet: lengths, place and checksum.
    fn finish_header(&self, header: &mut [u8], len: usize, is_last: bool) -> Option<()> {
        let words = header.len() / 4;
        let first = header.first_mut()?;
        *first = 0x40 | (words as u8 & 0x0f);
        *field_mut(header, 2)? = (len as u16).to_be_bytes();
        let place = field_mut(header, 6)?;
        let before = self.at.saturating_sub(self.header_len) / 8;
        let more = if is_last { 0 } else { MORE_FRAGMENTS };
        // The offset of the packet itself and its "more fragments" carry on. The sum stays below 2¹³: the packet's end is below 2¹⁶ bytes.
        *place = (u16::from_be_bytes(*place).saturating_add(before as u16) | more).to_be_bytes();
        *field_mut(header, 10)? = [0, 0];
        // Wrong by what the packet's was wrong by, so that its receiver still decides.
        let sum = checksum::plus(checksum::sum(header), u64::from(self.wrong));
        *field_mut(header, 10)? = checksum::finish(sum).to_be_bytes();
        Some(())
    }
}

/// Finishes an unfinished checksum of `packet` in place. From then on the packet is one with [`Checksum::Full`], and `view`, which says
/// otherwise, must not be used for another change of it.
///
/// Nothing changes when the checksum is finished already, or when the packet is shorter than `view` says.
pub fn finish_checksum(packet: &mut [u8], view: &View) {
    let Checksum::Partial { start, offset } = view.offload().checksum else {
        return;
    };
    let Some(message) = packet.get_mut(usize::from(start)..view.total_len()) else {
        return;
    };
    // The field counts as it is: it holds the sum of the pseudo-header.
    let sum = match (view.protocol(), checksum::finish(checksum::sum(message))) {
        (Protocol::Udp, 0) => 0xffff,
        (_, sum) => sum,
    };
    if let Some(field) = field_mut(message, usize::from(offset)) {
        *field = sum.to_be_bytes();
    }
}

const MAX_HEADER: usize = 60;
const FIXED_HEADER: usize = 20;

/// In the word of flags and offset.
const MORE_FRAGMENTS: u16 = 0x2000;

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
/// In the type of an option: it goes into every fragment.
const COPIED: u8 = 0x80;

/// The header as it is.
fn all<'a>(header: &[u8], room: &'a mut [u8; MAX_HEADER]) -> Option<&'a mut [u8]> {
    let copy = room.get_mut(..header.len())?;
    copy.copy_from_slice(header);
    Some(copy)
}

/// The header with those options only that every fragment has, padded to whole words. A bad length ends the walk.
fn with_copied_options<'a>(header: &[u8], room: &'a mut [u8; MAX_HEADER]) -> Option<&'a mut [u8]> {
    let (fixed, mut options) = header.split_at_checked(FIXED_HEADER)?;
    room.get_mut(..FIXED_HEADER)?.copy_from_slice(fixed);
    let mut len = FIXED_HEADER;
    while let Some((&kind, rest)) = options.split_first() {
        let option_len = match (kind, rest.first()) {
            (END_OF_OPTIONS, _) => break,
            (NO_OPERATION, _) => 1,
            (_, Some(&len @ 2..)) => usize::from(len),
            _ => break,
        };
        let Some((option, rest)) = options.split_at_checked(option_len) else {
            break;
        };
        if kind & COPIED != 0 {
            let copy = room.get_mut(len..)?.get_mut(..option.len())?;
            copy.copy_from_slice(option);
            len = len.saturating_add(option.len());
        }
        options = rest;
    }
    // The room behind is zero, which is "end of options".
    room.get_mut(..len.div_ceil(4).saturating_mul(4))
}

#[cfg(test)]
mod tests;
