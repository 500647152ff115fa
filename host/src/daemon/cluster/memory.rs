//! What a cluster remembers over its restarts: its managers, and the nodes that it serves. Everything else comes back from them.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use acorn_core::sync::message::ManagerRecord;
use acorn_core::{Endpoint, NodeId, NodeKey};
use serde::{Deserialize, Serialize};

use crate::cluster::KnownNode;
use crate::identity::state_file;

/// The format of the file that is written.
const FORMAT: u32 = 1;
/// The file's name in the state directory.
pub(in crate::daemon) const FILE_NAME: &str = "cluster.json";

/// A manager of the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    key: NodeKey,
    endpoint: Option<SocketAddr>,
}

/// A node behind the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Node {
    key: NodeKey,
    number: u32,
    endpoint: Option<SocketAddr>,
}

/// Everything that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::daemon) struct ClusterMemory {
    format: u32,
    managers: Vec<Entry>,
    nodes: Vec<Node>,
}

/// The cluster's memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::daemon) enum MemoryError {
    /// It cannot be read.
    #[error("cannot read the cluster's state {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what a cluster writes.
    #[error("the cluster's state {} is damaged ({source}): restore it, or remove it and give the cluster a new token", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// A later version wrote it.
    #[error("the cluster's state {} has format {format}, this program knows {FORMAT}: use the newer program", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// It cannot be written.
    #[error("cannot write the cluster's state {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ClusterMemory {
    /// Reads what was remembered; nothing when there is no file.
    ///
    /// # Errors
    /// [`MemoryError`]; the file is untouched.
    pub(in crate::daemon) fn load(path: &Path) -> Result<Self, MemoryError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(MemoryError::Read { path: path.to_owned(), source }),
        };
        let damaged = |source| MemoryError::Damaged { path: path.to_owned(), source };
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(damaged)?;
        let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if format > u64::from(FORMAT) {
            let format = u32::try_from(format).unwrap_or(u32::MAX);
            return Err(MemoryError::Newer { path: path.to_owned(), format });
        }
        serde_json::from_value(value).map_err(damaged)
    }

    /// Writes everything, whole or not at all.
    ///
    /// # Errors
    /// [`MemoryError::Write`]; the file is as it was then.
    pub(in crate::daemon) fn store(&mut self, path: &Path) -> Result<(), MemoryError> {
        self.format = FORMAT;
        let failed = |source| MemoryError::Write { path: path.to_owned(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(io::Error::other(error)))?;
        state_file::replace(path, &text).map_err(failed)
    }

    /// The managers of the root, as they were last known.
    pub(in crate::daemon) fn managers(&self) -> Vec<ManagerRecord> {
        let record = |entry: &Entry| ManagerRecord { key: entry.key, endpoint: Endpoint::from(entry.endpoint) };
        self.managers.iter().map(record).collect()
    }

    /// The nodes that were served.
    pub(in crate::daemon) fn nodes(&self) -> Vec<KnownNode> {
        let known =
            |node: &Node| KnownNode { key: node.key, id: NodeId(node.number), endpoint: Endpoint::from(node.endpoint) };
        self.nodes.iter().map(known).collect()
    }

    pub(in crate::daemon) fn set_managers(&mut self, managers: &[ManagerRecord]) {
        let entry = |manager: &ManagerRecord| Entry { key: manager.key, endpoint: manager.endpoint.get() };
        self.managers = managers.iter().map(entry).collect();
    }

    pub(in crate::daemon) fn set_nodes(&mut self, nodes: impl IntoIterator<Item = KnownNode>) {
        let node = |known: KnownNode| Node { key: known.key, number: known.id.0, endpoint: known.endpoint.get() };
        self.nodes = nodes.into_iter().map(node).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        assert_eq!(ClusterMemory::load(&path).unwrap(), ClusterMemory::default(), "no file is an empty memory");
        let at = Endpoint::from(Some("192.0.2.1:50103".parse::<SocketAddr>().unwrap()));
        let mut memory = ClusterMemory::default();
        memory.set_managers(&[ManagerRecord { key: NodeKey([7; 32]), endpoint: at }]);
        let known = KnownNode { key: NodeKey([8; 32]), id: NodeId(5), endpoint: Endpoint::UNKNOWN };
        memory.set_nodes([known]);
        memory.store(&path).unwrap();
        let loaded = ClusterMemory::load(&path).unwrap();
        assert_eq!(loaded.managers(), [ManagerRecord { key: NodeKey([7; 32]), endpoint: at }]);
        assert_eq!(loaded.nodes(), [known]);
    }

    #[test]
    fn a_damaged_or_newer_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        for (text, newer) in [("{\"format\": 1, \"managers\": [", false), ("{\"format\": 2}", true)] {
            std::fs::write(&path, text).unwrap();
            let error = ClusterMemory::load(&path).unwrap_err();
            assert_eq!(matches!(error, MemoryError::Newer { .. }), newer, "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
