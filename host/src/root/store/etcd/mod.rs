//! The store in etcd, which several roots can have at once.
//!
//! A root changes something in its *turn*: it makes the key `turn`, with its lease, takes in what other roots have done since its last turn, plans, and
//! stores in one transaction, which also gives the turn back. The transaction is guarded by the revision of the key `sequence`,
//! which every one of them writes: whoever lost its turn without knowing, because it was away for longer than its lease, changes
//! nothing. So no two roots ever plan on the same state. A root that dies in its turn holds the others up until its lease ends.
//!
//! The keys, behind the prefix:
//!
//! | key | value |
//! |---|---|
//! | `format` | the version of the content, written last when the store is made |
//! | `rows/` and a row's key | the row |
//! | `sequence` | the edits of the last operation, in their order; each names the one before, so other roots can take in all that they have missed |
//! | `journal` | there while the edits in `sequence` are not all in their rows: an operation that has more of them than fit into a transaction of etcd |
//! | `turn` | there in a root's turn, with its lease |
//! | `roots/` and a key | a root that is alive, with its lease |

mod session;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use acorn_core::sync::message::ManagerRecord;
use tokio::runtime::{Builder, Runtime};

use self::session::Session;
use super::super::row::{Edit, Row};
use super::{Begun, FORMAT, OpenError, Store, StoreError, StoreUrl};

/// How long etcd may take for anything but a turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a turn is waited for. Others go on being answered between two attempts.
const TURN_PATIENCE: Duration = Duration::from_secs(3);
/// How long a root leaves the next turn to others: longer than they take to notice that the last one has ended.
const YIELD: Duration = Duration::from_millis(5);
/// How long etcd is left alone after it did not answer, so that reads don't wait for it.
const RETRY: Duration = Duration::from_millis(500);

/// A store in etcd.
pub(in super::super) struct Etcd {
    url: StoreUrl,
    name: PathBuf,
    /// Who this root is for others; none for whoever only exports or imports.
    own: Option<ManagerRecord>,
    /// None after the end only.
    runtime: Option<Runtime>,
    session: Option<Session>,
    /// The revision of `sequence` that our state is of.
    sequence: i64,
    /// What stands for our turn, while it is.
    turn: Option<i64>,
    /// When the last one ended, if another root may want the next.
    ended: Option<Instant>,
    /// When etcd is asked again, and what was wrong.
    retry: Option<(Instant, String)>,
}

impl Etcd {
    /// A store that has not been read yet.
    pub(in super::super) fn new(url: &StoreUrl, own: Option<ManagerRecord>) -> Result<Self, OpenError> {
        let name = PathBuf::from(url.to_string());
        let io = |source| OpenError::Io { path: name.clone(), source };
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("etcd").enable_all().build();
        let runtime = Some(runtime.map_err(io)?);
        let (url, retry) = (url.clone(), None);
        Ok(Self { url, name, own, runtime, session: None, sequence: 0, turn: None, ended: None, retry })
    }

    /// Waits for a task on the threads of this store: whoever asks may be on a thread of another runtime.
    fn wait<T: Send + 'static>(
        &self,
        patience: Duration,
        task: impl Future<Output = Result<T, String>> + Send + 'static,
    ) -> Result<T, String> {
        let (done, outcome) = mpsc::channel();
        let runtime = self.runtime.as_ref().ok_or("the store is closed")?;
        runtime.spawn(async move {
            let silent = || Err(format!("no answer within {} s", patience.as_secs()));
            let outcome = tokio::time::timeout(patience, task).await.unwrap_or_else(|_| silent());
            let _ = done.send(outcome);
        });
        outcome.recv().map_err(|_| "the store is closed".to_owned())?
    }

    fn session(&mut self) -> Result<Session, String> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        let (url, own) = (self.url.clone(), self.own);
        let session = self.wait(PATIENCE, Session::open(url, own))?;
        self.session = Some(session.clone());
        Ok(session)
    }

    fn take_turn(&mut self) -> Result<Begun, String> {
        let session = self.session()?;
        if let Some(ended) = self.ended {
            std::thread::sleep(YIELD.saturating_sub(ended.elapsed()));
        }
        let turn = self.wait(TURN_PATIENCE, session.clone().take_turn())?;
        self.turn = Some(turn);
        let Some(news) = self.wait(PATIENCE, session.news(self.sequence))? else {
            return Ok(Begun { behind: true, ..Begun::default() });
        };
        self.sequence = news.sequence;
        self.ended = (news.roots.len() > 1).then(Instant::now);
        Ok(Begun { edits: news.edits, roots: news.roots, behind: false })
    }

    fn failed(&self, reason: impl Into<String>) -> StoreError {
        StoreError::new(&self.name.display().to_string(), reason.into())
    }

    fn io(&self, reason: String) -> OpenError {
        OpenError::Etcd { name: self.url.to_string(), reason }
    }
}

