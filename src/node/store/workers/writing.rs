//! The worker that writes: takes all that waits, makes one transaction of it, syncs, and says so.

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, sleep_until, timeout},
};

use super::{Answer, ENOUGH_BYTES, Job, MAX_QUEUED_BYTES, Taken, Target, Waits, cost_bytes, settle};
use crate::node::{
    hub::{FromStore, ToStore},
    store::{
        Sync, Trouble,
        ahead::{Ahead, is_awaited},
        format,
        group::{self, Gaps, Origins},
        guarded,
        packs::PackWriter,
        tables::{begin_read, begin_write},
    },
};

/// What may be in the system's hands only, in bytes, whatever the settings say: it is kept here until it is on the disk.
const MAX_UNSYNCED_BYTES: usize = 64 << 20;
/// What nobody waits for is gathered for so long: it is in the journal, or on the disks of peers.
const GATHER_FOR: Duration = Duration::from_millis(50);
/// Where more than this has come meanwhile, in bytes, it is gathered for so much longer: a transaction costs about the same for more.
const BUSY_BYTES: usize = 1 << 20;
const GATHER_FOR_WHEN_BUSY: Duration = Duration::from_millis(150);
/// Between two tries to write to a disk that is full or broken.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// What came of a wait for something to do.
enum Waited {
    For(Job),
    /// There is something that the journal has had first.
    ForMore,
    /// What was written is to be synced.
    Enough,
    ForNobody,
}

pub struct Writer {
    target: Target,
    pack_writer: PackWriter,
    origins: Origins,
    answer: Answer,
    waits: Waits,
    ahead: Arc<Ahead>,
    /// Written, but not synced: to be written again should the database have to be opened again.
    unsynced: Vec<ToStore>,
    unsynced_bytes: usize,
    unsynced_since: Option<Instant>,
    /// The origins as they were synced, where that is not how they are.
    synced_origins: Option<Origins>,
    /// The hub has been told that nothing can be written.
    is_unwritable: bool,
    /// A commit may have gone through although it failed.
    is_unsure: bool,
}

impl Writer {
    pub fn new(
        target: Target,
        pack_writer: PackWriter,
        ahead: Arc<Ahead>,
        origins: Origins,
        answer: Answer,
        waits: Waits,
    ) -> Self {
        Self {
            target,
            pack_writer,
            origins,
            answer,
            waits,
            ahead,
            unsynced: Vec::new(),
            unsynced_bytes: 0,
            unsynced_since: None,
            synced_origins: None,
            is_unwritable: false,
            is_unsure: false,
        }
    }

    /// Until it is closed, or nobody can say anything any more.
    pub async fn run(mut self, jobs: &mut UnboundedReceiver<Job>) {
        let mut is_over = false;
        while !is_over {
            let first = match self.wait(jobs).await {
                Waited::For(job) => {
                    if !matches!(&job, Job::Do(item) if is_awaited(item, self.target.node)) {
                        self.gather().await;
                    }
                    Some(job)
                }
                Waited::ForMore => {
                    self.gather().await;
                    jobs.try_recv().ok()
                }
                Waited::Enough => None,
                Waited::ForNobody => {
                    is_over = true;
                    None
                }
            };
            let mut taken = Taken::default();
            taken.take(first, ENOUGH_BYTES, jobs);
            if taken.must_check {
                self.check();
            }
            is_over |= taken.is_over;
            let is_due = is_over || self.is_sync_due();
            let (mut items, generation) = self.ahead.begin_commit();
            items.append(&mut taken.items);
            if !items.is_empty() || (is_due && self.unsynced_since.is_some()) {
                self.write_at_last(&items, generation, is_due).await;
            }
            self.waits.queued_bytes.fetch_sub(items.iter().map(cost_bytes).sum(), Ordering::Relaxed);
        }
        if let Some(database) = self.target.database.write().take()
            && let Err(error) = database.close()
        {
            tracing::warn!("the database in {} was not closed cleanly: {error}", self.target.directory.display());
        }
    }

