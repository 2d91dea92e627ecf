//! Two nodes that hold other entries under the same numbers become one again: one version is taken over everywhere.
//!
//! It is that of the origin's own node. As long as that is not linked, a node yields to the one with the lowest index of those that
//! contradict it, unless it knows its version to be that of the origin's own node. So whoever meets whom first, all end with
//! the same, and no two take over each other's.
//!
//! From the last boundary up to which both hold the same on, the other's entries are fetched a segment at a time and hashed. Those
//! that differ are written in place of what is here; when there are no more, the running hash follows in one write. Should the
//! link end before that, what was written contradicts the running hash: it counts as damaged, and is repaired from whoever has it
//! as it was. Numbers stay what they are, so nothing that was delivered is delivered again.

use super::{
    Chain, Chunk, LinkId, Origin, Repaired, Replica, Stretch, Write,
    chain::{EMPTY, SEGMENT_ENTRIES, boundary_before},
    fetch::{Fetch, Fetched},
};

/// A version that is being taken over.
#[derive(Debug)]
pub(super) struct Adoption {
    node: u16,
    /// A segment at a time.
    fetch: Fetch,
    /// The first entry that was written in place of another.
    first_written: Option<u64>,
}

/// Another node's version has been taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenOver {
    pub stretch: Stretch,
    /// From which node.
    pub node: u16,
}

impl Replica {
    /// What is to be asked for to take over another's version, and on which link.
    pub(super) fn next_adoption(&mut self, now_ms: u64) -> Option<(LinkId, Stretch)> {
        if self.adoption.as_ref().is_some_and(|adoption| adoption.fetch.is_late(now_ms)) {
            self.abandon_adoption();
        }
        if self.adoption.is_none() {
            self.adoption = self.begin_adoption();
        }
        let fetch = self.adoption.as_mut().map(|adoption| &mut adoption.fetch).filter(|fetch| !fetch.is_asking())?;
        let (origin, link) = (fetch.origin, fetch.link);
        let height = self.log.height(origin);
        let first = fetch.chain.height() + 1;
        let end = (boundary_before(first - 1) + SEGMENT_ENTRIES).min(height);
        let last = end.min(self.sources.peer_height(link, origin));
        if first <= last && self.sources.peer_first(link, origin) > first {
            // The other has dropped it meanwhile.
            self.abandon_adoption();
            return None;
        }
        if first <= last {
            return Some(fetch.ask(last, now_ms));
        }
        // What the other does not have yet is as it is here; it is the latest, and most often in memory.
        while let Some(chunk) = self.log.chunk(origin, fetch.chain.height() + 1) {
            fetch.chain.push(chunk);
        }
        if fetch.chain.height() == height {
            self.finish_adoption();
        }
        None
    }

    /// Whether an answer is waited for.
    pub(super) fn is_adopting(&self) -> bool {
        self.adoption.as_ref().is_some_and(|adoption| adoption.fetch.is_asking())
    }

    /// Whether a version is to be taken over from a node.
    fn yields_to(&self, node: u16, stretch: Stretch) -> bool {
        let (me, owner) = (self.me().node, stretch.origin.node);
        if node == owner || me == owner {
            return node == owner && me != owner;
        }
        let agreed_with_owner = self.agreed.get(&(stretch.origin, owner)).copied().unwrap_or(0);
        node < me && self.sources.link_to(owner).is_none() && agreed_with_owner < stretch.last
    }

    fn begin_adoption(&self) -> Option<Adoption> {
        self.diverging.iter().find_map(|((origin, node), stretch)| {
            let link = self.sources.link_to(*node).filter(|_| self.yields_to(*node, *stretch))?;
            let chain = self.beginning(link, *origin, *node)?;
            if self.sources.peer_first(link, *origin) > chain.height() + 1 {
                return None;
            }
            Some(Adoption { node: *node, fetch: Fetch::after(link, *origin, chain), first_written: None })
        })
    }

