//! Instances that are taken out gently: what flows goes on, nothing new comes.

use crate::stage::{PROGRAM, S, S_V6, Stage, at, sockets, until};
use acorn_tests::acorn::Acorn;
use acorn_tests::example::{SERVICE, answers};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

#[test]
fn a_draining_instance_keeps_its_connections_and_gets_no_new_ones_until_it_drains_no_more() {
    let mut stage = Stage::new();
    // Two connections per family, one to each instance.
    let servers = [&stage.machines.s1, &stage.machines.s2].map(|s| sockets(s).listen(7000).unwrap());
    let client = sockets(&stage.machines.client);
    let mut connections = Vec::new();
    for ip in [S, S_V6] {
        let dialled = [(); 2].map(|()| client.connect(at(ip, 7000)).unwrap());
        let mut accepted: Vec<TcpStream> = servers.iter().map(|server| server.accept().unwrap().0).collect();
        for dialled in dialled {
            let port = dialled.local_addr().unwrap().port();
            let place = accepted.iter().position(|answer| answer.peer_addr().unwrap().port() == port);
            connections.push((dialled, accepted.swap_remove(place.expect("each connection has its other end"))));
        }
    }
    goes_on(&connections, "before");

    set(&stage.w1, &["--draining", "true", "--weight", "3", "--load", "250"]);
    until_known(&stage.w2, json!({"weight": 3, "priority": 0, "load": 250, "draining": true}));
    only_s2_answers(&stage);
    goes_on(&connections, "while S1 drains");

    // The root remembers it; a load is as old as its report.
    stage.root.kill().unwrap();
    stage.root.restart("root").unwrap();
    until_known(&stage.w2, json!({"weight": 3, "priority": 0, "load": 0, "draining": true}));
    let shown = stage.root.run(["service", "show", SERVICE]).unwrap();
    assert!(shown.lines().any(|line| line.contains("10.30.0.2 ") && line.ends_with("draining")), "{shown}");
    only_s2_answers(&stage);
    goes_on(&connections, "after the root's restart");

    set(&stage.w1, &["--draining", "false"]);
    until_known(&stage.w2, json!({"weight": 3, "priority": 0, "load": 0, "draining": false}));
    for ip in [S, S_V6] {
        let names = answers(&stage.machines.client, &PROGRAM, &at(ip, 80).to_string(), 6).unwrap();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
    goes_on(&connections, "afterwards");
}

#[test]
fn an_instance_is_attached_as_it_is_to_be_picked_and_set_where_it_runs() {
    let stage = Stage::new();
    stage.w1.run(["instance", "detach", "--service", SERVICE, "--number", "1"]).unwrap();
    let attach = ["instance", "attach", "--service", SERVICE, "--number", "1", "--netns", "s1"];
    stage.w1.run(attach.into_iter().chain(["--weight", "5", "--priority", "2"])).unwrap();
    until_known(&stage.root, json!({"weight": 5, "priority": 2, "load": 0, "draining": false}));

    let elsewhere = ["instance", "set", "--service", SERVICE, "--number", "1", "--weight", "7"];
    let refused = stage.w2.refused(elsewhere).unwrap();
    assert!(refused.contains("app.ns.S.ns instance 1 is not attached to this node"), "{refused}");
    until_known(&stage.root, json!({"weight": 5, "priority": 2, "load": 0, "draining": false}));
}

/// Sets something of S1.
fn set(node: &Acorn, what: &[&str]) {
    let command = ["instance", "set", "--service", SERVICE, "--number", "1"];
    node.run(command.into_iter().chain(what.iter().copied())).unwrap();
}

/// Waits until a node, or the root, knows how S1 is to be picked.
fn until_known(who: &Acorn, expected: Value) {
    until(&format!("S1 to be known as {expected}"), || {
        let shown = who.json(&["service", "show", SERVICE]).or_else(|_| who.json(&["table"]));
        let shown: Value = shown.map_err(|error| error.to_string())?;
        let services = shown["services"].as_array().cloned().unwrap_or_else(|| vec![shown.clone()]);
        let mut s1 = services.iter().filter(|service| service["name"] == SERVICE);
        let mut s1 = s1.next().and_then(|s| s["instances"].as_array()).into_iter().flatten();
        let s1 = s1.find(|instance| instance["number"] == 1).ok_or_else(|| shown.to_string())?;
        let is = json!({
            "weight": s1["weight"], "priority": s1["priority"], "load": s1["load"], "draining": s1["draining"],
        });
        if is == expected { Ok(()) } else { Err(is.to_string()) }
    });
}

fn only_s2_answers(stage: &Stage) {
    for ip in [S, S_V6] {
        let names = answers(&stage.machines.client, &PROGRAM, &at(ip, 80).to_string(), 6).unwrap();
        assert_eq!(names, ["S2"; 6]);
    }
}

/// Says a word in both directions of all connections.
fn goes_on(connections: &[(TcpStream, TcpStream)], word: &str) {
    for (dialled, accepted) in connections {
        for (mut from, mut to) in [(dialled, accepted), (accepted, dialled)] {
            from.write_all(word.as_bytes()).unwrap();
            let mut heard = vec![0; word.len()];
            to.read_exact(&mut heard).unwrap();
            assert_eq!(heard, word.as_bytes());
        }
    }
}
