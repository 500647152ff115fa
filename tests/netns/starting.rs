//! Daemons that cannot start say why, and leave nothing behind.

use crate::footprint::Footprint;
use crate::stage::{Stage, binary, until};
use acorn_tests::acorn::{Acorn, Nodes};
use acorn_tests::example;
use acorn_tests::world::Namespace;
use serde_json::Value;
use std::time::{Duration, Instant};

const ENDPOINT: &str = "192.168.50.1:50103";

#[test]
fn a_token_that_cannot_be_used_is_refused_at_the_start() {
    let stage = Stage::new();
    let machine = machine(&stage);
    let before = Footprint::of(&machine);
    let (good, expired) = (token(&stage.root, "3600"), token(&stage.root, "1"));
    let created = Instant::now();
    let damaged = {
        let mut text: Vec<char> = good.chars().collect();
        let middle = text.len() / 2;
        text[middle] = if text[middle] == 'A' { 'B' } else { 'A' };
        String::from_iter(text)
    };
    until("the second token to expire", || {
        if created.elapsed() > Duration::from_secs(2) { Ok(()) } else { Err("not yet") }
    });
    let cut = &good[..good.len() - 5];
    let newer = good.replacen("acorn1.", "acorn2.", 1);
    for (token, says) in [
        ("hello", "not a join token"),
        (damaged.as_str(), "damaged"),
        (cut, "damaged"),
        (newer.as_str(), "version 2"),
        (expired.as_str(), "expired"),
    ] {
        assert_says(&start(&machine, &["--token", token]), &[says]);
    }
    assert_says(&start(&machine, &["--token-file", "/nowhere"]), &["/nowhere"]);
    assert_says(&start(&machine, &[]), &["acorn token create"]);
    before.assert_same(&machine);
    let nodes: Nodes = stage.root.json(&["node", "ls"]).unwrap();
    assert_eq!(nodes.nodes.len(), 2, "{nodes:?}");
}

#[test]
fn a_token_admits_one_node_and_no_second_one() {
    let stage = Stage::new();
    let machine = machine(&stage);
    let other = stage.world.namespace("other").unwrap();
    stage.machines.underlay.connect(&other, &["192.168.50.14/24"]).unwrap();
    let token = token(&stage.root, "3600");
    let config = |name: &str| format!("[node]\nname = \"{name}\"\ntoken = \"{token}\"\n");
    let first = Acorn::start(&stage.world, &machine, &binary(), "node", "first", &config("first")).unwrap();
    until("the first node to be a member", || match subnet_of(&first) {
        Value::Null => Err("no subnet yet"),
        _ => Ok(()),
    });
    let before = Footprint::of(&other);
    let mut second = Acorn::start(&stage.world, &other, &binary(), "node", "second", &config("second")).unwrap();
    let told = second.refused(["instance", "attach", "--service", "app.ns.S.ns", "--netns", "s1"]).unwrap();
    assert_says(&told, &["no subnet", "manager"]);
    // The root answers a used key as little as any other stranger's: the node says so where people look.
    until("the log of the second node to say what may be wrong", || match log(&stage, "second") {
        log if log.contains("does not answer") && log.contains("token") => Ok(()),
        log => Err(log),
    });
    assert_eq!(subnet_of(&second), Value::Null);
    let nodes: Nodes = stage.root.json(&["node", "ls"]).unwrap();
    assert_eq!(nodes.nodes.len(), 3, "{nodes:?}");
    second.down().unwrap();
    before.assert_same(&other);
}

#[test]
fn a_configuration_with_a_mistake_is_refused_with_its_line() {
    let stage = Stage::new();
    let machine = machine(&stage);
    let before = Footprint::of(&machine);
    let binary = binary().into_os_string().into_string().unwrap();
    for (name, content, says) in [
        ("key.toml", "[daemon]\nlog = \"info\"\n[node]\nsubnets = \"10.18.0.0/26\"\n", &["subnets", "4"]),
        ("table.toml", "[daemons]\n", &["daemons", "1"]),
        ("type.toml", "[root]\n\nlease_s = \"long\"\n", &["lease_s", "3"]),
        ("range.toml", "[root]\nlease_s = 0\n", &["lease_s", "2"]),
        ("syntax.toml", "[node\n", &["syntax.toml", "1"]),
        ("subnet.toml", "[node]\nsubnet = \"10.18.30.64/27\"\n", &["10.18.30.64/27", "2"]),
    ] {
        let path = stage.world.write(name, content).unwrap();
        let checked = machine.refused([&binary, "config", "check", &path]).unwrap();
        assert_says(&checked, says);
        assert_says(&checked, &[name]);
        assert_says(&start(&machine, &["--config", &path]), says);
    }
    let good = stage.world.write("good.toml", "[node]\nsubnet = \"10.18.30.64/26\"\n").unwrap();
    machine.run([&binary, "config", "check", &good]).unwrap();
    before.assert_same(&machine);
}

