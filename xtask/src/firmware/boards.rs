//! The boards, as their manifests describe them: a package below `firmware/boards` with `[package.metadata.acorn]` is one.

use super::toolchain;
use crate::workspace;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::PathBuf;

/// A package of the firmware's workspace.
#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    metadata: Option<Tables>,
}

/// The tables that tools read from a manifest.
#[derive(Debug, Deserialize)]
struct Tables {
    acorn: Option<Facts>,
}

#[derive(Debug, Deserialize)]
struct Workspace {
    workspace_root: PathBuf,
    packages: Vec<Package>,
}

/// What has to be known about a board outside of its program: `[package.metadata.acorn]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Facts {
    /// The target that it is built for.
    pub target: String,
    /// Its chip, as probe-rs calls it. An emulated board has none.
    pub chip: Option<String>,
    /// Where the provisioning blob has to be.
    pub provisioning_address: Option<u64>,
    /// The bytes of flash that a program may have.
    pub flash_bytes: u64,
    /// The bytes of RAM that a program may have, its stack apart.
    pub ram_bytes: u64,
}

/// A board that a node is built for.
#[derive(Debug, Clone)]
pub struct Board {
    /// The name of its package and of the program in it.
    pub name: String,
    /// The rest.
    pub facts: Facts,
}

impl Board {
    /// Where its provisioning blob has to be.
    ///
    /// # Errors
    /// When its manifest does not say.
    pub fn provisioning_address(&self) -> Result<u64> {
        let address = self.facts.provisioning_address;
        address.with_context(|| format!("the manifest of {} has no `provisioning-address`", self.name))
    }

    /// Where its program is, once it is built.
    pub fn program(&self) -> PathBuf {
        toolchain::target_directory().join(&self.facts.target).join("release").join(&self.name)
    }
}

/// All boards, by name.
///
/// # Errors
/// When cargo can't read the workspace, or a board's manifest does not say what it has to.
pub fn all() -> Result<Vec<Board>> {
    let mut metadata = workspace::cargo();
    metadata.current_dir(toolchain::home()).args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = metadata.output().context("cargo can't be started")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed in firmware:\n{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let boards = parse(&output.stdout)?;
    if boards.is_empty() {
        bail!("the firmware's workspace has no board");
    }
    Ok(boards)
}

/// The board of this name.
///
/// # Errors
/// When there is none; the text names those that are there.
pub fn named(name: &str) -> Result<Board> {
    let boards = all()?;
    let names = boards.iter().map(|board| board.name.as_str()).collect::<Vec<_>>().join(", ");
    let board = boards.into_iter().find(|board| board.name == name);
    board.with_context(|| format!("there is no board `{name}`; there are {names}"))
}

/// The boards of a workspace, from what `cargo metadata` says of it.
fn parse(metadata: &[u8]) -> Result<Vec<Board>> {
    let Workspace { workspace_root, packages } =
        serde_json::from_slice(metadata).context("the `[package.metadata.acorn]` of a board is not as it has to be")?;
    let home = workspace_root.join("boards");
    let packages = packages.into_iter().filter(|package| package.manifest_path.starts_with(&home));
    let mut boards: Vec<Board> =
        packages.filter_map(|package| Some(Board { name: package.name, facts: package.metadata?.acorn? })).collect();
    boards.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(boards)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"{"workspace_root": "/boards/f", "packages": [
        {"name": "z", "manifest_path": "/boards/f/boards/z/Cargo.toml", "metadata": {"acorn": {"target": "thumbv7m-none-eabi",
            "flash-bytes": 2, "ram-bytes": 1, "chip": "Z1", "provisioning-address": 4096}}},
        {"name": "support", "manifest_path": "/boards/f/boards/support/Cargo.toml", "metadata": null},
        {"name": "vectors", "manifest_path": "/boards/f/vectors/Cargo.toml", "metadata": {"docs": {}}},
        {"name": "a", "manifest_path": "/boards/f/boards/a/Cargo.toml", "metadata": {"acorn": {"target": "thumbv7m-none-eabi",
            "flash-bytes": 2, "ram-bytes": 1}}}]}"#;

    #[test]
    fn packages_with_facts_are_boards_in_the_order_of_their_names() {
        let boards = parse(TWO.as_bytes()).unwrap();
        let names: Vec<_> = boards.iter().map(|board| board.name.as_str()).collect();
        assert_eq!(names, ["a", "z"]);
        assert_eq!(boards[0].facts.chip, None);
        assert_eq!(boards[1].facts.chip.as_deref(), Some("Z1"));
        assert_eq!(boards[1].facts.provisioning_address, Some(4096));
    }

    #[test]
    fn a_fact_that_nobody_knows_is_a_mistake() {
        assert!(parse(TWO.replace("chip", "chop").as_bytes()).is_err());
    }
}
