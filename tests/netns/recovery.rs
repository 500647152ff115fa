//! `kill -9` of a worker in the middle of ten thousand requests, and what a worker finds again when it starts.

use crate::footprint::Footprint;
use crate::stage::{PROGRAM, S, S_V6, Stage, at, attach, instance, sockets, until, until_alive};
use acorn_tests::acorn::Acorn;
use acorn_tests::example::{SERVICE, answers};
use acorn_tests::world::Daemon;
use serde_json::Value;
use std::time::Duration;

/// How many requests are sent one after another.
const REQUESTS: u32 = 10_000;
/// After how many of them the daemon dies.
const BEFORE: u32 = 2_500;
/// How long all of them may take. No promise, only an end.
const LONG: Duration = Duration::from_secs(150);

#[test]
fn ten_thousand_requests_survive_kill_9_of_the_clients_node() {
    let mut stage = Stage::new();
    let (machine, containers) = (stage.machines.w2.clone(), [stage.machines.client.clone()]);
    let places = [&[machine.clone()][..], &containers].concat();
    let before = settled(&stage.w2, || places.iter().map(Footprint::of).collect::<Vec<_>>());
    let (addresses, subnet) = (stage.shown(), subnet(&stage.w2));

    let series = begin(&stage);
    stage.w2.kill().unwrap();
    stage.w2.restart("w2").unwrap();
    finish(series);

    assert_eq!(subnet, self::subnet(&stage.w2));
    assert_eq!(format!("{addresses:?}"), format!("{:?}", stage.shown()));
    places.iter().zip(&before).for_each(|(place, before)| before.wait_for(place));
    let names = stage.answers_again(6);
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}

#[test]
fn ten_thousand_requests_survive_kill_9_of_the_servers_node() {
    let mut stage = Stage::new();
    let machines = &stage.machines;
    let places = [machines.w1.clone(), machines.s1.clone(), machines.s2.clone()];
    let before = settled(&stage.w1, || places.iter().map(Footprint::of).collect::<Vec<_>>());
    let (addresses, subnet) = (stage.shown(), subnet(&stage.w1));

    let series = begin(&stage);
    stage.w1.kill().unwrap();
    stage.w1.restart("w1").unwrap();
    finish(series);

    assert_eq!(subnet, self::subnet(&stage.w1));
    assert_eq!(format!("{addresses:?}"), format!("{:?}", stage.shown()));
    places.iter().zip(&before).for_each(|(place, before)| before.wait_for(place));
}

#[test]
fn sigterm_leaves_the_containers_attached_and_the_next_start_adopts_them() {
    let mut stage = Stage::new();
    let machines = &stage.machines;
    let places = [machines.w1.clone(), machines.s1.clone(), machines.s2.clone()];
    let before = settled(&stage.w1, || places.iter().map(Footprint::of).collect::<Vec<_>>());
    let addresses = stage.shown();

    stage.w1.terminate().unwrap();
    for container in &places[1..] {
        assert!(container.interfaces().unwrap().contains(&"acorn".to_owned()));
    }
    let error = sockets(&places[1]).connect(at(S, 80)).unwrap_err().to_string();
    assert!(error.contains("unreachable") || error.contains("No route"), "{error}");
    stage.w1.restart("w1").unwrap();

    places.iter().zip(&before).for_each(|(place, before)| before.wait_for(place));
    stage.answers_again(4);
    let v6 = at(S_V6, 80).to_string();
    assert_eq!(answers(&stage.machines.client, &PROGRAM, &v6, 2).unwrap().len(), 2);
    assert_eq!(format!("{addresses:?}"), format!("{:?}", stage.shown()));
}

#[test]
fn a_namespace_that_died_meanwhile_is_cleared_away_and_its_instance_withdrawn() {
    let mut stage = Stage::new();
    stage.w1.kill().unwrap();
    // S2's server is the last process in its namespace.
    stage.servers.truncate(1);
    stage.machines.underlay.wire().run(["ip", "netns", "delete", "s2"]).unwrap();
    stage.w1.restart("w1").unwrap();

    until("S2 to be withdrawn", || match stage.shown() {
        shown if shown.instances.len() == 1 => Ok(()),
        shown => Err(format!("{shown:?}")),
    });
    assert_eq!(instance(&stage.shown(), 1).node_name.as_deref(), Some("w1"));
    let names = stage.answers_again(4);
    assert_eq!(names, ["S1"; 4]);
    // The host's end is gone with it: one for S1 is left.
    let ends = stage.machines.w1.interfaces().unwrap();
    let ends: Vec<_> = ends.iter().filter(|name| !["lo", "eth0", "acorn0"].contains(&name.as_str())).collect();
    assert_eq!(ends.len(), 1, "{ends:?}");

    // Its number is free again.
    stage.container("s3");
    let s3 = attach(&stage.w1, SERVICE, "s3");
    assert_ne!(s3.number, 1);
    until_alive(&stage.root, "w1", true);
}

/// Begins the requests, and returns when a quarter is answered.
fn begin(stage: &Stage) -> Daemon {
    let line = [PROGRAM[0], "series", &at(S, 80).to_string(), &REQUESTS.to_string()];
    let mut series = stage.machines.client.spawn("series", line).unwrap();
    let told = format!("{BEFORE} answered");
    series.wait_for_log(&told, LONG).unwrap();
    series
}

/// Waits for the end of the requests. All of them must have been answered, by turns, and none may have needed another try but
/// those while the daemon was away.
fn finish(mut series: Daemon) {
    let status = series.wait(LONG).unwrap();
    let log = series.log(usize::MAX);
    assert!(status.success(), "{log}");
    let failed: Vec<u32> = log.lines().filter_map(number_of_failure).collect();
    if let (Some(first), Some(last)) = (failed.first(), failed.last()) {
        assert!(*first > BEFORE, "a request failed before the kill:\n{log}");
        // One request waits for the network to come back; a few more may meet what is not yet as it was.
        assert!(last - first < 20, "requests failed long after the outage:\n{log}");
    }
    let told = log.lines().last().unwrap_or_default();
    let counts: Vec<u32> = told.rsplit(", ").take(2).filter_map(|of| of.split(": ").nth(1)?.parse().ok()).collect();
    assert_eq!(counts.iter().sum::<u32>(), REQUESTS, "{told}");
    // A picked instance whose dial failed is picked in vain: the counts drift apart by the outage, and by no more.
    assert!(counts[0].abs_diff(counts[1]) <= 2 + failed.len() as u32, "{told}");
}

fn number_of_failure(line: &str) -> Option<u32> {
    line.strip_prefix("request ")?.split(' ').next()?.parse().ok()
}

fn subnet(node: &Acorn) -> Value {
    let status: Value = node.json(&["status"]).unwrap();
    assert!(status["subnet"].is_string(), "{status}");
    status["subnet"].clone()
}

/// What `look` sees once the host's own addresses are there, which come a moment after the node has joined.
fn settled<T: PartialEq>(node: &Acorn, look: impl Fn() -> T) -> T {
    until("the machine to have its own addresses", || {
        let listing = node.namespace().run(["ip", "-brief", "address", "show", "dev", "acorn0"]);
        match listing {
            Ok(text) if text.contains("10.18.") && text.contains("fc00:") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    look()
}
