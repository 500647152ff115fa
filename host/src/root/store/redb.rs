//! The store on a disk: `root.redb`, a file that one process uses at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::super::row::{Edit, Row};
use super::{FORMAT, Fault, OpenError, Store, StoreError};

/// Reads are served from memory, so redb needs little of it.
const CACHE_BYTES: usize = 4 << 20;

const META: TableDefinition<'static, &str, u32> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");

/// What a database is on, over the times that it is opened.
pub(in super::super) trait Medium: Send {
    /// What redb reads and writes through.
    type Backend: StorageBackend;

    /// All bytes. Nobody else can change them until the medium is dropped.
    fn image(&mut self) -> Result<Vec<u8>, OpenError>;

    /// Opens it for the database.
    fn backend(&self) -> Result<Self::Backend, redb::DatabaseError>;
}

/// A file that is ours alone.
pub(in super::super) struct OwnFile {
    path: PathBuf,
    file: File,
}

impl OwnFile {
    /// Opens the file, or makes a new one.
    pub(in super::super) fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        let open = || OpenOptions::new().read(true).write(true).open(path);
        let file = match open() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                create(path)?;
                open().map_err(io)?
            }
            other => other.map_err(io)?,
        };
        let own = Self { path: path.to_owned(), file };
        own.lock()?;
        Ok(own)
    }

    /// Opens the file; when there is none, that is an error.
    pub(in super::super) fn existing(path: &Path) -> Result<Self, OpenError> {
        fs::metadata(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        Self::open(path)
    }

    fn lock(&self) -> Result<(), OpenError> {
        let path = self.path.clone();
        match self.file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path }),
            Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
        }
    }
}

impl Medium for OwnFile {
    type Backend = FileBackend;

    fn image(&mut self) -> Result<Vec<u8>, OpenError> {
        // A database that has been closed has given the lock up.
        self.lock()?;
        let mut image = Vec::new();
        let read = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.read_to_end(&mut image));
        read.map_err(|source| OpenError::Io { path: self.path.clone(), source })?;
        Ok(image)
    }

    fn backend(&self) -> Result<FileBackend, redb::DatabaseError> {
        FileBackend::new(self.file.try_clone().map_err(redb::StorageError::from)?)
    }
}

/// A store that redb keeps. It is examined before anything is written to it, so one that can't be used stays as it is.
pub(in super::super) struct Redb<M: Medium> {
    medium: M,
    name: PathBuf,
    /// None until it may be written to, and after a failure, which no redb database outlives.
    database: Option<Database>,
}

impl<M: Medium> Redb<M> {
    /// A store that has not been read yet. `name` is for messages.
    pub(in super::super) fn on(medium: M, name: &Path) -> Self {
        Self { medium, name: name.to_owned(), database: None }
    }

    fn open(&self) -> Result<Database, Box<dyn std::error::Error + Send + Sync>> {
        let database = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(self.medium.backend()?)?;
        upgrade(&database)?;
        Ok(database)
    }
}

impl<M: Medium> Store for Redb<M> {
    fn name(&self) -> &Path {
        &self.name
    }

    fn read(&mut self) -> Result<Vec<Row>, OpenError> {
        self.database = None;
        let image = self.medium.image()?;
        read_image(&image).map_err(|fault| fault.at(&self.name))
    }

    fn adopt(&mut self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Io { path: self.name.clone(), source: std::io::Error::other(source) };
        let database = self.open().map_err(failed)?;
        self.database = Some(database);
        Ok(())
    }

    fn commit(&mut self, edits: &[Edit]) -> Result<(), StoreError> {
        let name = self.name.display().to_string();
        let database = match self.database.take() {
            Some(database) => database,
            None => self.open().map_err(|error| StoreError::new(&name, error))?,
        };
        write(&database, edits).map_err(|error| StoreError::new(&name, error))?;
        self.database = Some(database);
        Ok(())
    }
}

/// Brings a new store, or one of an older format that has been read and checked, to the present format: whole or not at all.
fn upgrade(database: &Database) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let format = meta.get(META_FORMAT)?.map(|format| format.value());
        if format == Some(FORMAT) {
            // Dropped without a commit, a transaction leaves nothing.
            return Ok(());
        }
        let mut rows = transaction.open_table(ROWS)?;
        let old = rows.iter()?.map(|entry| {
            let (key, value) = entry?;
            Ok(Row::decode(format.unwrap_or(FORMAT), key.value(), value.value())?)
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
fn write(database: &Database, edits: &[Edit]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let transaction = database.begin_write()?;
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

/// Makes a new file, whole or not at all.
fn create(path: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let new = path.with_added_extension("new");
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(io)?;
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| io(std::io::Error::other(error));
    let backend = FileBackend::new(file).map_err(|error| failed(error.into()))?;
    let database = Builder::new().create_with_backend(backend).map_err(|error| failed(error.into()))?;
    upgrade(&database).map_err(failed)?;
    drop(database);
    File::open(&new).and_then(|file| file.sync_all()).map_err(io)?;
    fs::rename(&new, path).map_err(io)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)
}

/// Reads the rows from a copy in memory: opening a file, repairing it after a crash and checking it all write to it.
pub(in super::super) fn read_image(image: &[u8]) -> Result<Vec<Row>, Fault> {
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
