//! The reference example: service S with the instances S1 and S2 on worker W, and a client on another worker.
//!
//! | | |
//! |---|---|
//! | worker W | `10.18.30.64/26` |
//! | service S, round robin | `10.30.0.1` |
//! | S1: instance IP, namespace IP | `10.30.0.2`, `10.18.30.65` |
//! | S2: instance IP, namespace IP | `10.30.0.3`, `10.18.30.66` |
//!
//! Three machines (`root`, `w1`, `w2`) on one underlay, and three containers (`s1` and `s2` on W = `w1`, `client` on
//! `w2`), which are network namespaces without any link until they are attached.

use crate::acorn::{Acorn, Nodes, Service};
use crate::traffic;
use crate::world::{Daemon, Look, Namespace, Result, Underlay, World, WorldError, wait_until};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Full name of service S.
pub const SERVICE: &str = "app.ns.S.ns";
/// Full name of the client, which is a service with one instance.
pub const CLIENT: &str = "app.ns.client.ns";
/// The subnet that worker W asks for.
pub const SUBNET: &str = "10.18.30.64/26";
/// The machines with their addresses on the underlay. The IPv6 prefix is RFC 3849's, which no pool contains.
pub const MACHINES: [(&str, &str, &str); 3] = [
    ("root", "192.168.50.1", "2001:db8:50::1"),
    ("w1", "192.168.50.11", "2001:db8:50::11"),
    ("w2", "192.168.50.12", "2001:db8:50::12"),
];

/// Where the root is reached.
pub const ENDPOINT: &str = "192.168.50.1:50103";
/// How long the network may take to agree on something.
const PATIENCE: Duration = Duration::from_secs(10);

/// The machines and the containers, before anything runs on them.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names are those of the module's description")]
pub struct Machines {
    pub underlay: Underlay,
    pub root: Namespace,
    pub w1: Namespace,
    pub w2: Namespace,
    pub s1: Namespace,
    pub s2: Namespace,
    pub client: Namespace,
}

impl Machines {
    /// Makes them, and connects the machines to the underlay.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn new(world: &World) -> Result<Machines> {
        let underlay = Underlay::new(world)?;
        let machine = |index: usize| {
            let (name, ipv4, ipv6) = MACHINES[index];
            let namespace = world.namespace(name)?;
            underlay.connect(&namespace, &[&format!("{ipv4}/24"), &format!("{ipv6}/64")])?;
            Ok(namespace)
        };
        let (root, w1, w2) = (machine(0)?, machine(1)?, machine(2)?);
        let [s1, s2, client] = ["s1", "s2", "client"].map(|name| world.namespace(name));
        Ok(Machines { root, w1, w2, s1: s1?, s2: s2?, client: client?, underlay })
    }
}

/// Starts the root.
///
/// # Errors
/// As [`Acorn::start`].
pub fn start_root(world: &World, machines: &Machines, binary: &Path) -> Result<Acorn> {
    Acorn::start(world, &machines.root, binary, "root", "root", "")
}

/// Makes a join token and starts a worker with it, named like its namespace. Returns once the root lists the worker.
///
/// # Errors
/// When the token or the worker fails, or the root does not know the worker (with its `subnet`) within 10 s.
pub fn join(world: &World, root: &Acorn, machine: &Namespace, binary: &Path, subnet: Option<&str>) -> Result<Acorn> {
    join_over(world, root, machine, binary, subnet, ENDPOINT, "")
}

/// The same with another endpoint of the root's, and with lines for the worker's table `[daemon]`.
///
/// # Errors
/// As [`join`].
pub fn join_over(
    world: &World,
    root: &Acorn,
    machine: &Namespace,
    binary: &Path,
    subnet: Option<&str>,
    endpoint: &str,
    daemon: &str,
) -> Result<Acorn> {
    join_with(world, root, machine, binary, subnet, &["--endpoint", endpoint], daemon)
}

/// The same with any flags of `acorn token create`.
///
/// # Errors
/// As [`join`].
pub fn join_with(
    world: &World,
    root: &Acorn,
    machine: &Namespace,
    binary: &Path,
    subnet: Option<&str>,
    flags: &[&str],
    daemon: &str,
) -> Result<Acorn> {
    let name = machine.name();
    let token = token(root, flags)?;
    let mut config = format!("{daemon}[node]\nname = \"{name}\"\ntoken = \"{token}\"\n");
    if let Some(subnet) = subnet {
        config.push_str(&format!("subnet = \"{subnet}\"\n"));
    }
    let worker = Acorn::start(world, machine, binary, "node", name, &config)?;
    wait_until(&format!("the root to list {name} alive and with its subnet"), PATIENCE, || {
        let nodes: Nodes = root.json(&["node", "ls"])?;
        let fits =
            |given: &Option<String>| given.is_some() && subnet.is_none_or(|asked| given.as_deref() == Some(asked));
        let listed = nodes.nodes.iter().any(|node| node.name == name && node.alive && fits(&node.subnet));
        Ok(if listed { Look::Holds(()) } else { Look::NotYet(format!("{nodes:?}")) })
    })?;
    Ok(worker)
}

