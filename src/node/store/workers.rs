//! The two threads of the store: one that writes and one that reads.

mod writing;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle, Thread},
    time::Duration,
};

use parking_lot::RwLock;
use redb::Database;

use self::writing::Writer;
use super::{
    Store, Trouble, guarded,
    lock::Lock,
    reader::{self, Found},
};
use crate::{
    clique::{
        Chunk, Origin,
        chain::{SEGMENT_ENTRIES, boundary_before},
    },
    node::hub::{FromStore, ToStore},
};

/// What may wait to be written, in bytes of entries. Beyond it the store counts as unwritable until half is left.
pub const MAX_QUEUED_BYTES: usize = 128 << 20;
/// What an item costs besides its entries, in bytes, so that many small ones are bounded too.
const ITEM_BYTES: usize = 256;
/// A read that fails is tried so often: the writer opens the database again meanwhile.
const MAX_READS: u32 = 40;
/// Between two of these tries.
const READ_PAUSE: Duration = Duration::from_millis(50);

type Answer = Arc<dyn Fn(FromStore) + Send + Sync>;
/// `None` while it cannot be opened.
type Shared = Arc<RwLock<Option<Database>>>;

enum Job {
    Do(ToStore),
    /// A read has failed: if the database refuses to go on, it has to be opened again.
    Check,
    Close,
}

fn cost_bytes(item: &ToStore) -> usize {
    let chunk = |chunk: &Chunk| chunk.bytes.len() + ITEM_BYTES;
    match item {
        ToStore::Entries { chunk: entries, .. } | ToStore::Repair { chunk: entries, .. } => chunk(entries),
        ToStore::Cut { .. } | ToStore::Rehash { .. } | ToStore::Read { .. } => ITEM_BYTES,
    }
}

/// Whether somebody waits for something to be on the disk here: senders do for what this node accepted.
fn is_awaited(item: &ToStore, node: u16) -> bool {
    !matches!(item, ToStore::Entries { origin, .. } if origin.node != node)
}

/// How the router talks to the store. Never waits.
#[derive(Clone)]
pub struct StoreHandle {
    writes: Sender<Job>,
    reads: Sender<Job>,
    queued_bytes: Arc<AtomicUsize>,
    /// Whose entries are waited for: those of this node.
    node: u16,
    writer: Thread,
}

impl fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreHandle").field("queued_bytes", &self.queued_bytes).finish_non_exhaustive()
    }
}

impl StoreHandle {
    /// Has something done. After the store was closed it is as if the disk never answered.
    pub fn say(&self, item: ToStore) {
        let queue = match &item {
            ToStore::Read { .. } => &self.reads,
            _ => {
                self.queued_bytes.fetch_add(cost_bytes(&item), Ordering::Relaxed);
                &self.writes
            }
        };
        let is_awaited = is_awaited(&item, self.node);
        // An error means that the store is closed.
        let _ = queue.send(Job::Do(item));
        if is_awaited {
            self.writer.unpark();
        }
    }
}

/// The threads of a store, to be closed by whoever started them.
#[derive(Debug)]
pub struct StoreThreads {
    handle: StoreHandle,
    is_closing: Arc<AtomicBool>,
    writer: JoinHandle<()>,
    reader: JoinHandle<()>,
}

impl StoreThreads {
    /// Writes and syncs all that was said, closes the database, and lets the directory go. Waits for that: as long as
    /// the disk takes, or, where it cannot be written to, for one more try.
    pub fn close(self) {
        self.is_closing.store(true, Ordering::Release);
        for queue in [&self.handle.reads, &self.handle.writes] {
            let _ = queue.send(Job::Close);
        }
        self.writer.thread().unpark();
        // A thread that has panicked has said so itself.
        let _ = self.reader.join();
        let _ = self.writer.join();
    }
}

/// Starts both threads of a store.
pub fn start(store: Store, answer: Answer) -> io::Result<(StoreHandle, StoreThreads)> {
    let (writes, write_jobs) = channel();
    let (reads, read_jobs) = channel();
    let (queued_bytes, is_closing) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let node = store.node;
    let database = store.database.clone();
    let lock = store.lock;
    let writer = Writer::new(
        Target { node, directory: store.directory, sync: store.sync, database: store.database, open: store.open },
        store.origins,
        answer.clone(),
        queued_bytes.clone(),
        is_closing.clone(),
    );
    let writer = spawn("store-write", move || {
        let _lock: Lock = lock;
        writer.run(&write_jobs);
    })?;
    let thread = writer.thread().clone();
    let handle = StoreHandle { writes: writes.clone(), reads, queued_bytes, node, writer: thread.clone() };
    let reader = Reader { database, answer, writer: thread, check: writes, is_closing: is_closing.clone() };
    let reader = spawn("store-read", move || reader.run(&read_jobs))?;
    Ok((handle.clone(), StoreThreads { handle, is_closing, writer, reader }))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// What is written to.
struct Target {
    node: u16,
    directory: PathBuf,
    sync: super::Sync,
    database: Shared,
    open: super::OpenDatabase,
}

struct Reader {
    database: Shared,
    answer: Answer,
    writer: Thread,
    check: Sender<Job>,
    is_closing: Arc<AtomicBool>,
}

impl Reader {
    fn run(self, jobs: &Receiver<Job>) {
        while let Ok(Job::Do(item)) = jobs.recv() {
            if let ToStore::Read { id, origin, from, max_bytes } = item {
                let chunk = match self.read(origin, from, max_bytes) {
                    Found::Chunk(chunk) => Some(chunk),
                    Found::Nothing => None,
                    Found::Damaged(first, last) => {
                        tracing::warn!("entries {first} to {last} of {origin} cannot be read back from the disk");
                        (self.answer)(FromStore::Damaged { origin, first, last });
                        None
                    }
                };
                (self.answer)(FromStore::Read { id, chunk });
            }
        }
    }

    fn read(&self, origin: Origin, from: u64, max_bytes: usize) -> Found {
        for _ in 0..MAX_READS {
            let found = self.database.read().as_ref().map(|database| {
                guarded(|| -> Result<Found, Trouble> { reader::read(database, origin, from, max_bytes) })
            });
            match found {
                Some(Ok(found)) => return found,
                Some(Err(trouble)) if trouble.is_damage() => {
                    tracing::warn!("the database is damaged: {trouble}");
                    break;
                }
                _ if self.is_closing.load(Ordering::Acquire) => return Found::Nothing,
                _ => {
                    let _ = self.check.send(Job::Check);
                    self.writer.unpark();
                    thread::sleep(READ_PAUSE);
                }
            }
        }
        // How far the damage goes is not known; the rest of its segment is had from a peer at least.
        Found::Damaged(from, boundary_before(from - 1) + SEGMENT_ENTRIES)
    }
}
