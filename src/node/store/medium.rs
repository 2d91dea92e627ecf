//! Where a database lies: in a directory, or, in the simulation, on a disk that forgets what was not synced.

use std::{
    any::Any,
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use redb::{Builder, Database, StorageBackend, backends::FileBackend};

use super::{
    StoreError, Trouble,
    lock::{self, Lock},
};

/// Memory that the database may use for pages, in bytes. The latest entries are in the log in memory; this is for the
/// tables' inner pages and what is being written.
pub const CACHE_BYTES: usize = 16 << 20;

/// Nobody else uses the database until this is dropped.
pub type Claim = Box<dyn Any + Send>;

/// See the module's head.
pub trait Medium: Send + Sync + 'static {
    /// Takes it for this node.
    ///
    /// # Errors
    /// If another has it, or it cannot be used.
    fn claim(&self) -> Result<Claim, StoreError>;

    /// Whether there is no database yet.
    fn is_new(&self) -> bool;

    /// Opens the database, or makes it; at the start, and again after an error.
    ///
    /// # Errors
    /// What the database says.
    fn open(&self) -> Result<Database, Trouble>;

    /// Opens the journal, or makes it.
    ///
    /// # Errors
    /// What the system says.
    fn journal(&self) -> Result<Box<dyn StorageBackend>, Trouble>;

    /// Removes a database that is half made.
    fn forget(&self);

    /// Moves a database that cannot be opened out of the way, and says where it is now.
    ///
    /// # Errors
    /// What the system says.
    fn set_aside(&self, unix_s: u64) -> io::Result<PathBuf>;

    /// How long it still works on what it has taken. A real disk has done it when it says so.
    fn is_busy_for(&self) -> Duration {
        Duration::ZERO
    }
}

/// A directory of the system's.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
}

impl Files {
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }
}

impl Medium for Files {
    fn claim(&self) -> Result<Claim, StoreError> {
        Ok(Box::new(Lock::take(&self.directory)?))
    }

    fn is_new(&self) -> bool {
        !lock::database_path(&self.directory).exists()
    }

    fn open(&self) -> Result<Database, Trouble> {
        Ok(Builder::new().set_cache_size(CACHE_BYTES).create(lock::database_path(&self.directory))?)
    }

    fn journal(&self) -> Result<Box<dyn StorageBackend>, Trouble> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).open(lock::journal_path(&self.directory));
        Ok(Box::new(FileBackend::new(file.map_err(redb::StorageError::from)?)?))
    }

    fn forget(&self) {
        let _ = std::fs::remove_file(lock::database_path(&self.directory));
    }

    fn set_aside(&self, unix_s: u64) -> io::Result<PathBuf> {
        lock::set_aside(&self.directory, unix_s)
    }
}
