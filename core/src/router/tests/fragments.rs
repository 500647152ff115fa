//! Fragments behind the first follow it.

use super::harness::*;
use crate::addr::{Dual, Family};
use crate::packet::samples::{Kind, Sample, slow_sum};
use crate::stats::DropReason;
use crate::table::samples::service_ip;
use crate::time::Instant;

const NOW: Instant = Instant::ZERO;
const KINDS: [Kind; 4] = [Kind::Udp, Kind::Tcp, Kind::EchoRequest, Kind::Other];

/// The fragment from `from` to `to` of the payload of a whole packet.
fn fragment(whole: &[u8], id: u16, from: usize, to: usize) -> Vec<u8> {
    let v4 = whole[0] >> 4 == 4;
    let header = if v4 { 20 } else { 40 };
    let payload = &whole[header..];
    let to = to.min(payload.len());
    let field = (from as u16) | if to < payload.len() { if v4 { 0 } else { 1 } } else { 0 };
    let mut packet = whole[..header].to_vec();
    if v4 {
        let more = if to < payload.len() { 0x2000 } else { 0 };
        packet[2..4].copy_from_slice(&((header + to - from) as u16).to_be_bytes());
        packet[4..6].copy_from_slice(&id.to_be_bytes());
        packet[6..8].copy_from_slice(&(more | (field / 8)).to_be_bytes());
        packet[10..12].fill(0);
        let sum = !slow_sum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        let protocol = packet[6];
        packet[4..6].copy_from_slice(&((8 + to - from) as u16).to_be_bytes());
        packet[6] = 44;
        packet.extend_from_slice(&[protocol, 0]);
        packet.extend_from_slice(&field.to_be_bytes());
        packet.extend_from_slice(&u32::from(id).to_be_bytes());
    }
    packet.extend_from_slice(&payload[from..to]);
    packet
}

fn dial(family: Family, kind: Kind, port: u16) -> Sample {
    Sample { payload: (0..200).collect(), ..packet(family, kind, (client(0).1, port), (service_ip(DIALLED), 80)) }
}

fn pieces(whole: &[u8], id: u16) -> Vec<Vec<u8>> {
    [(0, 64), (64, 128), (128, 1_000)].map(|(from, to)| fragment(whole, id, from, to)).to_vec()
}

fn on_the_wire(request: &Sample, server: (Dual, Dual)) -> Vec<u8> {
    readdressed(request, client(0).0, server.1)
}

#[test]
fn all_fragments_arrive_as_if_the_whole_had_been_readdressed() {
    for family in FAMILIES {
        for kind in KINDS {
            let (mut a, mut b) = pair();
            let request = dial(family, kind, 4000);
            let wire = pieces(&on_the_wire(&request, server(0, B)), 7);
            for (sent, expected) in pieces(&request.build(), 7).iter().zip(&wire) {
                assert_eq!(&a.send(NOW, sent).to(B), expected, "{kind:?}");
            }
            let inside = pieces(&readdressed(&request, client(0).0, server(0, B).1), 7);
            for (arrived, expected) in wire.iter().zip(&inside) {
                assert_eq!(&b.receive(NOW, A, arrived).delivered(), expected, "{kind:?}");
            }
            if kind == Kind::Other {
                continue;
            }
            let answer = answer_to(&request, server(0, B).1, client(0).0);
            let back = pieces(&readdressed(&answer, server(0, B).0, client(0).1), 9);
            for (sent, expected) in pieces(&answer.build(), 9).iter().zip(&back) {
                assert_eq!(&b.send(NOW, sent).to(A), expected, "{kind:?}");
            }
            let seen = pieces(&readdressed(&answer, service_ip(DIALLED), client(0).1), 9);
            for (arrived, expected) in back.iter().zip(&seen) {
                assert_eq!(&a.receive(NOW, B, arrived).delivered(), expected, "{kind:?}");
            }
        }
    }
}

#[test]
fn each_datagram_stays_with_its_instance_however_they_interleave() {
    for family in FAMILIES {
        let mut a = node_with(A, &[B, C]);
        let first = pieces(&dial(family, Kind::Udp, 4000).build(), 1);
        let second = pieces(&dial(family, Kind::Udp, 4001).build(), 2);
        for at in 0..3 {
            a.send(NOW, &first[at]).to(B);
            a.send(NOW, &second[at]).to(C);
        }
    }
}

#[test]
fn between_two_containers_of_one_node_fragments_arrive_too() {
    for family in FAMILIES {
        let mut a = node_with(A, &[A]);
        let request = dial(family, Kind::Udp, 4000);
        let inside = pieces(&on_the_wire(&request, server(0, A)), 7);
        for (sent, expected) in pieces(&request.build(), 7).iter().zip(&inside) {
            assert_eq!(&a.send(NOW, sent).delivered(), expected);
        }
    }
}

