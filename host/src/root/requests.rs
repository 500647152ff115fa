//! Requests that are done once, however often they come.
//!
//! Who repeats a request because its answer got lost gives it the same key again, and gets the answer of the first time. The answer
//! is stored in the transaction of what was done, so it is there if and only if that is.

use std::collections::{BTreeSet, HashMap};

use acorn_core::time::Instant;

use super::Root;
use super::row::{Edit, RequestRow, Row, RowKey};
use super::settings::{REQUEST_AGE, REQUEST_BYTES_MAX, REQUESTS_MAX};
use super::store::StoreError;

/// How long a key can be, in bytes.
pub const REQUEST_KEY_MAX: usize = 64;

/// What a client names a request by: 1 to [`REQUEST_KEY_MAX`] printable ASCII characters without spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey(String);

impl RequestKey {
    /// The key, if it is one.
    pub fn new(text: &str) -> Option<Self> {
        let is_key = (1..=REQUEST_KEY_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_key.then(|| Self(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a request was not done, or its answer is not known.
#[derive(Debug, thiserror::Error)]
pub enum OnceError<E> {
    /// The operation's own error. Nothing has changed, and the key can be used again.
    #[error("{0}")]
    Refused(E),
    /// The key was used for something else.
    #[error("the idempotency key {0} belongs to another request of the last 24 hours: use a new key for each request")]
    Reused(String),
    /// The store.
    #[error(transparent)]
    Storage(StoreError),
}

/// The answers that are kept, and their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    rows: HashMap<u128, RequestRow>,
    by_age: BTreeSet<(u64, u128)>,
    bytes: usize,
}

impl Requests {
    pub(super) fn put(&mut self, id: u128, row: RequestRow) {
        self.delete(id);
        self.by_age.insert((row.at_unix_ms, id));
        self.bytes += row.answer.len();
        self.rows.insert(id, row);
    }

    pub(super) fn delete(&mut self, id: u128) {
        if let Some(row) = self.rows.remove(&id) {
            self.by_age.remove(&(row.at_unix_ms, id));
            self.bytes -= row.answer.len();
        }
    }

    /// Those that are too old.
    pub(super) fn expired(&self, unix_ms: u64) -> impl Iterator<Item = u128> + '_ {
        let age = u64::try_from(REQUEST_AGE.as_millis()).unwrap_or(u64::MAX);
        self.by_age.iter().take_while(move |(at, _)| at.saturating_add(age) <= unix_ms).map(|(_, id)| *id)
    }

    /// The oldest ones, as many as have to go for one more with an answer of this length.
    pub(super) fn in_the_way(&self, len: usize) -> Vec<u128> {
        let (mut count, mut bytes) = (self.rows.len() + 1, self.bytes + len);
        let mut gone = Vec::new();
        for (_, id) in &self.by_age {
            if count <= REQUESTS_MAX && bytes <= REQUEST_BYTES_MAX {
                break;
            }
            count -= 1;
            bytes -= self.rows.get(id).map_or(0, |row| row.answer.len());
            gone.push(*id);
        }
        gone
    }
}

impl Root {
    /// Does what `operation` does unless the key has been used for `what` before, and returns the answer of the first time. To be
    /// called between [`begin`](Self::begin) and [`finish`](Self::finish), so that both are one transaction. The newest 16,384
    /// answers of the last 24 hours, at most 16 MiB, are kept.
    ///
    /// # Errors
    /// [`OnceError`]; nothing has changed then.
    pub fn once<E>(
        &mut self,
        now: Instant,
        key: &RequestKey,
        what: &str,
        operation: impl FnOnce(&mut Self) -> Result<String, E>,
    ) -> Result<String, OnceError<E>> {
        let (id, what) = (fnv1a(key.as_str()), fnv1a(what));
        if let Some(row) = self.state.requests.rows.get(&id) {
            let is_repeat = row.key == key.as_str() && row.what == what;
            return if is_repeat { Ok(row.answer.clone()) } else { Err(OnceError::Reused(key.as_str().to_owned())) };
        }
        if self.batch.is_none() {
            let name = self.store.name().display().to_string();
            return Err(OnceError::Storage(StoreError::new(&name, self.trouble.clone())));
        }
        let answer = operation(self).map_err(OnceError::Refused)?;
        let gone = self.state.requests.in_the_way(answer.len());
        let mut edits: Vec<_> = gone.into_iter().map(|id| Edit::Delete(RowKey::Request(id))).collect();
        let row = RequestRow { key: key.as_str().to_owned(), what, at_unix_ms: self.clock.unix_ms(now), answer };
        let answer = row.answer.clone();
        edits.push(Edit::Put(Row::Request(id, row)));
        self.commit(now, edits).map_err(OnceError::Storage)?;
        Ok(answer)
    }
}

/// FNV-1a of 128 bits: stable over versions, which is all that is asked of it. Keys are compared in full.
fn fnv1a(text: &str) -> u128 {
    let step = |hash: u128, byte: u8| (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, step)
}
