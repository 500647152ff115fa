//! How nodes come in and stay: by a join key, by a registered key, by renewing their lease.

use acorn_core::addr::WorkerSubnet;
use acorn_core::ids::{Endpoint, NodeId, NodeKey};
use acorn_core::sync::directory::{Admission, Sender};
use acorn_core::sync::message::{Hello, MANAGERS_MAX, ManagerRecord, Refusal};
use acorn_core::time::Instant;

use super::Root;
use super::clock::millis;
use super::draft::Draft;
use super::row::{JoinKeyRow, NodeRow, Row, RowKey};
use super::settings::{LAST_SEEN_STEP, LEASE_MAX, LEASE_MIN};

impl Root {
    pub(super) fn admit(&mut self, now: Instant, from: Sender, hello: &Hello) -> Result<Admission, Refusal> {
        match hello.joining {
            Some(key) if self.admits_a_cluster(&from.key) => self.join_cluster(now, from, key, hello),
            Some(key) => self.join(now, from, key, hello, None),
            None if self.state.cluster_keys.contains_key(&from.key) => self.renew_cluster(now, from, hello),
            None => self.renew(now, from, hello, None),
        }
    }

    /// A node speaks through a join key. It has not proven that `key` is its own, so this never changes a node that is there.
    pub(super) fn join(
        &mut self,
        now: Instant,
        from: Sender,
        key: NodeKey,
        hello: &Hello,
        via: Option<NodeId>,
    ) -> Result<Admission, Refusal> {
        let existing = self.state.node_keys.get(&key).copied();
        let mut draft = Draft::new(&self.state, &self.settings, self.clock, now);
        self.draft_use_of_join_key(&mut draft, now, &from.key, key, existing.is_some())?;
        let id = match existing {
            Some(id) => id,
            None => {
                let subnet = self.draft_new_node(&mut draft, hello)?;
                let row = NodeRow { confirmed: false, ..self.node_row(now, from, key, hello, subnet, via) };
                let id = draft.new_node_id().ok_or(Refusal::Full)?;
                draft.put(Row::Node(id, row));
                id
            }
        };
        let edits = draft.into_edits();
        self.commit_request(now, edits)?;
        self.admission(id, hello)
    }

    /// A node speaks with its own key.
    pub(super) fn renew(
        &mut self,
        now: Instant,
        from: Sender,
        hello: &Hello,
        via: Option<NodeId>,
    ) -> Result<Admission, Refusal> {
        let existing = self.state.node_keys.get(&from.key).copied();
        let mut draft = Draft::new(&self.state, &self.settings, self.clock, now);
        let id = match existing.and_then(|id| Some((id, self.state.nodes.get(&id)?))) {
            Some((id, node)) => {
                let subnet = draft.claim_subnet(Some(node.row.subnet), hello.subnet)?;
                if subnet != node.row.subnet {
                    self.draft_empty_subnet(&mut draft, id)?;
                    draft.release_subnet(node.row.subnet);
                }
                let mut row = self.node_row(now, from, from.key, hello, subnet, via);
                if row.last_seen_unix.abs_diff(node.row.last_seen_unix) < LAST_SEEN_STEP.as_secs() {
                    row.last_seen_unix = node.row.last_seen_unix;
                }
                if row != node.row {
                    row.last_seen_unix = self.clock.unix(now);
                    draft.put(Row::Node(id, row));
                }
                id
            }
            None if self.state.registered_keys.contains(&from.key) => {
                let subnet = self.draft_new_node(&mut draft, hello)?;
                let id = draft.new_node_id().ok_or(Refusal::Full)?;
                draft.put(Row::Node(id, self.node_row(now, from, from.key, hello, subnet, via)));
                id
            }
            None => return Err(Refusal::NotANode),
        };
        self.draft_end_of_join_keys(&mut draft, &from.key);
        let mut edits = draft.into_edits();
        edits.extend(self.watch_edit(id, false));
        self.commit_request(now, edits)?;
        self.make_room_for_versions(1);
        self.state.heard(now, id, hello.instances);
        self.unheard.remove(&id);
        self.admission(id, hello)
    }

