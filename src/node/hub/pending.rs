//! The messages of this node's extended clients of which there may be more to tell: one record for each run of messages
//! that one client sent one after the other and of which the same is so.

use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
};

use super::{
    ClientId,
    fate::{Listener, Run, Told},
    runs::{Alike, Runs},
};
use crate::{
    chat::Registration,
    wire::{
        extended::MAX_RUN,
        peer::{Awaited, Outcome},
    },
};

/// Messages whose senders are still told news, at least; beyond it the oldest are forgotten, once they are answered.
const MAX_PENDING: u64 = 100_000;
/// Messages of which there is no more news, kept so that a sender whose connection broke just then can still hear it.
const MAX_SETTLED: u64 = 10_000;

/// By number of the entry; and how far each node has confirmed this node's log.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    pending: Runs<Run>,
    settled: Runs<Run>,
    confirmed: BTreeMap<u16, u64>,
    /// Up to here senders may be told.
    acknowledged: u64,
    /// First numbers of runs of which there is something to tell.
    news: Vec<u64>,
    /// The same for clients whose outputs have no room.
    held_back: BTreeMap<ClientId, Vec<u64>>,
    /// Messages before this are forgotten, save those whose sender has had no answer yet.
    forgotten: u64,
    /// How many those are.
    unanswered: u64,
    pub(super) looked_ms: u64,
}

impl Receipts {
    /// Takes messages that were accepted, later ones than all before.
    pub(super) fn accepted(&mut self, runs: Vec<Run>) {
        for run in runs {
            // What is forgotten stays apart, because it is counted apart.
            if run.first() == self.forgotten { self.pending.insert(run) } else { self.pending.push(run) }
        }
        while self.pending.entries() - self.unanswered > MAX_PENDING + u64::from(MAX_RUN)
            && let Some(run) = self.pending.at_or_after(self.forgotten)
        {
            let (first, is_answered) = (run.first(), matches!(run.told, Told::Answered { .. }));
            self.forgotten = run.end();
            if is_answered {
                self.pending.remove(first);
            } else {
                self.unanswered += run.count();
            }
        }
    }

    /// Everything up to here is on the disk.
    pub(super) fn acknowledge(&mut self, number: u64, now_ms: u64) {
        if number <= self.acknowledged {
            return;
        }
        self.split_at(number.saturating_add(1));
        for run in self.pending.within(self.acknowledged + 1..number.saturating_add(1)) {
            (run.told, run.acknowledged_ms) = (Told::Nothing, now_ms);
            self.news.push(run.first());
        }
        self.acknowledged = number;
    }

    pub(super) fn confirm(&mut self, node: u16, height: u64) -> u64 {
        self.confirmed.insert(node, height).unwrap_or(0)
    }

    pub(super) fn unconfirm(&mut self, node: u16) {
        self.confirmed.remove(&node);
    }

    pub(super) fn confirmed(&self, node: u16) -> u64 {
        self.confirmed.get(&node).copied().unwrap_or(0)
    }

    /// The last message that any other node has confirmed.
    pub(super) fn confirmed_somewhere(&self) -> u64 {
        self.confirmed.values().copied().max().unwrap_or(0)
    }

    /// The last message that so many nodes hold, this one included.
    pub(super) fn held_by(&self, nodes: usize) -> u64 {
        let Some(others) = nodes.checked_sub(2) else { return u64::MAX };
        let mut heights: Vec<u64> = self.confirmed.values().copied().collect();
        heights.sort_unstable_by(|one, other| other.cmp(one));
        heights.get(others).copied().unwrap_or(0)
    }

    /// Notes on how many nodes these messages are.
    pub(super) fn hold(&mut self, numbers: RangeInclusive<u64>, known: usize) {
        let numbers = *numbers.start()..numbers.end().saturating_add(1);
        if numbers.is_empty() {
            return;
        }
        let mut heights: Vec<u64> = self.confirmed.values().copied().collect();
        heights.sort_unstable();
        for height in heights.iter().filter(|height| numbers.contains(height)) {
            self.split_at(height + 1);
        }
        self.split_at(numbers.end);
        for run in self.pending.within(numbers) {
            let holding = 1 + heights.len() - heights.partition_point(|height| *height < run.first());
            if run.take_holding(holding, known) {
                note(run, &mut self.news);
            }
        }
    }

    /// The end of the messages from this number on that were acknowledged by then.
    pub(super) fn acknowledged_by(&mut self, number: u64, until_ms: u64) -> Option<u64> {
        let waiting = self.pending.within(number..self.acknowledged + 1);
        waiting.take_while(|run| run.acknowledged_ms <= until_ms).last().map(|run| run.end() - 1)
    }

