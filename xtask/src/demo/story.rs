//! The steps of the demo in order.

use super::address_table::{self, S, S_V6};
use super::narrator::Narrator;
use super::{board, checks};
use acorn_tests::acorn::Acorn;
use acorn_tests::board::{Board, Programs};
use acorn_tests::capture::Capture;
use acorn_tests::example::{self, MACHINES, Machines};
use acorn_tests::traffic::{self, MARKER};
use acorn_tests::world::{BRIDGE, Daemon, Namespace, World};
use anyhow::{Result, anyhow, ensure};
use std::path::Path;

/// Steps that [`tell`] tells. With `keep` it leaves out the last one, which removes everything.
pub const STEPS: usize = 18;

/// Requests through each service IP.
const REQUESTS: usize = 12;
/// Size of each bulk transfer.
const MEBIBYTES: u32 = 64;

/// What runs in the world.
#[derive(Default)]
pub struct Stage {
    board: Option<Board>,
    servers: Vec<Daemon>,
    root: Option<Acorn>,
    workers: Vec<Acorn>,
}

impl Stage {
    /// The root and the workers, as far as they run.
    pub fn daemons(&self) -> impl Iterator<Item = &Acorn> {
        self.root.iter().chain(&self.workers)
    }

    /// Lets everything run on, until the world ends.
    pub fn release(self) {
        self.board.into_iter().for_each(Board::release);
        self.servers.into_iter().for_each(Daemon::release);
        self.root.into_iter().chain(self.workers).for_each(Acorn::release);
    }
}

