//! What most tests begin with: the reference example, up and running.

use acorn_tests::acorn::{self, Acorn, Instance, Nodes, Service};
use acorn_tests::example::{self, Machines};
use acorn_tests::sockets::Sockets;
use acorn_tests::world::{Daemon, Look, Namespace, World, wait_until};
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The command line of the traffic programs.
pub const PROGRAM: [&str; 1] = [env!("CARGO_BIN_EXE_acorn-traffic")];
/// The service IPs of S.
pub const S: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 30, 0, 1));
pub const S_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfdff, 0x2000, 0, 0, 0, 0, 0, 1));
/// How long anything may take that has no promise of its own.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that runs. What is dropped first stands first.
pub struct Stage {
    pub servers: Vec<Daemon>,
    pub service: Service,
    pub root: Acorn,
    pub w1: Acorn,
    pub w2: Acorn,
    pub machines: Machines,
    pub world: World,
}

/// What `acorn instance attach --json` prints.
#[derive(Debug, Clone, Deserialize)]
pub struct Attached {
    pub number: u32,
    pub instance_ip: Ipv4Addr,
    pub namespace_ip: Ipv4Addr,
    pub namespace_ip_v6: Ipv6Addr,
}

impl Stage {
    /// The reference example: a root, two workers, S1 and S2 attached and serving on W = w1, the client attached on w2.
    pub fn new() -> Stage {
        Stage::with_root("")
    }

    /// The same with this configuration of the root.
    pub fn with_root(config: &str) -> Stage {
        Stage::over(config, example::ENDPOINT, "")
    }

    /// The same with another endpoint of the root's, and with lines for the workers' table `[daemon]`.
    pub fn over(root_config: &str, endpoint: &str, daemon: &str) -> Stage {
        let world = World::new().unwrap();
        let machines = Machines::new(&world).unwrap();
        let binary = acorn::binary().unwrap();
        let root = Acorn::start(&world, &machines.root, &binary, "root", "root", root_config).unwrap();
        let subnet = Some(example::SUBNET);
        let told = |error| -> Acorn { panic!("{error}\n{}", logs(&world)) };
        let join = |machine, subnet| {
            example::join_over(&world, &root, machine, &binary, subnet, endpoint, daemon).unwrap_or_else(told)
        };
        let (w1, w2) = (join(&machines.w1, subnet), join(&machines.w2, None));
        example::create_service(&world, &root).unwrap();
        let service = example::attach(&root, &w1, &w2).unwrap();
        let servers = [(&machines.s1, "S1"), (&machines.s2, "S2")]
            .map(|(container, name)| example::serve(container, &PROGRAM, name).unwrap());
        Stage { servers: servers.into(), service, root, w1, w2, machines, world }
    }

    /// A container that is attached nowhere yet.
    pub fn container(&self, name: &str) -> Namespace {
        self.world.namespace(name).unwrap()
    }

    /// A new container, attached through `node` as an instance of `service`, which is created if it does not exist.
    pub fn attached(&self, node: &Acorn, service: &str, name: &str) -> (Namespace, Attached) {
        let container = self.container(name);
        if self.root.run(["service", "show", service]).is_err() {
            self.root.run(["service", "create", "--name", service]).unwrap();
        }
        (container, attach(node, service, name))
    }

    /// Service S as the root knows it now.
    pub fn shown(&self) -> Service {
        self.root.json(&["service", "show", example::SERVICE]).unwrap()
    }

    /// Waits until S has answered the client `count` times in a row, and then returns who it was.
    pub fn answers_again(&self, count: usize) -> Vec<String> {
        let address = format!("{S}:80");
        wait_until("S to answer the client", PATIENCE, || {
            match example::answers(&self.machines.client, &PROGRAM, &address, count) {
                Ok(answers) => Ok(Look::Holds(answers)),
                Err(error) => Ok(Look::NotYet(error.to_string())),
            }
        })
        .unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", logs(&self.world));
            for node in [&self.w1, &self.w2] {
                for command in ["table", "drops", "status"] {
                    let answer = node.run([command]).unwrap_or_else(|error| error.to_string());
                    let nothing = |line: &&str| line.contains("  0  ") && command == "drops";
                    let lines: Vec<&str> = answer.lines().filter(|line| !nothing(line)).collect();
                    eprintln!("-- {command} of {} --\n{}", node.namespace().name(), lines.join("\n"));
                }
            }
        }
    }
}

