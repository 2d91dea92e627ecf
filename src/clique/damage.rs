//! What is wrong with this node's copy: stretches that cannot be read back, and how they are got again; and stretches
//! on which another node holds other entries.
//!
//! What is damaged is fetched from a peer one segment at a time, checked against the running hash at both ends of the
//! segment, and written in place of what is damaged in it. A contradiction is another matter (`adoption`): each node's hash
//! follows from what it was given, so neither is known to be wrong.

use std::collections::BTreeMap;

use super::{
    Chain, Chunk, LinkId, Origin,
    chain::{SEGMENT_ENTRIES, boundary_before},
    fetch::{Fetch, Fetched},
};

/// Entries `first..=last` of an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch {
    pub origin: Origin,
    pub first: u64,
    pub last: u64,
}

/// What came of a piece from a peer.
#[derive(Debug)]
pub enum Repaired {
    /// The rest of the segment is to be asked for.
    Ask(Stretch),
    /// The segment is as it was; these are to be written.
    Write(Vec<Chunk>),
    /// Nothing that was asked for, or not what it was.
    Nothing,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Damage {
    /// Per origin, in order, not touching.
    stretches: BTreeMap<Origin, Vec<(u64, u64)>>,
    /// The segment that is being got again.
    repair: Option<Fetch>,
    /// The link that was asked last: the next is another, if there is one.
    last_link: LinkId,
}

impl Damage {
    pub fn add(&mut self, Stretch { origin, mut first, mut last }: Stretch) {
        let stretches = self.stretches.entry(origin).or_default();
        stretches.retain(|(from, to)| {
            let touches = *from <= last + 1 && first <= to + 1;
            if touches {
                (first, last) = (first.min(*from), last.max(*to));
            }
            !touches
        });
        stretches.push((first, last));
        stretches.sort_unstable();
    }

    /// Whether any of these cannot be read back.
    #[must_use]
    pub fn touches(&self, Stretch { origin, first, last }: Stretch) -> bool {
        self.stretches
            .get(&origin)
            .is_some_and(|stretches| stretches.iter().any(|(from, to)| *from <= last && first <= *to))
    }

    /// These entries are whole again, or gone.
    pub fn remove(&mut self, gone: Stretch) {
        let Some(stretches) = self.stretches.get_mut(&gone.origin) else { return };
        let rest = stretches.iter().flat_map(|(first, last)| {
            let before = (*first, (*last).min(gone.first.saturating_sub(1)));
            let after = ((*first).max(gone.last + 1), *last);
            [before, after].into_iter().filter(|(first, last)| first <= last)
        });
        *stretches = rest.collect();
        if stretches.is_empty() {
            self.stretches.remove(&gone.origin);
        }
    }

    pub fn stretches(&self) -> impl Iterator<Item = Stretch> + '_ {
        self.stretches.iter().flat_map(|(origin, stretches)| {
            stretches.iter().map(|(first, last)| Stretch { origin: *origin, first: *first, last: *last })
        })
    }

    /// Whether an answer is waited for.
    pub fn is_repairing(&self, now_ms: u64) -> bool {
        self.repair.as_ref().is_some_and(|repair| !repair.is_late(now_ms))
    }

    /// What is to be asked for next, and on which link, if nothing is under way. `chain` is the running hash of an origin;
    /// `holds` says on which links all of a stretch can be had.
    pub fn next<'a>(
        &mut self,
        now_ms: u64,
        chain: impl Fn(Origin) -> Option<&'a Chain>,
        holds: impl Fn(Stretch) -> Vec<LinkId>,
    ) -> Option<(LinkId, Stretch)> {
        if self.is_repairing(now_ms) {
            return None;
        }
        self.repair = None;
        let (link, stretch, begin) = self.stretches().find_map(|damaged| {
            let before = boundary_before(damaged.first - 1);
            let chain = chain(damaged.origin)?;
            // Of the segment that is not complete the hash at the height is known, as long as nothing is added.
            let (first, last) = (before + 1, (before + SEGMENT_ENTRIES).min(chain.height()));
            let stretch = Stretch { first, last, ..damaged };
            let begin = chain.hash_at(before)?;
            chain.hash_at(last)?;
            let links = holds(stretch);
            let link = links.iter().find(|link| **link > self.last_link).or(links.first())?;
            Some((*link, stretch, Chain::from_boundary(before, begin)))
        })?;
        self.last_link = link;
        let repair = self.repair.insert(Fetch::after(link, stretch.origin, begin));
        Some(repair.ask(stretch.last, now_ms))
    }

    /// Takes what a peer has sent. `chain` is the running hash of its origin here.
    pub fn take(&mut self, link: LinkId, origin: Origin, chunk: Chunk, chain: &Chain, now_ms: u64) -> Repaired {
        let chunks = match self.repair.as_mut().and_then(|repair| repair.take(link, origin, chunk, now_ms)) {
            None => return Repaired::Nothing,
            Some(Fetched::Ask(rest)) => return Repaired::Ask(rest),
            Some(Fetched::Whole(chunks)) => chunks,
        };
        let Some(Fetch { chain: repaired, .. }) = self.repair.take() else { return Repaired::Nothing };
        let last = repaired.height();
        if chain.hash_at(last) != Some(repaired.hash()) {
            return Repaired::Nothing;
        }
        let segment = Stretch { origin, first: boundary_before(last - 1) + 1, last };
        let damaged: Vec<Stretch> = self.stretches().filter(|stretch| stretch.origin == origin).collect();
        self.remove(segment);
        let pieces = chunks.iter().flat_map(|chunk| {
            damaged.iter().filter_map(|stretch| chunk.within(stretch.first, stretch.last)).collect::<Vec<_>>()
        });
        Repaired::Write(pieces.collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stretches_are_what_was_added_and_not_removed(
            steps in proptest::collection::vec((any::<bool>(), 1..60_u64, 0..12_u64), 1..40)
        ) {
            let origin = Origin { node: 0, incarnation: 1 };
            let (mut damage, mut model) = (Damage::default(), std::collections::BTreeSet::new());
            for (adds, first, more) in steps {
                let stretch = Stretch { origin, first, last: first + more };
                if adds {
                    damage.add(stretch);
                    model.extend(first..=first + more);
                } else {
                    damage.remove(stretch);
                    model.retain(|number| !(first..=first + more).contains(number));
                }
                let all: Vec<u64> = damage.stretches().flat_map(|stretch| stretch.first..=stretch.last).collect();
                prop_assert_eq!(all, model.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}
