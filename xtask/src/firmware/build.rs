//! Builds programs for boards.

use super::boards::{self, Board};
use super::toolchain::{self, Toolchain};
use crate::workspace;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// Cortex-M3, the smallest core that the project runs on.
pub const SMALLEST: &str = "thumbv7m-none-eabi";

/// Builds the core for [`SMALLEST`], which proves that it needs neither an operating system nor an allocator, and the nodes of all
/// boards, or the node of one.
///
/// # Errors
/// When there is no such board, no toolchain, or the build fails.
pub fn all(board: Option<&str>) -> Result<()> {
    let boards = match board {
        Some(name) => vec![boards::named(name)?],
        None => {
            core()?;
            boards::all()?
        }
    };
    for board in &boards {
        let toolchain = node(board)?;
        println!("{} is built for {} with {}: {}", board.name, board.facts.target, toolchain.name(), shown(board));
    }
    Ok(())
}

/// Builds the node of a board, and says with what.
///
/// # Errors
/// When there is no toolchain for it, or the build fails.
pub fn node(board: &Board) -> Result<Toolchain> {
    let toolchain = Toolchain::for_target(&board.facts.target)?;
    // One board at a time: together they would be built with each other's features.
    workspace::run(&mut command(toolchain, &board.facts.target, &["--package", &board.name]))?;
    Ok(toolchain)
}

/// A program of the firmware's workspace that is no board's node.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its package.
    pub package: &'static str,
    /// Which of the package's programs.
    pub kind: Kind,
}

/// What a program is to its package.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A binary of this name.
    Binary(&'static str),
    /// An example of this name.
    Example(&'static str),
}

impl Program {
    /// Builds it for [`SMALLEST`], and says where it is and with what it was built.
    ///
    /// # Errors
    /// When there is no toolchain for it, or the build fails.
    pub fn build(self) -> Result<(PathBuf, Toolchain)> {
        let release = toolchain::target_directory().join(SMALLEST).join("release");
        let (kind, name, program) = match self.kind {
            Kind::Binary(name) => ("--bin", name, release.join(name)),
            Kind::Example(name) => ("--example", name, release.join("examples").join(name)),
        };
        let toolchain = Toolchain::for_target(SMALLEST)?;
        workspace::run(&mut command(toolchain, SMALLEST, &["--package", self.package, kind, name]))?;
        Ok((program, toolchain))
    }
}

fn core() -> Result<()> {
    let toolchain = Toolchain::for_target(SMALLEST)?;
    let mut cargo = toolchain.cargo(SMALLEST);
    // In the workspace that the core belongs to, with its versions.
    cargo.current_dir(workspace::root()).args(["build", "--package", "acorn-core", "--release", "--locked"]);
    cargo.args(["--quiet", "--target", SMALLEST, "--target-dir"]).arg(toolchain::target_directory());
    workspace::run(&mut cargo)?;
    println!("acorn-core is built for {SMALLEST} with {}.", toolchain.name());
    Ok(())
}

fn command(toolchain: Toolchain, target: &str, arguments: &[&str]) -> Command {
    let mut cargo = toolchain.cargo(target);
    cargo.args(["build", "--release", "--locked", "--target", target]).args(arguments);
    cargo.arg("--target-dir").arg(toolchain::target_directory());
    cargo
}

/// Where a board's program is, as short as it can be said.
fn shown(board: &Board) -> String {
    let program = board.program();
    program.strip_prefix(workspace::root()).unwrap_or(&program).display().to_string()
}