    /// The running hash at the last boundary where both are known to have held the same, or where the logs of both begin.
    fn beginning(&self, link: LinkId, origin: Origin, node: u16) -> Option<Chain> {
        let begins_after = self.log.floor(origin) - 1;
        let agreed = boundary_before(self.agreed.get(&(origin, node)).copied().unwrap_or(0));
        if agreed > begins_after {
            let hash = self.log.chain(origin)?.hash_at(agreed)?;
            return Some(Chain::from_boundary(agreed, hash));
        }
        if begins_after == 0 {
            return Some(Chain::default());
        }
        let (floor, hash) = self.sources.peer_floor(link, origin)?;
        (floor == begins_after + 1 && hash != EMPTY).then(|| Chain::from_boundary(begins_after, hash))
    }

    /// Takes a piece from the peer. `None` if it is not what this asked for.
    pub(super) fn adopt(&mut self, link: LinkId, origin: Origin, chunk: Chunk, now_ms: u64) -> Option<Repaired> {
        let adoption = self.adoption.as_mut()?;
        let chunks = match adoption.fetch.take(link, origin, chunk, now_ms)? {
            Fetched::Ask(rest) => return Some(Repaired::Ask(rest)),
            Fetched::Whole(chunks) => chunks,
        };
        let height = adoption.fetch.chain.height();
        let mine = self.log.chain(origin).and_then(|chain| chain.hash_at(height));
        let first = chunks.first().map_or(height, |chunk| chunk.first);
        if mine == Some(adoption.fetch.chain.hash()) {
            let segment = Stretch { origin, first, last: height };
            if !self.damage.touches(segment) {
                return Some(Repaired::Nothing);
            }
            self.damage.remove(segment);
        } else {
            adoption.first_written.get_or_insert(first);
        }
        self.put_in_place(origin, &chunks);
        Some(Repaired::Write(chunks))
    }

    /// Puts entries where others were, in memory and on the disk.
    pub(super) fn put_in_place(&mut self, origin: Origin, chunks: &[Chunk]) {
        for chunk in chunks {
            self.log.replace(origin, chunk);
            let chunk = chunk.clone();
            self.write(origin, 0, chunk.cost_bytes(), |sequence| Write::Repair { sequence, origin, chunk });
        }
    }

    fn finish_adoption(&mut self) {
        let Some(Adoption { node, fetch: Fetch { origin, mut chain, .. }, first_written }) = self.adoption.take()
        else {
            return;
        };
        let begin = chain.beginning();
        chain.forget_before(self.log.floor(origin) - 1);
        let height = chain.height();
        self.damage.remove(Stretch { origin, first: begin + 1, last: height });
        self.log.rechain(origin, chain.clone());
        self.write(origin, 0, 0, |sequence| Write::Rehash { sequence, origin, chain: Box::new(chain) });
        for ((of, _), agreed) in &mut self.agreed {
            if *of == origin {
                *agreed = (*agreed).min(begin);
            }
        }
        self.diverging.retain(|(of, _), _| *of != origin);
        for (node, hashed_to, hash) in self.sources.hashes_of(origin) {
            self.compare_one(node, origin, hashed_to, hash);
        }
        self.note_change(origin);
        if let Some(first) = first_written {
            self.taken_over.push(TakenOver { stretch: Stretch { origin, first, last: height }, node });
        }
    }

    /// Gives up for now: what was written contradicts the running hash.
    pub(super) fn abandon_adoption(&mut self) {
        let Some(Adoption { fetch, first_written: Some(first), .. }) = self.adoption.take() else { return };
        self.damaged_at(Stretch { origin: fetch.origin, first, last: fetch.chain.height() });
    }

    /// The log of an origin begins anew, beyond what was taken over so far.
    pub(super) fn adoption_was_cut(&mut self, origin: Origin, first: u64) {
        let is_cut = |adoption: &Adoption| adoption.fetch.origin == origin && adoption.fetch.chain.height() + 1 < first;
        if self.adoption.as_ref().is_some_and(is_cut) {
            self.abandon_adoption();
        }
    }

    /// The link is gone.
    pub(super) fn adoption_was_cut_off(&mut self, link: LinkId) {
        if self.adoption.as_ref().is_some_and(|adoption| adoption.fetch.link == link) {
            self.abandon_adoption();
        }
    }

    /// Whose versions have been taken over since this was last called.
    pub fn take_taken_over(&mut self) -> Vec<TakenOver> {
        std::mem::take(&mut self.taken_over)
    }
}

#[cfg(test)]
#[path = "adoption_tests.rs"]
mod tests;