impl Store for Etcd {
    fn name(&self) -> &Path {
        &self.name
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn read(&mut self) -> Result<Vec<Row>, OpenError> {
        if let Some((_, reason)) = self.retry.as_ref().filter(|(at, _)| *at > Instant::now()) {
            return Err(self.io(reason.clone()));
        }
        let content = self.session().and_then(|session| self.wait(4 * PATIENCE, session.read()));
        let content = content.map_err(|reason| {
            self.retry = Some((Instant::now() + RETRY, reason.clone()));
            self.io(reason)
        })?;
        let damaged = |detail: String| OpenError::Damaged { path: self.name.clone(), detail };
        let format = match content.format.as_deref() {
            None if content.rows.is_empty() => FORMAT,
            None => return Err(damaged("it has rows and does not say its format: an import did not end".to_owned())),
            Some(text) => text.parse().map_err(|_| damaged(format!("its format is `{text}`")))?,
        };
        if format > FORMAT {
            return Err(OpenError::NewerFormat { path: self.name.clone(), found: format });
        }
        if format < FORMAT {
            return Err(damaged(format!("its format is {format}, in which no etcd was ever written")));
        }
        let mut rows = Vec::with_capacity(content.rows.len());
        for (key, value) in &content.rows {
            match postcard::from_bytes::<Row>(value) {
                Ok(row) if row.key().to_bytes() == *key => rows.push(row),
                _ => return Err(damaged(format!("row {key:02x?} can't be read"))),
            }
        }
        self.sequence = content.sequence;
        Ok(rows)
    }

    fn adopt(&mut self) -> Result<(), OpenError> {
        let session = self.session().map_err(|reason| self.io(reason))?;
        self.wait(PATIENCE, session.adopt()).map_err(|reason| self.io(reason))
    }

    fn begin(&mut self) -> Result<Begun, StoreError> {
        if let Some((_, reason)) = self.retry.as_ref().filter(|(at, _)| *at > Instant::now()) {
            return Err(self.failed(reason));
        }
        let begun = self.take_turn();
        if let Err(reason) = &begun {
            self.release();
            self.retry = Some((Instant::now() + RETRY, reason.clone()));
            return Err(self.failed(reason));
        }
        self.retry = None;
        begun.map_err(|reason| self.failed(reason))
    }

    fn release(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        if let Ok(session) = self.session() {
            // If it can't be given back, it ends with the lease.
            let _ = self.wait(PATIENCE, session.end_turn(turn));
            self.ended = self.ended.map(|_| Instant::now());
        }
    }

    fn commit(&mut self, edits: &[Edit]) -> Result<(), StoreError> {
        let Some(turn) = self.turn.take() else {
            let reason = self.retry.as_ref().map_or("it is another root's turn", |(_, reason)| reason);
            return Err(self.failed(reason));
        };
        let session = self.session().map_err(|reason| self.failed(reason))?;
        let stored = self.wait(PATIENCE, session.clone().store(edits.to_vec(), self.sequence, turn));
        match stored {
            Ok(revision) => {
                self.sequence = revision;
                self.ended = self.ended.map(|_| Instant::now());
                Ok(())
            }
            Err(reason) => {
                let _ = self.wait(PATIENCE, session.end_turn(turn));
                Err(self.failed(reason))
            }
        }
    }

    fn fill(&mut self, edits: &[Edit]) -> Result<(), StoreError> {
        let session = self.session().map_err(|reason| self.failed(reason))?;
        self.wait(12 * PATIENCE, session.fill(edits.to_vec())).map_err(|reason| self.failed(reason))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.release();
        if let Some(session) = self.session.take() {
            // Others need not wait for the lease to end.
            let _ = self.wait(Duration::from_secs(1), session.leave());
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
