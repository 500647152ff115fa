//! `cargo xtask bench mcu`: what the node costs on a microcontroller.

mod instructions;
mod network;

use super::Figures;
use super::baseline::{Baseline, Bench, Compiler};
use anyhow::{Result, bail};

/// The instructions that a packet of a flow should take at most on a Cortex-M3. Where the table stands above, there is work to do; only
/// what costs more than the baseline fails.
const BUDGET_OF_HIT: f64 = 1500.0;

/// Counts instructions and prints them beside the baseline, and then measures the network; or makes the counts the baseline.
///
/// # Errors
/// When something can't be built or run, or the reason to raise the baseline is empty.
pub fn run(raise: Option<&str>) -> Result<()> {
    let (figures, compiler) = instructions::count()?;
    if let Some(reason) = raise {
        let baseline = Baseline::new(reason, &compiler, &figures)?;
        baseline.write(Bench::Mcu)?;
        print(&figures, &compiler, Some(&baseline));
        println!("This is the new baseline.");
        return Ok(());
    }
    print(&figures, &compiler, Baseline::read(Bench::Mcu).ok().as_ref());
    network::measure()
}

/// Counts instructions, and compares them with the baseline.
///
/// # Errors
/// When something costs more than it may.
pub fn check() -> Result<()> {
    let (figures, compiler) = instructions::count()?;
    let baseline = Baseline::read(Bench::Mcu)?;
    print(&figures, &compiler, Some(&baseline));
    let complaints = baseline.compare(Bench::Mcu, &compiler, &figures).unwrap_or_default();
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\n"));
    }
    Ok(())
}

/// The packets of flows that cost more than their budget.
fn over_budget(figures: &Figures) -> Vec<String> {
    let over = figures.iter().filter(|(name, count)| name.contains("-hit-") && **count > BUDGET_OF_HIT);
    over.map(|(name, count)| format!("{name} takes {count:.0} instructions, and its budget is {BUDGET_OF_HIT:.0}"))
        .collect()
}

fn print(figures: &Figures, compiler: &Compiler, baseline: Option<&Baseline>) {
    println!("\nInstructions of a Cortex-M3 ({}, rustc {})", compiler.target, compiler.rustc);
    if let Some(baseline) = baseline {
        println!("The baseline is of rustc {}: {}", baseline.rustc, baseline.reason);
    }
    println!("{:<24} {:>12} {:>12}", "", "instructions", "baseline");
    for (name, count) in figures {
        let before = baseline.and_then(|baseline| baseline.instructions.get(name));
        let change = before.map_or_else(String::new, |before| format!("{:+.1} %", (count / before - 1.0) * 100.0));
        let before = before.map_or_else(|| "-".to_owned(), |before| format!("{before:.0}"));
        println!("{name:<24} {count:>12.0} {before:>12} {change:>8}");
    }
    over_budget(figures).iter().for_each(|line| println!("{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packets_of_flows_have_a_budget() {
        let figures = [("a-hit-v4", 1501.0), ("b-hit-v6", 1500.0), ("a-first-v4", 9000.0), ("seal-1200", 90_000.0)];
        let figures: Figures = figures.map(|(name, count)| (name.to_owned(), count)).into_iter().collect();
        assert_eq!(over_budget(&figures).len(), 1);
    }
}
