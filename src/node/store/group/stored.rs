//! One origin, as it is on the disk.

use crate::{
    clique::{Chain, Origin, chain::Hash},
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
    /// Behind the height where something before cannot be read.
    pub(super) chain: Chain,
    /// The last boundary whose hash is on the disk.
    pub(super) boundary: u64,
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
        let chain = Chain::default();
        Self { first: 1, height: 0, cut_hash: chain.hash(), chain, boundary: 0, row: Row::default() }
    }

    /// As it was found.
    #[must_use]
    pub fn recovered(recovered: &Recovered) -> Self {
        let mut chain = recovered.chain.clone();
        let cut_hash = chain.boundaries().next().map_or_else(|| chain.hash(), |(_, hash)| hash);
        let boundary = forget_all_but_last(&mut chain);
        Self { first: recovered.first, height: recovered.height, cut_hash, chain, boundary, row: Row::default() }
    }

    pub(super) fn record(&self) -> Record {
        Record { first: self.first, height: self.height, cut_hash: self.cut_hash }
    }
}

/// What has been stored need not be remembered. Gives the last boundary.
pub(super) fn forget_all_but_last(chain: &mut Chain) -> u64 {
    let last = chain.boundaries().last().map_or(0, |(last, _)| last);
    chain.forget_before(last);
    last
}
