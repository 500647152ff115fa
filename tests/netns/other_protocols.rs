//! Protocols without ports are carried where only addresses change, and dropped where that would break them; and nothing leaves
//! under a source that is not an instance of the node.

use crate::stage::{S, S_V6, Stage, at, drops, instance, refused_sources, sockets, until, until_refused};
use acorn_tests::world::Namespace;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

const SCTP: u8 = 132;
const GRE: u8 = 47;
/// The authentication header covers the addresses (RFC 4302 section 3.3.3).
const AH: u8 = 51;
/// The sender makes the whole packet (raw(7)).
pub const WHOLE: u8 = 255;

#[test]
fn sctp_and_gre_arrive_byte_for_byte_and_are_answered_from_the_service_ip() {
    let stage = Stage::new();
    for (service_ip, protocol) in [(S, SCTP), (S, GRE), (S_V6, SCTP), (S_V6, GRE)] {
        let ipv6 = service_ip.is_ipv6();
        let client = raw(&stage.machines.client, ipv6, protocol);
        let servers = [&stage.machines.s1, &stage.machines.s2].map(|container| raw(container, ipv6, protocol));
        servers.iter().for_each(|server| server.set_nonblocking(true).unwrap());
        let sent: Vec<u8> = (0..200).map(|n| n ^ protocol).collect();
        client.send_to(&sent, at(service_ip, 0)).unwrap();

        let mut buffer = [0; 2048];
        let (server, len, from) = until("one instance to receive the packet", || {
            let got = servers.iter().find_map(|server| {
                let (len, from) = server.recv_from(&mut buffer).ok()?;
                Some((server, len, from))
            });
            got.ok_or("nothing")
        });
        assert_eq!(payload(&buffer[..len], ipv6), sent);
        let answer: Vec<u8> = sent.iter().rev().copied().collect();
        server.send_to(&answer, at(from.ip(), 0)).unwrap();
        let (len, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((payload(&buffer[..len], ipv6), from.ip()), (&answer[..], service_ip));
    }
}

#[test]
fn a_protocol_that_translation_would_break_is_dropped_and_counted() {
    let stage = Stage::new();
    let before = drops(&stage.w2, "protocol");
    let client = raw(&stage.machines.client, false, AH);
    for _ in 0..3 {
        client.send_to(&[0; 24], at(S, 0)).unwrap();
    }
    until("three packets to be counted", || {
        let counted = drops(&stage.w2, "protocol") - before;
        if counted == 3 { Ok(()) } else { Err(format!("{counted} of 3")) }
    });
}

#[test]
fn no_packet_leaves_under_the_address_of_another_node_an_instance_ip_or_a_stranger() {
    let stage = Stage::new();
    let s1 = instance(&stage.service, 1);
    let own = raw(&stage.machines.client, false, WHOLE);
    let server = sockets(&stage.machines.s1).udp(false, 7000).unwrap();
    let sources = [s1.namespace_ip.unwrap(), s1.instance_ip, Ipv4Addr::new(10, 99, 0, 1)];
    let refused = refused_sources(&stage.w2);
    for source in sources {
        own.send_to(&udp_packet(source, s1.instance_ip, 7000), at(s1.instance_ip, 0)).unwrap();
    }
    until_refused(&stage.w2, refused, 3);
    // Nothing guards the machine from itself: there it is the router that looks.
    let machine = raw(&stage.machines.w2, false, WHOLE);
    for source in sources {
        let before = drops(&stage.w2, "unknown_source");
        machine.send_to(&udp_packet(source, s1.instance_ip, 7000), at(s1.instance_ip, 0)).unwrap();
        until(&format!("the packet from {source} to be counted"), || {
            let counted = drops(&stage.w2, "unknown_source") - before;
            if counted == 1 { Ok(()) } else { Err(format!("{counted}")) }
        });
    }
    // The same packet under its own source arrives, and it is the first that does.
    let route = stage.machines.client.run(["ip", "-oneline", "-4", "address", "show", "dev", "acorn"]).unwrap();
    let own_ip = route.split_whitespace().find_map(|word| word.split('/').next()?.parse().ok()).unwrap();
    own.send_to(&udp_packet(own_ip, s1.instance_ip, 7000), at(s1.instance_ip, 0)).unwrap();
    let mut buffer = [0; 64];
    let (len, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], own_ip.to_string().as_bytes());
    assert_ne!(from.ip(), IpAddr::from(own_ip), "the server sees the instance IP");
}

/// A raw socket, with the methods of a UDP socket, which are the same system calls. Ports have no meaning.
pub fn raw(container: &Namespace, ipv6: bool, protocol: u8) -> UdpSocket {
    UdpSocket::from(sockets(container).raw(ipv6, protocol).unwrap())
}

/// What a raw socket received, without the IP header that it has over IPv4 only.
fn payload(received: &[u8], ipv6: bool) -> &[u8] {
    if ipv6 { received } else { &received[usize::from(received[0] & 0x0f) * 4..] }
}

/// A UDP packet without checksum that says who sent it. The kernel fills in length, identification and header checksum.
fn udp_packet(from: Ipv4Addr, to: Ipv4Addr, port: u16) -> Vec<u8> {
    let text = from.to_string();
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend([40_000, port, 8 + text.len() as u16, 0].iter().flat_map(|word: &u16| word.to_be_bytes()));
    packet.extend(text.as_bytes());
    packet
}
