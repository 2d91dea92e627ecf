//! The bounded log in memory: per origin the entries held, and across origins the order in which they were applied.
//!
//! Entries are kept as the bytes they were accepted as, in chunks of one batch each. The order of application gives
//! every applied entry a *position*, which is what a reader's cursor counts. When the log is over its bound the chunk
//! that was applied first goes. With a store behind it, it is a cache of the latest entries: only what is on the disk
//! goes, and can be read from there.

mod eviction;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::{
    Chain, Chunk, Heights, Held, Origin,
    chain::{EMPTY, Hash},
};

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
    /// First entry in memory without a gap up to the height; `height + 1` if none is.
    first: u64,
    /// First entry that is kept at all. Raised by retention and by holes, not by what memory has no room for.
    floor: u64,
    height: u64,
    /// Up to which it is on the disk; the height where there is no store.
    synced: u64,
    applied: u64,
    /// The running hash, up to the height.
    chain: Chain,
}

impl OriginLog {
    fn new(first: u64, chain: Chain) -> Self {
        let height = first - 1;
        Self { chunks: VecDeque::new(), first, floor: first, height, synced: height, applied: height, chain }
    }

    /// Goes on at `first`, without what is before it. What the hash was there is said, or not known.
    fn go_on_at(&mut self, first: u64, hash: Hash) {
        (self.first, self.floor, self.height) = (first, first, first - 1);
        self.applied = self.height;
        self.chain = Chain::from_boundary(self.height, hash);
    }
}

/// What is on the disk of one origin, as a log begins with it.
#[derive(Debug, Clone)]
pub struct Stored {
    pub origin: Origin,
    /// The first entry that is kept; `height + 1` if none is.
    pub first: u64,
    /// The running hash up to the height.
    pub chain: Chain,
    /// The latest entries, without a gap up to the height.
    pub tail: Vec<Chunk>,
}

/// All origins' logs.
#[derive(Debug)]
pub struct Log {
    origins: BTreeMap<Origin, OriginLog>,
    order: VecDeque<Applied>,
    next_position: u64,
    bytes: usize,
    max_bytes: usize,
    has_store: bool,
}

