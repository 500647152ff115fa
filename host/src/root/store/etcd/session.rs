//! What is said to etcd.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use acorn_core::sync::message::ManagerRecord;
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, DeleteOptions, GetOptions, GetResponse, PutOptions, Txn, TxnOp,
    TxnOpResponse,
};
use serde::{Deserialize, Serialize};

use super::super::super::row::{Edit, RowKey};
use super::super::{FORMAT, StoreUrl};

/// How long a root that died counts as alive, and keeps its turn, in seconds.
const LEASE_S: i64 = 10;
/// How often the lease is renewed.
const RENEWAL: Duration = Duration::from_secs(3);
/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(2);
/// The operations in one transaction, of the 128 that etcd takes, so that some are left for its frame.
const OPERATIONS_MAX: usize = 120;
/// The bytes in one transaction, of the 1.5 MiB that etcd takes, in rows; the sequence has them once more.
const BYTES_MAX: usize = 500_000;
/// How many rows are read at once.
const PAGE: i64 = 1_000;
/// How often it is looked whether a turn has ended.
const TURN_LOOK: Duration = Duration::from_millis(2);
/// How many operations of others are taken in one by one. Of more, the outcome is read.
const MISSED_MAX: usize = 256;
const UNKNOWN: &str = "the answer has no revision";
/// No lease.
const NONE: i64 = 0;

type Outcome<T> = Result<T, String>;

/// A connection to etcd, and this root's lease in it.
#[derive(Clone)]
pub(super) struct Session {
    client: Client,
    prefix: String,
    own: Option<ManagerRecord>,
    lease: Arc<AtomicI64>,
}

/// All that is stored.
pub(super) struct Content {
    pub(super) format: Option<String>,
    pub(super) rows: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sequence: i64,
}

/// What others have done.
pub(super) struct News {
    pub(super) edits: Vec<Edit>,
    pub(super) roots: Vec<ManagerRecord>,
    pub(super) sequence: i64,
}

/// The value of `sequence`.
#[derive(Serialize, Deserialize)]
struct Step {
    /// The revision of the one before.
    after: i64,
    edits: Vec<Edit>,
}

impl Session {
    pub(super) async fn open(url: StoreUrl, own: Option<ManagerRecord>) -> Outcome<Self> {
        let options = ConnectOptions::new()
            .with_connect_timeout(CONNECTING)
            .with_keep_alive(Duration::from_secs(2), Duration::from_secs(3))
            .with_keep_alive_while_idle(true);
        let client = Client::connect(url.servers(), Some(options)).await.map_err(said)?;
        Ok(Self { client, prefix: url.prefix(), own, lease: Arc::new(AtomicI64::new(NONE)) })
    }

    /// Reads everything, as of one moment.
    pub(super) async fn read(mut self) -> Outcome<Content> {
        let (format, sequence, revision) = loop {
            let txn = Txn::new().and_then([
                TxnOp::get(self.key("format"), None),
                TxnOp::get(self.key("sequence"), None),
                TxnOp::get(self.key("journal"), None),
            ]);
            let answer = self.client.txn(txn).await.map_err(said)?;
            let revision = answer.header().map_or(0, |header| header.revision());
            let [format, sequence, journal] = gets(answer.op_responses())?;
            if journal.kvs().is_empty() {
                let sequence = sequence.kvs().first().map_or(0, |kv| kv.mod_revision());
                let format = format.kvs().first().map(|kv| String::from_utf8_lossy(kv.value()).into_owned());
                break (format, sequence, revision);
            }
            self.apply_journal().await?;
        };
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let (base, end) = (self.key("rows/"), self.key("rows0"));
        let mut from = base.clone();
        loop {
            let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(revision);
            let page = self.client.get(from.clone(), Some(options)).await.map_err(said)?;
            for kv in page.kvs() {
                rows.push((kv.key().get(base.len()..).unwrap_or_default().to_vec(), kv.value().to_vec()));
            }
            match page.kvs().last() {
                Some(last) if page.more() => from = [last.key(), &[0]].concat(),
                _ => return Ok(Content { format, rows, sequence }),
            }
        }
    }

