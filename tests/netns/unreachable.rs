//! What cannot be reached fails fast and by name, instead of hanging; and who has no address here is not carried.

use crate::stage::{S, S_V6, Stage, at, drops, refused_sources, sockets, until_refused};
use acorn_tests::world::Namespace;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// The promise is 1 s from the dial to the error. Twice that: starting a program in a namespace and a busy machine count.
const PROMISED: Duration = Duration::from_secs(2);
/// Service IPs that belong to no service.
const NOBODY: [&str; 2] = ["10.30.9.9", "fdff:2000::99"];

#[test]
fn a_dial_of_an_unknown_service_ip_gets_no_route_to_host_within_a_second() {
    let stage = Stage::new();
    let client = sockets(&stage.machines.client);
    for ip in NOBODY {
        let to: SocketAddr = at(ip.parse::<IpAddr>().unwrap(), 80);
        // The second dial meets the remembered negative answer.
        for _ in 0..2 {
            let dialled = Instant::now();
            let error = client.connect(to).unwrap_err();
            let waited = dialled.elapsed();
            assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{to}: {error}");
            assert!(waited < PROMISED, "{to}: {waited:?}");
        }
    }
    assert!(drops(&stage.w2, "unknown_service") >= 4);
}

#[test]
fn a_ping_of_an_unknown_service_ip_is_answered_unreachable_by_the_address_itself() {
    let stage = Stage::new();
    for ip in NOBODY {
        let started = Instant::now();
        let line = ["ping", "-n", "-c", "1", "-W", "5", ip];
        let output = stage.machines.client.output(&line).unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let line = text.lines().find(|line| line.to_lowercase().contains("unreachable"));
        assert!(line.is_some_and(|line| line.contains(ip)), "{text}");
        assert!(started.elapsed() < PROMISED, "{:?}", started.elapsed());
    }
}

#[test]
fn a_connected_udp_socket_hears_that_nobody_has_its_service_ip() {
    let stage = Stage::new();
    for ip in NOBODY {
        let ip: IpAddr = ip.parse().unwrap();
        let socket = sockets(&stage.machines.client).udp(ip.is_ipv6(), 0).unwrap();
        socket.connect(at(ip, 7)).unwrap();
        let sent = Instant::now();
        socket.send(b"anybody there?").unwrap();
        let error = socket.recv(&mut [0; 64]).unwrap_err();
        // Linux passes ICMP code 13 (IPv4) and code 1 (IPv6) on to the socket.
        assert!(matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::PermissionDenied), "{ip}: {error}");
        assert!(sent.elapsed() < PROMISED, "{:?}", sent.elapsed());
    }
}

#[test]
fn a_port_that_nobody_listens_on_is_refused_by_the_instance_itself() {
    let stage = Stage::new();
    for service_ip in [S, S_V6] {
        let error = sockets(&stage.machines.client).connect(at(service_ip, 81)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    }
}

#[test]
fn a_packet_with_a_foreign_source_does_not_get_out_of_its_container() {
    let stage = Stage::new();
    let client = &stage.machines.client;
    for (ip, prefix, to) in [("10.99.0.1", 32, S), ("fd99::1", 128, S_V6)] {
        let before = refused_sources(&stage.w2);
        add_address(client, &format!("{ip}/{prefix}"));
        let line = ["ping", "-n", "-c", "3", "-i", "0.1", "-W", "1", "-I", ip, &to.to_string()];
        let output = client.output(&line).unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(" 0 received"), "{text}");
        until_refused(&stage.w2, before, 3);
    }
    // The rightful address of the same container goes on working.
    let mut connection = sockets(client).connect(at(S, 80)).unwrap();
    std::io::Write::write_all(&mut connection, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn add_address(container: &Namespace, address: &str) {
    let nodad = address.contains(':').then_some("nodad");
    container.run(["ip", "address", "add", address, "dev", "acorn"].into_iter().chain(nodad)).unwrap();
}
