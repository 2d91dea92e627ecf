//! What a replica keeps on its disk, and for how long; what is wrong with it; and how it compares with that of others.

use std::collections::VecDeque;

use super::{
    Chain, Chunk, Held, Keep, LinkId, Origin, Repaired, Replica, Stored, Stretch, Write,
    chain::{EMPTY, Hash, boundary_before},
    replica::Unsynced,
    sources::Ask,
    time::unix_ms,
};

impl Replica {
    /// Begins with what is on the disk of an origin. The tail is applied by `apply_next`, as if it had just come: what
    /// was waiting for something at the crash waits again.
    pub fn recover(&mut self, stored: Stored, now_ms: u64) {
        let origin = stored.origin;
        let last = stored.chain.height();
        self.log.recover(stored);
        self.applied.raise(origin, self.log.applied(origin));
        self.arrivals.entry(origin).or_default().push_back((last, now_ms));
    }

    /// What was found on the disk behind entries that are missing there: each chunk with the latest hybrid time in it, in
    /// order. It goes on from where the log has come to it.
    pub fn set_aside(&mut self, origin: Origin, chunks: VecDeque<(u64, Chunk)>) {
        if !chunks.is_empty() {
            self.aside.insert(origin, chunks);
        }
    }

    /// Takes what was set aside, as far as the log has come to it.
    pub(super) fn join_aside(&mut self, origin: Origin, now_ms: u64) {
        let Some(mut chunks) = self.aside.remove(&origin) else { return };
        while let Some((latest, chunk)) = chunks.pop_front_if(|(_, chunk)| chunk.first <= self.log.height(origin) + 1) {
            let height = self.log.height(origin);
            if chunk.last() > height {
                self.arrivals.entry(origin).or_default().push_back((chunk.last(), now_ms));
                self.push(origin, chunk.from(height + 1), latest);
            }
        }
        self.set_aside(origin, chunks);
    }

