//! Mistakes of people: each gets a message that says what is wrong and an exit status that is not 0, and leaves nothing behind.

use crate::footprint::Footprint;
use crate::stage::{Stage, attach};
use acorn_tests::example::SERVICE;
use serde_json::Value;

/// A command, and what its message has to contain.
type Refusal<'a> = (&'a [&'a str], &'a [&'a str]);

#[test]
fn an_attachment_that_cannot_be_leaves_no_trace() {
    let stage = Stage::new();
    let spare = stage.container("spare");
    let machine = &stage.machines.w1;
    let before = [Footprint::of(machine), Footprint::of(&spare)];
    let nodes_own = stage.w1.pid_inside().unwrap().to_string();
    let refusals: [Refusal; 9] = [
        (&["--service", "app.ns.nope.ns", "--netns", "spare"], &["service", "acorn service create"]),
        (&["--service", SERVICE, "--pid", "4194303"], &["4194303", "process"]),
        (&["--service", SERVICE, "--netns", "missing"], &["missing"]),
        (&["--service", SERVICE, "--netns", "../spare"], &["../spare", "ip netns"]),
        (&["--service", SERVICE, "--netns", "w1"], &["own network"]),
        (&["--service", SERVICE, "--pid", &nodes_own], &["own network"]),
        (&["--service", SERVICE, "--netns", "s1"], &["s1", "already"]),
        (&["--service", SERVICE, "--number", "1", "--netns", "spare"], &["already", "detach"]),
        (&["--service", "not.a.name", "--netns", "spare"], &["not.a.name", "four parts"]),
    ];
    for (arguments, says) in refusals {
        let line = ["instance", "attach"].iter().chain(arguments);
        assert_says(&stage.w1.refused(line).unwrap(), says);
    }
    assert_says(&stage.w1.refused(["instance", "detach", "--service", SERVICE, "--number", "7"]).unwrap(), &["7"]);
    before[0].assert_same(machine);
    before[1].assert_same(&spare);
    assert_eq!(stage.shown().instances.len(), 2);
    stage.answers_again(4);
    // The addresses that were taken for the attempts rest; the next one is none of S1's and S2's.
    let attached = attach(&stage.w1, SERVICE, "spare");
    let others = stage.service.instances.iter().filter_map(|i| i.namespace_ip);
    assert!(others.into_iter().all(|ip| ip != attached.namespace_ip));
}

#[test]
fn a_service_that_cannot_be_is_not_created_not_even_in_part() {
    let stage = Stage::new();
    let services = |stage: &Stage| -> Value { stage.root.json(&["service", "ls"]).unwrap() };
    let before = services(&stage);
    let file = |name: &str, content: &str| stage.world.write(name, content).unwrap();
    let [no_json, empty, wrong, half] = [
        ("no.json", "{\"sla_version\": "),
        ("empty.json", "{}"),
        ("wrong.json", &sla(&[("web", "\"rr_ip\": 7")])),
        // The first one is right, and the second one's address is taken.
        ("half.json", &sla(&[("good", ""), ("bad", "\"rr_ip\": \"10.30.0.1\"")])),
    ]
    .map(|(name, content)| file(name, content));
    let long = format!("app.ns.{}.ns", "x".repeat(31));
    let refusals: [Refusal; 14] = [
        (&["create", "--name", "app.ns.web"], &["app.ns.web", "four parts"]),
        (&["create", "--name", "app.ns.my-web.ns"], &["my-web"]),
        (&["create", "--name", &long], &["30"]),
        (&["create", "--name", SERVICE], &[SERVICE, "already"]),
        (&["create", "--name", "app.ns.a.ns", "--rr-ip", "10.31.0.1"], &["10.31.0.1"]),
        (&["create", "--name", "app.ns.a.ns", "--rr-ip", "10.30.0.0"], &["10.30.0.0"]),
        (&["create", "--name", "app.ns.a.ns", "--rr-ip", "10.30.0.1"], &["10.30.0.1", SERVICE]),
        (&["create", "--name", "app.ns.a.ns", "--rr-ip", "10.30.0.2"], &["10.30.0.2", SERVICE]),
        (&["create", "--name", "app.ns.a.ns", "--rr-ip-v6", "fdff:1000::1"], &["fdff:1000::1"]),
        (&["create", "--sla", &no_json], &["line 1"]),
        (&["create", "--sla", &empty], &["applications"]),
        (&["create", "--sla", &wrong], &["rr_ip"]),
        (&["create", "--sla", &half], &["10.30.0.1", SERVICE]),
        (&["rm", SERVICE], &[SERVICE, "instance"]),
    ];
    for (arguments, says) in refusals {
        assert_says(&stage.root.refused(["service"].iter().chain(arguments)).unwrap(), says);
    }
    for (arguments, says) in [
        (["show", "app.ns.nope.ns"], "app.ns.nope.ns"),
        (["rm", "app.ns.nope.ns"], "app.ns.nope.ns"),
        (["create", "--sla=/nowhere"], "/nowhere"),
    ] {
        assert_says(&stage.root.refused(["service"].iter().chain(&arguments)).unwrap(), &[says]);
    }
    assert_eq!(before, services(&stage));
}

#[test]
fn the_wrong_daemon_and_no_daemon_are_named() {
    let stage = Stage::new();
    assert_says(&stage.w1.refused(["service", "ls"]).unwrap(), &["role `root`", "--socket"]);
    assert_says(&stage.root.refused(["table"]).unwrap(), &["role `node`", "--socket"]);
    let binary = crate::stage::binary().into_os_string().into_string().unwrap();
    let line = [binary.as_str(), "--socket", "/run/nobody.sock", "status"];
    assert_says(&stage.machines.w1.refused(line).unwrap(), &["/run/nobody.sock", "acorn up"]);
}

#[test]
fn a_full_subnet_refuses_the_next_container_and_leaves_nothing_of_it() {
    let stage = Stage::new();
    // 62 addresses: the host's own, S1, S2, and 59 more.
    let acorn = stage.w1.command_line("instance attach");
    let fill = format!(
        "for n in $(seq 59); do ip netns add full$n; {acorn} --service {SERVICE} --netns full$n >/dev/null || exit 1; done"
    );
    stage.machines.w1.run(["sh", "-c", &fill]).unwrap();
    assert_eq!(stage.shown().instances.len(), 61);

    let spare = stage.container("spare");
    let before = [Footprint::of(&stage.machines.w1), Footprint::of(&spare)];
    let line = ["instance", "attach", "--service", SERVICE, "--netns", "spare"];
    let told = stage.w1.refused(line).unwrap();
    assert_says(&told, &["61 addresses", "detach", "another node"]);
    before[0].assert_same(&stage.machines.w1);
    before[1].assert_same(&spare);
    assert_eq!(stage.shown().instances.len(), 61);

    // What is freed rests for a while, and is then given again.
    stage.w1.run(["instance", "detach", "--service", SERVICE, "--number", "2"]).unwrap();
    assert_says(&stage.w1.refused(line).unwrap(), &["again in a minute"]);
    // Another node has room.
    attach(&stage.w2, SERVICE, "spare");
}

/// An SLA with these microservices and the content of their `addresses`.
fn sla(microservices: &[(&str, &str)]) -> String {
    let services = microservices.iter().map(|(name, addresses)| {
        format!(r#"{{"microservice_name": "{name}", "microservice_namespace": "ns", "addresses": {{{addresses}}}}}"#)
    });
    let services: Vec<String> = services.collect();
    format!(
        r#"{{"sla_version": "v2.0", "customerID": "Admin", "applications": [{{"application_name": "app",
        "application_namespace": "ns", "microservices": [{}]}}]}}"#,
        services.join(", ")
    )
}

#[track_caller]
fn assert_says(told: &str, says: &[&str]) {
    for text in says {
        assert!(told.contains(text), "{text:?} is not in: {told}");
    }
    assert!(!told.contains("panicked"), "{told}");
}
