//! One node's copy of every origin's log, and the rule by which entries are applied.
//!
//! `append` numbers what this node accepts; `receive` takes what a peer sends; `apply_next` gives the entries whose
//! turn it is, in an order that never puts an answer before what it answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Chain, Chunk, Damage, Dependencies, Heights, Held, HybridClock, LinkId, Origin, Retention, Stretch, TakenOver,
    adoption::Adoption,
    chain::{EMPTY, Hash},
    log::{Applied, Log},
    sources::{Ask, Sources},
};

/// How long an entry waits for one that it depends on and that no linked peer has, in milliseconds.
///
/// A bound, because the only holder may never come back: then an answer without its question is better than neither.
pub const MAX_CAUSAL_WAIT_MS: u64 = 3_000;

/// What became of a chunk from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Some of it was new.
    New,
    /// All of it was held already.
    Duplicate,
    /// It was taken after a hole: `lost` entries are gone everywhere within reach.
    AfterHole { lost: u64 },
    /// It begins too late for now: it, or what is between, must be asked for again. Nothing was taken.
    AskAgain,
    /// The disk is too far behind to take more: it is asked for again when there is room. Nothing was taken.
    NoRoom,
    /// Nobody asked this peer for it, or not any more: the answer to a former request. Nothing was taken.
    Unasked,
}

/// Entries whose turn it is: applied to the log, to be acted on by the caller.
#[derive(Debug, Clone)]
pub struct Run {
    pub applied: Applied,
    /// Exactly these entries.
    pub chunk: Chunk,
}

/// Something for the disk; writes are carried out in the order of their sequence.
#[derive(Debug, Clone)]
pub enum Write {
    /// Entries that follow those of their origin that were written before, or the cut; and the segment boundaries among them.
    Entries { sequence: u64, origin: Origin, chunk: Chunk, boundaries: Box<[(u64, Hash)]> },
    /// Nothing before `first` is kept; `hash` is the running hash there, or [`EMPTY`] where nobody knows it.
    Cut { sequence: u64, origin: Origin, first: u64, hash: Hash },
    /// Entries in place of what is damaged, or of others.
    Repair { sequence: u64, origin: Origin, chunk: Chunk },
    /// The running hash from where it begins to the height, in place of what it was.
    Rehash { sequence: u64, origin: Origin, chain: Box<Chain> },
}

/// A write that is not on the disk yet.
#[derive(Debug)]
pub(super) struct Unsynced {
    pub(super) sequence: u64,
    pub(super) origin: Origin,
    /// The last entry that is on the disk once it is.
    pub(super) last: u64,
    pub(super) bytes: usize,
}

/// One node's copy of everything.
#[derive(Debug)]
pub struct Replica {
    me: Origin,
    clock: HybridClock,
    pub(super) log: Log,
    pub(super) sources: Sources,
    /// What other origins had been applied here when this node last said so in an entry.
    declared: Heights,
    pub(super) applied: Heights,
    /// When the entries that are not applied yet came, in monotonic milliseconds: up to which number, and when. Each
    /// entry has its own wait, or a row of them that nobody can complete would take one wait after the other.
    pub(super) arrivals: BTreeMap<Origin, VecDeque<(u64, u64)>>,
    /// For each link, the origins of which the peer has not been told how far they are held here.
    pub(super) changed: BTreeMap<LinkId, BTreeSet<Origin>>,
    pub(super) has_store: bool,
    pub(super) last_sequence: u64,
    /// What is still to be handed to the disk.
    pub(super) writes: Vec<Write>,
    pub(super) unsynced: VecDeque<Unsynced>,
    pub(super) unsynced_bytes: usize,
    /// Beyond this nothing more is taken until the disk has caught up.
    pub(super) max_unsynced_bytes: usize,
    pub(super) retention: Retention,
    pub(super) damage: Damage,
    /// What is on the disk behind entries that are missing: each chunk with the latest hybrid time in it, in order.
    pub(super) aside: BTreeMap<Origin, VecDeque<(u64, Chunk)>>,
    /// Per origin and other node, where their hashes differ: after the last boundary on which they were equal.
    pub(super) diverging: BTreeMap<(Origin, u16), Stretch>,
    /// Per origin and other node, up to which entry their hashes were equal.
    pub(super) agreed: BTreeMap<(Origin, u16), u64>,
    pub(super) adoption: Option<Adoption>,
    pub(super) taken_over: Vec<TakenOver>,
}

