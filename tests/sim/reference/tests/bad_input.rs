//! Packets that are cut off, damaged or lie, one way at a time: each goes through the router and its model, which must agree on what
//! becomes of it. What holds of every outcome is checked on the way.

use acorn_core::packet::{Checksum, Offload};

use super::super::build::{self, Ends, Envelope, Payload, Sent};
use super::super::drive::Run;
use super::super::model::{Outcome, SELF};
use super::super::steps::{Placed, Step};
use super::super::wire::{ACK, ICMP, ICMPV6, Packet, SYN};
use super::super::world;

/// A network in which node 2 runs the instance 0 of service 1, and node 1 a client.
fn network() -> Run {
    let (server, client) = (Placed::usual(1, 0, 2), Placed::usual(world::CLIENTS, 0, SELF));
    let mut run = Run::new();
    run.take(Step::Service(1, world::service_ips(1).to_vec()));
    run.take(Step::Put(server));
    run.take(Step::Complete(1, true));
    run.take(Step::Service(world::CLIENTS, Vec::new()));
    run.take(Step::Put(client));
    run.take(Step::Attach((world::CLIENTS, 0), client.instance_ip, client.namespace_ip));
    run
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

impl Way {
    fn step(self, sent: Sent) -> Step {
        match self {
            Self::Out => Step::Outbound(sent),
            Self::In => Step::Inbound(2, sent),
        }
    }

    /// The ends of a packet that begins a flow this way.
    fn ends(self, v6: bool) -> Ends {
        let (server, client) = (Placed::usual(1, 0, 2), Placed::usual(world::CLIENTS, 0, SELF));
        let (src, dst) = match self {
            Self::Out => (client.namespace_ip, world::service_ips(1)[0]),
            Self::In => (server.instance_ip, client.namespace_ip),
        };
        Ends { src: world::of(src, v6), dst: world::of(dst, v6), src_port: 1000, dst_port: 80 }
    }
}

/// A valid packet of every kind, with its name.
fn kinds(ends: &Ends) -> Vec<(&'static str, Vec<u8>)> {
    let v6 = ends.src.is_ipv6();
    let plain = Envelope::default();
    let options = [2, 4, 0xff, 0xff, 1, 3, 3, 7];
    let rich = Envelope { v4_options: 40, v6_headers: vec![0, 43, 60], ..Envelope::default() };
    let first = Envelope { fragment: Some((9, 0, true)), ..Envelope::default() };
    let behind = Envelope { fragment: Some((9, 2, false)), ..Envelope::default() };
    // What it quotes never went anywhere: errors about what did are in the corpus.
    let back = Ends { src: ends.dst, dst: ends.src, ..*ends };
    let quote = build::packet(&back, &plain, &build::udp(&back, 8));
    let unreachable = if v6 { 1 } else { 3 };
    let of = |envelope: &Envelope, payload: &Payload| build::packet(ends, envelope, payload);
    vec![
        ("a SYN", of(&plain, &build::tcp(ends, SYN, 1, 0, &options, 0))),
        ("a segment", of(&plain, &build::tcp(ends, ACK, 1, 2, &[], 4))),
        ("UDP", of(&plain, &build::udp(ends, 8))),
        ("an echo request", of(&plain, &build::echo(ends, true, 8))),
        ("an echo reply", of(&plain, &build::echo(ends, false, 8))),
        ("SCTP", of(&plain, &build::other(132, 12))),
        ("UDP behind options", of(&rich, &build::udp(ends, 8))),
        ("a first fragment", of(&first, &build::udp(ends, 8))),
        ("a later fragment", of(&behind, &build::other(17, 9))),
        ("an ICMP error", of(&plain, &build::message(v6, unreachable, 1, 0, &quote))),
        ("another ICMP message", of(&plain, &build::message(v6, 13, 0, 0, &[0; 12]))),
        ("an empty packet", of(&plain, &build::other(59, 0))),
    ]
}

/// Calls for every kind, family and direction, in a network without flows and in one where the packet has its flow.
fn everywhere(mut check: impl FnMut(&str, Way, &[u8], &dyn Fn() -> Run)) {
    for way in [Way::Out, Way::In] {
        for v6 in [false, true] {
            for (name, packet) in kinds(&way.ends(v6)) {
                check(name, way, &packet, &network);
                let begun = || {
                    let mut run = network();
                    run.take(way.step(packet.clone().into()));
                    run
                };
                check(name, way, &packet, &begun);
            }
        }
    }
}

#[test]
fn packets_that_are_cut_off_anywhere() {
    everywhere(|name, way, packet, network| {
        let mut run = network();
        for len in 0..packet.len() {
            let outcome = run.take(way.step(packet[..len].to_vec().into()));
            assert!(matches!(outcome, Some(Outcome::Drop("malformed"))), "{name} cut to {len}: {outcome:?}");
        }
    });
}

#[test]
fn packets_with_one_wrong_byte_anywhere() {
    everywhere(|_, way, packet, network| {
        let mut run = network();
        for at in 0..packet.len() {
            for wrong in 1..=255 {
                let mut damaged = packet.to_vec();
                damaged[at] ^= wrong;
                run.take(way.step(damaged.into()));
            }
            // So that the steps that led to a failure can be read.
            run = network();
        }
    });
}

#[test]
fn packets_that_lie_about_lengths_with_more_and_less_behind_them() {
    everywhere(|_, way, packet, network| {
        let mut run = network();
        let at = if packet[0] >> 4 == 6 { 4 } else { 2 };
        for says in (0..200).chain([0x7fff, 0x8000, 0xfffe, 0xffff]) {
            for len in [packet.len(), packet.len() + 1, packet.len() * 2, usize::from(says), usize::from(says) + 40] {
                let mut lying = packet.to_vec();
                lying[at..at + 2].copy_from_slice(&u16::to_be_bytes(says));
                lying.resize(len.max(1), 0xee);
                run.take(way.step(lying.into()));
            }
            run = network();
        }
    });
}

#[test]
fn checksums_that_are_to_be_finished_at_any_place() {
    everywhere(|_, way, packet, network| {
        let mut run = network();
        for start in (0..packet.len() as u16 + 2).chain([0x7fff, 0xffff]) {
            for offset in [0, 2, 6, 16, 0xffff] {
                for gso_size in [0, 1, 1400] {
                    let offload = Offload { checksum: Checksum::Partial { start, offset }, gso_size };
                    run.take(way.step(Sent { bytes: packet.to_vec(), offload }));
                }
            }
            run = network();
        }
    });
}

#[test]
fn as_many_headers_and_options_as_there_can_be() {
    for way in [Way::Out, Way::In] {
        for v6 in [false, true] {
            let ends = way.ends(v6);
            let mut run = network();
            for count in 0..=12 {
                for header in [0, 43, 44, 60, 59, 51, 50, 17] {
                    let mut v6_headers = vec![60; count];
                    v6_headers.push(header);
                    let envelope = Envelope { v4_options: count * 4, v6_headers, ..Envelope::default() };
                    run.take(way.step(build::packet(&ends, &envelope, &build::udp(&ends, 8)).into()));
                }
            }
            for filling in 0..=255 {
                for len in [0, 4, 8, 36, 40] {
                    let segment = build::tcp(&ends, SYN, 1, 0, &vec![filling; len], 0);
                    run.take(way.step(build::packet(&ends, &Envelope::default(), &segment).into()));
                }
                run = network();
            }
        }
    }
}

#[test]
fn payloads_of_nothing() {
    for way in [Way::Out, Way::In] {
        for v6 in [false, true] {
            let ends = way.ends(v6);
            for protocol in 0..=255 {
                for envelope in [
                    Envelope::default(),
                    Envelope { fragment: Some((1, 0, true)), is_uneven: true, ..Envelope::default() },
                    Envelope { fragment: Some((1, 1, false)), ..Envelope::default() },
                ] {
                    let mut run = network();
                    for len in [0, 1, 7, 8, 20] {
                        let packet = build::packet(&ends, &envelope, &build::other(protocol, len));
                        run.take(way.step(packet.into()));
                    }
                }
            }
        }
    }
}

#[test]
fn errors_about_a_packet_that_went_out_cut_off_and_damaged_anywhere() {
    for v6 in [false, true] {
        let ends = Way::Out.ends(v6);
        let mut run = network();
        let sent = build::packet(&ends, &Envelope::default(), &build::udp(&ends, 8));
        let Some(Outcome::Forward { buffer: quote, .. }) = run.take(Step::Outbound(sent.clone().into())) else {
            panic!("it was not sent")
        };
        let back = Way::In.ends(v6);
        let error = |quote: &[u8]| {
            let payload = build::message(v6, if v6 { 1 } else { 3 }, 3, 0, quote);
            build::packet(&back, &Envelope::default(), &payload)
        };
        for len in 0..=quote.len() {
            run.take(Step::Inbound(2, error(&quote[..len]).into()));
        }
        let whole = error(&quote);
        assert!(matches!(run.take(Step::Inbound(2, whole.clone().into())), Some(Outcome::Deliver { .. })));
        for at in 0..whole.len() {
            let mut run = network();
            run.take(Step::Outbound(sent.clone().into()));
            for wrong in 1..=255 {
                let mut damaged = whole.clone();
                damaged[at] ^= wrong;
                run.take(Step::Inbound(2, damaged.into()));
            }
        }
    }
}

#[test]
fn the_packets_are_what_they_are_called() {
    for v6 in [false, true] {
        for (name, bytes) in kinds(&Way::Out.ends(v6)) {
            let packet = Packet::read(&bytes, Offload::NONE).unwrap_or_else(|| panic!("{name} is not well formed"));
            assert_eq!(packet.len, bytes.len(), "{name}");
            assert_eq!(packet.fragment.is_some(), name.contains("fragment"), "{name}");
            let is_icmp = name.contains("echo") || name.contains("ICMP");
            assert_eq!(packet.protocol == if v6 { ICMPV6 } else { ICMP }, is_icmp, "{name}");
        }
    }
}
