//! The log on disk.
//!
//! One redb database per directory. Entries are stored as they were encoded, in rows of consecutive entries of one origin;
//! everything that waits when a transaction begins goes into that one transaction. Long rows, which come where much is said, are
//! in files beside it, *packs*, and the database says where. Workers of the store's own, each on a thread:
//! one writes and syncs, one reads, so that a reader does not wait behind a sync. The hub waits for none: it says
//! [`ToStore`](super::hub::ToStore) through a [`StoreHandle`] and hears [`FromStore`] later.
//!
//! So that an acknowledgement need not wait for a transaction, a third worker first writes what this node has accepted to a journal,
//! which is synced in a fraction of the time; the database has it up to some two hundred milliseconds later. What this node holds of its
//! peers goes into the database only: that it is on the disk here is told a little later, and nobody waits for it.
//!
//! After a crash the last transaction that was committed is there and nothing of a later one, and what is in the journal is
//! written again. At the start everything is read once: each row is checked against its seal and each segment against the
//! running hash. Rows that are damaged are named one by one and repaired from peers; a database that cannot be opened at all is
//! set aside, and peers give everything back.
//!
//! Bounds: what waits to be written is not bounded in count, because the hub never waits, but from [`MAX_QUEUED_BYTES`] on the store says that it
//! cannot be written to, so that nothing more is accepted until it has caught up.

mod ahead;
mod aligned;
mod format;
mod group;
mod journal;
mod lock;
pub mod medium;
mod packs;
mod reader;
mod scan;
mod tables;
pub mod verify;
mod workers;

use std::{
    any::Any,
    fmt,
    io::{self, ErrorKind},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use redb::{Database, StorageBackend};

use self::{
    format::Refused,
    group::{Origins, Stored},
    journal::Journal,
    medium::Claim,
    packs::Packs,
    scan::Scanned,
    tables::{BOUNDARIES, ORIGINS, Record, begin_read, begin_write, key, sealed_boundary},
};
pub use self::{
    medium::{Files, Medium},
    workers::{MAX_QUEUED_BYTES, StoreHandle, StoreWorkers, Work, on_a_thread},
};
use crate::{
    clique::{Chunk, Origin, chain::EMPTY},
    node::hub::{FromStore, Recovered},
};

/// When what was written is put on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// With every transaction, before anything of it is acknowledged.
    Always,
    /// So often. A crash of the machine can lose what was acknowledged since.
    Interval(Duration),
    /// When the node stops. A crash can lose what was acknowledged since the start.
    Never,
}

/// Where the store is and how careful it is.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    pub directory: PathBuf,
    pub node: u16,
    pub sync: Sync,
    /// Bytes of the latest entries that are handed over when the store is opened, all origins together.
    pub max_tail_bytes: usize,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the data directory {} is in use by {holder}; stop that first, or set CLIQUE_DATA to another directory", directory.display())]
    InUse { directory: PathBuf, holder: String },
    #[error(
        "the data directory {} was written by a newer version of clique (format {format}, this one knows up to {known}); \
         run that version, or set CLIQUE_DATA to another directory",
        directory.display()
    )]
    Newer { directory: PathBuf, format: u64, known: u64 },
    #[error(
        "the data directory {} belongs to node {node}, and this is node {wanted}; set CLIQUE_DATA to this node's own \
         directory, or CLIQUE_INDEX to {node}",
        directory.display()
    )]
    OtherNode { directory: PathBuf, node: u64, wanted: u16 },
    #[error(
        "the data directory {} cannot be used: {reason}; see that it exists, is writable for this user and has room, or \
         set CLIQUE_DATA to another (:memory: keeps nothing)",
        directory.display()
    )]
    Unusable { directory: PathBuf, reason: String },
    #[error(
        "the disk with the data directory {} is full; make room there, or set CLIQUE_DATA to another (:memory: keeps nothing)",
        directory.display()
    )]
    Full { directory: PathBuf },
    #[error(
        "there is no log of a node in {}; name the directory of one node, such as clique-data/node-0",
        directory.display()
    )]
    Nothing { directory: PathBuf },
    #[error("the database in {} is damaged: {reason}; a node that starts there sets it aside and gets everything from its peers", directory.display())]
    Damaged { directory: PathBuf, reason: String },
}

impl StoreError {
    fn unusable(directory: &Path, reason: &impl fmt::Display) -> Self {
        Self::Unusable { directory: directory.to_owned(), reason: reason.to_string() }
    }
}

