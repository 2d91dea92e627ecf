//! What became of entries, gathered until it is told: one outcome for each run of entries of which the same became,
//! however many people they went to.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use super::runs::{Alike, Runs};
use crate::{
    clique::Origin,
    wire::peer::{MAX_RECIPIENT_NAMES, Outcome},
};

/// Outcomes that are kept for a node that cannot be reached; beyond it the oldest are forgotten.
const MAX_OUTCOMES: usize = 10_000;

impl Alike for Outcome {
    fn first(&self) -> u64 {
        self.first
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn split_off(&mut self, count: u64) -> Self {
        let rest = Self { first: self.first + count, count: self.count - count, ..self.clone() };
        self.count = count;
        rest
    }

    fn take_next(&mut self, next: &Self) -> bool {
        let is_alike = (self.end(), self.origin, self.delivered, self.gone, &self.names)
            == (next.first, next.origin, next.delivered, next.gone, &next.names);
        if is_alike {
            self.count += next.count;
        }
        is_alike
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Outcomes(BTreeMap<Origin, Runs<Outcome>>);

impl Outcomes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.values().all(Runs::is_empty)
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        let runs = self.0.entry(outcome.origin).or_default();
        let numbers = outcome.first..outcome.end();
        runs.split_at(numbers.start);
        runs.split_at(numbers.end);
        let mut new: Vec<Range<u64>> = Vec::new();
        let mut next = numbers.start;
        for known in runs.within(numbers.clone()) {
            if next < known.first {
                new.push(next..known.first);
            }
            next = known.end();
            known.delivered = known.delivered.saturating_add(outcome.delivered);
            known.gone |= outcome.gone;
            add_names(&mut known.names, &outcome.names);
        }
        if next == numbers.start {
            runs.insert(outcome);
        } else {
            new.extend((next < numbers.end).then_some(next..numbers.end));
            new.into_iter().for_each(|Range { start, end }| {
                runs.insert(Outcome { first: start, count: end - start, ..outcome.clone() });
            });
        }
        runs.join(numbers.start);
        runs.join(numbers.end);
        self.forget();
    }

    fn forget(&mut self) {
        let mut count: usize = self.0.values().map(Runs::count).sum();
        while count > MAX_OUTCOMES
            && let Some(mut oldest) = self.0.first_entry()
        {
            oldest.get_mut().pop_first();
            if oldest.get().is_empty() {
                oldest.remove();
            }
            count -= 1;
        }
    }

    pub(super) fn take(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.0).into_values().flat_map(Runs::into_values).collect()
    }
}

/// Names those too who come first in the alphabet: who they are does not depend on the order of news, so that what
/// became of neighbours is the same in the end.
pub(super) fn add_names(names: &mut Vec<String>, more: &[String]) {
    for name in more {
        if let Err(at) = names.binary_search(name)
            && at < MAX_RECIPIENT_NAMES
        {
            names.insert(at, name.clone());
            names.truncate(MAX_RECIPIENT_NAMES);
        }
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
        let mut count: usize = self.unconfirmed.iter().map(|(_, outcomes)| outcomes.len()).sum();
        while count > MAX_OUTCOMES
            && let Some((_, forgotten)) = self.unconfirmed.pop_front()
        {
            count -= forgotten.len();
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORIGIN: Origin = Origin { node: 1, incarnation: 2 };

    proptest! {
        #[test]
        fn runs_say_what_single_entries_would(
            news in prop::collection::vec((1..60_u64, 1..30_u64, 0..25_u8, prop::bool::weighted(0.1)), 0..40),
        ) {
            let mut outcomes = Outcomes::default();
            let mut naive: BTreeMap<u64, (u32, bool, std::collections::BTreeSet<String>)> = BTreeMap::new();
            for (first, count, name, gone) in news {
                let names = if gone { Vec::new() } else { vec![format!("{name:02}")] };
                let delivered = u32::from(!gone);
                outcomes.add(Outcome { origin: ORIGIN, first, count, delivered, gone, names: names.clone() });
                for number in first..first + count {
                    let (so_far, is_gone, known) = naive.entry(number).or_default();
                    *so_far += delivered;
                    *is_gone |= gone;
                    known.extend(names.iter().cloned());
                }
            }
            let told = outcomes.take();
            let each = told.iter().flat_map(|run| (run.first..run.end()).map(move |number| (number, run)));
            let each: Vec<_> = each.map(|(number, run)| (number, run.delivered, run.gone, run.names.clone())).collect();
            let expected: Vec<_> = naive
                .into_iter()
                .map(|(number, (delivered, gone, names))| (number, delivered, gone, names.into_iter().take(16).collect()))
                .collect();
            prop_assert_eq!(each, expected);
            prop_assert!(outcomes.is_empty());
        }
    }

    #[test]
    fn what_is_alike_is_one_run() {
        let mut outcomes = Outcomes::default();
        (1..=500).for_each(|number| outcomes.add(Outcome::delivered(ORIGIN, number, "bob".into())));
        (1..=500).rev().for_each(|number| outcomes.add(Outcome::delivered(ORIGIN, number, "ann".into())));
        let names = vec!["ann".to_owned(), "bob".to_owned()];
        let all = Outcome { origin: ORIGIN, first: 1, count: 500, delivered: 2, gone: false, names };
        assert_eq!(outcomes.take(), [all]);
    }
}