    /// Notes what became of messages.
    pub(super) fn take_outcome(&mut self, outcome: &Outcome) {
        self.split_at(outcome.first);
        self.split_at(outcome.end());
        for run in self.pending.within(outcome.first..outcome.end()) {
            if run.take_outcome(outcome) {
                note(run, &mut self.news);
            }
        }
    }

    /// Their addressee has not come back in time.
    pub(super) fn not_returned(&mut self, numbers: Range<u64>) {
        self.split_at(numbers.start);
        self.split_at(numbers.end);
        for run in self.pending.within(numbers) {
            if run.take_not_returned() {
                note(run, &mut self.news);
            }
        }
    }

    /// Whether it is a message of an extended client that is not forgotten yet.
    pub(super) fn knows(&self, number: u64) -> bool {
        self.pending.around(number).or_else(|| self.settled.around(number)).is_some()
    }

    /// From now on the receipts of a message go to this listener, who is told the present state. False if it is not known
    /// as this sender's.
    pub(super) fn hand_over(&mut self, sender: Registration, awaited: Awaited, listener: Listener) -> bool {
        let Awaited { number, reference } = awaited;
        let is_theirs = |run: Option<&Run>| run.is_some_and(|run| run.about.sender == sender);
        if is_theirs(self.settled.around(number)) {
            self.settled.split_at(number);
            self.settled.split_at(number + 1);
            if let Some(run) = self.settled.remove(number) {
                self.unanswered += if number < self.forgotten { run.count() } else { 0 };
                self.pending.insert(run);
            }
        } else if !is_theirs(self.pending.around(number)) {
            return false;
        }
        self.split_at(number);
        self.split_at(number + 1);
        if let Some(run) = self.pending.get_mut(number) {
            (run.about.listener, run.reference) = (listener, reference);
            run.told = Told::Answered { has_news: true };
            self.news.push(number);
        }
        true
    }

    fn split_at(&mut self, number: u64) {
        if self.pending.split_at(number).is_some_and(Run::is_news) {
            self.news.push(number);
        }
    }

    /// The runs of which there is something to tell, by their first numbers.
    pub(super) fn take_news(&mut self) -> Vec<u64> {
        let news = std::mem::take(&mut self.news);
        self.joined(news)
    }

    /// In order, each once, and as few as they can be.
    fn joined(&mut self, mut firsts: Vec<u64>) -> Vec<u64> {
        firsts.sort_unstable();
        firsts.dedup();
        firsts.retain(|first| !self.join(*first));
        firsts
    }

    fn join(&mut self, first: u64) -> bool {
        first != self.forgotten && self.pending.join(first)
    }

    pub(super) fn run(&self, first: u64) -> Option<&Run> {
        self.pending.get(first).filter(|run| run.is_news())
    }

    /// The listener has been told, or is gone.
    pub(super) fn told(&mut self, first: u64) {
        let Some(run) = self.pending.get_mut(first) else { return };
        run.told = Told::Answered { has_news: false };
        let is_forgotten = first < self.forgotten;
        if !run.is_settled() && !is_forgotten {
            self.join(first);
            return;
        }
        let Some(run) = self.pending.remove(first) else { return };
        if is_forgotten {
            self.unanswered -= run.count();
        }
        if run.is_settled() {
            self.settled.insert(run);
            self.settled.join(first);
            while self.settled.entries() > MAX_SETTLED + u64::from(MAX_RUN) && self.settled.pop_first().is_some() {}
        }
    }

    /// A run is told when its client's output has room again.
    pub(super) fn hold_back(&mut self, client: ClientId, first: u64) {
        self.held_back.entry(client).or_default().push(first);
    }

    pub(super) fn is_held_back(&self, client: ClientId) -> bool {
        self.held_back.contains_key(&client)
    }

    /// What a client was not told for want of room: the first of it, so many runs at most. The rest is news again.
    pub(super) fn release(&mut self, client: ClientId, max_runs: usize) -> Vec<u64> {
        let held_back = self.held_back.remove(&client).unwrap_or_default();
        let mut firsts = self.joined(held_back);
        self.news.extend(firsts.drain(max_runs.min(firsts.len())..));
        firsts
    }

    /// A client is gone: what it was not told nobody waits for any more.
    pub(super) fn listener_left(&mut self, client: ClientId) {
        for first in self.held_back.remove(&client).unwrap_or_default() {
            if self.run(first).is_some_and(|run| run.listener() == Listener::Here(client)) {
                self.told(first);
            }
        }
    }
}

fn note(run: &mut Run, news: &mut Vec<u64>) {
    if run.told == (Told::Answered { has_news: false }) {
        run.told = Told::Answered { has_news: true };
        news.push(run.first());
    }
}

#[cfg(test)]
#[path = "pending_tests.rs"]
mod tests;