/// What went wrong inside the database.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("{0}")]
    Database(Box<redb::Error>),
    #[error("the database failed inside: {0}")]
    Panicked(String),
}

impl Trouble {
    fn is_full(&self) -> bool {
        let full = |error: &io::Error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        matches!(self, Self::Database(error) if matches!(&**error, redb::Error::Io(error) if full(error)))
    }

    /// Whether the file is not what the database once wrote, in contrast to a disk that is full or away.
    fn is_damage(&self) -> bool {
        use redb::Error;
        match self {
            Self::Panicked(_) => true,
            Self::Database(error) => match &**error {
                Error::Io(error) => matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof),
                Error::Corrupted(_)
                | Error::TableTypeMismatch { .. }
                | Error::TableIsMultimap(_)
                | Error::TableIsNotMultimap(_)
                | Error::TypeDefinitionChanged { .. }
                | Error::LockPoisoned(_)
                | Error::RepairAborted => true,
                _ => false,
            },
        }
    }
}

macro_rules! trouble_from {
    ($($error:ty),*) => {
        $(impl From<$error> for Trouble {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        })*
    };
}
trouble_from!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError
);

/// Runs something of the database's; a panic in it, which damaged pages can cause, is an error like others.
fn guarded<T, E: From<Trouble>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Trouble::Panicked(text_of(&*panic)).into()))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "for no reason given".to_owned())
}

/// A store that has been opened and read through.
pub struct Store {
    node: u16,
    directory: PathBuf,
    sync: Sync,
    /// `None` while it cannot be opened.
    database: Arc<RwLock<Option<Database>>>,
    medium: Arc<dyn Medium>,
    packs: Arc<Packs>,
    journal: Journal,
    origins: Origins,
    claim: Claim,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// What a start finds.
#[derive(Debug)]
pub struct Opened<T> {
    pub store: Store,
    /// What the entries were shown to.
    pub state: T,
    pub recovered: Vec<Recovered>,
}

impl Store {
    /// Opens a directory, or makes it, and reads it through. The node begins a new life there: `begin` is told its
    /// incarnation, later than any before, and `visit` is shown every kept and undamaged chunk once, origin after origin
    /// and in the order of numbers. If the database turns out to be damaged as a whole, it is set aside, and `begin`
    /// is called anew.
    ///
    /// # Errors
    /// If the directory is in use, not this node's, of a newer format, or the disk refuses.
    pub fn open<T>(
        settings: &StoreSettings,
        unix_us: u64,
        begin: impl Fn(u64) -> T,
        visit: impl Fn(&mut T, Origin, &Chunk),
    ) -> Result<Opened<T>, StoreError> {
        Self::open_on(Arc::new(Files::new(&settings.directory)), settings, unix_us, begin, visit)
    }

    /// The same, wherever the database lies.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_on<T>(
        medium: Arc<dyn Medium>,
        settings: &StoreSettings,
        unix_us: u64,
        begin: impl Fn(u64) -> T,
        visit: impl Fn(&mut T, Origin, &Chunk),
    ) -> Result<Opened<T>, StoreError> {
        let directory = &settings.directory;
        let claim = medium.claim()?;
        let is_new = medium.is_new();
        let mut is_second_try = false;
        loop {
            let packs = Arc::new(Packs::new(medium.clone()));
            let trouble = match read_through(&*medium, &packs, settings, unix_us, &begin, &visit) {
                Ok(Read { database, journal, state, scanned }) => {
                    let recovered: Vec<Recovered> = scanned.into_iter().map(|scanned| scanned.recovered).collect();
                    let origins = recovered.iter().map(|found| (found.origin, Stored::recovered(found))).collect();
                    let database = Arc::new(RwLock::new(Some(database)));
                    let (node, directory, sync) = (settings.node, directory.clone(), settings.sync);
                    let store = Self { node, directory, sync, database, medium, packs, journal, origins, claim };
                    return Ok(Opened { store, state, recovered });
                }
                Err(refused) => match refused.explain(directory, settings.node) {
                    Ok(error) => return Err(error),
                    Err(trouble) => trouble,
                },
            };
            if trouble.is_full() {
                if is_new {
                    // Half made, it would be taken for a damaged one.
                    medium.forget();
                }
                return Err(StoreError::Full { directory: directory.clone() });
            }
            if is_second_try || !trouble.is_damage() {
                return Err(StoreError::unusable(directory, &trouble));
            }
            is_second_try = true;
            let aside =
                medium.set_aside(unix_us / 1_000_000).map_err(|error| StoreError::unusable(directory, &error))?;
            tracing::warn!(
                node = settings.node,
                "the database in {} is damaged ({trouble}); it is now {}, and this node gets what was in it from its peers",
                directory.display(),
                aside.display()
            );
        }
    }

