//! What a node remembers over its restarts: its managers, its subnets, and what is attached.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use acorn_core::addr::{Dual, WorkerSubnet};
use acorn_core::router::Attachment;
use acorn_core::{InstanceId, NodeKey, ServiceName};
use serde::{Deserialize, Serialize};

use crate::identity::state_file;
use crate::net::veth::AttachSpec;
use crate::net::{NamespaceId, SysctlJournal};

/// The format of the file that is written.
const FORMAT: u32 = 1;
/// The file's name in the state directory.
pub const FILE_NAME: &str = "node.json";

/// An attachment as it is remembered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttachmentRecord {
    /// The service's name.
    pub service: ServiceName,
    /// Which instance.
    pub instance: InstanceId,
    /// Its instance IP.
    pub instance_ip: Dual,
    /// Its namespace IP.
    pub namespace_ip: Dual,
    /// The identity of its network namespace.
    pub namespace: NamespaceId,
    /// Its interfaces.
    pub spec: AttachSpec,
    /// The idempotency key of the request that attached it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_key: Option<String>,
}

/// A request that detached something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachmentRecord {
    /// Its idempotency key.
    pub request_key: String,
    /// The service.
    pub service: ServiceName,
    /// Which instance.
    pub number: u32,
}

impl AttachmentRecord {
    /// As the engine knows it.
    pub fn attachment(&self) -> Attachment {
        Attachment { id: self.instance, instance_ip: self.instance_ip, namespace_ip: self.namespace_ip }
    }
}

/// The host's own instance as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Which instance.
    pub instance: InstanceId,
    /// Its instance IP.
    pub instance_ip: Dual,
    /// Its namespace IP.
    pub namespace_ip: Dual,
}

impl HostRecord {
    /// As the engine knows it.
    pub fn attachment(&self) -> Attachment {
        Attachment { id: self.instance, instance_ip: self.instance_ip, namespace_ip: self.namespace_ip }
    }
}

/// A manager as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerEntry {
    /// Its key.
    pub key: NodeKey,
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
}

/// Everything that is remembered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeState {
    format: u32,
    /// The managers.
    pub managers: Vec<ManagerEntry>,
    /// The subnets that the manager gave.
    pub subnet: Option<WorkerSubnet>,
    /// The host's own instance.
    pub host: Option<HostRecord>,
    /// What is attached.
    pub attachments: Vec<AttachmentRecord>,
    /// The last requests that detached something, the oldest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub detached: VecDeque<DetachmentRecord>,
    /// What was changed on the host, to be put back.
    pub journal: SysctlJournal,
}

/// The node's memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read.
    #[error("cannot read the node's state {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what a node writes.
    #[error("the node's state {} is damaged ({source}): restore it, or remove it and attach the instances again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// A later version wrote it.
    #[error("the node's state {} has format {format}, this program knows {FORMAT}: use the newer program", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// It cannot be written.
    #[error("cannot write the node's state {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl NodeState {
    /// Reads what was remembered; nothing when there is no file.
    ///
    /// # Errors
    /// [`StateError`]; the file is untouched.
    pub fn load(path: &Path) -> Result<Self, StateError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(StateError::Read { path: path.to_owned(), source }),
        };
        let damaged = |source| StateError::Damaged { path: path.to_owned(), source };
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(damaged)?;
        let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if format > u64::from(FORMAT) {
            let format = u32::try_from(format).unwrap_or(u32::MAX);
            return Err(StateError::Newer { path: path.to_owned(), format });
        }
        serde_json::from_value(value).map_err(damaged)
    }

    /// Writes everything, whole or not at all.
    ///
    /// # Errors
    /// [`StateError::Write`]; the file is as it was then.
    pub fn store(&mut self, path: &Path) -> Result<(), StateError> {
        self.format = FORMAT;
        let failed = |source| StateError::Write { path: path.to_owned(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(io::Error::other(error)))?;
        state_file::replace(path, &text).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        assert!(NodeState::load(&path).unwrap().managers.is_empty(), "no file is an empty memory");
        let entry = ManagerEntry { key: NodeKey([7; 32]), endpoint: Some("192.0.2.1:50103".parse().unwrap()) };
        let mut state = NodeState { managers: vec![entry], ..NodeState::default() };
        state.store(&path).unwrap();
        assert_eq!(NodeState::load(&path).unwrap().managers, [entry]);
    }

    #[test]
    fn a_damaged_or_newer_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        for (text, newer) in [("{\"format\": 1, \"managers\": [", false), ("{\"format\": 2}", true)] {
            std::fs::write(&path, text).unwrap();
            let error = NodeState::load(&path).unwrap_err();
            assert_eq!(matches!(error, StateError::Newer { .. }), newer, "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
