//! Reads back what was written, for readers and peers who are behind what memory holds.

use redb::{Database, ReadOnlyTable};

use super::{
    Trouble,
    packs::Packs,
    tables::{ENTRIES, Key, ORIGINS, Record, begin_read, key},
};
use crate::{
    clique::{Chunk, Origin},
    wire::entry::read_chunk,
};

/// What was there.
#[derive(Debug)]
pub enum Found {
    Chunk(Chunk),
    Nothing,
    /// Entries that cannot be read back, first and last.
    Damaged(u64, u64),
}

/// Reads entries of one origin from `from` on, up to about so many bytes, at least one entry.
///
/// # Errors
/// What the database says.
pub fn read(database: &Database, packs: &Packs, origin: Origin, from: u64, max_bytes: usize) -> Result<Found, Trouble> {
    let transaction = begin_read(database)?;
    let records = transaction.open_table(ORIGINS)?;
    let Some(value) = records.get((origin.node, origin.incarnation))? else {
        return Ok(Found::Nothing);
    };
    let (first, height) = match Record::read(origin, value.value()) {
        Some(record) => (record.first, record.height),
        // What is not known to be there may be: the row tells.
        None => (1, from),
    };
    if from < first || from > height {
        return Ok(Found::Nothing);
    }
    let entries = transaction.open_table(ENTRIES)?;
    let row = entries.range(key(origin, 0)..=key(origin, from))?.next_back().transpose()?;
    let chunk = row.map(|(row, value)| packs.row(origin, row.value().2, value.value())).transpose()?;
    let Some(chunk) = chunk.flatten().filter(|chunk| chunk.last() >= from) else {
        let next = entries.range(key(origin, from + 1)..=key(origin, u64::MAX))?.next().transpose()?;
        let last = next.map_or(height, |(row, _)| row.value().2 - 1);
        return Ok(Found::Damaged(from, last));
    };
    let chunk = with_following(&entries, packs, origin, chunk.from(from), max_bytes)?;
    Ok(Found::Chunk(upto(chunk, max_bytes)))
}

/// Joins the rows that follow, as long as they are as they were written.
fn with_following(
    entries: &ReadOnlyTable<Key, &'static [u8]>,
    packs: &Packs,
    origin: Origin,
    chunk: Chunk,
    max_bytes: usize,
) -> Result<Chunk, Trouble> {
    if chunk.bytes.len() >= max_bytes {
        return Ok(chunk);
    }
    let (first, mut next) = (chunk.first, chunk.last() + 1);
    let mut bytes = chunk.bytes.to_vec();
    for item in entries.range(key(origin, next)..=key(origin, u64::MAX))? {
        let (row, value) = item?;
        if bytes.len() >= max_bytes || row.value().2 != next {
            break;
        }
        let Some(following) = packs.row(origin, next, value.value())? else { break };
        bytes.extend_from_slice(&following.bytes);
        next = following.last() + 1;
    }
    Ok(read_chunk(first, bytes.into()).map_or(chunk, |(joined, _)| joined))
}

/// As many of the entries as fit, at least one.
pub fn upto(chunk: Chunk, max_bytes: usize) -> Chunk {
    let count = chunk.ends.partition_point(|end| *end as usize <= max_bytes).max(1);
    chunk.within(chunk.first, chunk.first + count as u64 - 1).unwrap_or(chunk)
}
