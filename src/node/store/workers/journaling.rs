//! The worker that journals what this node has accepted, and what was said before it, and says so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{
        Notify,
        mpsc::{UnboundedReceiver, UnboundedSender},
    },
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Answer, ENOUGH_BYTES, Job, cost_bytes, is_awaited};
use crate::node::{
    hub::{FromStore, ToStore},
    store::{ahead::Ahead, medium::Medium},
};

/// What is taken at once, in bytes, about; whatever waits beyond it goes into the next record.
const MAX_GROUP_BYTES: usize = 1 << 20;
/// What nobody waits for is left to gather for so long.
const GATHER_FOR: Duration = Duration::from_millis(10);

/// From so many bytes of entries on it is worth while to let more come: fewer and larger records, and acknowledgements.
const BUSY_BYTES: usize = 16 << 10;
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// What was taken at once.
#[derive(Default)]
struct Taken {
    items: Vec<ToStore>,
    bytes: usize,
    entry_bytes: usize,
    is_awaited: bool,
    is_over: bool,
}

impl Taken {
    fn more(&self, max_bytes: usize, jobs: &mut UnboundedReceiver<Job>) -> Option<Job> {
        if self.bytes < max_bytes && !self.is_over { jobs.try_recv().ok() } else { None }
    }
}

pub struct Journaler {
    pub node: u16,
    pub medium: Arc<dyn Medium>,
    pub ahead: Arc<Ahead>,
    pub answer: Answer,
    pub queued_bytes: Arc<AtomicUsize>,
    /// Something that is waited for has been said.
    pub is_awaited: Arc<Notify>,
    /// The database is waited for.
    pub is_pressing: Arc<Notify>,
    pub closing: CancellationToken,
    pub writer: UnboundedSender<Job>,
}

impl Journaler {
    /// Until it is closed, or nobody can say anything any more.
    pub async fn run(self, mut jobs: UnboundedReceiver<Job>) {
        let mut is_over = false;
        while !is_over {
            let mut next = jobs.recv().await;
            is_over = next.is_none();
            if matches!(&next, Some(Job::Do(item)) if !is_awaited(item, self.node)) {
                let _ = timeout(GATHER_FOR, self.is_awaited.notified()).await;
            }
            let mut taken = Taken::default();
            while let Some(job) = next {
                self.take(job, &mut taken);
                next = taken.more(MAX_GROUP_BYTES, &mut jobs);
            }
            if taken.is_awaited && taken.entry_bytes >= BUSY_BYTES {
                sleep(BUSY_PAUSE).await;
                while let Some(job) = taken.more(usize::MAX, &mut jobs) {
                    self.take(job, &mut taken);
                }
            }
            is_over |= taken.is_over;
            let last = taken.items.last().and_then(ToStore::sequence);
            self.ahead.add(&mut taken.items);
            if taken.is_awaited {
                self.journal(last).await;
            }
            if self.queued_bytes.load(Ordering::Relaxed) >= ENOUGH_BYTES {
                self.is_pressing.notify_one();
            }
        }
        let _ = self.writer.send(Job::Close);
        self.is_pressing.notify_one();
    }

    fn take(&self, job: Job, taken: &mut Taken) {
        match job {
            Job::Do(item) => {
                taken.bytes += cost_bytes(&item);
                if let ToStore::Entries { chunk, .. } = &item {
                    taken.entry_bytes += chunk.bytes.len();
                }
                taken.is_awaited |= is_awaited(&item, self.node);
                taken.items.push(item);
            }
            Job::Check => {
                let _ = self.writer.send(Job::Check);
            }
            Job::Close => taken.is_over = true,
        }
    }

    /// Journals everything up to something that is waited for. What does not go into the journal is waited for until it is in the
    /// database, since what follows must not be on the disk before it.
    async fn journal(&self, last: Option<u64>) {
        while !self.ahead.is_safe() && !self.closing.is_cancelled() {
            match self.ahead.journal() {
                Ok(true) => {
                    let busy = self.medium.is_busy_for();
                    if !busy.is_zero() {
                        sleep(busy).await;
                    }
                    if let Some(sequence) = last {
                        (self.answer)(FromStore::Synced { sequence });
                    }
                    return;
                }
                Ok(false) => {}
                Err(error) => tracing::debug!("the journal cannot be written: {error}"),
            }
            self.is_pressing.notify_one();
            tokio::select! {
                () = self.ahead.progress.notified() => {}
                () = self.closing.cancelled() => {}
            }
        }
    }
}
