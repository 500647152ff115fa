//! What a packet reads at each of the four points of its way.

use proptest::prelude::*;

use super::harness::*;
use crate::addr::{Dual, Family};
use crate::packet::samples::{self, Kind, Sample, slow_pseudo_header};
use crate::packet::{Checksum, Offload};
use crate::router::Verdict;
use crate::stats::DropReason;
use crate::table::samples::service_ip;
use crate::time::Instant;

const KINDS: [Kind; 4] = [Kind::Tcp, Kind::Udp, Kind::UdpUnchecked, Kind::EchoRequest];
const PORTS: [(u16, u16); 6] = [(40_000, 80), (65_535, 65_535), (0, 0), (0, 65_535), (65_535, 0), (80, 80)];
const NOW: Instant = Instant::ZERO;

/// Carries a packet of A's client 0 to B's server and its answer back, and compares each byte at each point.
fn there_and_back(a: &mut Side, b: &mut Side, request: &Sample, dialled: Dual) {
    let ((ia, na), (ib, nb)) = (client(0), server(0, B));
    let wire = a.send(NOW, &request.build()).to(B);
    assert_eq!(wire, readdressed(request, ia, nb), "A to B");
    let inside = b.receive(NOW, A, &wire).delivered();
    assert_eq!(inside, readdressed(request, ia, nb), "at the server");
    let answer = answer_to(request, nb, ia);
    let wire = b.send(NOW, &answer.build()).to(A);
    assert_eq!(wire, readdressed(&answer, ib, na), "B to A");
    let inside = a.receive(NOW, B, &wire).delivered();
    assert_eq!(inside, readdressed(&answer, dialled, na), "at the client");
}

#[test]
fn on_the_wire_it_is_instance_ip_to_namespace_ip_and_inside_what_was_dialled() {
    for family in FAMILIES {
        for kind in KINDS {
            for (from, to) in PORTS {
                for dialled in [service_ip(DIALLED), server(0, B).0] {
                    let (mut a, mut b) = pair();
                    let request = packet(family, kind, (client(0).1, from), (dialled, to));
                    there_and_back(&mut a, &mut b, &request, dialled);
                    // And again, now that the flows are there.
                    there_and_back(&mut a, &mut b, &request, dialled);
                    assert_eq!((a.router.flows.len(), b.router.flows.len()), (1, 1));
                    let counters = &a.router.counters;
                    assert_eq!((counters.forwarded, counters.delivered), (2, 2));
                }
            }
        }
    }
}

