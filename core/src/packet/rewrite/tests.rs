//! Rewritten packets, compared with the same packets made from scratch with the new addresses.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use proptest::prelude::*;

use core::net::{Ipv4Addr, Ipv6Addr};

use super::*;

use crate::packet::samples::{
    Kind, Sample, V4_ACK, V4_SYN, V6_SYN, address, family, from_hex, sample, slow_checksum, slow_pseudo_header,
    slow_sum,
};
use crate::packet::{Malformed, Offload};

fn rewritten(packet: &[u8], offload: Offload, src: Option<IpAddr>, dst: Option<IpAddr>) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let view = View::parse(&packet, offload).unwrap();
    rewrite(&mut packet, &view, src, dst).unwrap();
    assert_eq!(View::parse(&packet, offload), Ok(view.with_addresses(src, dst)), "the view must tell the new packet");
    packet
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

#[test]
fn captured_packets_have_checksums_that_are_right_before_and_after() {
    for (hex, src, dst) in
        [(V4_ACK, "10.18.30.65", "10.30.0.1"), (V4_SYN, "10.18.30.65", "10.30.0.1"), (V6_SYN, "fdff::1", "fc00::7901")]
    {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let before = from_hex(hex);
        let after = rewritten(&before, Offload::NONE, Some(src), Some(dst));
        for packet in [before, after] {
            let view = View::parse(&packet, Offload::NONE).unwrap();
            let message = &packet[view.transport_offset()..];
            assert_eq!(slow_checksum(view.src(), view.dst(), 6, message), 0);
            if view.family() == Family::V4 {
                assert_eq!(slow_sum(&packet[..20]), 0xffff);
            }
        }
    }
}

#[test]
fn udp_checksums_keep_the_rules_about_zero() {
    let v4: Sample = Sample::plain(Family::V4, Kind::UdpUnchecked, 10);
    let new: IpAddr = "10.18.30.65".parse().unwrap();
    let after = rewritten(&v4.build(), Offload::NONE, None, Some(new));
    assert_eq!(field(&after, 26), 0, "none stays none");

    // Every destination until one makes the checksum 0: it is written 0xFFFF.
    for family in [Family::V4, Family::V6] {
        let sample = Sample::plain(family, Kind::Udp, 10);
        let at = sample.transport_offset() + 6;
        let before = sample.build();
        let seen = (0..=u16::MAX).any(|low| {
            let dst: IpAddr = match family {
                Family::V4 => Ipv4Addr::from_bits(0x0a12_0000 | u32::from(low)).into(),
                Family::V6 => Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, low).into(),
            };
            let after = rewritten(&before, Offload::NONE, None, Some(dst));
            assert_ne!(field(&after, at), 0);
            field(&after, at) == 0xffff
        });
        assert!(seen, "one in 65,535 must come out as zero");
    }
}

#[test]
fn a_fragment_behind_the_first_changes_in_its_ip_header_only() {
    let mut packet = Sample::plain(Family::V4, Kind::Udp, 16).build();
    packet[6..8].copy_from_slice(&[0, 185]);
    let sum = !slow_sum(&[&packet[..10], &packet[12..20]].concat());
    set_field(&mut packet, 10, sum);
    let after = rewritten(&packet, Offload::NONE, Some("10.30.0.2".parse().unwrap()), None);
    assert_eq!(&after[20..], &packet[20..]);
    assert_eq!(slow_sum(&after[..20]), 0xffff);
    assert_eq!(&after[12..16], [10, 30, 0, 2]);
}

#[test]
fn addresses_of_the_other_family_are_refused_and_nothing_changes() {
    let v6: IpAddr = "fdff::1".parse().unwrap();
    let before = Sample::plain(Family::V4, Kind::Tcp, 10).build();
    let mut packet = before.clone();
    let view = View::parse(&packet, Offload::NONE).unwrap();
    for (src, dst) in [(Some(v6), None), (None, Some(v6)), (Some(v6), Some(v6))] {
        assert_eq!(rewrite(&mut packet, &view, src, dst), Err(RewriteError::MixedFamilies));
    }
    assert_eq!(rewrite(&mut packet[..30], &view, None, None), Err(RewriteError::Buffer));
    assert_eq!(packet, before);
}