/// Attaches the namespace `name` through `node` as an instance of `service`.
pub fn attach(node: &Acorn, service: &str, name: &str) -> Attached {
    node.json(&["instance", "attach", "--service", service, "--netns", name]).unwrap()
}

/// Sockets inside a namespace.
pub fn sockets(namespace: &Namespace) -> Sockets {
    Sockets::of(namespace, &PROGRAM)
}

/// The instance of S with this number.
pub fn instance(service: &Service, number: u32) -> &Instance {
    let found = service.instances.iter().find(|i| i.number == number);
    found.unwrap_or_else(|| panic!("no instance {number} in {service:?}"))
}

/// A port of an address.
pub fn at(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}

/// How often a node dropped packets for a reason, by the name that `acorn drops` gives it.
pub fn drops(node: &Acorn, reason: &str) -> u64 {
    let answer: Value = node.json(&["drops"]).unwrap();
    let all = answer["drops"].as_array().expect("a list of drops");
    let found = all.iter().find(|drop| drop["reason"] == reason);
    found.and_then(|drop| drop["count"].as_u64()).unwrap_or_else(|| panic!("no drop reason {reason} in {answer}"))
}

/// How many frames a node's machine has refused of its containers, because they came under addresses that are not theirs. The kernel
/// counts them, and with them what a container says to its link at times.
pub fn refused_sources(node: &Acorn) -> u64 {
    let answer = node.namespace().run(["tc", "-json", "-statistics", "qdisc", "show"]).unwrap();
    let all: Vec<Value> = serde_json::from_str(&answer).unwrap();
    let ingress = all.iter().filter(|qdisc| qdisc["kind"] == "ingress");
    ingress.map(|qdisc| qdisc["drops"].as_u64().unwrap_or_else(|| panic!("no drops in {qdisc}"))).sum()
}

/// Waits until a node's machine has refused so many frames since it had refused `before`.
pub fn until_refused(node: &Acorn, before: u64, count: u64) {
    until(&format!("{count} frames to be refused by {}", node.namespace().name()), || {
        let refused = refused_sources(node) - before;
        if refused >= count { Ok(()) } else { Err(format!("{refused}")) }
    });
}

/// One of a node's counters, by the name that `acorn status` gives it.
pub fn counter(node: &Acorn, name: &str) -> u64 {
    let status: Value = node.json(&["status"]).unwrap();
    status["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {status}"))
}

/// Waits until a condition holds. `look` says what it sees instead.
pub fn until<T, E: Display>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    wait_until(what, PATIENCE, || {
        Ok(match look() {
            Ok(found) => Look::Holds(found),
            Err(seen) => Look::NotYet(seen.to_string()),
        })
    })
    .unwrap()
}

/// Waits until the root says of a node whether it is alive.
pub fn until_alive(root: &Acorn, name: &str, alive: bool) {
    until(&format!("{name} to be listed with alive = {alive}"), || {
        let nodes: Nodes = root.json(&["node", "ls"]).map_err(|error| error.to_string())?;
        let node = nodes.nodes.iter().find(|node| node.name == name);
        match node {
            Some(node) if node.alive == alive => Ok(()),
            _ => Err(format!("{nodes:?}")),
        }
    });
}

/// The binary under test.
pub fn binary() -> PathBuf {
    acorn::binary().unwrap()
}

/// The ends of all logs.
pub fn logs(world: &World) -> String {
    let logs = world.logs(25).into_iter();
    logs.map(|(name, lines)| format!("-- {name} --\n{lines}\n")).collect()
}
