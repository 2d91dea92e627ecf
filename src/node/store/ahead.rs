//! What has been said and is not in the database yet, in order. One worker journals it and tells, another puts it into
//! the database, and the reader finds it here meanwhile.
//!
//! What is on the disk has everything on the disk that was said before: an answer is never there without its question. So what is
//! journaled is a beginning of what is here, up to something that somebody waits for.

use std::{collections::VecDeque, io};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::journal::{self, Journal};
use crate::{
    clique::{Chunk, Origin},
    node::hub::ToStore,
};

/// So much that others have said, in bytes, is journaled at once because something follows that is waited for. Where it is more,
/// and more than what is waited for, writing it twice takes longer than waiting for the database.
const MAX_OTHERS_BYTES: u64 = 256 << 10;

/// Whether somebody waits for something to be on the disk here: senders do for what this node accepted. What it holds of its
/// peers is on their disks, and can be gathered.
#[must_use]
pub fn is_awaited(item: &ToStore, node: u16) -> bool {
    !matches!(item, ToStore::Entries { origin, .. } if origin.node != node)
}

/// See the module's head.
#[derive(Debug)]
pub struct Ahead {
    /// Whose entries are waited for.
    node: u16,
    state: Mutex<State>,
    /// There is something for the database.
    pub news: Notify,
    /// Something has gone into the database, or there is room for more in the journal.
    pub progress: Notify,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    pending: VecDeque<ToStore>,
    /// Of these, how many a transaction is putting into the database.
    taken: usize,
    /// Of these, how many are in the journal.
    journaled: usize,
}

impl Ahead {
    #[must_use]
    pub fn new(node: u16, journal: Journal) -> Self {
        let state = State { journal, pending: VecDeque::new(), taken: 0, journaled: 0 };
        Self { node, state: Mutex::new(state), news: Notify::new(), progress: Notify::new() }
    }

    /// Adds what follows.
    pub fn add(&self, group: Vec<ToStore>) {
        self.state.lock().pending.extend(group);
        self.news.notify_one();
    }

    /// Journals everything that is here, and syncs it. `false` if that must wait for the database: there is no room,
    /// something among it is not of entries, or most of it is what others have said.
    ///
    /// # Errors
    /// What the disk says; then nothing of it counts.
    pub fn journal(&self) -> io::Result<bool> {
        let mut state = self.state.lock();
        let State { journal, pending, journaled, .. } = &mut *state;
        let group = &pending.make_contiguous()[*journaled..];
        if !self.is_for_journal(group)
            || journal::record_bytes(group) > journal.half_bytes()
            || !journal.append(group)?
        {
            return Ok(false);
        }
        *journaled = pending.len();
        Ok(true)
    }

    fn is_for_journal(&self, group: &[ToStore]) -> bool {
        let (mut own_bytes, mut others_bytes) = (0, 0);
        for item in group {
            let ToStore::Entries { chunk, .. } = item else { return false };
            *(if is_awaited(item, self.node) { &mut own_bytes } else { &mut others_bytes }) += chunk.bytes.len() as u64;
        }
        others_bytes <= own_bytes.max(MAX_OTHERS_BYTES)
    }

    /// What the next transaction is to put into the database, and the generation of the journal that counts from then on. Until
    /// `committed` it is the same.
    #[must_use]
    pub fn begin_commit(&self) -> (Vec<ToStore>, u64) {
        let mut state = self.state.lock();
        if state.taken == 0 {
            state.taken = state.pending.len();
            if !state.journal.is_empty() {
                state.journal.turn();
                self.progress.notify_one();
            }
        }
        (state.pending.range(..state.taken).cloned().collect(), state.journal.generation())
    }

    /// The database has it.
    pub fn committed(&self) {
        let mut state = self.state.lock();
        let taken = std::mem::take(&mut state.taken);
        state.pending.drain(..taken);
        state.journaled = state.journaled.saturating_sub(taken);
        self.progress.notify_one();
    }

    /// Whether nothing waits that is not in the journal.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        let state = self.state.lock();
        state.journaled == state.pending.len()
    }

    /// Entries from a number on.
    #[must_use]
    pub fn read(&self, origin: Origin, from: u64) -> Option<Chunk> {
        self.state.lock().pending.iter().find_map(|item| match item {
            ToStore::Entries { origin: of, chunk, .. } if *of == origin && chunk.first <= from => {
                chunk.within(from, u64::MAX)
            }
            _ => None,
        })
    }
}
