//! Large rows, in files of their own: *packs*, each of which is appended to until it is full, and goes when nothing in it is kept
//! any more.
//!
//! What many say at once is written once, in large pieces, past the system's cache; in the database there is only where it lies: a
//! [`Place`]. (A database copies what it is given twice, and reads and writes its pages around it, which costs several times what
//! the writing does.)
//!
//! How far a pack has been written, and how many of its rows are kept, the database says, in the transaction that says where they
//! are; a pack is synced before that commits. So what a crash leaves behind that end is nobody's, and is written over; and a
//! pack of which the database does not know is nobody's either.

mod writer;

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use redb::{StorageBackend, WriteTransaction};

pub use self::writer::{PackWriter, Packing};
use super::{
    Trouble,
    medium::Medium,
    tables::{PACKS, PLACE, ROW, SEAL_BYTES, is_seal, key, sealed, unsealed},
};
use crate::{
    clique::{Chunk, Origin},
    wire::entry::read_chunk,
};

/// Where a row lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub pack: u64,
    pub offset: u64,
    pub length: u32,
    /// As that of a row in the database.
    pub seal: [u8; SEAL_BYTES],
}

impl Place {
    const BYTES: usize = 8 + 8 + 4 + SEAL_BYTES;

    /// As it is stored instead of the row.
    #[must_use]
    pub fn sealed(&self, origin: Origin, first: u64) -> Vec<u8> {
        let Self { pack, offset, length, seal } = self;
        let bytes = [&pack.to_be_bytes()[..], &offset.to_be_bytes(), &length.to_be_bytes(), seal].concat();
        sealed(PLACE, key(origin, first), &bytes)
    }

    /// `None` if it is not a place, but the row itself, or not what was written.
    #[must_use]
    pub fn read(origin: Origin, first: u64, value: &[u8]) -> Option<Self> {
        if value.len() != SEAL_BYTES + Self::BYTES {
            return None;
        }
        let bytes = unsealed(PLACE, key(origin, first), value)?;
        let (pack, rest) = bytes.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (length, seal) = rest.split_first_chunk()?;
        Some(Self {
            pack: u64::from_be_bytes(*pack),
            offset: u64::from_be_bytes(*offset),
            length: u32::from_be_bytes(*length),
            seal: seal.try_into().ok()?,
        })
    }

    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length.into())
    }
}

/// What the database knows of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Rows in it that are kept.
    pub rows: u64,
    /// Up to here it may have been written.
    pub end: u64,
}

/// The packs with rows, by number.
pub type Usages = BTreeMap<u64, Usage>;

/// Counts a row that is there.
pub fn count(usages: &mut Usages, place: &Place) {
    let usage = usages.entry(place.pack).or_default();
    usage.rows += 1;
    usage.end = usage.end.max(place.end());
}

/// Writes what is used of the packs, as it was counted.
///
/// # Errors
/// What the database says.
pub fn note(transaction: &WriteTransaction, usages: &Usages) -> Result<(), Trouble> {
    let mut packs = transaction.open_table(PACKS)?;
    packs.retain(|_, _| false)?;
    for (pack, usage) in usages {
        packs.insert(pack, (usage.rows, usage.end))?;
    }
    Ok(())
}

/// The packs of a store, for whoever reads.
pub struct Packs {
    medium: Arc<dyn Medium>,
    /// The one that was read last.
    last: Mutex<Option<(u64, Arc<dyn StorageBackend>)>>,
}

impl Packs {
    #[must_use]
    pub fn new(medium: Arc<dyn Medium>) -> Self {
        Self { medium, last: Mutex::new(None) }
    }

    /// The entries of a row, wherever they lie; `None` if they are not what was written.
    ///
    /// # Errors
    /// If the pack that has them is there and cannot be opened, as when this process has too many files open: that is no damage.
    pub fn row(&self, origin: Origin, first: u64, value: &[u8]) -> Result<Option<Chunk>, Trouble> {
        let entries = match Place::read(origin, first, value) {
            Some(place) => self.entries(origin, first, &place)?,
            None => unsealed(ROW, key(origin, first), value).map(Bytes::copy_from_slice),
        };
        Ok(entries.and_then(|entries| read_chunk(first, entries).ok()).map(|(chunk, _)| chunk))
    }

    fn entries(&self, origin: Origin, first: u64, place: &Place) -> Result<Option<Bytes>, Trouble> {
        let file = match self.file(place.pack) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(redb::StorageError::from)?,
        };
        let read = || -> io::Result<Vec<u8>> {
            // Nobody takes memory for what is not there.
            if place.end() > file.len()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut bytes = vec![0; usize::try_from(place.length).map_err(io::Error::other)?];
            file.read(place.offset, &mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(is_seal(place.seal, ROW, key(origin, first), &bytes).then(|| bytes.into())),
            Err(error) => {
                tracing::debug!("a row of {origin} cannot be read from pack {}: {error}", place.pack);
                Ok(None)
            }
        }
    }

    fn file(&self, pack: u64) -> io::Result<Arc<dyn StorageBackend>> {
        let mut last = self.last.lock();
        match &*last {
            Some((of, file)) if *of == pack => Ok(file.clone()),
            _ => {
                let file: Arc<dyn StorageBackend> = self.medium.read_pack(pack)?.into();
                *last = Some((pack, file.clone()));
                Ok(file)
            }
        }
    }

    /// Removes packs that the database does not know any more. What cannot be removed is at the next start.
    pub fn remove(&self, packs: impl IntoIterator<Item = u64>) {
        for pack in packs {
            let mut last = self.last.lock();
            last.take_if(|(of, _)| *of == pack);
            if let Err(error) = self.medium.remove_pack(pack) {
                tracing::debug!("pack {pack} cannot be removed: {error}");
            }
        }
    }

    /// Removes all that the database does not know.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_unknown(&self, known: &Usages) -> io::Result<()> {
        let packs = self.medium.packs()?;
        self.remove(packs.into_iter().filter(|pack| !known.contains_key(pack)));
        Ok(())
    }
}
