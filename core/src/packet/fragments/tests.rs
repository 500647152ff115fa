//! Packets cut and put together again.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;
use crate::packet::samples::{Kind, Sample, sample, slow_checksum, slow_pseudo_header, slow_sum};
use crate::packet::{Offload, Transport};

fn field(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn set_field(packet: &mut [u8], at: usize, value: u16) {
    packet[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Makes the header checksum right.
fn mend(packet: &mut [u8]) {
    let end = usize::from(packet[0] & 15) * 4;
    set_field(packet, 10, 0);
    let sum = !slow_sum(&packet[..end]);
    set_field(packet, 10, sum);
}

/// The packet with these flags and this offset.
fn with_place(mut packet: Vec<u8>, word: u16) -> Vec<u8> {
    set_field(&mut packet, 6, word);
    mend(&mut packet);
    packet
}

/// The packet with these options.
fn with_options(sample: &Sample, options: &[u8]) -> Vec<u8> {
    let mut packet = Sample { ip_options: options.len() / 4, ..sample.clone() }.build();
    packet[20..20 + options.len()].copy_from_slice(options);
    with_place(packet, 0)
}

/// All fragments, after what holds for each was found so.
fn cut(packet: &[u8], offload: Offload, mtu: u16) -> Vec<Vec<u8>> {
    let mut packet = packet.to_vec();
    let view = View::parse(&packet, offload).unwrap();
    let mut fragments = Fragments::new(&mut packet, &view, OverlayMtu::new(mtu).unwrap()).unwrap();
    let mut out = vec![0xaa; usize::from(mtu)];
    let mut all = Vec::new();
    while let Some(len) = fragments.next(&packet, &mut out) {
        let fragment = out[..len].to_vec();
        assert_eq!(View::parse(&fragment, Offload::NONE).unwrap().total_len(), len);
        all.push(fragment);
        assert!(all.len() < 60, "no end");
    }
    assert_eq!(fragments.next(&packet, &mut out), None, "the end stays the end");
    all
}

/// The datagram of these fragments, by RFC 791 §3.2: the header of the first, and what is behind the others' in its place.
fn reassembled(fragments: &[Vec<u8>]) -> Vec<u8> {
    let first = fragments.iter().find(|fragment| field(fragment, 6) & 0x1fff == 0).unwrap();
    let header_len = usize::from(first[0] & 15) * 4;
    let mut packet = first[..header_len].to_vec();
    let mut seen = 0;
    for fragment in fragments {
        let at = header_len + usize::from(field(fragment, 6) & 0x1fff) * 8;
        let payload = &fragment[usize::from(fragment[0] & 15) * 4..];
        packet.resize(packet.len().max(at + payload.len()), 0);
        packet[at..at + payload.len()].copy_from_slice(payload);
        seen += payload.len();
    }
    assert_eq!(packet.len(), header_len + seen, "neither gaps nor overlaps");
    assert_eq!(fragments.iter().filter(|fragment| field(fragment, 6) & 0x2000 == 0).count(), 1);
    let len = packet.len() as u16;
    set_field(&mut packet, 2, len);
    with_place(packet, 0)
}

/// A datagram of at most 65,535 bytes without DF.
fn datagram() -> impl Strategy<Value = Sample> {
    let len = prop_oneof![0..3000_usize, 60_000..65_400_usize];
    (sample(Family::V4), len, any::<u8>()).prop_map(|(sample, len, seed)| Sample {
        payload: (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect(),
        padding: sample.padding,
        tcp_options: 0,
        ..sample
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn reassembled_fragments_are_the_packet(sample in datagram(), mtu in 1280..9000_u16) {
        let packet = with_place(sample.build(), 0);
        let packet = &packet[..packet.len() - sample.padding];
        let fragments = cut(packet, Offload::NONE, mtu);
        for (index, fragment) in fragments.iter().enumerate() {
            let header_len = usize::from(fragment[0] & 15) * 4;
            prop_assert!(fragment.len() <= usize::from(mtu));
            prop_assert_eq!(slow_sum(&fragment[..header_len]), 0xffff);
            if index + 1 < fragments.len() {
                prop_assert_eq!((fragment.len() - header_len) % 8, 0);
                // And no smaller than need be.
                prop_assert!(fragment.len() + 8 > usize::from(mtu));
            }
            // Identification, TTL, protocol and addresses.
            prop_assert_eq!(field(fragment, 4), 0x1234);
            prop_assert_eq!(&fragment[8..10], &packet[8..10]);
            prop_assert_eq!(&fragment[12..20], &packet[12..20]);
        }
        prop_assert_eq!(reassembled(&fragments), packet);
    }

    #[test]
    fn fragments_of_fragments_are_fragments_of_the_packet(sample in datagram(), mtu in 1280..3000_u16, first_mtu in 3000..9000_u16) {
        let packet = with_place(sample.build(), 0);
        let packet = &packet[..packet.len() - sample.padding];
        let fragments: Vec<Vec<u8>> = cut(packet, Offload::NONE, first_mtu)
            .iter()
            .flat_map(|fragment| cut(fragment, Offload::NONE, mtu))
            .collect();
        prop_assert_eq!(reassembled(&fragments), packet);
    }

    #[test]
    fn an_unfinished_checksum_is_finished_before_the_packet_is_cut(
        sample in datagram(),
        kind in prop::sample::select(&[Kind::Tcp, Kind::Udp][..]),
    ) {
        let sample = Sample { kind, padding: 0, ..sample };
        let right = with_place(sample.build(), 0);
        let (start, offset) = (sample.transport_offset(), sample.checksum_at().unwrap());
        let mut partial = right.clone();
        let sum = slow_pseudo_header(sample.src, sample.dst, sample.protocol(), right.len() - start);
        set_field(&mut partial, start + offset, sum);
        let offload = Offload {
            checksum: Checksum::Partial { start: start as u16, offset: offset as u16 },
            gso_size: 0,
        };
        prop_assert_eq!(reassembled(&cut(&partial, offload, 1440)), &right[..]);
        let view = View::parse(&partial, offload).unwrap();
        finish_checksum(&mut partial, &view);
        prop_assert_eq!(&partial, &right);
        // A finished one stays.
        let view = View::parse(&partial, Offload::NONE).unwrap();
        finish_checksum(&mut partial, &view);
        prop_assert_eq!(partial, right);
    }

    #[test]
    fn options_of_any_kind_are_survived(
        options in prop::collection::vec(prop_oneof![any::<u8>(), 0..8_u8, 128..140_u8], 0..=40),
        mtu in 1280..2000_u16,
    ) {
        let mut options = options;
        options.resize(options.len().next_multiple_of(4), 0);
        let packet = with_options(&Sample::plain(Family::V4, Kind::Udp, 4000), &options);
        // Source routes go nowhere.
        prop_assume!(View::parse(&packet, Offload::NONE).is_ok());
        let fragments = cut(&packet, Offload::NONE, mtu);
        prop_assert_eq!(reassembled(&fragments), packet);
    }
}

#[test]
fn a_udp_checksum_that_becomes_zero_is_written_as_ones() {
    let mut sample = Sample::plain(Family::V6, Kind::Udp, 2);
    let seen = (0..=u16::MAX).any(|word| {
        sample.payload = word.to_be_bytes().to_vec();
        let right = sample.build();
        let mut partial = right.clone();
        set_field(&mut partial, 46, slow_pseudo_header(sample.src, sample.dst, 17, 10));
        let offload = Offload { checksum: Checksum::Partial { start: 40, offset: 6 }, gso_size: 0 };
        let view = View::parse(&partial, offload).unwrap();
        finish_checksum(&mut partial, &view);
        assert_eq!(partial, right);
        field(&partial, 46) == 0xffff && slow_checksum(sample.src, sample.dst, 17, &partial[40..]) == 0
    });
    assert!(seen, "one in 65,535 must come out as zero");
}

#[test]
fn later_fragments_have_the_options_that_are_to_be_copied() {
    // No-operation, record route (not copied), router alert (copied), timestamp (not), loose source route (copied), end.
    let options =
        [&[1][..], &[7, 7, 4, 1, 2, 3, 4], &[148, 4, 0, 0], &[68, 4, 5, 0], &[134, 7, 4, 9, 8, 7, 6], &[0]].concat();
    assert_eq!(options.len(), 24);
    let packet = with_options(&Sample::plain(Family::V4, Kind::Udp, 3000), &options);
    let fragments = cut(&packet, Offload::NONE, 1280);
    assert_eq!(fragments.len(), 3);
    assert_eq!(fragments[0][20..44], options);
    for later in &fragments[1..] {
        assert_eq!(later[0], 0x48);
        assert_eq!(later[20..32], [148, 4, 0, 0, 134, 7, 4, 9, 8, 7, 6, 0]);
    }
}

#[test]
fn a_bad_option_ends_what_is_copied() {
    for bad in [[148, 0, 0, 0], [148, 1, 0, 0], [148, 9, 0, 0], [7, 0, 0, 0]] {
        let options = [&[130, 4, 1, 2][..], &bad].concat();
        let packet = with_options(&Sample::plain(Family::V4, Kind::Udp, 2000), &options);
        let fragments = cut(&packet, Offload::NONE, 1280);
        assert_eq!(fragments[0][20..28], options);
        assert_eq!(fragments[1][20..24], [130, 4, 1, 2]);
        assert_eq!(fragments[1][0], 0x46);
    }
}

#[test]
fn the_place_of_a_fragment_carries_on() {
    let payload = vec![5; 2400];
    let sample = Sample { kind: Kind::Other, payload, ..Sample::plain(Family::V4, Kind::Other, 0) };
    // Offset 8 × 100, more fragments.
    let fragments = cut(&with_place(sample.build(), 0x2000 | 100), Offload::NONE, 1280);
    let places: Vec<u16> = fragments.iter().map(|fragment| field(fragment, 6)).collect();
    assert_eq!(places, [0x2000 | 100, 0x2000 | (100 + 157)]);
    // The last.
    let fragments = cut(&with_place(sample.build(), 100), Offload::NONE, 1280);
    let places: Vec<u16> = fragments.iter().map(|fragment| field(fragment, 6)).collect();
    assert_eq!(places, [0x2000 | 100, 100 + 157]);
    // What fits is its own only fragment.
    let packet = with_place(sample.build(), 0x2000 | 100);
    assert_eq!(cut(&packet, Offload::NONE, 2420), [packet]);
}

#[test]
fn a_wrong_header_checksum_does_not_become_right() {
    let mut packet = with_place(Sample::plain(Family::V4, Kind::Udp, 3000).build(), 0);
    packet[11] ^= 1;
    let wrong = slow_sum(&packet[..20]);
    assert_ne!(wrong, 0xffff);
    for fragment in cut(&packet, Offload::NONE, 1280) {
        assert_eq!(slow_sum(&fragment[..20]), wrong);
    }
}

#[test]
fn what_must_not_be_cut_is_not_cut() {
    let refused = |packet: &[u8], offload| {
        let mut packet = packet.to_vec();
        let view = View::parse(&packet, offload).unwrap();
        let before = packet.clone();
        let result = Fragments::new(&mut packet, &view, OverlayMtu::MIN).map(|_| ()).unwrap_err();
        assert_eq!(packet, before);
        result
    };
    let v4 = Sample::plain(Family::V4, Kind::Tcp, 3000).build();
    let v6 = Sample::plain(Family::V6, Kind::Tcp, 3000).build();
    assert_eq!(refused(&v6, Offload::NONE), FragmentError::NotIpv4);
    assert_eq!(refused(&v4, Offload::NONE), FragmentError::DontFragment);
    let mut packet = with_place(v4, 0);
    let segmented = Offload { gso_size: 1000, ..Offload::NONE };
    assert_eq!(refused(&packet, segmented), FragmentError::Segmented);
    let view = View::parse(&packet, Offload::NONE).unwrap();
    for len in [0, 10, 100, packet.len() - 1] {
        let result = Fragments::new(&mut packet[..len], &view, OverlayMtu::MIN).map(|_| ());
        assert_eq!(result, Err(FragmentError::Buffer));
    }
}

#[test]
fn a_room_that_is_too_small_gets_nothing_and_loses_nothing() {
    let mut packet = with_place(Sample::plain(Family::V4, Kind::Udp, 2000).build(), 0);
    let view = View::parse(&packet, Offload::NONE).unwrap();
    let mut fragments = Fragments::new(&mut packet, &view, OverlayMtu::MIN).unwrap();
    let mut out = [0; 1280];
    for len in [0, 19, 20, 1275] {
        assert_eq!(fragments.next(&packet, &mut out[..len]), None);
    }
    assert_eq!(fragments.next(&packet[..500], &mut out), None);
    assert_eq!(fragments.next(&packet, &mut out), Some(1276));
    assert_eq!(fragments.next(&packet, &mut out), Some(20 + 2008 - 1256));
    let last = View::parse(&out, Offload::NONE).unwrap();
    assert_eq!(last.transport(), &Transport::LaterFragment);
}