    /// Starts the workers: each is given to `drive` with its name. What they have to say goes to `answer`, which does not
    /// wait.
    ///
    /// # Errors
    /// If one cannot be driven.
    pub fn start(
        self,
        drive: impl Fn(&'static str, Work) -> io::Result<()>,
        answer: impl Fn(FromStore) + Send + std::marker::Sync + 'static,
    ) -> io::Result<(StoreHandle, StoreWorkers)> {
        workers::start(self, drive, Arc::new(answer))
    }
}

/// A database that could be read to its end.
struct Read<T> {
    database: Database,
    journal: Journal,
    state: T,
    scanned: Vec<Scanned>,
}

fn read_through<T>(
    medium: &dyn Medium,
    packs: &Packs,
    settings: &StoreSettings,
    unix_us: u64,
    begin: &impl Fn(u64) -> T,
    visit: &impl Fn(&mut T, Origin, &Chunk),
) -> Result<Read<T>, Refused> {
    let (database, file, latest, latest_generation) = guarded(|| -> Result<_, Refused> {
        let database = medium.open()?;
        let owner = format::prepare(&database, Some(settings.node))?;
        let file = medium.journal()?;
        group::replay(&database, packs, &journal::read(&contents(&*file)?, owner.journal))?;
        let own = scan::origins(&begin_read(&database)?)?.into_iter().filter(|origin| origin.node == settings.node);
        let latest = own.map(|origin| origin.incarnation).fold(owner.incarnation, u64::max);
        Ok((database, file, latest, owner.journal))
    })?;
    let incarnation = unix_us.max(latest.saturating_add(1));
    // Later than all that it had before.
    let generation = incarnation.max(latest_generation.saturating_add(2));
    let mut state = begin(incarnation);
    // A panic of whoever is shown the entries is not the database's.
    let transaction = guarded(|| begin_read(&database))?;
    let show = |origin, chunk: &Chunk| visit(&mut state, origin, chunk);
    let (scanned, usages) = scan::scan(&transaction, packs, settings.max_tail_bytes, show)?;
    drop(transaction);
    guarded(|| -> Result<(), Trouble> {
        let transaction = begin_write(&database, true)?;
        format::note_incarnation(&transaction, incarnation)?;
        format::note_journal(&transaction, generation)?;
        packs::note(&transaction, &usages)?;
        for found in &scanned {
            write_lost(&transaction, found)?;
        }
        Ok(transaction.commit()?)
    })?;
    scanned.iter().for_each(|found| report(settings, found));
    let refused = |error: io::Error| Trouble::from(redb::StorageError::from(error));
    packs.remove_unknown(&usages).map_err(refused)?;
    let journal = Journal::begin(file, medium.sizes().journal_half_bytes, generation).map_err(refused)?;
    Ok(Read { database, journal, state, scanned })
}

fn contents(file: &dyn StorageBackend) -> Result<Vec<u8>, Trouble> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read(0, &mut bytes)?;
        Ok(bytes)
    };
    Ok(read().map_err(redb::StorageError::from)?)
}

/// Writes what can be told from the entries and is not there any more.
fn write_lost(transaction: &redb::WriteTransaction, found: &Scanned) -> Result<(), Trouble> {
    let Recovered { origin, first, height, chain, .. } = &found.recovered;
    if !found.unwritten.is_empty() {
        let mut boundaries = transaction.open_table(BOUNDARIES)?;
        for (number, hash) in &found.unwritten {
            boundaries.insert(key(*origin, *number), &sealed_boundary(*origin, *number, hash)[..])?;
        }
    }
    if found.is_record_lost {
        let cut_hash = chain.hash_at(first - 1).unwrap_or(EMPTY);
        let record = Record { first: *first, height: *height, cut_hash };
        let mut records = transaction.open_table(ORIGINS)?;
        records.insert((origin.node, origin.incarnation), &record.sealed(*origin)[..])?;
    }
    Ok(())
}

fn report(settings: &StoreSettings, found: &Scanned) {
    for (first, last) in &found.recovered.damaged {
        tracing::warn!(
            node = settings.node,
            "entries {first} to {last} of {} are damaged on this node's disk; peers are asked for them",
            found.recovered.origin
        );
    }
}

#[cfg(test)]
mod tests;
