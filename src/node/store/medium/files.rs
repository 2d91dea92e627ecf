//! A directory of the system's.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use redb::{Builder, Database, StorageBackend};

use super::{CACHE_BYTES, Claim, Medium};
use crate::node::store::{
    StoreError, Trouble,
    aligned::is_aligned,
    lock::{self, Lock},
};

/// See the module's head.
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
        let file = Uncached::open(&lock::database_path(&self.directory), false).map_err(redb::StorageError::from)?;
        Ok(Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(file)?)
    }

    fn journal(&self) -> Result<Box<dyn StorageBackend>, Trouble> {
        let file = Uncached::open(&lock::journal_path(&self.directory), true).map_err(redb::StorageError::from)?;
        Ok(Box::new(file))
    }

    fn packs(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(lock::packs_path(&self.directory)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut packs = Vec::new();
        for entry in entries {
            packs.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        Ok(packs)
    }

    fn pack(&self, number: u64) -> io::Result<Box<dyn StorageBackend>> {
        let path = lock::pack_path(&self.directory, number);
        if !path.exists() {
            lock::make_directory(&lock::packs_path(&self.directory))?;
            File::create_new(&path)?;
            for directory in [lock::packs_path(&self.directory), self.directory.clone()] {
                File::open(directory)?.sync_all()?;
            }
        }
        Ok(Box::new(Uncached::open(&path, true)?))
    }

    fn read_pack(&self, number: u64) -> io::Result<Box<dyn StorageBackend>> {
        let file = File::open(lock::pack_path(&self.directory, number))?;
        Ok(Box::new(Uncached { file, past_cache: None }))
    }

    fn remove_pack(&self, number: u64) -> io::Result<()> {
        fs::remove_file(lock::pack_path(&self.directory, number))
    }

    fn forget(&self) {
        let _ = fs::remove_file(lock::database_path(&self.directory));
    }

    fn set_aside(&self, unix_s: u64) -> io::Result<PathBuf> {
        lock::set_aside(&self.directory, unix_s)
    }
}

/// A file of which what is on the disk is not in the system's cache: the latest entries are in the log in memory, and
/// older ones are seldom read. Otherwise each write takes memory that nobody has used for long, and where a hypervisor lends
/// the memory, having it lent costs several times what the write does.
///
/// That nobody else has the file, the directory's lock sees to.
#[derive(Debug)]
struct Uncached {
    file: File,
    /// The same, for whole blocks, which are written past the cache. Without it, what is synced leaves the cache.
    past_cache: Option<File>,
}

impl Uncached {
    /// Opens it or makes it; to be written past the cache, where it is wanted and the system can do that.
    fn open(path: &Path, is_past_cache: bool) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file, past_cache: if is_past_cache { open_past_cache(path) } else { None } })
    }
}

#[cfg(target_os = "linux")]
fn open_past_cache(path: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().write(true).custom_flags(nix::libc::O_DIRECT).open(path).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_past_cache(_: &Path) -> Option<File> {
    None
}

impl StorageBackend for Uncached {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        // Advice only: where it is not taken, all goes on as without it.
        #[cfg(any(target_os = "linux", target_os = "freebsd"))]
        if self.past_cache.is_none() {
            let _ = nix::fcntl::posix_fadvise(&self.file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match &self.past_cache {
            Some(file) if is_aligned(offset, data) => match file.write_all_at(data, offset) {
                // A disk with larger blocks.
                Err(error) if error.kind() == ErrorKind::InvalidInput => self.file.write_all_at(data, offset),
                written => written,
            },
            _ => self.file.write_all_at(data, offset),
        }
    }
}
