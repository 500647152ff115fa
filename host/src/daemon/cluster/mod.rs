//! The thread of a cluster: the sans-IO [`Cluster`], what it remembers, and the two ends through which the others reach it.

mod memory;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use acorn_core::NodeKey;
use acorn_core::sync::Server;
use acorn_core::sync::directory::Sender;
use acorn_core::sync::message::{MESSAGE_MAX, ManagerRecord};
use static_cell::ConstStaticCell;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::engine_clock::EngineClock;
use super::memory::Memory;
use super::wake::Waker;
use crate::cluster::{Cluster, ClusterNews, ClusterStart, Upstream};
use crate::root::KeyEvent;

pub(super) use memory::{ClusterMemory, FILE_NAME};

/// The nodes of a cluster, their subscriptions, and the subjects that it follows at the root.
pub type HostCluster = Cluster<'static, NODES, SUBSCRIPTIONS, SUBJECTS>;
const NODES: usize = 4_096;
const SUBSCRIPTIONS: usize = 65_536;
const SUBJECTS: usize = 65_536;

static SERVER: ConstStaticCell<Server<NODES, SUBSCRIPTIONS>> = ConstStaticCell::new(Server::new());
static CLIENT: ConstStaticCell<Upstream<SUBJECTS>> = ConstStaticCell::new(Upstream::new());

/// A cluster in static memory.
///
/// # Panics
/// When called twice in one process.
pub fn start(now: acorn_core::time::Instant, start: ClusterStart) -> HostCluster {
    Cluster::new(now, start, SERVER.take(), CLIENT.take())
}

/// What waits for the cluster; more is lost, as on a network, and comes again.
const QUEUE: usize = 4096;
/// The longest sleep.
const IDLE: Duration = Duration::from_secs(1);
/// How far apart writes of the memory are, at least: nodes that come one by one are written together.
const REMEMBER: Duration = Duration::from_secs(1);

type Operation = Box<dyn FnOnce(&HostCluster, acorn_core::time::Instant) + Send>;

enum ToCluster {
    Payload(Sender, Vec<u8>),
    UnknownKey(NodeKey),
    Operation(Operation),
}

/// What the cluster wants of the data plane.
pub enum FromCluster {
    /// Seal this payload and send it.
    Send {
        /// Whom it is for.
        to: NodeKey,
        /// The payload.
        payload: Vec<u8>,
    },
    /// A node's key has to be answered from now on, or not any more.
    Key(KeyEvent),
    /// The managers of the root, and whether they are spoken to through the join key.
    Upstream {
        /// Them.
        managers: Vec<ManagerRecord>,
        /// They do not know the cluster's own key yet.
        joining: bool,
    },
}

/// The data plane's end.
pub struct ClusterLink {
    to: SyncSender<ToCluster>,
    from: Receiver<FromCluster>,
    overflow: Arc<AtomicU64>,
}

impl ClusterLink {
    /// Passes a control payload on. When the cluster is too slow it is lost and counted.
    pub fn deliver(&self, from: Sender, payload: &[u8]) {
        self.pass(ToCluster::Payload(from, payload.to_vec()));
    }

    /// Somebody wants a tunnel under a key that is not known here.
    pub fn unknown_key(&self, key: NodeKey) {
        self.pass(ToCluster::UnknownKey(key));
    }

    /// What the cluster wants next.
    pub fn poll(&self) -> Option<FromCluster> {
        self.from.try_recv().ok()
    }

