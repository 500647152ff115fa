//! A path between two nodes that carries less than they expect: the overlay becomes narrower, and below its least MTU the outer
//! datagrams are cut.

use crate::datagrams::{Cutting, path_mtu, set_cutting};
use crate::fragments::{connected, echoes, end, exchange, find_path};
use crate::stage::{PROGRAM, S, S_V6, Stage, at, counter, sockets, until};
use acorn_tests::capture::Capture;
use acorn_tests::example::{ENDPOINT, MACHINES, answers, serve, transfer};
use acorn_tests::traffic::MARKER;
use acorn_tests::world::Router;
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use std::net::{IpAddr, Ipv4Addr};

/// The service IP of the client in the reference example.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 30, 0, 4));
/// What fits an underlay of 1,400 bytes: less 60 bytes of headers over IPv4, 80 over IPv6, rounded down to 16.
const NARROW: i32 = 1328;
const NARROW_V6: i32 = 1312;
/// A socket for both families of the underlay.
const DUAL: &str = "listen = \"[::]:50103\"\n";

#[test]
fn tcp_is_whole_over_a_path_of_1400_bytes_in_both_directions() {
    let (stage, _router) = behind_router(1400);
    let machines = &stage.machines;
    let _sink = serve(&machines.client, &PROGRAM, "client").unwrap();
    transfer(&machines.client, &PROGRAM, &S.to_string(), 20).unwrap();
    transfer(&machines.client, &PROGRAM, "[fdff:2000::1]", 20).unwrap();
    transfer(&machines.s1, &PROGRAM, &CLIENT.to_string(), 20).unwrap();
}

#[test]
fn a_new_tcp_connection_begins_with_segments_that_fit() {
    let (stage, _router) = behind_router(1400);
    learn(&stage);
    // A container that has never heard of any path's MTU.
    let (second, _) = stage.attached(&stage.w2, "app.ns.second.ns", "second");
    let listening = [&stage.machines.s1, &stage.machines.s2].map(|s| sockets(s).listen(7001).unwrap());
    listening.iter().for_each(|server| server.set_nonblocking(true).unwrap());
    for (service_ip, headers) in [(S, 40), (S_V6, 60)] {
        let dialled = sockets(&second).connect(at(service_ip, 7001)).unwrap();
        let accepted = until("the connection", || listening.iter().find_map(|s| s.accept().ok()).ok_or("nothing")).0;
        for end in [&dialled, &accepted] {
            let segment = getsockopt(end, sockopt::TcpMaxSeg).unwrap();
            // 12 bytes of time stamps (RFC 7323), if they are used.
            assert!(segment <= (NARROW - headers) as u32, "{service_ip}: {segment}");
            assert!(segment >= (NARROW - headers - 12) as u32, "{service_ip}: {segment}");
        }
    }
}

#[test]
fn a_sender_of_datagrams_that_must_not_be_cut_is_told_what_fits() {
    let (stage, _router) = behind_router(1400);
    learn(&stage);
    for service_ip in [S, S_V6] {
        let echoes = echoes(&stage, service_ip.is_ipv6());
        let clients: Vec<_> = (0..2).map(|_| connected(&stage.machines.client, service_ip)).collect();
        let headers = if service_ip.is_ipv4() { 28 } else { 48 };
        for client in &clients {
            set_cutting(client, Cutting::Forbidden);
            let error = client.send(&[0; 1400]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::EMSGSIZE as i32), "{error}");
            // What fits goes through, to the last byte.
            find_path(client, NARROW as usize - headers - 1);
            exchange(client, 5, NARROW as usize - headers - 1);
        }
        end(clients, echoes);
    }
}

#[test]
fn datagrams_that_may_be_cut_are_cut_to_what_fits() {
    let (stage, _router) = behind_router(1400);
    learn(&stage);
    // A container that has never heard of any path's MTU: what it sends is longer than the path, but not than its own interface.
    let (second, _) = stage.attached(&stage.w2, "app.ns.second.ns", "second");
    for service_ip in [S, S_V6] {
        let echoes = echoes(&stage, service_ip.is_ipv6());
        let clients: Vec<_> = (0..2).map(|_| connected(&second, service_ip)).collect();
        for client in &clients {
            if service_ip.is_ipv4() {
                set_cutting(client, Cutting::Allowed);
                // The answer is not to be cut, as its sender learns.
                find_path(client, 1400);
                let before = counter(&stage.w2, "packets_fragmented");
                exchange(client, 10, 1400);
                assert_eq!(counter(&stage.w2, "packets_fragmented") - before, 10);
            }
            find_path(client, 8000);
            exchange(client, 10, 8000);
        }
        end(clients, echoes);
    }
}

