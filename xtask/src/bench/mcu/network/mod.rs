//! What the overlay leaves of a board's network: the same traffic to the same board, plainly and through the overlay in turn, in one run.
//! And how soon a board is there, and how often it wakes up when nobody wants anything from it.
//!
//! Times are those of an emulator that shares its machine: they differ from run to run, their ratio hardly.

mod board;
mod traffic;

use crate::{debian, demo};
use acorn_tests::acorn::Acorn;
use acorn_tests::example;
use acorn_tests::sockets::Sockets;
use acorn_tests::world::{Namespace, Underlay, World};
use anyhow::{Context, Result};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use traffic::{Figure, Way};

/// How often everything is measured on each way.
const ROUNDS: usize = 7;
/// The services of the boards in the order in which they are created, which is that of their service IPs: of the board with the traffic,
/// of the boards that are timed, and of what those call.
const SERVICES: [&str; 3] = ["bench.mcu.bulk.mcu", "bench.mcu.telemetry.mcu", "bench.mcu.collector.mcu"];
/// What the collector is called, and a client's service.
const COLLECTOR: &str = "10.30.0.3:80";
const CLIENT: &str = "bench.mcu.client.mcu";
const BULK: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 30, 0, 1));

/// Root, Linux node, the client's container and the collector's, on one underlay.
struct Stage {
    client: Namespace,
    _collector: acorn_tests::world::Daemon,
    linux: Acorn,
    root: Acorn,
    underlay: Underlay,
    world: World,
}

/// Measures, and prints tables.
///
/// # Errors
/// When something can't be built or started, or a board loses a byte.
pub fn measure() -> Result<()> {
    debian::require(&debian::DEMO)?;
    debian::require(&debian::EMULATOR)?;
    let acorn = demo::build()?;
    let firmware = board::Firmware::build()?;
    let program = std::env::current_exe().context("finding this program")?;
    let program = program.to_str().context("this program's path is not UTF-8")?;
    let traffic = [program, "traffic"];
    let stage = Stage::new(&acorn, &traffic)?;

    let starts = board::starts(&stage, &firmware)?;
    let mut bulk = board::bulk(&stage, &firmware)?;
    let idle = board::Idle::begin(&stage, &firmware, &traffic)?;
    let ways = [
        Way { sockets: Sockets::of(stage.linux.namespace(), &traffic), board: bulk.address },
        Way { sockets: Sockets::of(&stage.client, &traffic), board: BULK },
    ];
    let figures = rounds(&ways)?;
    bulk.check()?;
    print_traffic(&figures);
    print_board(&starts, idle.end()?);
    Ok(())
}

/// Everything on each way in turn, so that what else the machine does meanwhile hits all alike. The medians, way by way.
fn rounds(ways: &[Way; 2]) -> Result<Vec<(Figure, [f64; 2])>> {
    let mut seen = Figure::ALL.map(|_| [Vec::new(), Vec::new()]);
    for _ in 0..ROUNDS {
        for (figure, seen) in Figure::ALL.iter().zip(&mut seen) {
            for (way, seen) in ways.iter().zip(seen) {
                seen.push(figure.measure(way)?);
            }
        }
    }
    Ok(Figure::ALL.into_iter().zip(seen.map(|ways| ways.map(median))).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_traffic(figures: &[(Figure, [f64; 2])]) {
    println!("\nTraffic with an emulated Cortex-M3: medians of {ROUNDS} rounds, plain and overlay in turn");
    println!("{:<36} {:>8} {:>8} {:>6}", "", "plain", "overlay", "ratio");
    for (figure, [plain, overlay]) in figures {
        println!("{:<36} {plain:>8.2} {overlay:>8.2} {:>6.2}", figure.name(), overlay / plain);
    }
}

fn print_board(starts: &board::Starts, wakeups: f64) {
    println!("\nThe edge node on it, by its own clock");
    for (name, [joined, answered]) in
        [("first start, with a token", starts.first), ("later starts, median", starts.later)]
    {
        println!("{name:<36} {joined:>6.2} s until attached, {answered:.2} s until its first call is answered");
    }
    println!("{:<36} {wakeups:>6.2} a second", "wake-ups, joined and idle");
}

impl Stage {
    fn new(acorn: &Path, traffic: &[&str]) -> Result<Self> {
        let world = World::new()?;
        let underlay = Underlay::new(&world)?;
        let [root, linux] = ["root", "linux"].map(|name| world.namespace(name));
        let (root, linux) = (root?, linux?);
        underlay.connect(&root, &["192.168.50.1/24"])?;
        underlay.connect(&linux, &["192.168.50.11/24"])?;
        let root = Acorn::start(&world, &root, acorn, "root", "root", "")?;
        for service in SERVICES.iter().chain([&CLIENT]) {
            root.run(["service", "create", "--name", service])?;
        }
        let linux = example::join(&world, &root, &linux, acorn, None)?;
        let [client, collector] = ["client", "collector"].map(|name| world.namespace(name));
        let (client, collector) = (client?, collector?);
        linux.run(["instance", "attach", "--service", CLIENT, "--netns", "client"])?;
        linux.run(["instance", "attach", "--service", SERVICES[2], "--netns", "collector"])?;
        let _collector = example::serve(&collector, traffic, "collector")?;
        Ok(Self { client, _collector, linux, root, underlay, world })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle_and_not_moved_by_one_that_is_far_off() {
        assert_eq!(median(vec![3.0, 900.0, 1.0, 2.0, 4.0]), 3.0);
        assert!(median(Vec::new()).is_nan());
    }
}
