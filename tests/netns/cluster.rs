//! Clusters between the root and its nodes: what is known goes on without either manager, and all heals when they return.

use crate::stage::{PROGRAM, attach, binary, logs, until, until_alive};
use acorn_tests::acorn::{Acorn, Service};
use acorn_tests::example::{self, answers, serve};
use acorn_tests::world::{Daemon, Namespace, Underlay, World};
use serde_json::Value;

const WEB: &str = "app.ns.web.ns";
const LATER: &str = "app.ns.later.ns";

/// A root, two clusters, and a node with two containers behind each. What is dropped first stands first.
struct Sites {
    servers: Vec<Daemon>,
    web: String,
    root: Acorn,
    clusters: [Acorn; 2],
    nodes: [Acorn; 2],
    containers: [Namespace; 4],
    world: World,
}

impl Sites {
    /// The service `WEB` has an instance on each site, in the first container of each; the second one of site 2 is a client.
    fn new() -> Self {
        let world = World::new().unwrap();
        let underlay = Underlay::new(&world).unwrap();
        let machine = |name: &str, address: &str| {
            let namespace = world.namespace(name).unwrap();
            underlay.connect(&namespace, &[&format!("{address}/24")]).unwrap();
            namespace
        };
        let binary = binary();
        let root_machine = machine("root", "192.168.50.1");
        let root = Acorn::start(&world, &root_machine, &binary, "root", "root", "").unwrap();
        let told = |error| -> Acorn { panic!("{error}\n{}", logs(&world)) };
        let cluster = |name: &str, address: &str| {
            let daemon = format!("advertise = \"{address}:50103\"\n");
            example::join_cluster(&world, &root, &machine(name, address), &binary, &daemon).unwrap_or_else(told)
        };
        let clusters = [cluster("c1", "192.168.50.21"), cluster("c2", "192.168.50.22")];
        let node = |name: &str, address: &str, via: &str| {
            example::join_with(&world, &root, &machine(name, address), &binary, None, &["--via", via], "")
                .unwrap_or_else(told)
        };
        let nodes = [node("w1", "192.168.50.11", "c1"), node("w2", "192.168.50.12", "c2")];
        let containers = ["a1", "b1", "a2", "b2"].map(|name| world.namespace(name).unwrap());
        root.run(["service", "create", "--name", WEB]).unwrap();
        attach(&nodes[0], WEB, "a1");
        attach(&nodes[1], WEB, "a2");
        let client = root.run(["service", "create", "--name", "app.ns.client.ns"]);
        client.unwrap();
        attach(&nodes[1], "app.ns.client.ns", "b2");
        let servers =
            [(0, "first"), (2, "second")].map(|(place, name)| serve(&containers[place], &PROGRAM, name).unwrap());
        let shown: Service = root.json(&["service", "show", WEB]).unwrap();
        let web = format!("{}:80", shown.round_robin().unwrap().ipv4);
        Self { servers: servers.into(), web, root, clusters, nodes, containers, world }
    }

    /// The client's next answers of `WEB`, which come from both sites in turn.
    fn both_answer(&self) {
        let names = until("both sites to answer", || answers(&self.containers[3], &PROGRAM, &self.web, 6));
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", logs(&self.world));
        }
    }
}

fn is_connected(node: &Acorn) -> Result<bool, String> {
    let status: Value = node.json(&["status"]).map_err(|error| error.to_string())?;
    status["managers"][0]["connected"].as_bool().ok_or_else(|| status["managers"].to_string())
}

fn until_connected(node: &Acorn, connected: bool) {
    until(&format!("{} to be connected = {connected}", node.namespace().name()), || match is_connected(node) {
        Ok(found) if found == connected => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn nodes_of_two_clusters_reach_each_other() {
    let sites = Sites::new();
    sites.both_answer();
    for cluster in &sites.clusters {
        let status: Value = cluster.json(&["status"]).unwrap();
        assert_eq!(status["roles"], serde_json::json!(["cluster"]), "{status}");
    }

    // A change at one site is known at the other.
    sites.nodes[0].run(["instance", "detach", "--service", WEB, "--number", "0"]).unwrap();
    let names = until("only the second site to answer", || {
        let names = answers(&sites.containers[3], &PROGRAM, &sites.web, 4).map_err(|error| error.to_string())?;
        if names.iter().all(|name| name == "second") { Ok(names) } else { Err(format!("{names:?}")) }
    });
    assert_eq!(names.len(), 4);
    attach(&sites.nodes[0], WEB, "a1");
    sites.both_answer();
}

#[test]
fn without_the_root_the_clusters_answer_what_they_know() {
    let mut sites = Sites::new();
    sites.both_answer();
    sites.root.kill().unwrap();
    until_connected(&sites.clusters[1], false);
    sites.both_answer();
    // The node asks anew, and its cluster knows.
    sites.nodes[1].restart("w2").unwrap();
    sites.both_answer();
    // What only the root can do is refused, clearly.
    let told = sites.nodes[0].refused(["instance", "attach", "--service", WEB, "--netns", "b1"]).unwrap();
    assert!(told.contains("try again"), "{told}");

    sites.root.restart("root").unwrap();
    for name in ["c1", "c2", "w1", "w2"] {
        until_alive(&sites.root, name, true);
    }
    attach(&sites.nodes[0], WEB, "b1");
    let shown: Service = sites.root.json(&["service", "show", WEB]).unwrap();
    assert_eq!(shown.instances.len(), 3, "{shown:?}");
}

#[test]
fn a_cluster_that_is_killed_takes_nothing_with_it() {
    let mut sites = Sites::new();
    sites.both_answer();
    let before: Value = sites.root.json(&["service", "show", WEB]).unwrap();
    sites.clusters[1].kill().unwrap();
    sites.both_answer();
    sites.clusters[1].restart("c2").unwrap();
    until_connected(&sites.nodes[1], true);
    sites.root.run(["service", "create", "--name", LATER]).unwrap();
    attach(&sites.nodes[0], LATER, "b1");
    sites.servers.push(serve(&sites.containers[1], &PROGRAM, "later").unwrap());
    let later: Service = sites.root.json(&["service", "show", LATER]).unwrap();
    let address = format!("{}:80", later.round_robin().unwrap().ipv4);
    let names =
        until("a service of after the restart to answer", || answers(&sites.containers[3], &PROGRAM, &address, 1));
    assert_eq!(names, ["later"]);
    let after: Value = sites.root.json(&["service", "show", WEB]).unwrap();
    assert_eq!(before, after);
}
