//! Clusters: how they come in, and what they may say of the nodes behind them.

use acorn_core::addr::{Subnet4, Subnet6, WorkerSubnet};
use acorn_core::ids::{Endpoint, NodeId, NodeKey};
use acorn_core::sync::cluster::KeyStanding;
use acorn_core::sync::directory::{Admission, Denied, Sender};
use acorn_core::sync::message::{Hello, Refusal};
use acorn_core::time::Instant;

use super::Root;
use super::draft::Draft;
use super::row::{ClusterRow, Row};
use super::settings::LAST_SEEN_STEP;

impl Root {
    /// Whether a key is a join key for clusters.
    pub(super) fn admits_a_cluster(&self, key: &NodeKey) -> bool {
        self.state.join_keys.get(key).is_some_and(|row| row.cluster)
    }

    /// A cluster speaks through a join key. As for a node, this never changes one that is there.
    pub(super) fn join_cluster(
        &mut self,
        now: Instant,
        from: Sender,
        key: NodeKey,
        hello: &Hello,
    ) -> Result<Admission, Refusal> {
        if self.state.registered_keys.contains(&key) {
            return Err(Refusal::JoinKey);
        }
        let existing = self.state.cluster_keys.get(&key).copied();
        let mut draft = Draft::new(&self.state, &self.settings, self.clock, now);
        self.draft_use_of_join_key(&mut draft, now, &from.key, key, existing.is_some())?;
        let id = match existing {
            Some(id) => id,
            None if self.state.clusters.len() >= self.limits.clusters => return Err(Refusal::Full),
            None => {
                let id = draft.new_node_id().ok_or(Refusal::Full)?;
                let row = ClusterRow { confirmed: false, ..self.cluster_row(now, from, key, hello) };
                draft.put(Row::Cluster(id, row));
                id
            }
        };
        let edits = draft.into_edits();
        self.commit_request(now, edits)?;
        self.cluster_admission(id)
    }

    /// A cluster speaks with its own key.
    pub(super) fn renew_cluster(&mut self, now: Instant, from: Sender, hello: &Hello) -> Result<Admission, Refusal> {
        let id = self.state.cluster_keys.get(&from.key).copied().ok_or(Refusal::NotANode)?;
        let before = &self.state.clusters.get(&id).ok_or(Refusal::NotANode)?.row;
        let mut row = self.cluster_row(now, from, from.key, hello);
        if row.last_seen_unix.abs_diff(before.last_seen_unix) < LAST_SEEN_STEP.as_secs() {
            row.last_seen_unix = before.last_seen_unix;
        }
        let mut draft = Draft::new(&self.state, &self.settings, self.clock, now);
        if row != *before {
            row.last_seen_unix = self.clock.unix(now);
            draft.put(Row::Cluster(id, row));
        }
        self.draft_end_of_join_keys(&mut draft, &from.key);
        let mut edits = draft.into_edits();
        edits.extend(self.watch_edit(id, false));
        self.commit_request(now, edits)?;
        let forget_at = now.saturating_add(self.settings.retention);
        if let Some(cluster) = self.state.clusters.get_mut(&id) {
            (cluster.alive, cluster.heard, cluster.forget_at) = (true, Some(now), forget_at);
        }
        self.unheard.remove(&id);
        self.cluster_admission(id)
    }

    /// A node speaks through a cluster. One that is heard from through somebody else is left there: a cluster can't take a node that
    /// it does not have. A node that moves is silent where it was, and is let in when its lease there has ended.
    pub(super) fn admit_through(
        &mut self,
        now: Instant,
        cluster: NodeId,
        from: Sender,
        hello: &Hello,
    ) -> Result<Admission, Denied> {
        if self.admits_a_cluster(&from.key) || self.state.cluster_keys.contains_key(&from.key) {
            return Err(Refusal::JoinKey.into());
        }
        if let Some(key) = hello.joining {
            return Ok(self.join(now, from, key, hello, Some(cluster))?);
        }
        let node = self.state.node_keys.get(&from.key).and_then(|id| self.state.nodes.get(id));
        if let Some(node) = node.filter(|node| node.row.via != Some(cluster) && node.row.confirmed && node.alive) {
            tracing::warn!(node = %node.row.name, cluster = cluster.0, "a cluster speaks for a node that is heard from elsewhere");
            return Err(Denied::Pending);
        }
        Ok(self.renew(now, from, hello, Some(cluster))?)
    }

    pub(super) fn is_node_behind(&self, cluster: NodeId, node: &NodeKey) -> bool {
        let node = self.state.node_keys.get(node).and_then(|id| self.state.nodes.get(id));
        node.is_some_and(|node| node.row.via == Some(cluster))
    }

    pub(super) fn standing_of(&self, now: Instant, key: &NodeKey) -> KeyStanding {
        if self.state.node_keys.contains_key(key) || self.state.registered_keys.contains(key) {
            return KeyStanding::Node;
        }
        match self.state.join_keys.get(key) {
            Some(row) if !row.cluster && row.expires_unix > self.clock.unix(now) => KeyStanding::Join,
            _ => KeyStanding::Unknown,
        }
    }

    fn cluster_row(&self, now: Instant, from: Sender, key: NodeKey, hello: &Hello) -> ClusterRow {
        ClusterRow {
            key,
            name: hello.name.as_str().to_owned(),
            endpoint: if hello.endpoint == Endpoint::UNKNOWN { from.observed } else { hello.endpoint },
            epoch: hello.epoch,
            lease_ms: self.lease_of(hello),
            last_seen_unix: self.clock.unix(now),
            confirmed: true,
        }
    }

    fn cluster_admission(&self, id: NodeId) -> Result<Admission, Refusal> {
        let cluster = self.state.clusters.get(&id).ok_or(Refusal::NotANode)?;
        Ok(Admission {
            node: id,
            subnet: no_subnet(),
            lease_ms: cluster.row.lease_ms,
            managers: self.managers().collect(),
            reattach: false,
        })
    }
}

/// What a cluster is given for a subnet, since a `Welcome` names one: it is in no plan, and nothing runs on a cluster.
fn no_subnet() -> WorkerSubnet {
    let pair = Subnet4::new([0, 0, 0, 0].into(), 30).ok().zip(Subnet6::new([0; 8].into(), 120).ok());
    let pair = pair.and_then(|(v4, v6)| WorkerSubnet::new(v4, v6).ok());
    pair.expect("a pair of well-formed subnets")
}
