//! What a cluster remembers over its restarts: its managers, and the nodes that it serves. Everything else comes back from them.

use std::net::SocketAddr;

use acorn_core::sync::message::ManagerRecord;
use acorn_core::{Endpoint, NodeId, NodeKey};
use serde::{Deserialize, Serialize};

use crate::cluster::KnownNode;
use crate::daemon::memory::{ManagerEntry, Memory};

/// The file's name in the state directory.
pub(in crate::daemon) const FILE_NAME: &str = "cluster.json";

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
    managers: Vec<ManagerEntry>,
    nodes: Vec<Node>,
}

impl Memory for ClusterMemory {
    const WHOSE: &'static str = "cluster";
    const IF_LOST: &'static str = "give the cluster a new token";
    const FORMAT: u32 = 1;

    fn format_mut(&mut self) -> &mut u32 {
        &mut self.format
    }
}

impl ClusterMemory {
    /// The managers of the root, as they were last known.
    pub(in crate::daemon) fn managers(&self) -> Vec<ManagerRecord> {
        self.managers.iter().map(ManagerEntry::record).collect()
    }

    /// The nodes that were served.
    pub(in crate::daemon) fn nodes(&self) -> Vec<KnownNode> {
        let known =
            |node: &Node| KnownNode { key: node.key, id: NodeId(node.number), endpoint: Endpoint::from(node.endpoint) };
        self.nodes.iter().map(known).collect()
    }

    pub(in crate::daemon) fn set_managers(&mut self, managers: &[ManagerRecord]) {
        self.managers = managers.iter().map(ManagerEntry::from).collect();
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
}