/// Tells the whole story; `None` when it had to end early because nothing after a failed step could work. What runs at
/// its end is on the `stage`. `traffic` is the command line of the applications.
pub fn tell(
    narrator: &mut Narrator,
    world: &World,
    stage: &mut Stage,
    (binary, firmware): (&Path, &Programs),
    traffic: &[&str],
    keep: bool,
) -> Option<()> {
    let machines = narrator.step("A private world: three machines on one wire, and three containers", || {
        let machines = Machines::new(world)?;
        let mut lines = vec!["every machine reaches the others on the wire, over IPv4 and IPv6".to_owned()];
        for (name, ipv4, ipv6) in MACHINES {
            lines.push(format!("{name:<8}{ipv4:<16}{ipv6}"));
            machines.w1.run(["ping", "-n", "-c1", "-W2", ipv4])?;
            machines.w2.run(["ping", "-n", "-c1", "-W2", ipv6])?;
        }
        lines.push("s1, s2 and client are containers that have no network at all yet".into());
        Ok((machines, lines))
    })?;
    let untouched = interfaces(&machines);

    let wire = narrator.step("A witness watches the wire between them", || {
        let capture = Capture::start(world, machines.underlay.wire(), "wire-capture", BRIDGE, traffic)?;
        let line = format!("{}, from before the first daemon starts", capture.witness());
        Ok((capture, vec![line]))
    })?;

    start(narrator, world, stage, &machines, binary)?;
    let (root, workers) = (stage.root.as_ref()?, &stage.workers);
    let [w1, w2] = workers.as_slice() else {
        return None;
    };

    narrator.step("Service S is created from an SLA file and has its service IP", || {
        let service = example::create_service(world, root)?;
        address_table::check_service(&service)?;
        Ok(((), vec![format!("{} is {S} and {S_V6} under round robin", service.name)]))
    })?;
    let service = narrator.step("S1 and S2 are attached on W, the client on the other worker", || {
        let service = example::attach(root, w1, w2)?;
        address_table::check_instances(&service)?;
        Ok((service.clone(), address_table::lines(&service)))
    })?;
    stage.servers = narrator.step("S1 and S2 serve HTTP and know nothing of Acorn", || {
        let servers = vec![example::serve(&machines.s1, traffic, "S1")?, example::serve(&machines.s2, traffic, "S2")?];
        Ok((servers, vec!["each answers with its own name".into()]))
    })?;

    let client = &machines.client;
    // A second witness inside the container sees what the application sends: the search for its text can find it.
    let inside = Capture::start(world, client, "client-capture", "any", traffic);
    for (family, service_ip) in [("IPv4", S.into()), ("IPv6", S_V6.into())] {
        narrator.step(&format!("The client pings {service_ip}"), || Ok(((), vec![checks::ping(client, service_ip)?])));
        narrator.step(&format!("S1 and S2 take turns over {family}"), || {
            checks::turns(client, traffic, service_ip, REQUESTS)
        });
    }
    narrator.step("Each instance also has an address of its own", || {
        let mut lines = Vec::new();
        for (number, name) in [(1, "S1"), (2, "S2")] {
            let instance = address_table::instance(&service, number)?;
            lines.push(checks::one(client, traffic, instance.instance_ip.into(), name)?);
            lines.push(checks::one(client, traffic, instance.instance_ip_v6.into(), name)?);
        }
        Ok(((), lines))
    });
    let inside = inside.and_then(|capture| capture.finish(MARKER));
    narrator.step("A bulk transfer goes through the service IP", || {
        let mut lines = Vec::new();
        for host in [S.to_string(), format!("[{S_V6}]")] {
            let rate = example::transfer(client, traffic, &host, MEBIBYTES)?;
            let port = traffic::bulk::PORT;
            lines.push(format!("{MEBIBYTES} MiB over TCP to {host}:{port} at {rate:.0} Mbit/s"));
        }
        Ok(((), lines))
    });

    let told = narrator.step("A microcontroller joins, with a token of its own, and is a service", || {
        board::join(world, &machines.underlay, root, firmware)
    });
    if let Some((board, address)) = told {
        let board = stage.board.insert(board);
        narrator.step("The client reaches it under its service IP like any other", || {
            Ok(((), vec![checks::ping(client, address)?, board::page(client, traffic, address)?]))
        });
        narrator.step("It calls S, and S1 and S2 take turns for it too", || board::calls(board));
    }

    let wire = wire.finish(MARKER);
    let seen = || wire.as_ref().map_err(|error| anyhow!("{error}"));
    narrator.step("On the wire there was only UDP port 50103", || checks::only_tunnels(seen()?));
    narrator.step("Nobody on the wire could read a word of it", || checks::unreadable(seen()?, &inside?));

    if !keep {
        narrator.step("`acorn down` removes everything that the daemons made", || {
            for worker in &mut stage.workers {
                worker.down()?;
            }
            stage.root.iter_mut().try_for_each(Acorn::down)?;
            let (before, after) = (untouched?, interfaces(&machines)?);
            ensure!(before == after, "interfaces before: {before:?}, and after: {after:?}");
            Ok(((), vec!["machines and containers have the interfaces that they had in the beginning".into()]))
        });
    }
    Some(())
}

/// Starts the root and lets the workers join.
fn start(narrator: &mut Narrator, world: &World, stage: &mut Stage, machines: &Machines, binary: &Path) -> Option<()> {
    narrator.step("The root runs, and both workers join it, each with a token of its own", || {
        let root = stage.root.insert(example::start_root(world, machines, binary)?);
        for (machine, subnet) in [(&machines.w1, Some(example::SUBNET)), (&machines.w2, None)] {
            stage.workers.push(example::join(world, root, machine, binary, subnet)?);
        }
        let mut lines = vec![format!("w1 is worker W and asked for {}", example::SUBNET)];
        lines.extend(root.run(["node", "ls"])?.lines().map(str::to_owned));
        Ok(((), lines))
    })
}

/// Interfaces of every machine and container.
fn interfaces(machines: &Machines) -> Result<Vec<(String, Vec<String>)>> {
    let all: [&Namespace; 6] =
        [&machines.root, &machines.w1, &machines.w2, &machines.s1, &machines.s2, &machines.client];
    all.into_iter().map(|namespace| Ok((namespace.name().to_owned(), namespace.interfaces()?))).collect()
}
