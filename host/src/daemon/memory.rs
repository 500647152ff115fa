//! What a daemon remembers over its restarts: a JSON file of the state directory with the number of its format.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use acorn_core::sync::message::ManagerRecord;
use acorn_core::{Endpoint, NodeKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::identity::state_file;

/// The content of such a file. It is empty when there is none.
pub trait Memory: Serialize + DeserializeOwned + Default {
    /// Whose it is, as in `the node's state`.
    const WHOSE: &'static str;
    /// What has to be done when the file is lost, as in `attach the instances again`.
    const IF_LOST: &'static str;
    /// The format that is written.
    const FORMAT: u32;

    /// Where the format stands in it.
    fn format_mut(&mut self) -> &mut u32;

    /// Reads what was remembered; nothing when there is no file.
    ///
    /// # Errors
    /// [`MemoryError`]; the file is untouched.
    fn load(path: &Path) -> Result<Self, MemoryError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(MemoryError::Read { whose: Self::WHOSE, path: path.to_owned(), source }),
        };
        let damaged =
            |source| MemoryError::Damaged { whose: Self::WHOSE, path: path.to_owned(), source, if_lost: Self::IF_LOST };
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(damaged)?;
        let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if format > u64::from(Self::FORMAT) {
            let format = u32::try_from(format).unwrap_or(u32::MAX);
            let (whose, path, known) = (Self::WHOSE, path.to_owned(), Self::FORMAT);
            return Err(MemoryError::Newer { whose, path, format, known });
        }
        serde_json::from_value(value).map_err(damaged)
    }

    /// Writes everything, whole or not at all.
    ///
    /// # Errors
    /// [`MemoryError::Write`]; the file is as it was then.
    fn store(&mut self, path: &Path) -> Result<(), MemoryError> {
        *self.format_mut() = Self::FORMAT;
        let failed = |source| MemoryError::Write { whose: Self::WHOSE, path: path.to_owned(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(io::Error::other(error)))?;
        state_file::replace(path, &text).map_err(failed)
    }
}

/// A daemon's memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// It cannot be read.
    #[error("cannot read the {whose}'s state {}: {source}", path.display())]
    Read {
        /// Whose memory it is.
        whose: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what this program writes.
    #[error("the {whose}'s state {} is damaged ({source}): restore it, or remove it and {if_lost}", path.display())]
    Damaged {
        /// Whose memory it is.
        whose: &'static str,
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
        /// What to do without it.
        if_lost: &'static str,
    },
    /// A later version wrote it.
    #[error("the {whose}'s state {} has format {format}, this program knows {known}: use the newer program", path.display())]
    Newer {
        /// Whose memory it is.
        whose: &'static str,
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The latest that is known here.
        known: u32,
    },
    /// It cannot be written.
    #[error("cannot write the {whose}'s state {}: {source}", path.display())]
    Write {
        /// Whose memory it is.
        whose: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A manager as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerEntry {
    /// Its key.
    pub key: NodeKey,
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
}

impl From<&ManagerRecord> for ManagerEntry {
    fn from(manager: &ManagerRecord) -> Self {
        Self { key: manager.key, endpoint: manager.endpoint.get() }
    }
}

impl ManagerEntry {
    /// As the table protocol has it.
    pub fn record(&self) -> ManagerRecord {
        ManagerRecord { key: self.key, endpoint: Endpoint::from(self.endpoint) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Small {
        format: u32,
        word: String,
    }

    impl Memory for Small {
        const WHOSE: &'static str = "test";
        const IF_LOST: &'static str = "run it again";
        const FORMAT: u32 = 1;

        fn format_mut(&mut self) -> &mut u32 {
            &mut self.format
        }
    }

    #[test]
    fn what_is_stored_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("small.json");
        assert_eq!(Small::load(&path).unwrap(), Small::default(), "no file is an empty memory");
        let mut small = Small { format: 0, word: "remembered".to_owned() };
        small.store(&path).unwrap();
        assert_eq!(Small::load(&path).unwrap(), Small { format: 1, ..small });
    }

    #[test]
    fn a_damaged_or_newer_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("small.json");
        for (text, newer) in [("{\"format\": 1, \"word\": [", false), ("{\"format\": 2}", true)] {
            std::fs::write(&path, text).unwrap();
            let error = Small::load(&path).unwrap_err();
            assert_eq!(matches!(error, MemoryError::Newer { .. }), newer, "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