impl Replica {
    /// `max_log_bytes` bounds the memory of the log.
    #[must_use]
    pub fn new(me: Origin, max_log_bytes: usize) -> Self {
        Self {
            me,
            clock: HybridClock::default(),
            log: Log::new(max_log_bytes),
            sources: Sources::default(),
            declared: Heights::default(),
            applied: Heights::default(),
            arrivals: BTreeMap::new(),
            changed: BTreeMap::new(),
            has_store: false,
            last_sequence: 0,
            writes: Vec::new(),
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            max_unsynced_bytes: max_log_bytes,
            retention: Retention::default(),
            damage: Damage::default(),
            aside: BTreeMap::new(),
            diverging: BTreeMap::new(),
            agreed: BTreeMap::new(),
            adoption: None,
            taken_over: Vec::new(),
        }
    }

    /// One whose memory is a cache of what is on the disk.
    #[must_use]
    pub fn with_store(me: Origin, max_log_bytes: usize) -> Self {
        Self { log: Log::with_store(max_log_bytes), has_store: true, ..Self::new(me, max_log_bytes) }
    }

    pub(super) fn push(&mut self, origin: Origin, chunk: Chunk, latest: u64) {
        self.recall(origin, &chunk, latest);
        if !self.has_store {
            self.log.push(origin, chunk);
            return self.note_change(origin);
        }
        // Peers are told once it is on the disk.
        self.log.push(origin, chunk.clone());
        let hashed = self.log.chain(origin);
        let boundaries = hashed.map(|chain| chain.boundaries_in(chunk.first, chunk.last())).unwrap_or_default();
        self.write(origin, chunk.last(), chunk.cost_bytes(), |sequence| Write::Entries {
            sequence,
            origin,
            chunk,
            boundaries,
        });
    }

    /// Gives up on everything before `first`. Returns how many entries that were still to come are lost.
    pub(super) fn skip_to(&mut self, origin: Origin, first: u64) -> u64 {
        let hash = self.sources.floor_hash(origin, first).unwrap_or(EMPTY);
        let lost = self.log.skip_to(origin, first, hash);
        self.retention.cut(origin, first);
        self.damage.remove(Stretch { origin, first: 1, last: first - 1 });
        self.applied.raise(origin, first - 1);
        self.adoption_was_cut(origin, first);
        self.write(origin, first - 1, 0, |sequence| Write::Cut { sequence, origin, first, hash });
        self.note_change(origin);
        lost
    }

    #[must_use]
    pub fn me(&self) -> Origin {
        self.me
    }

    pub fn clock(&mut self) -> &mut HybridClock {
        &mut self.clock
    }

    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// How far each origin is applied: what a reader who has everything up to now has.
    #[must_use]
    pub fn applied(&self) -> &Heights {
        &self.applied
    }

    /// The number of the next entry of this node, and what it must declare to depend on.
    pub fn next_entry(&mut self) -> (u64, Dependencies) {
        let mut dependencies = Dependencies::new();
        for (origin, height) in self.applied.iter() {
            if origin != self.me && self.declared.get(origin) < height {
                dependencies.push((origin, height));
            }
        }
        for (origin, height) in &dependencies {
            self.declared.raise(*origin, *height);
        }
        (self.log.height(self.me) + 1, dependencies)
    }

    /// Adds entries of this node, numbered from `next_entry`. They are applied at once: all that they depend on is.
    pub fn append(&mut self, chunk: Chunk) -> Option<Run> {
        let count = chunk.ends.len() as u64;
        let latest = self.clock.last();
        self.push(self.me, chunk.clone(), latest);
        let applied = self.log.apply(self.me, count)?;
        self.applied.raise(self.me, chunk.last());
        Some(Run { applied, chunk })
    }

    /// Takes entries from a peer. `latest` is the latest hybrid time among them.
    pub fn receive(&mut self, link: LinkId, origin: Origin, chunk: Chunk, latest: u64, now_ms: u64) -> Received {
        let height = self.log.height(origin);
        if chunk.last() <= height {
            return Received::Duplicate;
        }
        if !self.sources.is_asked(link, origin) || origin == self.me {
            return Received::Unasked;
        }
        if self.is_full() {
            return Received::NoRoom;
        }
        let mut lost = 0;
        if chunk.first > height + 1 {
            // A peer that does not have what is needed next says so before it sends what it has, from its first on. If it
            // has not, or this comes later, it was under way when it was asked anew, and what it was asked for follows.
            let peer_first = self.sources.peer_first(link, origin);
            if peer_first <= height + 1 || peer_first < chunk.first {
                return Received::Unasked;
            }
            // Entries held before the hole are applied first, so that none is passed over.
            if self.sources.other_continues(link, origin, height) || self.log.applied(origin) < height {
                return Received::AskAgain;
            }
            lost = self.skip_to(origin, chunk.first);
        }
        self.clock.see(latest);
        self.arrivals.entry(origin).or_default().push_back((chunk.last(), now_ms));
        self.push(origin, chunk.from(self.log.height(origin) + 1), latest);
        self.join_aside(origin, now_ms);
        if lost > 0 { Received::AfterHole { lost } } else { Received::New }
    }

