//! ICMP errors reach the application that they are about, and quote what it sent.

use super::harness::*;
use crate::addr::{Dual, Family, Subnet4, Subnet6, WorkerSubnet};
use crate::ids::{InstanceId, ServiceId};
use crate::packet::samples::{Kind, Sample, slow_checksum, slow_sum};
use crate::router::Attachment;
use crate::stats::DropReason;
use crate::sync::message::InstanceRecord;
use crate::table::samples::{instance_ip, namespace_ip, record, service_ip};
use crate::time::Instant;

const NOW: Instant = Instant::ZERO;
const KINDS: [Kind; 5] = [Kind::Tcp, Kind::Udp, Kind::UdpUnchecked, Kind::EchoRequest, Kind::Other];

/// An error with these type and code about a packet.
fn error(family: Family, [kind, code]: [u8; 2], src: Dual, dst: Dual, quote: &[u8]) -> Vec<u8> {
    let (src, dst) = (src.of(family), dst.of(family));
    let mut message = vec![kind, code, 0, 0, 0, 0, 5, 0];
    message.extend_from_slice(quote);
    let outer = Sample { src, dst, payload: message[8..].to_vec(), ..Sample::plain(family, Kind::IcmpError, 0) };
    let sum = match family {
        Family::V4 => !slow_sum(&message),
        Family::V6 => slow_checksum(src, dst, 58, &message),
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = outer.build();
    let at = packet.len() - message.len();
    packet[at..].copy_from_slice(&message);
    packet
}

/// The errors that are translated.
fn kinds(family: Family) -> &'static [[u8; 2]] {
    match family {
        Family::V4 => &[[3, 3], [3, 4], [11, 0], [12, 0]],
        Family::V6 => &[[1, 4], [2, 0], [3, 0], [4, 1]],
    }
}

fn dial(family: Family, kind: Kind) -> Sample {
    Sample { tcp_flags: SYN, ..packet(family, kind, (client(0).1, 4000), (service_ip(DIALLED), 80)) }
}

#[test]
fn an_error_of_the_server_reaches_the_client_about_the_address_that_it_dialled() {
    for family in FAMILIES {
        for kind in KINDS {
            for what in kinds(family) {
                let (mut a, mut b) = pair();
                let request = dial(family, kind);
                let wire = a.send(NOW, &request.build()).to(B);
                let inside = b.receive(NOW, A, &wire).delivered();
                let sent = error(family, *what, server(0, B).1, client(0).0, &inside);
                let passed = b.send(NOW, &sent).to(A);
                assert_eq!(passed, error(family, *what, server(0, B).0, client(0).1, &wire), "{kind:?} {what:?}");
                let told = a.receive(NOW, B, &passed).delivered();
                assert_eq!(told, error(family, *what, service_ip(DIALLED), client(0).1, &request.build()));
            }
        }
    }
}

#[test]
fn a_quote_that_is_cut_off_is_translated_as_far_as_it_goes() {
    for family in FAMILIES {
        let header = if family == Family::V4 { 20 } else { 40 };
        for kind in KINDS {
            for len in [header + 8, header + 16, header + 18, header + 25] {
                let (mut a, mut b) = pair();
                let request = dial(family, kind);
                let wire = a.send(NOW, &request.build()).to(B);
                let inside = b.receive(NOW, A, &wire).delivered();
                let what = kinds(family)[0];
                let len = len.min(wire.len());
                let sent = error(family, what, server(0, B).1, client(0).0, &inside[..len]);
                let passed = b.send(NOW, &sent).to(A);
                assert_eq!(passed, error(family, what, server(0, B).0, client(0).1, &wire[..len]), "{kind:?} {len}");
                let told = a.receive(NOW, B, &passed).delivered();
                let expected = error(family, what, service_ip(DIALLED), client(0).1, &request.build()[..len]);
                assert_eq!(told, expected, "{kind:?} {len}");
            }
        }
    }
}

#[test]
fn an_error_about_an_answer_reaches_the_server() {
    for family in FAMILIES {
        for kind in [Kind::Tcp, Kind::Udp, Kind::EchoRequest] {
            let (mut a, mut b) = pair();
            let request = dial(family, kind);
            b.receive(NOW, A, &a.send(NOW, &request.build()).to(B)).delivered();
            let answer = answer_to(&request, server(0, B).1, client(0).0);
            let wire = b.send(NOW, &answer.build()).to(A);
            let inside = a.receive(NOW, B, &wire).delivered();
            let what = kinds(family)[0];
            let sent = error(family, what, client(0).1, service_ip(DIALLED), &inside);
            let passed = a.send(NOW, &sent).to(B);
            assert_eq!(passed, error(family, what, client(0).0, server(0, B).1, &wire));
            let told = b.receive(NOW, A, &passed).delivered();
            assert_eq!(told, error(family, what, client(0).0, server(0, B).1, &answer.build()));
        }
    }
}

