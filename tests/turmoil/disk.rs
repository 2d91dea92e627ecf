//! A node's disk: it outlives the node's lives, takes its time to sync, is full at times, and a power cut takes from it
//! what was not synced, whole or in part.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use clique::node::store::{
    Medium, StoreError, Trouble,
    medium::{CACHE_BYTES, Claim},
};
use redb::{Builder, Database, StorageBackend};

use crate::{dice::Dice, faults::Fault, world::now_ms};

/// A sync takes at most so long.
const MAX_SYNC_MS: u64 = 40;
/// What a power cut leaves of a write ends at a multiple of this.
const SECTOR_BYTES: usize = 512;

/// The database's file, and the journal's.
const DATABASE: usize = 0;
const JOURNAL: usize = 1;

/// Something that was done to a file.
#[derive(Debug)]
enum Done {
    Write(usize, Vec<u8>),
    SetLength(usize),
    /// Done by then.
    Sync {
        until_ms: u64,
    },
}

impl Done {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => put(image, *offset, bytes),
            Self::SetLength(length) => image.resize(*length, 0),
            Self::Sync { .. } => {}
        }
    }
}

fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if image.len() < offset + bytes.len() {
        image.resize(offset + bytes.len(), 0);
    }
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

#[derive(Default)]
struct Contents {
    /// What no crash takes.
    safe: Vec<u8>,
    /// As the node sees it.
    image: Vec<u8>,
}

struct State {
    dice: Dice,
    fault: Option<Fault>,
    files: [Contents; 2],
    /// What was done since, in order, and to which file.
    done: Vec<(usize, Done)>,
    /// Until then it works on what it was last told to sync.
    busy_until_ms: u64,
    /// Of the node's present process: what a former one still wants is not done.
    life: u64,
    is_full: bool,
}

impl State {
    /// What has been synced by now is safe.
    fn settle(&mut self, now_ms: u64) {
        let synced = self.synced(now_ms);
        for (index, (file, done)) in std::mem::take(&mut self.done).into_iter().enumerate() {
            if index < synced[file] {
                done.apply(&mut self.files[file].safe);
            } else {
                self.done.push((file, done));
            }
        }
    }

    /// Of each file, how much of what was done to any has been synced by then.
    fn synced(&self, by_ms: u64) -> [usize; 2] {
        [DATABASE, JOURNAL].map(|of| {
            let is_sync = |(file, done): &(usize, Done)| {
                *file == of && matches!(done, Done::Sync { until_ms } if *until_ms <= by_ms)
            };
            self.done.iter().rposition(is_sync).map_or(0, |last| last + 1)
        })
    }

    fn crash(&mut self, is_power_cut: bool, now_ms: u64) {
        self.settle(now_ms);
        self.life += 1;
        let is_busy = now_ms < self.busy_until_ms;
        let count = if is_busy { self.dice.below(self.done.len() as u64 + 1) } else { self.done.len() as u64 };
        self.done.truncate(usize::try_from(count).unwrap());
        let synced = self.synced(u64::MAX);
        for (index, (file, done)) in std::mem::take(&mut self.done).into_iter().enumerate() {
            // The system has the rest, and goes on writing it, unless there is no power.
            let fate = if index < synced[file] || !is_power_cut { 0 } else { self.dice.below(3) };
            match (fate, &done) {
                (0, _) => done.apply(&mut self.files[file].safe),
                (1, Done::Write(offset, bytes)) => {
                    let sectors = self.dice.below((bytes.len() / SECTOR_BYTES) as u64 + 1);
                    let kept = usize::try_from(sectors).unwrap() * SECTOR_BYTES;
                    put(&mut self.files[file].safe, *offset, &bytes[..kept]);
                }
                _ => {}
            }
        }
        self.files.iter_mut().for_each(|file| file.image.clone_from(&file.safe));
        self.busy_until_ms = 0;
    }
}

/// See the module's head.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    pub fn new(seed: u64, fault: Option<Fault>) -> Self {
        let (dice, files, done) = (Dice::new(seed), Default::default(), Vec::new());
        Self(Arc::new(Mutex::new(State { dice, fault, files, done, busy_until_ms: 0, life: 0, is_full: false })))
    }

    fn file(&self, file: usize) -> File {
        File { file, life: self.state().life, disk: self.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Before the node's process ends: only that, or its machine has no power any more.
    pub fn crash(&self, is_power_cut: bool, now_ms: u64) {
        self.state().crash(is_power_cut, now_ms);
    }

    pub fn set_full(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    pub fn is_full(&self) -> bool {
        self.state().is_full
    }
}

impl Medium for SimDisk {
    fn claim(&self) -> Result<Claim, StoreError> {
        Ok(Box::new(()))
    }

    fn is_new(&self) -> bool {
        self.state().files[DATABASE].image.is_empty()
    }

    fn open(&self) -> Result<Database, Trouble> {
        Ok(Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(self.file(DATABASE))?)
    }

    fn journal(&self) -> Result<Box<dyn StorageBackend>, Trouble> {
        Ok(Box::new(self.file(JOURNAL)))
    }

    fn forget(&self) {
        let mut state = self.state();
        state.done.push((DATABASE, Done::SetLength(0)));
        state.files[DATABASE].image.clear();
    }

    fn set_aside(&self, _: u64) -> io::Result<PathBuf> {
        self.forget();
        Ok(PathBuf::from("aside"))
    }

    fn is_busy_for(&self) -> Duration {
        Duration::from_millis(self.state().busy_until_ms.saturating_sub(now_ms()))
    }
}

/// A file, as one process has opened it.
struct File {
    file: usize,
    life: u64,
    disk: SimDisk,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("life", &self.life).finish_non_exhaustive()
    }
}

impl File {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        // When the run is over, what is still open is dropped without a simulation around it.
        let is_alive = state.life == self.life && turmoil::sim_elapsed().is_some();
        if is_alive { Ok(state) } else { Err(io::Error::other("this process has died")) }
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

/// The system's own error, as it would come from the disk.
fn no_space() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl StorageBackend for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.files[self.file].image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        let bytes = state.files[self.file].image.get(place(offset)..place(offset) + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state()?;
        if state.is_full && place(length) > state.files[self.file].image.len() {
            return Err(no_space());
        }
        state.files[self.file].image.resize(place(length), 0);
        state.done.push((self.file, Done::SetLength(place(length))));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let now_ms = now_ms();
        if state.fault == Some(Fault::SkipSync) {
            return Ok(());
        }
        state.settle(now_ms);
        state.busy_until_ms = state.busy_until_ms.max(now_ms) + state.dice.between(1, MAX_SYNC_MS);
        let until_ms = state.busy_until_ms;
        state.done.push((self.file, Done::Sync { until_ms }));
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        // Without room nothing new is taken, wherever it belongs: as on a disk that copies on write.
        if state.is_full {
            return Err(no_space());
        }
        put(&mut state.files[self.file].image, place(offset), bytes);
        state.done.push((self.file, Done::Write(place(offset), bytes.to_vec())));
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        Ok(())
    }
}
