//! Packets that are too long for the path, and what TCP is told beforehand.

use super::harness::*;
use crate::addr::Family;
use crate::mtu::OverlayMtu;
use crate::packet::samples::{Kind, Sample, slow_checksum};
use crate::packet::{Checksum, Offload, View};
use crate::stats::DropReason;
use crate::table::samples::service_ip;
use crate::time::Instant;

const NOW: Instant = Instant::ZERO;

fn mtu(bytes: u16) -> OverlayMtu {
    OverlayMtu::new(bytes).unwrap()
}

/// A UDP packet of this length, with DF.
fn of_len(family: Family, len: usize) -> Sample {
    let header = if family == Family::V4 { 20 } else { 40 };
    Sample {
        payload: vec![0x5a; len - header - 8],
        ..packet(family, Kind::Udp, (client(0).1, 4000), (service_ip(DIALLED), 80))
    }
}

/// The same packet without DF.
fn may_be_cut(sample: &Sample) -> Vec<u8> {
    let mut packet = sample.build();
    packet[6] = 0;
    let sum = u16::from_be_bytes([packet[10], packet[11]]);
    packet[10..12].copy_from_slice(&(sum + 0x4000).to_be_bytes());
    packet
}

/// The MTU that the application is told.
#[track_caller]
fn told(fate: Fate, about: &Sample) -> u32 {
    let reply = fate.reply(DropReason::TooBig);
    let view = View::parse(&reply, Offload::NONE).unwrap();
    assert_eq!((view.src(), view.dst()), (about.dst, about.src));
    let message = &reply[view.transport_offset()..];
    let kind = if about.family() == Family::V4 { [3, 4] } else { [2, 0] };
    assert_eq!(message[..2], kind);
    let packet = about.build();
    assert_eq!(message[8..], packet[..message.len() - 8], "what the application sent");
    u32::from_be_bytes(message[4..8].try_into().unwrap())
}

#[test]
fn what_fits_goes_and_one_byte_more_is_answered_with_the_mtu() {
    for family in FAMILIES {
        let mut a = node_with(A, &[B]);
        a.send(NOW, &of_len(family, 1440).build()).to(B);
        let long = of_len(family, 1441);
        assert_eq!(told(a.send(NOW, &long.build()), &long), 1440);
        assert_eq!(a.drops(DropReason::TooBig), 1);
        a.router.set_overlay_mtu(mtu(8928));
        a.send(NOW, &of_len(family, 8928).build()).to(B);
        let long = of_len(family, 8929);
        assert_eq!(told(a.send(NOW, &long.build()), &long), 8928);
    }
}

#[test]
fn ipv4_that_may_be_cut_is_cut() {
    let mut a = node_with(A, &[B]);
    let long = of_len(Family::V4, 1500);
    let Fate::Fragment(to, packet, at_most) = a.send(NOW, &may_be_cut(&long)) else { panic!("not cut") };
    assert_eq!((to, at_most), (B, 1440));
    let wire = Sample { src: client(0).0.of(Family::V4), dst: server(0, B).1.of(Family::V4), ..long };
    assert_eq!(packet, may_be_cut(&wire), "readdressed, and whole");
    assert_eq!((a.router.counters.forwarded, a.router.counters.fragmented), (1, 1));
}

#[test]
fn a_learned_path_mtu_counts_for_ten_minutes_and_towards_its_node_only() {
    for family in FAMILIES {
        let mut a = node_with(A, &[B, C]);
        let row = a.node_row(B);
        a.router.learn_path_mtu(at(0), row, mtu(1328));
        // A larger one does not count while the smaller does.
        a.router.learn_path_mtu(at(1), row, mtu(1400));
        let to_b = of_len(family, 1329);
        assert_eq!(told(a.send(at(1), &to_b.build()), &to_b), 1328);
        let to_c = Sample { src_port: 4001, ..to_b.clone() };
        a.send(at(1), &to_c.build()).to(C);
        assert_eq!(
            told(a.send(Instant::from_millis(599_999), &to_b.build()), &to_b),
            1328,
            "the flow is new, the path is not"
        );
    }
    let mut a = node_with(A, &[B]);
    let row = a.node_row(B);
    a.router.learn_path_mtu(at(0), row, mtu(1328));
    a.send(at(600), &of_len(Family::V6, 1440).build()).to(B);
}

