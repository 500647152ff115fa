//! The thread of the root: the sync server over the root's store, apart from the packets because its disk is slow.
//!
//! What waits for the root is handled together and stored in one transaction: a disk's flush is what a change costs, and it is the
//! same for one as for hundreds. Nobody is answered, and no table is sent, before the transaction is on the disk.

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
use tracing::{debug, error};

use super::engine_clock::EngineClock;
use super::wake::Waker;
use crate::root::{KeyEvent, Root};

/// What a root serves: nodes and subscriptions.
pub type RootServer = Server<4096, 65_536>;

/// Payloads that wait for the root; more are lost, as on a network, and come again.
const QUEUE: usize = 4096;
/// The most messages in one transaction: those behind them don't wait longer than for these.
const TOGETHER: usize = 1_024;
/// How long the root waits before it looks again at a store that it could not read.
const STORE_PATIENCE: Duration = Duration::from_secs(1);
/// How often the root looks for what has come to its end.
const EXPIRY: Duration = Duration::from_secs(1);

static SERVER: ConstStaticCell<RootServer> = ConstStaticCell::new(RootServer::new());

type Operation = Box<dyn FnOnce(&mut Root, acorn_core::time::Instant) -> Answer + Send>;
/// Tells whoever asked what came of it, once it is known whether it is stored.
type Answer = Box<dyn FnOnce(Result<(), NotDone>) + Send>;

enum ToManager {
    Payload(Sender, Vec<u8>),
    Operation(Operation),
}

/// What is told when everything is stored.
enum Held {
    Done(Answer),
    Send(NodeKey, Vec<u8>),
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

/// An operation was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotDone {
    /// The root's thread has ended, or too much waits for it.
    #[error("the root is busy: try again in a moment")]
    Busy,
    /// The store failed.
    #[error("{0}")]
    Storage(String),
}

impl ManagerHandle {
    /// Runs an operation on the root and returns what it returns, when it is stored.
    ///
    /// # Errors
    /// [`NotDone`]; the operation has changed nothing then.
    pub async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Root, acorn_core::time::Instant) -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let (done, result) = oneshot::channel();
        let operation: Operation = Box::new(move |root, now| {
            let outcome = operation(root, now);
            // Whoever asked may have gone; what was done stays done.
            Box::new(move |stored| drop(done.send(stored.map(|()| outcome))))
        });
        self.to.try_send(ToManager::Operation(operation)).map_err(|_| NotDone::Busy)?;
        result.await.map_err(|_| NotDone::Busy)?
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
        let mut messages = Vec::new();
        loop {
            let now = self.time();
            self.root.begin(now);
            if Instant::now() >= next_expiry {
                next_expiry = Instant::now() + EXPIRY;
                let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                self.root.expire(now, unix);
            }
            let answers: Vec<_> = messages.drain(..).filter_map(|message| self.handle(message, &mut out)).collect();
            self.server.handle_timeout(now, &mut self.root);
            let stored = self.finish();
            if self.answer(answers, &stored).is_err() || self.flush(now, &mut out).is_err() {
                return;
            }
            let due = self.server.poll_timeout().map(|at| self.clock.when(at));
            let next_look = self.root.look_interval().map_or(next_expiry, |interval| Instant::now() + interval);
            let until = due.map_or(next_expiry, |due| due.min(next_expiry)).min(next_look);
            match self.from.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(message) => {
                    messages.push(message);
                    messages.extend(self.from.try_iter().take(TOGETHER));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Does what a message asks for. What is to be answered waits for [`finish`](Self::finish).
    fn handle(&mut self, message: ToManager, out: &mut [u8]) -> Option<Held> {
        let now = self.time();
        match message {
            ToManager::Operation(operation) => Some(Held::Done(operation(&mut self.root, now))),
            ToManager::Payload(from, payload) => match self.server.handle(now, from, &payload, &mut self.root, out) {
                Ok(Some(len)) => Some(Held::Send(from.key, out.get(..len).unwrap_or_default().to_vec())),
                Ok(None) => None,
                Err(error) => {
                    debug!(?error, key = %from.key, "a message of a node was refused");
                    None
                }
            },
        }
    }

    /// Stores what has been done since the root began.
    fn finish(&mut self) -> Result<(), NotDone> {
        let Err(failed) = self.root.finish() else {
            return Ok(());
        };
        error!(error = %failed, "what was asked for is refused");
        while let Err(error) = self.root.reload(self.time()) {
            error!(%error, "the root waits for its store");
            let until = Instant::now() + STORE_PATIENCE;
            // Who asks meanwhile hears at once that the root is busy: what is dropped answers so.
            loop {
                match self.from.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(message) => drop(message),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return Err(NotDone::Busy),
                }
            }
        }
        Err(NotDone::Storage(failed.to_string()))
    }

    /// Gives the answers that were held back. Nodes get none when nothing was stored: they ask again. An error when the data plane
    /// has ended.
    fn answer(&mut self, answers: Vec<Held>, stored: &Result<(), NotDone>) -> Result<(), ()> {
        // Keys first: an answer may be for one that has just become known.
        if self.pass_keys() {
            self.waker.wake();
        }
        for answer in answers {
            match answer {
                Held::Done(done) => done(stored.clone()),
                Held::Send(to, payload) if stored.is_ok() => {
                    self.to.send(FromManager::Send { to, payload }).map_err(|_| ())?;
                    self.waker.wake();
                }
                Held::Send(..) => {}
            }
        }
        Ok(())
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
