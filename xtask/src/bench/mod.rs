//! `cargo xtask bench`: what a packet costs in instructions and in time. `docs/performance.md` says how to read it.

mod baseline;
mod callgrind;
mod control;
pub mod mcu;
mod report;
mod times;

use anyhow::{Result, bail};
use baseline::{Baseline, Bench, Compiler};
use clap::Subcommand;
use std::collections::BTreeMap;

/// The numbers of live flows that are measured. The benchmark knows the same ones.
const FLOWS: [usize; 3] = [1 << 10, 1 << 16, 1 << 20];

/// What each case costs, by its name: number of live flows, `-`, and what kind of packet it is.
type Figures = BTreeMap<String, f64>;

/// What is measured.
#[derive(Subcommand)]
pub enum What {
    /// The router: instructions and time per packet, first or of a flow, with 1 k, 64 k and 1 M live flows
    Router {
        /// Only count instructions, and fail when a packet costs more than the baseline says
        #[arg(long, conflicts_with = "raise")]
        check: bool,
        /// Only count instructions, and make them the new baseline, for this reason
        #[arg(long, value_name = "REASON")]
        raise: Option<String>,
    },
    /// The control plane: reservations per second
    Control(control::Arguments),
    /// A microcontroller, in QEMU: instructions per packet, payload and step of a handshake; traffic, plain and through the overlay; starts and sleep
    Mcu {
        /// Fail when something costs more than the baseline says
        #[arg(long, conflicts_with = "raise")]
        check: bool,
        /// Make the counts the new baseline, for this reason
        #[arg(long, value_name = "REASON")]
        raise: Option<String>,
    },
}

/// Measures, and prints a table.
///
/// # Errors
/// When something can't be measured, or `--check` finds that a packet costs more than it may.
pub fn run(what: &What) -> Result<()> {
    match what {
        What::Router { check: true, .. } => check(),
        What::Router { raise, .. } => router(raise.as_deref()),
        What::Control(arguments) => control::run(arguments),
        What::Mcu { check: true, .. } => mcu::check(),
        What::Mcu { raise, .. } => mcu::run(raise.as_deref()),
    }
}

fn router(raise: Option<&str>) -> Result<()> {
    let instructions = callgrind::count(&FLOWS)?;
    if let Some(reason) = raise {
        let baseline = Baseline::new(reason, &Compiler::of_host()?, &instructions)?;
        baseline.write(Bench::Router)?;
        report::print(&instructions, &Figures::new(), &baseline);
        println!("This is the new baseline.");
        return Ok(());
    }
    let times = times::measure()?;
    report::print(&instructions, &times, &Baseline::read(Bench::Router)?);
    Ok(())
}

/// The target of this machine.
///
/// # Errors
/// When the compiler does not say.
pub fn host_target() -> Result<String> {
    Ok(Compiler::of_host()?.target)
}

/// Counts instructions, and compares them with the baseline.
///
/// # Errors
/// When a packet costs more than the baseline says, or more with many flows than with few.
pub fn check() -> Result<()> {
    let instructions = callgrind::count(&FLOWS)?;
    let baseline = Baseline::read(Bench::Router)?;
    report::print(&instructions, &Figures::new(), &baseline);
    let mut complaints = growth_with_flows(&instructions);
    match baseline.compare(Bench::Router, &Compiler::of_host()?, &instructions) {
        Some(grown) => complaints.extend(grown),
        None => println!("The baseline is of {}, this is another target: not compared.", baseline.target),
    }
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\n"));
    }
    Ok(())
}

/// Packets of flows must cost the same however many flows there are; this allows for longer chains.
const MOST_GROWTH: f64 = 1.1;

/// The cases that cost more with the most flows than they may.
fn growth_with_flows(instructions: &Figures) -> Vec<String> {
    let (fewest, most) = (FLOWS[0], FLOWS[FLOWS.len() - 1]);
    let hits = instructions.iter().filter_map(|(name, few)| {
        let case = name.strip_prefix(&format!("{fewest}-"))?;
        let many = instructions.get(&format!("{most}-{case}"))?;
        (case.contains("-hit-") && *many > few * MOST_GROWTH).then(|| {
            format!("{case} takes {few:.0} instructions with {fewest} flows and {many:.0} with {most}, which is more than a tenth more")
        })
    });
    hits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(few: f64, many: f64, case: &str) -> Figures {
        [(format!("1024-{case}"), few), (format!("1048576-{case}"), many)].into_iter().collect()
    }

    #[test]
    fn a_hit_may_not_cost_more_with_more_flows_and_a_first_packet_may() {
        assert!(growth_with_flows(&figures(1000.0, 1100.0, "outbound-hit-v4")).is_empty());
        assert_eq!(growth_with_flows(&figures(1000.0, 1101.0, "outbound-hit-v4")).len(), 1);
        assert!(growth_with_flows(&figures(1000.0, 1101.0, "outbound-first-v4")).is_empty());
    }
}
