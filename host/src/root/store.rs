//! The file: `root.redb`. It is examined before anything is written to it, so one that can't be used stays as it is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::row::{Edit, Row};

/// The version of the file's content.
pub(super) const FORMAT: u32 = 2;

/// Reads are served from memory, so redb needs little of it.
const CACHE_BYTES: usize = 4 << 20;

const META: TableDefinition<'static, &str, u32> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");

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

/// A change could not be stored, so it has not happened. When the disk failed, only a restart makes the file usable again.
#[derive(Debug, thiserror::Error)]
#[error("the change could not be stored in root.redb: {0}. Check the disk, then start acorn again")]
pub struct StoreError(Box<dyn std::error::Error + Send + Sync>);

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

/// A file that is ours alone and whose rows have been read, but that has not been written to.
pub(super) struct Examined {
    file: File,
    pub(super) rows: Vec<Row>,
}

/// The open file.
pub(super) struct Store {
    database: Database,
}

/// Opens the file, or makes a new one, and reads it.
pub(super) fn examine(path: &Path) -> Result<Examined, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let open = || OpenOptions::new().read(true).write(true).open(path);
    let mut file = match open() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            create(path)?;
            open().map_err(io)?
        }
        other => other.map_err(io)?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::InUse { path: path.to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    let mut image = Vec::new();
    file.read_to_end(&mut image).map_err(io)?;
    let rows = read_image(&image).map_err(|fault| fault.at(path))?;
    Ok(Examined { file, rows })
}

impl Examined {
    /// Opens the file for writing.
    pub(super) fn adopt(self, path: &Path) -> Result<Store, OpenError> {
        let damaged = |error: redb::DatabaseError| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.to_owned() },
            other => OpenError::Damaged { path: path.to_owned(), detail: other.to_string() },
        };
        let store = Store::on(FileBackend::new(self.file).map_err(damaged)?).map_err(damaged)?;
        let failed = |error| OpenError::Io { path: path.to_owned(), source: std::io::Error::other(error) };
        store.upgrade().map_err(failed)?;
        Ok(store)
    }
}

impl Store {
    /// A store on anything that redb can write to; an empty one becomes a new store with [`Store::initialise`].
    pub(super) fn on(backend: impl StorageBackend) -> Result<Self, redb::DatabaseError> {
        Ok(Self { database: Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)? })
    }

    /// Writes the format into a new store.
    pub(super) fn initialise(&self) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        transaction.open_table(META)?.insert(META_FORMAT, FORMAT)?;
        transaction.open_table(ROWS)?;
        transaction.commit()?;
        Ok(())
    }

    /// Brings a store of an older format, which has been read and checked, to the present one: whole or not at all.
    pub(super) fn upgrade(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let transaction = self.database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            let format = meta.get(META_FORMAT)?.map_or(FORMAT, |format| format.value());
            if format == FORMAT {
                // Dropped without a commit, a transaction leaves nothing.
                return Ok(());
            }
            let mut rows = transaction.open_table(ROWS)?;
            let old = rows.iter()?.map(|entry| {
                let (key, value) = entry?;
                Ok(Row::decode(format, key.value(), value.value())?)
            });
            let old = old.collect::<Result<Vec<_>, Box<dyn std::error::Error + Send + Sync>>>()?;
            for row in old {
                rows.insert(&*row.key().to_bytes(), &*postcard::to_stdvec(&row)?)?;
            }
            meta.insert(META_FORMAT, FORMAT)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Stores all edits or none, in one transaction. They are on the disk when this returns.
    pub(super) fn commit(&self, edits: &[Edit]) -> Result<(), StoreError> {
        self.write(edits).map_err(StoreError)
    }

    fn write(&self, edits: &[Edit]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let transaction = self.database.begin_write()?;
        {
            let mut rows = transaction.open_table(ROWS)?;
            for edit in edits {
                match edit {
                    Edit::Put(row) => {
                        rows.insert(&*row.key().to_bytes(), &*postcard::to_stdvec(row)?)?;
                    }
                    Edit::Delete(key) => {
                        rows.remove(&*key.to_bytes())?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Makes a new file, whole or not at all.
fn create(path: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let new = path.with_added_extension("new");
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(io)?;
    let failed = |error: redb::Error| io(std::io::Error::other(error));
    let store = Store::on(FileBackend::new(file).map_err(|error| failed(error.into()))?)
        .map_err(|error| failed(error.into()))?;
    store.initialise().map_err(failed)?;
    drop(store);
    File::open(&new).and_then(|file| file.sync_all()).map_err(io)?;
    std::fs::rename(&new, path).map_err(io)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)
}

/// Reads the rows from a copy in memory: opening a file, repairing it after a crash and checking it all write to it.
pub(super) fn read_image(image: &[u8]) -> Result<Vec<Row>, Fault> {
    if image.is_empty() {
        return Err(Fault::Damaged("it is empty".to_owned()));
    }
    let damaged = |error: redb::Error| Fault::Damaged(error.to_string());
    let copy = InMemoryBackend::new();
    let filled = copy.set_len(image.len() as u64).and_then(|()| copy.write(0, image));
    filled.map_err(|error| Fault::Damaged(error.to_string()))?;
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(copy)
        .map_err(|error| damaged(error.into()))?;
    read_rows(&database).map_err(damaged)?
}

fn read_rows(database: &Database) -> Result<Result<Vec<Row>, Fault>, redb::Error> {
    let transaction = database.begin_read()?;
    let format = transaction.open_table(META)?.get(META_FORMAT)?.map(|format| format.value());
    let format = match format {
        Some(0) => return Ok(Err(Fault::Damaged("its format is 0, which never was".to_owned()))),
        Some(found) if found > FORMAT => return Ok(Err(Fault::Newer(found))),
        Some(found) => found,
        None => return Ok(Err(Fault::Damaged("it does not say its format".to_owned()))),
    };
    let mut rows = Vec::new();
    for entry in transaction.open_table(ROWS)?.iter()? {
        let (key, value) = entry?;
        match Row::decode(format, key.value(), value.value()) {
            Ok(row) if row.key().to_bytes() == key.value() => rows.push(row),
            _ => {
                return Ok(Err(Fault::Damaged(format!("row {:02x?} can't be read", key.value()))));
            }
        }
    }
    Ok(Ok(rows))
}
