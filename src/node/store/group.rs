//! What one transaction writes: everything that had been said until it began.

mod stored;

use std::collections::BTreeMap;

use bytes::Bytes;
use redb::{Database, ReadableTable as _, Table, WriteTransaction};

use self::stored::Row;
pub use self::stored::Stored;
use super::{
    Trouble,
    packs::{PackWriter, Packing, Packs, Place},
    tables::{
        BOUNDARIES, ENTRIES, Key, ORIGINS, PACKS, Record, SEAL_BYTES, begin_write, key, seal_of_row, sealed_boundary,
    },
};
use crate::{
    clique::{
        Chain, Chunk, Origin,
        chain::{EMPTY, Hash},
    },
    node::hub::ToStore,
};

/// Entries in one row, in bytes, unless one entry is longer: what is read at once, at least.
const MAX_ROW_BYTES: usize = (256 - 1) * 1024;
/// The last row of an origin is written again with what follows as long as it is shorter than this: the database writes
/// a page of this size in any case.
const OPEN_ROW_BYTES: usize = 4 * 1024;

/// Origins by what is on the disk of them.
pub type Origins = BTreeMap<Origin, Stored>;
/// Entries that should have been given and were not, first and last.
pub type Gaps = Vec<(Origin, u64, u64)>;

/// Writes a group into a transaction. Gives the origins as they are once that is committed, and stretches that should
/// have been given and were not.
///
/// # Errors
/// What the database says; then nothing of it counts.
pub fn write(
    transaction: &WriteTransaction,
    packs: &Packs,
    writer: &mut PackWriter,
    origins: &Origins,
    group: &[ToStore],
) -> Result<(Origins, Gaps), Trouble> {
    let mut group_writer = GroupWriter::new(transaction, packs, Some(writer), origins)?;
    for item in group {
        match item {
            ToStore::Entries { origin, chunk, boundaries, .. } => {
                group_writer.append(*origin, chunk)?;
                group_writer.put_boundaries(*origin, boundaries.iter().copied())?;
            }
            ToStore::Cut { origin, first, hash, .. } => group_writer.cut(*origin, *first, *hash)?,
            ToStore::Repair { origin, chunk, .. } => group_writer.repair(*origin, chunk)?,
            ToStore::Rehash { origin, chain, .. } => group_writer.rehash(*origin, chain)?,
            ToStore::Read { .. } => {}
        }
    }
    let (touched, gaps) = group_writer.finish()?;
    write_records(&mut transaction.open_table(ORIGINS)?, &touched)?;
    Ok((touched, gaps))
}

fn write_records(records: &mut Table<'_, (u16, u64), &'static [u8]>, touched: &Origins) -> Result<(), Trouble> {
    for (origin, stored) in touched {
        records.insert((origin.node, origin.incarnation), &stored.record().sealed(*origin)[..])?;
    }
    Ok(())
}

/// Writes what the journal held into the database: of each origin what is not there yet. The running hash at the boundaries
/// among it is found, and written, when the database is read through.
///
/// # Errors
/// What the database says.
pub fn replay(database: &Database, packs: &Packs, journaled: &[(Origin, Chunk)]) -> Result<(), Trouble> {
    if journaled.is_empty() {
        return Ok(());
    }
    let transaction = begin_write(database, true)?;
    {
        let origins = Origins::new();
        let mut writer = GroupWriter::new(&transaction, packs, None, &origins)?;
        let mut records = transaction.open_table(ORIGINS)?;
        for (origin, chunk) in journaled {
            if !writer.touched.contains_key(origin) {
                let value = records.get((origin.node, origin.incarnation))?;
                let record = value.as_ref().map(|value| Record::read(*origin, value.value()));
                if record == Some(None) {
                    // What the damaged record said is told from the rows when they are read through.
                    writer.put(*origin, chunk.first, std::slice::from_ref(&chunk.bytes))?;
                    continue;
                }
                let stored = record.flatten().map_or_else(Stored::beginning, Stored::recorded);
                writer.touched.insert(*origin, stored);
            }
            writer.append(*origin, chunk)?;
        }
        let (touched, _) = writer.finish()?;
        write_records(&mut records, &touched)?;
    }
    Ok(transaction.commit()?)
}

/// Removes what a commit has left that failed and went through all the same, before its items are written again.
///
/// # Errors
/// What the database says.
pub fn remove_beyond(
    transaction: &WriteTransaction,
    writer: &mut PackWriter,
    origins: &Origins,
    group: &[ToStore],
) -> Result<(), Trouble> {
    let mut entries = transaction.open_table(ENTRIES)?;
    let mut packing = Packing::begin(transaction.open_table(PACKS)?, Some(writer))?;
    for item in group {
        if let ToStore::Entries { origin, .. } = item {
            let height = origins.get(origin).map_or(0, |stored| stored.height);
            entries.retain_in(key(*origin, height + 1)..=key(*origin, u64::MAX), |(_, _, row), value| {
                Place::read(*origin, row, value).iter().for_each(|place| packing.remove(place));
                false
            })?;
        }
    }
    packing.end()
}

