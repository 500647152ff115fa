//! Two containers of one node: neither can speak as the other.

use crate::other_protocols::{WHOLE, raw};
use crate::stage::{Attached, S, S_V6, Stage, at, drops, refused_sources, sockets, until_refused};
use acorn_tests::world::Namespace;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Where the instances of S listen.
const PORT: u16 = 7000;
/// Where the neighbour sends from, in a flow that goes on.
const LIVE: u16 = 40_000;

#[test]
fn a_container_cannot_send_as_its_neighbour() {
    let stage = Stage::new();
    let (liar, _) = stage.attached(&stage.w2, "app.ns.liar.ns", "liar");
    let (neighbour, its) = stage.attached(&stage.w2, "app.ns.neighbour.ns", "neighbour");
    let unknown = drops(&stage.w2, "unknown_source");
    for (service_ip, address) in families(&its) {
        cannot_send_as(&stage, &liar, &neighbour, address, service_ip);
    }
    assert_eq!(drops(&stage.w2, "unknown_source"), unknown, "the packets got as far as the router");
}

#[test]
fn a_container_cannot_send_as_its_neighbour_after_its_node_was_killed_either() {
    let mut stage = Stage::new();
    let (liar, _) = stage.attached(&stage.w2, "app.ns.liar.ns", "liar");
    let (neighbour, its) = stage.attached(&stage.w2, "app.ns.neighbour.ns", "neighbour");
    stage.w2.kill().unwrap();
    // As an earlier version left it.
    let ends = stage.machines.w2.interfaces().unwrap();
    for end in ends.iter().filter(|name| name.starts_with("acv")) {
        stage.machines.w2.run(["tc", "qdisc", "delete", "dev", end, "ingress"]).unwrap();
    }
    stage.w2.restart("w2").unwrap();
    stage.answers_again(4);
    for (service_ip, address) in families(&its) {
        cannot_send_as(&stage, &liar, &neighbour, address, service_ip);
    }
}

/// The neighbour talks to S, the liar interferes under its address, and the neighbour goes on: nobody heard the liar.
fn cannot_send_as(stage: &Stage, liar: &Namespace, neighbour: &Namespace, address: IpAddr, service_ip: IpAddr) {
    let ipv6 = service_ip.is_ipv6();
    let servers = [&stage.machines.s1, &stage.machines.s2].map(|container| {
        let server = sockets(container).udp(ipv6, PORT).unwrap();
        server.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        server
    });
    let talking = sockets(neighbour).udp(ipv6, LIVE).unwrap();
    talking.connect(at(service_ip, PORT)).unwrap();
    let partner = exchange(&talking, &servers, "before");

    let refused = refused_sources(&stage.w2);
    let lying = raw(liar, ipv6, WHOLE);
    // Into its flow, and in flows of their own.
    for port in [LIVE, LIVE + 1, LIVE + 2] {
        let lie = packet(at(address, port), at(service_ip, PORT), b"a lie");
        lying.send_to(&lie, at(service_ip, 0)).unwrap();
    }
    until_refused(&stage.w2, refused, 3);

    // What was sent first would have been received first.
    assert_eq!(exchange(&talking, &servers, "after"), partner);
    let others = [LIVE + 3, LIVE + 4].map(|port| {
        let socket = sockets(neighbour).udp(ipv6, port).unwrap();
        socket.connect(at(service_ip, PORT)).unwrap();
        exchange(&socket, &servers, "a new flow")
    });
    assert_ne!(others[0], others[1], "both instances were heard");
}

/// Sends a word to S and gets it back. Returns which server answered; nobody must have heard anything else.
fn exchange(client: &UdpSocket, servers: &[UdpSocket; 2], word: &str) -> usize {
    client.send(word.as_bytes()).unwrap();
    let mut buffer = [0; 64];
    let (number, len, from) = crate::stage::until("an instance to hear the neighbour", || {
        let heard = servers.iter().enumerate().find_map(|(number, server)| {
            let (len, from) = server.recv_from(&mut buffer).ok()?;
            Some((number, len, from))
        });
        heard.ok_or("nothing")
    });
    assert_eq!(String::from_utf8_lossy(&buffer[..len]), word);
    servers[number].send_to(word.as_bytes(), from).unwrap();
    let len = client.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], word.as_bytes());
    number
}

/// The service IP of S and an instance's namespace IP, in both families.
fn families(its: &Attached) -> [(IpAddr, IpAddr); 2] {
    [(S, its.namespace_ip.into()), (S_V6, its.namespace_ip_v6.into())]
}

/// A whole packet with a UDP datagram (RFC 768). Over IPv4 the kernel fills in length, identification and header checksum.
fn packet(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    const UDP: u8 = 17;
    let len = 8 + data.len() as u16;
    let (mut packet, addresses) = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            (vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0], [from.octets(), to.octets()].concat())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            (vec![0x60, 0, 0, 0, 0, len as u8, UDP, 64], [from.octets(), to.octets()].concat())
        }
        mixed => panic!("{mixed:?}"),
    };
    let mut datagram: Vec<u8> = [from.port(), to.port(), len, 0].iter().flat_map(|word| word.to_be_bytes()).collect();
    datagram.extend(data);
    let summed = [&addresses[..], &[0, UDP], &len.to_be_bytes(), &datagram].concat();
    datagram[6..8].copy_from_slice(&checksum(&summed).to_be_bytes());
    packet.extend(addresses);
    packet.extend(datagram);
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let once = (sum & 0xffff) + (sum >> 16);
    !((once & 0xffff) + (once >> 16)) as u16
}
