//! What the tests of emulated boards need, built, and how they are told where it is.

use super::build::{Kind, Program};
use super::{boards, build, run};
use crate::test::tools;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// Plain `embassy-net` on the emulated board.
const ECHO: Program = Program { package: "mps2-an385", kind: Kind::Example("echo") };

/// What a host computes, computed again on the emulated board.
const VECTORS: Program = Program { package: "vectors", kind: Kind::Binary("vectors") };

/// The programs, by the environment variable that says where each is.
pub struct Programs([(&'static str, PathBuf); 4]);

impl Programs {
    /// Builds what is missing or old.
    ///
    /// # Errors
    /// When something can't be built.
    pub fn build() -> Result<Self> {
        let node = boards::named(run::BOARD)?;
        build::node(&node)?;
        Ok(Self([
            ("ACORN_MPS2_NODE", node.program()),
            ("ACORN_MPS2_ECHO", ECHO.build()?.0),
            ("ACORN_MPS2_VECTORS", VECTORS.build()?.0),
            ("ACORN_DEFMT_PRINT", tools::DEFMT_PRINT.path()?),
        ]))
    }

    /// Builds the node alone, and what prints its log.
    ///
    /// # Errors
    /// When something can't be built.
    pub fn of_node() -> Result<acorn_tests::board::Programs> {
        let node = boards::named(run::BOARD)?;
        build::node(&node)?;
        Ok(acorn_tests::board::Programs { firmware: node.program(), printer: tools::DEFMT_PRINT.path()? })
    }

    /// Tells a test of them.
    pub fn tell<'a>(&self, test: &'a mut Command) -> &'a mut Command {
        test.envs(self.0.iter().map(|(name, path)| (name, path)))
    }
}