    /// Marks a new store as one, and says that this root is alive.
    pub(super) async fn adopt(mut self) -> Outcome<()> {
        let is_new = Compare::version(self.key("format"), CompareOp::Equal, 0);
        let format = TxnOp::put(self.key("format"), FORMAT.to_string(), None);
        self.client.txn(Txn::new().when([is_new]).and_then([format])).await.map_err(said)?;
        self.lease().await.map(drop)
    }

    /// Waits for this root's turn. Returns the revision that stands for it.
    pub(super) async fn take_turn(mut self) -> Outcome<i64> {
        loop {
            let lease = self.lease().await?;
            let is_free = Compare::version(self.key("turn"), CompareOp::Equal, 0);
            let take = TxnOp::put(self.key("turn"), "", Some(PutOptions::new().with_lease(lease)));
            let look = TxnOp::get(self.key("turn"), None);
            match self.client.txn(Txn::new().when([is_free]).and_then([take]).or_else([look])).await {
                Ok(answer) if answer.succeeded() => {
                    return answer.header().map(|header| header.revision()).ok_or_else(|| UNKNOWN.to_owned());
                }
                Ok(answer) => {
                    let [turn] = gets(answer.op_responses())?;
                    match turn.kvs().first().filter(|kv| kv.lease() == lease) {
                        // Our own, which could not be given back because etcd was away.
                        Some(kv) => self.clone().end_turn(kv.create_revision()).await?,
                        // Etcd's own lock tells of its end up to 100 ms late, which is a long time for a turn.
                        None => tokio::time::sleep(TURN_LOOK).await,
                    }
                }
                Err(error) => {
                    // Perhaps it is the lease that has ended.
                    self.check_lease(lease).await;
                    return Err(said(error));
                }
            }
        }
    }

    /// Gives the turn back.
    pub(super) async fn end_turn(mut self, turn: i64) -> Outcome<()> {
        let delete = TxnOp::delete(self.key("turn"), None);
        self.client.txn(Txn::new().when([self.is_turn(turn)]).and_then([delete])).await.map(drop).map_err(said)
    }

    /// What has been done since `sequence`; none when that can't be told any more.
    pub(super) async fn news(mut self, sequence: i64) -> Outcome<Option<News>> {
        let (now, roots) = loop {
            let txn = Txn::new().and_then([
                TxnOp::get(self.key("sequence"), Some(GetOptions::new().with_keys_only())),
                TxnOp::get(self.key("journal"), None),
                TxnOp::get(self.key("roots/"), Some(GetOptions::new().with_prefix())),
            ]);
            let answer = self.client.txn(txn).await.map_err(said)?;
            let [now, journal, roots] = gets(answer.op_responses())?;
            if journal.kvs().is_empty() {
                break (now.kvs().first().map_or(0, |kv| kv.mod_revision()), roots);
            }
            // A root has died in the middle of its turn.
            self.apply_journal().await?;
        };
        let roots = roots.kvs().iter().filter_map(|kv| serde_json::from_slice(kv.value()).ok()).collect();
        let mut missed = Vec::new();
        let mut at = now;
        while at != sequence {
            let options = GetOptions::new().with_revision(at);
            // Old revisions may be gone.
            let Ok(answer) = self.client.get(self.key("sequence"), Some(options)).await else { return Ok(None) };
            let step = answer.kvs().first().and_then(|kv| postcard::from_bytes::<Step>(kv.value()).ok());
            let Some(step) = step.filter(|_| missed.len() < MISSED_MAX) else { return Ok(None) };
            at = step.after;
            missed.push(step.edits);
        }
        let edits = missed.into_iter().rev().flatten().collect();
        Ok(Some(News { edits, roots, sequence: now }))
    }

