//! Where the root's rows are: a store that takes the edits of operations, all or none.

mod etcd;
mod location;
mod redb;
pub(super) mod transfer;

use std::path::{Path, PathBuf};

use acorn_core::sync::message::ManagerRecord;

use super::row::{Edit, Row};

pub(super) use self::etcd::Etcd;
pub use self::location::{StoreUrl, StoreUrlError};
#[cfg(test)]
pub(super) use self::redb::{Medium, read_image};
pub(super) use self::redb::{OwnFile, Redb};
pub use self::transfer::TransferError;

/// The version of what is stored.
pub(super) const FORMAT: u32 = 3;

/// What a root learns when its turn begins.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// What other roots have done since the last turn, in its order.
    pub(super) edits: Vec<Edit>,
    /// The roots that are alive, this one included; none where there can be one only.
    pub(super) roots: Vec<ManagerRecord>,
    /// What has been done can't be told any more: everything has to be read again.
    pub(super) behind: bool,
}

/// A place for rows.
pub(super) trait Store: Send {
    /// What it is called in messages.
    fn name(&self) -> &Path;

    /// Reads all rows, in the order of their keys, and writes nothing: at the start, and after a failed commit, which may have
    /// happened all the same.
    ///
    /// # Errors
    /// [`OpenError`]; what is there is as it was.
    fn read(&mut self) -> Result<Vec<Row>, OpenError>;

    /// Makes ready for writing what has been read and found good.
    ///
    /// # Errors
    /// [`OpenError`].
    fn adopt(&mut self) -> Result<(), OpenError>;

    /// Whether other roots can change what is stored.
    fn is_shared(&self) -> bool {
        false
    }

    /// Makes it this root's turn to plan and to commit, and tells what others have done.
    ///
    /// # Errors
    /// [`StoreError`]; no commit succeeds until it is this root's turn.
    fn begin(&mut self) -> Result<Begun, StoreError> {
        Ok(Begun::default())
    }

    /// Ends the turn without a commit; a commit ends it, too.
    fn release(&mut self) {}

    /// Puts the first rows into an empty store that nobody uses, all or none.
    ///
    /// # Errors
    /// [`StoreError`].
    fn fill(&mut self, edits: &[Edit]) -> Result<(), StoreError> {
        self.commit(edits)
    }

    /// Stores all edits or none. They are durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]; a later commit may succeed.
    fn commit(&mut self, edits: &[Edit]) -> Result<(), StoreError>;
}

/// Why the root can't start from its file. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system does not let us.
    #[error("can't open the root's state {}: {source}. Check that the directory exists and that this user may write to it", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// It is in etcd, which can't be used.
    #[error("can't use the root's state {name}: {reason}. Check that etcd runs and that this machine reaches it")]
    Etcd {
        /// The store.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Another process has it open.
    #[error("the root's state {} is in use by another process: stop that one first, or choose another state directory", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is not what this program wrote.
    #[error("the root's state {} is damaged ({detail}). It was left as it is: restore it from a backup, or move it away to start anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A newer version of this program wrote it.
    #[error("the root's state {} has format {found}, this version of acorn knows formats up to {FORMAT}. It was left as it is: use the newer acorn", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Something in it has an address that the configured pools do not have.
    #[error("the root's state {} does not fit the configured address pools: {what}. It was left as it is: configure pools that hold it", path.display())]
    OutsidePlan {
        /// The file.
        path: PathBuf,
        /// What has which address.
        what: String,
    },
}

/// A change could not be stored. It has not happened; only when the disk failed at the very end of it, it may have, and the root
/// looks then.
#[derive(Debug, thiserror::Error)]
#[error("the change could not be stored in {name}: {reason}. Try again, and look at the store if that does not help")]
pub struct StoreError {
    name: String,
    reason: Box<dyn std::error::Error + Send + Sync>,
}

impl StoreError {
    pub(super) fn new(name: &str, reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { name: name.to_owned(), reason: reason.into() }
    }

    /// What the store said.
    pub(super) fn reason(&self) -> String {
        self.reason.to_string()
    }
}

/// What is wrong with a file's content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Damaged(String),
    Newer(u32),
    OutsidePlan(String),
}

impl Fault {
    pub(super) fn at(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Damaged(detail) => OpenError::Damaged { path, detail },
            Self::Newer(found) => OpenError::NewerFormat { path, found },
            Self::OutsidePlan(what) => OpenError::OutsidePlan { path, what },
        }
    }
}
