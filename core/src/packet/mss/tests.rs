//! Segments whose options are of any kind, compared with the same segments made with a lower size.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;
use crate::packet::Offload;
use crate::packet::samples::{Extension, Kind, Sample, V4_SYN, V6_SYN, family, from_hex, sample, slow_checksum};

const MTU: OverlayMtu = OverlayMtu::MIN;

fn most(family: Family) -> u16 {
    match family {
        Family::V4 => 1240,
        Family::V6 => 1220,
    }
}

/// The segment with these options, padded with "end of options", and a right checksum.
fn with_options(sample: &Sample, options: &[u8]) -> Vec<u8> {
    let words = options.len().div_ceil(4);
    let mut packet = Sample { kind: Kind::Tcp, tcp_options: words, ..sample.clone() }.build();
    let start = sample.transport_offset();
    packet[start + 20..start + 20 + 4 * words].fill(0);
    packet[start + 20..start + 20 + options.len()].copy_from_slice(options);
    mend(&mut packet);
    packet
}

fn mend(packet: &mut [u8]) {
    let view = View::parse(packet, Offload::NONE).unwrap();
    let (start, end) = (view.transport_offset(), view.total_len());
    packet[start + 16..start + 18].fill(0);
    let sum = slow_checksum(view.src(), view.dst(), 6, &packet[start..end]);
    packet[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
}

/// What becomes of the packet, and whether that is said to be something else.
fn clamped(packet: &[u8], offload: Offload) -> (Vec<u8>, bool) {
    let mut packet = packet.to_vec();
    let view = View::parse(&packet, offload).unwrap();
    let changed = clamp_mss(&mut packet, &view, MTU);
    (packet, changed)
}

/// Options that are neither the end nor the size.
fn filler() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![1]),
        (3..=255_u8, prop::collection::vec(any::<u8>(), 0..8)).prop_map(|(kind, data)| [
            &[kind, data.len() as u8 + 2][..],
            &data
        ]
        .concat()),
        // Of another length it is not the size.
        Just(vec![2, 3, 0xff]),
        Just(vec![2, 5, 0xff, 0xff, 0xff]),
    ]
}

fn fillers() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(filler(), 0..4).prop_map(|options| options.concat()).prop_filter("room", |o| o.len() <= 18)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_size_is_lowered_wherever_it_stands_and_the_checksum_is_right(
        sample in family().prop_flat_map(sample),
        (before, after) in (fillers(), fillers()),
        size in prop_oneof![any::<u16>(), 1200..1260_u16],
    ) {
        let sample = Sample { tcp_flags: sample.tcp_flags | 2, ..sample };
        let options = |size: u16| [&before[..], &[2, 4], &size.to_be_bytes(), &after].concat();
        let most = most(sample.family());
        let (packet, changed) = clamped(&with_options(&sample, &options(size)), Offload::NONE);
        prop_assert_eq!(changed, size > most);
        prop_assert_eq!(packet, with_options(&sample, &options(size.min(most))));
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_by_the_same_difference(
        before in fillers(),
        size in 1241..=u16::MAX,
        wrong in any::<u16>(),
    ) {
        let sample = Sample::plain(Family::V4, Kind::Tcp, 7);
        let mut packet = with_options(&sample, &[&before[..], &[2, 4], &size.to_be_bytes()].concat());
        packet[36..38].copy_from_slice(&wrong.to_be_bytes());
        let error = |packet: &[u8]| slow_checksum(sample.src, sample.dst, 6, &packet[20..]) % 0xffff;
        let (after, _) = clamped(&packet, Offload::NONE);
        prop_assert_eq!(error(&after), error(&packet));
    }

    #[test]
    fn options_of_any_kind_are_survived_and_stay_as_right(
        options in prop::collection::vec(prop_oneof![any::<u8>(), 0..8_u8], 0..=40),
        family in family(),
    ) {
        let sample = Sample::plain(family, Kind::Tcp, 3);
        let before = with_options(&sample, &options);
        let (after, changed) = clamped(&before, Offload::NONE);
        prop_assert_eq!(changed, after != before);
        let mut mended = after.clone();
        mend(&mut mended);
        prop_assert_eq!(after, mended);
    }
}

