//! Packets in few bytes: most of a long one is a payload whose bytes follow from each other.

use acorn_core::packet::{Checksum, Offload};
use serde::{Deserialize, Serialize};

/// By how much each byte of a filling is more than the one before it, modulo 256.
const STRIDE: u8 = 7;

/// A packet, and what its sender left for the network card to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet<'a> {
    /// How it begins.
    head: &'a [u8],
    /// The first byte of what follows, and how many bytes that is.
    filling: (u8, u16),
    /// How it ends.
    tail: &'a [u8],
    /// Where the sum of an unfinished checksum starts, and where it goes from there.
    unfinished: Option<(u16, u16)>,
    gso_size: u16,
}

impl<'a> Packet<'a> {
    /// These bytes, of which only a filling is left out. `None` for more than 65,535 bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8], offload: Offload) -> Option<Self> {
        let (at, len) = longest_filling(bytes);
        let first = bytes.get(at).copied().unwrap_or(0);
        let (head, rest) = bytes.split_at_checked(at)?;
        let tail = rest.get(len..)?;
        u16::try_from(bytes.len()).ok()?;
        let unfinished = match offload.checksum {
            Checksum::Full => None,
            Checksum::Partial { start, offset } => Some((start, offset)),
        };
        Some(Self { head, filling: (first, u16::try_from(len).ok()?), tail, unfinished, gso_size: offload.gso_size })
    }

    /// Writes the packet to the start of `out` and returns its length in bytes. `None` when `out` is too short.
    #[must_use]
    pub fn unfold(&self, out: &mut [u8]) -> Option<usize> {
        let (first, len) = self.filling;
        let (head, rest) = out.split_at_mut_checked(self.head.len())?;
        head.copy_from_slice(self.head);
        let (filling, rest) = rest.split_at_mut_checked(len.into())?;
        let mut next = first;
        for byte in filling {
            *byte = next;
            next = next.wrapping_add(STRIDE);
        }
        rest.get_mut(..self.tail.len())?.copy_from_slice(self.tail);
        self.head.len().checked_add(len.into())?.checked_add(self.tail.len())
    }

    /// What its sender left for the network card to do.
    #[must_use]
    pub const fn offload(&self) -> Offload {
        let checksum = match self.unfinished {
            None => Checksum::Full,
            Some((start, offset)) => Checksum::Partial { start, offset },
        };
        Offload { checksum, gso_size: self.gso_size }
    }
}

/// Where the longest filling is, and how long.
fn longest_filling(bytes: &[u8]) -> (usize, usize) {
    let (mut longest, mut start) = ((0, 0), 0);
    for at in 1..=bytes.len() {
        let goes_on = bytes.get(at).is_some_and(|byte| *byte == bytes[at - 1].wrapping_add(STRIDE));
        if !goes_on {
            if at - start > longest.1 {
                longest = (start, at - start);
            }
            start = at;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_what_it_was() {
        let filled: Vec<u8> = [1, 2, 3].into_iter().chain((0..1000u16).map(|at| (at as u8).wrapping_mul(7))).collect();
        let cut = [&filled[..], &[9, 9]].concat();
        for (bytes, most) in [(&filled[..], 3), (&cut[..], 5), (&[][..], 0), (&[5][..], 0), (&[5, 5, 5][..], 2)] {
            let packet = Packet::new(bytes, Offload::NONE).expect("it is short enough");
            assert_eq!(packet.head.len() + packet.tail.len(), most);
            let mut out = [0xee; 1100];
            assert_eq!(packet.unfold(&mut out), Some(bytes.len()));
            assert_eq!(&out[..bytes.len()], bytes);
            assert_eq!(
                packet.unfold(&mut out[..bytes.len().saturating_sub(1)]),
                if bytes.is_empty() { Some(0) } else { None }
            );
        }
    }
}
