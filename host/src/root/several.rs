//! Several roots on one store: which of them hears a node, and whether the clients of all of them have let an address go.

use std::collections::BTreeSet;

use acorn_core::ids::{NodeId, NodeKey};
use acorn_core::sync::message::ManagerRecord;
use acorn_core::time::Instant;

use super::Root;
use super::draft::Draft;
use super::row::{Counters, Edit, ReleaseRow, Resource, Row, WatchRow};
use super::settings::LAST_SEEN_STEP;
use super::state::Release;

impl Root {
    /// Takes in what other roots have done, and which of them are alive.
    pub(super) fn take_in(&mut self, now: Instant, edits: Vec<Edit>, roots: Vec<ManagerRecord>) {
        let before: BTreeSet<NodeKey> = self.roots.iter().map(|root| root.key).collect();
        let after: BTreeSet<NodeKey> = roots.iter().map(|root| root.key).collect();
        self.roots = roots;
        for edit in edits {
            self.take_in_one(now, edit);
        }
        if before != after {
            for (id, watch) in self.state.watches.clone() {
                match (before.contains(&watch.root), after.contains(&watch.root)) {
                    _ if watch.root == self.own.key => {}
                    (false, true) => self.believe(id, watch),
                    (true, false) => {
                        self.unheard.insert(id, now);
                    }
                    _ => {}
                }
            }
        }
        // Afterwards, because it stores the counters that have just come; nothing is told of the versions before.
        self.make_room_for_versions(0);
    }

    fn take_in_one(&mut self, now: Instant, edit: Edit) {
        let before = self.state.counters;
        match edit {
            Edit::Put(Row::Counters(counters)) => {
                // Numbers that were given to nobody are not given again, nor is a ceiling ever lowered.
                let counters = Counters {
                    services: counters.services.max(before.services),
                    nodes: counters.nodes.max(before.nodes),
                    version_ceiling: counters.version_ceiling.max(before.version_ceiling),
                };
                self.state.apply(now, &self.clock, Edit::Put(Row::Counters(counters)));
            }
            Edit::Put(Row::Watch(id, watch)) => {
                self.state.apply(now, &self.clock, Edit::Put(Row::Watch(id, watch)));
                if watch.root != self.own.key {
                    self.believe(id, watch);
                }
            }
            Edit::Put(row @ (Row::Node(id, _) | Row::Cluster(id, _))) => {
                self.state.apply(now, &self.clock, Edit::Put(row));
                // Another root hears it.
                let forget_at = now.saturating_add(self.settings.retention).saturating_add(LAST_SEEN_STEP);
                if let Some(node) = self.state.nodes.get_mut(&id) {
                    node.forget_at = node.forget_at.max(forget_at);
                }
                if let Some(cluster) = self.state.clusters.get_mut(&id) {
                    cluster.forget_at = cluster.forget_at.max(forget_at);
                }
            }
            other => self.state.apply(now, &self.clock, other),
        }
    }

    /// What the other roots that are alive say of all nodes.
    pub(super) fn believe_all(&mut self) {
        for (id, watch) in self.state.watches.clone() {
            if !self.may_judge(id) {
                self.believe(id, watch);
            }
        }
    }

    /// Another root says whether it hears a node or a cluster.
    fn believe(&mut self, id: NodeId, watch: WatchRow) {
        self.unheard.remove(&id);
        if let Some(cluster) = self.state.clusters.get_mut(&id) {
            cluster.alive = !watch.silent;
        }
        self.state.set_alive(id, !watch.silent);
    }

    /// Whether this root says if a node is alive: not when another one that is alive hears it.
    pub(super) fn may_judge(&self, id: NodeId) -> bool {
        let watch = self.state.watches.get(&id);
        watch.is_none_or(|watch| watch.root == self.own.key || self.roots.iter().all(|root| root.key != watch.root))
    }

    /// That this root hears a node, or does so no more; none when that is known, or there is nobody to know it.
    pub(super) fn watch_edit(&self, id: NodeId, silent: bool) -> Option<Edit> {
        let watch = WatchRow { root: self.own.key, start: self.start, silent };
        let is_known = self.state.watches.get(&id) == Some(&watch);
        (self.store.is_shared() && !is_known).then_some(Edit::Put(Row::Watch(id, watch)))
    }

    /// All clients of this root know that a resource was withdrawn. Its quarantine begins when those of all roots do.
    pub(super) fn draft_acknowledged(&self, draft: &mut Draft<'_>, resource: Resource) {
        let Some(Release::Withdrawn { service, since_unix_ms, acknowledged, .. }) = self.state.releases.get(&resource)
        else {
            return;
        };
        let mut acknowledged = acknowledged.clone();
        acknowledged.insert(self.own.key);
        if !self.store.is_shared() || self.is_acknowledged_by_all(&acknowledged) {
            draft.quarantine(resource);
        } else {
            let row = ReleaseRow::Withdrawn { service: *service, since_unix_ms: *since_unix_ms, acknowledged };
            draft.put(Row::Release(resource, row));
        }
    }

    /// Begins the quarantine of what only roots that have died since had not acknowledged. Their clients are waited for as nodes
    /// that nobody has heard.
    pub(super) fn quarantine_acknowledged_by_all(&mut self, now: Instant) {
        if !self.store.is_shared() || !self.unheard.is_empty() {
            return;
        }
        let mut draft = Draft::new(&self.state, &self.settings, self.clock, now);
        for (resource, release) in &self.state.releases {
            if let Release::Withdrawn { acknowledged, .. } = release
                && acknowledged.contains(&self.own.key)
                && self.is_acknowledged_by_all(acknowledged)
            {
                draft.quarantine(*resource);
            }
        }
        let edits = draft.into_edits();
        if let Err(error) = self.commit(now, edits) {
            tracing::error!(%error, "the quarantine of freed addresses could not begin");
        }
    }

    fn is_acknowledged_by_all(&self, acknowledged: &BTreeSet<NodeKey>) -> bool {
        self.roots.iter().all(|root| acknowledged.contains(&root.key))
    }
}
