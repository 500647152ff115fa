//! Containers that share a node, a service or a port: nobody disturbs anybody.

use crate::stage::{PROGRAM, S, S_V6, Stage, at, instance, sockets};
use acorn_tests::example::answers;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};

#[test]
fn two_containers_with_equal_port_pairs_keep_their_connections_apart() {
    let stage = Stage::new();
    let (second, _) = stage.attached(&stage.w2, "app.ns.second.ns", "second");
    let clients = [sockets(&stage.machines.client), sockets(&second)];
    let servers = [&stage.machines.s1, &stage.machines.s2].map(|s| sockets(s).listen(7000).unwrap());

    // Each client has one connection to S1 and one to S2, all four from port 40000 or 40001 to port 7000.
    for (service_ip, port) in [(S, 40_000), (S_V6, 40_000), (S, 40_001), (S_V6, 40_001)] {
        let pairs: Vec<_> = clients
            .iter()
            .map(|client| client.connect_from(port, at(service_ip, 7000)).unwrap())
            .enumerate()
            .map(|(index, mut dialled)| {
                write!(dialled, "client {index} from {port}.").unwrap();
                (index, dialled)
            })
            .collect();
        // Round robin sent them to different instances; which, does not matter.
        let mut accepted: Vec<(String, TcpStream)> = servers.iter().map(accept).collect();
        accepted.sort_by(|a, b| a.0.cmp(&b.0));
        for ((index, mut dialled), (said, mut answer)) in pairs.into_iter().zip(accepted) {
            assert_eq!(said, format!("client {index} from {port}."));
            write!(answer, "answer to {index}.").unwrap();
            assert_eq!(sentence(&mut dialled), format!("answer to {index}."));
        }
    }
}

#[test]
fn two_containers_with_equal_port_pairs_reach_the_same_instance() {
    let stage = Stage::new();
    let (second, _) = stage.attached(&stage.w2, "app.ns.second.ns", "second");
    let s1 = instance(&stage.service, 1);
    let server = sockets(&stage.machines.s1).listen(7000).unwrap();
    for ip in [IpAddr::from(s1.instance_ip), IpAddr::from(s1.instance_ip_v6)] {
        let mut connections = Vec::new();
        for (index, container) in [&stage.machines.client, &second].into_iter().enumerate() {
            let mut dialled = sockets(container).connect_from(40_000, at(ip, 7000)).unwrap();
            write!(dialled, "client {index}.").unwrap();
            let (said, answer) = accept(&server);
            assert_eq!(said, format!("client {index}."));
            connections.push((dialled, answer));
        }
        // Both live on side by side.
        for (index, (dialled, answer)) in connections.iter_mut().enumerate() {
            write!(answer, "still {index}.").unwrap();
            assert_eq!(sentence(dialled), format!("still {index}."));
        }
    }
}

#[test]
fn two_containers_of_one_node_talk_through_the_service_ip() {
    let stage = Stage::new();
    let (neighbour, _) = stage.attached(&stage.w1, "app.ns.neighbour.ns", "neighbour");
    for service_ip in [S, S_V6] {
        let names = answers(&neighbour, &PROGRAM, &at(service_ip, 80).to_string(), 8).unwrap();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        let ping = ["ping", "-n", "-c", "2", "-i", "0.1", "-W", "2", &service_ip.to_string()];
        assert!(neighbour.run(ping).unwrap().contains(" 2 received"));
    }
}

#[test]
fn an_instance_that_dials_its_own_service_reaches_itself_and_its_sibling() {
    let stage = Stage::new();
    for service_ip in [S, S_V6] {
        let container = &stage.machines.s1;
        let names = answers(container, &PROGRAM, &at(service_ip, 80).to_string(), 6).unwrap();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        assert!(names.contains(&"S1".to_owned()), "{names:?}");
    }
    // What it sees of itself is what it would see of a client elsewhere: an instance IP.
    let s1 = instance(&stage.service, 1);
    let server = sockets(&stage.machines.s1).listen(7000).unwrap();
    let mut dialled = sockets(&stage.machines.s1).connect(at(s1.instance_ip, 7000)).unwrap();
    write!(dialled, "to myself.").unwrap();
    let (said, answer) = accept(&server);
    assert_eq!(said, "to myself.");
    let peer = answer.peer_addr().unwrap().ip().to_canonical();
    assert_eq!(peer, IpAddr::from(s1.instance_ip));
}

#[test]
fn processes_on_the_machines_themselves_use_service_ips() {
    let stage = Stage::new();
    // On the machine of S, and on another one.
    for machine in [&stage.machines.w1, &stage.machines.w2] {
        for service_ip in [S, S_V6] {
            let names = answers(machine, &PROGRAM, &at(service_ip, 80).to_string(), 4).unwrap();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
            let ping = ["ping", "-n", "-c", "2", "-i", "0.1", "-W", "2", &service_ip.to_string()];
            assert!(machine.run(ping).unwrap().contains(" 2 received"));
        }
    }
}

#[test]
fn port_65535_works_on_both_ends() {
    let stage = Stage::new();
    let server = sockets(&stage.machines.s1).listen(65_535).unwrap();
    let s1 = instance(&stage.service, 1);
    for ip in [IpAddr::from(s1.instance_ip), IpAddr::from(s1.instance_ip_v6)] {
        let client = sockets(&stage.machines.client);
        let mut dialled = client.connect_from(65_535, at(ip, 65_535)).unwrap();
        write!(dialled, "the last port.").unwrap();
        let (said, mut answer) = accept(&server);
        assert_eq!(said, "the last port.");
        assert_eq!(answer.peer_addr().unwrap().port(), 65_535);
        write!(answer, "heard.").unwrap();
        assert_eq!(sentence(&mut dialled), "heard.");
        // The client's end first, so that it keeps no port of the server's in TIME-WAIT.
        drop(dialled);

        let (listening, asking) =
            (sockets(&stage.machines.s1).udp(ip.is_ipv6(), 65_535).unwrap(), client.udp(ip.is_ipv6(), 65_535).unwrap());
        asking.send_to(b"a datagram", at(ip, 65_535)).unwrap();
        let mut buffer = [0; 64];
        let (len, from) = listening.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from.port()), (&b"a datagram"[..], 65_535));
        listening.send_to(b"its answer", from).unwrap();
        let (len, from) = asking.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from), (&b"its answer"[..], at(ip, 65_535)));
    }
}

/// The next connection, and the first sentence on it.
fn accept(server: &TcpListener) -> (String, TcpStream) {
    let (mut accepted, _) = server.accept().unwrap();
    (sentence(&mut accepted), accepted)
}

/// Reads up to the next full stop.
fn sentence(connection: &mut TcpStream) -> String {
    let mut read = String::new();
    let mut byte = [0];
    while !read.ends_with('.') {
        connection.read_exact(&mut byte).unwrap();
        read.push(char::from(byte[0]));
    }
    read
}
