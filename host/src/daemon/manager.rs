//! The thread of the root: the sync server over the root's store, apart from the packets because its disk is slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use acorn_core::sync::Server;
use acorn_core::sync::directory::Sender;
use acorn_core::sync::message::MESSAGE_MAX;
use acorn_core::{HashKey, NodeKey};
use static_cell::ConstStaticCell;
use tokio::sync::oneshot;
use tracing::debug;

use super::engine_clock::EngineClock;
use super::wake::Waker;
use crate::root::{KeyEvent, Root};

/// What a root serves: nodes and subscriptions.
pub type RootServer = Server<4096, 65_536>;

/// Payloads that wait for the root; more are lost, as on a network, and come again.
const QUEUE: usize = 4096;
/// How often the root looks for what has come to its end.
const EXPIRY: Duration = Duration::from_secs(1);

static SERVER: ConstStaticCell<RootServer> = ConstStaticCell::new(RootServer::new());

type Operation = Box<dyn FnOnce(&mut Root, acorn_core::time::Instant) + Send>;

enum ToManager {
    Payload(Sender, Vec<u8>),
    Operation(Operation),
}

/// What the root wants of the data plane.
pub enum FromManager {
    /// Seal this payload and send it.
    Send {
        /// Whom it is for.
        to: NodeKey,
        /// The payload.
        payload: Vec<u8>,
    },
    /// A key has to be answered from now on, or not any more.
    Key(KeyEvent),
}

/// The data plane's end.
pub struct ManagerLink {
    to: SyncSender<ToManager>,
    from: Receiver<FromManager>,
    overflow: Arc<AtomicU64>,
}

impl ManagerLink {
    /// Passes a control payload on. When the root is too slow it is lost and counted.
    pub fn deliver(&self, from: Sender, payload: &[u8]) {
        if self.to.try_send(ToManager::Payload(from, payload.to_vec())).is_err() {
            self.overflow.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the root wants next.
    pub fn poll(&self) -> Option<FromManager> {
        self.from.try_recv().ok()
    }
}

/// The control side's end: runs operations on the root.
#[derive(Clone)]
pub struct ManagerHandle {
    to: SyncSender<ToManager>,
    overflow: Arc<AtomicU64>,
}

/// The root's thread has ended, or too much waits for it.
#[derive(Debug, thiserror::Error)]
#[error("the root is busy: try again in a moment")]
pub struct Busy;

impl ManagerHandle {
    /// Runs an operation on the root and returns what it returns.
    ///
    /// # Errors
    /// [`Busy`]; the operation has not run then.
    pub async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Root, acorn_core::time::Instant) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let (done, result) = oneshot::channel();
        let operation: Operation = Box::new(move |root, now| {
            // Whoever asked may have gone; what was done stays done.
            let _ = done.send(operation(root, now));
        });
        self.to.try_send(ToManager::Operation(operation)).map_err(|_| Busy)?;
        result.await.map_err(|_| Busy)
    }

    /// Payloads that were lost because the root was too slow.
    pub fn overflow(&self) -> u64 {
        self.overflow.load(Ordering::Relaxed)
    }
}

/// The root's thread in the making.
pub struct Manager {
    root: Root,
    server: &'static mut RootServer,
    clock: EngineClock,
    from: Receiver<ToManager>,
    to: SyncSender<FromManager>,
    waker: Arc<Waker>,
}

impl Manager {
    /// Puts the thread's parts together. `epoch` must be new with every start.
    pub fn new(
        root: Root,
        clock: EngineClock,
        epoch: u32,
        hash_key: HashKey,
        retention: Duration,
        waker: Arc<Waker>,
    ) -> (Self, ManagerLink, ManagerHandle) {
        let server = SERVER.take();
        server.start(acorn_core::time::Instant::ZERO, epoch, hash_key);
        server.set_retention(retention);
        let (to_manager, from) = sync_channel(QUEUE);
        let (to, from_manager) = sync_channel(QUEUE);
        let overflow = Arc::new(AtomicU64::new(0));
        let link = ManagerLink { to: to_manager.clone(), from: from_manager, overflow: overflow.clone() };
        let handle = ManagerHandle { to: to_manager, overflow };
        (Self { root, server, clock, from, to, waker }, link, handle)
    }

    /// Serves until the data plane has ended.
    pub fn run(mut self) {
        for known in self.root.known_keys().collect::<Vec<_>>() {
            let event = KeyEvent::Add { key: known.key, endpoint: known.endpoint, join: known.join };
            if self.to.send(FromManager::Key(event)).is_err() {
                return;
            }
            // Nodes that have been here before say everything again at once, instead of when their leases run out.
            if !known.join && known.endpoint.get().is_some() {
                self.server.announce(known.key);
            }
        }
        let mut next_expiry = Instant::now();
        let mut out = [0; MESSAGE_MAX];
        loop {
            let now = self.time();
            if Instant::now() >= next_expiry {
                next_expiry = Instant::now() + EXPIRY;
                let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                self.root.expire(now, unix);
            }
            self.server.handle_timeout(now, &mut self.root);
            if self.flush(now, &mut out).is_err() {
                return;
            }
            let due = self.server.poll_timeout().map(|at| self.clock.when(at));
            let until = due.map_or(next_expiry, |due| due.min(next_expiry));
            match self.from.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(message) => {
                    self.handle(message, &mut out);
                    // What else has come is handled before anything is sent: answers to a burst share the work.
                    for _ in 0..QUEUE {
                        let Ok(message) = self.from.try_recv() else { break };
                        self.handle(message, &mut out);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn handle(&mut self, message: ToManager, out: &mut [u8]) {
        let now = self.time();
        match message {
            ToManager::Operation(operation) => operation(&mut self.root, now),
            ToManager::Payload(from, payload) => {
                match self.server.handle(now, from, &payload, &mut self.root, out) {
                    Ok(Some(len)) => {
                        // Keys first: the answer may be for one that has just become known.
                        self.pass_keys();
                        let payload = out.get(..len).unwrap_or_default().to_vec();
                        let _ = self.to.send(FromManager::Send { to: from.key, payload });
                        self.waker.wake();
                    }
                    Ok(None) => {}
                    Err(error) => debug!(?error, key = %from.key, "a message of a node was refused"),
                }
            }
        }
    }

    /// Sends what there is to send. An error when the data plane has ended.
    fn flush(&mut self, now: acorn_core::time::Instant, out: &mut [u8]) -> Result<(), ()> {
        let mut any = self.pass_keys();
        while let Some((to, len)) = self.server.poll_transmit(now, &mut self.root, out) {
            let payload = out.get(..len).unwrap_or_default().to_vec();
            self.to.send(FromManager::Send { to, payload }).map_err(|_| ())?;
            // Woken as it fills: the data plane empties it while this goes on.
            self.waker.wake();
            any = true;
        }
        if any {
            self.waker.wake();
        }
        Ok(())
    }

    fn pass_keys(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.root.poll_key_event() {
            let _ = self.to.send(FromManager::Key(event));
            any = true;
        }
        any
    }

    fn time(&self) -> acorn_core::time::Instant {
        self.clock.now()
    }
}
