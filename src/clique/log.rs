//! The bounded log in memory: per origin the entries held, and across origins the order in which they were applied.
//!
//! Entries are kept as the bytes they were accepted as, in chunks of one batch each. The order of application gives
//! every applied entry a *position*, which is what a reader's cursor counts. When the log is over its bound the chunk
//! that was applied first goes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::{Heights, Held, Origin};

/// Bytes that a chunk costs besides its entries: its own fields, and its share of the order.
const CHUNK_OVERHEAD_BYTES: usize = 160;

/// Other origins' heights that an entry depends on.
pub type Dependencies = Vec<(Origin, u64)>;

/// Consecutive entries of one origin, encoded.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Number of the first entry.
    pub first: u64,
    /// The entries one after the other.
    pub bytes: Bytes,
    /// Where each entry ends in `bytes`.
    pub ends: Arc<[u32]>,
    /// By entry number, only where there are any.
    pub dependencies: Arc<[(u64, Dependencies)]>,
}

impl Chunk {
    /// Number of the last entry.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first + self.ends.len() as u64 - 1
    }

    fn cost_bytes(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<u32>() + CHUNK_OVERHEAD_BYTES
    }

    /// The bytes of the entries `from..=to`, both within the chunk.
    #[must_use]
    pub fn slice(&self, from: u64, to: u64) -> Bytes {
        let start = if from <= self.first { 0 } else { self.end_of(from - 1) };
        self.bytes.slice(start..self.end_of(to.min(self.last())))
    }

    /// The rest of the chunk from entry `from` on.
    #[must_use]
    pub fn from(&self, from: u64) -> Self {
        if from <= self.first {
            return self.clone();
        }
        let start = self.end_of(from - 1);
        let skipped = usize::try_from(from - self.first).unwrap_or(usize::MAX);
        Self {
            first: from,
            bytes: self.bytes.slice(start..),
            ends: self.ends[skipped..].iter().map(|end| end - u32::try_from(start).unwrap_or(0)).collect(),
            dependencies: self.dependencies.iter().filter(|(number, _)| *number >= from).cloned().collect(),
        }
    }

    fn end_of(&self, number: u64) -> usize {
        usize::try_from(number - self.first)
            .ok()
            .and_then(|index| self.ends.get(index))
            .map_or(self.bytes.len(), |end| *end as usize)
    }
}

/// Entries of one origin that were applied one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    pub origin: Origin,
    pub first: u64,
    pub count: u64,
    /// Position of the first.
    pub position: u64,
}

#[derive(Debug)]
struct OriginLog {
    chunks: VecDeque<Chunk>,
    /// First entry held without a gap up to the height; `height + 1` if none is.
    first: u64,
    height: u64,
    applied: u64,
}

/// All origins' logs.
#[derive(Debug)]
pub struct Log {
    origins: BTreeMap<Origin, OriginLog>,
    order: VecDeque<Applied>,
    next_position: u64,
    bytes: usize,
    max_bytes: usize,
}

