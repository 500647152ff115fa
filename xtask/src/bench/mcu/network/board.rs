//! The boards: one that serves the traffic, one that is started again and again, and one that is left alone.

use super::{COLLECTOR, SERVICES, Stage, median};
use crate::firmware;
use crate::firmware::build::{Kind, Program};
use acorn_tests::board::{self, Board, Plan, Programs};
use acorn_tests::example::ENDPOINT;
use acorn_tests::sockets::Sockets;
use anyhow::{Context, Result};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

/// The board with the traffic serves on both of its stacks.
const BULK: Program = Program { package: "mcu-bench", kind: Kind::Binary("mcu-overlay") };
/// What a board logs when it is an instance, and when the first of its calls is answered.
const ATTACHED: &str = "attached as instance";
const ANSWERED: &str = "collector call 1: answered by";
/// Starts after the first one.
const LATER_STARTS: usize = 5;
/// How long a board may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where a board gives readings.
const READINGS: u16 = 7000;
/// How long an idle board is left alone at least.
const IDLE: Duration = Duration::from_secs(60);

/// What runs on the boards.
pub struct Firmware {
    node: Programs,
    bulk: Programs,
}

impl Firmware {
    /// Builds it.
    ///
    /// # Errors
    /// When it can't be built.
    pub fn build() -> Result<Self> {
        let node = firmware::Programs::of_node()?;
        let bulk = Programs { firmware: BULK.build()?.0, printer: node.printer.clone() };
        Ok(Self { node, bulk })
    }
}

/// The board with the traffic.
pub struct Bulk {
    board: Board,
    /// Its address on the underlay.
    pub address: IpAddr,
}

/// Starts the board with the traffic and waits until it is an instance.
///
/// # Errors
/// When it does not get there.
pub fn bulk(stage: &Stage, firmware: &Firmware) -> Result<Bulk> {
    let plan = Plan { name: "bulk", number: 1, address: "192.168.50.21/24", serve: Some(SERVICES[0]), call: None };
    let mut board = start(stage, &firmware.bulk, &plan)?;
    board.wait_for("attached as instance IP", 1, PATIENCE)?;
    Ok(Bulk { board, address: [192, 168, 50, 21].into() })
}

impl Bulk {
    /// Whether it has run all the time.
    ///
    /// # Errors
    /// With its log, when it was started anew meanwhile.
    pub fn check(&mut self) -> Result<()> {
        anyhow::ensure!(self.board.count("attached as") == 1, "the board has failed:\n{}", self.board.log());
        Ok(())
    }
}

/// Seconds from the start of a board until it was an instance, and until the first call that it made was answered.
pub struct Starts {
    /// The first time, with its token.
    pub first: [f64; 2],
    /// Medians of the next ones.
    pub later: [f64; 2],
}

/// Starts a board that calls the collector again and again.
///
/// # Errors
/// When it does not get there.
pub fn starts(stage: &Stage, firmware: &Firmware) -> Result<Starts> {
    let call = Some((COLLECTOR, 1));
    let plan = Plan { name: "starts", number: 2, address: "192.168.50.22/24", serve: Some(SERVICES[1]), call };
    let mut board = start(stage, &firmware.node, &plan)?;
    let mut times = Vec::new();
    for count in 1..=LATER_STARTS + 1 {
        if count > 1 {
            board.power_on()?;
        }
        let answered = board.wait_for(ANSWERED, count, PATIENCE)?;
        let attached = board.wait_for(ATTACHED, count, PATIENCE)?;
        times.push([seconds(&attached)?, seconds(&answered)?]);
        // So that the next start does not use the token again.
        board.wait_for("collector call 3: answered by", count, PATIENCE)?;
    }
    let (first, later) = times.split_first().context("the board was not started")?;
    Ok(Starts { first: *first, later: [0, 1].map(|place| median(later.iter().map(|times| times[place]).collect())) })
}

/// A board that is left alone, and what it had counted when that began.
pub struct Idle {
    _board: Board,
    sockets: Sockets,
    address: SocketAddr,
    /// What one reading adds.
    cost: u64,
    wakeups: u64,
    since: Instant,
}

impl Idle {
    /// Starts the board and waits until it is an instance.
    ///
    /// # Errors
    /// When it does not get there, or gives no readings.
    pub fn begin(stage: &Stage, firmware: &Firmware, traffic: &[&str]) -> Result<Self> {
        let plan = Plan { name: "idle", number: 3, address: "192.168.50.23/24", serve: Some(SERVICES[1]), call: None };
        let mut board = start(stage, &firmware.node, &plan)?;
        let line = board.wait_for(ATTACHED, 1, PATIENCE)?;
        let instance = line.split("instance IP ").nth(1).and_then(|rest| rest.split(',').next());
        let instance: IpAddr =
            instance.and_then(|ip| ip.parse().ok()).with_context(|| format!("no address in {line:?}"))?;
        let (sockets, address) = (Sockets::of(&stage.client, traffic), SocketAddr::new(instance, READINGS));
        // The first one sets the tunnel up.
        wakeups(&sockets, address)?;
        let before = wakeups(&sockets, address)?;
        let (since, now) = (Instant::now(), wakeups(&sockets, address)?);
        Ok(Self { _board: board, sockets, address, cost: now - before, wakeups: now, since })
    }

    /// Wake-ups a second since then.
    ///
    /// # Errors
    /// When the board gives no readings.
    pub fn end(self) -> Result<f64> {
        thread::sleep(IDLE.saturating_sub(self.since.elapsed()));
        let seconds = self.since.elapsed().as_secs_f64();
        let woken = wakeups(&self.sockets, self.address)? - self.wakeups;
        Ok(woken.saturating_sub(self.cost) as f64 / seconds)
    }
}

/// Provisions a board and switches it on.
fn start(stage: &Stage, programs: &Programs, plan: &Plan<'_>) -> Result<Board> {
    board::provision(&stage.world, &stage.root, ENDPOINT, plan)?;
    Ok(Board::start(&stage.world, &stage.underlay, programs, plan)?)
}

/// How often a board has been woken, as its readings say.
fn wakeups(sockets: &Sockets, address: SocketAddr) -> Result<u64> {
    let socket = sockets.udp(false, 0)?;
    socket.connect(address)?;
    socket.send(b"?")?;
    let mut reading = [0; 2048];
    let length = socket.recv(&mut reading).with_context(|| format!("{address} gives no reading"))?;
    let reading: Value = serde_json::from_slice(reading.get(..length).unwrap_or_default())?;
    reading["board"]["wakeups"].as_u64().with_context(|| format!("no wake-ups in {reading}"))
}

/// The time stamp of a line that a board has logged.
fn seconds(line: &str) -> Result<f64> {
    let stamp = line.split_whitespace().next().unwrap_or_default();
    stamp.parse().with_context(|| format!("no time stamp in {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_its_time() {
        assert_eq!(seconds("0.251875 [INFO ] attached as instance 1").unwrap(), 0.251_875);
        assert!(seconds("attached as instance 1").is_err());
    }
}
