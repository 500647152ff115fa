//! Instructions per packet, counted by callgrind: the same on every run and every machine of one target.

use super::Figures;
use crate::debian::{self, Need};
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;

const VALGRIND: Need = Need { package: "valgrind", brings: "valgrind" };
const PROGRAM: &str = "router-instructions";

/// Counts the instructions per packet of every case with each number of live flows.
///
/// # Errors
/// When the program can't be built or run, a packet was not sent on, or memory was allocated for one.
pub fn count(flows: &[usize]) -> Result<Figures> {
    debian::require(&[VALGRIND])?;
    let mut build = workspace::cargo();
    build.args(["build", "--package", "acorn-bench", "--bin", PROGRAM, "--release", "--locked", "--quiet"]);
    workspace::run(&mut build)?;
    let directory = workspace::target().join("callgrind");
    let mut figures = Figures::new();
    for flows in flows {
        // What another run left would be taken for a profile of this one.
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;
        figures.extend(count_with(*flows, &directory).with_context(|| format!("with {flows} live flows"))?);
    }
    Ok(figures)
}

fn count_with(flows: usize, directory: &Path) -> Result<Figures> {
    let profile = directory.join("profile");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind", "--toggle-collect=*measured_*", "--dump-after=acorn_case_ends"]);
    valgrind.arg(format!("--callgrind-out-file={}", profile.display()));
    valgrind.arg(workspace::target().join("release").join(PROGRAM)).arg(flows.to_string());
    let output = valgrind.output().context("valgrind can't be started")?;
    if !output.status.success() {
        bail!("{PROGRAM} failed under valgrind:\n{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let mut figures = Figures::new();
    for (line, part) in said.lines().zip(1..) {
        let case = line.split_once(' ').and_then(|(case, packets)| Some((case, packets.parse::<f64>().ok()?)));
        let (case, packets) = case.with_context(|| format!("{PROGRAM} says `{line}`"))?;
        let part = profile.with_extension(part.to_string());
        let text = fs::read_to_string(&part).with_context(|| format!("there is no profile of {case}"))?;
        let total = total(&text).filter(|total| *total > 0.0);
        let total = total.with_context(|| format!("the profile of {case} counts nothing"))?;
        figures.insert(format!("{flows}-{case}"), total / packets);
    }
    Ok(figures)
}

/// The instructions that a profile counts.
fn total(profile: &str) -> Option<f64> {
    let line = profile.lines().find_map(|line| line.strip_prefix("totals: "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_profile_is_found() {
        assert_eq!(total("# callgrind format\nevents: Ir\nfn=(1) f\n1 7\ntotals: 298473\n"), Some(298_473.0));
        assert_eq!(total("events: Ir\n"), None);
    }
}