    /// What is to be written, since this was last called.
    pub fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }

    /// Every write up to this one is on the disk.
    pub fn synced(&mut self, sequence: u64) -> Vec<Ask> {
        let was_full = self.is_full();
        while let Some(written) = self.unsynced.pop_front_if(|written| written.sequence <= sequence) {
            self.unsynced_bytes -= written.bytes;
            self.log.raise_synced(written.origin, written.last);
            self.note_change(written.origin);
        }
        if was_full { self.plan() } else { Vec::new() }
    }

    /// Bytes that are not on the disk yet.
    #[must_use]
    pub fn unsynced_bytes(&self) -> usize {
        self.unsynced_bytes
    }

    /// Whether the disk is so far behind that nothing more is taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.unsynced_bytes > self.max_unsynced_bytes
    }

    /// Asks for an origin no longer, until the disk has caught up.
    pub fn ask_later(&mut self, link: LinkId, origin: Origin) -> Ask {
        self.sources.forget(origin);
        Ask::Stop { link, origin }
    }

    /// Whether everything that is held is on the disk.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    pub(super) fn write(&mut self, origin: Origin, last: u64, bytes: usize, write: impl FnOnce(u64) -> Write) {
        if !self.has_store {
            return;
        }
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        self.writes.push(write(sequence));
        self.unsynced.push_back(Unsynced { sequence, origin, last, bytes });
        self.unsynced_bytes += bytes;
    }

    /// Counts entries as kept. `latest` is the latest hybrid time among them.
    pub fn recall(&mut self, origin: Origin, chunk: &Chunk, latest: u64) {
        self.retention.add(origin, chunk.last(), chunk.bytes.len() as u64, unix_ms(latest));
    }

    /// Up to which entry an origin is to be cut, and the first that is then kept: as peers have, or as the bounds say.
    #[must_use]
    pub fn next_cut(&self, keep: Keep, now_unix_ms: u64) -> Option<(Origin, u64)> {
        let settled = |origin: Origin| self.log.synced(origin).min(self.log.applied(origin));
        let floors = self.sources.floors();
        let cut_elsewhere = floors.iter().find(|(origin, (floor, _))| {
            // What has come and is not applied yet is applied first, so that none is passed over.
            let is_applied = self.log.applied(**origin) == self.log.height(**origin);
            *floor > self.log.floor(**origin) && (*floor <= settled(**origin) + 1 || is_applied)
        });
        let cut_elsewhere = cut_elsewhere.map(|(origin, (floor, _))| (*origin, *floor));
        cut_elsewhere.or_else(|| {
            let (origin, last) = self.retention.next(keep, now_unix_ms, settled)?;
            Some((origin, last + 1))
        })
    }

    /// Keeps nothing before `first` any more.
    pub fn cut(&mut self, origin: Origin, first: u64) {
        if self.log.height(origin) + 1 < first {
            self.skip_to(origin, first);
            return;
        }
        self.retention.cut(origin, first);
        self.damage.remove(Stretch { origin, first: 1, last: first - 1 });
        let hash = self.known_chain(origin).and_then(|chain| chain.hash_at(first - 1)).unwrap_or(EMPTY);
        self.log.cut(origin, first);
        self.adoption_was_cut(origin, first);
        self.write(origin, 0, 0, |sequence| Write::Cut { sequence, origin, first, hash });
        self.note_change(origin);
    }

    /// These entries cannot be read back from the disk as they were written.
    pub fn damaged_at(&mut self, stretch: Stretch) {
        let first = stretch.first.max(self.log.floor(stretch.origin));
        let last = stretch.last.min(self.log.height(stretch.origin));
        if first <= last {
            self.damage.add(Stretch { first, last, ..stretch });
        }
    }

    /// What cannot be read back here.
    pub fn damaged(&self) -> impl Iterator<Item = Stretch> + '_ {
        self.damage.stretches()
    }

    /// The running hash of an origin, if this node knows it from where its log begins.
    fn known_chain(&self, origin: Origin) -> Option<&Chain> {
        self.log.chain(origin).filter(|chain| chain.is_known())
    }

    /// Whether the peer of a link holds the same of an origin as this node, by the running hash at the height of both.
    #[must_use]
    pub fn agrees(&self, link: LinkId, origin: Origin) -> bool {
        let height = self.log.height(origin);
        let mine = self.known_chain(origin).map(|chain| (height, chain.hash()));
        mine.is_some() && self.sources.peer_hash(link, origin) == mine
    }

    /// Where another node holds other entries, and which node.
    pub fn diverging(&self) -> impl Iterator<Item = (u16, Stretch)> + '_ {
        self.diverging.iter().map(|((_, node), stretch)| (*node, *stretch))
    }

    /// What is to be asked for to repair what is damaged or contradicts another's, and on which link. A peer answers one
    /// such question at a time.
    pub fn next_repair(&mut self, now_ms: u64) -> Option<(LinkId, Stretch)> {
        if !self.damage.is_repairing(now_ms) {
            let ask = self.next_adoption(now_ms);
            if ask.is_some() || self.is_adopting() {
                return ask;
            }
        }
        let (log, sources) = (&self.log, &self.sources);
        self.damage.next(now_ms, |origin| log.chain(origin), |stretch| sources.holders(stretch))
    }

    /// A peer has sent what it was asked for to repair.
    pub fn range_came(&mut self, link: LinkId, origin: Origin, chunk: Chunk, now_ms: u64) -> Repaired {
        if let Some(adopted) = self.adopt(link, origin, chunk.clone(), now_ms) {
            return adopted;
        }
        let Some(chain) = self.log.chain(origin) else { return Repaired::Nothing };
        let repaired = self.damage.take(link, origin, chunk, chain, now_ms);
        if let Repaired::Write(chunks) = &repaired {
            self.put_in_place(origin, chunks);
        }
        repaired
    }

    /// What changed in what this node holds since this was last called for the link.
    pub fn take_changes(&mut self, link: LinkId) -> Vec<Held> {
        let Some(changed) = self.changed.get_mut(&link) else {
            return Vec::new();
        };
        let held: Vec<Held> = std::mem::take(changed).into_iter().map(|origin| self.log.held_of(origin)).collect();
        // What the peer said may have been of entries that were not here yet.
        if let Some(node) = self.sources.node(link) {
            for Held { origin, .. } in &held {
                let said = self.sources.peer_hash(link, *origin).filter(|(to, _)| *to > 0);
                if let Some((to, hash)) = said {
                    self.compare_one(node, *origin, to, hash);
                }
            }
        }
        held
    }

    /// Whether the link has not been told of a change in what is held of an origin.
    #[must_use]
    pub fn has_changed(&self, link: LinkId, origin: Origin) -> bool {
        self.changed.get(&link).is_some_and(|changed| changed.contains(&origin))
    }

    pub(super) fn note_change(&mut self, origin: Origin) {
        for changed in self.changed.values_mut() {
            changed.insert(origin);
        }
    }

    /// Compares the running hashes with those of a peer.
    pub(super) fn compare(&mut self, node: u16, held: &[Held]) {
        for Held { origin, hashed_to, hash, .. } in held.iter().filter(|held| held.hashed_to > 0) {
            self.compare_one(node, *origin, *hashed_to, *hash);
        }
    }

    pub(super) fn compare_one(&mut self, node: u16, origin: Origin, hashed_to: u64, hash: Hash) {
        let key = (origin, node);
        let Some(mine) = self.known_chain(origin).and_then(|chain| chain.hash_at(hashed_to)) else { return };
        if mine == hash {
            self.agreed.insert(key, hashed_to);
            if self.diverging.get(&key).is_some_and(|stretch| stretch.first <= hashed_to) {
                self.diverging.remove(&key);
            }
        } else {
            // What was equal there is so no more: the other has taken over another version.
            if self.agreed.get(&key).is_some_and(|agreed| *agreed >= hashed_to) {
                self.agreed.remove(&key);
            }
            let first = boundary_before(self.agreed.get(&key).copied().unwrap_or(0)) + 1;
            self.diverging.insert(key, Stretch { origin, first, last: hashed_to });
        }
    }
}

#[cfg(test)]
#[path = "keeping_tests.rs"]
mod tests;