fn request() -> impl Strategy<Value = Sample> {
    let kind = prop::sample::select(&KINDS[..]);
    (samples::family(), kind).prop_flat_map(|(family, kind)| {
        samples::sample(family).prop_map(move |sample| Sample {
            kind,
            src: client(0).1.of(family),
            dst: service_ip(DIALLED).of(family),
            tcp_flags: SYN,
            ..sample
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn any_packet_arrives_as_if_it_had_been_made_with_the_new_addresses(request in request()) {
        let (mut a, mut b) = pair();
        there_and_back(&mut a, &mut b, &request, service_ip(DIALLED));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), request in request(), at in any::<prop::sample::Index>()) {
        let (mut a, mut b) = pair();
        let mut broken = request.build();
        let place = at.index(broken.len());
        broken[place] ^= bytes.first().copied().unwrap_or(1);
        for packet in [&bytes, &broken] {
            a.send(NOW, packet);
            b.receive(NOW, A, packet);
        }
    }
}

#[test]
fn an_unfinished_checksum_stays_the_sum_of_the_pseudo_header_on_the_wire() {
    for family in FAMILIES {
        for kind in [Kind::Tcp, Kind::Udp] {
            let (mut a, _) = pair();
            let request = packet(family, kind, (client(0).1, 1), (service_ip(DIALLED), 2));
            let mut bytes = request.build();
            let (start, offset) = (request.transport_offset(), request.checksum_at().unwrap());
            let len = bytes.len() - start;
            let field = start + offset..start + offset + 2;
            let protocol = request.protocol();
            let unfinished = slow_pseudo_header(request.src, request.dst, protocol, len);
            bytes[field.clone()].copy_from_slice(&unfinished.to_be_bytes());
            let offload =
                Offload { checksum: Checksum::Partial { start: start as u16, offset: offset as u16 }, gso_size: 10 };
            let wire = a.send_with(NOW, &bytes, offload).to(B);
            let (src, dst) = (client(0).0.of(family), server(0, B).1.of(family));
            let expected = slow_pseudo_header(src, dst, protocol, len);
            assert_eq!(wire[field], expected.to_be_bytes());
        }
    }
}

#[test]
fn two_containers_with_equal_port_pairs_do_not_disturb_each_other() {
    for family in FAMILIES {
        for kind in KINDS {
            let (mut a, mut b) = pair();
            let dialled = service_ip(DIALLED);
            let requests = [0, 1].map(|n| packet(family, kind, (client(n).1, 4000), (dialled, 80)));
            let (_, nb) = server(0, B);
            for (n, request) in requests.iter().enumerate() {
                let wire = a.send(NOW, &request.build()).to(B);
                assert_eq!(wire, readdressed(request, client(n as u32).0, nb));
                b.receive(NOW, A, &wire).delivered();
            }
            for n in [1, 0] {
                let (instance, namespace) = client(n);
                let answer = answer_to(&requests[n as usize], nb, instance);
                let wire = b.send(NOW, &answer.build()).to(A);
                let inside = a.receive(NOW, B, &wire).delivered();
                assert_eq!(inside, readdressed(&answer, dialled, namespace));
            }
        }
    }
}

#[test]
fn a_destination_that_is_the_own_instance_ip_becomes_the_namespace_ip() {
    for family in FAMILIES {
        let (_, mut b) = pair();
        let ((ia, _), (ib, nb)) = (client(0), server(0, B));
        let request = packet(family, Kind::Udp, (ia, 1), (ib, 2));
        let inside = b.receive(NOW, A, &request.build()).delivered();
        assert_eq!(inside, readdressed(&request, ia, nb));
        let usual = packet(family, Kind::Udp, (ia, 1), (nb, 2));
        b.receive(NOW, A, &usual.build()).delivered();
        assert_eq!(b.router.flows.len(), 1, "it is the same flow");
    }
}

#[test]
fn two_containers_of_one_node_see_what_they_would_see_between_nodes() {
    for family in FAMILIES {
        for kind in KINDS {
            let mut a = node_with(A, &[A]);
            let ((ia, na), (_, nb)) = (client(0), server(0, A));
            let dialled = service_ip(DIALLED);
            for _ in 0..2 {
                let request = packet(family, kind, (na, 4000), (dialled, 80));
                let inside = a.send(NOW, &request.build()).delivered();
                assert_eq!(inside, readdressed(&request, ia, nb), "at the server");
                let answer = answer_to(&request, nb, ia);
                let inside = a.send(NOW, &answer.build()).delivered();
                assert_eq!(inside, readdressed(&answer, dialled, na), "at the client");
            }
            assert_eq!(a.router.flows.len(), 2, "each end has its own");
            assert_eq!((a.router.counters.delivered, a.router.counters.forwarded), (4, 0));
        }
    }
}

#[test]
fn a_container_of_this_node_is_known_even_when_the_table_does_not_have_it() {
    let mut a = node_with(A, &[A]);
    a.withdraw(CLIENTS, 0);
    let ((ia, na), (_, nb)) = (client(0), server(0, A));
    let dialled = service_ip(DIALLED);
    for kind in KINDS {
        let request = packet(Family::V4, kind, (na, 4000), (dialled, 80));
        let inside = a.send(NOW, &request.build()).delivered();
        assert_eq!(inside, readdressed(&request, ia, nb));
        let answer = answer_to(&request, nb, ia);
        let inside = a.send(NOW, &answer.build()).delivered();
        assert_eq!(inside, readdressed(&answer, dialled, na));
    }
    assert!(a.sweep(64).is_empty(), "nobody is gone");
    assert_eq!(a.router.flows.len(), 6);
    a.detach(CLIENTS, 0);
    a.sweep(64);
    assert!(a.router.flows.is_empty(), "both ends of what it talked are over");
    assert_eq!(a.flows_to(SERVERS, 0), 0);
}

#[test]
fn an_instance_reaches_itself_through_its_service_ip() {
    let (is, ns) = server(0, A);
    let dialled = service_ip(DIALLED);
    for family in FAMILIES {
        for kind in KINDS {
            let mut a = node_with(A, &[A]);
            let request = packet(family, kind, (ns, 4000), (dialled, 80));
            let inside = a.send(NOW, &request.build()).delivered();
            assert_eq!(inside, readdressed(&request, is, ns), "as from another instance");
            let answer = answer_to(&request, ns, is);
            let inside = a.send(NOW, &answer.build()).delivered();
            assert_eq!(inside, readdressed(&answer, dialled, ns), "as from whom it dialled");
        }
    }
}

/// With equal ports question and answer are the same packet, so it comes from the address that was dialled: the socket that
/// sent it takes it, as with a loopback address.
#[test]
fn an_instance_that_dials_itself_with_equal_ports_hears_itself_from_the_service_ip() {
    let (_, ns) = server(0, A);
    let dialled = service_ip(DIALLED);
    for family in FAMILIES {
        for kind in [Kind::Tcp, Kind::Udp, Kind::UdpUnchecked] {
            let mut a = node_with(A, &[A]);
            for _ in 0..2 {
                let request = packet(family, kind, (ns, 80), (dialled, 80));
                let inside = a.send(NOW, &request.build()).delivered();
                assert_eq!(inside, readdressed(&request, dialled, ns));
            }
            assert_eq!(a.router.flows.len(), 1);
        }
        // An echo with identifier 0.
        let mut a = node_with(A, &[A]);
        let request = packet(family, Kind::EchoRequest, (ns, 0), (dialled, 0));
        let inside = a.send(NOW, &request.build()).delivered();
        assert_eq!(inside, readdressed(&request, dialled, ns));
        let answer = answer_to(&request, ns, dialled);
        let inside = a.send(NOW, &answer.build()).delivered();
        assert_eq!(inside, readdressed(&answer, dialled, ns));
    }
}

#[test]
fn the_asker_of_a_packet_that_waits_is_its_sender() {
    let mut a = node_with(A, &[B]);
    let unknown = packet(Family::V4, Kind::Udp, (client(1).1, 1), (service_ip(77), 2));
    let mut bytes = unknown.build();
    let verdict = a.router.outbound(NOW, &mut bytes, Offload::NONE, &mut []);
    let Verdict::Wait { address, asker } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(address, unknown.dst);
    let attachment = a.router.attachments.get(asker.row()).unwrap();
    assert_eq!(attachment.namespace_ip, client(1).1);
    assert!(a.router.flows.is_empty());
    assert_eq!(a.drops(DropReason::UnknownService), 0, "nothing is decided yet");
}
