//! The lines of source that a piece of code came from, inlined functions included, as `addr2line` tells them.

use crate::workspace;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The lines of an object.
pub struct Lines {
    object: PathBuf,
}

impl Lines {
    /// Takes an object, which is written to a file of its own.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn of(object: &[u8]) -> Result<Self> {
        let path = workspace::target().join("panics/data-path.o");
        fs::write(&path, object).with_context(|| format!("{} can't be written", path.display()))?;
        Ok(Self { object: path })
    }

    /// Where the code in front of `offset` in a section came from, innermost first; empty when that is not known.
    pub fn at(&self, section: &str, offset: u64) -> Vec<String> {
        // A call refers to its callee in its last bytes: one byte before is inside the call.
        let address = format!("{:#x}", offset.saturating_sub(1));
        let mut command = Command::new("addr2line");
        command.args(["--inlines", "--functions", "--demangle", "--section", section, "--exe"]);
        let Ok(output) = command.arg(&self.object).arg(address).output() else {
            return Vec::new();
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = said.lines().collect();
        let pairs = lines.as_chunks::<2>().0.iter().filter(|[_, place]| !place.starts_with('?'));
        pairs.map(|[function, place]| format!("{} ({})", shortened(place), without_types(function))).collect()
    }
}

/// A place without what differs between machines.
fn shortened(place: &str) -> &str {
    let root = workspace::root();
    let own = root.to_str().and_then(|root| place.strip_prefix(root)).map(|rest| rest.trim_start_matches('/'));
    let from = |mark: &str| place.find(mark).and_then(|at| place.get(at + 1..));
    own.or_else(|| from("/library/")).or_else(|| from("/registry/")).unwrap_or(place)
}

/// A function's name up to the types that it is instantiated with, which can be very long.
fn without_types(function: &str) -> &str {
    function.split_once('<').map(|(name, _)| name).filter(|name| !name.is_empty()).unwrap_or(function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_places_are_short() {
        assert_eq!(without_types("from_iter<Record, usize, 4>"), "from_iter");
        assert_eq!(without_types("<A as B>::next"), "<A as B>::next");
        assert_eq!(shortened("/rustc/1/library/core/src/option.rs:971"), "library/core/src/option.rs:971");
        assert_eq!(shortened(&format!("{}/core/src/lib.rs:1", workspace::root().display())), "core/src/lib.rs:1");
    }
}