struct GroupWriter<'a> {
    origins: &'a Origins,
    entries: Table<'a, Key, &'static [u8]>,
    boundaries: Table<'a, Key, &'static [u8]>,
    packs: &'a Packs,
    packing: Packing<'a>,
    touched: Origins,
    gaps: Gaps,
    /// Memory for a row as it goes into the database.
    value: Vec<u8>,
}

impl<'a> GroupWriter<'a> {
    fn new(
        transaction: &'a WriteTransaction,
        packs: &'a Packs,
        writer: Option<&'a mut PackWriter>,
        origins: &'a Origins,
    ) -> Result<Self, Trouble> {
        Ok(Self {
            origins,
            entries: transaction.open_table(ENTRIES)?,
            boundaries: transaction.open_table(BOUNDARIES)?,
            packs,
            packing: Packing::begin(transaction.open_table(PACKS)?, writer)?,
            touched: Origins::new(),
            gaps: Vec::new(),
            value: Vec::new(),
        })
    }

    /// Takes an origin out, to be put back when it has been changed.
    fn take(&mut self, origin: Origin) -> Stored {
        let known = || self.origins.get(&origin).cloned().unwrap_or_else(Stored::beginning);
        self.touched.remove(&origin).unwrap_or_else(known)
    }

    fn append(&mut self, origin: Origin, chunk: &Chunk) -> Result<(), Trouble> {
        let mut stored = self.take(origin);
        if chunk.first <= stored.height {
            // Where the tail is damaged the hub begins before it, and gets it anew.
            self.touched.insert(origin, stored);
            self.repair(origin, chunk)?;
            stored = self.take(origin);
        }
        if chunk.last() > stored.height {
            let chunk = chunk.from(stored.height + 1);
            if chunk.first > stored.height + 1 {
                self.gaps.push((origin, stored.height + 1, chunk.first - 1));
                self.end_row(origin, &mut stored)?;
            }
            let mut from = chunk.first;
            while from <= chunk.last() {
                if stored.row.is_empty() {
                    stored.row = Row::begin(from);
                }
                let to = fitting(&chunk, from, MAX_ROW_BYTES.saturating_sub(stored.row.entry_bytes));
                match to {
                    Some(to) => {
                        stored.row.push(chunk.slice(from, to));
                        from = to + 1;
                    }
                    None if stored.row.is_empty() => {
                        stored.row.push(chunk.slice(from, from));
                        from += 1;
                    }
                    None => self.end_row(origin, &mut stored)?,
                }
            }
            stored.height = chunk.last();
        }
        self.touched.insert(origin, stored);
        Ok(())
    }

    /// Writes the row at the end of an origin as it is.
    fn write_row(&mut self, origin: Origin, row: &mut Row) -> Result<(), Trouble> {
        if !row.is_written && !row.is_empty() {
            self.put(origin, row.first, &row.pieces)?;
            row.is_written = true;
        }
        Ok(())
    }

    /// Writes it, and begins another with what follows.
    fn end_row(&mut self, origin: Origin, stored: &mut Stored) -> Result<(), Trouble> {
        self.write_row(origin, &mut stored.row)?;
        stored.row = Row::default();
        Ok(())
    }

    fn cut(&mut self, origin: Origin, first: u64, hash: Hash) -> Result<(), Trouble> {
        let mut stored = self.take(origin);
        if first > stored.first {
            self.end_row(origin, &mut stored)?;
            let mut rows = self.row_keys(origin, 0, first)?;
            // The last of them has entries that stay, unless it is the last of all.
            if stored.height >= first {
                rows.pop();
            }
            for row in rows {
                let removed = self.entries.remove(key(origin, row))?;
                let place = removed.and_then(|value| Place::read(origin, row, value.value()));
                place.iter().for_each(|place| self.packing.remove(place));
            }
            self.boundaries.retain_in(key(origin, 0)..key(origin, first), |_, _| false)?;
            stored.first = first;
            stored.cut_hash = hash;
            stored.height = stored.height.max(first - 1);
        }
        self.touched.insert(origin, stored);
        Ok(())
    }