    /// The next entries whose turn it is, at most so many, if any. Waiting is measured in monotonic time: the wall clock may jump.
    pub fn apply_next(&mut self, now_ms: u64, max_entries: u64) -> Option<Run> {
        let behind: Vec<Origin> = self.log.behind().collect();
        for origin in behind {
            let Some(chunk) = self.log.unapplied(origin) else { continue };
            let ready = self.ready(origin, &chunk, now_ms).min(max_entries);
            if ready == 0 {
                continue;
            }
            let applied = self.log.apply(origin, ready)?;
            let last = applied.first + ready - 1;
            if let Some(arrivals) = self.arrivals.get_mut(&origin) {
                while arrivals.pop_front_if(|(to, _)| *to <= last).is_some() {}
            }
            self.applied.raise(origin, last);
            let chunk = if last == chunk.last() { chunk } else { chunk.within(chunk.first, last)? };
            return Some(Run { applied, chunk });
        }
        None
    }

    /// Whether something waits for an entry that it depends on: then `apply_next` is worth a call later.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.log.behind().next().is_some()
    }

    /// Drops the oldest entries while the log is over its bound; what went, with its position.
    pub fn evict(&mut self) -> Option<(Applied, Chunk)> {
        if !self.log.is_over() {
            return None;
        }
        let evicted = self.log.evict()?;
        self.note_change(evicted.0.origin);
        Some(evicted)
    }

    /// A link is open, to the node of this origin, which holds this.
    pub fn link_up(&mut self, link: LinkId, origin: Origin, held: &[Held]) -> Vec<Ask> {
        self.sources.link_up(link, origin, held);
        self.changed.insert(link, BTreeSet::new());
        self.plan()
    }

    pub fn link_down(&mut self, link: LinkId) -> Vec<Ask> {
        self.sources.link_down(link);
        self.adoption_was_cut_off(link);
        self.changed.remove(&link);
        self.plan()
    }

    /// The peer of a link holds this now.
    pub fn peer_holds(&mut self, link: LinkId, held: &[Held]) -> Vec<Ask> {
        self.sources.peer_holds(link, held);
        if let Some(node) = self.sources.node(link) {
            self.compare(node, held);
        }
        let news = held.iter().any(|held| {
            held.origin != self.me
                && held.height > self.log.height(held.origin)
                && !self.sources.is_streamed(held.origin)
        });
        if news { self.plan() } else { Vec::new() }
    }

    /// Gives up on what the peer that was asked for it has dropped to the last entry, if nobody within reach has any of
    /// it. Returns of which origins how many entries are lost. (If something is left, it comes, and shows the hole itself.)
    pub fn give_up(&mut self) -> Vec<(Origin, u64)> {
        let mut lost = Vec::new();
        for Held { origin, first, height, .. } in self.sources.asked_in_vain() {
            let mine = self.log.height(origin);
            let is_wanted = height > mine && self.log.applied(origin) == mine;
            if is_wanted && !self.sources.anyone_holds_beyond(origin, mine) {
                lost.push((origin, self.skip_to(origin, first)));
            }
        }
        lost
    }

    /// Asks again for an origin after `Received::AskAgain`: elsewhere, or else on the same link.
    pub fn ask_again(&mut self, link: LinkId, origin: Origin) -> Vec<Ask> {
        let mut asks = self.plan();
        if self.sources.is_asked(link, origin) {
            asks.push(Ask::From { link, origin, number: self.log.height(origin) + 1 });
        }
        asks
    }

    /// Decides anew from whom to get what.
    pub(super) fn plan(&mut self) -> Vec<Ask> {
        if self.is_full() {
            return Vec::new();
        }
        let log = &self.log;
        self.sources.plan(self.me, |origin| log.height(origin))
    }

    /// How many entries at the front of an unapplied chunk have all that they depend on.
    fn ready(&self, origin: Origin, chunk: &Chunk, now_ms: u64) -> u64 {
        let all = chunk.ends.len() as u64;
        let blocked = chunk.dependencies.iter().find(|(_, needs)| {
            !needs.iter().all(|(other, height)| *other == origin || self.applied.get(*other) >= *height)
        });
        let Some((number, needs)) = blocked else {
            return all;
        };
        let free = number - chunk.first;
        if free > 0 {
            return free;
        }
        let since = self.arrivals.get(&origin).and_then(|arrivals| arrivals.front()).map_or(now_ms, |(_, at)| *at);
        let hopeless = now_ms.saturating_sub(since) >= MAX_CAUSAL_WAIT_MS
            && needs.iter().all(|(other, height)| {
                // What is held here is itself applied in time.
                let is_held = self.log.height(*other) >= *height;
                self.applied.get(*other) >= *height || !(is_held || self.sources.anyone_has(*other, *height))
            });
        // Only the first entry: the next may depend on something else.
        u64::from(hopeless)
    }
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
