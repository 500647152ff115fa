//! The microcontroller of the demo: the real firmware on a board that QEMU emulates.

use super::address_table::S;
use super::narrator::Told;
use acorn_tests::acorn::{Acorn, Service};
use acorn_tests::board::{self, Board, Plan, Programs};
use acorn_tests::example::{self, ENDPOINT};
use acorn_tests::traffic::http;
use acorn_tests::world::{Namespace, Underlay, World};
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The service that the board is an instance of.
const SERVICE: &str = "farm.ns.telemetry.ns";
/// How long the board may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// Calls of the board that are looked at.
const CALLS: usize = 4;

/// Provisions a board, switches it on and waits until it is a service. Returns it with its service IP.
///
/// # Errors
/// When it does not get there, with the end of its log.
pub fn join(world: &World, underlay: &Underlay, root: &Acorn, programs: &Programs) -> Told<(Board, IpAddr)> {
    root.run(["service", "create", "--name", SERVICE])?;
    let service: Service = root.json(&["service", "show", SERVICE])?;
    let address = service.round_robin().context("the board's service has no address under round robin")?.ipv4;
    let call = SocketAddr::new(S.into(), http::PORT).to_string();
    let plan =
        Plan { name: "board", number: 1, address: "192.168.50.21/24", serve: Some(SERVICE), call: Some((&call, 1)) };
    board::provision(world, root, ENDPOINT, &plan)?;
    let mut board = Board::start(world, underlay, programs, &plan)?;
    board.wait_for("attached as instance", 1, PATIENCE)?;
    let mut lines =
        vec!["a Cortex-M3 with Ethernet, emulated; its log, in seconds since it was switched on:".to_owned()];
    lines.extend(board.log().lines().map(|line| format!("  {line}")));
    Ok(((board, address.into()), lines))
}

/// Gets the board's page.
///
/// # Errors
/// When it does not answer, or somebody else does.
pub fn page(client: &Namespace, program: &[&str], address: IpAddr) -> Result<String> {
    let at = SocketAddr::new(address, http::PORT);
    let answers = example::answers(client, program, &at.to_string(), 1)?;
    ensure!(answers.iter().all(|page| page.contains("<title>board</title>")), "not the board's page: {answers:?}");
    Ok(format!("http://{at}/  the board's page"))
}

/// What the board's own calls got. S1 and S2 must take strict turns for it.
///
/// # Errors
/// When a call fails, or somebody answers out of turn.
pub fn calls(board: &mut Board) -> Told<()> {
    board.wait_for("answered by", CALLS, PATIENCE)?;
    let log = board.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("collector call")).take(CALLS).collect();
    let turns = |pair: &[&str]| {
        let name = |line: &str| ["S1", "S2"].into_iter().find(|name| line.contains(&format!("answered by {name}")));
        name(pair[0]).is_some() && name(pair[1]).is_some() && name(pair[0]) != name(pair[1])
    };
    ensure!(lines.windows(2).all(turns), "the instances did not take strict turns:\n{}", lines.join("\n"));
    Ok(((), lines.into_iter().map(str::to_owned).collect()))
}
