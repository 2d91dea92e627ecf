//! One pass over everything that is kept: checks every row and every segment, and shows every entry.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use redb::{ReadTransaction, ReadableTable as _};

use super::{
    Trouble, guarded,
    packs::{self, Packs, Place, Usages},
    tables::{BOUNDARIES, ENTRIES, ORIGINS, Record, key, read_boundary},
};
use crate::{
    clique::{
        Chain, Chunk, Origin,
        chain::{EMPTY, Hash, SEGMENT_ENTRIES, boundary_before},
    },
    node::hub::Recovered,
};

/// Rows that are read at once, in bytes, about.
const BATCH_BYTES: usize = 1 << 20;

/// What a pass has found of one origin.
#[derive(Debug)]
pub struct Scanned {
    pub recovered: Recovered,
    /// Entries that could be read, and their bytes.
    pub entries: u64,
    pub entry_bytes: u64,
    /// Boundaries that should have been stored and were not, or not as they were written.
    pub unwritten: Vec<(u64, Hash)>,
    /// Whether what was stored of the origin as a whole is damaged or missing.
    pub is_record_lost: bool,
}

/// Goes through all origins in order. `visit` sees each undamaged chunk once, in the order of numbers. The latest
/// entries, up to so many bytes, are kept; where they are too many, those of earlier lives go first. What is used of the packs
/// is counted.
///
/// # Errors
/// What the database says.
pub fn scan(
    transaction: &ReadTransaction,
    packs: &Packs,
    max_tail_bytes: usize,
    mut visit: impl FnMut(Origin, &Chunk),
) -> Result<(Vec<Scanned>, Usages), Trouble> {
    let (mut found, mut usages) = (Vec::new(), Usages::new());
    for origin in guarded(|| origins(transaction))? {
        let (record, boundaries) = guarded(|| -> Result<_, Trouble> {
            let records = transaction.open_table(ORIGINS)?;
            let record = records.get((origin.node, origin.incarnation))?;
            let record = record.and_then(|value| Record::read(origin, value.value()));
            Ok((record, boundaries_of(transaction, origin)?))
        })?;
        let mut pass = Pass::new(record, boundaries, max_tail_bytes);
        let mut from = Some(0);
        while let Some(number) = from {
            let (chunks, next) = guarded(|| rows_of(transaction, packs, &mut usages, origin, number))?;
            chunks.iter().for_each(|chunk| pass.take(chunk, &mut |chunk| visit(origin, chunk)));
            from = next;
        }
        if let Some(scanned) = pass.finish(origin) {
            found.push(scanned);
        }
    }
    bound_tails(&mut found, max_tail_bytes);
    Ok((found, usages))
}

/// Some of the rows from a number on, and where the next begin. What cannot be read is left out and shows as a gap.
fn rows_of(
    transaction: &ReadTransaction,
    packs: &Packs,
    usages: &mut Usages,
    origin: Origin,
    from: u64,
) -> Result<(Vec<Chunk>, Option<u64>), Trouble> {
    let entries = transaction.open_table(ENTRIES)?;
    let (mut chunks, mut bytes) = (Vec::new(), 0);
    for item in entries.range(key(origin, from)..=key(origin, u64::MAX))? {
        let (row, value) = item?;
        let (number, value) = (row.value().2, value.value());
        let place = Place::read(origin, number, value);
        place.iter().for_each(|place| packs::count(usages, place));
        bytes += place.map_or(value.len(), |place| usize::try_from(place.length).unwrap_or(usize::MAX));
        chunks.extend(packs.row(origin, number, value)?);
        if bytes > BATCH_BYTES {
            return Ok((chunks, number.checked_add(1)));
        }
    }
    Ok((chunks, None))
}

/// Every origin of which anything is stored.
///
/// # Errors
/// What the database says.
pub fn origins(transaction: &ReadTransaction) -> Result<BTreeSet<Origin>, Trouble> {
    let entries = transaction.open_table(ENTRIES)?;
    let mut origins = BTreeSet::new();
    for item in transaction.open_table(ORIGINS)?.iter()? {
        let (node, incarnation) = item?.0.value();
        origins.insert(Origin { node, incarnation });
    }
    let mut from = (0, 0, 0);
    while let Some((row, _)) = entries.range(from..)?.next().transpose()? {
        let (node, incarnation, _) = row.value();
        origins.insert(Origin { node, incarnation });
        from = (node, incarnation, u64::MAX);
        if entries.get(from)?.is_some() {
            // Nothing is ever written there; a flipped key is not worth an endless search.
            break;
        }
    }
    Ok(origins)
}

fn boundaries_of(transaction: &ReadTransaction, origin: Origin) -> Result<BTreeMap<u64, Hash>, Trouble> {
    let table = transaction.open_table(BOUNDARIES)?;
    let mut boundaries = BTreeMap::new();
    for item in table.range(key(origin, 0)..=key(origin, u64::MAX))? {
        let (row, value) = item?;
        let number = row.value().2;
        if let Some(hash) = read_boundary(origin, number, value.value()) {
            boundaries.insert(number, hash);
        }
    }
    Ok(boundaries)
}

/// One origin, while it is gone through.
struct Pass {
    record: Option<Record>,
    boundaries: BTreeMap<u64, Hash>,
    max_tail_bytes: usize,
    chain: Chain,
    /// The number that should come next.
    next: u64,
    damaged: Vec<(u64, u64)>,
    unwritten: Vec<(u64, Hash)>,
    tail: VecDeque<Chunk>,
    tail_bytes: usize,
    /// Behind damage, since the last boundary that is known.
    aside: Vec<Chunk>,
    entries: u64,
    entry_bytes: u64,
}

