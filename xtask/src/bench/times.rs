//! Time per packet, as criterion takes it.

use super::Figures;
use crate::workspace;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// The median time per packet of every case, in nanoseconds.
///
/// # Errors
/// When the benchmark can't be built or run, or what it leaves can't be read.
pub fn measure() -> Result<Figures> {
    let home = workspace::target().join("criterion-router");
    // The medians of cases that are no more would be read as well.
    let _ = fs::remove_dir_all(&home);
    let mut bench = workspace::cargo();
    bench.args(["bench", "--package", "acorn-bench", "--bench", "router", "--locked", "--quiet"]);
    workspace::run(bench.env("CRITERION_HOME", &home))?;
    let mut figures = Figures::new();
    for entry in fs::read_dir(&home).with_context(|| format!("criterion left nothing in {}", home.display()))? {
        let entry = entry?;
        let estimates = entry.path().join("new/estimates.json");
        if estimates.exists() {
            figures.insert(entry.file_name().to_string_lossy().into_owned(), median(&estimates)?);
        }
    }
    Ok(figures)
}

fn median(estimates: &Path) -> Result<f64> {
    let read = || -> Option<f64> {
        let value: serde_json::Value = serde_json::from_slice(&fs::read(estimates).ok()?).ok()?;
        value["median"]["point_estimate"].as_f64()
    };
    read().with_context(|| format!("{} has no median", estimates.display()))
}
