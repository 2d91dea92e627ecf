//! What goes from memory when the log is over its bound.

use std::collections::VecDeque;

use super::{Applied, Log, OriginLog};
use crate::clique::Chunk;

impl Log {
    /// Whether the log is over its bound and has something to give up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.bytes > self.max_bytes && !self.order.is_empty()
    }

    /// Drops what was applied first, a chunk of it at most, unless the disk does not have it yet. Returns what went, with
    /// its position and its chunk.
    pub fn evict(&mut self) -> Option<(Applied, Chunk)> {
        loop {
            let oldest = *self.order.front()?;
            let log = self.origins.get_mut(&oldest.origin)?;
            let held_from = log.chunks.front().map_or(u64::MAX, |chunk| chunk.first);
            if held_from > oldest.first {
                // What is left of this run went with the chunk that an earlier run shared.
                let gone = (held_from - oldest.first).min(oldest.count);
                Self::advance(&mut self.order, gone);
                continue;
            }
            let chunk = log.chunks.front()?;
            let last = chunk.last().min(oldest.first + oldest.count - 1);
            if last > log.synced {
                return None;
            }
            if last < chunk.last() {
                // The rest of the chunk was applied after something else, and goes when its turn comes.
                let (gone, rest) = (chunk.clone(), chunk.from(last + 1));
                self.bytes = self.bytes + rest.cost_bytes() - gone.cost_bytes();
                log.chunks[0] = rest;
                return Some((Self::drop_run(log, &mut self.order, oldest, last), gone));
            }
            let chunk = log.chunks.pop_front()?;
            self.bytes -= chunk.cost_bytes();
            return Some((Self::drop_run(log, &mut self.order, oldest, last), chunk));
        }
    }

    /// Takes the entries up to `last` off the oldest run, and gives what went.
    fn drop_run(log: &mut OriginLog, order: &mut VecDeque<Applied>, oldest: Applied, last: u64) -> Applied {
        let count = last + 1 - oldest.first;
        log.first = log.first.max(last + 1);
        Self::advance(order, count);
        Applied { count, ..oldest }
    }

    /// Takes `count` entries off the oldest run.
    fn advance(order: &mut VecDeque<Applied>, count: u64) {
        if let Some(front) = order.front_mut() {
            front.first += count;
            front.position += count;
            front.count -= count;
            if front.count == 0 {
                order.pop_front();
            }
        }
    }
}
