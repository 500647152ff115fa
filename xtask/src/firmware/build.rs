//! Builds programs for boards.

use super::boards::{self, Board};
use super::toolchain::{self, Toolchain};
use crate::workspace;
use anyhow::{Result, bail};
use std::path::PathBuf;

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
    // One board at a time: together they would be built with each other's features.
    build(&board.facts.target, &["--package", &board.name])
}

/// A program of the firmware's workspace that is no board's node: a binary of a package, or an example of one.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The package.
    pub package: &'static str,
    /// Its example; the binary that is named like the package when there is none.
    pub example: Option<&'static str>,
    /// Features of the package.
    pub features: &'static [&'static str],
}

impl Program {
    /// Builds it for [`SMALLEST`], and says where it is.
    ///
    /// # Errors
    /// When there is no toolchain for it, or the build fails.
    pub fn build(self) -> Result<PathBuf> {
        let mut arguments = vec!["--package", self.package];
        if let Some(example) = self.example {
            arguments.extend(["--example", example]);
        }
        for feature in self.features {
            arguments.extend(["--features", feature]);
        }
        build(SMALLEST, &arguments)?;
        let release = toolchain::target_directory().join(SMALLEST).join("release");
        let program = match self.example {
            Some(example) => release.join("examples").join(example),
            None => release.join(self.package),
        };
        if !program.is_file() {
            bail!("cargo built {} and left nothing in {}", self.package, program.display());
        }
        Ok(program)
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

fn build(target: &str, arguments: &[&str]) -> Result<Toolchain> {
    let toolchain = Toolchain::for_target(target)?;
    let mut cargo = toolchain.cargo(target);
    cargo.args(["build", "--release", "--locked", "--target", target]).args(arguments);
    cargo.arg("--target-dir").arg(toolchain::target_directory());
    workspace::run(&mut cargo)?;
    Ok(toolchain)
}

/// Where a board's program is, as short as it can be said.
fn shown(board: &Board) -> String {
    let program = board.program();
    program.strip_prefix(workspace::root()).unwrap_or(&program).display().to_string()
}
