//! The root: the durable owner of all addresses, services and worker subnets.
//!
//! [`Root`] is the state behind a sync server, [`Directory`](acorn_core::sync::directory::Directory), and behind the operator's
//! commands. It lives in one redb file. Each operation is planned on the state in memory and stored in **one** transaction: it
//! happens whole or not at all, also when the process dies in the middle, and what was answered is on the disk.
//!
//! A disk's flush is the price of a transaction, so operations that wait together share one: between [`Root::begin`] and
//! [`Root::finish`] each is planned on the state with those before it applied, and nobody may be told anything before `finish` has
//! stored all of them. When it can't, [`Root::reload`] takes the state from the store again. An operation by itself is stored first
//! and applied in memory then.
//!
//! - `row` and `store`: what is in the file, and how it is opened without harming one that can't be used.
//! - `state`: the same in memory, with indexes, liveness and versions. `load` checks a file's rows on their way in.
//! - `pool` and `addresses`: who owns which address, and which is next. `draft`: an operation in the making.
//! - `services`, `nodes`, `instances`, `keys`, `expiry`: the operations. `batch`: some of them at once. `several`: several roots. `requests`: repeats. `directory`: the sync server's view.

mod addresses;
mod batch;
mod clock;
mod clusters;
mod directory;
mod draft;
mod expiry;
mod instances;
mod keys;
mod load;
mod nodes;
mod pool;
mod requests;
mod row;
mod services;
mod settings;
mod several;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use acorn_core::addr::AddressPlan;
use acorn_core::ids::{NodeId, ServiceId};
use acorn_core::sync::message::{ManagerRecord, Refusal, Turn};
use acorn_core::time::{Duration, Instant};

pub use keys::{KeyError, KeyEvent, KnownKey};
pub use requests::{OnceError, REQUEST_KEY_MAX, RequestKey};
pub use services::{AddressRequest, FixedAddress, InstanceInfo, NodeInfo, ServiceError, ServiceInfo, ServiceRequest};
pub use settings::{
    CLUSTERS_MAX, FIXED_MAX, INSTANCE_NUMBER_MAX, INSTANCES_MAX, JOIN_KEYS_MAX, LAST_SEEN_STEP, LEASE_MAX, LEASE_MIN,
    NODES_MAX, REGISTERED_KEYS_MAX, REMOVALS_MAX, RootSettings, SERVICES_MAX, START_GRACE,
};
pub use store::{OpenError, StoreError, StoreUrl, StoreUrlError, TransferError};
pub use transfer::{export_shared, export_store, import_shared, import_store};

use clock::Clock;
use row::{Counters, Edit, Row};
use settings::Limits;
use state::State;
use store::{Etcd, OwnFile, Redb, Store};

/// The name of the root's file in the state directory.
pub const FILE_NAME: &str = "root.redb";

/// How long it may take until a root notices what another one has done.
const LOOK: Duration = Duration::from_millis(250);

/// The root's state. See the module's documentation.
pub struct Root {
    store: Box<dyn Store>,
    /// What is applied in memory and waits for its transaction.
    batch: Option<Vec<Edit>>,
    /// The last commit succeeded.
    is_sound: bool,
    /// Why the last one that did not failed.
    trouble: String,
    /// The state has to be read again.
    is_behind: bool,
    /// The state before what waits, where the store may be away when it can't be stored.
    snapshot: Option<Box<State>>,
    /// Another number with every start, for where there can be several roots.
    start: u64,
    /// The roots that are alive, where there can be several.
    roots: Vec<ManagerRecord>,
    state: State,
    settings: RootSettings,
    limits: Limits,
    own: ManagerRecord,
    clock: Clock,
    opened: Instant,
    /// The nodes that nobody has heard since then: since the start, or since the root that heard them died.
    unheard: BTreeMap<NodeId, Instant>,
    /// The versions that all clients know, of services with withdrawn addresses whose quarantine has not begun.
    acknowledged: BTreeMap<ServiceId, u32>,
    /// The last detachment of each place, for as long as an older request can still be under way. No restart of the root is
    /// outlived by such a request: it was sealed for the tunnels of the process before.
    detached: BTreeMap<(NodeId, Ipv4Addr), (Turn, Instant)>,
}

/// How far apart changes of a node's place are at least: everyone who follows an instance on it hears of each.
const PLACE_SPACING: Duration = Duration::from_secs(5);

impl Root {
    /// Opens the file at `path`, or makes it when there is none. `own` is what nodes are told of this manager; `unix` is the wall
    /// clock in seconds since 1970. Nodes count as alive until their leases have passed without a `Hello`.
    ///
    /// # Errors
    /// [`OpenError`]; a file that is there is as it was then.
    pub fn open(
        path: &Path,
        plan: AddressPlan,
        settings: RootSettings,
        own: ManagerRecord,
        now: Instant,
        unix: u64,
    ) -> Result<Self, OpenError> {
        let store = Redb::on(OwnFile::open(path)?, path);
        Self::open_on(Box::new(store), plan, settings, Limits::default(), own, now, unix)
    }

