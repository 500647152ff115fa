//! What time ends: join keys, leases of nodes that never came back, nodes that stay silent, and the rest of freed addresses.

use acorn_core::ids::{NodeId, ServiceId};
use acorn_core::time::{Duration, Instant};

use super::Root;
use super::clock::Clock;
use super::draft::Draft;
use super::row::RowKey;
use super::settings::{LATEST_REPEAT, START_GRACE};
use super::state::Release;

impl Root {
    /// Ends what has come to its end. `unix` is the wall clock in seconds since 1970. Once a second is often enough.
    ///
    /// A change that can't be stored is tried again by the next call.
    pub fn expire(&mut self, now: Instant, unix: u64) {
        self.clock = Clock::new(now, unix);
        self.end_leases(now);
        let mut draft = Draft::new(&self.state, &self.settings, self.clock, now);
        for (key, row) in &self.state.join_keys {
            if row.expires_unix <= unix {
                draft.delete(RowKey::JoinKey(*key));
            }
        }
        for id in self.state.requests.expired(self.clock.unix_ms(now)) {
            draft.delete(RowKey::Request(id));
        }
        for (resource, release) in &self.state.releases {
            if matches!(release, Release::Quarantine { until } if *until <= now)
                && self.state.addresses.is_forgettable(*resource)
            {
                draft.delete(RowKey::Release(*resource));
            }
        }
        if now.saturating_duration_since(self.opened) >= START_GRACE.min(self.settings.retention) {
            for (resource, release) in &self.state.releases {
                if matches!(release, Release::Withdrawn { until, .. } if *until <= now) {
                    draft.quarantine(*resource);
                }
            }
            for (id, node) in &self.state.nodes {
                if node.forget_at <= now {
                    draft_forgetting(&mut draft, *id);
                }
            }
            for (id, cluster) in &self.state.clusters {
                if cluster.forget_at <= now {
                    draft.delete(RowKey::Cluster(*id));
                    if self.state.watches.contains_key(id) {
                        draft.delete(RowKey::Watch(*id));
                    }
                }
            }
        }
        let edits = draft.into_edits();
        if let Err(error) = self.commit(now, edits) {
            tracing::error!(%error, "what has expired could not be removed");
        }
        self.detached.retain(|_, (_, at)| now.saturating_duration_since(*at) < LATEST_REPEAT);
        let state = &self.state;
        self.unheard.retain(|id, _| state.nodes.contains_key(id) || state.clusters.contains_key(id));
        self.quarantine_acknowledged(now);
        self.quarantine_acknowledged_by_all(now);
    }

    /// Notes that all clients know a version of a service's table.
    pub(super) fn note_acknowledged(&mut self, now: Instant, service: ServiceId, version: u32) {
        if !self.state.withdrawn.contains_key(&service) {
            return;
        }
        let known = self.acknowledged.entry(service).or_default();
        *known = version.max(*known);
        // Out of its turn a root can't store it: it is looked at again with what expires.
        if self.batch.is_some() || !self.store.is_shared() {
            self.quarantine_acknowledged(now);
        }
    }

    /// Starts the quarantine of what all clients know to be withdrawn. After a start "all clients" means nothing until every
    /// node has said `Hello` or is forgotten: one that has not may hold an old table without our knowing.
    fn quarantine_acknowledged(&mut self, now: Instant) {
        if !self.unheard.is_empty() || self.acknowledged.is_empty() {
            return;
        }
        let mut draft = Draft::new(&self.state, &self.settings, self.clock, now);
        for (service, known) in &self.acknowledged {
            for resource in self.state.withdrawn.get(service).into_iter().flatten() {
                if is_withdrawn_by(self.state.releases.get(resource), *known) {
                    self.draft_acknowledged(&mut draft, *resource);
                }
            }
        }
        let edits = draft.into_edits();
        match self.commit(now, edits) {
            Ok(()) => self.acknowledged.clear(),
            Err(error) => {
                tracing::error!(%error, "the quarantine of freed addresses could not begin")
            }
        }
    }

    /// The leases of nodes that have not been heard since the start: nobody else watches them.
    fn end_leases(&mut self, now: Instant) {
        let ended = self.unheard.iter().filter(|(id, since)| {
            let (node, silent) = (self.state.nodes.get(id), now.saturating_duration_since(**since));
            node.is_some_and(|node| node.alive && silent >= Duration::from_millis(node.row.lease_ms.into()))
        });
        for id in ended.map(|(id, _)| *id).collect::<Vec<NodeId>>() {
            self.mark_alive(now, id, false);
        }
        for (id, since) in &self.unheard {
            let silent = now.saturating_duration_since(*since);
            let ended = |lease_ms: u32| silent >= Duration::from_millis(lease_ms.into());
            if let Some(cluster) = self.state.clusters.get_mut(id).filter(|cluster| ended(cluster.row.lease_ms)) {
                cluster.alive = false;
            }
        }
    }
}

fn is_withdrawn_by(release: Option<&Release>, known: u32) -> bool {
    matches!(release, Some(Release::Withdrawn { version, .. }) if *version <= known)
}

/// Everything of a node goes; a registration of its key stays.
fn draft_forgetting(draft: &mut Draft<'_>, id: NodeId) {
    let Some(node) = draft.state().nodes.get(&id) else {
        return;
    };
    for instance in &node.instances {
        draft.withdraw(*instance);
    }
    if let Some(service) = draft.state().hosts.get(&id) {
        draft.delete(RowKey::Service(*service));
    }
    draft.delete(RowKey::Node(id));
    if draft.state().watches.contains_key(&id) {
        draft.delete(RowKey::Watch(id));
    }
    draft.release_subnet(node.row.subnet);
}