#[test]
fn a_router_of_the_other_node_is_seen_as_itself() {
    for family in FAMILIES {
        let (mut a, mut b) = pair();
        // The host of B is an instance of its own, at the last address of its subnet.
        let host = (instance_ip(CLIENTS, 7), namespace_ip(B, 62));
        let record = InstanceRecord { namespace_ip: host.1, ..record(CLIENTS, 7, B) };
        b.put(CLIENTS, record, B);
        let id = InstanceId { service: ServiceId(CLIENTS), number: 7 };
        b.router.attachments.put(Attachment { id, instance_ip: host.0, namespace_ip: host.1 }).unwrap();
        let v4 = Subnet4::containing(host.1.v4, 26);
        b.router.set_subnet(WorkerSubnet::new(v4, Subnet6::containing(host.1.v6, 120)).unwrap());
        let request = dial(family, Kind::Udp);
        let wire = a.send(NOW, &request.build()).to(B);
        let inside = b.receive(NOW, A, &wire).delivered();
        let exceeded = [if family == Family::V4 { 11 } else { 3 }, 0];
        let passed = b.send(NOW, &error(family, exceeded, host.1, client(0).0, &inside)).to(A);
        assert_eq!(a.receive(NOW, B, &passed), Fate::Wait(host.0.of(family)), "A does not know it yet");
        a.put(CLIENTS, record, B);
        let told = a.receive(NOW, B, &passed).delivered();
        assert_eq!(told, error(family, exceeded, host.0, client(0).1, &request.build()));
    }
}

#[test]
fn between_two_containers_of_one_node_errors_arrive_too() {
    for family in FAMILIES {
        let mut a = node_with(A, &[A]);
        let request = dial(family, Kind::Udp);
        let inside = a.send(NOW, &request.build()).delivered();
        let what = kinds(family)[0];
        let told = a.send(NOW, &error(family, what, server(0, A).1, client(0).0, &inside)).delivered();
        assert_eq!(told, error(family, what, service_ip(DIALLED), client(0).1, &request.build()));
    }
}

#[test]
fn an_error_about_what_was_never_sent_is_not_believed() {
    for family in FAMILIES {
        let (mut a, mut b) = pair();
        let what = kinds(family)[0];
        let request = dial(family, Kind::Udp);
        let wire = a.send(NOW, &request.build()).to(B);
        let inside = b.receive(NOW, A, &wire).delivered();
        let about = |quote: &[u8]| error(family, what, server(0, B).0, client(0).1, quote);
        let quote = |change: &dyn Fn(&mut Sample)| {
            let mut quoted =
                Sample { src: client(0).0.of(family), dst: server(0, B).1.of(family), ..dial(family, Kind::Udp) };
            change(&mut quoted);
            quoted.build()
        };
        let never_sent: [&dyn Fn(&mut Sample); 5] = [
            &|quoted| quoted.src_port = 4001,
            &|quoted| quoted.dst_port = 81,
            &|quoted| quoted.src = client(1).0.of(family),
            &|quoted| quoted.dst = namespace_ip(B, 9).of(family),
            &|quoted| quoted.kind = Kind::Tcp,
        ];
        for change in never_sent {
            assert_eq!(a.receive(NOW, B, &about(&quote(change))), Fate::Drop(DropReason::NoFlow));
        }
        a.receive(NOW, B, &about(&quote(&|_| ()))).delivered();
        // Nor is one from somebody else than the node that the packet went to.
        assert_eq!(a.receive(NOW, C, &about(&wire)), Fate::Drop(DropReason::SpoofedSource));
        a.instance(CLIENTS, 7, C);
        let from_c = error(family, what, instance_ip(CLIENTS, 7), client(0).1, &wire);
        assert_eq!(a.receive(NOW, C, &from_c), Fate::Drop(DropReason::SpoofedSource));
        // A local application can't report about others either, nor to others.
        let from_nobody = error(family, what, namespace_ip(B, 40), client(0).0, &inside);
        assert_eq!(b.send(NOW, &from_nobody), Fate::Drop(DropReason::UnknownSource));
        // Nor about a neighbour's connection.
        b.instance(SERVERS, 3, B);
        b.attach(SERVERS, 3);
        let from_neighbour = error(family, what, server(3, B).1, client(0).0, &inside);
        assert_eq!(b.send(NOW, &from_neighbour), Fate::Drop(DropReason::NoFlow));
        let to_another = error(family, what, server(0, B).1, client(1).0, &inside);
        assert_eq!(b.send(NOW, &to_another), Fate::Drop(DropReason::NoFlow));
    }
}

#[test]
fn an_error_neither_prolongs_nor_ends_its_flow() {
    let mut a = node_with(A, &[B]);
    let wire = a.send(at(0), &dial(Family::V4, Kind::Udp).build()).to(B);
    let told = error(Family::V4, [3, 3], server(0, B).0, client(0).1, &wire);
    a.receive(at(29), B, &told).delivered();
    assert_eq!(a.receive(at(30), B, &told), Fate::Drop(DropReason::NoFlow));
}
