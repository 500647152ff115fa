//! Translated errors, compared with the same errors made from scratch about a packet with the new addresses.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;
use crate::packet::Offload;
use crate::packet::samples::{Extension, KINDS, Kind, Sample, address, family, sample, slow_checksum, slow_sum};

type Pair = (Option<IpAddr>, Option<IpAddr>);

/// An ICMP error, the packet that it is about, and how much of that it quotes.
#[derive(Clone, Debug)]
struct Error {
    outer: Sample,
    inner: Sample,
    cut: usize,
}

impl Error {
    fn plain(family: Family, kind: Kind) -> Self {
        let inner = Sample::plain(family, kind, 20);
        let cut = inner.build().len();
        Self { outer: Sample { src_port: 0, ..Sample::plain(family, Kind::IcmpError, 0) }, inner, cut }
    }

    fn build(&self) -> Vec<u8> {
        let mut outer = self.outer.clone();
        let mut quoted = self.inner.build();
        quoted.truncate(self.cut);
        quoted.append(&mut outer.payload);
        Sample { payload: quoted, ..outer }.build()
    }

    fn with(&self, outer: Pair, quoted: Pair) -> Self {
        let with = |sample: &Sample, (src, dst): Pair| Sample {
            src: src.unwrap_or(sample.src),
            dst: dst.unwrap_or(sample.dst),
            ..sample.clone()
        };
        Self { outer: with(&self.outer, outer), inner: with(&self.inner, quoted), cut: self.cut }
    }

    /// Where the quote starts in the whole packet.
    fn start(&self) -> usize {
        self.outer.transport_offset() + 8
    }

    /// Where the checksum of the quoted transport is in the whole packet, if the quote has all of it.
    fn quoted_checksum(&self) -> Option<usize> {
        let at = self.inner.transport_offset() + self.inner.checksum_at()?;
        (at + 2 <= self.cut).then(|| self.start() + at)
    }

    /// Every field of a checksum in the whole packet.
    fn checksums(&self) -> Vec<usize> {
        let icmp = self.outer.transport_offset() + 2;
        let headers = match self.outer.family() {
            Family::V4 => vec![10, self.start() + 10],
            Family::V6 => vec![],
        };
        [icmp].into_iter().chain(headers).chain(self.quoted_checksum()).collect()
    }
}