impl Pass {
    fn new(record: Option<Record>, boundaries: BTreeMap<u64, Hash>, max_tail_bytes: usize) -> Self {
        // Without its record an origin begins with the first row that is left.
        let (next, hash) = record.map_or((0, EMPTY), |record| (record.first, record.cut_hash));
        Self {
            record,
            boundaries,
            max_tail_bytes,
            chain: Chain::from_boundary(next.saturating_sub(1), hash),
            next,
            damaged: Vec::new(),
            unwritten: Vec::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            aside: Vec::new(),
            entries: 0,
            entry_bytes: 0,
        }
    }

    fn take(&mut self, chunk: &Chunk, visit: &mut impl FnMut(&Chunk)) {
        if self.next == 0 {
            self.next = chunk.first;
            let hash = self.boundaries.get(&(chunk.first - 1)).copied().unwrap_or(EMPTY);
            self.chain = Chain::from_boundary(chunk.first - 1, hash);
        }
        if chunk.last() < self.next {
            return;
        }
        let chunk = chunk.from(self.next);
        if chunk.first > self.next {
            self.damage(self.next, chunk.first - 1);
            self.tail.clear();
            self.tail_bytes = 0;
        }
        self.check(&chunk);
        if self.chain.height() < chunk.last() {
            self.aside.push(chunk.clone());
        } else {
            self.aside.clear();
        }
        visit(&chunk);
        self.next = chunk.last() + 1;
        self.entries += chunk.ends.len() as u64;
        self.entry_bytes += chunk.bytes.len() as u64;
        self.tail_bytes += chunk.bytes.len();
        self.tail.push_back(chunk);
        while self.tail_bytes > self.max_tail_bytes
            && let Some(oldest) = self.tail.pop_front()
        {
            self.tail_bytes -= oldest.bytes.len();
        }
    }

    fn damage(&mut self, first: u64, last: u64) {
        match self.damaged.last_mut() {
            Some((_, end)) if *end + 1 >= first => *end = last.max(*end),
            _ => self.damaged.push((first, last)),
        }
    }

    /// Hashes on, segment by segment, and compares with what was stored.
    fn check(&mut self, chunk: &Chunk) {
        while self.chain.height() < chunk.last() {
            if self.chain.height() + 1 < chunk.first && !self.skip(chunk) {
                return;
            }
            let to = chunk.last().min(boundary_before(self.chain.height()) + SEGMENT_ENTRIES);
            let begin = boundary_before(self.chain.height()) + 1;
            self.chain.push_to(chunk, to);
            if !to.is_multiple_of(SEGMENT_ENTRIES) {
                continue;
            }
            match self.boundaries.get(&to).copied() {
                None => self.unwritten.push((to, self.chain.hash())),
                Some(stored) if stored == self.chain.hash() => {}
                Some(stored) => {
                    let first = self.record.map_or(begin, |record| begin.max(record.first));
                    self.damage(first, to);
                    self.chain.skip_to(to, stored);
                }
            }
        }
    }

    /// Over a gap before a chunk, to the next boundary that is known. Says whether the chunk goes on behind it.
    fn skip(&mut self, chunk: &Chunk) -> bool {
        for (number, hash) in self.known(chunk.last()) {
            self.chain.skip_to(number, hash);
            if number + 1 >= chunk.first {
                break;
            }
        }
        self.chain.height() + 1 >= chunk.first && self.chain.height() < chunk.last()
    }

    /// The stored boundaries behind what was hashed, up to an entry.
    fn known(&self, to: u64) -> Vec<(u64, Hash)> {
        let behind = self.boundaries.range(self.chain.height()..).filter(|(number, _)| **number > self.chain.height());
        behind.take_while(|(number, _)| **number <= to).map(|(number, hash)| (*number, *hash)).collect()
    }

    fn finish(mut self, origin: Origin) -> Option<Scanned> {
        let read_to = self.next.checked_sub(1);
        let is_record_lost = self.record.is_none();
        let record = match self.record {
            Some(record) => record,
            None => {
                let first = self.chain.boundaries().next()?.0 + 1;
                Record { first, height: read_to?, cut_hash: self.chain.hash_at(first - 1).unwrap_or(EMPTY) }
            }
        };
        let height = record.height.max(read_to.unwrap_or_default());
        if self.next <= height {
            self.damage(self.next, height);
        }
        if self.next <= height {
            // The chain goes on at the last boundary, so that what is damaged behind it comes as if it were new.
            for (number, hash) in self.known(height) {
                self.chain.skip_to(number, hash);
            }
        }
        if self.chain.height() < height {
            // What follows damage without a boundary between cannot be checked against the running hash.
            self.tail.clear();
        }
        let begin = self.chain.height() + 1;
        self.aside.retain(|chunk| chunk.last() >= begin);
        Some(Scanned {
            recovered: Recovered {
                origin,
                first: record.first,
                height,
                chain: self.chain,
                damaged: self.damaged,
                tail: self.tail.into(),
                aside: self.aside,
            },
            entries: self.entries,
            entry_bytes: self.entry_bytes,
            unwritten: self.unwritten,
            is_record_lost,
        })
    }
}

/// Lets go of what is too much, that of the earliest lives first.
fn bound_tails(found: &mut [Scanned], max_tail_bytes: usize) {
    let bytes = |scanned: &Scanned| scanned.recovered.tail.iter().map(|chunk| chunk.bytes.len()).sum::<usize>();
    let mut total: usize = found.iter().map(bytes).sum();
    let mut by_age: Vec<&mut Scanned> = found.iter_mut().collect();
    by_age.sort_by_key(|scanned| scanned.recovered.origin.incarnation);
    for scanned in by_age {
        if total <= max_tail_bytes {
            break;
        }
        total -= bytes(scanned);
        scanned.recovered.tail = Vec::new();
    }
}