    /// The numbers that rows of an origin begin with, from the one that holds `from` to the one that holds `to`.
    fn row_keys(&self, origin: Origin, from: u64, to: u64) -> Result<Vec<u64>, Trouble> {
        let before = self.entries.range(key(origin, 0)..=key(origin, from))?.next_back().transpose()?;
        let begin = before.map_or(from, |(row, _)| row.value().2);
        let mut keys = Vec::new();
        for item in self.entries.range(key(origin, begin)..=key(origin, to))? {
            keys.push(item?.0.value().2);
        }
        Ok(keys)
    }

    fn repair(&mut self, origin: Origin, chunk: &Chunk) -> Result<(), Trouble> {
        let mut stored = self.take(origin);
        let (first, last) = (chunk.first.max(stored.first), chunk.last().min(stored.height));
        if first <= last {
            self.end_row(origin, &mut stored)?;
            for row in self.row_keys(origin, first, last)? {
                let Some(old) = self.remove(origin, row)? else { continue };
                if old.first < first {
                    self.put(origin, old.first, &[old.slice(old.first, first - 1)])?;
                }
                if old.last() > last {
                    self.put(origin, last + 1, &[old.slice(last + 1, old.last())])?;
                }
            }
            let mut from = first;
            while from <= last {
                let to = fitting(chunk, from, MAX_ROW_BYTES).unwrap_or(from).min(last);
                self.put(origin, from, &[chunk.slice(from, to)])?;
                from = to + 1;
            }
        }
        self.touched.insert(origin, stored);
        Ok(())
    }

    /// Another running hash, of what was written in place of other entries.
    fn rehash(&mut self, origin: Origin, chain: &Chain) -> Result<(), Trouble> {
        let mut stored = self.take(origin);
        let begin = chain.beginning();
        tracing::warn!(
            "what {origin} had said was not the same here as on another node from entry {} on: it is now",
            begin + 1
        );
        self.boundaries.retain_in(key(origin, begin + 1)..=key(origin, u64::MAX), |_, _| false)?;
        if begin + 1 == stored.first {
            stored.cut_hash = chain.hash_at(begin).unwrap_or(EMPTY);
        }
        self.touched.insert(origin, stored);
        self.put_boundaries(origin, chain.boundaries().filter(|(number, _)| *number > begin))
    }

    /// Removes a row, and gives what was in it. What cannot be read goes, whatever else it held: that is missing until it is
    /// repaired too.
    fn remove(&mut self, origin: Origin, row: u64) -> Result<Option<Chunk>, Trouble> {
        let Some(value) = self.entries.remove(key(origin, row))? else { return Ok(None) };
        if let Some(place) = Place::read(origin, row, value.value()) {
            self.packing.remove(&place);
            // It may be what this transaction has put there.
            self.packing.flush()?;
        }
        self.packs.row(origin, row, value.value())
    }

    /// Puts a row where it belongs by its size.
    fn put(&mut self, origin: Origin, first: u64, pieces: &[Bytes]) -> Result<(), Trouble> {
        if let Some(place) = self.packing.put(origin, first, pieces)? {
            self.entries.insert(key(origin, first), &place.sealed(origin, first)[..])?;
            return Ok(());
        }
        self.value.clear();
        self.value.resize(SEAL_BYTES, 0);
        pieces.iter().for_each(|piece| self.value.extend_from_slice(piece));
        let seal = seal_of_row(origin, first, &self.value[SEAL_BYTES..]);
        self.value[..SEAL_BYTES].copy_from_slice(&seal);
        self.entries.insert(key(origin, first), &self.value[..])?;
        Ok(())
    }

    fn put_boundaries(&mut self, origin: Origin, hashes: impl Iterator<Item = (u64, Hash)>) -> Result<(), Trouble> {
        for (number, hash) in hashes {
            self.boundaries.insert(key(origin, number), &sealed_boundary(origin, number, &hash)[..])?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Origins, Gaps), Trouble> {
        let mut touched = std::mem::take(&mut self.touched);
        for (origin, stored) in &mut touched {
            self.write_row(*origin, &mut stored.row)?;
            let row = std::mem::take(&mut stored.row);
            if row.entry_bytes < OPEN_ROW_BYTES {
                stored.row = row.compacted();
            }
        }
        self.packing.end()?;
        Ok((touched, self.gaps))
    }
}

/// The last entry up to which those from `from` on fit so many bytes; `None` if not even one does.
fn fitting(chunk: &Chunk, from: u64, max_bytes: usize) -> Option<u64> {
    let skipped = usize::try_from(from - chunk.first).ok()?;
    let before = skipped.checked_sub(1).and_then(|index| chunk.ends.get(index)).map_or(0, |end| *end as usize);
    let rest = chunk.ends.get(skipped..)?;
    let count = rest.partition_point(|end| *end as usize - before <= max_bytes);
    (count > 0).then(|| from + count as u64 - 1)
}
