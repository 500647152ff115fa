//! Several operations in one transaction, and what is done when it can't be stored.

use std::collections::BTreeSet;

use acorn_core::ids::NodeKey;
use acorn_core::time::Instant;

use super::Root;
use super::keys::{KeyEvent, known_keys};
use super::load::load;
use super::row::{Edit, Row};
use super::state::State;
use super::store::{OpenError, StoreError};

impl Root {
    /// From now on changes wait for [`finish`](Self::finish). Nothing may be told to anybody until then.
    ///
    /// While the store does not work each change is stored by itself, so that those who ask learn of their own.
    pub fn begin(&mut self, now: Instant) {
        if self.is_behind
            && let Err(error) = self.read_again(now)
        {
            self.trouble = error.to_string();
            return;
        }
        match self.store.begin() {
            Ok(begun) if begun.behind => {
                self.store.release();
                self.is_behind = true;
                self.is_sound = false;
                "other roots have done a lot since".clone_into(&mut self.trouble);
                return;
            }
            Ok(begun) if self.store.is_shared() => {
                self.is_sound = true;
                self.batch = Some(Vec::new());
                self.take_in(now, begun.edits, begun.roots);
                return;
            }
            Ok(_) => {}
            Err(error) => {
                if self.is_sound {
                    tracing::error!(%error, "changes are refused until the store works again");
                }
                self.is_sound = false;
                self.trouble = error.reason();
                return;
            }
        }
        // Written as it is: only to see whether the store works again.
        if self.is_sound || self.store(&[Edit::Put(Row::Counters(self.state.counters))]).is_ok() {
            self.batch = Some(Vec::new());
        }
    }

    /// Stores what has changed since [`begin`](Self::begin), in one transaction.
    ///
    /// # Errors
    /// [`StoreError`]; what is in memory has not happened then, and [`reload`](Self::reload) must follow.
    pub fn finish(&mut self) -> Result<(), StoreError> {
        match self.batch.take() {
            Some(edits) if !edits.is_empty() => {
                self.store(&edits)?;
                self.snapshot = None;
                Ok(())
            }
            _ => {
                self.store.release();
                Ok(())
            }
        }
    }

    /// Takes what is stored for the state in memory, after a transaction has failed: so what did not happen is not there, and if
    /// it did happen, it is. Numbers and versions that it had given are not given again, and what nodes have said of themselves
    /// stays said.
    ///
    /// A store that other roots use may be away for long: then the state is what it was before the transaction, and changes are
    /// refused until the store can be read.
    ///
    /// # Errors
    /// [`OpenError`]; it has to be tried again before anything else is done with the root.
    pub fn reload(&mut self, now: Instant) -> Result<(), OpenError> {
        let Err(error) = self.read_again(now) else {
            return Ok(());
        };
        let Some(before) = self.snapshot.take() else {
            return Err(error);
        };
        tracing::error!(%error, "changes are refused until the store can be read");
        let failed = std::mem::replace(&mut self.state, *before);
        self.state.counters.services = self.state.counters.services.max(failed.counters.services);
        self.state.counters.nodes = self.state.counters.nodes.max(failed.counters.nodes);
        self.state.changed.extend(failed.changed);
        (self.is_behind, self.is_sound) = (true, false);
        Ok(())
    }

    fn read_again(&mut self, now: Instant) -> Result<(), OpenError> {
        let rows = self.store.read()?;
        let plan = *self.state.addresses.plan();
        let state = load(rows, plan, &self.settings, &self.limits, now, &self.clock)
            .map_err(|fault| fault.at(self.store.name()))?;
        let before = std::mem::replace(&mut self.state, state);
        inherit(&mut self.state, &before);
        (self.is_behind, self.snapshot) = (false, None);
        self.believe_all();
        Ok(())
    }
}

/// Gives a state that comes from the store what the one before it had that is not stored.
fn inherit(state: &mut State, before: &State) {
    state.counters.services = state.counters.services.max(before.counters.services);
    state.counters.nodes = state.counters.nodes.max(before.counters.nodes);
    state.highest_version = state.highest_version.max(before.highest_version);
    state.begin();
    state.changed.extend(state.services.keys().chain(before.services.keys()));
    for (id, node) in &mut state.nodes {
        if let Some(before) = before.nodes.get(id).filter(|before| before.row.key == node.row.key) {
            (node.alive, node.heard, node.forget_at) = (before.alive, before.heard, before.forget_at);
            node.disagrees_since = before.disagrees_since;
            node.place = before.place;
        }
    }
    for (id, cluster) in &mut state.clusters {
        if let Some(before) = before.clusters.get(id).filter(|before| before.row.key == cluster.row.key) {
            (cluster.alive, cluster.heard, cluster.forget_at) = (before.alive, before.heard, before.forget_at);
        }
    }
    for (id, service) in &mut state.services {
        let Some(before) = before.services.get(id) else { continue };
        for (number, instance) in &mut service.instances {
            if let Some(before) = before.instances.get(number).filter(|before| before.row == instance.row) {
                (instance.said, instance.load, instance.turn) = (before.said, before.load, before.turn);
            }
        }
    }
    let known: BTreeSet<NodeKey> = known_keys(state).map(|known| known.key).collect();
    let dropped = before.key_events.iter().filter_map(|event| match event {
        KeyEvent::Remove { key } => Some(*key),
        KeyEvent::Add { .. } => None,
    });
    let dropped: BTreeSet<NodeKey> = known_keys(before).map(|known| known.key).chain(dropped).collect();
    let removed = dropped.difference(&known).map(|&key| KeyEvent::Remove { key });
    let added =
        known_keys(state).map(|known| KeyEvent::Add { key: known.key, endpoint: known.endpoint, join: known.join });
    let events: Vec<_> = removed.chain(added).collect();
    state.key_events.extend(events);
}