fn field(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn set_field(packet: &mut [u8], at: usize, value: u16) {
    packet[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// `a − b` in ones' complement arithmetic, where 0 and 0xFFFF are the same.
fn difference(a: u16, b: u16) -> u32 {
    (u32::from(a) + 0xffff - u32::from(b)) % 0xffff
}

/// By how much the ICMP checksum of the packet is wrong: a full computation over all that is there.
fn icmp_error_sum(packet: &[u8]) -> u16 {
    let view = View::parse(packet, Offload::NONE).unwrap();
    let message = &packet[view.transport_offset()..view.total_len()];
    match view.family() {
        Family::V4 => !slow_sum(message),
        Family::V6 => slow_checksum(view.src(), view.dst(), 58, message),
    }
}

fn translated(packet: &[u8], offload: Offload, outer: Pair, quoted: Pair) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let view = View::parse(&packet, offload).unwrap();
    let quote = Quote::of(&packet, &view).unwrap();
    rewrite_error(&mut packet, &view, &quote, outer, quoted).unwrap();
    let after = View::parse(&packet, offload).unwrap();
    assert_eq!(after, view.with_addresses(outer.0, outer.1), "the view must tell the new packet");
    let expected = Quote { src: quoted.0.unwrap_or(quote.src), dst: quoted.1.unwrap_or(quote.dst), ..quote };
    assert_eq!(Quote::of(&packet, &after), Ok(expected), "and so must the quote");
    packet
}

fn quote_of(packet: &[u8]) -> Result<Quote, Malformed> {
    Quote::of(packet, &View::parse(packet, Offload::NONE).unwrap())
}

fn pair(family: Family) -> impl Strategy<Value = Pair> {
    (prop::option::of(address(family)), prop::option::of(address(family)))
}

/// Any error about any packet, cut off anywhere that is allowed, and new addresses for both.
fn error() -> impl Strategy<Value = (Error, Pair, Pair)> {
    family().prop_flat_map(|family| {
        let error = (sample(family), sample(family), any::<prop::sample::Index>(), any::<bool>()).prop_map(
            |(outer, inner, cut, near)| {
                let inner = Sample { padding: 0, ..inner };
                let len = inner.build().len();
                let least = (inner.transport_offset() + 8).min(len);
                // Often near the least, where the checksum of TCP is cut.
                let most = if near { len.min(least + 14) } else { len };
                let cut = least + cut.index(most - least + 1);
                // A port of 0: no extensions follow.
                let outer = Sample { kind: Kind::IcmpError, src_port: 0, payload: Vec::new(), ..outer };
                Error { outer, inner, cut }
            },
        );
        (error, pair(family), pair(family))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_translated_error_equals_one_made_about_the_translated_packet((error, outer, quoted) in error()) {
        let before = error.build();
        let after = translated(&before, Offload::NONE, outer, quoted);
        let mut expected = error.with(outer, quoted).build();
        // Of a checksum that is cut in two the first half stays, and that of ICMP with it.
        if error.inner.checksum_at().is_some_and(|at| error.inner.transport_offset() + at + 1 == error.cut) {
            let (half, icmp) = (error.start() + error.cut - 1, error.outer.transport_offset() + 2);
            expected[half] = before[half];
            set_field(&mut expected, icmp, 0);
            let sum = icmp_error_sum(&expected);
            set_field(&mut expected, icmp, sum);
        }
        prop_assert_eq!(after, expected);
    }

    #[test]
    fn wrong_checksums_stay_wrong_by_the_same_difference(
        (error, outer, quoted) in error(),
        wrong in prop::collection::vec(1..=u16::MAX, 4),
    ) {
        let right = error.build();
        let mut before = right.clone();
        for (at, wrong) in error.checksums().into_iter().zip(wrong) {
            // A quoted UDP checksum of zero is none.
            if Some(at) != error.quoted_checksum() || error.inner.kind != Kind::UdpUnchecked {
                set_field(&mut before, at, wrong);
            }
        }
        let after = translated(&before, Offload::NONE, outer, quoted);
        let expected = translated(&right, Offload::NONE, outer, quoted);
        for (index, (a, b)) in after.iter().zip(&expected).enumerate() {
            let is_checksum = error.checksums().iter().any(|&at| (at..at + 2).contains(&index));
            prop_assert!(is_checksum || a == b, "byte {}", index);
        }
        let icmp = error.outer.transport_offset() + 2;
        for at in error.checksums().into_iter().filter(|&at| at != icmp) {
            let (was, is) = (difference(field(&before, at), field(&right, at)), difference(field(&after, at), field(&expected, at)));
            prop_assert_eq!(was, is, "at {}", at);
        }
        // That of ICMP covers the others, right or wrong.
        prop_assert_eq!(icmp_error_sum(&before) % 0xffff, icmp_error_sum(&after) % 0xffff);
    }

    #[test]
    fn an_unfinished_checksum_stays_the_sum_of_the_pseudo_header((error, outer, quoted) in error()) {
        let mut before = error.build();
        let start = error.outer.transport_offset();
        let len = before.len() - error.outer.padding - start;
        let sum = |error: &Error| match error.outer.family() {
            Family::V4 => 0,
            Family::V6 => crate::packet::samples::slow_pseudo_header(error.outer.src, error.outer.dst, 58, len),
        };
        set_field(&mut before, start + 2, sum(&error));
        let offload = Offload { checksum: Checksum::Partial { start: start as u16, offset: 2 }, gso_size: 0 };
        let after = translated(&before, offload, outer, quoted);
        prop_assert_eq!(field(&after, start + 2), sum(&error.with(outer, quoted)));
        let finished = translated(&error.build(), Offload::NONE, outer, quoted);
        prop_assert_eq!(&after[start + 4..], &finished[start + 4..]);
    }

    #[test]
    fn there_and_back_again_is_the_same_error((error, outer, quoted) in error()) {
        let before = error.build();
        let there = translated(&before, Offload::NONE, outer, quoted);
        let home = |sample: &Sample| (Some(sample.src), Some(sample.dst));
        prop_assert_eq!(translated(&there, Offload::NONE, home(&error.outer), home(&error.inner)), before);
    }

    #[test]
    fn a_quote_tells_what_the_view_of_its_packet_tells((error, ..) in error()) {
        let quote = quote_of(&error.build()).unwrap();
        let inner = error.inner.build();
        let view = View::parse(&inner, Offload::NONE).unwrap();
        prop_assert_eq!((quote.src(), quote.dst(), quote.protocol()), (view.src(), view.dst(), view.protocol()));
        let ports = if error.inner.kind == Kind::Other { Some((0, 0)) } else { view.ports() };
        prop_assert_eq!(quote.ports(), ports);
        prop_assert_eq!(quote.is_icmp_error(), error.inner.kind == Kind::IcmpError);
    }

    #[test]
    fn bytes_of_any_kind_are_survived(
        (error, outer, quoted) in error(),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        len in any::<prop::sample::Index>(),
    ) {
        let right = error.build();
        let view = View::parse(&right, Offload::NONE).unwrap();
        let quote = Quote::of(&right, &view).unwrap();
        let mut bytes = right;
        for (at, byte) in noise {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // With a view and a quote of their own, where they have them, a right checksum of ICMP stays right.
        if let Ok(view) = View::parse(&bytes, Offload::NONE)
            && let Ok(quote) = Quote::of(&bytes, &view)
        {
            let mut after = bytes.clone();
            prop_assert_eq!(rewrite_error(&mut after, &view, &quote, outer, quoted), Ok(()));
            prop_assert_eq!(icmp_error_sum(&bytes) % 0xffff, icmp_error_sum(&after) % 0xffff);
        }
        // With those of others, and too short.
        let _ = Quote::of(&bytes, &view);
        let _ = rewrite_error(&mut bytes, &view, &quote, outer, quoted);
        let len = len.index(bytes.len());
        let _ = Quote::of(&bytes[..len], &view);
        let before = bytes[..len].to_vec();
        let refused = rewrite_error(&mut bytes[..len], &view, &quote, outer, quoted);
        if len < view.total_len() {
            prop_assert_eq!(refused, Err(RewriteError::Buffer));
            prop_assert_eq!(&bytes[..len], &before);
        }
    }
}

/// The error with its quote cut to `len` bytes.
fn cut(error: &Error, len: usize) -> Result<Quote, Malformed> {
    quote_of(&Error { cut: len, ..error.clone() }.build())
}

#[test]
fn every_truncation_is_a_quote_from_eight_bytes_of_transport_on() {
    for family in [Family::V4, Family::V6] {
        for kind in KINDS {
            let mut error = Error::plain(family, kind);
            error.inner.ip_options = 3;
            error.inner.extensions = vec![Extension::HopByHop, Extension::Destination, Extension::Atomic];
            let len = error.inner.build().len();
            let least = error.inner.transport_offset() + 8;
            for end in 0..=len {
                assert_eq!(cut(&error, end).is_ok(), end >= least, "{family:?} {kind:?} cut to {end}");
            }
        }
    }
}

#[test]
fn a_whole_packet_with_less_than_eight_bytes_is_a_quote() {
    for family in [Family::V4, Family::V6] {
        let mut error = Error::plain(family, Kind::Other);
        error.inner.payload = vec![1, 2, 3];
        let len = error.inner.build().len();
        assert_eq!(cut(&error, len).map(|quote| quote.ports()), Ok(Some((0, 0))));
        assert_eq!(cut(&error, len - 1), Err(Malformed::Quote));
    }
}

#[test]
fn what_is_no_packet_is_no_quote() {
    for (family, other) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let right = Error::plain(family, Kind::Udp);
        let mixed = Error { inner: Sample::plain(other, Kind::Udp, 50), cut: 78, ..right.clone() };
        assert_eq!(quote_of(&mixed.build()), Err(Malformed::Quote));
        let mut version = right.build();
        version[right.start()] ^= 0x80;
        assert_eq!(quote_of(&version), Err(Malformed::Quote));
        let no_error = Sample::plain(family, Kind::EchoRequest, 80).build();
        assert_eq!(quote_of(&no_error), Err(Malformed::Quote));
    }
    let v4 = Error::plain(Family::V4, Kind::Udp);
    for first in [0x44, 0x40, 0x4f] {
        let mut packet = v4.build();
        packet[v4.start()] = first;
        assert_eq!(quote_of(&packet), Err(Malformed::Quote));
    }
    // A destination header that is longer than the quote, and a chain without an end.
    let mut v6 = Error::plain(Family::V6, Kind::Udp);
    v6.inner.extensions = vec![Extension::Destination];
    v6.cut = v6.inner.build().len();
    let mut packet = v6.build();
    packet[v6.start() + 41] = 200;
    assert_eq!(quote_of(&packet), Err(Malformed::Quote));
    v6.inner.extensions = vec![Extension::Destination; 9];
    v6.cut = v6.inner.build().len();
    assert_eq!(quote_of(&v6.build()), Err(Malformed::Quote));
}

#[test]
fn a_quoted_fragment_behind_the_first_has_no_ports_and_no_checksum() {
    let new: Pair = (Some("10.30.0.2".parse().unwrap()), Some("10.30.0.3".parse().unwrap()));
    let mut v4 = Error::plain(Family::V4, Kind::Udp);
    v4.inner.payload = vec![7; 24];
    v4.cut = 52;
    let mut packet = v4.build();
    packet[v4.start() + 7] = 9;
    let quote = quote_of(&packet).unwrap();
    assert_eq!((quote.protocol(), quote.ports()), (Protocol::Udp, None));
    let after = translated(&packet, Offload::NONE, (None, None), new);
    assert_eq!(after[v4.start() + 20..], packet[v4.start() + 20..]);
    assert_eq!(icmp_error_sum(&after), icmp_error_sum(&packet));

    // Over IPv6, and the quote is not of whole eight bytes although more follow.
    let new: Pair = (Some("fdff::2".parse().unwrap()), Some("fdff::3".parse().unwrap()));
    let mut v6 = Error::plain(Family::V6, Kind::Udp);
    v6.inner.extensions = vec![Extension::Atomic];
    v6.cut = 61;
    let mut packet = v6.build();
    packet[v6.start() + 42..v6.start() + 44].copy_from_slice(&[0, 9]);
    assert_eq!(quote_of(&packet).map(|quote| quote.ports()), Ok(None));
    let after = translated(&packet, Offload::NONE, (None, None), new);
    assert_eq!(after[v6.start() + 40..], packet[v6.start() + 40..]);
    assert_eq!(icmp_error_sum(&after), icmp_error_sum(&packet));
    // The first fragment has both.
    packet[v6.start() + 43] = 1;
    assert_eq!(quote_of(&packet).map(|quote| quote.ports()), Ok(Some((40_000, 80))));
    let after = translated(&packet, Offload::NONE, (None, None), new);
    assert_ne!(field(&after, v6.start() + 54), field(&packet, v6.start() + 54));
}

#[test]
fn extensions_behind_the_quote_stay_as_they_are() {
    for (family, length, new) in
        [(Family::V4, [0, 128 / 4], ["10.30.0.2", "10.30.0.3"]), (Family::V6, [128 / 8, 0], ["fdff::2", "fdff::3"])]
    {
        let mut error = Error::plain(family, Kind::Tcp);
        error.outer.src_port = u16::from_be_bytes(length);
        error.outer.payload = vec![0xab; 40];
        // Over IPv6 the checksum of TCP would be at 40 + 5 × 16 + 16, behind what is quoted; over IPv4 it is inside.
        error.inner.extensions = vec![Extension::Destination; 5];
        error.inner.payload = vec![3; 100];
        error.cut = 128;
        let packet = error.build();
        let new: Pair = (Some(new[0].parse().unwrap()), Some(new[1].parse().unwrap()));
        let after = translated(&packet, Offload::NONE, (None, None), new);
        assert_eq!(after, error.with((None, None), new).build());
        assert_eq!(after[after.len() - 40..], [0xab; 40]);
    }
}

#[test]
fn addresses_of_the_other_family_are_refused_and_nothing_changes() {
    let error = Error::plain(Family::V4, Kind::Tcp);
    let before = error.build();
    let mut packet = before.clone();
    let view = View::parse(&packet, Offload::NONE).unwrap();
    let quote = Quote::of(&packet, &view).unwrap();
    let v6: Option<IpAddr> = Some("fdff::1".parse().unwrap());
    for (outer, quoted) in
        [((v6, None), (None, None)), ((None, v6), (None, None)), ((None, None), (v6, None)), ((None, None), (None, v6))]
    {
        let refused = rewrite_error(&mut packet, &view, &quote, outer, quoted);
        assert_eq!(refused, Err(RewriteError::MixedFamilies));
    }
    let udp = Sample::plain(Family::V4, Kind::Udp, 100).build();
    let no_error = View::parse(&udp, Offload::NONE).unwrap();
    let refused = rewrite_error(&mut packet, &no_error, &quote, (None, None), (None, None));
    assert_eq!(refused, Err(RewriteError::Buffer));
    assert_eq!(packet, before);
}
