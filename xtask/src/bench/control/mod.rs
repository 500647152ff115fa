//! `cargo xtask bench control`: what the control plane takes.

mod reservations;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

/// What is measured of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Reservations per second from a real root, on redb and on etcd
    Reservations,
}

/// How it is measured.
#[derive(Args)]
pub struct Arguments {
    /// Only these parts
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// The daemon to measure, instead of one that is built for it
    #[arg(long, value_name = "FILE")]
    acorn: Option<PathBuf>,
}

/// Measures, and prints what came out.
///
/// # Errors
/// When something can't be measured.
pub fn run(arguments: &Arguments) -> Result<()> {
    let is_asked_for = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    if is_asked_for(Part::Reservations) {
        reservations::run(arguments.acorn.as_deref())?;
    }
    Ok(())
}