    /// The same on a store that other roots can use at the same time.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_shared(
        url: &StoreUrl,
        plan: AddressPlan,
        settings: RootSettings,
        own: ManagerRecord,
        now: Instant,
        unix: u64,
    ) -> Result<Self, OpenError> {
        Self::open_on(Box::new(Etcd::new(url, Some(own))?), plan, settings, Limits::default(), own, now, unix)
    }

    fn open_on(
        mut store: Box<dyn Store>,
        plan: AddressPlan,
        settings: RootSettings,
        limits: Limits,
        own: ManagerRecord,
        now: Instant,
        unix: u64,
    ) -> Result<Self, OpenError> {
        let clock = Clock::new(now, unix);
        let rows = store.read()?;
        let state = load::load(rows, plan, &settings, &limits, now, &clock).map_err(|fault| fault.at(store.name()))?;
        store.adopt()?;
        Ok(Self::with(store, state, settings, limits, own, now, clock))
    }

    /// How often [`begin`](Self::begin) has to be called although nothing is asked for, because others may have done something.
    pub fn look_interval(&self) -> Option<Duration> {
        self.store.is_shared().then_some(LOOK)
    }

    fn with(
        store: Box<dyn Store>,
        state: State,
        settings: RootSettings,
        limits: Limits,
        own: ManagerRecord,
        now: Instant,
        clock: Clock,
    ) -> Self {
        // One that has never spoken with its own key has never had a table.
        let confirmed = state.nodes.iter().filter(|(_, node)| node.row.confirmed && node.row.via.is_none());
        let clusters = state.clusters.iter().filter(|(_, cluster)| cluster.row.confirmed);
        // What a node behind a cluster holds, its cluster answers for.
        let unheard = confirmed.map(|(id, _)| *id).chain(clusters.map(|(id, _)| *id)).map(|id| (id, now)).collect();
        let (acknowledged, detached) = (BTreeMap::new(), BTreeMap::new());
        let (batch, is_sound, is_behind, roots) = (None, true, false, Vec::new());
        Self {
            store,
            batch,
            is_sound,
            trouble: String::new(),
            is_behind,
            snapshot: None,
            start: clock.unix_ms(now),
            roots,
            state,
            settings,
            limits,
            own,
            clock,
            opened: now,
            unheard,
            acknowledged,
            detached,
        }
    }

    /// Stores the edits of one operation, then applies them.
    fn commit(&mut self, now: Instant, mut edits: Vec<Edit>) -> Result<(), StoreError> {
        if edits.is_empty() {
            return Ok(());
        }
        if let Some(version_ceiling) = self.state.next_ceiling(edits.len()) {
            raise_ceiling(&mut edits, self.state.counters, version_ceiling);
        }
        self.store(&edits)?;
        for edit in edits {
            self.state.apply(now, &self.clock, edit);
        }
        Ok(())
    }

    /// Stores edits, or puts them to those that wait.
    fn store(&mut self, edits: &[Edit]) -> Result<(), StoreError> {
        if let Some(batch) = &mut self.batch {
            if self.snapshot.is_none() && self.store.is_shared() {
                self.snapshot = Some(Box::new(self.state.clone()));
            }
            batch.extend_from_slice(edits);
            return Ok(());
        }
        let stored = self.store.commit(edits);
        self.is_sound = stored.is_ok();
        if let Err(error) = &stored {
            self.trouble = error.reason();
        }
        stored
    }

    /// The same for the request of a node.
    fn commit_request(&mut self, now: Instant, edits: Vec<Edit>) -> Result<(), Refusal> {
        self.commit(now, edits).map_err(|error| {
            tracing::error!(%error, "a node's request is refused");
            Refusal::Storage
        })
    }

    fn mark_alive(&mut self, now: Instant, id: NodeId, alive: bool) {
        if self.state.nodes.get(&id).is_none_or(|node| node.alive == alive) || !self.may_judge(id) {
            return;
        }
        if let Some(edit) = self.watch_edit(id, !alive)
            && let Err(error) = self.commit(now, vec![edit])
        {
            tracing::error!(%error, "the other roots do not know that a node is silent");
        }
        self.make_room_for_versions(1);
        self.state.set_alive(id, alive);
    }

    /// Notes where a node says to be; false when it has said something else a moment ago.
    fn note_place(&mut self, now: Instant, id: NodeId, place: [i16; 3]) -> bool {
        let Some((before, said)) = self.state.nodes.get(&id).map(|node| node.place) else {
            return true;
        };
        if before == place {
            return true;
        }
        if said.is_some_and(|said| now < said.saturating_add(PLACE_SPACING)) {
            return false;
        }
        self.make_room_for_versions(1);
        self.state.set_place(now, id, place);
        true
    }

    /// Liveness is not stored, but it raises versions, and none may ever be above the stored ceiling. When the disk fails liveness
    /// goes on: only after the next start could a table then be of a version that it was of before, and by then all clients have
    /// asked anew.
    fn make_room_for_versions(&mut self, count: usize) {
        let Some(version_ceiling) = self.state.next_ceiling(count) else {
            return;
        };
        let row = Row::Counters(Counters { version_ceiling, ..self.state.counters });
        match self.store(&[Edit::Put(row)]) {
            Ok(()) => self.state.counters.version_ceiling = version_ceiling,
            Err(error) => tracing::error!(%error, "the versions of tables could not be stored"),
        }
    }
}

/// Raises the ceiling of versions within an operation.
fn raise_ceiling(edits: &mut Vec<Edit>, before: Counters, version_ceiling: u32) {
    let changed = edits.iter_mut().find_map(|edit| match edit {
        Edit::Put(Row::Counters(counters)) => Some(counters),
        _ => None,
    });
    match changed {
        Some(counters) => counters.version_ceiling = version_ceiling,
        None => edits.push(Edit::Put(Row::Counters(Counters { version_ceiling, ..before }))),
    }
}