    fn pass(&self, message: ToCluster) {
        if self.to.try_send(message).is_err() {
            self.overflow.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The control side's end.
#[derive(Clone)]
pub struct ClusterHandle {
    to: SyncSender<ToCluster>,
    overflow: Arc<AtomicU64>,
}

impl ClusterHandle {
    /// Looks at the cluster; none when its thread has ended or too much waits for it.
    pub async fn look<T: Send + 'static>(
        &self,
        at: impl FnOnce(&HostCluster, acorn_core::time::Instant) -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        let operation: Operation = Box::new(move |cluster, now| {
            // Whoever asked may have gone.
            let _ = done.send(at(cluster, now));
        });
        self.to.try_send(ToCluster::Operation(operation)).ok()?;
        result.await.ok()
    }

    /// Payloads that were lost because the cluster was too slow.
    pub fn overflow(&self) -> u64 {
        self.overflow.load(Ordering::Relaxed)
    }
}

/// The cluster's thread in the making.
pub struct ClusterThread {
    cluster: HostCluster,
    memory: ClusterMemory,
    path: PathBuf,
    clock: EngineClock,
    from: Receiver<ToCluster>,
    to: SyncSender<FromCluster>,
    waker: Arc<Waker>,
    /// What the data plane was last told of the managers.
    told: Option<(Vec<ManagerRecord>, bool)>,
    /// When the memory is to be written; none when it is as it should be.
    remember_at: Option<Instant>,
}

impl ClusterThread {
    /// Puts the thread's parts together. `path` is where the memory is.
    pub(super) fn new(
        cluster: HostCluster,
        memory: ClusterMemory,
        path: PathBuf,
        clock: EngineClock,
        waker: Arc<Waker>,
    ) -> (Self, ClusterLink, ClusterHandle) {
        let (to_cluster, from) = sync_channel(QUEUE);
        let (to, from_cluster) = sync_channel(QUEUE);
        let overflow = Arc::new(AtomicU64::new(0));
        let link = ClusterLink { to: to_cluster.clone(), from: from_cluster, overflow: overflow.clone() };
        let handle = ClusterHandle { to: to_cluster, overflow };
        let thread = Self { cluster, memory, path, clock, from, to, waker, told: None, remember_at: None };
        (thread, link, handle)
    }

    /// Serves until the data plane has ended.
    pub fn run(mut self) {
        let mut out = [0; MESSAGE_MAX];
        loop {
            let now = self.clock.now();
            self.cluster.handle_timeout(now);
            self.hear_news();
            if self.flush(&mut out).is_err() {
                return;
            }
            self.remember();
            let due = [self.cluster.poll_timeout().map(|at| self.clock.when(at)), self.remember_at];
            let due = due.into_iter().flatten().min();
            let left = due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()).min(IDLE));
            match self.from.recv_timeout(left) {
                Ok(message) => {
                    self.handle(message);
                    // What else has come is handled before anything is sent: answers to a burst share the work.
                    for _ in 0..QUEUE {
                        let Ok(message) = self.from.try_recv() else { break };
                        self.handle(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn handle(&mut self, message: ToCluster) {
        let now = self.clock.now();
        match message {
            ToCluster::Payload(from, payload) => self.cluster.handle(now, from, &payload),
            ToCluster::UnknownKey(key) => self.cluster.unknown_key(now, key),
            ToCluster::Operation(operation) => operation(&self.cluster, now),
        }
    }

    /// Sends what there is to send. An error when the data plane has ended.
    fn flush(&mut self, out: &mut [u8]) -> Result<(), ()> {
        let mut any = self.tell_upstream()?;
        loop {
            // Keys first: a payload may be for one that has just become known.
            while let Some(event) = self.cluster.poll_key_event() {
                self.to.send(FromCluster::Key(event)).map_err(|_| ())?;
                any = true;
            }
            let Some((to, len)) = self.cluster.poll_output(self.clock.now(), out) else { break };
            let payload = out.get(..len).unwrap_or_default().to_vec();
            self.to.send(FromCluster::Send { to, payload }).map_err(|_| ())?;
            // Woken as it fills: the data plane empties it while this goes on.
            self.waker.wake();
        }
        if any {
            self.waker.wake();
        }
        Ok(())
    }

    /// Tells the data plane how the root is reached, when that has changed.
    fn tell_upstream(&mut self) -> Result<bool, ()> {
        let now = (self.cluster.managers().to_vec(), self.cluster.is_joining());
        if self.told.as_ref() == Some(&now) {
            return Ok(false);
        }
        let (managers, joining) = now.clone();
        self.told = Some(now);
        self.to.send(FromCluster::Upstream { managers, joining }).map_err(|_| ())?;
        Ok(true)
    }

    fn hear_news(&mut self) {
        while let Some(news) = self.cluster.poll_news() {
            match news {
                ClusterNews::Joined { node, managers } => {
                    info!(node = node.0, "the root has taken this cluster in");
                    self.memory.set_managers(&managers);
                    self.remember_at.get_or_insert_with(Instant::now);
                }
                ClusterNews::Refused(refusal) => {
                    error!(?refusal, "the root refuses this cluster: {}", super::advice(refusal));
                }
                ClusterNews::NodesChanged => {
                    self.remember_at.get_or_insert_with(|| Instant::now() + REMEMBER);
                }
            }
        }
    }

    /// Writes the memory when it is time. A disk that fails costs a slower restart, no more: it is tried again.
    fn remember(&mut self) {
        if self.remember_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.memory.set_nodes(self.cluster.known_nodes());
        self.remember_at = match self.memory.store(&self.path) {
            Ok(()) => None,
            Err(error) => {
                warn!(%error, "a restart of this cluster would have to find its nodes anew");
                Some(Instant::now() + 10 * REMEMBER)
            }
        };
    }
}
