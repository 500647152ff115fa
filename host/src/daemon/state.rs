//! What a node remembers over its restarts: its managers, its subnets, and what is attached.

use std::collections::VecDeque;

use acorn_core::addr::{Dual, WorkerSubnet};
use acorn_core::router::Attachment;
use acorn_core::{InstanceId, ServiceName};
use serde::{Deserialize, Serialize};

use super::memory::{ManagerEntry, Memory};
use crate::net::veth::AttachSpec;
use crate::net::{NamespaceId, SysctlJournal};

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

impl Memory for NodeState {
    const WHOSE: &'static str = "node";
    const IF_LOST: &'static str = "attach the instances again";
    const FORMAT: u32 = 1;

    fn format_mut(&mut self) -> &mut u32 {
        &mut self.format
    }
}

#[cfg(test)]
mod tests {
    use acorn_core::NodeKey;

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
}
