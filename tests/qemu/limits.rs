//! More than a board has room for. It says so, keeps what is in use, and everybody is served in the end.

use crate::stage::*;
use crate::storms::asked;
use acorn_tests::acorn::{self, Acorn};
use acorn_tests::example;
use acorn_tests::sockets::Sockets;
use acorn_tests::world::{Look, Namespace, wait_until};
use serde_json::Value;
use std::net::UdpSocket;
use std::time::Duration;

/// Nodes whose containers call the board.
const PEERS: u64 = 5;
/// Tunnels that the board has room for.
const TUNNELS: u64 = 4;
/// Tunnels that are never idle here: the manager's, and that to the collector, which the board calls every second.
const IN_USE: u64 = 2;
/// Whoever finds all tunnels taken waits until one has been idle for 10 s, and asks every 5 s; at once there are two turns of that.
const TURNS: Duration = Duration::from_secs(90);

#[test]
fn more_peers_than_tunnels_are_all_served_in_the_end() {
    let stage = Stage::with(&[BOARD_1]);
    let peers: Vec<(Acorn, Namespace)> = (1..=PEERS).map(|number| peer(&stage, number)).collect();
    let callers: Vec<(&str, UdpSocket)> =
        peers.iter().map(|(_, caller)| (caller.name(), Sockets::of(caller, &PROGRAM).udp(false, 0).unwrap())).collect();
    for (name, socket) in &callers {
        served(name, socket);
    }
    let turns = PEERS - (TUNNELS - IN_USE);
    counted(&stage, "peers_evicted", turns);
    counted(&stage, "peers_full", 1);
    std::thread::scope(|scope| {
        for (name, socket) in &callers {
            scope.spawn(|| served(name, socket));
        }
    });
    let reading = counted(&stage, "peers_evicted", 2 * turns);
    assert_eq!((&reading["standing"], &reading["boot"]), (&"joined".into(), &1.into()), "{reading}");
    // Who is in use does not make room.
    let board = &stage.boards[0];
    assert!(board.count("answered by") > 10, "{}", board.log());
    for trouble in ["failed so far", "manager does not answer"] {
        assert_eq!(board.count(trouble), 0, "{}", board.log());
    }
    assert!(board.count("full so far: table 0, interests 0, flows 0, tunnels") > 0, "{}", board.log());
}

/// A Linux node with a container on it.
fn peer(stage: &Stage, number: u64) -> (Acorn, Namespace) {
    let machine = stage.world.namespace(&format!("peer{number}")).unwrap();
    stage.underlay.connect(&machine, &[&format!("192.168.50.{}/24", 30 + number)]).unwrap();
    let binary = acorn::binary().unwrap();
    let node = example::join_over(&stage.world, &stage.root, &machine, &binary, None, ENDPOINT, "").unwrap();
    let container = stage.world.namespace(&format!("caller{number}")).unwrap();
    node.run(["instance", "attach", "--service", "farm.prod.client.prod", "--netns", container.name()]).unwrap();
    (node, container)
}

/// A reading in which a counter is so high. Readings may be 100 ms old.
fn counted(stage: &Stage, name: &str, least: u64) -> Value {
    until(&format!("{name} to be {least}"), || {
        let reading = stage.reading(TELEMETRY_IP)?;
        if counter(&reading, name) >= least { Ok(reading) } else { Err(reading.to_string()) }
    })
}

/// Waits until a container is answered by the board.
fn served(name: &str, socket: &UdpSocket) {
    let look = || Ok(asked(socket, b"?").map_or_else(Look::NotYet, Look::Holds));
    wait_until(&format!("{name} to be served"), TURNS, look).unwrap();
}
