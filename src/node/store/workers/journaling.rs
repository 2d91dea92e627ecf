//! The worker that journals what this node has accepted, and what was said before it, and says so.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{
        Notify,
        mpsc::{UnboundedReceiver, UnboundedSender},
    },
    time::{sleep, timeout},
};

use super::{Answer, ENOUGH_BYTES, Job, Taken, Waits, settle};
use crate::node::{
    hub::{FromStore, ToStore},
    store::{
        ahead::{Ahead, is_awaited},
        journal::record_bytes,
        medium::Medium,
    },
};

/// What is taken at once, in bytes, about; whatever waits beyond it goes into the next record.
const MAX_GROUP_BYTES: usize = 1 << 20;
/// What nobody waits for is left to gather for so long.
const GATHER_FOR: Duration = Duration::from_millis(10);
/// Where a record would be longer, in bytes, it is worth while to let more come: fewer and larger ones, and acknowledgements.
const BUSY_BYTES: u64 = 16 << 10;
const BUSY_PAUSE: Duration = Duration::from_millis(2);

pub struct Journaler {
    pub node: u16,
    pub medium: Arc<dyn Medium>,
    pub ahead: Arc<Ahead>,
    pub answer: Answer,
    pub waits: Waits,
    /// The database is waited for.
    pub is_pressing: Arc<Notify>,
    /// Told when everything has been handed on.
    pub writer: UnboundedSender<Job>,
}

impl Journaler {
    /// Until it is closed, or nobody can say anything any more.
    pub async fn run(self, mut jobs: UnboundedReceiver<Job>) {
        let is_awaited = |item: &ToStore| is_awaited(item, self.node);
        let mut is_over = false;
        while !is_over {
            let first = jobs.recv().await;
            is_over = first.is_none();
            if matches!(&first, Some(Job::Do(item)) if !is_awaited(item)) {
                let _ = timeout(GATHER_FOR, self.waits.is_awaited.notified()).await;
            }
            let (mut taken, mut next) = (Taken::default(), first);
            let must_journal = loop {
                taken.take(next, MAX_GROUP_BYTES, &mut jobs);
                let must_journal = taken.items.iter().any(is_awaited);
                // As long as nobody waits for any of it, all that is there is handed on, however much it is.
                next = if must_journal || taken.is_over { None } else { jobs.try_recv().ok() };
                if next.is_none() {
                    break must_journal;
                }
                self.ahead.add(std::mem::take(&mut taken).items);
            };
            if must_journal && record_bytes(&taken.items) > BUSY_BYTES {
                sleep(BUSY_PAUSE).await;
                taken.take(jobs.try_recv().ok(), usize::MAX, &mut jobs);
            }
            is_over |= taken.is_over;
            let last = taken.items.last().and_then(ToStore::sequence);
            self.ahead.add(taken.items);
            if must_journal {
                self.journal(last).await;
            }
            if self.waits.queued_bytes.load(Ordering::Relaxed) >= ENOUGH_BYTES {
                self.is_pressing.notify_one();
            }
        }
        let _ = self.writer.send(Job::Close);
        self.is_pressing.notify_one();
    }

    /// Journals everything up to something that is waited for. What does not go into the journal is waited for until it is in the
    /// database, since what follows must not be on the disk before it.
    async fn journal(&self, last: Option<u64>) {
        while !self.ahead.is_safe() && !self.waits.closing.is_cancelled() {
            match self.ahead.journal() {
                Ok(true) => {
                    settle(&*self.medium).await;
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
                () = self.waits.closing.cancelled() => {}
            }
        }
    }
}
