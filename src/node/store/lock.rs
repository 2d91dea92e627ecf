//! One process per directory.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use super::StoreError;

const LOCK_FILE: &str = "clique.lock";
/// Only the node's own user reads what people said.
const DIRECTORY_MODE: u32 = 0o700;

/// A directory that is this process's until it is dropped.
#[derive(Debug)]
pub struct Lock {
    /// Holds the system's lock, which goes with the process, however that ends.
    _file: File,
}

impl Lock {
    /// Takes a directory, made first where it is missing.
    ///
    /// # Errors
    /// If another process holds it, or it cannot be used.
    pub fn take(directory: &Path) -> Result<Self, StoreError> {
        make_directory(directory).map_err(|error| StoreError::unusable(directory, &error))?;
        Self::of(directory, OpenOptions::new().read(true).write(true).create(true).truncate(false))
    }

    /// Takes a directory that is only looked at: nothing is made.
    ///
    /// # Errors
    /// If another process holds it, or it cannot be used.
    pub fn take_existing(directory: &Path) -> Result<Self, StoreError> {
        Self::of(directory, OpenOptions::new().read(true).write(true))
    }

    fn of(directory: &Path, options: &OpenOptions) -> Result<Self, StoreError> {
        let path = directory.join(LOCK_FILE);
        let unusable = |error: io::Error| StoreError::unusable(directory, &error);
        let mut file = options.open(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { directory: directory.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        // Who holds it is only told to others; on a full disk the lock holds all the same.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// Who has written itself into the lock file.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(32).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!("process {}", text.trim()),
        _ => "another process".to_owned(),
    }
}

/// Where the database is.
#[must_use]
pub fn database_path(directory: &Path) -> PathBuf {
    directory.join("clique.redb")
}

/// Where the journal is.
#[must_use]
pub fn journal_path(directory: &Path) -> PathBuf {
    directory.join("clique.journal")
}

/// Where the packs are.
#[must_use]
pub fn packs_path(directory: &Path) -> PathBuf {
    directory.join("clique.packs")
}

/// Where a pack is.
#[must_use]
pub fn pack_path(directory: &Path, number: u64) -> PathBuf {
    packs_path(directory).join(format!("{number:08}"))
}

/// Makes a directory where it is missing.
///
/// # Errors
/// What the system says.
pub fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)
}

/// Moves a database that cannot be opened out of the way, with its packs, and says where it is now.
///
/// # Errors
/// What the system says.
pub fn set_aside(directory: &Path, unix_s: u64) -> io::Result<PathBuf> {
    // The packs first: with a new database they would be nobody's.
    if let Err(error) = std::fs::rename(packs_path(directory), directory.join(format!("clique.packs.damaged-{unix_s}")))
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let aside = directory.join(format!("clique.redb.damaged-{unix_s}"));
    std::fs::rename(database_path(directory), &aside)?;
    // The new name is to outlive a crash too, or the next start would set aside what is new.
    File::open(directory)?.sync_all()?;
    Ok(aside)
}
