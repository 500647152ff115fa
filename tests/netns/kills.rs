//! `kill -9` of the root or of a node at a random moment while several clients attach and detach. Afterwards the root lists exactly what
//! runs, no address is given twice, and what a client was told is so.

use crate::stage::{Attached, S, Stage, at, attach, sockets, until};
use acorn_tests::acorn::Service;
use acorn_tests::world::Namespace;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SERVICE: &str = "app.ns.churn.ns";
const ROUNDS: u32 = 20;
/// Clients at once, half of them on each node.
const CLIENTS: usize = 4;
/// What each does in a round: 20 rounds have 1,200 operations together.
const OPERATIONS: usize = 15;
const CONTAINERS: usize = 5;
/// The kill comes so many milliseconds after the clients began, at most.
const MOMENT_MS: u64 = 600;
/// The command repeats what it asked for 10 s. What it says after that is its answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(25);

/// What a client knows of its container.
#[derive(Debug, Clone)]
enum Known {
    Detached,
    Attached(Attached),
    /// It was told to try again: either may be.
    Unsure,
}

#[derive(Debug)]
struct Container {
    namespace: Namespace,
    known: Known,
}

impl Container {
    /// The address of its own in the overlay, if it is attached.
    fn address(&self) -> Option<Ipv4Addr> {
        let shown =
            self.namespace.run(["sh", "-c", "ip -4 -oneline address show dev acorn 2>/dev/null || true"]).unwrap();
        let address = shown.split("inet ").nth(1)?.split(['/', ' ']).next()?;
        Some(address.parse().unwrap())
    }
}

#[test]
fn a_thousand_operations_and_twenty_kills_leave_no_leak_and_no_lie() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut random = seed;
    let mut stage = Stage::with_root("[root]\nquarantine_s = 1\n");
    stage.root.run(["service", "create", "--name", SERVICE]).unwrap();
    let container = |client, index| {
        let namespace = stage.container(&format!("c{client}-{index}"));
        Container { namespace, known: Known::Detached }
    };
    let mut clients: Vec<Vec<Container>> =
        (0..CLIENTS).map(|client| (0..CONTAINERS).map(|index| container(client, index)).collect()).collect();
    let (mut done, mut unsure) = (0, 0);
    for round in 0..ROUNDS {
        let whom = next(&mut random) % 3;
        let moment = Duration::from_millis(next(&mut random) % MOMENT_MS);
        let nodes = [&stage.w1, &stage.w2].map(|node| (node.namespace().clone(), node.command_line("instance")));
        thread::scope(|scope| {
            let working: Vec<_> = clients
                .iter_mut()
                .enumerate()
                .map(|(client, containers)| {
                    let (node, command) = &nodes[client % 2];
                    let mut random = next(&mut random);
                    scope.spawn(move || work(node, command, containers, &mut random))
                })
                .collect();
            // A random moment is the point here.
            thread::sleep(moment);
            let (victim, log) = match whom {
                0 => (&mut stage.root, "root"),
                1 => (&mut stage.w1, "w1"),
                _ => (&mut stage.w2, "w2"),
            };
            victim.kill().unwrap();
            victim.restart(log).unwrap();
            for worker in working {
                let (answered, told) = worker.join().unwrap();
                done += answered;
                unsure += told;
            }
        });
        let containers: Vec<&Container> = clients.iter().flatten().collect();
        let shown =
            until(&format!("the root to list what runs (seed {seed}, round {round})"), || agree(&stage, &containers));
        for container in clients.iter_mut().flatten() {
            container.settle(&shown, &format!("seed {seed}, round {round}"));
        }
    }
    println!("{done} operations done, {unsure} to be tried again");
    assert!(done >= 1_000, "{done}");

    // All is given back: every address that was in use can be had again, and none is left behind.
    for (client, containers) in clients.iter_mut().enumerate() {
        let node = if client % 2 == 0 { &stage.w1 } else { &stage.w2 };
        for container in containers {
            if let Known::Attached(attached) = &container.known {
                let number = attached.number.to_string();
                node.run(["instance", "detach", "--service", SERVICE, "--number", &number]).unwrap();
            }
            assert_eq!(container.address(), None);
        }
    }
    let shown: Service = stage.root.json(&["service", "show", SERVICE]).unwrap();
    assert!(shown.instances.is_empty(), "{shown:?}");
    stage.root.run(["service", "rm", SERVICE]).unwrap();
    stage.answers_again(4);
    // A service that was not touched works still, and so does a new one.
    sockets(&stage.machines.client).connect(at(S, 80)).unwrap();
    stage.root.run(["service", "create", "--name", SERVICE]).unwrap();
    attach(&stage.w1, SERVICE, "c0-0");
}

