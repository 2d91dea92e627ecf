//! Where a store lies: in a directory, or, in the simulation, on a disk that forgets what was not synced.

mod files;

use std::{any::Any, io, path::PathBuf, time::Duration};

use redb::{Database, StorageBackend};

pub use self::files::Files;
use super::{StoreError, Trouble};

/// Memory that the database may use for pages, in bytes. The latest entries are in the log in memory; this is for the
/// tables' inner pages and what is being written.
pub const CACHE_BYTES: usize = 24 << 20;

/// How the store divides what it writes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// A row of so many bytes of entries goes into a pack. A shorter one costs the database less than a pack another sync.
    pub packed_row_bytes: usize,
    /// A pack that is so long is not appended to any more.
    pub pack_bytes: u64,
    /// Length of half of the journal.
    pub journal_half_bytes: u64,
}

impl Default for Sizes {
    /// As few transactions as is good for those who say much, and files that fit any disk.
    fn default() -> Self {
        Self { packed_row_bytes: 64 << 10, pack_bytes: 32 << 20, journal_half_bytes: 8 << 20 }
    }
}

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

    fn sizes(&self) -> Sizes {
        Sizes::default()
    }

    /// The packs that are there, by number.
    ///
    /// # Errors
    /// What the system says.
    fn packs(&self) -> io::Result<Vec<u64>>;

    /// Opens a pack to be written, or makes it. That it is there outlives a crash.
    ///
    /// # Errors
    /// What the system says.
    fn pack(&self, number: u64) -> io::Result<Box<dyn StorageBackend>>;

    /// Opens a pack to be read.
    ///
    /// # Errors
    /// If it is not there, and what the system says.
    fn read_pack(&self, number: u64) -> io::Result<Box<dyn StorageBackend>>;

    /// # Errors
    /// What the system says.
    fn remove_pack(&self, number: u64) -> io::Result<()>;

    /// Removes a database that is half made.
    fn forget(&self);

    /// Moves a database that cannot be opened out of the way, with its packs, and says where it is now.
    ///
    /// # Errors
    /// What the system says.
    fn set_aside(&self, unix_s: u64) -> io::Result<PathBuf>;

    /// How long it still works on what it has taken. A real disk has done it when it says so.
    fn is_busy_for(&self) -> Duration {
        Duration::ZERO
    }
}
