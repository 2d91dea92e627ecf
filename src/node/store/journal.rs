//! What was just said, before it is in the database: one record after the other in a file of fixed length, each synced before
//! it is acknowledged. A sync of it takes a fraction of a commit of the database, which follows for many records at once.
//!
//! Each commit begins a new *generation*: the journal is written from its beginning again, and what was there before does
//! not count any more. The database says which generation counts, in the same transaction. A record is
//!
//! ```text
//! 16 bytes  seal: of the generation, the place in the file, the length and the content
//!  4 bytes  length of the content
//!           content: for each chunk 2 bytes node, 8 bytes incarnation, 8 bytes number of the first entry,
//!                    4 bytes length, and the entries as they were encoded
//! ```
//!
//! with all numbers big-endian. The first record that is not as it was written is the end: it was not acknowledged.

use std::io;

use redb::StorageBackend;

use super::tables::{SEAL_BYTES, seal};
use crate::{
    clique::{Chunk, Origin},
    node::hub::ToStore,
    wire::entry::read_chunk,
};

/// Length of the file. What waits for the database is never more than this.
const JOURNAL_BYTES: u64 = 1 << 20;
const LENGTH_BYTES: usize = 4;
const HEAD_BYTES: usize = SEAL_BYTES + LENGTH_BYTES;
/// What precedes the entries of a chunk.
const CHUNK_HEAD_BYTES: usize = 2 + 8 + 8 + LENGTH_BYTES;

/// See the module's head.
#[derive(Debug)]
pub struct Journal {
    file: Box<dyn StorageBackend>,
    generation: u64,
    end: u64,
    record: Vec<u8>,
}

impl Journal {
    /// Begins with an empty generation. The file is made as long as it will ever be, so that a full disk is met here.
    ///
    /// # Errors
    /// What the disk says.
    pub fn begin(file: Box<dyn StorageBackend>, generation: u64) -> io::Result<Self> {
        if file.len()? != JOURNAL_BYTES {
            file.set_len(JOURNAL_BYTES)?;
            // Written once, its pages belong to it, and a later sync need not say so.
            file.write(0, &vec![0; usize::try_from(JOURNAL_BYTES).unwrap_or(0)])?;
            file.sync_data()?;
        }
        Ok(Self { file, generation, end: 0, record: Vec::new() })
    }

    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Everything is in the database, which says that this generation counts now.
    pub fn begin_anew(&mut self, generation: u64) {
        (self.generation, self.end) = (generation, 0);
    }

    /// Writes a group as one record, and syncs it. `false` if it does not fit or is not of entries only.
    ///
    /// # Errors
    /// What the disk says; then nothing of it counts.
    pub fn append(&mut self, group: &[ToStore]) -> io::Result<bool> {
        self.record.clear();
        self.record.resize(HEAD_BYTES, 0);
        for item in group {
            let ToStore::Entries { origin, chunk, .. } = item else { return Ok(false) };
            if self.end + (self.record.len() + CHUNK_HEAD_BYTES + chunk.bytes.len()) as u64 > JOURNAL_BYTES {
                return Ok(false);
            }
            self.record.extend_from_slice(&origin.node.to_be_bytes());
            self.record.extend_from_slice(&origin.incarnation.to_be_bytes());
            self.record.extend_from_slice(&chunk.first.to_be_bytes());
            self.record.extend_from_slice(&length_of(&chunk.bytes));
            self.record.extend_from_slice(&chunk.bytes);
        }
        let length = length_of(&self.record[HEAD_BYTES..]);
        self.record[SEAL_BYTES..HEAD_BYTES].copy_from_slice(&length);
        let sealed = seal_of(self.generation, self.end, &self.record[SEAL_BYTES..]);
        self.record[..SEAL_BYTES].copy_from_slice(&sealed);
        self.file.write(self.end, &self.record)?;
        self.file.sync_data()?;
        self.end += self.record.len() as u64;
        Ok(true)
    }
}

fn length_of(bytes: &[u8]) -> [u8; LENGTH_BYTES] {
    // Nothing is longer than the journal.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

fn seal_of(generation: u64, place: u64, record: &[u8]) -> [u8; SEAL_BYTES] {
    seal("journal", (0, generation, place), record)
}

/// What the records of a generation hold, in order.
#[must_use]
pub fn read(file: &[u8], generation: u64) -> Vec<(Origin, Chunk)> {
    let (mut chunks, mut place) = (Vec::new(), 0);
    while let Some(record) = record_at(file, place, generation) {
        let mut content = &record[LENGTH_BYTES..];
        while let Some((origin, chunk, rest)) = next_chunk(content) {
            chunks.push((origin, chunk));
            content = rest;
        }
        place += SEAL_BYTES + record.len();
    }
    chunks
}

/// A record with its length and without its seal.
fn record_at(file: &[u8], place: usize, generation: u64) -> Option<&[u8]> {
    let (sealed, rest) = file.get(place..)?.split_first_chunk::<SEAL_BYTES>()?;
    let length = u32::from_be_bytes(*rest.first_chunk::<LENGTH_BYTES>()?);
    let record = rest.get(..LENGTH_BYTES + usize::try_from(length).ok()?)?;
    (*sealed == seal_of(generation, place as u64, record)).then_some(record)
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