/// Makes a join token for a cluster and starts the cluster with it, named like its namespace. Returns once the root lists it alive.
///
/// # Errors
/// As [`join`].
pub fn join_cluster(world: &World, root: &Acorn, machine: &Namespace, binary: &Path, daemon: &str) -> Result<Acorn> {
    let name = machine.name();
    let token = token(root, &["--cluster", "--endpoint", ENDPOINT])?;
    let config = format!("{daemon}[cluster]\nname = \"{name}\"\ntoken = \"{token}\"\n");
    let cluster = Acorn::start(world, machine, binary, "cluster", name, &config)?;
    wait_until(&format!("the root to list the cluster {name} alive"), PATIENCE, || {
        let nodes: Nodes = root.json(&["node", "ls"])?;
        let listed = nodes.nodes.iter().any(|node| node.name == name && node.alive);
        Ok(if listed { Look::Holds(()) } else { Look::NotYet(format!("{nodes:?}")) })
    })?;
    Ok(cluster)
}

fn token(root: &Acorn, flags: &[&str]) -> Result<String> {
    let line: Vec<&str> = ["token", "create"].iter().chain(flags).copied().collect();
    let answer: Value = root.json(&line)?;
    answer["tokens"][0].as_str().map(str::to_owned).ok_or_else(|| WorldError::Unexpected {
        what: "`acorn token create --json` should print {\"tokens\": [..]}".into(),
        seen: answer.to_string(),
    })
}

/// Creates service S from an SLA file.
///
/// # Errors
/// When the root refuses.
pub fn create_service(world: &World, root: &Acorn) -> Result<Service> {
    let sla = world.write("sla.json", &sla().to_string())?;
    root.run(["service", "create", "--sla", &sla])?;
    root.json(&["service", "show", SERVICE])
}

/// Attaches S1 and S2 to W, and the client, for which it creates a service by name, to the other worker. Returns service S once the root shows both instances.
///
/// # Errors
/// When a worker refuses, or the root does not show the instances within 10 s.
pub fn attach(root: &Acorn, w1: &Acorn, w2: &Acorn) -> Result<Service> {
    w1.run(["instance", "attach", "--service", SERVICE, "--number", "1", "--netns", "s1"])?;
    w1.run(["instance", "attach", "--service", SERVICE, "--number", "2", "--netns", "s2"])?;
    // After S's instances, or it would take the addresses that the example gives them.
    root.run(["service", "create", "--name", CLIENT])?;
    w2.run(["instance", "attach", "--service", CLIENT, "--netns", "client"])?;
    wait_until("the root to show S1 and S2 alive", PATIENCE, || {
        let service: Service = root.json(&["service", "show", SERVICE])?;
        let alive = service.instances.iter().filter(|instance| instance.alive).count();
        Ok(if alive == 2 { Look::Holds(service) } else { Look::NotYet(format!("{service:?}")) })
    })
}

/// Starts the HTTP server and the sink of an instance. `program` is the command line up to `serve`.
///
/// # Errors
/// When it does not serve within 10 s.
pub fn serve(container: &Namespace, program: &[&str], name: &str) -> Result<Daemon> {
    let mut server = container.spawn(name, program.iter().chain(&["serve", name]))?;
    server.wait_for_log("serving", PATIENCE)?;
    Ok(server)
}

/// Who answered each of `count` requests to `address` (with its port), sent from `container`.
///
/// # Errors
/// When a request fails.
pub fn answers(container: &Namespace, program: &[&str], address: &str, count: usize) -> Result<Vec<String>> {
    let count = count.to_string();
    let output = container.run(program.iter().chain(&["get", address, &count]))?;
    Ok(output.lines().map(str::to_owned).collect())
}

/// The rate, in Mbit/s, of a transfer of `mebibytes` MiB to the sink at `host`.
///
/// # Errors
/// When it fails.
pub fn transfer(container: &Namespace, program: &[&str], host: &str, mebibytes: u32) -> Result<f64> {
    let address = format!("{host}:{}", traffic::bulk::PORT);
    let output = container.run(program.iter().chain(&["send", &address, &mebibytes.to_string()]))?;
    output.trim().parse().map_err(|_| WorldError::Unexpected { what: "a rate in Mbit/s".into(), seen: output })
}

/// The SLA of service S.
fn sla() -> Value {
    json!({
        "sla_version": "v2.0",
        "customerID": "Admin",
        "applications": [{
            "applicationID": "",
            "application_name": "app",
            "application_namespace": "ns",
            "application_desc": "The reference example",
            "microservices": [{
                "microserviceID": "",
                "microservice_name": "S",
                "microservice_namespace": "ns",
                "virtualization": "container",
                "code": "docker.io/library/nginx:latest",
                "memory": 64,
                "vcpus": 1,
                "port": "80:80",
                "addresses": {},
            }],
        }],
    })
}
