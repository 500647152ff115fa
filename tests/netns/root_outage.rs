//! `kill -9` of the root: what is known goes on, what is new fails clearly, and everything heals when it returns.

use crate::footprint::Footprint;
use crate::stage::{PROGRAM, S, S_V6, Stage, at, attach, sockets, until, until_alive};
use acorn_tests::example::{SERVICE, answers, serve};
use serde_json::Value;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// The promise is 1 s from the dial to the error; twice that on a busy machine.
const PROMISED: Duration = Duration::from_secs(2);

#[test]
fn without_the_root_known_services_go_on_new_ones_fail_clearly_and_all_heals() {
    let mut stage = Stage::new();
    let (unknown, attached) = stage.attached(&stage.w1, "app.ns.unknown.ns", "unknown");
    let _server = serve(&unknown, &PROGRAM, "U").unwrap();
    let unknown_ip = attached.instance_ip;
    let client = stage.machines.client.clone();
    stage.answers_again(2);
    let spare = stage.container("spare");
    let untouched = [Footprint::of(&stage.machines.w1), Footprint::of(&spare)];

    stage.root.kill().unwrap();
    let known = |service_ip| {
        let names = answers(&client, &PROGRAM, &at(service_ip, 80).to_string(), 10).unwrap();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    };
    let fails = || {
        let dialled = Instant::now();
        let error = sockets(&client).connect(at(unknown_ip, 80)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
        assert!(dialled.elapsed() < PROMISED, "{:?}", dialled.elapsed());
    };
    known(S);
    known(S_V6);
    fails();

    // Also after the node has noticed.
    until("the client's node to miss its manager", || {
        let status: Value = stage.w2.json(&["status"]).map_err(|error| error.to_string())?;
        match status["managers"][0]["connected"] {
            Value::Bool(false) => Ok(()),
            _ => Err(status["managers"].to_string()),
        }
    });
    known(S);
    known(S_V6);
    fails();
    let told = stage.w1.refused(["instance", "attach", "--service", SERVICE, "--netns", "spare"]).unwrap();
    assert!(told.contains("manager") && told.contains("try again"), "{told}");
    untouched[0].assert_same(&stage.machines.w1);
    // The attempt set up `lo`, which was up before.
    untouched[1].assert_same(&spare);

    stage.root.restart("root").unwrap();
    until_alive(&stage.root, "w1", true);
    until_alive(&stage.root, "w2", true);
    until("the service that was unknown to answer", || answers(&client, &PROGRAM, &at(unknown_ip, 80).to_string(), 1));
    known(S);
    let spare = attach(&stage.w1, SERVICE, "spare");
    assert_eq!(stage.shown().instances.len(), 3, "{spare:?}");
}

#[test]
fn the_root_gives_the_same_addresses_after_kill_9() {
    let mut stage = Stage::new();
    let shown = |stage: &Stage| -> Value { stage.root.json(&["service", "ls"]).unwrap() };
    let before = shown(&stage);
    stage.root.kill().unwrap();
    stage.root.restart("root").unwrap();
    until("the services to be as before", || match shown(&stage) {
        after if after == before => Ok(()),
        after => Err(format!("{after} instead of {before}")),
    });
    stage.root.run(["service", "create", "--name", "app.ns.later.ns"]).unwrap();
    let later: Value = stage.root.json(&["service", "show", "app.ns.later.ns"]).unwrap();
    let address = &later["service_ip_list"][0]["Address"];
    assert!(!before.to_string().contains(&address.to_string()), "{address} was given already");
}
