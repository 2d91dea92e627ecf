//! What became of entries, gathered until it is told: one outcome per entry, however many people it went to.

use std::collections::BTreeMap;

use crate::{clique::Origin, wire::peer::Outcome};

/// Entries whose outcomes are kept for a node that cannot be reached; beyond it the oldest are forgotten.
const MAX_ENTRIES: usize = 10_000;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Outcomes(BTreeMap<(Origin, u64), (u32, bool)>);

impl Outcomes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        let (delivered, gone) = self.0.entry((outcome.origin, outcome.number)).or_default();
        *delivered = delivered.saturating_add(outcome.delivered);
        *gone |= outcome.gone;
        if self.0.len() > MAX_ENTRIES {
            self.0.pop_first();
        }
    }

    pub(super) fn take(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.0)
            .into_iter()
            .map(|((origin, number), (delivered, gone))| Outcome { origin, number, delivered, gone })
            .collect()
    }
}

impl Extend<Outcome> for Outcomes {
    fn extend<T: IntoIterator<Item = Outcome>>(&mut self, outcomes: T) {
        outcomes.into_iter().for_each(|outcome| self.add(outcome));
    }
}