    async fn wait(&self, jobs: &mut UnboundedReceiver<Job>) -> Waited {
        let until = match (self.target.sync, self.unsynced_since) {
            (Sync::Interval(interval), Some(since)) => Some(since + interval),
            _ => None,
        };
        let late = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            job = jobs.recv() => job.map_or(Waited::ForNobody, Waited::For),
            () = self.ahead.news.notified() => Waited::ForMore,
            () = late => Waited::Enough,
        }
    }

    /// Lets more come, unless there is enough, or somebody waits.
    async fn gather(&self) {
        for (least_bytes, gather_for) in [(0, GATHER_FOR), (BUSY_BYTES, GATHER_FOR_WHEN_BUSY)] {
            let queued_bytes = self.waits.queued_bytes.load(Ordering::Relaxed);
            if !(least_bytes..ENOUGH_BYTES).contains(&queued_bytes)
                || timeout(gather_for, self.waits.is_awaited.notified()).await.is_ok()
            {
                return;
            }
        }
    }

    fn is_sync_due(&self) -> bool {
        let is_late = |interval| self.unsynced_since.is_some_and(|since| since.elapsed() >= interval);
        match self.target.sync {
            Sync::Always => true,
            Sync::Interval(interval) => is_late(interval) || self.unsynced_bytes > MAX_UNSYNCED_BYTES,
            Sync::Never => self.unsynced_bytes > MAX_UNSYNCED_BYTES,
        }
    }

    /// Writes a group, however often that has to be tried. Only a node that stops gives up.
    async fn write_at_last(&mut self, group: &[ToStore], generation: u64, is_sync_due: bool) {
        loop {
            let is_last_try = self.waits.closing.is_cancelled();
            match self.write(group, generation, is_sync_due) {
                Ok(gaps) => {
                    settle(&*self.target.medium).await;
                    return self.tell_written(group, gaps);
                }
                Err(trouble) => self.tell_trouble(&trouble),
            }
            if is_last_try {
                let count = self.unsynced.len() + group.len();
                tracing::error!("{count} batches could not be written before the node had to stop; peers have them");
                return;
            }
            // What is read meanwhile should not wait.
            self.reopen();
            let _ = timeout(RETRY_EVERY, self.waits.closing.cancelled()).await;
        }
    }

    fn write(&mut self, group: &[ToStore], generation: u64, is_sync_due: bool) -> Result<Gaps, Trouble> {
        let shared = self.target.database.clone();
        let guard = shared.read();
        let Some(database) = guard.as_ref() else {
            drop(guard);
            return Err(self.reopen().unwrap_or(Trouble::Database(Box::new(redb::Error::PreviousIo))));
        };
        let is_again = self.is_unsure;
        let again: Vec<ToStore> =
            if is_again { self.unsynced.iter().chain(group).cloned().collect() } else { Vec::new() };
        let items = if is_again { &again[..] } else { group };
        let (origins, writer) = (&self.origins, &mut self.pack_writer);
        let (touched, gaps) = guarded(|| -> Result<_, Trouble> {
            let transaction = begin_write(database, is_sync_due)?;
            if is_again {
                group::remove_beyond(&transaction, writer, origins, items)?;
            }
            let written = group::write(&transaction, &self.target.packs, writer, origins, items)?;
            format::note_journal(&transaction, generation)?;
            if is_sync_due {
                writer.sync()?;
            }
            transaction.commit()?;
            Ok(written)
        })?;
        drop(guard);
        // Before anybody is told: what has been cut or repaired must not be read from there.
        self.ahead.committed();
        self.is_unsure = false;
        if is_sync_due {
            self.remove_emptied();
            self.unsynced.clear();
            (self.unsynced_bytes, self.unsynced_since, self.synced_origins) = (0, None, None);
        } else {
            self.synced_origins.get_or_insert_with(|| self.origins.clone());
            self.unsynced_since.get_or_insert_with(Instant::now);
            self.unsynced_bytes += group.iter().map(cost_bytes).sum::<usize>();
            self.unsynced.extend(group.iter().cloned());
        }
        self.origins.extend(touched);
        Ok(gaps)
    }

    /// What the database does not know of on the disk any more.
    fn remove_emptied(&mut self) {
        let emptied = self.pack_writer.take_emptied();
        if !emptied.is_empty() {
            // Whoever still reads may have seen them.
            let _nobody_reads = self.target.database.write();
            self.target.packs.remove(emptied);
        }
    }

    fn tell_written(&mut self, group: &[ToStore], gaps: Gaps) {
        for (origin, first, last) in gaps {
            tracing::error!("entries {first} to {last} of {origin} were not given to the store");
            (self.answer)(FromStore::Damaged { origin, first, last });
        }
        let waiting = self.waits.queued_bytes.load(Ordering::Relaxed);
        if self.is_unwritable && waiting <= MAX_QUEUED_BYTES / 2 {
            self.is_unwritable = false;
            tracing::info!("the data directory {} can be written to again", self.target.directory.display());
            (self.answer)(FromStore::Writable);
        } else if !self.is_unwritable && waiting > MAX_QUEUED_BYTES {
            let reason = format!(
                "the disk of {} is too slow for what comes in: {} MiB wait to be written",
                self.target.directory.display(),
                waiting >> 20
            );
            self.tell_unwritable(reason);
        }
        if let Some(sequence) = group.iter().rev().find_map(ToStore::sequence) {
            (self.answer)(FromStore::Synced { sequence });
        }
    }

    fn tell_trouble(&mut self, trouble: &Trouble) {
        if !self.is_unwritable {
            let directory = self.target.directory.display();
            let todo = if trouble.is_damage() { "; restart this node, it sets the damaged database aside" } else { "" };
            self.tell_unwritable(format!("nothing can be written to {directory}: {trouble}{todo}"));
        }
    }

    fn tell_unwritable(&mut self, reason: String) {
        tracing::warn!("{reason}");
        self.is_unwritable = true;
        (self.answer)(FromStore::Unwritable { reason });
    }

    /// Opens the database again if it refuses to go on after an error.
    fn check(&mut self) {
        let works = |database| guarded(|| begin_read(database).map(drop)).is_ok();
        if !self.target.database.read().as_ref().is_some_and(works) {
            self.reopen();
        }
    }

    /// Opens the database again, as it was synced. What was written since is written again with the next group.
    fn reopen(&mut self) -> Option<Trouble> {
        let mut database = self.target.database.write();
        *database = None;
        self.pack_writer.reset();
        self.is_unsure = true;
        if let Some(origins) = self.synced_origins.take() {
            self.origins = origins;
        }
        match guarded(|| self.target.medium.open()) {
            Ok(opened) => {
                *database = Some(opened);
                None
            }
            Err(trouble) => {
                tracing::debug!("the database in {} cannot be opened: {trouble}", self.target.directory.display());
                Some(trouble)
            }
        }
    }
}
