//! What was just said, before it is in the database: one record after the other in a file of fixed length, each synced before
//! it is acknowledged. A sync of it takes a fraction of a commit of the database, which follows for many records at once.
//!
//! The file has two halves, for two *generations* of records: one that a transaction of the database is putting into it, and
//! the next, which is written meanwhile. The transaction says which generation counts from then on: that one and
//! the one after it are what the database may not have. A record is
//!
//! ```text
//! 16 bytes  seal: of the generation, the place in its half, the length and the content
//!  4 bytes  length of the content
//!           content: for each chunk 2 bytes node, 8 bytes incarnation, 8 bytes number of the first entry,
//!                    4 bytes length, and the entries as they were encoded
//! ```
//!
//! with all numbers big-endian. Each begins with a block of the disk (before format 5 right behind the one before it), so that
//! it can be written past the system's cache. The first record that is not as it was written is the end: it was not
//! acknowledged.

use std::io;

use redb::StorageBackend;

use super::{
    aligned::{Aligned, BLOCK_BYTES},
    tables::{Key, SEAL_BYTES, is_seal, seal},
};
use crate::{
    clique::{Chunk, Origin},
    node::hub::ToStore,
    wire::entry::read_chunk,
};

/// A shorter journal is of no use.
const LEAST_BYTES: u64 = 1 << 20;
/// So much of a new journal is written at once.
const ZEROED_BLOCKS: usize = 256;
const LENGTH_BYTES: usize = 4;
const HEAD_BYTES: usize = SEAL_BYTES + LENGTH_BYTES;
/// What precedes the entries of a chunk.
const CHUNK_HEAD_BYTES: usize = 2 + 8 + 8 + LENGTH_BYTES;

/// See the module's head.
#[derive(Debug)]
pub struct Journal {
    file: Box<dyn StorageBackend>,
    /// Length of a half. One generation is never more than this.
    half_bytes: u64,
    generation: u64,
    end: u64,
    record: Aligned,
}

impl Journal {
    /// Begins with an empty generation. The file is made as long as it will ever be, so that a full disk is met here; one that
    /// is there already does as it is where there is no room for more.
    ///
    /// # Errors
    /// What the disk says.
    pub fn begin(file: Box<dyn StorageBackend>, half_bytes: u64, generation: u64) -> io::Result<Self> {
        let length = file.len()?;
        let half_bytes = match resize(&*file, 2 * half_bytes) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && length >= LEAST_BYTES => {
                file.set_len(length)?;
                half_of(length)
            }
            resized => resized.map(|()| half_bytes)?,
        };
        Ok(Self { file, half_bytes, generation, end: 0, record: Aligned::default() })
    }

    #[must_use]
    pub fn half_bytes(&self) -> u64 {
        self.half_bytes
    }

    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether nothing was written of this generation yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Begins the next generation, in the other half: what was there is in the database.
    pub fn turn(&mut self) {
        (self.generation, self.end) = (self.generation + 1, 0);
    }

    /// Writes a group of entries as one record, and syncs it. `false` if this half has no room for it.
    ///
    /// # Errors
    /// What the disk says; then nothing of it counts.
    pub fn append(&mut self, group: &[ToStore]) -> io::Result<bool> {
        if self.end + record_bytes(group) > self.half_bytes {
            return Ok(false);
        }
        self.record.clear();
        self.record.extend(&[0; HEAD_BYTES]);
        for item in group {
            let ToStore::Entries { origin, chunk, .. } = item else { continue };
            self.record.extend(&origin.node.to_be_bytes());
            self.record.extend(&origin.incarnation.to_be_bytes());
            self.record.extend(&chunk.first.to_be_bytes());
            self.record.extend(&length_of(&chunk.bytes));
            self.record.extend(&chunk.bytes);
        }
        let record = self.record.as_mut_slice();
        let length = length_of(&record[HEAD_BYTES..]);
        record[SEAL_BYTES..HEAD_BYTES].copy_from_slice(&length);
        let (name, key) = identity(self.generation, self.end);
        let sealed = seal(name, key, &record[SEAL_BYTES..]);
        record[..SEAL_BYTES].copy_from_slice(&sealed);
        self.record.fill_up();
        self.file.write(self.generation % 2 * self.half_bytes + self.end, self.record.as_slice())?;
        self.file.sync_data()?;
        self.end += self.record.as_slice().len() as u64;
        Ok(true)
    }
}