#[test]
fn a_subnet_that_is_taken_or_outside_the_pool_is_refused_in_words() {
    let stage = Stage::new();
    let machine = machine(&stage);
    assert_says(&start(&machine, &["--subnet", "10.18.30.65/26"]), &["10.18.30.65"]);
    let outside = start(&machine, &["--subnet", "10.99.0.0/26"]);
    assert_says(&outside, &["10.99.0.0/26", "10.18.0.0-10.18.255.255"]);
    // What is taken, only the root knows.
    let token = token(&stage.root, "3600");
    let config = format!("[node]\nname = \"taken\"\ntoken = \"{token}\"\nsubnet = \"{}\"\n", example::SUBNET);
    let (world, binary) = (&stage.world, binary());
    let mut node = Acorn::start(world, &machine, &binary, "node", "taken", &config).unwrap();
    until("the log to tell the reason", || match log(&stage, "taken") {
        log if log.contains("subnet") && log.contains("choose another") => Ok(()),
        log => Err(log),
    });
    assert_eq!(subnet_of(&node), Value::Null);
    node.down().unwrap();
    let nodes: Nodes = stage.root.json(&["node", "ls"]).unwrap();
    assert_eq!(nodes.nodes.len(), 2, "{nodes:?}");
}

#[test]
fn two_daemons_do_not_share_a_state_directory_a_socket_or_a_port() {
    let stage = Stage::new();
    let machine = &stage.machines.w1;
    let before = Footprint::of(machine);
    let token = token(&stage.root, "3600");
    let binary = binary().into_os_string().into_string().unwrap();
    let (state, socket) = (stage.world.inside("w1-state"), stage.world.inside("w1.sock"));
    let line = |state: &str, socket: &str| {
        let line = [&binary, "node", "--token", &token, "--state", state, "--socket", socket];
        machine.refused(line).unwrap()
    };
    assert_says(&line(&state, "/run/other.sock"), &[&state, "another acorn"]);
    assert_says(&line("/run/other-state", &socket), &[&socket]);
    assert_says(&line("/run/other-state", "/run/other.sock"), &["0.0.0.0:50103", "--listen"]);
    before.assert_same(machine);
    stage.answers_again(2);
}

/// One more machine on the underlay.
fn machine(stage: &Stage) -> Namespace {
    let machine = stage.world.namespace("third").unwrap();
    stage.machines.underlay.connect(&machine, &["192.168.50.13/24"]).unwrap();
    machine
}

/// What a node says that cannot start with these flags.
fn start(machine: &Namespace, flags: &[&str]) -> String {
    let binary = binary().into_os_string().into_string().unwrap();
    let line = [&binary, "node", "--state", "/run/third-state", "--socket", "/run/third.sock"];
    machine.refused(line.into_iter().chain(flags.iter().copied())).unwrap()
}

fn token(root: &Acorn, expires: &str) -> String {
    let line = ["token", "create", "--endpoint", ENDPOINT, "--expires", expires];
    root.run(line).unwrap().trim().to_owned()
}

/// What a daemon has logged.
fn log(stage: &Stage, name: &str) -> String {
    let logs = stage.world.logs(usize::MAX).into_iter();
    logs.filter(|(of, _)| of == name).map(|(_, log)| log).collect()
}

fn subnet_of(node: &Acorn) -> Value {
    node.json::<Value>(&["status"]).unwrap()["subnet"].clone()
}

#[track_caller]
fn assert_says(told: &str, says: &[&str]) {
    for text in says {
        assert!(told.contains(text), "{text:?} is not in: {told}");
    }
    assert!(!told.contains("panicked"), "{told}");
}
