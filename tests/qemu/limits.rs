//! More than a board has room for. It says so, keeps what is in use, and everybody is served in the end.

use crate::stage::*;
use crate::storms::asked;
use acorn_tests::acorn::{self, Acorn};
use acorn_tests::example;
use acorn_tests::sockets::Sockets;
use acorn_tests::world::{Look, Namespace, wait_until};
use serde_json::Value;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Nodes whose containers call the board.
const PEERS: u64 = 5;
/// Flows that the board has room for, and sources that call it.
const FLOWS: u64 = 128;
const SOURCES: u64 = 200;
/// Services that it has room for.
const SERVICES: u64 = 16;
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

#[test]
fn more_flows_than_fit_end_none_that_is_open() {
    let stage = Stage::with(&[BOARD_1]);
    // Each with a port of its own: sockets that may reuse an address can be given the same one.
    let sockets: Vec<UdpSocket> =
        (0..SOURCES).map(|n| stage.sockets().udp(false, 20_000 + n as u16).unwrap()).collect();
    let mut open = stage.sockets().connect(SocketAddr::new(TELEMETRY_IP, 80)).unwrap();
    open.write_all(b"GET /reading HTTP/1.1\r\n").unwrap();
    for socket in &sockets {
        until("an answer to another source", || asked(socket, b"?"));
    }
    open.write_all(b"\r\n").unwrap();
    let answer = std::io::read_to_string(open).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let reading = counted(&stage, "flows_evicted", SOURCES - FLOWS);
    assert!(counter(&reading, "flows") <= FLOWS, "{reading}");
    let board = &stage.boards[0];
    assert!(board.log().lines().any(|line| says_full(line, "flows")), "{}", board.log());
    assert_eq!(board.count("failed so far"), 0, "{}", board.log());
    assert_eq!((&reading["standing"], &reading["boot"]), (&"joined".into(), &1.into()), "{reading}");
}

#[test]
fn more_services_than_fit_keep_those_that_are_there_and_have_their_turn() {
    let stage = Stage::with(&[BOARD_1]);
    stage.reading_at_last(TELEMETRY_IP);
    let callers: Vec<Namespace> = (0..SERVICES).map(|number| caller(&stage, number)).collect();
    // The board has to know whom it answers. Its own service, the collector and the client are there already, so some find no room until
    // the connections of others have ended.
    for caller in &callers {
        let look = || Ok(reading_in(caller).map_or_else(Look::NotYet, Look::Holds));
        let reading = wait_until(&format!("{} to be served", caller.name()), TURNS, look).unwrap();
        assert!(counter(&reading, "services") <= SERVICES, "{reading}");
    }
    let reading = counted(&stage, "table_full", 1);
    assert_eq!((&reading["standing"], &reading["boot"]), (&"joined".into(), &1.into()), "{reading}");
    let board = &stage.boards[0];
    assert!(board.log().lines().any(|line| says_full(line, "table")), "{}", board.log());
    assert_eq!(board.count("failed so far"), 0, "{}", board.log());
}

/// A container of the Linux node that is the only instance of a service of its own.
fn caller(stage: &Stage, number: u64) -> Namespace {
    let (name, service) = (format!("caller{number}"), format!("farm.prod.caller{number}.prod"));
    let container = stage.world.namespace(&name).unwrap();
    stage.root.run(["service", "create", "--name", &service]).unwrap();
    stage.linux.run(["instance", "attach", "--service", &service, "--netns", &name]).unwrap();
    container
}

/// A reading of the board over TCP that a container asks for.
fn reading_in(container: &Namespace) -> Result<Value, String> {
    let connection = Sockets::of(container, &PROGRAM).connect(SocketAddr::new(TELEMETRY_IP, READINGS));
    let line = std::io::read_to_string(connection.map_err(|error| error.to_string())?);
    let line = line.map_err(|error| error.to_string())?;
    serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}"))
}

/// Whether a line of the board's log says that something has been full.
fn says_full(line: &str, what: &str) -> bool {
    let count =
        line.split_once("full so far: ").and_then(|(_, all)| all.split_once(&format!("{what} "))?.1.split(',').next());
    count.is_some_and(|count| count.trim() != "0")
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