fn family_and_new_addresses() -> impl Strategy<Value = (Sample, Option<IpAddr>, Option<IpAddr>)> {
    family()
        .prop_flat_map(|family| (sample(family), prop::option::of(address(family)), prop::option::of(address(family))))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_rewritten_packet_equals_one_made_with_the_new_addresses((sample, src, dst) in family_and_new_addresses()) {
        let after = rewritten(&sample.build(), Offload::NONE, src, dst);
        let expected = Sample {
            src: src.unwrap_or(sample.src),
            dst: dst.unwrap_or(sample.dst),
            ..sample
        };
        prop_assert_eq!(after, expected.build());
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_by_the_same_difference(
        (sample, src, dst) in family_and_new_addresses(),
        wrong in 1..=u16::MAX,
        wrong_header in any::<u16>(),
        kind in prop::sample::select(&[Kind::Tcp, Kind::Udp, Kind::EchoRequest, Kind::EchoReply][..]),
    ) {
        let sample = Sample { kind, ..sample };
        let at = sample.transport_offset() + sample.checksum_at().unwrap();
        let mut before = sample.build();
        let right = field(&before, at);
        let right_header = field(&before, 10);
        set_field(&mut before, at, wrong);
        if sample.family() == Family::V4 {
            set_field(&mut before, 10, wrong_header);
        }
        let after = rewritten(&before, Offload::NONE, src, dst);
        let expected = Sample {
            src: src.unwrap_or(sample.src),
            dst: dst.unwrap_or(sample.dst),
            ..sample.clone()
        }
        .build();
        prop_assert_eq!(
            difference(field(&after, at), field(&expected, at)),
            difference(wrong, right)
        );
        if sample.family() == Family::V4 {
            prop_assert_eq!(
                difference(field(&after, 10), field(&expected, 10)),
                difference(wrong_header, right_header)
            );
        }
        // And nothing else is touched.
        for (index, (a, b)) in after.iter().zip(&expected).enumerate() {
            let is_checksum = index == at || index == at + 1
                || (sample.family() == Family::V4 && (10..12).contains(&index));
            prop_assert!(is_checksum || a == b, "byte {}", index);
        }
    }

    #[test]
    fn an_unfinished_checksum_stays_the_sum_of_the_pseudo_header(
        (sample, src, dst) in family_and_new_addresses(),
        kind in prop::sample::select(&[Kind::Tcp, Kind::Udp][..]),
    ) {
        let sample = Sample { kind, ..sample };
        let start = sample.transport_offset();
        let offset = sample.checksum_at().unwrap();
        let mut before = sample.build();
        let len = before.len() - sample.padding - start;
        let sum = |src, dst| slow_pseudo_header(src, dst, sample.protocol(), len);
        set_field(&mut before, start + offset, sum(sample.src, sample.dst));
        let offload = Offload {
            checksum: Checksum::Partial { start: start as u16, offset: offset as u16 },
            gso_size: 1400,
        };
        let after = rewritten(&before, offload, src, dst);
        let (src, dst) = (src.unwrap_or(sample.src), dst.unwrap_or(sample.dst));
        prop_assert_eq!(field(&after, start + offset), sum(src, dst));
    }

    #[test]
    fn there_and_back_again_is_the_same_packet((sample, src, dst) in family_and_new_addresses()) {
        let before = sample.build();
        let there = rewritten(&before, Offload::NONE, src, dst);
        let back = rewritten(&there, Offload::NONE, Some(sample.src), Some(sample.dst));
        prop_assert_eq!(back, before);
    }
}

#[test]
fn offload_that_does_not_fit_never_reaches_the_rewriting() {
    let packet = Sample::plain(Family::V6, Kind::Udp, 0).build();
    let checksum = Checksum::Partial { start: 40, offset: 16 };
    assert_eq!(View::parse(&packet, Offload { checksum, gso_size: 0 }), Err(Malformed::Offload));
}
