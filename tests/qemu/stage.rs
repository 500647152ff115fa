//! What most tests begin with: a root, a Linux node and two boards on one underlay.

use acorn_tests::acorn::{self, Acorn, Nodes};
use acorn_tests::board::{self, Board, Plan, Programs};
use acorn_tests::example;
use acorn_tests::sockets::Sockets;
use acorn_tests::world::{Daemon, Look, Namespace, Underlay, World, wait_until};
use serde_json::Value;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The command line of the traffic programs.
pub const PROGRAM: [&str; 1] = [env!("CARGO_BIN_EXE_acorn-traffic")];
/// Where the root is reached.
pub const ENDPOINT: &str = "192.168.50.1:50103";
/// The service that the boards are instances of, and its service IP.
pub const TELEMETRY: &str = "farm.prod.telemetry.prod";
pub const TELEMETRY_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 30, 0, 1));
/// The service on the Linux node that the first board calls, and its service IP.
pub const COLLECTOR: &str = "farm.prod.collector.prod";
pub const COLLECTOR_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 30, 0, 2));
/// Where boards serve readings.
pub const READINGS: u16 = 7000;
/// How long anything may take that has no promise of its own.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that runs. What is dropped first stands first.
pub struct Stage {
    pub boards: Vec<Board>,
    pub servers: Vec<Daemon>,
    pub root: Acorn,
    pub linux: Acorn,
    /// A container on the Linux node, which is an instance of a service of its own.
    pub client: Namespace,
    pub programs: Programs,
    pub underlay: Underlay,
    pub world: World,
}

/// The plans of the two boards: the first calls the collector, the second the telemetry of whoever is picked.
pub const BOARD_1: Plan<'static> = Plan {
    name: "board1",
    number: 1,
    address: "192.168.50.21/24",
    serve: Some(TELEMETRY),
    call: Some(("10.30.0.2:80", 1)),
};
pub const BOARD_2: Plan<'static> =
    Plan { name: "board2", number: 2, address: "192.168.50.22/24", serve: Some(TELEMETRY), call: None };

impl Stage {
    /// A root and a Linux node with a client, and two instances of the collector serving on it; no boards.
    pub fn without_boards() -> Stage {
        let world = World::new().unwrap();
        let underlay = Underlay::new(&world).unwrap();
        let machine = |name: &str, address: &str| {
            let namespace = world.namespace(name).unwrap();
            underlay.connect(&namespace, &[address]).unwrap();
            namespace
        };
        let (root, linux) = (machine("root", "192.168.50.1/24"), machine("linux", "192.168.50.11/24"));
        let binary = acorn::binary().unwrap();
        let root = Acorn::start(&world, &root, &binary, "root", "root", "").unwrap();
        for service in [TELEMETRY, COLLECTOR, "farm.prod.client.prod"] {
            root.run(["service", "create", "--name", service]).unwrap();
        }
        let linux = example::join_over(&world, &root, &linux, &binary, None, ENDPOINT, "").unwrap();
        let mut servers = Vec::new();
        for name in ["c1", "c2"] {
            let container = world.namespace(name).unwrap();
            linux.run(["instance", "attach", "--service", COLLECTOR, "--netns", name]).unwrap();
            servers.push(example::serve(&container, &PROGRAM, name).unwrap());
        }
        let client = world.namespace("client").unwrap();
        linux.run(["instance", "attach", "--service", "farm.prod.client.prod", "--netns", "client"]).unwrap();
        let programs = Programs::from_environment().unwrap();
        Stage { boards: Vec::new(), servers, root, linux, client, programs, underlay, world }
    }

    /// The same with these boards, joined and attached.
    pub fn with(plans: &[Plan<'_>]) -> Stage {
        let mut stage = Stage::without_boards();
        for plan in plans {
            stage.add(plan);
        }
        for place in 0..plans.len() {
            stage.attached(place);
        }
        stage
    }

    /// Provisions a board and switches it on.
    pub fn add(&mut self, plan: &Plan<'_>) -> &mut Board {
        board::provision(&self.world, &self.root, ENDPOINT, plan).unwrap();
        let board = Board::start(&self.world, &self.underlay, &self.programs, plan).unwrap();
        self.boards.push(board);
        self.boards.last_mut().unwrap()
    }

    /// Waits until a board is attached, and returns its instance IP.
    pub fn attached(&mut self, place: usize) -> IpAddr {
        let line = self.boards[place].wait_for("attached as instance", 1, PATIENCE).unwrap();
        instance_ip(&line)
    }

    /// Sockets in the client's container.
    pub fn sockets(&self) -> Sockets {
        Sockets::of(&self.client, &PROGRAM)
    }

    /// A reading over TCP.
    pub fn reading(&self, address: IpAddr) -> Result<Value, String> {
        let connection = self.sockets().connect(SocketAddr::new(address, READINGS)).map_err(|e| e.to_string())?;
        let line = std::io::read_to_string(connection).map_err(|e| e.to_string())?;
        serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}"))
    }

    /// Waits until a board gives a reading.
    pub fn reading_at_last(&self, address: IpAddr) -> Value {
        until(&format!("{address} to give a reading"), || self.reading(address))
    }

    /// The nodes that the root lists.
    pub fn nodes(&self) -> Nodes {
        self.root.json(&["node", "ls"]).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (name, lines) in self.world.logs(25) {
                eprintln!("-- {name} --\n{lines}");
            }
        }
    }
}

/// The instance IP in the line that a board logs when it is attached.
pub fn instance_ip(line: &str) -> IpAddr {
    let rest = line.split("instance IP ").nth(1).unwrap_or_else(|| panic!("no instance IP in {line:?}"));
    rest.split(',').next().unwrap().parse().unwrap()
}

/// A counter of a reading; those that are 0 are left out there.
pub fn counter(reading: &Value, name: &str) -> u64 {
    let found = ["counters", "drops", "board"].into_iter().find_map(|group| reading[group][name].as_u64());
    found.or_else(|| reading[name].as_u64()).unwrap_or(0)
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
