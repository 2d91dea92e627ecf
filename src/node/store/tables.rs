//! What is in the database, and how each value is sealed.
//!
//! A value begins with 16 bytes of a hash (XXH3) over its table, its key and what follows, so that a flipped bit anywhere in a
//! row, in its key too, is found when the row is read. That entries are those of their origin is for the running hash to tell.

use redb::{Database, Durability, ReadTransaction, ReadableDatabase as _, TableDefinition, WriteTransaction};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::Trouble;
use crate::clique::{Origin, chain::Hash};

/// Node, incarnation, and the number of an entry.
pub type Key = (u16, u64, u64);

/// By name: numbers that concern the whole directory.
pub const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
/// Per origin what is kept, as [`Record`].
pub const ORIGINS: TableDefinition<'static, (u16, u64), &[u8]> = TableDefinition::new("origins");
/// Rows of consecutive encoded entries, or where they are, by the number of the first.
pub const ENTRIES: TableDefinition<'static, Key, &[u8]> = TableDefinition::new("entries");
/// The running hash at the end of each complete segment.
pub const BOUNDARIES: TableDefinition<'static, Key, &[u8]> = TableDefinition::new("boundaries");

/// By number: how many rows of a pack are kept, and up to where it may have been written.
pub const PACKS: TableDefinition<'static, u64, (u64, u64)> = TableDefinition::new("packs");

/// What the rows of [`ENTRIES`] are sealed as.
pub const ROW: &str = "entries";
/// What stands there for a row elsewhere is sealed as this.
pub const PLACE: &str = "places";
/// Bytes of a seal.
pub const SEAL_BYTES: usize = 16;

/// A hash over all of these.
#[must_use]
pub fn seal(table: &str, key: Key, payload: &[u8]) -> [u8; SEAL_BYTES] {
    let place = [table.as_bytes(), &key.0.to_be_bytes(), &key.1.to_be_bytes(), &key.2.to_be_bytes()].concat();
    xxh3_128_with_seed(payload, xxh3_64(&place)).to_be_bytes()
}

/// The same before format 4: the first bytes of a BLAKE3 hash.
#[must_use]
pub fn seal_before_4(table: &str, key: Key, payload: &[u8]) -> [u8; SEAL_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(table.as_bytes());
    hasher.update(&key.0.to_be_bytes());
    hasher.update(&key.1.to_be_bytes());
    hasher.update(&key.2.to_be_bytes());
    hasher.update(payload);
    let mut seal = [0; SEAL_BYTES];
    seal.copy_from_slice(&hasher.finalize().as_bytes()[..SEAL_BYTES]);
    seal
}

/// Whether it is a seal of all of these.
#[must_use]
pub fn is_seal(found: [u8; SEAL_BYTES], table: &str, key: Key, payload: &[u8]) -> bool {
    found == seal(table, key, payload) || found == seal_before_4(table, key, payload)
}

/// A value as it is stored.
#[must_use]
pub fn sealed(table: &str, key: Key, payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(SEAL_BYTES + payload.len());
    value.extend_from_slice(&seal(table, key, payload));
    value.extend_from_slice(payload);
    value
}

/// What was stored; `None` if it is not any more what was written.
#[must_use]
pub fn unsealed<'a>(table: &str, key: Key, value: &'a [u8]) -> Option<&'a [u8]> {
    let (found, payload) = value.split_first_chunk()?;
    is_seal(*found, table, key, payload).then_some(payload)
}

/// The key of an entry, a row or a boundary.
#[must_use]
pub fn key(origin: Origin, number: u64) -> Key {
    (origin.node, origin.incarnation, number)
}

/// The seal of a row of entries.
#[must_use]
pub fn seal_of_row(origin: Origin, first: u64, entries: &[u8]) -> [u8; SEAL_BYTES] {
    seal(ROW, key(origin, first), entries)
}

#[must_use]
pub fn sealed_boundary(origin: Origin, number: u64, hash: &Hash) -> Vec<u8> {
    sealed("boundaries", key(origin, number), hash)
}

/// The hash at a boundary; `None` if it is not what was written.
#[must_use]
pub fn read_boundary(origin: Origin, number: u64, value: &[u8]) -> Option<Hash> {
    unsealed("boundaries", key(origin, number), value)?.try_into().ok()
}

/// What is kept of one origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// First entry that is kept.
    pub first: u64,
    /// Last entry that was written: tells a tail that is gone.
    pub height: u64,
    /// The running hash at `first - 1`.
    pub cut_hash: Hash,
}

impl Record {
    /// Without a seal.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        [&self.first.to_be_bytes()[..], &self.height.to_be_bytes(), &self.cut_hash].concat()
    }

    #[must_use]
    pub fn sealed(self, origin: Origin) -> Vec<u8> {
        sealed("origins", key(origin, 0), &self.to_bytes())
    }

    /// `None` if it is not what was written.
    #[must_use]
    pub fn read(origin: Origin, value: &[u8]) -> Option<Self> {
        let payload = unsealed("origins", key(origin, 0), value)?;
        let (first, rest) = payload.split_first_chunk()?;
        let (height, hash) = rest.split_first_chunk()?;
        let (first, height) = (u64::from_be_bytes(*first), u64::from_be_bytes(*height));
        Some(Self { first, height, cut_hash: hash.try_into().ok()? })
    }
}

/// Begins a transaction whose commit is on the disk when it returns, or only in the system's hands.
///
/// # Errors
/// What the database says.
pub fn begin_write(database: &Database, is_durable: bool) -> Result<WriteTransaction, Trouble> {
    let mut transaction = database.begin_write()?;
    if is_durable {
        // After a crash the database opens without reading itself through: the scan does that, and tells rows that
        // are damaged one by one, where a repair would give up all.
        transaction.set_quick_repair(true);
    } else {
        transaction.set_durability(Durability::None)?;
    }
    Ok(transaction)
}

/// # Errors
/// What the database says.
pub fn begin_read(database: &Database) -> Result<ReadTransaction, Trouble> {
    Ok(database.begin_read()?)
}
