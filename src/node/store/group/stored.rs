//! One origin, as it is on the disk.

use bytes::Bytes;

use crate::{
    clique::chain::{EMPTY, Hash},
    node::{hub::Recovered, store::tables::Record},
};

/// See the module's head.
#[derive(Debug, Clone)]
pub struct Stored {
    pub(super) first: u64,
    pub(super) height: u64,
    pub(super) cut_hash: Hash,
    pub(super) row: Row,
}

/// The row at the end of an origin, in the pieces in which it was given.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) first: u64,
    pub(super) pieces: Vec<Bytes>,
    pub(super) entry_bytes: usize,
    pub(super) is_written: bool,
}

impl Row {
    pub(super) fn begin(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entry_bytes == 0
    }

    pub(super) fn push(&mut self, entries: Bytes) {
        self.entry_bytes += entries.len();
        self.pieces.push(entries);
        self.is_written = false;
    }

    /// In memory of its own, so that it does not keep more than itself there.
    pub(super) fn compacted(self) -> Self {
        let pieces = vec![self.pieces.concat().into()];
        Self { pieces, ..self }
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
