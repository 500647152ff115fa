//! Datagrams that do not fit into one packet.

use crate::datagrams::{Cutting, path_mtu, set_cutting};
use crate::stage::{PATIENCE, S, S_V6, Stage, at, counter, sockets, until};
use acorn_tests::world::Namespace;
use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::Duration;

/// Six packets.
const LONG: usize = 8000;
const END: &[u8] = b"end";
const PORT: u16 = 7000;

#[test]
fn all_fragments_of_a_datagram_reach_one_instance_and_every_byte_is_right() {
    let stage = Stage::new();
    let container = &stage.machines.client;
    for service_ip in [S, S_V6] {
        let echoes = echoes(&stage, service_ip.is_ipv6());
        let clients: Vec<UdpSocket> = (0..2).map(|_| connected(container, service_ip)).collect();
        let served: BTreeSet<u8> = clients.iter().map(|client| exchange(client, 50, LONG)).collect();
        assert_eq!(served.len(), 2, "round robin gives each client another instance");
        end(clients, echoes);
    }
    assert_eq!(counter(&stage.w2, "packets_fragmented"), 0, "whoever sends cuts to what fits");
}

#[test]
fn fragments_between_two_containers_of_one_node_arrive_too() {
    let stage = Stage::new();
    let (neighbour, _) = stage.attached(&stage.w1, "app.ns.neighbour.ns", "neighbour");
    for service_ip in [S, S_V6] {
        let echoes = echoes(&stage, service_ip.is_ipv6());
        let clients: Vec<UdpSocket> = (0..2).map(|_| connected(&neighbour, service_ip)).collect();
        let served: BTreeSet<u8> = clients.iter().map(|client| exchange(client, 10, LONG)).collect();
        assert_eq!(served.len(), 2);
        end(clients, echoes);
    }
}

#[test]
fn a_container_whose_interface_takes_more_than_the_overlay_is_cut_or_told() {
    let stage = Stage::new();
    let container = &stage.machines.client;
    let host_end = stage.machines.w2.interfaces().unwrap().into_iter().find(|name| name.starts_with("acv")).unwrap();
    container.run(["ip", "link", "set", "dev", "acorn", "mtu", "1500"]).unwrap();
    stage.machines.w2.run(["ip", "link", "set", "dev", &host_end, "mtu", "1500"]).unwrap();
    for service_ip in [S, S_V6] {
        let echoes = echoes(&stage, service_ip.is_ipv6());
        let clients: Vec<UdpSocket> = (0..2).map(|_| connected(container, service_ip)).collect();
        if service_ip.is_ipv4() {
            clients.iter().for_each(|client| set_cutting(client, Cutting::Allowed));
            // 1,500 bytes with the headers of IP and UDP.
            for client in &clients {
                exchange(client, 10, 1472);
            }
        }
        clients.iter().for_each(|client| set_cutting(client, Cutting::Forbidden));
        assert_eq!(path_mtu(&clients[0]), 1500);
        until("the container to be told what fits", || {
            let headers = if service_ip.is_ipv4() { 28 } else { 48 };
            let sent = clients[0].send(&vec![0; 1500 - headers]);
            let believed = path_mtu(&clients[0]);
            if believed == 1440 { Ok(()) } else { Err(format!("{believed}, sent {sent:?}")) }
        });
        end(clients, echoes);
    }
}

/// A UDP server in both instances of S that sends back what it gets, changed, after its own number.
pub fn echoes(stage: &Stage, ipv6: bool) -> Vec<thread::JoinHandle<()>> {
    let instances = [&stage.machines.s1, &stage.machines.s2];
    let servers = instances.into_iter().zip(1..).map(|(container, number)| {
        let socket = sockets(container).udp(ipv6, PORT).unwrap();
        thread::spawn(move || echo(&socket, number))
    });
    servers.collect()
}

fn echo(socket: &UdpSocket, number: u8) {
    let mut buffer = vec![0; 65_536];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        if &buffer[..len] == END {
            return;
        }
        let answer: Vec<u8> = [number].into_iter().chain(buffer[..len].iter().map(|byte| !byte)).collect();
        socket.send_to(&answer, from).unwrap();
    }
}

/// A UDP socket that talks to the echo of an address.
pub fn connected(container: &Namespace, to: IpAddr) -> UdpSocket {
    let socket = sockets(container).udp(to.is_ipv6(), 0).unwrap();
    socket.connect(at(to, PORT)).unwrap();
    socket
}

/// Sends `count` datagrams of `len` bytes to an echo, one after another, and compares the answers. Returns who answered: one instance all of them.
pub fn exchange(client: &UdpSocket, count: usize, len: usize) -> u8 {
    let mut served = BTreeSet::new();
    let mut buffer = vec![0; 65_536];
    for round in 0..count {
        let sent: Vec<u8> = (0..len).map(|place| (place * 7 + place / 256 + round) as u8).collect();
        client.send(&sent).unwrap();
        let got = client.recv(&mut buffer).unwrap_or_else(|error| panic!("datagram {round} of {len} bytes: {error}"));
        let (number, answer) = buffer[..got].split_first().unwrap();
        assert!(
            answer.iter().eq(sent.iter().map(|byte| !byte).collect::<Vec<u8>>().iter()),
            "datagram {round} differs"
        );
        served.insert(*number);
    }
    assert_eq!(served.len(), 1, "a flow stays with its instance");
    served.pop_first().unwrap()
}

/// Sends datagrams of `len` bytes to an echo until one is answered: those that are sent first may be too long for a path that
/// nobody knows yet.
pub fn find_path(client: &UdpSocket, len: usize) {
    let mut buffer = vec![0; 65_536];
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    until(&format!("a datagram of {len} bytes to be answered"), || {
        let sent = client.send(&vec![0; len]);
        client.recv(&mut buffer).map_err(|error| format!("sent {sent:?}, {error}"))
    });
    // Answers to the others that are under way.
    while client.recv(&mut buffer).is_ok() {}
    client.set_read_timeout(Some(PATIENCE)).unwrap();
}

/// Ends the echoes that the clients talk to.
pub fn end(clients: Vec<UdpSocket>, echoes: Vec<thread::JoinHandle<()>>) {
    for client in clients {
        // What became of an earlier datagram is told once, in the place of sending.
        until("the end to be sent", || client.send(END));
    }
    echoes.into_iter().for_each(|echo| echo.join().unwrap());
}
