//! One origin, as it is on the disk.

use crate::{
    clique::{
        Origin,
        chain::{EMPTY, Hash},
    },
    node::{
        hub::Recovered,
        store::tables::{Record, SEAL_BYTES, seal_of_row},
    },
};

/// See the module's head.
#[derive(Debug, Clone)]
pub struct Stored {
    pub(super) first: u64,
    pub(super) height: u64,
    pub(super) cut_hash: Hash,
    pub(super) row: Row,
}

/// The row at the end of an origin, as it is stored: behind room for its seal.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) first: u64,
    pub(super) value: Vec<u8>,
    pub(super) is_written: bool,
}

impl Row {
    pub(super) fn begin(first: u64, mut value: Vec<u8>) -> Self {
        value.clear();
        value.resize(SEAL_BYTES, 0);
        Self { first, value, is_written: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entry_bytes() == 0
    }

    pub(super) fn entry_bytes(&self) -> usize {
        self.value.len().saturating_sub(SEAL_BYTES)
    }

    pub(super) fn push(&mut self, entries: &[u8]) {
        self.value.extend_from_slice(entries);
        self.is_written = false;
    }

    /// As it goes into the table.
    pub(super) fn sealed(&mut self, origin: Origin) -> &[u8] {
        if let Some((place, entries)) = self.value.split_first_chunk_mut() {
            *place = seal_of_row(origin, self.first, entries);
        }
        &self.value
    }
}

impl Stored {
    /// Nothing yet.
    pub(super) fn beginning() -> Self {
        Self { first: 1, height: 0, cut_hash: EMPTY, row: Row::default() }
    }

    /// As it was found.
    #[must_use]
    pub fn recovered(recovered: &Recovered) -> Self {
        let cut_hash = recovered.chain.boundaries().next().map_or(EMPTY, |(_, hash)| hash);
        Self { first: recovered.first, height: recovered.height, cut_hash, row: Row::default() }
    }

    /// As its record says.
    pub(super) fn recorded(Record { first, height, cut_hash }: Record) -> Self {
        Self { first, height, cut_hash, row: Row::default() }
    }

    pub(super) fn record(&self) -> Record {
        Record { first: self.first, height: self.height, cut_hash: self.cut_hash }
    }
}
