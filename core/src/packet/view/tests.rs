//! What a view says of the packet besides where its parts are.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use super::*;
use crate::packet::samples::{Extension, Kind, Sample};

#[test]
fn protocols_whose_checksums_cover_addresses_that_nobody_updates_are_not_translated() {
    let translated: Vec<u8> =
        (0..=255).filter(|&number| Protocol::from_number(number, Family::V4).is_translatable()).collect();
    assert_eq!(translated, [1, 4, 6, 17, 41, 47, 50, 97, 115, 132, 137]);
    let translated: Vec<u8> =
        (0..=255).filter(|&number| Protocol::from_number(number, Family::V6).is_translatable()).collect();
    assert_eq!(translated, [4, 6, 17, 41, 47, 50, 58, 97, 115, 132, 137]);
}

#[test]
fn errors_for_one_link_are_not_translated() {
    let translated = |family| -> Vec<u8> {
        (0..=255).filter(|&kind| IcmpKind::Error { kind, code: 0 }.is_translatable_error(family)).collect()
    };
    assert_eq!(translated(Family::V4), [3, 11, 12]);
    assert_eq!(translated(Family::V6), [1, 2, 3, 4]);
    for family in [Family::V4, Family::V6] {
        assert!(!IcmpKind::Other { kind: 3, code: 0 }.is_translatable_error(family));
        assert!(!IcmpKind::EchoRequest { ident: 3 }.is_translatable_error(family));
    }
}

#[test]
fn a_segment_is_the_headers_and_its_share_of_the_payload() {
    let tcp = Sample { tcp_options: 3, ..Sample::plain(Family::V4, Kind::Tcp, 5000) };
    let udp = Sample { extensions: vec![Extension::Destination], ..Sample::plain(Family::V6, Kind::Udp, 5000) };
    let echo = Sample::plain(Family::V4, Kind::EchoRequest, 5000);
    for (sample, headers) in [(tcp, 20 + 32), (udp, 40 + 16 + 8)] {
        let packet = sample.build();
        let len = |gso_size| View::parse(&packet, Offload { gso_size, ..Offload::NONE }).unwrap().segment_len();
        assert_eq!(len(0), headers + 5000);
        assert_eq!(len(1), headers + 1);
        assert_eq!(len(1388), headers + 1388);
        assert_eq!(len(4999), headers + 4999);
        assert_eq!(len(5000), headers + 5000);
        assert_eq!(len(u16::MAX), headers + 5000);
    }
    let packet = echo.build();
    let view = View::parse(&packet, Offload { gso_size: 1000, ..Offload::NONE }).unwrap();
    assert_eq!(view.segment_len(), packet.len());
}
