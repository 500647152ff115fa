//! Programs of crates.io that the commands run, built below the target directory when they are missing there.

use crate::workspace;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// A program, in the one version that everybody checks with.
pub struct Tool {
    name: &'static str,
    version: &'static str,
    features: &'static [&'static str],
}

/// Checks licences and sources.
pub const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", features: &["--no-default-features"] };

/// Finds dependencies that nothing uses.
pub const MACHETE: Tool = Tool { name: "cargo-machete", version: "0.9.2", features: &[] };

/// Runs libFuzzer.
pub const FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2", features: &[] };

/// Shows what the firmware logs, which is in a form that only the program's own ELF file explains.
pub const DEFMT_PRINT: Tool = Tool { name: "defmt-print", version: "1.2.0", features: &[] };

impl Tool {
    /// Where it is, after building it if need be.
    ///
    /// # Errors
    /// When it can't be built.
    pub fn path(&self) -> Result<PathBuf> {
        // The version is part of the path, so that raising it above builds it anew.
        let home = workspace::target().join("tools").join(format!("{}-{}", self.name, self.version));
        let program = home.join("bin").join(self.name);
        if !program.is_file() {
            println!("Building {} {}.", self.name, self.version);
            let mut install = workspace::cargo();
            // Unoptimised: it is built in half the time and takes a second longer to run.
            install.args(["install", "--locked", "--debug", "--quiet", "--no-track", self.name]);
            install.args(["--version", self.version]).args(self.features).arg("--root").arg(&home);
            install.arg("--target-dir").arg(workspace::target().join("tools/build"));
            workspace::run(&mut install).with_context(|| format!("building {}", self.name))?;
        }
        Ok(program)
    }
}
