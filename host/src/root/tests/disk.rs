//! A disk in memory that can break, and can be looked at as it is when the process dies or the power fails.

use std::io::{Error, Result};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use acorn_core::addr::AddressPlan;
use acorn_core::time::Instant;
use redb::StorageBackend;

use super::super::Root;
use super::super::clock::Clock;
use super::super::load::load;
use super::super::settings::Limits;
use super::super::store::{Fault, Medium, OpenError, Redb, Store, read_image};
use super::{SETTINGS, own};

#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// What a loss of power leaves at least; kept up from [`Disk::die_after`] on.
    synced: Vec<u8>,
    /// How many more writes succeed; the one after them is torn.
    writes_left: Option<u32>,
}

impl Disk {
    /// A disk with this content.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Content { bytes, ..Content::default() })))
    }

    /// Opens what is on the disk, or makes it new.
    pub(super) fn open(
        &self,
        plan: AddressPlan,
        limits: Limits,
        now: Instant,
        unix: u64,
    ) -> std::result::Result<Root, Fault> {
        let clock = Clock::new(now, unix);
        let is_new = self.bytes().is_empty();
        let rows = if is_new { Vec::new() } else { read_image(&self.bytes())? };
        let state = load(rows, plan, &SETTINGS, &limits, now, &clock)?;
        let mut store = Redb::on(self.clone(), Path::new("a disk in memory"));
        store.adopt().map_err(|error| Fault::Damaged(error.to_string()))?;
        Ok(Root::with(Box::new(store), state, SETTINGS, limits, own(), now, clock))
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.content().bytes.clone()
    }

    pub(super) fn synced(&self) -> Vec<u8> {
        self.content().synced.clone()
    }

    /// Another disk with the same content, that works.
    pub(super) fn copy(&self) -> Self {
        Self::of(self.bytes())
    }

    /// Nothing is written any more.
    pub(super) fn die(&self) {
        self.content().writes_left = Some(0);
    }

    /// The write after `writes` more is torn, and nothing is written from then on.
    pub(super) fn die_after(&self, writes: u32) {
        let mut content = self.content();
        content.writes_left = Some(writes);
        content.synced = content.bytes.clone();
    }

    /// It works again.
    pub(super) fn repair(&self) {
        self.content().writes_left = None;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.content().writes_left == Some(0)
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }
}

impl Content {
    fn count_write(&mut self) -> Result<()> {
        match &mut self.writes_left {
            None => Ok(()),
            Some(0) => Err(Error::other("the disk is broken")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl Medium for Disk {
    type Backend = Self;

    fn image(&mut self) -> std::result::Result<Vec<u8>, OpenError> {
        Ok(self.bytes())
    }

    fn backend(&self) -> std::result::Result<Self, redb::DatabaseError> {
        Ok(self.clone())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64> {
        Ok(self.content().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let content = self.content();
        let start = offset as usize;
        let read = content.bytes.get(start..start + out.len()).ok_or_else(|| Error::other("behind the end"))?;
        out.copy_from_slice(read);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut content = self.content();
        content.count_write()?;
        content.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut content = self.content();
        content.count_write()?;
        if content.writes_left.is_some() {
            content.synced = content.bytes.clone();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut content = self.content();
        let start = offset as usize;
        let counted = content.count_write();
        // The last one gets only half of its way.
        let written = if counted.is_ok() && content.writes_left == Some(0) { data.len() / 2 } else { data.len() };
        counted?;
        content.bytes[start..start + written].copy_from_slice(&data[..written]);
        Ok(())
    }
}
