//! Where a database lies: in a directory, or, in the simulation, on a disk that forgets what was not synced.

use std::{
    any::Any,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
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
pub const CACHE_BYTES: usize = 24 << 20;

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
        let file = DatabaseFile::open(&lock::database_path(&self.directory)).map_err(redb::StorageError::from)?;
        Ok(Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(file)?)
    }

    fn journal(&self) -> Result<Box<dyn StorageBackend>, Trouble> {
        let file = open_or_make(&lock::journal_path(&self.directory)).map_err(redb::StorageError::from)?;
        Ok(Box::new(FileBackend::new(file)?))
    }

    fn forget(&self) {
        let _ = std::fs::remove_file(lock::database_path(&self.directory));
    }

    fn set_aside(&self, unix_s: u64) -> io::Result<PathBuf> {
        lock::set_aside(&self.directory, unix_s)
    }
}

/// The database's file. What is on the disk leaves the system's cache: the latest entries are in the log in memory, and
/// older ones are seldom read. Otherwise each write takes memory that nobody has used for long, and where a hypervisor lends
/// the memory, having it lent costs several times what the write does.
///
/// That nobody else has the file, the directory's lock sees to.
#[derive(Debug)]
struct DatabaseFile(File);

impl DatabaseFile {
    fn open(path: &Path) -> io::Result<Self> {
        open_or_make(path).map(Self)
    }
}

impl StorageBackend for DatabaseFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()?;
        // Advice only: where it is not taken, all goes on as without it.
        #[cfg(any(target_os = "linux", target_os = "freebsd"))]
        let _ = nix::fcntl::posix_fadvise(&self.0, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

fn open_or_make(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}
