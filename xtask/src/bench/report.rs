//! The table that a person reads.

use super::baseline::Baseline;
use super::{FLOWS, Figures};

/// Prints what was measured, beside the baseline. Times may be missing.
pub fn print(instructions: &Figures, times: &Figures, baseline: &Baseline) {
    println!("\nPer packet; the medians of times. The baseline is of rustc {}: {}", baseline.rustc, baseline.reason);
    println!("{:>9}  {:<18} {:>12} {:>9} {:>7}  {:>9}", "flows", "packet", "instructions", "baseline", "", "time");
    for flows in FLOWS {
        let prefix = format!("{flows}-");
        for (name, count) in instructions.iter().filter(|(name, _)| name.starts_with(&prefix)) {
            let before = baseline.instructions.get(name);
            let change = before.map_or_else(String::new, |before| format!("{:+.1} %", (count / before - 1.0) * 100.0));
            let before = before.map_or_else(|| "-".to_owned(), |before| format!("{before:.0}"));
            let time = times.get(name).map_or_else(|| "-".to_owned(), |nanos| format!("{nanos:.0} ns"));
            let case = &name[prefix.len()..];
            println!("{flows:>9}  {case:<18} {count:>12.0} {before:>9} {change:>7}  {time:>9}");
        }
    }
    println!("Bytes allocated: none.");
}
