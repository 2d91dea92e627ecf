//! The running hash of one origin's log, by which two nodes tell whether they hold the same entries.
//!
//! Entries are hashed in *segments* of [`SEGMENT_ENTRIES`], so that a piece can be checked, cut off or repaired by itself, and so
//! that the work is done on long runs of bytes. The hash at entry *n* is BLAKE3 of the hash at the last segment boundary
//! before *n*, then the bytes of the entries from there to *n*. It depends on the entries alone, not on how they came.

use std::collections::BTreeMap;

use super::Chunk;

/// Entries in a segment: the unit of comparison, repair and retention.
pub const SEGMENT_ENTRIES: u64 = 256;

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

/// The hash of a log of which nothing has been hashed.
pub const EMPTY: Hash = [0; 32];

/// The last segment boundary at or before an entry: 0, 256, 512 …
#[must_use]
pub fn boundary_before(number: u64) -> u64 {
    number - number % SEGMENT_ENTRIES
}

/// What BLAKE3 is fed at a time, in bytes: as many of its chunks of 1 KiB as processors hash side by side, from a multiple of
/// that on. In pieces of any length it takes two to three times as long.
const BLOCK_BYTES: usize = 16 * 1024;

/// A hash of bytes that come in pieces.
#[derive(Debug, Clone)]
struct Open {
    hasher: blake3::Hasher,
    /// What is not hashed yet: less than a block.
    pending: Vec<u8>,
}

impl Open {
    fn begin(hash: &Hash) -> Self {
        Self { hasher: blake3::Hasher::new(), pending: hash.to_vec() }
    }

    /// The hash of all of it, and another begins in the same memory.
    fn end(&mut self) -> Hash {
        let hash = *self.hasher.update(&self.pending).finalize().as_bytes();
        self.begin_anew(&hash);
        hash
    }

    fn begin_anew(&mut self, hash: &Hash) {
        self.hasher.reset();
        self.pending.clear();
        self.pending.extend_from_slice(hash);
    }

    fn update(&mut self, mut bytes: &[u8]) {
        if !self.pending.is_empty() {
            let (filling, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.pending.len()));
            self.pending.extend_from_slice(filling);
            bytes = rest;
            if self.pending.len() < BLOCK_BYTES {
                return;
            }
            self.hasher.update(&self.pending);
            self.pending.clear();
        }
        let (blocks, rest) = bytes.split_at(bytes.len() - bytes.len() % BLOCK_BYTES);
        self.hasher.update(blocks);
        self.pending.extend_from_slice(rest);
    }

    fn hash(&self) -> Hash {
        *self.hasher.clone().update(&self.pending).finalize().as_bytes()
    }
}

/// The running hash of a log, as far as it was fed.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The last entry that was hashed.
    height: u64,
    /// Whether it goes back to the first entry.
    is_known: bool,
    /// Of what follows the last boundary, the hash at that boundary included.
    open: Open,
    /// By the number of the last entry of each complete segment; and where the log begins.
    boundaries: BTreeMap<u64, Hash>,
}

impl Default for Chain {
    fn default() -> Self {
        Self::from_boundary(0, EMPTY)
    }
}

impl Chain {
    /// Goes on after a boundary; after a hole, if the hash there is [`EMPTY`]: nobody knows it.
    #[must_use]
    pub fn from_boundary(boundary: u64, hash: Hash) -> Self {
        let is_known = boundary == 0 || hash != EMPTY;
        Self { height: boundary, is_known, open: Open::begin(&hash), boundaries: BTreeMap::from([(boundary, hash)]) }
    }

    /// The last entry that was hashed.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Takes the entries of a chunk that follow the height. Nothing if the chunk leaves a gap.
    pub fn push(&mut self, chunk: &Chunk) {
        self.push_to(chunk, chunk.last());
    }

    /// As `push`, but only up to an entry.
    pub fn push_to(&mut self, chunk: &Chunk, last: u64) {
        let last = last.min(chunk.last());
        while self.height < last && chunk.first <= self.height + 1 {
            let to = last.min(boundary_before(self.height) + SEGMENT_ENTRIES);
            self.open.update(&chunk.slice(self.height + 1, to));
            self.height = to;
            if to.is_multiple_of(SEGMENT_ENTRIES) {
                self.boundaries.insert(to, self.open.end());
            }
        }
    }

    /// Goes on after a later boundary whose hash is known, over entries that cannot be had.
    pub fn skip_to(&mut self, boundary: u64, hash: Hash) {
        self.height = boundary;
        self.boundaries.insert(boundary, hash);
        self.open.begin_anew(&hash);
    }