#[test]
fn nothing_is_too_long_for_a_container_of_the_same_node() {
    for family in FAMILIES {
        let mut a = node_with(A, &[A]);
        a.send(NOW, &of_len(family, 9000).build()).delivered();
    }
}

#[test]
fn what_is_cut_later_is_measured_by_its_segments() {
    for family in FAMILIES {
        let header = if family == Family::V4 { 20 } else { 40 };
        let mut a = node_with(A, &[B]);
        let long =
            Sample { payload: vec![1; 9_000], ..segment(family, SYN, (client(0).1, 4000), (service_ip(DIALLED), 80)) };
        let cut = |gso_size| Offload { checksum: Checksum::Partial { start: header, offset: 16 }, gso_size };
        let fits = 1440 - header - 20;
        a.send_with(NOW, &long.build(), cut(fits)).to(B);
        let reply = a.send_with(NOW, &long.build(), cut(fits + 1)).reply(DropReason::TooBig);
        assert_eq!(View::parse(&reply, Offload::NONE).unwrap().src(), long.dst);
    }
}

/// A SYN that offers this MSS, between two NOPs so that the value stands at an odd place when `odd`.
fn syn(
    family: Family,
    from: (crate::addr::Dual, u16),
    to: (crate::addr::Dual, u16),
    flags: u8,
    mss: u16,
    odd: bool,
) -> Vec<u8> {
    let sample = Sample { tcp_options: 2, ..segment(family, flags, from, to) };
    let mut packet = sample.build();
    let at = sample.transport_offset();
    let [high, low] = mss.to_be_bytes();
    let options = if odd { [1, 2, 4, high, low, 1, 1, 1] } else { [2, 4, high, low, 1, 1, 1, 1] };
    packet[at + 20..at + 28].copy_from_slice(&options);
    packet[at + 16..at + 18].fill(0);
    let sum = slow_checksum(sample.src, sample.dst, 6, &packet[at..]);
    packet[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn the_mss_of_both_ends_is_lowered_to_what_fits_and_never_raised() {
    for (family, fits) in [(Family::V4, 1400), (Family::V6, 1380)] {
        for odd in [false, true] {
            for (offered, expected) in [(1460, fits), (fits + 1, fits), (fits, fits), (536, 536)] {
                let mut a = node_with(A, &[B]);
                let dial = |mss| syn(family, (client(0).1, 1), (service_ip(DIALLED), 2), SYN, mss, odd);
                let wire = |mss| syn(family, (client(0).0, 1), (server(0, B).1, 2), SYN, mss, odd);
                assert_eq!(a.send(NOW, &dial(offered)).to(B), wire(expected), "{offered}");
                let answer = |mss| syn(family, (server(0, B).0, 2), (client(0).1, 1), SYN_ACK, mss, odd);
                let seen = |mss| syn(family, (service_ip(DIALLED), 2), (client(0).1, 1), SYN_ACK, mss, odd);
                assert_eq!(a.receive(NOW, B, &answer(offered)).delivered(), seen(expected), "{offered}");
            }
        }
        let mut a = node_with(A, &[A]);
        let dial = syn(family, (client(0).1, 1), (service_ip(DIALLED), 2), SYN, 8960, false);
        let inside = syn(family, (client(0).0, 1), (server(0, A).1, 2), SYN, 8960, false);
        assert_eq!(a.send(NOW, &dial).delivered(), inside, "within the node there is no path");
    }
}
