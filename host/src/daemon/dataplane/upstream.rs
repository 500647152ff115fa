//! What a cluster in this process wants: payloads for its nodes and its root, and tunnels to both.

use std::time::Instant;

use acorn_core::NodeKey;
use acorn_core::sync::message::ManagerRecord;
use tracing::{info, warn};

use super::Dataplane;
use crate::daemon::cluster::{ClusterLink, FromCluster};
use crate::tunnel::Local;

/// The managers of the root, as the cluster last said.
#[derive(Default)]
pub(super) struct Upstream {
    managers: Vec<ManagerRecord>,
    /// They are spoken to through the join key.
    joining: bool,
}

impl Upstream {
    /// Through which key of this process a peer is spoken to.
    fn local(&self, key: &NodeKey) -> Local {
        let is_manager = self.managers.iter().any(|manager| manager.key == *key);
        if self.joining && is_manager { Local::Join } else { Local::Own }
    }
}

impl Dataplane {
    /// Sends what the cluster wants to send, and keeps its nodes and its root among the tunnels' peers.
    pub(super) fn run_cluster_outputs(&mut self, now: Instant) {
        while let Some(output) = self.cluster.as_ref().and_then(ClusterLink::poll) {
            match output {
                FromCluster::Send { to, payload } => {
                    let via = self.upstream.local(&to);
                    self.send_control(now, &to, via, &payload);
                }
                FromCluster::Key(event) => self.follow_key(now, event),
                FromCluster::Upstream { managers, joining } => self.follow_upstream(now, managers, joining),
            }
        }
    }

    fn follow_upstream(&mut self, now: Instant, managers: Vec<ManagerRecord>, joining: bool) {
        let before = std::mem::replace(&mut self.upstream, Upstream { managers, joining });
        if before.joining && !joining {
            self.tunnels.clear_join();
            info!("joined: the root knows this cluster by its own key now");
        }
        for manager in &before.managers {
            if self.upstream.managers.iter().all(|other| other.key != manager.key) {
                self.let_go(&manager.key);
            }
        }
        for manager in &self.upstream.managers {
            let via = self.upstream.local(&manager.key);
            match self.tunnels.add_peer(manager.key, manager.endpoint.get(), via, now) {
                Ok(handle) => self.peers.hold(handle),
                Err(error) => warn!(key = %manager.key, %error, "the root cannot be reached"),
            }
        }
    }
}
