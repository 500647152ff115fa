//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Sums are kept in 64 bits with an end-around carry, and folded at the end: 2¹⁶, 2³², 2⁴⁸ and 2⁶⁴ are all 1 in ones' complement
//! arithmetic, so words of any even width add up to the same, without a branch.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a change of some fields does to the sums that cover them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Delta(u64);

impl Delta {
    /// Nothing changes.
    pub const NONE: Self = Self(0);

    /// An aligned 16-bit field changes.
    #[inline]
    #[must_use]
    pub const fn word(old: u16, new: u16) -> Self {
        // `!old` is the ones' complement negative of `old` (RFC 1624, eqn. 3).
        Self(plus(!old as u64, new as u64))
    }

    /// An IPv4 address changes.
    #[inline]
    #[must_use]
    pub const fn v4(old: Ipv4Addr, new: Ipv4Addr) -> Self {
        Self(plus(!old.to_bits() as u64, new.to_bits() as u64))
    }

    /// An IPv6 address changes.
    #[inline]
    #[must_use]
    pub const fn v6(old: Ipv6Addr, new: Ipv6Addr) -> Self {
        Self(plus(halves(!old.to_bits()), halves(new.to_bits())))
    }

    /// Both changes.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(plus(self.0, other.0))
    }

    /// The checksum that covers the changed fields, given what it was: HC′ = ~(~HC + ~m + m′).
    ///
    /// A right one stays right, and equal to a full computation. A wrong one stays wrong by the same difference.
    #[inline]
    #[must_use]
    pub const fn update(self, checksum: u16) -> u16 {
        !self.update_sum(!checksum)
    }

    /// The uncomplemented sum that covers the changed fields, given what it was.
    #[inline]
    #[must_use]
    pub const fn update_sum(self, sum: u16) -> u16 {
        fold(plus(self.0, sum as u64))
    }
}

/// The ones' complement sum of `bytes`, not folded, to add up with others. An odd last byte is the high half of a word.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let words = words.iter().fold(0_u64, |sum, &word| sum.wrapping_add(u64::from(u16::from_be_bytes(word))));
    match rest.first() {
        Some(&last) => words.wrapping_add(u64::from(u16::from_be_bytes([last, 0]))),
        None => words,
    }
}

/// The sum of the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1), not folded. `len` is that of the transport header and its payload.
#[must_use]
pub fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, len: u32) -> u64 {
    plus(plus(address(src), address(dst)), plus(u64::from(protocol), u64::from(len)))
}

/// The checksum for a sum: folded and complemented.
#[must_use]
pub const fn finish(sum: u64) -> u16 {
    !fold(sum)
}

/// The sum in 16 bits. Zero only for zero.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32).wrapping_add(sum & 0xffff_ffff);
    // At most 33 bits, then 18, then 17, then 16.
    let sum = (sum >> 16).wrapping_add(sum & 0xffff);
    let sum = (sum >> 16).wrapping_add(sum & 0xffff);
    let sum = (sum >> 16).wrapping_add(sum & 0xffff);
    sum as u16
}

/// The sum of two sums, with end-around carry. Zero only for two zeroes.
#[inline]
#[must_use]
pub const fn plus(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    // A sum with a carry is not all ones.
    sum.wrapping_add(carry as u64)
}

#[inline]
const fn halves(bits: u128) -> u64 {
    plus((bits >> 64) as u64, bits as u64)
}

fn address(addr: IpAddr) -> u64 {
    match addr {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => halves(v6.to_bits()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

    use super::super::samples::{slow_pseudo_header, slow_sum};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1624_comes_out() {
        // §4: HC = 0xDD2F, m = 0x5555, m' = 0x3285, HC' = 0x0000.
        assert_eq!(Delta::word(0x5555, 0x3285).update(0xdd2f), 0x0000);
    }

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        // §3: the sum of these bytes is 0xDDF2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(finish(sum(&bytes)), !0xddf2);
    }

    #[test]
    fn nothing_changed_changes_no_checksum_but_minus_zero() {
        for checksum in 0..0xffff {
            assert_eq!(Delta::NONE.update(checksum), checksum);
            assert_eq!(Delta::word(0xabcd, 0xabcd).update(checksum), checksum);
        }
    }

    proptest! {
        #[test]
        fn an_update_equals_a_full_computation(
            before in prop::collection::vec(any::<u16>(), 20),
            at in 0..20_usize,
            new in any::<u16>(),
        ) {
            let bytes = |words: &[u16]| -> [u8; 40] {
                core::array::from_fn(|i| words[i / 2].to_be_bytes()[i % 2])
            };
            let mut after = before.clone();
            after[at] = new;
            let expected = !slow_sum(&bytes(&after));
            let delta = Delta::word(before[at], new);
            // All zero bytes have no sum but zero, which no header has.
            prop_assume!(before.iter().any(|&w| w != 0) && after.iter().any(|&w| w != 0));
            prop_assert_eq!(delta.update(!slow_sum(&bytes(&before))), expected);
            prop_assert_eq!(finish(sum(&bytes(&after))), expected);
        }

        #[test]
        fn addresses_count_as_their_words(old in any::<u128>(), new in any::<u128>(), sum in 1..=u16::MAX) {
            let words = |bits: u128| -> [u16; 8] { core::array::from_fn(|i| (bits >> (16 * i)) as u16) };
            let by_words = words(old)
                .iter()
                .zip(words(new))
                .fold(Delta::NONE, |delta, (&old, new)| delta.and(Delta::word(old, new)));
            let (v6_old, v6_new) = (Ipv6Addr::from_bits(old), Ipv6Addr::from_bits(new));
            prop_assert_eq!(Delta::v6(v6_old, v6_new).update_sum(sum), by_words.update_sum(sum));

            let by_words = words(old)
                .iter()
                .zip(words(new))
                .take(2)
                .fold(Delta::NONE, |delta, (&old, new)| delta.and(Delta::word(old, new)));
            let (v4_old, v4_new) = (Ipv4Addr::from_bits(old as u32), Ipv4Addr::from_bits(new as u32));
            prop_assert_eq!(Delta::v4(v4_old, v4_new).update_sum(sum), by_words.update_sum(sum));
        }

        #[test]
        fn the_pseudo_header_sums_up_as_its_bytes(src in any::<u128>(), dst in any::<u128>(), protocol in any::<u8>(), len in 0..100_000_u32) {
            let pair = (IpAddr::V6(Ipv6Addr::from_bits(src)), IpAddr::V6(Ipv6Addr::from_bits(dst)));
            prop_assert_eq!(fold(pseudo_header(pair.0, pair.1, protocol, len)), slow_pseudo_header(pair.0, pair.1, protocol, len as usize));
            let pair = (IpAddr::V4(Ipv4Addr::from_bits(src as u32)), IpAddr::V4(Ipv4Addr::from_bits(dst as u32)));
            prop_assert_eq!(fold(pseudo_header(pair.0, pair.1, protocol, len)), slow_pseudo_header(pair.0, pair.1, protocol, len as usize));
        }
    }
}
