//! Appends rows to packs, for one transaction of the database after the other.

use std::{io, mem, sync::Arc};

use bytes::Bytes;
use redb::{ReadableTable as _, StorageBackend, Table};

use super::{Place, Usage, Usages};
use crate::{
    clique::Origin,
    node::store::{
        Trouble,
        aligned::{Aligned, BLOCK_BYTES},
        medium::{Medium, Sizes},
        tables::seal_of_row,
    },
};

/// So much is written at once.
const WRITE_BYTES: usize = 256 << 10;

/// See the module's head.
pub struct PackWriter {
    sizes: Sizes,
    medium: Arc<dyn Medium>,
    /// The pack that was written last, while it is open.
    open: Option<(u64, Box<dyn StorageBackend>)>,
    /// Those before it that have not been synced yet.
    unsynced: Vec<Box<dyn StorageBackend>>,
    is_synced: bool,
    /// What comes at the end of the pack.
    buffer: Aligned,
    /// Packs without rows, which can go once that is on the disk.
    emptied: Vec<u64>,
}

impl PackWriter {
    #[must_use]
    pub fn new(medium: Arc<dyn Medium>) -> Self {
        let (sizes, buffer) = (medium.sizes(), Aligned::default());
        Self { sizes, medium, open: None, unsynced: Vec::new(), is_synced: true, buffer, emptied: Vec::new() }
    }

    /// Syncs what was written.
    ///
    /// # Errors
    /// What the disk says. Then what the database had not synced either is to be written again.
    pub fn sync(&mut self) -> Result<(), Trouble> {
        let mut sync = || -> io::Result<()> {
            for file in mem::take(&mut self.unsynced) {
                file.sync_data()?;
            }
            match &self.open {
                Some((_, file)) if !self.is_synced => file.sync_data(),
                _ => Ok(()),
            }
        };
        let synced = sync();
        self.is_synced = synced.is_ok();
        Ok(synced.map_err(redb::StorageError::from)?)
    }

    /// Begins anew, since the database has been opened again and says what there is.
    pub fn reset(&mut self) {
        self.open = None;
        self.unsynced.clear();
        self.emptied.clear();
        self.is_synced = true;
    }

    /// The packs that can go, since the database has it on the disk that nothing in them is kept.
    pub fn take_emptied(&mut self) -> Vec<u64> {
        mem::take(&mut self.emptied)
    }

    fn write(&mut self, pack: u64, offset: u64) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != pack) {
            let file = self.medium.pack(pack)?;
            let before = self.open.replace((pack, file));
            self.unsynced.extend(before.filter(|_| !self.is_synced).map(|(_, file)| file));
        }
        self.is_synced = false;
        match &self.open {
            Some((_, file)) => file.write(offset, self.buffer.as_slice()),
            None => Ok(()),
        }
    }
}

/// The packs, in one transaction.
pub struct Packing<'a> {
    table: Table<'a, u64, (u64, u64)>,
    /// `None` where nothing may be written but the database.
    writer: Option<&'a mut PackWriter>,
    /// The pack that is written to, and how it is.
    last: Option<(u64, Usage)>,
    /// The same, as the database has it.
    noted: Option<(u64, Usage)>,
    /// Rows that are not kept any more, by pack.
    removed: Usages,
}

impl<'a> Packing<'a> {
    /// # Errors
    /// What the database says.
    pub fn begin(table: Table<'a, u64, (u64, u64)>, mut writer: Option<&'a mut PackWriter>) -> Result<Self, Trouble> {
        if let Some(writer) = &mut writer {
            writer.buffer.clear();
        }
        let last = table.last()?.map(|(pack, usage)| (pack.value(), read(usage.value())));
        Ok(Self { table, writer, last, noted: last, removed: Usages::new() })
    }

