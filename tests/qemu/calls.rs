//! Everybody calls everybody: Linux a board, a board Linux, a board a board, and one address that has an instance of each.

use crate::stage::*;
use acorn_tests::acorn::Nodes;
use acorn_tests::board::Plan;
use acorn_tests::example;
use std::net::{IpAddr, SocketAddr};

#[test]
fn a_board_is_a_service_like_any_other() {
    let mut stage = Stage::with(&[BOARD_1]);
    let instance = stage.attached(0);
    for address in [TELEMETRY_IP, instance] {
        let at = address.to_string();
        stage.client.run(["ping", "-c", "3", "-i", "0.2", "-W", "5", &at]).unwrap();
        let reading = stage.reading(address).unwrap();
        assert_eq!(reading["name"], "board1");
        assert_eq!(reading["standing"], "joined");
        assert_eq!(over_udp(&stage, address)["name"], "board1");
        let page = example::answers(&stage.client, &PROGRAM, &format!("{address}:80"), 1).unwrap();
        assert!(page[0].contains("<title>board1</title>"), "{page:?}");
    }
    // Over IPv6 the same, address for address.
    let service = stage.root.run(["service", "show", TELEMETRY]).unwrap();
    let v6 = service.split_whitespace().find(|word| word.starts_with("fdff:2000:")).expect("an IPv6 address");
    stage.client.run(["ping", "-c", "3", "-i", "0.2", "-W", "5", v6]).unwrap();
    assert_eq!(stage.reading(v6.parse().unwrap()).unwrap()["name"], "board1");
    // What is no request is answered as such, and the next client finds it serving.
    let answer =
        stage.client.output(&["curl", "--silent", "-o", "/dev/null", "-w", "%{http_code}", "http://10.30.0.1/nothing"]);
    assert_eq!(String::from_utf8_lossy(&answer.unwrap().stdout), "404");
    // The operator sees it like any node.
    let nodes: Nodes = stage.nodes();
    assert!(nodes.nodes.iter().any(|node| node.name == "board1" && node.alive), "{nodes:?}");
}

#[test]
fn a_board_that_calls_a_service_gets_its_instances_in_turn() {
    let mut stage = Stage::with(&[BOARD_1]);
    let calls = 8;
    stage.boards[0].wait_for("answered by", calls, PATIENCE).unwrap();
    let log = stage.boards[0].log();
    let answered: Vec<&str> =
        log.lines().filter_map(|line| line.split("answered by ").nth(1)?.split_whitespace().next()).collect();
    assert_eq!(log.matches("failed so far").count(), 0, "{log}");
    let (first, second) = (answered[0], answered[1]);
    assert!([first, second] == ["c1", "c2"] || [first, second] == ["c2", "c1"], "{answered:?}");
    let alternating: Vec<&str> = [first, second].into_iter().cycle().take(answered.len()).collect();
    assert_eq!(answered, alternating);
}

#[test]
fn boards_call_each_other() {
    let mut stage = Stage::with(&[BOARD_1]);
    let first = stage.attached(0);
    let call = format!("{first}:80");
    stage.add(&Plan { call: Some((&call, 1)), ..BOARD_2 });
    // It posts, and a page is not posted to: the answer is a refusal, but it is the other board's answer.
    stage.boards[1].wait_for("the answer is a refusal", 3, PATIENCE).unwrap();
}

#[test]
fn one_address_has_an_instance_on_linux_and_one_on_a_board() {
    let mut stage = Stage::with(&[BOARD_1]);
    let container = stage.world.namespace("t1").unwrap();
    stage.linux.run(["instance", "attach", "--service", TELEMETRY, "--netns", "t1"]).unwrap();
    stage.servers.push(example::serve(&container, &PROGRAM, "t1").unwrap());
    let both = || {
        let answers = example::answers(&stage.client, &PROGRAM, &format!("{TELEMETRY_IP}:80"), 8)
            .map_err(|error| error.to_string())?;
        let is_board: Vec<bool> = answers.iter().map(|answer| answer.contains("board1")).collect();
        if is_board.contains(&true) && is_board.contains(&false) {
            Ok((answers, is_board))
        } else {
            Err(format!("{answers:?}"))
        }
    };
    // The client learns of the new instance a moment after it is attached.
    until("both to answer", both);
    let (answers, is_board) = both().unwrap();
    assert!(is_board.windows(2).all(|pair| pair[0] != pair[1]), "in turn: {answers:?}");
}

/// A reading over UDP.
fn over_udp(stage: &Stage, address: IpAddr) -> serde_json::Value {
    let socket = stage.sockets().udp(address.is_ipv6(), 0).unwrap();
    socket.connect(SocketAddr::new(address, READINGS)).unwrap();
    socket.send(b"?").unwrap();
    let mut reading = [0; 1500];
    let len = socket.recv(&mut reading).unwrap();
    serde_json::from_slice(&reading[..len]).unwrap()
}
