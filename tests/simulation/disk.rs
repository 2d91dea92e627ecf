//! A node's disk: a plain model of the store. What was written is safe once it is synced; a crash takes the rest.

use std::collections::BTreeMap;

use clique::{
    clique::{
        Chain, Chunk, Origin,
        chain::{EMPTY, Hash, boundary_before},
    },
    node::hub::{FromStore, Recovered, ToStore},
    wire::entry::read_chunk,
};

use crate::dice::Dice;

/// Entries that were written in one piece.
#[derive(Debug)]
struct Row {
    chunk: Chunk,
    /// Bits have flipped: it cannot be read back as it was written. (What was written is kept to compute hashes.)
    is_damaged: bool,
}

/// What is on the disk of one origin.
#[derive(Debug)]
struct Kept {
    /// The last entry that is gone, and the running hash there.
    base: (u64, Hash),
    /// By the number of their first entry.
    rows: BTreeMap<u64, Row>,
    /// Behind damage after the last boundary: sound, and to go on from there once what is missing is there.
    aside: Vec<Chunk>,
}

impl Kept {
    fn new() -> Self {
        Self { base: (0, EMPTY), rows: BTreeMap::new(), aside: Vec::new() }
    }

    fn height(&self) -> u64 {
        self.rows.values().next_back().map_or(self.base.0, |row| row.chunk.last())
    }

    fn row(&self, number: u64) -> Option<&Row> {
        self.rows.range(..=number).next_back().map(|(_, row)| row).filter(|row| row.chunk.last() >= number)
    }

    /// What can be read from an entry on, up to about so many bytes.
    fn read(&self, from: u64, max_bytes: usize) -> Option<Chunk> {
        let first = self.row(from)?.chunk.first;
        let (mut bytes, mut next) = (Vec::new(), first);
        for row in self.rows.range(first..).map(|(_, row)| row) {
            if row.is_damaged || row.chunk.first != next || (next > first && bytes.len() >= max_bytes) {
                break;
            }
            bytes.extend_from_slice(&row.chunk.bytes);
            next = row.chunk.last() + 1;
        }
        read_chunk(first, bytes.into()).ok().map(|(chunk, _)| chunk)
    }

    fn cut(&mut self, first: u64, hash: Hash) {
        self.aside.retain(|chunk| chunk.last() >= first);
        self.base = (first - 1, hash);
        let rows = std::mem::take(&mut self.rows).into_values().filter(|row| row.chunk.last() >= first);
        self.rows = rows.map(|row| (row.chunk.first.max(first), Row { chunk: row.chunk.from(first), ..row })).collect();
    }

    /// As the store does: after the last boundary what follows a damaged row is set aside until that is there.
    fn settle(&mut self) {
        let boundary = boundary_before(self.aside.last().map_or(self.height(), Chunk::last));
        let Some(damaged) = self.rows.values().find(|row| row.is_damaged && row.chunk.last() > boundary) else {
            return;
        };
        let first = damaged.chunk.first;
        let behind = self.rows.split_off(&first).into_values();
        let aside = std::mem::take(&mut self.aside);
        for row in behind {
            if let Some(chunk) = row.chunk.within(1, boundary) {
                self.rows.insert(chunk.first, Row { chunk, ..row });
            } else if !row.is_damaged {
                self.aside.push(row.chunk);
            }
        }
        self.aside.extend(aside);
    }

    fn repair(&mut self, chunk: &Chunk) {
        for row in self.rows.values_mut() {
            let Some(part) = chunk.within(row.chunk.first, row.chunk.last()) else { continue };
            if part.ends.len() == row.chunk.ends.len() {
                row.is_damaged = false;
            }
            let before = row.chunk.within(row.chunk.first, part.first - 1);
            let after = row.chunk.within(part.last() + 1, row.chunk.last());
            let pieces = [before, Some(part), after];
            let bytes: Vec<u8> = pieces.iter().flatten().flat_map(|piece| piece.bytes.to_vec()).collect();
            row.chunk = read_chunk(row.chunk.first, bytes.into()).unwrap().0;
        }
    }

    /// The running hash over everything, or over what is before an entry that is damaged.
    fn chain(&self) -> Chain {
        let mut chain = Chain::from_boundary(self.base.0, self.base.1);
        self.rows.values().for_each(|row| chain.push(&row.chunk));
        chain
    }

    /// Somebody has said something else here: the last letter of some text is another one. Says which.
    fn contradict(&mut self, dice: &mut Dice) -> Option<u64> {
        let rows: Vec<u64> =
            self.rows.iter().filter(|(_, row)| row.chunk.bytes.ends_with(b"x")).map(|(first, _)| *first).collect();
        let row = dice.pick(&rows).and_then(|first| self.rows.get_mut(&first))?;
        let mut bytes = row.chunk.bytes.to_vec();
        *bytes.last_mut().unwrap() = b'y';
        row.chunk.bytes = bytes.into();
        Some(row.chunk.last())
    }