impl Log {
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { origins: BTreeMap::new(), order: VecDeque::new(), next_position: 0, bytes: 0, max_bytes }
    }

    /// Memory in use, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The position that the next applied entry gets.
    #[must_use]
    pub fn next_position(&self) -> u64 {
        self.next_position
    }

    #[must_use]
    pub fn height(&self, origin: Origin) -> u64 {
        self.origins.get(&origin).map_or(0, |log| log.height)
    }

    #[must_use]
    pub fn applied(&self, origin: Origin) -> u64 {
        self.origins.get(&origin).map_or(0, |log| log.applied)
    }

    /// The first entry held; 1 for an unknown origin.
    #[must_use]
    pub fn first(&self, origin: Origin) -> u64 {
        self.origins.get(&origin).map_or(1, |log| log.first)
    }

    /// What is held of each origin.
    pub fn held(&self) -> impl Iterator<Item = Held> + '_ {
        self.origins.iter().map(|(origin, log)| Held { origin: *origin, first: log.first, height: log.height })
    }

    /// How far each origin is applied.
    #[must_use]
    pub fn applied_heights(&self) -> Heights {
        self.origins.iter().map(|(origin, log)| (*origin, log.applied)).collect()
    }

    /// Adds a chunk that begins right after the height.
    pub fn push(&mut self, origin: Origin, chunk: Chunk) {
        let log = self.origins.entry(origin).or_insert(OriginLog {
            chunks: VecDeque::new(),
            first: chunk.first,
            height: 0,
            applied: 0,
        });
        self.bytes += chunk.cost_bytes();
        log.height = chunk.last();
        log.chunks.push_back(chunk);
    }

    /// Gives up on the entries before `first`, which nobody has any more. Returns how many.
    pub fn skip_to(&mut self, origin: Origin, first: u64) -> u64 {
        let log = self.origins.entry(origin).or_insert(OriginLog {
            chunks: VecDeque::new(),
            first: 1,
            height: 0,
            applied: 0,
        });
        let lost = first.saturating_sub(log.height + 1);
        // Chunks before the hole stay for readers here; to peers the log begins after it.
        log.first = first;
        log.height = first - 1;
        log.applied = log.height;
        lost
    }

    /// The next entries of an origin that are held and not applied: their chunk, cut to them.
    #[must_use]
    pub fn unapplied(&self, origin: Origin) -> Option<Chunk> {
        let log = self.origins.get(&origin)?;
        if log.applied >= log.height {
            return None;
        }
        Self::chunk_at(log, log.applied + 1).map(|chunk| chunk.from(log.applied + 1))
    }

    /// Origins that have entries held and not applied.
    pub fn behind(&self) -> impl Iterator<Item = Origin> + '_ {
        self.origins.iter().filter(|(_, log)| log.applied < log.height).map(|(origin, _)| *origin)
    }

    /// Marks the next `count` entries of an origin as applied.
    pub fn apply(&mut self, origin: Origin, count: u64) -> Option<Applied> {
        let log = self.origins.get_mut(&origin)?;
        let applied = Applied { origin, first: log.applied + 1, count, position: self.next_position };
        log.applied += count;
        self.next_position += count;
        match self.order.back_mut() {
            Some(last) if last.origin == origin && last.first + last.count == applied.first => last.count += count,
            _ => self.order.push_back(applied),
        }
        Some(applied)
    }

    /// A chunk of an origin that holds entry `number`.
    #[must_use]
    pub fn chunk(&self, origin: Origin, number: u64) -> Option<&Chunk> {
        Self::chunk_at(self.origins.get(&origin)?, number)
    }

    /// The bytes of one entry, if it is held.
    #[must_use]
    pub fn entry(&self, origin: Origin, number: u64) -> Option<Bytes> {
        self.chunk(origin, number).map(|chunk| chunk.slice(number, number))
    }

    /// What was applied at a position, from there to the end of its run; `None` at the end. A position whose entries
    /// were dropped gives the first run that is left.
    #[must_use]
    pub fn applied_at(&self, position: u64) -> Option<Applied> {
        let index = self.order.partition_point(|run| run.position + run.count <= position);
        let run = *self.order.get(index)?;
        let skip = position.saturating_sub(run.position);
        Some(Applied {
            origin: run.origin,
            first: run.first + skip,
            count: run.count - skip,
            position: run.position + skip,
        })
    }

    /// The first position of an entry beyond these heights; the end if there is none. Costs the more, the more is beyond.
    #[must_use]
    pub fn position_beyond(&self, heights: &Heights) -> u64 {
        let mut open: BTreeSet<Origin> = self
            .origins
            .iter()
            .filter(|(origin, log)| log.applied > heights.get(**origin))
            .map(|(origin, _)| *origin)
            .collect();
        let mut position = self.next_position;
        for run in self.order.iter().rev() {
            if open.is_empty() {
                break;
            }
            let had = heights.get(run.origin);
            if !open.contains(&run.origin) || had + 1 >= run.first + run.count {
                open.remove(&run.origin);
                continue;
            }
            if had >= run.first {
                open.remove(&run.origin);
            }
            position = run.position + (had + 1).saturating_sub(run.first);
        }
        position
    }

    /// Whether the log is over its bound and has something to give up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.bytes > self.max_bytes && !self.order.is_empty()
    }

    /// Drops what was applied first, a chunk of it at most. Returns what went, with its position and its chunk.
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

    fn chunk_at(log: &OriginLog, number: u64) -> Option<&Chunk> {
        let index = log.chunks.partition_point(|chunk| chunk.last() < number);
        log.chunks.get(index).filter(|chunk| chunk.first <= number)
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
