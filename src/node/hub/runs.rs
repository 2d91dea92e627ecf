//! What is known of entries by their numbers: one record for each run of entries of which the same is known.

use std::{collections::BTreeMap, ops::Range};

/// A record of consecutive entries.
pub(super) trait Alike: Sized {
    fn first(&self) -> u64;

    /// How many entries it is about; never 0.
    fn count(&self) -> u64;

    /// Keeps the first `count` entries, and gives the rest.
    fn split_off(&mut self, count: u64) -> Self;

    /// Becomes about what `next` is about too, if that follows it and the same is known of it.
    fn take_next(&mut self, next: &Self) -> bool;

    /// One more than the number of the last entry.
    fn end(&self) -> u64 {
        self.first() + self.count()
    }
}

/// See the module's head. Runs do not overlap.
#[derive(Debug)]
pub(super) struct Runs<T> {
    by_first: BTreeMap<u64, T>,
    entries: u64,
}

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Self { by_first: BTreeMap::new(), entries: 0 }
    }
}

impl<T: Alike> Runs<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.by_first.is_empty()
    }

    /// How many records there are.
    pub(super) fn count(&self) -> usize {
        self.by_first.len()
    }

    /// How many entries they are about.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Adds what overlaps with nothing that is there.
    pub(super) fn insert(&mut self, run: T) {
        self.entries += run.count();
        self.by_first.insert(run.first(), run);
    }

    /// The same for what comes after all that is there.
    pub(super) fn push(&mut self, run: T) {
        let is_taken = self.by_first.last_entry().is_some_and(|mut last| last.get_mut().take_next(&run));
        if is_taken {
            self.entries += run.count();
        } else {
            self.insert(run);
        }
    }

    /// The run that begins with this number.
    pub(super) fn get(&self, first: u64) -> Option<&T> {
        self.by_first.get(&first)
    }

    pub(super) fn get_mut(&mut self, first: u64) -> Option<&mut T> {
        self.by_first.get_mut(&first)
    }

    pub(super) fn remove(&mut self, first: u64) -> Option<T> {
        self.by_first.remove(&first).inspect(|run| self.entries -= run.count())
    }

    pub(super) fn pop_first(&mut self) -> Option<T> {
        self.by_first.pop_first().map(|(_, run)| run).inspect(|run| self.entries -= run.count())
    }

    /// The first run that begins at this number or later.
    pub(super) fn at_or_after(&self, number: u64) -> Option<&T> {
        self.by_first.range(number..).next().map(|(_, run)| run)
    }

    /// The run that this number is in.
    pub(super) fn around(&self, number: u64) -> Option<&T> {
        self.by_first.range(..=number).next_back().map(|(_, run)| run).filter(|run| number < run.end())
    }

    /// The runs that begin within these numbers, or go on into them.
    pub(super) fn within(&mut self, numbers: Range<u64>) -> impl Iterator<Item = &mut T> {
        let first = self.around(numbers.start).map_or(numbers.start, Alike::first);
        self.by_first.range_mut(first..numbers.end.max(first)).map(|(_, run)| run)
    }

    /// Takes out the runs that begin within these numbers and of which this is so.
    pub(super) fn take_out(&mut self, numbers: Range<u64>, mut goes: impl FnMut(&T) -> bool) -> Vec<T> {
        let taken: Vec<T> = self.by_first.extract_if(numbers, |_, run| goes(run)).map(|(_, run)| run).collect();
        self.entries -= taken.iter().map(Alike::count).sum::<u64>();
        taken
    }

    /// Sees to it that a run begins with this number, if it is in one. Gives the run if there is a new one.
    pub(super) fn split_at(&mut self, number: u64) -> Option<&T> {
        let (_, run) = self.by_first.range_mut(..number).next_back()?;
        let kept = number - run.first();
        let rest = (kept < run.count()).then(|| run.split_off(kept))?;
        Some(self.by_first.entry(number).or_insert(rest))
    }

    /// Makes one of the run that begins with this number and the one before it, if they are alike.
    pub(super) fn join(&mut self, first: u64) -> bool {
        let mut around = self.by_first.range_mut(..=first).rev();
        let Some((_, run)) = around.next().filter(|(number, _)| **number == first) else { return false };
        let is_joined = around.next().is_some_and(|(_, before)| before.take_next(run));
        if is_joined {
            self.by_first.remove(&first);
        }
        is_joined
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = T> {
        self.by_first.into_values()
    }
}
