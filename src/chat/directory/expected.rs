//! Who is expected back: people whose connection has just broken and whose clients can resume.
//!
//! As long as somebody is expected their name is given to nobody else, and what is sent to them waits. Whoever says
//! goodbye is not expected; whoever has claimed their name need not be: it is theirs anyway, and has a mailbox.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Directory, FewSet, Lookup, Name, Person, Registration};

/// For how long somebody is expected back: our client resumes within seconds, also when it has to find another node first; a
/// name that its holder has given up must not be held for much longer than a person is ready to wait for it.
pub const RETURN_MS: u64 = 30_000;

/// How many people are expected at once; beyond it those who have been for longest are let go. As many as departed people are
/// remembered: a node with so many can be lost as a whole.
pub(super) const MAX_EXPECTED: usize = super::MAX_DEPARTED;

/// See the module's head. Times are monotonic milliseconds of the node that keeps it.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// Until when, and under which name's key.
    until: BTreeMap<Registration, (u64, Arc<str>)>,
    due: BTreeSet<(u64, Registration)>,
    /// Nearly always one: two sides of a cut can have given out the same name.
    by_key: BTreeMap<Arc<str>, FewSet<Registration>>,
    /// No longer expected without having come back, not yet told.
    let_go: Vec<Registration>,
}

impl Expected {
    fn insert(&mut self, registration: Registration, key: Arc<str>, until_ms: u64) {
        self.remove(registration);
        self.due.insert((until_ms, registration));
        self.by_key.entry(key.clone()).or_default().insert(registration, ());
        self.until.insert(registration, (until_ms, key));
        if self.until.len() > MAX_EXPECTED
            && let Some((_, longest)) = self.due.first().copied()
        {
            self.give_up(longest);
        }
    }

    /// Returns whether they were expected.
    fn remove(&mut self, registration: Registration) -> bool {
        let Some((until_ms, key)) = self.until.remove(&registration) else { return false };
        self.due.remove(&(until_ms, registration));
        if let Some(registrations) = self.by_key.get_mut(&key) {
            registrations.remove(&registration);
            if registrations.is_empty() {
                self.by_key.remove(&key);
            }
        }
        true
    }

    fn give_up(&mut self, registration: Registration) -> bool {
        let was_expected = self.remove(registration);
        if was_expected {
            self.let_go.push(registration);
        }
        was_expected
    }

    pub(super) fn holds(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    fn under(&self, key: &str) -> impl Iterator<Item = Registration> {
        self.by_key.get(key).into_iter().flat_map(FewSet::keys).copied()
    }
}

impl Directory {
    /// Somebody's connection has broken: if their client can resume they are expected back until then. Nobody who is
    /// connected elsewhere.
    pub fn expect(&mut self, registration: Registration, until_ms: u64) {
        let is_here = self.people.get(&registration).is_some_and(|person| self.reachable.contains(&person.node));
        let Some(person) = self.known(registration).filter(|person| !is_here && can_resume(person)) else { return };
        let key = person.name.shared_key();
        self.expected.insert(registration, key, until_ms);
        self.version += 1;
    }

    /// Another node says that it expects somebody back who was connected to it.
    pub fn expected_there(&mut self, person: Person, until_ms: u64) {
        let registration = person.registration;
        if !can_resume(&person) {
            return;
        }
        if self.known(registration).is_none() {
            self.remember_key(&person);
            self.depart(person);
        }
        self.expect(registration, until_ms);
    }

    /// Those who were connected to this node and are expected back, each with the time that is left, in milliseconds.
    pub fn expected_here(&self, now_ms: u64) -> impl Iterator<Item = (&Person, u64)> {
        let expected = self.expected.due.iter().filter_map(move |(until_ms, registration)| {
            Some((self.departed.get(registration)?, until_ms.saturating_sub(now_ms)))
        });
        expected.filter(|(person, _)| person.node == self.me)
    }

    #[must_use]
    pub fn is_expected(&self, registration: Registration) -> bool {
        self.expected.until.contains_key(&registration)
    }

    /// For how much longer a name is held at most for somebody who is expected back, in milliseconds.
    #[must_use]
    pub fn held_for_ms(&self, name: &Name, now_ms: u64) -> Option<u64> {
        let until = self.expected.under(name.key()).filter_map(|registration| self.expected.until.get(&registration));
        until.map(|(until_ms, _)| until_ms.saturating_sub(now_ms)).max()
    }

    /// When the next of them is let go.
    #[must_use]
    pub fn let_go_due_ms(&self) -> Option<u64> {
        self.expected.due.first().map(|(until_ms, _)| *until_ms)
    }

    /// Lets go those whose time is over. Gives all who have not come back and are not expected any more.
    pub fn let_go(&mut self, now_ms: u64) -> Vec<Registration> {
        while let Some((_, registration)) =
            self.expected.due.first().copied().filter(|(until_ms, _)| *until_ms <= now_ms)
        {
            self.gives_up(registration);
        }
        std::mem::take(&mut self.expected.let_go)
    }

    pub(super) fn gives_up(&mut self, registration: Registration) {
        self.version += u64::from(self.expected.give_up(registration));
    }

    pub(super) fn has_returned(&mut self, registration: Registration) {
        self.version += u64::from(self.expected.remove(registration));
    }

    /// Who is expected under a name and connected to no node, be it one that cannot be reached.
    pub(super) fn expected_under(&self, key: &str) -> Option<&Person> {
        self.expected.under(key).find_map(|registration| self.departed.get(&registration))
    }

    /// Whether a name is held for somebody else. Of several who are expected under it each may have it, and whoever has it
    /// meanwhile, from the other side of a cut, keeps it.
    pub(super) fn is_held_from(&self, person: &Person) -> bool {
        let key = person.name.key();
        if person.is_claimed || !self.expected.holds(key) {
            return false;
        }
        let former = self.former(person).map(|former| former.registration);
        let is_theirs = |other: Registration| other == person.registration || Some(other) == former;
        let has_it = matches!(self.lookup(key), Lookup::Present(holder) if is_theirs(holder.registration));
        !has_it && !self.expected.under(key).any(is_theirs)
    }
}

fn can_resume(person: &Person) -> bool {
    person.key_hash.is_some() && !person.is_claimed
}

#[cfg(test)]
#[path = "expected_tests.rs"]
mod tests;
