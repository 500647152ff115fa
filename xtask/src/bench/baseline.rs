//! The committed numbers of instructions, which a change may not exceed without saying so.

use super::Figures;
use crate::workspace;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::Command;

/// How much more than the baseline a case may cost: room for what a new compiler or dependency does by itself.
const TOLERANCE: f64 = 1.05;

/// Whose baseline it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bench {
    /// The router on this machine.
    Router,
    /// A microcontroller.
    Mcu,
}

impl Bench {
    /// The word that `cargo xtask bench` knows it by.
    fn word(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Mcu => "mcu",
        }
    }

    fn path(self) -> PathBuf {
        let file = match self {
            Self::Router => "tests/bench/baseline.json",
            Self::Mcu => "tests/bench/mcu-baseline.json",
        };
        workspace::root().join(file)
    }
}

/// What compiled that which was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compiler {
    /// Its version.
    pub rustc: String,
    /// What it compiled for.
    pub target: String,
}

impl Compiler {
    /// The one that this program was built with, for this machine.
    ///
    /// # Errors
    /// When it does not say which one it is.
    pub fn of_host() -> Result<Self> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output =
            Command::new(rustc).current_dir(workspace::root()).arg("-vV").output().context("rustc can't be started")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let (release, target) = (field("release: "), field("host: "));
        let (rustc, target) = release.zip(target).context("rustc does not say its version and target")?;
        Ok(Self { rustc, target })
    }
}

/// Instructions per packet, and how they came to be.
#[derive(Debug, Serialize, Deserialize)]
pub struct Baseline {
    /// Why they were last set.
    pub reason: String,
    /// The compiler that they were taken with.
    pub rustc: String,
    /// The target that they were taken on.
    pub target: String,
    /// Instructions per packet by case.
    pub instructions: Figures,
}

impl Baseline {
    /// A baseline of what was just counted.
    ///
    /// # Errors
    /// When there is no reason.
    pub fn new(reason: &str, compiler: &Compiler, instructions: &Figures) -> Result<Self> {
        if reason.trim().is_empty() {
            bail!("the reason is empty: say what the instructions are spent on");
        }
        let Compiler { rustc, target } = compiler.clone();
        let instructions = instructions.iter().map(|(case, count)| (case.clone(), count.round())).collect();
        Ok(Self { reason: reason.trim().to_owned(), rustc, target, instructions })
    }

    /// The committed one.
    ///
    /// # Errors
    /// When there is none, or it can't be understood.
    pub fn read(bench: Bench) -> Result<Self> {
        let (path, word) = (bench.path(), bench.word());
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!("{} can't be read; `cargo xtask bench {word} --raise REASON` makes it", path.display())
        })?;
        serde_json::from_str(&text).with_context(|| format!("{} is no baseline", path.display()))
    }

    /// Makes it the committed one.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, bench: Bench) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        let path = bench.path();
        std::fs::write(&path, text).with_context(|| format!("{} can't be written", path.display()))
    }

    /// What costs too much, or is not in both; none when the baseline is of another target.
    pub fn compare(&self, bench: Bench, compiler: &Compiler, now: &Figures) -> Option<Vec<String>> {
        let Compiler { rustc, target } = compiler;
        if *target != self.target {
            return None;
        }
        let mut complaints = self.differences(now);
        if !complaints.is_empty() {
            if *rustc != self.rustc {
                complaints.push(format!("The baseline was taken with {}, this is {rustc}.", self.rustc));
            }
            let word = bench.word();
            complaints.push(format!(
                "If it has to be so, `cargo xtask bench {word} --raise REASON` makes it the new baseline."
            ));
        }
        Some(complaints)
    }

    fn differences(&self, now: &Figures) -> Vec<String> {
        let grown = now.iter().filter_map(|(case, count)| match self.instructions.get(case) {
            None => Some(format!("{case} is not in the baseline")),
            Some(before) => (*count > before * TOLERANCE)
                .then(|| format!("{case} takes {count:.0} instructions, and the baseline says {before:.0}")),
        });
        let lost = self.instructions.keys().filter(|case| !now.contains_key(*case));
        grown.chain(lost.map(|case| format!("{case} is in the baseline and was not measured"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(of: &[(&str, f64)]) -> Figures {
        of.iter().map(|(case, count)| ((*case).to_owned(), *count)).collect()
    }

    #[test]
    fn more_than_a_twentieth_is_too_much() {
        let baseline = Baseline::new("first", &Compiler::default(), &figures(&[("a", 1000.0)])).unwrap();
        assert!(baseline.differences(&figures(&[("a", 1050.0)])).is_empty());
        assert_eq!(baseline.differences(&figures(&[("a", 1051.0)])).len(), 1);
        assert!(baseline.differences(&figures(&[("a", 10.0)])).is_empty());
    }

    #[test]
    fn a_case_that_only_one_side_has_is_noticed() {
        let baseline = Baseline::new("first", &Compiler::default(), &figures(&[("a", 1.0), ("b", 1.0)])).unwrap();
        assert_eq!(baseline.differences(&figures(&[("b", 1.0), ("c", 1.0)])).len(), 2);
    }

    #[test]
    fn a_baseline_needs_a_reason() {
        assert!(Baseline::new(" ", &Compiler::default(), &Figures::new()).is_err());
    }
}
