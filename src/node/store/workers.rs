//! The workers of the store: one that writes to the database, one that reads, and, where everything is synced before it
//! is acknowledged, one that journals.
//!
//! Each is a future, which the world drives: on a thread of its own, or, in the simulation, as a task on simulated time.

mod journaling;
mod writing;

use std::{
    fmt, io,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::RwLock;
use redb::Database;
use tokio::{
    sync::{
        Notify,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{journaling::Journaler, writing::Writer};
use super::{
    Store, Trouble,
    ahead::{Ahead, is_awaited},
    guarded,
    medium::Medium,
    packs::{PackWriter, Packs},
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
/// So much is put into the database without waiting for more; what is not journaled waits for the next transaction beyond it.
const ENOUGH_BYTES: usize = 32 << 20;
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

/// What was said, taken to be done together.
#[derive(Default)]
struct Taken {
    items: Vec<ToStore>,
    bytes: usize,
    must_check: bool,
    is_over: bool,
}

impl Taken {
    /// Takes a job, and what waits behind it, up to so many bytes, about.
    fn take(&mut self, first: Option<Job>, max_bytes: usize, jobs: &mut UnboundedReceiver<Job>) {
        let mut next = first;
        while let Some(job) = next {
            match job {
                Job::Do(item) => {
                    self.bytes += cost_bytes(&item);
                    self.items.push(item);
                }
                Job::Check => self.must_check = true,
                Job::Close => self.is_over = true,
            }
            next = if self.bytes < max_bytes && !self.is_over { jobs.try_recv().ok() } else { None };
        }
    }
}

/// Until the disk has done what it has taken.
async fn settle(medium: &dyn Medium) {
    let busy = medium.is_busy_for();
    if !busy.is_zero() {
        sleep(busy).await;
    }
}

fn cost_bytes(item: &ToStore) -> usize {
    let chunk = |chunk: &Chunk| chunk.bytes.len() + ITEM_BYTES;
    match item {
        ToStore::Entries { chunk: entries, .. } | ToStore::Repair { chunk: entries, .. } => chunk(entries),
        ToStore::Cut { .. } | ToStore::Rehash { .. } | ToStore::Read { .. } => ITEM_BYTES,
    }
}

/// How the router talks to the store. Never waits.
#[derive(Clone)]
pub struct StoreHandle {
    writes: UnboundedSender<Job>,
    reads: UnboundedSender<Job>,
    queued_bytes: Arc<AtomicUsize>,
    /// Whose entries are waited for: those of this node.
    node: u16,
    /// Something that is waited for has been said.
    is_awaited: Arc<Notify>,
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
            self.is_awaited.notify_one();
        }
    }
}

/// The workers of a store, to be closed by whoever started them.
#[derive(Debug)]
pub struct StoreWorkers {
    handle: StoreHandle,
    closing: CancellationToken,
    workers: TaskTracker,
}

impl StoreWorkers {
    /// Writes and syncs all that was said, closes the database, and lets the directory go. Waits for that: as long as
    /// the disk takes, or, where it cannot be written to, for one more try.
    pub async fn close(self) {
        self.closing.cancel();
        for queue in [&self.handle.reads, &self.handle.writes] {
            let _ = queue.send(Job::Close);
        }
        self.handle.is_awaited.notify_one();
        self.workers.close();
        // One that has panicked has said so itself.
        self.workers.wait().await;
    }
}

/// What a worker does until it is closed.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Drives a worker on a thread of its own.
///
/// # Errors
/// If the system gives no thread.
pub fn on_a_thread(name: &str, work: Work) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(work)).map(drop)
}

