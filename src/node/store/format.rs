//! The format of a directory: made, checked, brought up to date.

use std::ops::Bound;

use redb::{Database, ReadableTable as _, Table, WriteTransaction};

use super::{
    StoreError, Trouble,
    tables::{BOUNDARIES, ENTRIES, META, ORIGINS, PACKS, begin_write, sealed},
};

/// The format that this version writes. Format 1 had values without seals, format 2 no journal, format 3 one generation in it, and
/// seals of another hash, which are still known; format 4 had no packs.
pub const FORMAT: u64 = 5;
const OLDEST_FORMAT: u64 = 1;

const META_FORMAT: &str = "format";
const META_NODE: &str = "node";
const META_INCARNATION: &str = "incarnation";
const META_JOURNAL: &str = "journal";

/// Whose directory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub node: u16,
    /// The node's latest life.
    pub incarnation: u64,
    /// Which generation of the journal counts.
    pub journal: u64,
}

/// Why a database is not taken.
#[derive(Debug)]
pub enum Refused {
    Newer { format: u64 },
    OtherNode { node: u64 },
    Trouble(Trouble),
}

impl<E: Into<Trouble>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Trouble(error.into())
    }
}

impl Refused {
    /// In words, for a directory that is wanted by this node.
    pub fn explain(self, directory: &std::path::Path, wanted: u16) -> Result<StoreError, Trouble> {
        let directory = directory.to_owned();
        match self {
            Self::Newer { format } => Ok(StoreError::Newer { directory, format, known: FORMAT }),
            Self::OtherNode { node } => Ok(StoreError::OtherNode { directory, node, wanted }),
            Self::Trouble(trouble) => Err(trouble),
        }
    }
}

/// Makes the tables of a new directory, brings those of an older format up to date, refuses others. In one
/// transaction. With a node, a new directory becomes that node's.
///
/// # Errors
/// If it is of a newer format, another node's, or the database fails.
pub fn prepare(database: &Database, node: Option<u16>) -> Result<Owner, Refused> {
    let transaction = begin_write(database, true)?;
    let owner = {
        let mut meta = transaction.open_table(META)?;
        let get = |meta: &Table<'_, &'static str, u64>, name: &str| -> Result<Option<u64>, Trouble> {
            Ok(meta.get(name)?.map(|value| value.value()))
        };
        let format = get(&meta, META_FORMAT)?.unwrap_or(FORMAT);
        if format > FORMAT {
            return Err(Refused::Newer { format });
        }
        let stored = get(&meta, META_NODE)?.or(node.map(u64::from)).unwrap_or_default();
        if node.is_some_and(|node| u64::from(node) != stored) {
            return Err(Refused::OtherNode { node: stored });
        }
        if format == OLDEST_FORMAT {
            seal_all(&transaction)?;
        }
        transaction.open_table(ORIGINS)?;
        transaction.open_table(ENTRIES)?;
        transaction.open_table(BOUNDARIES)?;
        transaction.open_table(PACKS)?;
        meta.insert(META_FORMAT, FORMAT)?;
        meta.insert(META_NODE, stored)?;
        let incarnation = get(&meta, META_INCARNATION)?.unwrap_or_default();
        let journal = get(&meta, META_JOURNAL)?.unwrap_or_default();
        let node = u16::try_from(stored).map_err(|_| Refused::OtherNode { node: stored })?;
        Owner { node, incarnation, journal }
    };
    transaction.commit()?;
    Ok(owner)
}

/// Notes a life of the node before it begins, so that the next one is later whatever the clock says.
///
/// # Errors
/// What the database says.
pub fn note_incarnation(transaction: &WriteTransaction, incarnation: u64) -> Result<(), Trouble> {
    transaction.open_table(META)?.insert(META_INCARNATION, incarnation)?;
    Ok(())
}

/// Says which generation of the journal counts: all of those before is in this transaction or was before.
///
/// # Errors
/// What the database says.
pub fn note_journal(transaction: &WriteTransaction, generation: u64) -> Result<(), Trouble> {
    transaction.open_table(META)?.insert(META_JOURNAL, generation)?;
    Ok(())
}

/// Format 1 to 2: puts a seal on every value.
fn seal_all(transaction: &WriteTransaction) -> Result<(), Trouble> {
    let mut origins = transaction.open_table(ORIGINS)?;
    let mut after = Bound::Unbounded;
    while let Some((key, value)) = {
        let next = origins.range::<(u16, u64)>((after, Bound::Unbounded))?.next().transpose()?;
        next.map(|(key, value)| (key.value(), sealed("origins", (key.value().0, key.value().1, 0), value.value())))
    } {
        origins.insert(key, &value[..])?;
        after = Bound::Excluded(key);
    }
    for (name, definition) in [("entries", ENTRIES), ("boundaries", BOUNDARIES)] {
        let mut table = transaction.open_table(definition)?;
        let mut after = Bound::Unbounded;
        while let Some((key, value)) = {
            let next = table.range::<super::tables::Key>((after, Bound::Unbounded))?.next().transpose()?;
            next.map(|(key, value)| (key.value(), sealed(name, key.value(), value.value())))
        } {
            table.insert(key, &value[..])?;
            after = Bound::Excluded(key);
        }
    }
    Ok(())
}
