//! Kernel settings under `/proc/sys`, and the journal that puts them back.
//!
//! `/proc/sys/net` shows the network namespace of the thread that opens the
//! file, so these functions are called on a thread of the namespace they mean.
//! Keys are written with slashes (`net/ipv4/conf/eth0.5/forwarding`), because
//! an interface name may hold a dot.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A kernel setting could not be read or written.
#[derive(Debug, Error)]
#[error("cannot {verb} the kernel setting {key}: {source}{}", advice(source))]
pub struct SysctlError {
    verb: &'static str,
    key: String,
    source: io::Error,
}

/// What Acorn changed in settings that outlive its own interfaces, and what
/// they were before. It is kept in the daemon's state, so that they can be put
/// back at `acorn down` even when the daemon that changed them was killed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysctlJournal {
    changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    key: String,
    before: String,
    after: String,
}

impl SysctlJournal {
    /// Whether nothing is recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Puts everything back that still has the value it was given. What somebody
    /// else has changed since then is theirs. Returns the keys that were put back.
    ///
    /// # Errors
    /// The first [`SysctlError`]; every entry is tried, and those that failed
    /// stay in the journal.
    pub fn restore(&mut self) -> Result<Vec<String>, SysctlError> {
        let mut restored = Vec::new();
        let mut failed = Vec::new();
        let mut first_error = None;
        for change in std::mem::take(&mut self.changes) {
            match change.undo() {
                Ok(true) => restored.push(change.key),
                Ok(false) => {}
                Err(error) => {
                    failed.push(change);
                    first_error.get_or_insert(error);
                }
            }
        }
        self.changes = failed;
        first_error.map_or(Ok(restored), Err)
    }

    /// Sets a key and remembers what it was. A key that is set twice, also by
    /// an earlier run of the daemon, goes back to its first value.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), SysctlError> {
        let before = read(key)?;
        if before == value {
            return Ok(());
        }
        write(key, value)?;
        match self.changes.iter_mut().find(|change| change.key == key) {
            Some(change) => value.clone_into(&mut change.after),
            None => self.changes.push(Change { key: key.to_owned(), before, after: value.to_owned() }),
        }
        Ok(())
    }
}

impl Change {
    fn undo(&self) -> Result<bool, SysctlError> {
        if !exists(&self.key) || read(&self.key)? != self.after {
            return Ok(false);
        }
        write(&self.key, &self.before)?;
        Ok(true)
    }
}

/// Whether this kernel has the setting.
pub(super) fn exists(key: &str) -> bool {
    path(key).exists()
}

/// The names in a directory of settings.
pub(super) fn list(key: &str) -> Result<Vec<String>, SysctlError> {
    let names = || -> io::Result<Vec<String>> {
        std::fs::read_dir(path(key))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    names().map_err(|source| SysctlError { verb: "read", key: key.to_owned(), source })
}

/// The value of a setting, without the newline.
pub(super) fn read(key: &str) -> Result<String, SysctlError> {
    match std::fs::read_to_string(path(key)) {
        Ok(value) => Ok(value.trim_end().to_owned()),
        Err(source) => Err(SysctlError { verb: "read", key: key.to_owned(), source }),
    }
}

/// Sets a value, unless it is set already: a redundant write can have effects
/// (one to `forwarding` drops routes that came by router advertisement), and a
/// read-only `/proc/sys` is no obstacle then.
pub(super) fn write(key: &str, value: &str) -> Result<(), SysctlError> {
    if read(key)? == value {
        return Ok(());
    }
    std::fs::write(path(key), value).map_err(|source| SysctlError { verb: "write", key: key.to_owned(), source })
}

fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run acorn as root, or with CAP_NET_ADMIN",
        io::ErrorKind::ReadOnlyFilesystem => "; make /proc/sys writable for acorn",
        io::ErrorKind::NotFound => "; the interface is gone, or the kernel lacks the setting",
        _ => "",
    }
}