#[test]
fn below_the_least_mtu_everything_goes_on_in_fragments_of_the_underlay() {
    let (mut stage, router) = behind_router(1400);
    learn(&stage);
    router.set_mtu(1000).unwrap();
    // On all its interfaces, because one with so small an MTU has no IPv6, which the capture's end needs.
    let capture = Capture::start(&stage.world, router.namespace(), "router", "any", &PROGRAM).unwrap();

    // A handshake and the tables get through, too.
    stage.w2.kill().unwrap();
    stage.w2.restart("w2").unwrap();
    stage.answers_again(4);
    everything_passes(&stage);
    let seen = capture.finish(MARKER).unwrap();
    assert!(seen.other.get("IPv4 fragment").is_some_and(|&count| count > 1000), "{seen:?}");
    assert_eq!(seen.readable, 0);
}

#[test]
fn an_underlay_of_ipv6_is_no_different() {
    let (stage, router) = place_router(Stage::over(DUAL, "[2001:db8:50::1]:50103", DUAL), 1400);
    learn_to_be(&stage, NARROW_V6);
    everything_passes(&stage);
    // 1,280 bytes do not fit any more, and are cut by their sender: over IPv6 nobody else may.
    router.set_mtu(1300).unwrap();
    let capture = Capture::start(&stage.world, router.namespace(), "router", "any", &PROGRAM).unwrap();
    everything_passes(&stage);
    let seen = capture.finish(MARKER).unwrap();
    // The fragment header (RFC 8200 section 4.5).
    assert!(seen.other.get("IPv6 protocol 44").is_some_and(|&count| count > 1000), "{seen:?}");
}

#[test]
fn an_ipv6_socket_that_sends_over_ipv4_is_no_different() {
    let (stage, router) = place_router(Stage::over(DUAL, ENDPOINT, DUAL), 1400);
    learn_to_be(&stage, NARROW);
    everything_passes(&stage);
    router.set_mtu(1000).unwrap();
    everything_passes(&stage);
}

/// Sends in both directions whatever is short and whatever is long.
fn everything_passes(stage: &Stage) {
    let machines = &stage.machines;
    let _sink = serve(&machines.client, &PROGRAM, "client").unwrap();
    for (service_ip, host) in [(S, "10.30.0.1"), (S_V6, "[fdff:2000::1]")] {
        answers(&machines.client, &PROGRAM, &at(service_ip, 80).to_string(), 4).unwrap();
        transfer(&machines.client, &PROGRAM, host, 5).unwrap();
        let echoes = echoes(stage, service_ip.is_ipv6());
        let clients: Vec<_> = (0..2).map(|_| connected(&machines.client, service_ip)).collect();
        for client in &clients {
            for len in [1200, 8000] {
                find_path(client, len);
                exchange(client, 10, len);
            }
        }
        end(clients, echoes);
    }
    transfer(&machines.s1, &PROGRAM, &CLIENT.to_string(), 5).unwrap();
}

/// The reference example with a router between the client's node and the others. The link to the client's node has this MTU, and no other knows.
fn behind_router(mtu: u16) -> (Stage, Router) {
    place_router(Stage::new(), mtu)
}

fn place_router(stage: Stage, mtu: u16) -> (Stage, Router) {
    let machines = &stage.machines;
    let (_, ipv4, ipv6) = MACHINES[2];
    let router = machines
        .underlay
        .move_behind_router(
            &stage.world,
            &machines.w2,
            [ipv4, ipv6],
            ["192.168.50.254", "2001:db8:50::fe"],
            &[&machines.root, &machines.w1],
        )
        .unwrap();
    router.set_mtu(mtu).unwrap();
    stage.answers_again(2);
    (stage, router)
}

/// Lets both nodes find out what the path carries: what is sent first is too long for it.
fn learn(stage: &Stage) {
    learn_to_be(stage, NARROW);
}

fn learn_to_be(stage: &Stage, narrow: i32) {
    let machines = &stage.machines;
    for (from, to) in [(&machines.client, S), (&machines.client, S_V6), (&machines.s1, CLIENT)] {
        let socket = sockets(from).udp(to.is_ipv6(), 0).unwrap();
        // The port "discard" (RFC 863), where nobody listens.
        socket.connect(at(to, 9)).unwrap();
        set_cutting(&socket, Cutting::Forbidden);
        until(&format!("the path to {to} to be known"), || {
            // Fits the interface of every container here, but not the path.
            let sent = socket.send(&[0; 1360]);
            let believed = path_mtu(&socket);
            if believed == narrow { Ok(()) } else { Err(format!("{believed} bytes, sent {sent:?}")) }
        });
    }
}
