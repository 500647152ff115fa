//! The checks of the firmware's workspace that need no board: what of it also compiles for this machine, and the size of the rest.

use super::tools;
use crate::bench::host_target;
use crate::firmware;
use crate::workspace;
use anyhow::{Context, Result};
use std::process::Command;

/// Packages that compile for this machine too, and whether their tests link there: the application's need a board's logger.
const PORTABLE: [(&str, bool); 3] = [("acorn-embassy", true), ("board-support", true), ("acorn-node", false)];

/// rustfmt.
///
/// # Errors
/// When a file is not formatted.
pub fn formatting() -> Result<()> {
    workspace::run(cargo().args(["fmt", "--all", "--check"])).context("run `cargo fmt` in firmware")
}

/// clippy and rustdoc.
///
/// # Errors
/// When either has something to say.
pub fn lint() -> Result<()> {
    for (package, _) in PORTABLE {
        let mut clippy = portable("clippy", package)?;
        // With the logs, without which a branch that only logs is empty.
        workspace::run(clippy.args(["--all-features", "--all-targets", "--", "--deny", "warnings"]))?;
        workspace::run(portable("doc", package)?.arg("--no-deps").env("RUSTDOCFLAGS", "--deny warnings"))?;
    }
    Ok(())
}

/// The tests of the parts that run on this machine.
///
/// # Errors
/// When one fails.
pub fn unit_tests() -> Result<()> {
    // One package at a time: together they would be built with each other's features.
    PORTABLE
        .iter()
        .filter(|(_, links)| *links)
        .try_for_each(|(package, _)| workspace::run(&mut portable("test", package)?))
}

/// What the nodes take of flash and RAM.
///
/// # Errors
/// When one takes more than its budget.
pub fn size() -> Result<()> {
    firmware::run(Some(&firmware::What::Size { board: None, raise: None }))
}

/// Licences and sources of what the firmware depends on.
///
/// # Errors
/// When one is not allowed.
pub fn dependencies() -> Result<()> {
    let mut deny = workspace::command(tools::DENY.path()?);
    deny.current_dir(firmware::home()).args(["--log-level", "warn", "--locked", "--config", "../deny.toml"]);
    // The list is of both workspaces: what only the other one needs is no mistake.
    deny.args(["check", "--allow", "license-not-encountered", "bans", "licenses", "sources"]);
    workspace::run(&mut deny).context("deny.toml says what is allowed")
}

/// One of cargo's commands for a package, as it is on this machine.
fn portable(command: &str, package: &str) -> Result<Command> {
    let mut cargo = cargo();
    cargo.args([command, "--package", package, "--locked", "--quiet", "--target", &host_target()?]);
    cargo.arg("--target-dir").arg(firmware::target_directory());
    Ok(cargo)
}

/// The cargo of this machine's own programs, in the firmware's workspace.
fn cargo() -> Command {
    let mut cargo = workspace::cargo();
    cargo.current_dir(firmware::home());
    cargo
}