/// One client's turn: it attaches what is detached and the other way round. How many operations were done, and how many are to be tried
/// again.
fn work(node: &Namespace, command: &str, containers: &mut [Container], random: &mut u64) -> (usize, usize) {
    let (mut done, mut unsure) = (0, 0);
    for _ in 0..OPERATIONS {
        let index = next(random) as usize % containers.len();
        let container = &mut containers[index];
        let name = container.namespace.name();
        let line = match &container.known {
            Known::Detached => format!("{command} attach --service {SERVICE} --netns {name} --json"),
            Known::Attached(attached) => format!("{command} detach --service {SERVICE} --number {}", attached.number),
            Known::Unsure => continue,
        };
        let asked = Instant::now();
        let output = node.output(&["sh", "-c", &line]).unwrap();
        assert!(asked.elapsed() < ANSWERED_WITHIN, "{line} took {:?}", asked.elapsed());
        if output.status.success() {
            done += 1;
            container.known = match container.known {
                Known::Detached => Known::Attached(serde_json::from_slice(&output.stdout).unwrap()),
                _ => Known::Detached,
            };
        } else {
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{line}: {told}");
            assert!(
                told.contains("again") || told.contains("no acorn daemon answers") || told.contains("not attached"),
                "{line}: {told}"
            );
            unsure += 1;
            // What is said to be not attached must not run.
            container.known = if told.contains("not attached") { Known::Detached } else { Known::Unsure };
        }
    }
    (done, unsure)
}

/// The service at the root, when it lists exactly the containers that are attached, with the addresses that they have.
fn agree(stage: &Stage, containers: &[&Container]) -> Result<Service, String> {
    let shown: Service = stage.root.json(&["service", "show", SERVICE]).map_err(|error| error.to_string())?;
    let run: Vec<Ipv4Addr> = containers.iter().filter_map(|container| container.address()).collect();
    let unique: BTreeSet<Ipv4Addr> = run.iter().copied().collect();
    assert_eq!(unique.len(), run.len(), "an address was given twice: {run:?}");
    let ips: BTreeSet<Ipv4Addr> = shown.instances.iter().map(|instance| instance.instance_ip).collect();
    assert_eq!(ips.len(), shown.instances.len(), "an instance IP was given twice: {shown:?}");
    let listed: BTreeSet<Ipv4Addr> = shown.instances.iter().filter_map(|instance| instance.namespace_ip).collect();
    if listed == unique && listed.len() == shown.instances.len() {
        Ok(shown)
    } else {
        Err(format!("{run:?} run, listed are {shown:?}"))
    }
}

impl Container {
    /// Compares what is with what the client was told, and ends its doubts.
    fn settle(&mut self, shown: &Service, when: &str) {
        let address = self.address();
        let instance = shown.instances.iter().find(|instance| instance.namespace_ip == address && address.is_some());
        match &self.known {
            Known::Detached => assert!(address.is_none(), "{when}: {self:?} runs as {instance:?}"),
            Known::Attached(told) => {
                let told = (told.number, told.instance_ip, Some(told.namespace_ip));
                let is = instance.map(|is| (is.number, is.instance_ip, is.namespace_ip));
                assert_eq!(is, Some(told), "{when}: {self:?} does not run as its client was told");
            }
            Known::Unsure => {
                self.known = match instance {
                    Some(is) => Known::Attached(Attached {
                        number: is.number,
                        instance_ip: is.instance_ip,
                        namespace_ip: is.namespace_ip.unwrap(),
                        namespace_ip_v6: is.namespace_ip_v6.unwrap(),
                    }),
                    None => Known::Detached,
                };
            }
        }
    }
}

/// The next number of a sequence (SplitMix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