    /// Whether it goes back to the beginning: after a hole of which nobody knows the hash, nothing can be compared.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// The hash at the height, or at the last boundary up to an entry; and up to which entry it goes.
    #[must_use]
    pub fn hash_up_to(&self, number: u64) -> Option<(u64, Hash)> {
        if !self.is_known {
            return None;
        }
        if number == self.height {
            return Some((number, self.hash()));
        }
        self.boundaries.range(..=number).next_back().map(|(number, hash)| (*number, *hash))
    }

    /// The hash at the height.
    #[must_use]
    pub fn hash(&self) -> Hash {
        // Nothing has been added since it went on there, which after a hole can be anywhere.
        let boundary = self.boundaries.get(&self.height).copied();
        boundary.unwrap_or_else(|| self.open.hash())
    }

    /// The hash at an entry: at the height, or at a boundary that is remembered.
    #[must_use]
    pub fn hash_at(&self, number: u64) -> Option<Hash> {
        if number == self.height {
            return Some(self.hash());
        }
        self.boundaries.get(&number).copied()
    }

    /// The boundaries that are remembered, with their hashes, in order.
    pub fn boundaries(&self) -> impl Iterator<Item = (u64, Hash)> + '_ {
        self.boundaries.iter().map(|(number, hash)| (*number, *hash))
    }

    /// The boundaries among these entries, with their hashes, in order.
    #[must_use]
    pub fn boundaries_in(&self, first: u64, last: u64) -> Box<[(u64, Hash)]> {
        self.boundaries.range(first..=last).map(|(number, hash)| (*number, *hash)).collect()
    }

    /// The boundary that it begins with, as far as it is remembered.
    #[must_use]
    pub fn beginning(&self) -> u64 {
        self.boundaries.keys().next().copied().unwrap_or(0)
    }

    /// Takes the place of another: of what is before its own beginning, it remembers what that did.
    pub fn replace(&mut self, former: &Self) {
        self.boundaries.extend(former.boundaries.range(..self.beginning()));
    }

    /// Forgets the boundaries before one.
    pub fn forget_before(&mut self, boundary: u64) {
        self.boundaries = self.boundaries.split_off(&boundary);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    /// Entries `first..` of a log whose entry n is up to 367 bytes of n: a segment is of several blocks.
    fn chunk(first: u64, count: u64) -> Chunk {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for number in first..first + count {
            bytes.extend(std::iter::repeat_n(number.to_le_bytes()[0], usize::try_from(number % 7 * 61 + 1).unwrap()));
            ends.push(u32::try_from(bytes.len()).unwrap());
        }
        Chunk { first, bytes: Bytes::from(bytes), ends: ends.into(), dependencies: [].into() }
    }

    /// As the module's head says it.
    fn plain_hash(count: u64) -> Hash {
        let (mut hash, mut next) = (EMPTY, 1);
        while next <= count {
            let segment = chunk(next, SEGMENT_ENTRIES.min(count + 1 - next));
            hash = *blake3::Hasher::new().update(&hash).update(&segment.bytes).finalize().as_bytes();
            next += SEGMENT_ENTRIES;
        }
        hash
    }

    proptest! {
        #[test]
        fn the_hash_depends_on_the_entries_alone(counts in proptest::collection::vec(1..700_u64, 1..8), overlap in 0..50_u64) {
            let (mut pieces, mut whole) = (Chain::default(), Chain::default());
            let mut next = 1;
            for count in counts {
                let first = next.max(overlap + 1) - overlap;
                pieces.push(&chunk(first, count + (next - first)));
                next += count;
            }
            whole.push(&chunk(1, next - 1));
            prop_assert_eq!(pieces.height(), next - 1);
            prop_assert_eq!(pieces.hash(), whole.hash());
            prop_assert_eq!(whole.hash(), plain_hash(next - 1));
            prop_assert!(pieces.boundaries().eq(whole.boundaries()));
        }

        #[test]
        fn a_log_that_goes_on_after_a_boundary_has_the_same_hash(count in 1..2_000_u64) {
            let mut whole = Chain::default();
            whole.push(&chunk(1, count));
            let boundary = boundary_before(count);
            let mut rest = Chain::from_boundary(boundary, whole.hash_at(boundary).unwrap());
            if boundary < count {
                rest.push(&chunk(boundary + 1, count - boundary));
            }
            prop_assert_eq!(rest.hash(), whole.hash());
        }
    }

    #[test]
    fn another_entry_gives_another_hash_and_a_gap_is_not_taken() {
        let (mut one, mut other) = (Chain::default(), Chain::default());
        one.push(&chunk(1, 10));
        let mut changed = chunk(1, 10);
        let mut bytes = changed.bytes.to_vec();
        bytes[3] ^= 1;
        changed.bytes = bytes.into();
        other.push(&changed);
        assert_ne!(one.hash(), other.hash());
        one.push(&chunk(12, 5));
        assert_eq!(one.height(), 10);
    }
}
