//! A node's disk: it outlives the node's lives, takes its time to sync, is full at times, and a power cut takes from it
//! what was not synced, whole or in part.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use clique::node::store::{
    Medium, StoreError, Trouble,
    medium::{CACHE_BYTES, Claim, Sizes},
};
use redb::{Builder, Database, StorageBackend};

use crate::{dice::Dice, faults::Fault, world::now_ms};

/// A sync takes at most so long.
const MAX_SYNC_MS: u64 = 40;
/// What a power cut leaves of a write ends at a multiple of this.
const SECTOR_BYTES: usize = 512;

/// A file of a node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Database,
    Journal,
    Pack(u64),
}

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
    files: BTreeMap<Name, Contents>,
    /// What was done since, in order, and to which file.
    done: Vec<(Name, Done)>,
    /// Until then it works on what it was last told to sync.
    busy_until_ms: u64,
    /// Of the node's present process: what a former one still wants is not done.
    life: u64,
    is_full: bool,
}

impl State {
    /// What has been synced by now is safe.
    fn settle(&mut self, now_ms: u64) {
        let is_synced = self.synced(now_ms);
        for (index, (file, done)) in std::mem::take(&mut self.done).into_iter().enumerate() {
            if is_synced(file, index) {
                done.apply(&mut self.files.entry(file).or_default().safe);
            } else {
                self.done.push((file, done));
            }
        }
    }

    /// Whether what was done to a file, by its place among all that was done, has been synced by then.
    fn synced(&self, by_ms: u64) -> impl Fn(Name, usize) -> bool + use<> {
        let is_sync = |done: &Done| matches!(done, Done::Sync { until_ms } if *until_ms <= by_ms);
        let syncs = self.done.iter().enumerate().filter(|(_, (_, done))| is_sync(done));
        let last: BTreeMap<Name, usize> = syncs.map(|(index, (file, _))| (*file, index)).collect();
        move |file, index| last.get(&file).is_some_and(|last| index <= *last)
    }

    fn crash(&mut self, is_power_cut: bool, now_ms: u64) {
        self.settle(now_ms);
        self.life += 1;
        let is_busy = now_ms < self.busy_until_ms;
        let count = if is_busy { self.dice.below(self.done.len() as u64 + 1) } else { self.done.len() as u64 };
        self.done.truncate(usize::try_from(count).unwrap());
        let is_synced = self.synced(u64::MAX);
        for (index, (file, done)) in std::mem::take(&mut self.done).into_iter().enumerate() {
            // The system has the rest, and goes on writing it, unless there is no power.
            let fate = if is_synced(file, index) || !is_power_cut { 0 } else { self.dice.below(3) };
            let safe = &mut self.files.entry(file).or_default().safe;
            match (fate, &done) {
                (0, _) => done.apply(safe),
                (1, Done::Write(offset, bytes)) => {
                    let sectors = self.dice.below((bytes.len() / SECTOR_BYTES) as u64 + 1);
                    let kept = usize::try_from(sectors).unwrap() * SECTOR_BYTES;
                    put(safe, *offset, &bytes[..kept]);
                }
                _ => {}
            }
        }
        self.files.values_mut().for_each(|file| file.image.clone_from(&file.safe));
        self.busy_until_ms = 0;
    }
}

/// See the module's head.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    pub fn new(seed: u64, fault: Option<Fault>) -> Self {
        let (dice, files, done) = (Dice::new(seed), BTreeMap::new(), Vec::new());
        Self(Arc::new(Mutex::new(State { dice, fault, files, done, busy_until_ms: 0, life: 0, is_full: false })))
    }

    fn file(&self, name: Name) -> File {
        let mut state = self.state();
        state.files.entry(name).or_default();
        File { name, life: state.life, disk: self.clone() }
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
        self.state().files.get(&Name::Database).is_none_or(|file| file.image.is_empty())
    }

    fn open(&self) -> Result<Database, Trouble> {
        Ok(Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(self.file(Name::Database))?)
    }

    fn journal(&self) -> Result<Box<dyn StorageBackend>, Trouble> {
        Ok(Box::new(self.file(Name::Journal)))
    }

    /// So that even little is divided.
    fn sizes(&self) -> Sizes {
        Sizes { packed_row_bytes: 200, pack_bytes: 40_000, journal_half_bytes: 1 << 20 }
    }

    fn packs(&self) -> io::Result<Vec<u64>> {
        let state = self.state();
        Ok(state
            .files
            .keys()
            .filter_map(|name| if let Name::Pack(number) = name { Some(*number) } else { None })
            .collect())
    }

    fn pack(&self, number: u64) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.file(Name::Pack(number))))
    }

    fn read_pack(&self, number: u64) -> io::Result<Box<dyn StorageBackend>> {
        if !self.state().files.contains_key(&Name::Pack(number)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.pack(number)
    }

    /// What is removed is gone at once, whatever was synced since.
    fn remove_pack(&self, number: u64) -> io::Result<()> {
        let mut state = self.state();
        state.files.remove(&Name::Pack(number));
        state.done.retain(|(name, _)| *name != Name::Pack(number));
        Ok(())
    }

    fn forget(&self) {
        let mut state = self.state();
        state.done.push((Name::Database, Done::SetLength(0)));
        state.files.entry(Name::Database).or_default().image.clear();
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
    name: Name,
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

    fn image<'a>(&self, state: &'a mut State) -> &'a mut Vec<u8> {
        &mut state.files.entry(self.name).or_default().image
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
        Ok(self.image(&mut *self.state()?).len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state()?;
        let bytes = self.image(&mut state).get(place(offset)..place(offset) + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state()?;
        if state.is_full && place(length) > self.image(&mut state).len() {
            return Err(no_space());
        }
        self.image(&mut state).resize(place(length), 0);
        state.done.push((self.name, Done::SetLength(place(length))));
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
        state.done.push((self.name, Done::Sync { until_ms }));
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        // Without room nothing new is taken, wherever it belongs: as on a disk that copies on write.
        if state.is_full {
            return Err(no_space());
        }
        put(self.image(&mut state), place(offset), bytes);
        state.done.push((self.name, Done::Write(place(offset), bytes.to_vec())));
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        Ok(())
    }
}
