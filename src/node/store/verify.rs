//! `clique verify`: looks through a data directory without changing it.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use redb::{Builder, StorageBackend};
use serde::Serialize;

use super::{
    StoreError, Trouble, format, group, guarded, journal,
    lock::{self, Lock},
    medium::{CACHE_BYTES, Files},
    packs::Packs,
    scan,
    tables::begin_read,
};

/// What a data directory holds.
#[derive(Debug, Serialize)]
pub struct Report {
    pub directory: PathBuf,
    pub node: u16,
    /// Nothing is damaged.
    pub sound: bool,
    pub origins: Vec<OriginReport>,
}

/// What it holds of one origin.
#[derive(Debug, Serialize)]
pub struct OriginReport {
    pub node: u16,
    pub incarnation: u64,
    /// First entry that is kept; `height + 1` if none is.
    pub first: u64,
    pub height: u64,
    /// Entries that can be read, and their bytes.
    pub entries: u64,
    pub bytes: u64,
    /// The running hash at the height, in hexadecimal; none where damage leaves it open.
    pub hash: Option<String>,
    /// First and last entry of each stretch that cannot be read back as it was written.
    pub damaged: Vec<(u64, u64)>,
}

/// Reads a directory through. No process may use it meanwhile; nothing in it is changed, and what a crash has left half done
/// is finished in memory only.
///
/// # Errors
/// If it is in use, of a newer format, or cannot be read; and if the database as a whole is damaged.
pub fn verify(directory: &Path) -> Result<Report, StoreError> {
    let path = lock::database_path(directory);
    let file = File::open(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => StoreError::Nothing { directory: directory.to_owned() },
        _ => StoreError::unusable(directory, &error),
    })?;
    let _lock = Lock::take_existing(directory)?;
    let read = guarded(|| -> Result<_, format::Refused> {
        let overlay = Overlay::over(file).map_err(redb::StorageError::from).map_err(Trouble::from)?;
        let database = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(overlay)?;
        let owner = format::prepare(&database, None)?;
        let journal = std::fs::read(lock::journal_path(directory)).unwrap_or_default();
        let packs = Packs::new(Arc::new(Files::new(directory)));
        group::replay(&database, &packs, &journal::read(&journal, owner.journal))?;
        let transaction = begin_read(&database)?;
        let (scanned, _) = scan::scan(&transaction, &packs, 0, |_, _| {})?;
        Ok((owner, scanned))
    });
    let (owner, scanned) = read.map_err(|refused| match refused.explain(directory, 0) {
        Ok(error) => error,
        Err(trouble) if trouble.is_damage() => {
            StoreError::Damaged { directory: directory.to_owned(), reason: trouble.to_string() }
        }
        Err(trouble) => StoreError::unusable(directory, &trouble),
    })?;
    let origins: Vec<OriginReport> = scanned.iter().map(OriginReport::of).collect();
    Ok(Report {
        directory: directory.to_owned(),
        node: owner.node,
        sound: scanned.iter().all(|scanned| scanned.recovered.damaged.is_empty() && !scanned.is_record_lost),
        origins,
    })
}

impl OriginReport {
    fn of(scanned: &scan::Scanned) -> Self {
        let recovered = &scanned.recovered;
        let hash = recovered.chain.hash_at(recovered.height);
        Self {
            node: recovered.origin.node,
            incarnation: recovered.origin.incarnation,
            first: recovered.first,
            height: recovered.height,
            entries: scanned.entries,
            bytes: scanned.entry_bytes,
            hash: hash.map(|hash| hash.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))),
            damaged: recovered.damaged.clone(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: the log of node {}", self.directory.display(), self.node)?;
        for origin in &self.origins {
            let hash = origin.hash.as_deref().and_then(|hash| hash.get(..16)).unwrap_or("none");
            let mut line = format!(
                "  {}.{:x}: entries {} to {} ({} readable, {} bytes), hash {hash}",
                origin.node, origin.incarnation, origin.first, origin.height, origin.entries, origin.bytes
            );
            for (first, last) in &origin.damaged {
                // Writing to a string cannot fail.
                let _ = write!(line, "; DAMAGED: {first} to {last}");
            }
            writeln!(f, "{line}")?;
        }
        match self.sound {
            true => write!(f, "sound"),
            false => write!(f, "damaged: a node that starts here gets the damaged entries from its peers"),
        }
    }
}

/// Bytes of a page of the overlay.
const PAGE_BYTES: usize = 4096;

/// A file to which nothing is written: what would be is kept in memory.
#[derive(Debug)]
struct Overlay {
    file: File,
    state: RwLock<Changes>,
}

#[derive(Debug)]
struct Changes {
    length: u64,
    /// What is at or behind it in the file is gone.
    file_length: u64,
    pages: HashMap<u64, Box<[u8; PAGE_BYTES]>>,
}

impl Overlay {
    fn over(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, state: RwLock::new(Changes { length, file_length: length, pages: HashMap::new() }) })
    }

    /// A page of the file as it is, zeros where it has none.
    fn page(&self, changes: &Changes, page: u64) -> io::Result<Box<[u8; PAGE_BYTES]>> {
        let mut bytes = Box::new([0; PAGE_BYTES]);
        let begin = page * PAGE_BYTES as u64;
        let count = changes.file_length.saturating_sub(begin).min(PAGE_BYTES as u64);
        self.file.read_exact_at(&mut bytes[..usize::try_from(count).unwrap_or(0)], begin)?;
        Ok(bytes)
    }
}

/// The pieces of a stretch of bytes by page: the page, where in it, and where in the stretch.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == length {
            return None;
        }
        let position = offset + at as u64;
        let within = usize::try_from(position % PAGE_BYTES as u64).unwrap_or(0);
        let begin = at;
        at = length.min(at + PAGE_BYTES - within);
        Some((position / PAGE_BYTES as u64, within, begin..at))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.read().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changes = self.state.read();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > changes.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (page, within, piece) in pieces(offset, out.len()) {
            let count = piece.len();
            match changes.pages.get(&page) {
                Some(bytes) => out[piece].copy_from_slice(&bytes[within..within + count]),
                None => out[piece].copy_from_slice(&self.page(&changes, page)?[within..within + count]),
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut changes = self.state.write();
        changes.length = length;
        changes.file_length = changes.file_length.min(length);
        changes.pages.retain(|page, _| page * (PAGE_BYTES as u64) < length);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changes = self.state.write();
        for (page, within, piece) in pieces(offset, data.len()) {
            if !changes.pages.contains_key(&page) {
                let bytes = self.page(&changes, page)?;
                changes.pages.insert(page, bytes);
            }
            if let Some(bytes) = changes.pages.get_mut(&page) {
                bytes[within..within + piece.len()].copy_from_slice(&data[piece]);
            }
        }
        Ok(())
    }
}
