//! Consecutive entries of one origin, as the bytes they were accepted as.

use std::sync::Arc;

use bytes::Bytes;

use super::Origin;

/// Bytes that a chunk costs besides its entries: its own fields, and its share of the order.
const CHUNK_OVERHEAD_BYTES: usize = 160;

/// Other origins' heights that an entry depends on.
pub type Dependencies = Vec<(Origin, u64)>;

/// Consecutive entries of one origin, encoded.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Number of the first entry.
    pub first: u64,
    /// The entries one after the other.
    pub bytes: Bytes,
    /// Where each entry ends in `bytes`.
    pub ends: Arc<[u32]>,
    /// By entry number, only where there are any.
    pub dependencies: Arc<[(u64, Dependencies)]>,
}

impl Chunk {
    /// Number of the last entry.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first + self.ends.len() as u64 - 1
    }

    /// Memory that it takes, in bytes.
    #[must_use]
    pub fn cost_bytes(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<u32>() + CHUNK_OVERHEAD_BYTES
    }

    /// The bytes of the entries `from..=to`, both within the chunk.
    #[must_use]
    pub fn slice(&self, from: u64, to: u64) -> Bytes {
        let start = if from <= self.first { 0 } else { self.end_of(from - 1) };
        self.bytes.slice(start..self.end_of(to.min(self.last())))
    }

    /// The rest of the chunk from entry `from` on.
    #[must_use]
    pub fn from(&self, from: u64) -> Self {
        if from <= self.first {
            return self.clone();
        }
        let start = self.end_of(from - 1);
        let skipped = usize::try_from(from - self.first).unwrap_or(usize::MAX);
        Self {
            first: from,
            bytes: self.bytes.slice(start..),
            ends: self.ends[skipped..].iter().map(|end| end - u32::try_from(start).unwrap_or(0)).collect(),
            dependencies: self.dependencies.iter().filter(|(number, _)| *number >= from).cloned().collect(),
        }
    }

    fn end_of(&self, number: u64) -> usize {
        usize::try_from(number - self.first)
            .ok()
            .and_then(|index| self.ends.get(index))
            .map_or(self.bytes.len(), |end| *end as usize)
    }
}
