//! Who is let in: join keys, node keys that an operator registered, and what the tunnels have to know of them.

use acorn_core::ids::{Endpoint, NodeKey};
use acorn_core::time::Instant;

use super::Root;
use super::draft::Draft;
use super::row::{JoinKeyRow, Row};
use super::state::State;
use super::store::StoreError;

/// A key that the manager's tunnels must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// The key.
    pub key: NodeKey,
    /// Where its node is, if that is known.
    pub endpoint: Endpoint,
    /// It is a join key, which may say `Hello` for a new node and nothing else.
    pub join: bool,
}

/// A change of the set of known keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// The key is known from now on, or its endpoint has changed.
    Add {
        /// The key.
        key: NodeKey,
        /// Where its node is, if that is known.
        endpoint: Endpoint,
        /// It is a join key.
        join: bool,
    },
    /// The key is not known any more: it gets no answer.
    Remove {
        /// The key.
        key: NodeKey,
    },
}

/// Why keys were not taken in. None of them was.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key is a node's, a join key or the manager's own already.
    #[error("the key {0:?} is in use already: make a new one")]
    InUse(NodeKey),
    /// The time of expiry has passed.
    #[error("the join keys would have expired already: choose a time in the future")]
    Expired,
    /// There are as many as there can be.
    #[error("there are {limit} of these keys, and no more can be held: use some up, or wait until they expire")]
    Full {
        /// How many there can be.
        limit: usize,
    },
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StoreError),
}

impl Root {
    /// Registers the public halves of join keys, all or none. Each admits one node until `expires_unix`, in seconds since 1970.
    ///
    /// # Errors
    /// [`KeyError`]; nothing has changed then.
    pub fn create_join_keys(&mut self, now: Instant, keys: &[NodeKey], expires_unix: u64) -> Result<(), KeyError> {
        self.add_join_keys(now, keys, expires_unix, false)
    }

    /// The same for clusters: each admits one, and no node.
    ///
    /// # Errors
    /// As [`create_join_keys`](Self::create_join_keys).
    pub fn create_cluster_join_keys(
        &mut self,
        now: Instant,
        keys: &[NodeKey],
        expires_unix: u64,
    ) -> Result<(), KeyError> {
        self.add_join_keys(now, keys, expires_unix, true)
    }

    fn add_join_keys(
        &mut self,
        now: Instant,
        keys: &[NodeKey],
        expires_unix: u64,
        cluster: bool,
    ) -> Result<(), KeyError> {
        if expires_unix <= self.clock.unix(now) {
            return Err(KeyError::Expired);
        }
        if self.state.join_keys.len().saturating_add(keys.len()) > self.limits.join_keys {
            return Err(KeyError::Full { limit: self.limits.join_keys });
        }
        let mut draft = Draft::new(&self.state, &self.settings, self.clock, now);
        for (place, key) in keys.iter().enumerate() {
            let is_registered = self.state.registered_keys.contains(key);
            if !self.is_new_key(key) || is_registered || keys[..place].contains(key) {
                return Err(KeyError::InUse(*key));
            }
            draft.put(Row::JoinKey(*key, JoinKeyRow { expires_unix, used_by: None, cluster }));
        }
        let edits = draft.into_edits();
        Ok(self.commit(now, edits)?)
    }

    /// Registers a node's own public key, so that it can join without a token. Registering it again changes nothing. The
    /// registration outlives the node's retention.
    ///
    /// # Errors
    /// [`KeyError`]; nothing has changed then.
    pub fn register_node_key(&mut self, now: Instant, key: NodeKey) -> Result<(), KeyError> {
        if self.state.registered_keys.contains(&key) {
            return Ok(());
        }
        if self.state.join_keys.contains_key(&key) || key == NodeKey::default() {
            return Err(KeyError::InUse(key));
        }
        if self.state.registered_keys.len() >= self.limits.registered_keys {
            return Err(KeyError::Full { limit: self.limits.registered_keys });
        }
        let mut draft = Draft::new(&self.state, &self.settings, self.clock, now);
        draft.put(Row::RegisteredKey(key));
        let edits = draft.into_edits();
        Ok(self.commit(now, edits)?)
    }

    /// All keys that the tunnels must answer, except the manager's own. Changes from then on come from
    /// [`poll_key_event`](Self::poll_key_event).
    pub fn known_keys(&self) -> impl Iterator<Item = KnownKey> + '_ {
        known_keys(&self.state).filter(|known| known.key != self.own.key)
    }

    /// The next change of the set of known keys. A key that is there already may be added again.
    pub fn poll_key_event(&mut self) -> Option<KeyEvent> {
        while let Some(event) = self.state.key_events.pop_front() {
            let (KeyEvent::Add { key, .. } | KeyEvent::Remove { key }) = event;
            if key != self.own.key {
                return Some(event);
            }
        }
        None
    }

    /// Whether a key belongs to nobody yet, registered node keys aside.
    pub(super) fn is_new_key(&self, key: &NodeKey) -> bool {
        *key != NodeKey::default()
            && *key != self.own.key
            && !self.state.node_keys.contains_key(key)
            && !self.state.cluster_keys.contains_key(key)
            && !self.state.join_keys.contains_key(key)
    }
}

pub(super) fn known_keys(state: &State) -> impl Iterator<Item = KnownKey> + '_ {
    let nodes =
        state.nodes.values().map(|node| KnownKey { key: node.row.key, endpoint: node.row.spoken_at(), join: false });
    let clusters = state.clusters.values().map(|cluster| KnownKey {
        key: cluster.row.key,
        endpoint: cluster.row.endpoint,
        join: false,
    });
    let registered = state.registered_keys.iter().filter(|key| !state.node_keys.contains_key(key));
    let registered = registered.map(|&key| KnownKey { key, endpoint: Endpoint::UNKNOWN, join: false });
    let joining = state.join_keys.keys().map(|&key| KnownKey { key, endpoint: Endpoint::UNKNOWN, join: true });
    nodes.chain(clusters).chain(registered).chain(joining)
}