    /// Stores edits in the turn that `turn` stands for, if nothing has been stored after `sequence`. Returns the new revision.
    pub(super) async fn store(mut self, edits: Vec<Edit>, sequence: i64, turn: i64) -> Outcome<i64> {
        let rows = self.operations(&edits)?;
        let value = postcard::to_stdvec(&Step { after: sequence, edits }).map_err(|error| error.to_string())?;
        let is_small = rows.len() <= OPERATIONS_MAX && value.len() <= BYTES_MAX;
        let mut operations = vec![TxnOp::put(self.key("sequence"), value, None)];
        if is_small {
            operations.extend(rows);
            operations.push(TxnOp::delete(self.key("turn"), None));
        } else {
            operations.push(TxnOp::put(self.key("journal"), "", None));
        }
        let is_in_turn = [
            Compare::mod_revision(self.key("sequence"), CompareOp::Equal, sequence),
            self.is_turn(turn),
            Compare::version(self.key("journal"), CompareOp::Equal, 0),
        ];
        let answer = self.client.txn(Txn::new().when(is_in_turn).and_then(operations)).await.map_err(said)?;
        if !answer.succeeded() {
            return Err("another root took over, because this one was away for longer than its lease".to_owned());
        }
        if !is_small {
            // It has happened: should this be interrupted, whoever comes next finishes it.
            let _ = self.apply_journal().await;
            let _ = self.end_turn(turn).await;
        }
        answer.header().map(|header| header.revision()).ok_or_else(|| UNKNOWN.to_owned())
    }

    /// Puts rows into a store that nobody uses, all of them or none.
    pub(super) async fn fill(mut self, edits: Vec<Edit>) -> Outcome<()> {
        let txn = Txn::new().and_then([TxnOp::get(self.key("roots/"), Some(GetOptions::new().with_prefix()))]);
        let [roots] = gets(self.client.txn(txn).await.map_err(said)?.op_responses())?;
        if roots.count() > 0 {
            return Err(format!("{} root(s) use it: stop them first", roots.count()));
        }
        // What has rows and no format is not used by anybody.
        self.client.delete(self.key("format"), None).await.map_err(said)?;
        for operations in self.operations(&edits)?.chunks(OPERATIONS_MAX) {
            let is_unused = Compare::version(self.key("format"), CompareOp::Equal, 0);
            let outcome = match self.client.txn(Txn::new().when([is_unused]).and_then(operations)).await {
                Ok(answer) if answer.succeeded() => continue,
                Ok(_) => "a root has begun to use it".to_owned(),
                Err(error) => said(error),
            };
            let _ = self.client.delete(self.key("rows/"), Some(DeleteOptions::new().with_prefix())).await;
            return Err(outcome);
        }
        self.client.put(self.key("format"), FORMAT.to_string(), None).await.map(drop).map_err(said)
    }

    /// Ends the lease, and with it this root's presence.
    pub(super) async fn leave(mut self) -> Outcome<()> {
        match self.lease.swap(NONE, Ordering::Relaxed) {
            NONE => Ok(()),
            lease => self.client.lease_revoke(lease).await.map(drop).map_err(said),
        }
    }

    /// Brings the rows to what `sequence` says, when the transaction that wrote it had no room for them.
    async fn apply_journal(&mut self) -> Outcome<()> {
        let sequence = self.client.get(self.key("sequence"), None).await.map_err(said)?;
        let Some(kv) = sequence.kvs().first() else { return Err("the journal has no sequence".to_owned()) };
        let Step { edits, .. } = postcard::from_bytes(kv.value()).map_err(|error| error.to_string())?;
        let is_this = || {
            [
                Compare::mod_revision(self.key("sequence"), CompareOp::Equal, kv.mod_revision()),
                Compare::version(self.key("journal"), CompareOp::Greater, 0),
            ]
        };
        let mut steps: Vec<Vec<TxnOp>> =
            self.operations(&edits)?.chunks(OPERATIONS_MAX).map(<[TxnOp]>::to_vec).collect();
        steps.push(vec![TxnOp::delete(self.key("journal"), None)]);
        let mut client = self.client.clone();
        for step in steps {
            let answer = client.txn(Txn::new().when(is_this()).and_then(step)).await.map_err(said)?;
            if !answer.succeeded() {
                // Somebody else has finished it.
                return Ok(());
            }
        }
        Ok(())
    }

