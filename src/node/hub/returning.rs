//! What waits for people whose connection has just broken. The node that accepts a message for somebody who is expected
//! back remembers its number, until they have had it or are expected no longer; then its sender is told. They get it all the
//! same if they come later.

use std::collections::BTreeSet;

use super::{
    Hub, Now, Ports,
    runs::{Alike, Runs},
};
use crate::{
    chat::{Person, Registration, notice},
    wire::peer::{Expected, Outcome},
};

/// Messages that wait; more are refused. As many as senders are told news of.
const MAX_WAITING: u64 = 100_000;

/// Messages with consecutive numbers to one person.
#[derive(Debug)]
struct Waiting {
    first: u64,
    count: u64,
    to: Registration,
}

impl Alike for Waiting {
    fn first(&self) -> u64 {
        self.first
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn split_off(&mut self, count: u64) -> Self {
        let rest = Self { first: self.first + count, count: self.count - count, to: self.to };
        self.count = count;
        rest
    }

    fn take_next(&mut self, next: &Self) -> bool {
        let is_alike = (self.end(), self.to) == (next.first, next.to);
        if is_alike {
            self.count += next.count;
        }
        is_alike
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Returning(Runs<Waiting>);

impl Returning {
    /// A message waits for somebody; its number is higher than all before.
    pub(super) fn add(&mut self, number: u64, to: Registration) {
        self.0.push(Waiting { first: number, count: 1, to });
    }

    /// It is known what became of these.
    fn settle(&mut self, outcome: &Outcome) {
        if self.0.is_empty() {
            return;
        }
        self.0.split_at(outcome.first);
        self.0.split_at(outcome.end());
        self.0.take_out(outcome.first..outcome.end(), |_| true);
    }

    /// Nobody of these is expected any more: what waits for them.
    fn let_go(&mut self, people: &BTreeSet<Registration>) -> Vec<Waiting> {
        self.0.take_out(0..u64::MAX, |waiting| people.contains(&waiting.to))
    }
}

impl Hub {
    /// When somebody whose connection breaks now is not expected any more, in monotonic milliseconds.
    pub(super) fn return_by_ms(&self, now: Now) -> u64 {
        now.monotonic_ms + self.settings.timing.return_ms
    }

    /// Whom this node tells a new peer to expect.
    pub(super) fn expected_here(&self, now: Now) -> Vec<Expected> {
        let expected = self.directory.expected_here(now.monotonic_ms);
        expected.map(|(person, for_ms)| Expected { person: person.clone(), for_ms }).collect()
    }

    /// Whom a new peer expects back.
    pub(super) fn expected_there(&mut self, node: u16, expected: Vec<Expected>, now: Now) {
        for Expected { person, for_ms } in expected {
            self.replica.clock().see(person.attached);
            let until_ms = self.return_by_ms(now).min(now.monotonic_ms.saturating_add(for_ms));
            self.directory.expected_there(Person { node, ..person }, until_ms);
        }
    }

    /// Whether one more message can wait for somebody's return.
    pub(super) fn can_wait_for_return(&mut self) -> bool {
        if self.returning.0.entries() >= MAX_WAITING {
            // What was delivered need not have been told: the news may be lost with a node.
            let directory = &self.directory;
            self.returning.0.take_out(0..u64::MAX, |waiting| !directory.is_expected(waiting.to));
        }
        self.returning.0.entries() < MAX_WAITING
    }

    /// It is known what became of messages of this node.
    pub(super) fn has_settled(&mut self, outcome: &Outcome) {
        self.returning.settle(outcome);
    }

    /// Those who have not come back in time are not expected any more, and whoever wrote to them is told.
    pub(super) fn let_go(&mut self, now: Now, ports: &mut impl Ports) {
        let people: BTreeSet<Registration> = self.directory.let_go(now.monotonic_ms).into_iter().collect();
        if people.is_empty() {
            return;
        }
        for waiting in self.returning.let_go(&people) {
            self.receipts.not_returned(waiting.first..waiting.end());
            for number in waiting.first..waiting.end() {
                if !self.receipts.knows(number) {
                    self.tell_undelivered(number, notice::not_returned, ports);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "returning_tests.rs"]
mod tests;