    /// Puts a row into a pack, and says where, if it belongs there. It can be read once it is flushed.
    ///
    /// # Errors
    /// What the disk says.
    pub fn put(&mut self, origin: Origin, first: u64, entries: &[Bytes]) -> Result<Option<Place>, Trouble> {
        let Some(Sizes { packed_row_bytes, pack_bytes, .. }) = self.writer.as_ref().map(|writer| writer.sizes) else {
            return Ok(None);
        };
        if entries.iter().map(Bytes::len).sum::<usize>() < packed_row_bytes {
            return Ok(None);
        }
        if self.last.is_none_or(|(_, usage)| usage.end.saturating_add(self.buffered_bytes()) >= pack_bytes) {
            self.flush()?;
            self.turn()?;
        }
        let (Some((pack, usage)), Some(writer)) = (&mut self.last, &mut self.writer) else { return Ok(None) };
        let begin = writer.buffer.as_slice().len();
        entries.iter().for_each(|piece| writer.buffer.extend(piece));
        let row = &writer.buffer.as_slice()[begin..];
        let Ok(length) = u32::try_from(row.len()) else { return Ok(None) };
        let place =
            Place { pack: *pack, offset: usage.end + begin as u64, length, seal: seal_of_row(origin, first, row) };
        usage.rows += 1;
        if self.buffered_bytes() >= WRITE_BYTES as u64 {
            self.flush()?;
        }
        Ok(Some(place))
    }

    /// A row that was there is not kept any more.
    pub fn remove(&mut self, place: &Place) {
        super::count(&mut self.removed, place);
    }

    /// Flushes, and says in the database how the packs are.
    ///
    /// # Errors
    /// What the disk says.
    pub fn end(mut self) -> Result<(), Trouble> {
        self.flush()?;
        self.note_last()?;
        for (pack, Usage { rows, .. }) in mem::take(&mut self.removed) {
            let kept = self.table.get(pack)?.map(|usage| read(usage.value()));
            let Some(mut usage) = kept else { continue };
            usage.rows = usage.rows.saturating_sub(rows);
            self.table.insert(pack, (usage.rows, usage.end))?;
            self.forget_if_empty(pack, usage)?;
        }
        Ok(())
    }

    fn buffered_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.buffer.as_slice().len() as u64)
    }

    /// Writes what is not written yet.
    ///
    /// # Errors
    /// What the disk says.
    pub fn flush(&mut self) -> Result<(), Trouble> {
        let (Some((pack, usage)), Some(writer)) = (&mut self.last, &mut self.writer) else { return Ok(()) };
        if !writer.buffer.as_slice().is_empty() {
            writer.buffer.fill_up();
            writer.write(*pack, usage.end).map_err(redb::StorageError::from)?;
            usage.end += writer.buffer.as_slice().len() as u64;
            writer.buffer.clear();
        }
        Ok(())
    }

    /// Begins another pack.
    fn turn(&mut self) -> Result<(), Trouble> {
        self.note_last()?;
        let before = self.last.replace((self.last.map_or(1, |(pack, _)| pack.saturating_add(1)), Usage::default()));
        before.map_or(Ok(()), |(pack, usage)| self.forget_if_empty(pack, usage))
    }

    /// Most transactions put nothing into packs, and have nothing to say of them.
    fn note_last(&mut self) -> Result<(), Trouble> {
        if let Some((pack, usage)) = self.last.filter(|last| self.noted != Some(*last)) {
            self.table.insert(pack, (usage.rows, usage.end))?;
            self.noted = self.last;
        }
        Ok(())
    }

    /// The last pack stays, so that it is known how far it has been written.
    fn forget_if_empty(&mut self, pack: u64, usage: Usage) -> Result<(), Trouble> {
        if usage.rows == 0 && self.last.is_some_and(|(last, _)| last != pack) {
            self.table.remove(pack)?;
            if let Some(writer) = &mut self.writer {
                writer.emptied.push(pack);
            }
        }
        Ok(())
    }
}

fn read((rows, end): (u64, u64)) -> Usage {
    // Whatever a damaged page says: what is written is aligned.
    Usage { rows, end: end.checked_next_multiple_of(BLOCK_BYTES as u64).unwrap_or(u64::MAX) }
}
