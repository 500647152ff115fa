//! Moving a root that is not running: its store as text, and back.

use std::path::Path;

use acorn_core::addr::AddressPlan;

use super::store::{Etcd, OwnFile, Redb, StoreUrl, TransferError, transfer};

/// What is in the store at `path`, as JSON lines. Nothing is written.
///
/// # Errors
/// [`TransferError`]; a store that a running root has open is refused.
pub fn export_store(path: &Path) -> Result<String, TransferError> {
    transfer::export(&mut Redb::on(OwnFile::existing(path)?, path))
}

/// Puts what [`export_store`] gave into the store at `path`, which is made when it is not there: all of it, or nothing. Returns the
/// number of rows. `unix` is the wall clock in seconds since 1970.
///
/// # Errors
/// [`TransferError`]; the store is as it was then.
pub fn import_store(path: &Path, text: &str, plan: AddressPlan, unix: u64) -> Result<usize, TransferError> {
    let rows = transfer::parse(text, plan, unix)?;
    transfer::import(&mut Redb::on(OwnFile::open(path)?, path), rows)
}

/// The same for a store in etcd, as of one moment. Roots may be using it.
///
/// # Errors
/// [`TransferError`].
pub fn export_shared(url: &StoreUrl) -> Result<String, TransferError> {
    transfer::export(&mut Etcd::new(url, None)?)
}

/// [`import_store`] into a store in etcd that no root uses.
///
/// # Errors
/// [`TransferError`]; the store is as it was then.
pub fn import_shared(url: &StoreUrl, text: &str, plan: AddressPlan, unix: u64) -> Result<usize, TransferError> {
    let rows = transfer::parse(text, plan, unix)?;
    transfer::import(&mut Etcd::new(url, None)?, rows)
}
