//! An instance moves to another node: its instance IP goes with it, its connections end at once, new ones find it.

use crate::stage::{PROGRAM, Stage, at, instance, sockets, until};
use acorn_tests::example::{SERVICE, answers, serve};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

/// No promise, but a person would not call more than this prompt.
const PROMPT: Duration = Duration::from_secs(3);

#[test]
fn a_moved_instance_keeps_its_address_resets_old_connections_and_takes_new_ones() {
    let mut stage = Stage::new();
    let (neighbour, _) = stage.attached(&stage.w1, "app.ns.neighbour.ns", "neighbour");
    let (there, _) = stage.attached(&stage.w2, "app.ns.there.ns", "there");
    let old = instance(&stage.service, 1).clone();
    let ips = [IpAddr::from(old.instance_ip), IpAddr::from(old.instance_ip_v6)];
    // On the node that it goes to, and on the one that it leaves.
    let containers = [&stage.machines.client, &neighbour, &there];
    let mut established: Vec<TcpStream> = Vec::new();
    for (container, ip) in containers.iter().flat_map(|c| ips.map(|ip| (c, ip))) {
        let mut connection = sockets(container).connect(at(ip, 5001)).unwrap();
        connection.write_all(b"some bytes that arrive").unwrap();
        established.push(connection);
    }
    let new = stage.container("s1moved");
    let server = serve(&new, &PROGRAM, "moved").unwrap();
    stage.servers.push(server);

    let moved = Instant::now();
    stage.w2.run(["instance", "attach", "--service", SERVICE, "--number", "1", "--netns", "s1moved"]).unwrap();
    for connection in &mut established {
        let what = format!("{:?}", connection.peer_addr());
        let error = connection.read(&mut [0; 16]).expect_err("a reset, not an end");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{what}: {error}");
    }
    assert!(moved.elapsed() < PROMPT, "{:?}", moved.elapsed());

    let shown = stage.shown();
    let now = instance(&shown, 1);
    assert_eq!((now.instance_ip, now.instance_ip_v6), (old.instance_ip, old.instance_ip_v6));
    assert_eq!(now.node_name.as_deref(), Some("w2"));
    assert_ne!(now.namespace_ip, old.namespace_ip);
    for container in containers {
        for ip in ips {
            let address = at(ip, 80).to_string();
            assert_eq!(answers(container, &PROGRAM, &address, 1).unwrap(), ["moved"], "{address}");
        }
    }
    let names = stage.answers_again(6);
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");

    until("the old interfaces to be gone", || {
        let inside = stage.machines.s1.interfaces().unwrap();
        let outside = stage.machines.w1.run(["ip", "route", "show"]).unwrap();
        let old_ip = old.namespace_ip.unwrap().to_string();
        if inside == ["lo"] && !outside.contains(&old_ip) { Ok(()) } else { Err(format!("{inside:?} {outside}")) }
    });
}

#[test]
fn a_removed_instance_resets_its_connections_and_its_sibling_goes_on() {
    let stage = Stage::new();
    let client = sockets(&stage.machines.client);
    let gone = instance(&stage.service, 2).clone();
    let mut connection = client.connect(at(gone.instance_ip, 5001)).unwrap();
    connection.write_all(b"some bytes that arrive").unwrap();
    stage.answers_again(4);

    let detached = Instant::now();
    stage.w1.run(["instance", "detach", "--service", SERVICE, "--number", "2"]).unwrap();
    let error = connection.read(&mut [0; 16]).expect_err("a reset, not an end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    assert!(detached.elapsed() < PROMPT, "{:?}", detached.elapsed());
    until("all new dials to go to S1", || match stage.answers_again(4) {
        names if names == ["S1"; 4] => Ok(()),
        names => Err(names.join(" ")),
    });
    assert_eq!(stage.machines.s2.interfaces().unwrap(), ["lo"]);
    let error = client.connect(at(gone.instance_ip, 80)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
}