    /// Whoever has `key` joins with `join_key`, which belongs to that one from then on. A key that belongs to nobody yet is one that
    /// nobody `is_known` by.
    pub(super) fn draft_use_of_join_key(
        &self,
        draft: &mut Draft<'_>,
        now: Instant,
        join_key: &NodeKey,
        key: NodeKey,
        is_known: bool,
    ) -> Result<(), Refusal> {
        let row = self.state.join_keys.get(join_key).ok_or(Refusal::JoinKey)?;
        let expired = row.expires_unix <= self.clock.unix(now);
        let used_by_another = row.used_by.is_some_and(|used_by| used_by != key);
        if expired || used_by_another || !(is_known || self.is_new_key(&key)) {
            return Err(Refusal::JoinKey);
        }
        let used = JoinKeyRow { used_by: Some(key), ..*row };
        if used != *row {
            draft.put(Row::JoinKey(*join_key, used));
        }
        Ok(())
    }

    /// Whoever has `key` has spoken with it: the join keys that it came with are used up.
    pub(super) fn draft_end_of_join_keys(&self, draft: &mut Draft<'_>, key: &NodeKey) {
        for join_key in self.state.used_join_keys.get(key).into_iter().flatten() {
            draft.delete(RowKey::JoinKey(*join_key));
        }
    }

    fn draft_new_node(&self, draft: &mut Draft<'_>, hello: &Hello) -> Result<WorkerSubnet, Refusal> {
        if self.state.nodes.len() >= self.limits.nodes {
            return Err(Refusal::Full);
        }
        draft.claim_subnet(None, hello.subnet)
    }

    /// A node can change its subnet while nothing but its own host is in the old one.
    fn draft_empty_subnet(&self, draft: &mut Draft<'_>, id: NodeId) -> Result<(), Refusal> {
        let host = self.state.hosts.get(&id).copied();
        for instance in self.state.nodes.get(&id).iter().flat_map(|node| &node.instances) {
            if Some(instance.service) != host {
                return Err(Refusal::Subnet);
            }
            draft.withdraw(*instance);
        }
        Ok(())
    }

    fn node_row(
        &self,
        now: Instant,
        from: Sender,
        key: NodeKey,
        hello: &Hello,
        subnet: WorkerSubnet,
        via: Option<NodeId>,
    ) -> NodeRow {
        NodeRow {
            key,
            name: hello.name.as_str().to_owned(),
            endpoint: if hello.endpoint == Endpoint::UNKNOWN { from.observed } else { hello.endpoint },
            subnet,
            epoch: hello.epoch,
            lease_ms: self.lease_of(hello),
            last_seen_unix: self.clock.unix(now),
            confirmed: true,
            via,
        }
    }

    /// This root, and the others that are alive.
    pub(super) fn managers(&self) -> impl Iterator<Item = ManagerRecord> + '_ {
        let others = self.roots.iter().filter(|root| root.key != self.own.key);
        std::iter::once(&self.own).chain(others).copied().take(MANAGERS_MAX)
    }

    /// The lease that a client asks for, within bounds, in milliseconds.
    pub(super) fn lease_of(&self, hello: &Hello) -> u32 {
        let lease_ms = match hello.lease_ms {
            0 => millis(self.settings.lease),
            asked => u64::from(asked).clamp(millis(LEASE_MIN), millis(LEASE_MAX)),
        };
        u32::try_from(lease_ms).unwrap_or(u32::MAX)
    }

    fn admission(&self, id: NodeId, hello: &Hello) -> Result<Admission, Refusal> {
        let node = self.state.nodes.get(&id).ok_or(Refusal::NotANode)?;
        Ok(Admission {
            node: id,
            subnet: node.row.subnet,
            lease_ms: node.row.lease_ms,
            managers: self.managers().collect(),
            reattach: self.state.digest(id) != hello.instances,
        })
    }
}
