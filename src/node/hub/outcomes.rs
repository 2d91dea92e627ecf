//! What became of entries, gathered until it is told: one outcome per entry, however many people it went to.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use crate::{
    clique::Origin,
    wire::peer::{MAX_RECIPIENT_NAMES, Outcome},
};

/// Entries whose outcomes are kept for a node that cannot be reached; beyond it the oldest are forgotten.
const MAX_ENTRIES: usize = 10_000;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Outcomes(BTreeMap<(Origin, u64), Outcome>);

impl Outcomes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        match self.0.entry((outcome.origin, outcome.number)) {
            Entry::Vacant(place) => {
                place.insert(outcome);
            }
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.delivered = known.delivered.saturating_add(outcome.delivered);
                known.gone |= outcome.gone;
                let room = MAX_RECIPIENT_NAMES.saturating_sub(known.names.len());
                known.names.extend(outcome.names.into_iter().take(room));
            }
        }
        if self.0.len() > MAX_ENTRIES {
            self.0.pop_first();
        }
    }

    pub(super) fn take(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.0).into_values().collect()
    }
}

/// What is to be told to one node. A batch is kept until that node has confirmed it, so that no cut loses one.
#[derive(Debug, Default)]
pub(super) struct Owed {
    gathering: Outcomes,
    unconfirmed: VecDeque<(u64, Vec<Outcome>)>,
    last_batch: u64,
}

impl Owed {
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.gathering.add(outcome);
    }

    /// What was gathered since the last batch, as the next.
    pub(super) fn next_batch(&mut self) -> Option<(u64, Vec<Outcome>)> {
        if self.gathering.is_empty() {
            return None;
        }
        self.last_batch += 1;
        let batch = (self.last_batch, self.gathering.take());
        self.unconfirmed.push_back(batch.clone());
        let mut entries: usize = self.unconfirmed.iter().map(|(_, outcomes)| outcomes.len()).sum();
        while entries > MAX_ENTRIES
            && let Some((_, forgotten)) = self.unconfirmed.pop_front()
        {
            entries -= forgotten.len();
        }
        Some(batch)
    }

    /// The node has everything up to this batch.
    pub(super) fn confirmed(&mut self, batch: u64) {
        while self.unconfirmed.pop_front_if(|(number, _)| *number <= batch).is_some() {}
    }

    /// What the node may not have. Of its former lives nothing concerns anybody any more.
    pub(super) fn unconfirmed(&mut self, origin: Origin) -> impl Iterator<Item = (u64, Vec<Outcome>)> {
        for (_, outcomes) in &mut self.unconfirmed {
            outcomes.retain(|outcome| outcome.origin == origin);
        }
        self.unconfirmed.retain(|(_, outcomes)| !outcomes.is_empty());
        self.unconfirmed.iter().cloned()
    }
}

impl Extend<Outcome> for Outcomes {
    fn extend<T: IntoIterator<Item = Outcome>>(&mut self, outcomes: T) {
        outcomes.into_iter().for_each(|outcome| self.add(outcome));
    }
}
