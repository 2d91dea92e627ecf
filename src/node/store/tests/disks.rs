//! Disks that are full, for a while.

use std::{
    fs::OpenOptions,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use redb::{Builder, StorageBackend, backends::FileBackend};

use super::*;

/// A file that may be so many bytes long.
#[derive(Debug)]
struct Full {
    file: FileBackend,
    room_bytes: Arc<AtomicU64>,
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
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// A directory on such a disk.
struct FullMedium {
    files: Files,
    path: PathBuf,
    room_bytes: Arc<AtomicU64>,
}

impl Medium for FullMedium {
    fn claim(&self) -> Result<Claim, StoreError> {
        self.files.claim()
    }

    fn is_new(&self) -> bool {
        self.files.is_new()
    }

    fn open(&self) -> Result<Database, Trouble> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path);
        let file = FileBackend::new(file.map_err(redb::StorageError::from)?)?;
        Ok(Builder::new().create_with_backend(Full { file, room_bytes: self.room_bytes.clone() })?)
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

fn fill_up(store: &mut Running, mut next: u64) -> (u64, String) {
    loop {
        store.append(ORIGIN, &chunk(next, 100, 0, 400));
        next += 100;
        match store.next() {
            FromStore::Synced { .. } => {}
            FromStore::Unwritable { reason } => return (next, reason),
            other => panic!("{other:?}"),
        }
    }
}

fn hold_out(mut store: Running, is_synced: bool, make_room: impl FnOnce()) {
    let (next, reason) = fill_up(&mut store, 1);
    assert!(reason.contains("nothing can be written to") && reason.contains("os error 28"), "{reason}");
    // Reading what is on the disk goes on, and what comes in meanwhile is not forgotten.
    assert!(!is_synced || store.read(ORIGIN, 1, 10).0.unwrap().first == 1);
    store.append(ORIGIN, &chunk(next, 100, 0, 400));
    assert!(!is_synced || store.read(ORIGIN, 50, 10).0.unwrap().first == 50);
    make_room();
    // What the journal takes meanwhile is synced.
    let word = std::iter::repeat_with(|| store.next()).find(|word| !matches!(word, FromStore::Synced { .. }));
    assert!(matches!(word, Some(FromStore::Writable)), "{word:?}");
    store.wait_synced();
    assert_eq!(store.read(ORIGIN, next + 99, 10).0.unwrap().last(), next + 99);
    store.close();
}

fn on_full_disk(sync: Sync) {
    let folder = tempfile::tempdir().unwrap();
    let room_bytes = Arc::new(AtomicU64::new(3 << 20));
    let medium = Arc::new(FullMedium {
        files: Files::new(folder.path()),
        path: lock::database_path(folder.path()),
        room_bytes: room_bytes.clone(),
    });
    let settings = settings(folder.path(), sync);
    let begin = |incarnation| (incarnation, Vec::new());
    let opened = Store::open_on(medium, &settings, 1, begin, |shown: &mut Shown, origin, chunk| {
        shown.1.push((origin, chunk.clone()));
    });
    hold_out(Running::started(opened.unwrap()), sync == Sync::Always, || room_bytes.store(1 << 30, Ordering::Relaxed));
    let store = Running::open(folder.path());
    let recovered = store.of_origin(ORIGIN);
    assert!(recovered.damaged.is_empty());
    let whole = whole_chain(&[chunk(1, recovered.height, 0, 400)]);
    assert_eq!(recovered.chain.hash(), whole.hash());
    store.close();
}

#[test]
fn a_full_disk_is_said_and_written_to_again_when_there_is_room() {
    on_full_disk(Sync::Always);
}

#[test]
fn what_was_not_yet_synced_when_the_disk_was_full_is_written_again() {
    on_full_disk(Sync::Interval(Duration::from_millis(5)));
    on_full_disk(Sync::Never);
}

/// A real full disk, where this user may mount one.
#[test]
fn a_real_full_disk_is_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        let status = Command::new(arguments[0]).args(&arguments[1..]).arg(folder.path()).status();
        status.is_ok_and(|status| status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=40m,mode=0700", "tmpfs"]) {
        println!("skipped: nothing can be mounted here");
        return;
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let ballast = folder.path().join("ballast");
        fs::write(&ballast, vec![0; 28 << 20]).unwrap();
        hold_out(Running::open(&folder.path().join("data")), true, || fs::remove_file(ballast).unwrap());
    }));
    assert!(mount(&["umount"]));
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}
