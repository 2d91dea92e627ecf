//! A directory on a disk that may be full, and on which it is known what was not synced.

use std::{
    fs::OpenOptions,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use redb::{Builder, StorageBackend, backends::FileBackend};

use super::{medium::Sizes, *};

/// A file that may be so many bytes long, and whether any of it has been written and not synced.
#[derive(Debug)]
pub struct Full {
    pub file: Box<dyn StorageBackend>,
    pub room_bytes: Arc<AtomicU64>,
    pub has_unsynced: Arc<AtomicBool>,
}

fn no_space() -> io::Error {
    // The system's own error, as it would come from the disk.
    io::Error::from_raw_os_error(28)
}

impl StorageBackend for Full {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let has_room = len <= self.room_bytes.load(Ordering::Relaxed).max(self.file.len()?);
        if has_room { self.file.set_len(len) } else { Err(no_space()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.has_unsynced.store(false, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.has_unsynced.store(true, Ordering::Relaxed);
        // As much as fits is written all the same.
        let end = (offset + data.len() as u64).min(self.room_bytes.load(Ordering::Relaxed).max(self.file.len()?));
        let fits = usize::try_from(end.saturating_sub(offset)).unwrap();
        self.file.write(offset, &data[..fits])?;
        if fits == data.len() { Ok(()) } else { Err(no_space()) }
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// A directory on such a disk.
pub struct Watched {
    files: Files,
    path: PathBuf,
    pub room_bytes: Arc<AtomicU64>,
    sizes: Sizes,
    /// Of its packs.
    has_unsynced: Arc<AtomicBool>,
}

impl Watched {
    /// With packs of so many bytes, of rows of so many bytes, and room enough.
    pub fn with_packs(folder: &Path, packed_row_bytes: usize, pack_bytes: u64) -> Arc<Self> {
        Self::of(folder, u64::MAX, Sizes { packed_row_bytes, pack_bytes, journal_half_bytes: 2 << 20 })
    }

    pub fn of(folder: &Path, room_bytes: u64, sizes: Sizes) -> Arc<Self> {
        let (files, path) = (Files::new(folder), lock::database_path(folder));
        Arc::new(Self {
            files,
            path,
            room_bytes: Arc::new(AtomicU64::new(room_bytes)),
            sizes,
            has_unsynced: Arc::default(),
        })
    }

    /// Whether something in packs has not been synced.
    pub fn has_unsynced_packs(&self) -> bool {
        self.has_unsynced.load(Ordering::Relaxed)
    }
}

impl Medium for Watched {
    fn claim(&self) -> Result<Claim, StoreError> {
        self.files.claim()
    }

    fn is_new(&self) -> bool {
        self.files.is_new()
    }

    fn open(&self) -> Result<Database, Trouble> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path);
        let file = Box::new(FileBackend::new(file.map_err(redb::StorageError::from)?)?);
        let (room_bytes, has_unsynced) = (self.room_bytes.clone(), Arc::default());
        Ok(Builder::new().create_with_backend(Full { file, room_bytes, has_unsynced })?)
    }

    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn packs(&self) -> io::Result<Vec<u64>> {
        self.files.packs()
    }

    fn pack(&self, number: u64) -> io::Result<Box<dyn StorageBackend>> {
        let (room_bytes, has_unsynced) = (self.room_bytes.clone(), self.has_unsynced.clone());
        Ok(Box::new(Full { file: self.files.pack(number)?, room_bytes, has_unsynced }))
    }

    fn read_pack(&self, number: u64) -> io::Result<Box<dyn StorageBackend>> {
        self.files.read_pack(number)
    }

    fn remove_pack(&self, number: u64) -> io::Result<()> {
        self.files.remove_pack(number)
    }

    fn journal(&self) -> Result<Box<dyn StorageBackend>, Trouble> {
        self.files.journal()
    }

    fn forget(&self) {
        self.files.forget();
    }

    fn set_aside(&self, unix_s: u64) -> io::Result<PathBuf> {
        self.files.set_aside(unix_s)
    }
}
