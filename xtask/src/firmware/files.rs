//! The files that the commands are told, by paths that hold wherever they are used.

use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};

/// A provisioning blob.
///
/// # Errors
/// When there is no such file.
pub fn existing(blob: &Path) -> Result<PathBuf> {
    let path = absolute(blob)?;
    if !path.is_file() {
        bail!("{} is no file; `acorn firmware provision` writes one", path.display());
    }
    Ok(path)
}

/// A path, from where the command was given.
///
/// # Errors
/// When that directory is gone.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(env::current_dir().context("the current directory is gone")?.join(path))
}