    fn recovered(&self, origin: Origin, max_tail_bytes: usize) -> Recovered {
        let chain = self.chain();
        let (mut tail, mut bytes, mut damaged) = (Vec::new(), 0, Vec::new());
        for row in self.rows.values().filter(|row| row.is_damaged) {
            damaged.push((row.chunk.first, row.chunk.last()));
        }
        for row in self.rows.values().rev().take_while(|row| !row.is_damaged) {
            bytes += row.chunk.bytes.len();
            if bytes > max_tail_bytes {
                break;
            }
            tail.insert(0, row.chunk.clone());
        }
        let aside = self.aside.clone();
        let height = aside.last().map_or(self.height(), Chunk::last);
        Recovered { origin, first: self.base.0 + 1, height, chain, damaged, tail, aside }
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct SimDisk {
    kept: BTreeMap<Origin, Kept>,
    /// Written, not yet synced.
    queue: Vec<ToStore>,
    reads: Vec<(u64, Origin, u64, usize)>,
    pub is_full: bool,
    /// The hub has been told that nothing can be written.
    has_told: bool,
    /// Something is going to be done about the queue.
    pub is_busy: bool,
    /// What the hub must never ask for.
    pub wrong: Vec<String>,
}

impl SimDisk {
    pub fn take(&mut self, order: ToStore) {
        match order {
            ToStore::Read { id, origin, from, max_bytes } => self.reads.push((id, origin, from, max_bytes)),
            write => self.queue.push(write),
        }
    }

    pub fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.reads.is_empty()
    }

    /// The sequence of what was written last.
    pub fn last_sequence(&self) -> Option<u64> {
        self.queue.iter().rev().find_map(ToStore::sequence)
    }

    /// Syncs what was written, if there is room, and answers what was read.
    pub fn work(&mut self) -> Vec<FromStore> {
        let mut answers = Vec::new();
        if self.is_full && !self.queue.is_empty() {
            if !std::mem::replace(&mut self.has_told, true) {
                answers.push(FromStore::Unwritable { reason: "no space left on device".to_owned() });
            }
        } else {
            if std::mem::take(&mut self.has_told) {
                answers.push(FromStore::Writable);
            }
            let synced = self.last_sequence();
            self.commit(usize::MAX);
            answers.extend(synced.map(|sequence| FromStore::Synced { sequence }));
        }
        for (id, origin, from, max_bytes) in std::mem::take(&mut self.reads) {
            let chunk = match self.kept.get(&origin).and_then(|kept| kept.row(from)) {
                Some(row) if row.is_damaged => {
                    let (first, last) = (row.chunk.first, row.chunk.last());
                    answers.push(FromStore::Damaged { origin, first, last });
                    None
                }
                Some(_) => self.kept.get(&origin).and_then(|kept| kept.read(from, max_bytes)),
                None => None,
            };
            answers.push(FromStore::Read { id, chunk });
        }
        answers
    }

    /// Puts the first so many writes on the disk.
    fn commit(&mut self, count: usize) {
        let count = count.min(self.queue.len());
        for write in self.queue.drain(..count) {
            match write {
                ToStore::Entries { origin, chunk, .. } => {
                    let kept = self.kept.entry(origin).or_insert(Kept::new());
                    if chunk.first != kept.height() + 1 {
                        let (height, first) = (kept.height(), chunk.first);
                        self.wrong.push(format!("{origin}#{first} was written after {height}"));
                    }
                    kept.rows.insert(chunk.first, Row { chunk, is_damaged: false });
                    let height = kept.height();
                    kept.aside.retain(|chunk| chunk.last() > height);
                }
                ToStore::Cut { origin, first, hash, .. } => {
                    let kept = self.kept.entry(origin).or_insert(Kept::new());
                    kept.cut(first, hash);
                }
                ToStore::Repair { origin, chunk, .. } => {
                    if let Some(kept) = self.kept.get_mut(&origin) {
                        kept.repair(&chunk);
                    }
                }
                ToStore::Rehash { origin, chain, .. } => {
                    let Some(kept) = self.kept.get_mut(&origin) else { continue };
                    if let Some(hash) = chain.hash_at(kept.base.0) {
                        kept.base.1 = hash;
                    }
                    if kept.chain().hash() != chain.hash() {
                        self.wrong
                            .push(format!("{origin} was said to have another hash than follows from its entries"));
                    }
                }
                ToStore::Read { .. } => {}
            }
        }
    }

    /// The process or the machine is gone: of what was not synced some may be on the disk all the same.
    pub fn crash(&mut self, dice: &mut Dice) {
        if !self.is_full && dice.chance(30) {
            self.commit(usize::try_from(dice.below(self.queue.len() as u64 + 1)).unwrap());
        }
        self.forget_orders();
    }

    /// A stop in good order writes everything.
    pub fn close(&mut self) {
        if !self.is_full {
            self.commit(usize::MAX);
        }
        self.forget_orders();
    }

    fn forget_orders(&mut self) {
        (self.queue, self.reads) = (Vec::new(), Vec::new());
        (self.has_told, self.is_busy) = (false, false);
    }

    /// Before it is read at a start.
    pub fn settle(&mut self) {
        self.kept.values_mut().for_each(Kept::settle);
    }

    pub fn wipe(&mut self) {
        self.kept.clear();
    }

    /// Takes the last row of some origin away, as a store that forgets would.
    pub fn forget_a_row(&mut self, dice: &mut Dice) {
        let origins: Vec<Origin> = self.kept.keys().copied().collect();
        if let Some(kept) = dice.pick(&origins).and_then(|origin| self.kept.get_mut(&origin)) {
            kept.rows.pop_last();
        }
    }

    /// Flips bits in some rows of origins of which everything is elsewhere, too; says how many.
    pub fn damage(&mut self, dice: &mut Dice, is_elsewhere: impl Fn(Origin, u64) -> bool) -> usize {
        let mut count = 0;
        for (origin, kept) in &mut self.kept {
            let mut numbers = kept.rows.values().flat_map(|row| row.chunk.first..=row.chunk.last());
            if !numbers.all(|number| is_elsewhere(*origin, number)) {
                continue;
            }
            for row in kept.rows.values_mut() {
                if dice.chance(10) {
                    row.is_damaged = true;
                    count += 1;
                }
            }
        }
        count
    }

    /// Some copies of what other nodes have said, all of it elsewhere, become other ones, with hashes that are right for
    /// them; says which.
    pub fn contradict(
        &mut self,
        node: u16,
        dice: &mut Dice,
        is_elsewhere: impl Fn(Origin, u64) -> bool,
    ) -> Vec<(Origin, u64)> {
        let mut others = Vec::new();
        for (origin, kept) in self.kept.iter_mut().filter(|(origin, _)| origin.node != node) {
            let mut numbers = kept.rows.values().flat_map(|row| row.chunk.first..=row.chunk.last());
            let is_elsewhere = numbers.all(|number| is_elsewhere(*origin, number));
            if is_elsewhere && dice.chance(50) {
                others.extend(kept.contradict(dice).map(|number| (*origin, number)));
            }
        }
        others
    }

    pub fn is_damaged(&self) -> bool {
        self.kept.values().flat_map(|kept| kept.rows.values()).any(|row| row.is_damaged)
    }

    /// Whether an entry is on the disk, as it was written.
    pub fn has(&self, origin: Origin, number: u64) -> bool {
        self.kept.get(&origin).is_some_and(|kept| {
            let is_aside = kept.aside.iter().any(|chunk| (chunk.first..=chunk.last()).contains(&number));
            is_aside || kept.row(number).is_some_and(|row| !row.is_damaged)
        })
    }

    /// Whether an entry is on the disk, or was and has been cut.
    pub fn had(&self, origin: Origin, number: u64) -> bool {
        self.has(origin, number) || self.kept.get(&origin).is_some_and(|kept| number <= kept.base.0)
    }

    /// What is held back behind damage; it comes late.
    pub fn aside(&self) -> impl Iterator<Item = (Origin, u64)> + '_ {
        let chunks = self.kept.iter().flat_map(|(origin, kept)| kept.aside.iter().map(move |chunk| (*origin, chunk)));
        chunks.flat_map(|(origin, chunk)| (chunk.first..=chunk.last()).map(move |number| (origin, number)))
    }

    pub fn recovered(&self, max_tail_bytes: usize) -> Vec<Recovered> {
        self.kept.iter().map(|(origin, kept)| kept.recovered(*origin, max_tail_bytes)).collect()
    }

    /// Everything that can be read, each origin in order.
    pub fn rows(&self) -> impl Iterator<Item = (Origin, &Chunk)> {
        self.kept.iter().flat_map(|(origin, kept)| {
            let rows = kept.rows.values().filter(|row| !row.is_damaged).map(|row| &row.chunk);
            rows.chain(&kept.aside).map(move |chunk| (*origin, chunk))
        })
    }

    /// The latest incarnation of a node that anything is kept of.
    pub fn last_incarnation(&self, node: u16) -> u64 {
        let lives = self.kept.keys().filter(|origin| origin.node == node);
        lives.map(|origin| origin.incarnation).max().unwrap_or(0)
    }
}
