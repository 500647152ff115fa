//! The root's disk is full, or can't be written: changes are refused clearly, everything else goes on, and nothing is lost.

use crate::stage::{PROGRAM, S, Stage, at, until, until_alive};
use acorn_tests::example::answers;
use serde_json::{Value, json};

/// What the root's store has to itself, in bytes.
const DISK: &str = "size=12m";

/// The example with the root's state on a small file system of its own.
fn on_a_small_disk() -> Stage {
    let mut stage = Stage::new();
    stage.root.kill().unwrap();
    let state = stage.world.inside("root-state");
    let script =
        format!("cp -a {state} {state}.old && mount -t tmpfs -o {DISK} tmpfs {state} && cp -a {state}.old/. {state}/");
    stage.machines.root.run(["sh", "-c", &script]).unwrap();
    stage.root.restart("root").unwrap();
    ["w1", "w2"].iter().for_each(|name| until_alive(&stage.root, name, true));
    stage
}

/// An SLA of many services, which are more than what is left of the store's file.
fn many(application: &str) -> String {
    let service = |index: u32| {
        json!({"microserviceID": "", "microservice_name": format!("s{index}"), "microservice_namespace": "ns",
            "virtualization": "container", "code": "docker.io/library/nginx:latest", "memory": 64, "vcpus": 1,
            "port": "80:80", "addresses": {}})
    };
    let services: Vec<Value> = (0..200).map(service).collect();
    json!({"sla_version": "v2.0", "customerID": "Admin", "applications": [{
        "applicationID": "", "application_name": application, "application_namespace": "ns",
        "application_desc": "fills a store", "microservices": services}]})
    .to_string()
}

fn names(stage: &Stage) -> Vec<String> {
    let listed: Value = stage.root.json(&["service", "ls"]).unwrap();
    let services = listed["services"].as_array().unwrap();
    services.iter().map(|service| service["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn with_a_full_disk_changes_are_refused_clearly_and_nothing_is_lost() {
    let mut stage = on_a_small_disk();
    let client = stage.machines.client.clone();
    let serves = || assert_eq!(answers(&client, &PROGRAM, &at(S, 80).to_string(), 4).unwrap().len(), 4);
    let fill = stage.world.inside("root-state/fill");
    let full = stage.machines.root.output(&["dd", "if=/dev/zero", &format!("of={fill}"), "bs=4096"]).unwrap();
    assert!(!full.status.success(), "the disk is full now");

    let mut created = Vec::new();
    let told = (0..20).find_map(|round| {
        let application = format!("full{round}");
        let sla = stage.world.write("many.json", &many(&application)).unwrap();
        match stage.root.run(["service", "create", "--sla", &sla]) {
            Ok(_) => {
                created.push(application);
                None
            }
            Err(error) => Some((application, error.to_string())),
        }
    });
    let (refused, told) = told.expect("a full disk to refuse 4,000 services");
    assert!(told.contains("space") && told.contains("again"), "{told}");

    // Reads and traffic go on, and of what was refused nothing is there.
    let whole = |stage: &Stage| {
        let names = names(stage);
        for application in &created {
            let count = names.iter().filter(|name| name.starts_with(&format!("{application}.ns."))).count();
            assert_eq!(count, 200, "{application}");
        }
        assert!(!names.iter().any(|name| name.starts_with(&format!("{refused}.ns."))), "{refused} was refused");
        assert!(names.iter().any(|name| name == "app.ns.S.ns"));
    };
    whole(&stage);
    serves();

    stage.machines.root.run(["rm", &fill]).unwrap();
    until("the root to work as soon as there is space", || {
        stage.root.run(["service", "create", "--name", "app.ns.space.ns"])
    });
    whole(&stage);
    // What was answered since is on the disk.
    stage.root.kill().unwrap();
    stage.root.restart("root").unwrap();
    whole(&stage);
    assert!(names(&stage).iter().any(|name| name == "app.ns.space.ns"));
    serves();
}

#[test]
fn a_store_that_can_not_be_written_is_refused_with_a_reason_and_left_as_it_is() {
    let mut stage = on_a_small_disk();
    let before = names(&stage);
    stage.answers_again(2);
    stage.root.kill().unwrap();
    let state = stage.world.inside("root-state");
    stage.machines.root.run(["mount", "-o", "remount,ro", &state]).unwrap();
    let told = stage.root.restart("root").unwrap_err().to_string();
    assert!(told.contains(&state) && told.to_lowercase().contains("read-only"), "{told}");
    assert!(!told.contains("panicked"), "{told}");
    // Without the root what is known goes on.
    let client = stage.machines.client.clone();
    assert_eq!(answers(&client, &PROGRAM, &at(S, 80).to_string(), 4).unwrap().len(), 4);

    stage.machines.root.run(["mount", "-o", "remount,rw", &state]).unwrap();
    stage.root.restart("root").unwrap();
    assert_eq!(before, names(&stage));
    stage.root.run(["service", "create", "--name", "app.ns.later.ns"]).unwrap();
}