impl Log {
    /// Everything there is, within the bound.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        let (origins, order) = (BTreeMap::new(), VecDeque::new());
        Self { origins, order, next_position: 0, bytes: 0, max_bytes, has_store: false }
    }

    /// The latest of what is on the disk.
    #[must_use]
    pub fn with_store(max_bytes: usize) -> Self {
        Self { has_store: true, ..Self::new(max_bytes) }
    }

    /// Begins an origin with what is on the disk of it. The tail is held and still to be applied.
    pub fn recover(&mut self, stored: Stored) {
        let Stored { origin, first, chain, tail } = stored;
        let mut log = OriginLog::new(chain.height() + 1, chain);
        log.floor = first;
        if let Some(front) = tail.first() {
            log.first = front.first;
            log.applied = front.first - 1;
        }
        self.bytes += tail.iter().map(Chunk::cost_bytes).sum::<usize>();
        log.chunks = tail.into();
        self.origins.insert(origin, log);
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

    /// The first entry in memory; 1 for an unknown origin.
    #[must_use]
    pub fn first(&self, origin: Origin) -> u64 {
        self.origins.get(&origin).map_or(1, |log| log.first)
    }

    /// The first entry that can be had here: from memory, or from the disk; 1 for an unknown origin.
    #[must_use]
    pub fn first_kept(&self, origin: Origin) -> u64 {
        self.origins.get(&origin).map_or(1, |log| self.first_kept_of(log))
    }

    fn first_kept_of(&self, log: &OriginLog) -> u64 {
        if self.has_store { log.floor } else { log.first }
    }

    /// How far an origin is on the disk; its height where there is no store.
    #[must_use]
    pub fn synced(&self, origin: Origin) -> u64 {
        self.origins.get(&origin).map_or(0, |log| log.synced)
    }

    /// Everything up to here is on the disk.
    pub fn raise_synced(&mut self, origin: Origin, synced: u64) {
        if let Some(log) = self.origins.get_mut(&origin) {
            log.synced = log.synced.max(synced.min(log.height));
        }
    }

    /// The running hash of an origin, up to its height.
    #[must_use]
    pub fn chain(&self, origin: Origin) -> Option<&Chain> {
        self.origins.get(&origin).map(|log| &log.chain)
    }

    /// What peers are told of an origin: only what a crash does not take.
    #[must_use]
    pub fn held_of(&self, origin: Origin) -> Held {
        let Some(log) = self.origins.get(&origin) else { return Held::new(origin, 1, 0) };
        let (hashed_to, hash) = log.chain.hash_up_to(log.synced).unwrap_or((0, EMPTY));
        let floor_hash = log.chain.hash_at(log.floor - 1).unwrap_or(EMPTY);
        // After a hole of which nobody knows the hash this node has no more, but others may.
        let floor = if floor_hash == EMPTY { 1 } else { log.floor };
        let (first, height) = (self.first_kept_of(log), log.synced);
        Held { origin, first, height, floor, floor_hash, hashed_to, hash }
    }

    /// What peers are told of each origin.
    pub fn held(&self) -> impl Iterator<Item = Held> + '_ {
        self.origins.keys().map(|origin| self.held_of(*origin))
    }

    /// The first entry of an origin that is kept anywhere.
    #[must_use]
    pub fn floor(&self, origin: Origin) -> u64 {
        self.origins.get(&origin).map_or(1, |log| log.floor)
    }

    /// Keeps nothing before `first` any more; all of it is applied. What is in memory goes when there is no room for it.
    pub fn cut(&mut self, origin: Origin, first: u64) {
        if let Some(log) = self.origins.get_mut(&origin) {
            log.floor = log.floor.max(first);
            log.first = log.first.max(first);
            log.chain.forget_before(first - 1);
        }
    }

    /// Every origin that is known.
    pub fn origins(&self) -> impl Iterator<Item = Origin> + '_ {
        self.origins.keys().copied()
    }

    /// How far each origin is applied.
    #[must_use]
    pub fn applied_heights(&self) -> Heights {
        self.origins.iter().map(|(origin, log)| (*origin, log.applied)).collect()
    }

    /// Adds a chunk that begins right after the height.
    pub fn push(&mut self, origin: Origin, chunk: Chunk) {
        let log = self.origins.entry(origin).or_insert_with(|| OriginLog::new(1, Chain::default()));
        self.bytes += chunk.cost_bytes();
        log.height = chunk.last();
        log.chain.push(&chunk);
        if !self.has_store {
            log.synced = log.height;
        }
        log.chunks.push_back(chunk);
    }

    /// Gives up on the entries before `first`, which nobody has any more. Returns how many.
    pub fn skip_to(&mut self, origin: Origin, first: u64, hash: Hash) -> u64 {
        let log = self.origins.entry(origin).or_insert_with(|| OriginLog::new(1, Chain::default()));
        let lost = first.saturating_sub(log.height + 1);
        // Chunks before the hole stay for readers here; to peers the log begins after it.
        log.go_on_at(first, hash);
        if !self.has_store {
            log.synced = log.height;
        }
        lost
    }

    /// Puts entries where others are, as far as they are in memory. Positions stay what they are.
    pub fn replace(&mut self, origin: Origin, chunk: &Chunk) {
        let Some(log) = self.origins.get_mut(&origin) else { return };
        let cost = |chunks: &VecDeque<Chunk>| chunks.iter().map(Chunk::cost_bytes).sum::<usize>();
        let former_bytes = cost(&log.chunks);
        let mut chunks = VecDeque::with_capacity(log.chunks.len() + 2);
        for held in std::mem::take(&mut log.chunks) {
            let before = held.within(held.first, chunk.first - 1);
            let after = held.within(chunk.last() + 1, held.last());
            chunks.extend([before, chunk.within(held.first, held.last()), after].into_iter().flatten());
        }
        log.chunks = chunks;
        self.bytes = self.bytes + cost(&log.chunks) - former_bytes;
    }

    /// The running hash is this, from where it begins to the height.
    pub fn rechain(&mut self, origin: Origin, mut chain: Chain) {
        if let Some(log) = self.origins.get_mut(&origin) {
            chain.replace(&log.chain);
            log.chain = chain;
        }
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

    /// Bytes of an origin's entries in memory from one on, or at least `enough` if they are more.
    #[must_use]
    pub fn bytes_from(&self, origin: Origin, number: u64, enough: usize) -> usize {
        let Some(log) = self.origins.get(&origin) else { return 0 };
        let mut bytes = 0;
        for chunk in log.chunks.iter().rev().take_while(|chunk| chunk.last() >= number) {
            bytes += chunk.bytes.len();
            if bytes >= enough {
                break;
            }
        }
        bytes
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

    /// The entries that were applied from a position on, as far as one chunk holds them: where they are, and their bytes;
    /// none of what was dropped. `None` at the end.
    #[must_use]
    pub fn piece_at(&self, position: u64) -> Option<(Applied, Bytes)> {
        let run = self.applied_at(position)?;
        let Some(chunk) = self.chunk(run.origin, run.first) else {
            return Some((Applied { count: 1, ..run }, Bytes::new()));
        };
        let last = chunk.last().min(run.first + run.count - 1);
        Some((Applied { count: last + 1 - run.first, ..run }, chunk.slice(run.first, last)))
    }

    /// The first position that is still in memory.
    #[must_use]
    pub fn oldest_position(&self) -> u64 {
        self.order.front().map_or(self.next_position, |run| run.position)
    }

    /// Of each origin, how far what is applied has left memory.
    #[must_use]
    pub fn heights_before_memory(&self) -> Heights {
        self.origins.iter().map(|(origin, log)| (*origin, log.first.min(log.applied + 1) - 1)).collect()
    }

    /// Whether everything beyond these heights that is applied is in memory.
    #[must_use]
    pub fn covers_beyond(&self, heights: &Heights) -> bool {
        self.origins.iter().all(|(origin, log)| heights.get(*origin) + 1 >= log.first.min(log.applied + 1))
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

    fn chunk_at(log: &OriginLog, number: u64) -> Option<&Chunk> {
        // Most often the last is wanted; the way to another goes through memory that is not in the cache.
        if let Some(last) = log.chunks.back().filter(|last| last.first <= number) {
            return (number <= last.last()).then_some(last);
        }
        let index = log.chunks.partition_point(|chunk| chunk.last() < number);
        log.chunks.get(index).filter(|chunk| chunk.first <= number)
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