#[test]
fn without_its_first_one_a_fragment_goes_nowhere() {
    for family in FAMILIES {
        let (mut a, mut b) = pair();
        let request = dial(family, Kind::Udp, 4000);
        let sent = pieces(&request.build(), 7);
        assert_eq!(a.send(NOW, &sent[1]), Fate::Drop(DropReason::FragmentUnknown));
        let wire = a.send(NOW, &sent[0]).to(B);
        let later = a.send(NOW, &sent[1]).to(B);
        assert_eq!(b.receive(NOW, A, &later), Fate::Drop(DropReason::FragmentUnknown));
        b.receive(NOW, A, &wire).delivered();
        // Another peer's fragment is not of this datagram, whatever it says.
        assert_eq!(b.receive(NOW, C, &later), Fate::Drop(DropReason::FragmentUnknown));
        b.receive(NOW, A, &later).delivered();
        assert_eq!(a.send(at(30), &sent[2]), Fate::Drop(DropReason::FragmentUnknown));
    }
}

/// RFC 8200 section 4.5: what the fragment header of a later one names does not count.
#[test]
fn options_behind_an_ipv6_fragment_header_do_not_part_the_fragments() {
    let (mut a, _) = pair();
    let request = dial(Family::V6, Kind::Udp, 4000).build();
    let mut whole = request[..40].to_vec();
    whole[6] = 60;
    whole[4..6].copy_from_slice(&((request.len() - 40 + 8) as u16).to_be_bytes());
    whole.extend_from_slice(&[17, 0, 1, 4, 0, 0, 0, 0]);
    whole.extend_from_slice(&request[40..]);
    let sent = pieces(&whole, 7);
    a.send(NOW, &sent[0]).to(B);
    let mut later = sent[1].clone();
    later[40] = 17;
    a.send(NOW, &later).to(B);
    assert_eq!(a.send(NOW, &later), Fate::Drop(DropReason::FragmentOverlap));
}

#[test]
fn a_first_fragment_that_is_refused_is_not_followed() {
    for family in FAMILIES {
        let mut a = node_with(A, &[]);
        let sent = pieces(&dial(family, Kind::Udp, 4000).build(), 7);
        a.send(NOW, &sent[0]).reply(DropReason::NoInstance);
        assert_eq!(a.send(NOW, &sent[1]), Fate::Drop(DropReason::FragmentUnknown));
    }
}

#[test]
fn fragments_of_a_flow_that_has_ended_go_nowhere() {
    for family in FAMILIES {
        let mut a = node_with(A, &[B]);
        let sent = pieces(&dial(family, Kind::Udp, 4000).build(), 7);
        a.send(NOW, &sent[0]).to(B);
        a.withdraw(SERVERS, 0);
        assert_eq!(a.send(NOW, &sent[1]), Fate::Drop(DropReason::NoFlow));
        // Nor do they follow what has taken its row since.
        a.sweep(64);
        a.instance(SERVERS, 1, C);
        a.send(NOW, &dial(family, Kind::Udp, 4001).build()).to(C);
        assert_eq!(a.send(NOW, &sent[2]), Fate::Drop(DropReason::NoFlow));
    }
}

#[test]
fn a_datagram_with_overlapping_fragments_is_given_up() {
    for family in FAMILIES {
        let mut a = node_with(A, &[B]);
        let whole = dial(family, Kind::Udp, 4000).build();
        a.send(NOW, &fragment(&whole, 7, 0, 64)).to(B);
        assert_eq!(a.send(NOW, &fragment(&whole, 7, 56, 128)), Fate::Drop(DropReason::FragmentOverlap));
        assert_eq!(a.send(NOW, &fragment(&whole, 7, 128, 1_000)), Fate::Drop(DropReason::FragmentOverlap));
        // A first one of the same datagram may hide another header (RFC 1858).
        let other = dial(family, Kind::Udp, 4001).build();
        a.send(NOW, &fragment(&other, 8, 0, 64)).to(B);
        assert_eq!(a.send(NOW, &fragment(&other, 8, 0, 64)), Fate::Drop(DropReason::FragmentOverlap));
        assert_eq!(a.drops(DropReason::FragmentOverlap), 3);
    }
}

#[test]
fn more_datagrams_than_attachments_fit_are_counted() {
    let mut a = node_with(A, &[B]);
    for n in 0..17 {
        let whole = dial(Family::V4, Kind::Udp, 4000 + n).build();
        a.send(Instant::from_millis(u64::from(n)), &fragment(&whole, n, 0, 64)).to(B);
    }
    assert_eq!(a.router.counters.datagrams_evicted, 1);
    let later = |n: u16| fragment(&dial(Family::V4, Kind::Udp, 4000 + n).build(), n, 64, 128);
    assert_eq!(a.send(at(1), &later(0)), Fate::Drop(DropReason::FragmentUnknown), "the one that began first");
    a.send(at(1), &later(1)).to(B);
    a.send(at(1), &later(16)).to(B);
}