/// Starts the workers of a store; `drive` is given each with its name.
pub(super) fn start(
    store: Store,
    drive: impl Fn(&'static str, Work) -> io::Result<()>,
    answer: Answer,
) -> io::Result<(StoreHandle, StoreWorkers)> {
    let (writes, said) = unbounded_channel();
    let (reads, read_jobs) = unbounded_channel();
    let (queued_bytes, is_awaited) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (closing, workers) = (CancellationToken::new(), TaskTracker::new());
    let Store { node, directory, sync, database, medium, packs, journal, origins, claim } = store;
    let ahead = Arc::new(Ahead::new(node, journal));
    let handle =
        StoreHandle { writes, reads, queued_bytes: queued_bytes.clone(), node, is_awaited: is_awaited.clone() };
    let waits = Waits { queued_bytes, is_awaited, closing: closing.clone() };
    let (waits, mut write_jobs, check) = if sync == super::Sync::Always {
        // What is said goes to the journal first; the writer hears of what is left to it.
        let (writer, handed_on) = unbounded_channel();
        let is_pressing = Arc::new(Notify::new());
        let for_writer = Waits { is_awaited: is_pressing.clone(), ..waits.clone() };
        let (medium, ahead, answer) = (medium.clone(), ahead.clone(), answer.clone());
        let journaler = Journaler { node, medium, ahead, answer, waits, is_pressing, writer: writer.clone() };
        drive("store-journal", Box::pin(workers.track_future(journaler.run(said))))?;
        (for_writer, handed_on, writer)
    } else {
        (waits, said, handle.writes.clone())
    };
    let reader = Reader {
        database: database.clone(),
        packs: packs.clone(),
        ahead: ahead.clone(),
        answer: answer.clone(),
        check,
        closing: closing.clone(),
    };
    let pack_writer = PackWriter::new(medium.clone());
    let target = Target { node, directory, sync, database, medium, packs };
    let writer = Writer::new(target, pack_writer, ahead, origins, answer, waits);
    let writing = async move {
        let _claim = claim;
        writer.run(&mut write_jobs).await;
    };
    drive("store-write", Box::pin(workers.track_future(writing)))?;
    drive("store-read", Box::pin(workers.track_future(reader.run(read_jobs))))?;
    Ok((handle.clone(), StoreWorkers { handle, closing, workers }))
}

/// What a worker and others tell each other.
#[derive(Clone)]
struct Waits {
    queued_bytes: Arc<AtomicUsize>,
    /// Something that is waited for has been said.
    is_awaited: Arc<Notify>,
    closing: CancellationToken,
}

/// What is written to.
struct Target {
    node: u16,
    directory: PathBuf,
    sync: super::Sync,
    database: Shared,
    medium: Arc<dyn Medium>,
    packs: Arc<Packs>,
}

struct Reader {
    database: Shared,
    packs: Arc<Packs>,
    ahead: Arc<Ahead>,
    answer: Answer,
    check: UnboundedSender<Job>,
    closing: CancellationToken,
}

impl Reader {
    async fn run(self, mut jobs: UnboundedReceiver<Job>) {
        while let Some(Job::Do(item)) = jobs.recv().await {
            if let ToStore::Read { id, origin, from, max_bytes } = item {
                let chunk = match self.read(origin, from, max_bytes).await {
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

    async fn read(&self, origin: Origin, from: u64, max_bytes: usize) -> Found {
        for _ in 0..MAX_READS {
            // What goes from here to the database is there before it is gone here.
            if let Some(chunk) = self.ahead.read(origin, from) {
                return Found::Chunk(reader::upto(chunk, max_bytes));
            }
            // No pack goes while this is locked.
            let found = self.database.read().as_ref().map(|database| {
                guarded(|| -> Result<Found, Trouble> { reader::read(database, &self.packs, origin, from, max_bytes) })
            });
            match found {
                Some(Ok(found)) => return found,
                Some(Err(trouble)) if trouble.is_damage() => {
                    tracing::warn!("the database is damaged: {trouble}");
                    break;
                }
                _ if self.closing.is_cancelled() => return Found::Nothing,
                _ => {
                    let _ = self.check.send(Job::Check);
                    sleep(READ_PAUSE).await;
                }
            }
        }
        // How far the damage goes is not known; the rest of its segment is had from a peer at least.
        Found::Damaged(from, boundary_before(from - 1) + SEGMENT_ENTRIES)
    }
}