/// Length of the half of a journal.
fn half_of(length: u64) -> u64 {
    length / 2 / BLOCK_BYTES as u64 * BLOCK_BYTES as u64
}

/// Written once, its pages belong to the file, and a later sync need not say so.
fn resize(file: &dyn StorageBackend, length: u64) -> io::Result<()> {
    if file.len()? != length {
        let mut zeros = Aligned::default();
        zeros.extend(&[0; BLOCK_BYTES].repeat(ZEROED_BLOCKS));
        for begin in (0..length).step_by(zeros.as_slice().len()) {
            file.write(begin, zeros.as_slice())?;
        }
        file.set_len(length)?;
        file.sync_data()?;
    }
    Ok(())
}

/// How long the record of a group is, with what is left free behind it.
#[must_use]
pub fn record_bytes(group: &[ToStore]) -> u64 {
    let content: usize = group
        .iter()
        .map(|item| if let ToStore::Entries { chunk, .. } = item { CHUNK_HEAD_BYTES + chunk.bytes.len() } else { 0 })
        .sum();
    (HEAD_BYTES + content).next_multiple_of(BLOCK_BYTES) as u64
}

fn length_of(bytes: &[u8]) -> [u8; LENGTH_BYTES] {
    // Nothing is longer than a generation.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// What a record is sealed as, and its key.
fn identity(generation: u64, place: u64) -> (&'static str, Key) {
    ("journal", (0, generation, place))
}

/// What the records hold that the database may not have, in order, where this generation counts.
#[must_use]
pub fn read(file: &[u8], generation: u64) -> Vec<(Origin, Chunk)> {
    let mut chunks = Vec::new();
    for generation in [generation, generation.saturating_add(1)] {
        // Before format 4 there was one generation, always at the beginning. A seal is of one generation only.
        let halves = [0, generation % 2 * half_of(file.len() as u64)].map(|half| read_half(file, half, generation));
        chunks.extend(halves.into_iter().find(|half| !half.is_empty()).unwrap_or_default());
    }
    chunks
}

fn read_half(file: &[u8], half: u64, generation: u64) -> Vec<(Origin, Chunk)> {
    let (mut chunks, mut place) = (Vec::new(), 0_u64);
    let at = |place: u64| record_at(file, half, place, generation).map(|record| (place, record));
    while let Some((begin, record)) = at(place).or_else(|| at(place.next_multiple_of(BLOCK_BYTES as u64))) {
        let mut content = &record[LENGTH_BYTES..];
        while let Some((origin, chunk, rest)) = next_chunk(content) {
            chunks.push((origin, chunk));
            content = rest;
        }
        place = begin + (SEAL_BYTES + record.len()) as u64;
    }
    chunks
}

/// A record with its length and without its seal.
fn record_at(file: &[u8], half: u64, place: u64, generation: u64) -> Option<&[u8]> {
    let (sealed, rest) = file.get(usize::try_from(half + place).ok()?..)?.split_first_chunk::<SEAL_BYTES>()?;
    let length = u32::from_be_bytes(*rest.first_chunk::<LENGTH_BYTES>()?);
    let record = rest.get(..LENGTH_BYTES + usize::try_from(length).ok()?)?;
    let (name, key) = identity(generation, place);
    is_seal(*sealed, name, key, record).then_some(record)
}

fn next_chunk(content: &[u8]) -> Option<(Origin, Chunk, &[u8])> {
    let (node, rest) = content.split_first_chunk()?;
    let (incarnation, rest) = rest.split_first_chunk()?;
    let (first, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (entries, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let origin = Origin { node: u16::from_be_bytes(*node), incarnation: u64::from_be_bytes(*incarnation) };
    let entries = bytes::Bytes::copy_from_slice(entries);
    let (chunk, _) = read_chunk(u64::from_be_bytes(*first), entries).ok()?;
    Some((origin, chunk, rest))
}