#[test]
fn captured_packets_are_clamped_and_right() {
    for (hex, at) in [(V4_SYN, 42), (V6_SYN, 62)] {
        let before = from_hex(hex);
        let (after, changed) = clamped(&before, Offload::NONE);
        let view = View::parse(&after, Offload::NONE).unwrap();
        assert!(changed);
        assert_eq!(after[at..at + 2], most(view.family()).to_be_bytes());
        assert_eq!(slow_checksum(view.src(), view.dst(), 6, &after[view.transport_offset()..]), 0);
    }
}

#[test]
fn only_a_syn_is_clamped() {
    let options = [2, 4, 0xff, 0xff];
    for flags in 0..=255 {
        let sample = Sample { tcp_flags: flags, ..Sample::plain(Family::V4, Kind::Tcp, 0) };
        assert_eq!(clamped(&with_options(&sample, &options), Offload::NONE).1, flags & 2 != 0);
    }
    // Bytes that would be one, of a datagram.
    let udp = Sample { payload: vec![2; 60], ..Sample::plain(Family::V4, Kind::Udp, 0) };
    assert!(!clamped(&udp.build(), Offload::NONE).1);
}

#[test]
fn a_bad_length_ends_the_walk() {
    let sample = Sample::plain(Family::V4, Kind::Tcp, 30);
    for options in [
        &[8, 0, 2, 4, 0xff, 0xff, 0, 0][..],
        &[8, 1, 2, 4, 0xff, 0xff, 0, 0],
        &[8, 200, 2, 4, 0xff, 0xff, 0, 0],
        &[0, 0, 2, 4, 0xff, 0xff, 0, 0],
        // The size itself: cut off by the end of the header; the payload behind is none of it.
        &[1, 1, 2, 4],
        &[1, 1, 1, 2],
        &[2, 0, 0xff, 0xff],
        &[2, 3, 0xff, 0xff],
    ] {
        let before = with_options(&sample, options);
        assert_eq!(clamped(&before, Offload::NONE), (before, false), "{options:?}");
    }
}

#[test]
fn an_unfinished_checksum_is_not_touched() {
    let sample = Sample { extensions: vec![Extension::Destination], ..Sample::plain(Family::V6, Kind::Tcp, 0) };
    let before = with_options(&sample, &[1, 2, 4, 0xff, 0xff]);
    let offload = Offload { checksum: Checksum::Partial { start: 56, offset: 16 }, gso_size: 0 };
    let (after, changed) = clamped(&before, offload);
    assert!(changed);
    assert_eq!(after[72..74], before[72..74]);
    assert_eq!(after[79..81], 1220_u16.to_be_bytes());
}

#[test]
fn a_first_fragment_is_clamped_and_a_later_one_is_not() {
    let mut packet = with_options(&Sample::plain(Family::V4, Kind::Tcp, 8), &[2, 4, 0xff, 0xff]);
    packet[6..8].copy_from_slice(&[0x20, 0]);
    assert!(clamped(&packet, Offload::NONE).1);
    packet[6..8].copy_from_slice(&[0x20, 1]);
    assert!(!clamped(&packet, Offload::NONE).1);
}

#[test]
fn a_buffer_that_is_too_short_is_left_alone() {
    let packet = with_options(&Sample::plain(Family::V4, Kind::Tcp, 8), &[2, 4, 0xff, 0xff]);
    let view = View::parse(&packet, Offload::NONE).unwrap();
    for len in 0..44 {
        let mut short = packet[..len].to_vec();
        assert!(!clamp_mss(&mut short, &view, MTU));
        assert_eq!(short, packet[..len]);
    }
}