    /// The operations on rows that edits amount to: the last of each row counts.
    fn operations(&self, edits: &[Edit]) -> Outcome<Vec<TxnOp>> {
        let mut last: BTreeMap<RowKey, &Edit> = BTreeMap::new();
        for edit in edits {
            let key = match edit {
                Edit::Put(row) => row.key(),
                Edit::Delete(key) => *key,
            };
            last.insert(key, edit);
        }
        let base = self.key("rows/");
        let operations = last.into_iter().map(|(key, edit)| {
            let key = [&base[..], &key.to_bytes()].concat();
            Ok(match edit {
                Edit::Put(row) => TxnOp::put(key, postcard::to_stdvec(row).map_err(|error| error.to_string())?, None),
                Edit::Delete(_) => TxnOp::delete(key, None),
            })
        });
        operations.collect()
    }

    /// The lease of this root, made when there is none, with its presence.
    async fn lease(&mut self) -> Outcome<i64> {
        let Some(own) = self.own else { return Ok(NONE) };
        let lease = self.lease.load(Ordering::Relaxed);
        if lease != NONE {
            return Ok(lease);
        }
        let lease = self.client.lease_grant(LEASE_S, None).await.map_err(said)?.id();
        let record = serde_json::to_vec(&own).map_err(|error| error.to_string())?;
        let key = self.key(&format!("roots/{}", own.key));
        self.client.put(key, record, Some(PutOptions::new().with_lease(lease))).await.map_err(said)?;
        self.lease.store(lease, Ordering::Relaxed);
        tokio::spawn(self.clone().keep(lease));
        Ok(lease)
    }

    /// Renews the lease until it has ended.
    async fn keep(mut self, lease: i64) {
        while self.lease.load(Ordering::Relaxed) == lease {
            if let Ok((mut keeper, mut answers)) = self.client.lease_keep_alive(lease).await {
                while keeper.keep_alive().await.is_ok() {
                    match tokio::time::timeout(RENEWAL, answers.message()).await {
                        Ok(Ok(Some(answer))) if answer.ttl() > 0 => tokio::time::sleep(RENEWAL).await,
                        Ok(Ok(Some(_))) => {
                            let _ = self.lease.compare_exchange(lease, NONE, Ordering::Relaxed, Ordering::Relaxed);
                            return;
                        }
                        _ => break,
                    }
                }
            }
            tokio::time::sleep(RENEWAL / 6).await;
        }
    }

    fn is_turn(&self, turn: i64) -> Compare {
        Compare::create_revision(self.key("turn"), CompareOp::Equal, turn)
    }

    async fn check_lease(&mut self, lease: i64) {
        if let Ok(left) = self.client.lease_time_to_live(lease, None).await
            && left.ttl() <= 0
        {
            let _ = self.lease.compare_exchange(lease, NONE, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn key(&self, name: &str) -> Vec<u8> {
        format!("{}{name}", self.prefix).into_bytes()
    }
}

/// The answers of a transaction that only reads.
fn gets<const N: usize>(answers: Vec<TxnOpResponse>) -> Outcome<[GetResponse; N]> {
    let gets = answers.into_iter().filter_map(|answer| match answer {
        TxnOpResponse::Get(get) => Some(get),
        _ => None,
    });
    gets.collect::<Vec<_>>().try_into().map_err(|_| "the answer is not one to this question".to_owned())
}

/// What etcd said, for people.
fn said(error: etcd_client::Error) -> String {
    match error {
        etcd_client::Error::GRpcStatus(status) => format!("etcd says: {}", status.message()),
        other => other.to_string(),
    }
}
