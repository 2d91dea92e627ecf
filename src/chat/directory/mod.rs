//! Who is here: the names of everybody on every node, and how one name stays with one person.
//!
//! Each node is the authority for the people connected to it and tells the others: everybody when a link opens, then
//! each change. To give out a name, a node asks every reachable node; one that has the name, or is giving it out with
//! an earlier time, says no. So as long as the nodes can reach each other a name has one holder.
//!
//! Across a cut both sides can give out the same name. When the cut heals, every node sees both registrations and
//! applies one rule: the earlier registration keeps the name; the node that has the later one renames it.
//!
//! People on a node that cannot be reached are *away*: their names are free after a moment, but remembered. Those whose
//! connection has just broken are *expected* back (see `expected`): for that moment their names are held for them.
//!
//! A *claimed* name is its owner's, here or not: nobody else is given it, and whoever has it when its claim comes is
//! renamed. An owner is one person, who may be connected to several nodes, and several times.

mod ballots;
mod claims;
mod expected;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use self::{ballots::Ballot, expected::Expected};
pub use self::{
    ballots::{Registering, Settled},
    expected::RETURN_MS,
};
use super::{
    few::{FewMap, FewSet},
    message::Registration,
    name::Name,
};

/// How many people who left are remembered, so that their clients can resume.
const MAX_DEPARTED: usize = 10_000;

/// Session keys of one person that are remembered: so many of somebody's devices can resume without a passphrase.
const MAX_KEYS: usize = 16;

/// SHA-256 of a client's session key.
pub type KeyHash = [u8; 32];

/// Somebody with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub name: Name,
    /// As asked for; differs from `name` where a conflict was settled.
    pub asked_name: Name,
    pub registration: Registration,
    /// Fingerprint of the key that lets the client resume; `None` if its dialect cannot.
    pub key_hash: Option<KeyHash>,
    /// When the present connection began (hybrid logical time).
    pub attached: u64,
    /// Where the person is connected, or was last.
    pub node: u16,
    /// The registration is that of a claimed name: it may be connected at several nodes, and several times.
    pub is_claimed: bool,
}

impl Person {
    /// They have been connected under this registration before.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.attached != self.registration.time
    }
}

/// What a name stands for at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// Connected to a reachable node.
    Present(&'a Person),
    /// Last seen on a node that cannot be reached now.
    Away(&'a Person),
    /// Their connection has just broken, and they are expected back.
    Expected(&'a Person),
    Unknown,
}

/// What changed among the people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Joined {
        name: Name,
        node: u16,
    },
    Left {
        name: Name,
    },
    /// Somebody on this node lost a conflict and has a new name now.
    RenamedHere {
        person: Person,
        old: Name,
    },
    /// The name of somebody on this node is claimed now, by them.
    ClaimedHere {
        person: Person,
    },
    /// Somebody on this node has resumed elsewhere: the connection here is over.
    MovedAway {
        registration: Registration,
        node: u16,
    },
}

/// The names of the whole clique, as one node sees them.
#[derive(Debug)]
pub struct Directory {
    me: u16,
    /// Everybody, as the claim that counts has them.
    people: BTreeMap<Registration, Arc<Person>>,
    /// What each node says of its own people. Two can claim one person, until the one that was left notices.
    claims: BTreeMap<Registration, FewMap<u16, Arc<Person>>>,
    /// Holders by key; more than one only during and right after a split.
    holders: BTreeMap<Arc<str>, FewSet<Registration>>,
    /// Who had which session key last, here or departed.
    sessions: BTreeMap<KeyHash, Registration>,
    /// The session keys of each person, the latest last.
    keys: BTreeMap<Registration, VecDeque<KeyHash>>,
    /// Whose a claimed name is.
    owners: BTreeMap<Arc<str>, Registration>,
    reachable: BTreeSet<u16>,
    /// How many people each node has.
    counts: BTreeMap<u16, usize>,
    departed: BTreeMap<Registration, Person>,
    /// In the order of leaving; may name some who came back.
    departed_order: VecDeque<Registration>,
    expected: Expected,
    ballots: BTreeMap<u64, Ballot>,
    /// The open ballot on a key: there is at most one.
    ballots_by_key: BTreeMap<Arc<str>, u64>,
    next_ballot: u64,
    version: u64,
}

impl Directory {
    #[must_use]
    pub fn new(me: u16) -> Self {
        Self {
            me,
            people: BTreeMap::new(),
            claims: BTreeMap::new(),
            holders: BTreeMap::new(),
            sessions: BTreeMap::new(),
            keys: BTreeMap::new(),
            owners: BTreeMap::new(),
            reachable: BTreeSet::from([me]),
            counts: BTreeMap::new(),
            departed: BTreeMap::new(),
            departed_order: VecDeque::new(),
            expected: Expected::default(),
            ballots: BTreeMap::new(),
            ballots_by_key: BTreeMap::new(),
            next_ballot: 1,
            version: 0,
        }
    }

    /// Grows with every change, so that a look-up can be remembered.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Who is meant by a name.
    #[must_use]
    pub fn lookup(&self, key: &str) -> Lookup<'_> {
        let holders = self.holders.get(key).into_iter().flat_map(FewSet::keys);
        let mut people = holders.filter_map(|registration| self.person(*registration));
        if let Some(present) = people.clone().find(|person| self.reachable.contains(&person.node)) {
            return Lookup::Present(present);
        }
        let expected = self.expected_under(key).map(Lookup::Expected);
        expected.or_else(|| people.next().map(Lookup::Away)).unwrap_or(Lookup::Unknown)
    }

    /// The person of a registration, wherever they are.
    #[must_use]
    pub fn person(&self, registration: Registration) -> Option<&Person> {
        self.people.get(&registration).map(Arc::as_ref)
    }

    /// The same, or somebody who has left and whose client may resume.
    #[must_use]
    pub fn known(&self, registration: Registration) -> Option<&Person> {
        self.person(registration).or_else(|| self.departed.get(&registration))
    }

    /// Who had a session key last.
    #[must_use]
    pub fn holder(&self, key_hash: &KeyHash) -> Option<Registration> {
        self.sessions.get(key_hash).copied()
    }

    /// Everybody on a reachable node, by name.
    pub fn present(&self) -> impl Iterator<Item = &Person> {
        self.holders
            .values()
            .flat_map(FewSet::keys)
            .filter_map(|registration| self.person(*registration))
            .filter(|person| self.reachable.contains(&person.node))
    }

    /// How many people are on reachable nodes.
    #[must_use]
    pub fn present_count(&self) -> usize {
        self.reachable.iter().map(|node| self.count_on(*node)).sum()
    }

    /// How many people are connected to one node, or were when it was last heard of.
    #[must_use]
    pub fn count_on(&self, node: u16) -> usize {
        self.counts.get(&node).copied().unwrap_or(0)
    }

    /// Whether the session of a registration has ended but may still be resumed by its client.
    #[must_use]
    pub fn may_resume(&self, registration: Registration) -> bool {
        self.departed.contains_key(&registration)
    }

    /// Whether a node can be reached, and has said who is connected to it.
    #[must_use]
    pub fn is_reachable(&self, node: u16) -> bool {
        self.reachable.contains(&node)
    }

    /// How many nodes can be reached, and have said who is connected to them; this one included.
    #[must_use]
    pub fn reachable_count(&self) -> usize {
        self.reachable.len()
    }

    /// Everybody of whom a node says that they are connected to it, be they connected elsewhere too.
    pub fn said_by(&self, node: u16) -> impl Iterator<Item = &Person> {
        self.claims.values().filter_map(move |claims| claims.get(&node)).map(Arc::as_ref)
    }

    /// Whether a node says of somebody that they are connected to it.
    #[must_use]
    pub fn is_said_by(&self, node: u16, registration: Registration) -> bool {
        self.claims.get(&registration).is_some_and(|claims| claims.contains_key(&node))
    }

    /// The reachable nodes to which somebody is connected.
    pub fn nodes_of(&self, registration: Registration) -> impl Iterator<Item = u16> {
        let claims = self.claims.get(&registration).into_iter().flat_map(FewMap::keys);
        claims.copied().filter(|node| self.reachable.contains(node))
    }

    /// Whose a name is, if it is claimed.
    #[must_use]
    pub fn owner(&self, key: &str) -> Option<Registration> {
        self.owners.get(key).copied()
    }

    /// Somebody owns a name now, perhaps instead of another. Those on this node whom it concerns are renamed.
    pub fn owned(&mut self, registration: Registration, name: &Name, old: Option<&Name>) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(old) = old.filter(|old| self.owner(old.key()) == Some(registration)) {
            self.owners.remove(old.key());
        }
        self.owners.insert(name.shared_key(), registration);
        self.version += 1;
        let here =
            self.claims.get(&registration).and_then(|claims| claims.get(&self.me)).map(|person| Person::clone(person));
        if let Some(person) = here.filter(|person| !person.is_claimed || person.name != *name) {
            let old = person.name.clone();
            let person = Person { name: name.clone(), is_claimed: true, ..person };
            self.claim(person.clone(), &mut changes);
            changes.push(if old == person.name {
                Change::ClaimedHere { person }
            } else {
                Change::RenamedHere { person, old }
            });
        }
        self.settle_conflicts(name.key(), &mut changes);
        changes
    }

    /// Everybody connected to one node.
    pub fn people_on(&self, node: u16) -> impl Iterator<Item = &Person> {
        self.people.values().filter(move |person| person.node == node).map(Arc::as_ref)
    }

    /// Enters somebody to whom this node has given a name.
    pub fn admit(&mut self, person: Person) -> Vec<Change> {
        let mut changes = Vec::new();
        self.claim(person, &mut changes);
        changes
    }

    /// Somebody has left, on this node or (as its node says) on another.
    pub fn left(&mut self, node: u16, registration: Registration) -> Vec<Change> {
        let mut changes = Vec::new();
        self.disclaim(node, registration, &mut changes);
        changes
    }

    /// Another node says that somebody is connected to it.
    pub fn joined(&mut self, person: Person) -> Vec<Change> {
        let mut changes = Vec::new();
        let key = person.name.key().to_owned();
        self.claim(person, &mut changes);
        self.settle_conflicts(&key, &mut changes);
        changes
    }

    /// A node can be reached, and these people are connected to it. Those who were until now, as far as was known, are
    /// expected back until then.
    pub fn node_up(&mut self, node: u16, people: Vec<Person>, until_ms: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        let has_restarted = !self.reachable.insert(node);
        let staying: BTreeSet<Registration> = people.iter().map(|person| person.registration).collect();
        for gone in self.claimed_by(node).into_iter().filter(|known| !staying.contains(known)) {
            self.disclaim(node, gone, &mut changes);
            if has_restarted {
                self.expect(gone, until_ms);
            }
        }
        let keys: Vec<String> = people.iter().map(|person| person.name.key().to_owned()).collect();
        for person in people {
            // They count as joining: while the node was cut off they were not here.
            let (name, registration) = (person.name.clone(), person.registration);
            let before = changes.len();
            self.claim(person, &mut changes);
            let kept = self.people.get(&registration).is_some_and(|person| person.node == node);
            if changes.len() == before && kept {
                changes.push(Change::Joined { name, node });
            }
        }
        for key in keys {
            self.settle_conflicts(&key, &mut changes);
        }
        self.version += 1;
        changes
    }

    /// A node cannot be reached any more. If it said goodbye its people have been told, and are
    /// gone unless their clients resume elsewhere; if not they are away. Who can resume is expected back until then.
    pub fn node_down(&mut self, node: u16, said_goodbye: bool, until_ms: u64) -> (Vec<Change>, Vec<Settled>) {
        self.reachable.remove(&node);
        self.version += 1;
        let mut changes = Vec::new();
        for registration in self.claimed_by(node) {
            let name = self.people.get(&registration).filter(|person| person.node == node).map(|p| p.name.clone());
            let may_resume = self.people.get(&registration).is_some_and(|person| person.key_hash.is_some());
            // Those who resume are on their way to another node; until they are there, they are away.
            if said_goodbye && !may_resume {
                self.disclaim(node, registration, &mut changes);
            } else if let Some(name) = name {
                changes.push(Change::Left { name });
                self.reconcile(registration, &mut changes);
                self.expect(registration, until_ms);
            }
        }
        (changes, self.abstains(node))
    }

    /// Whether a name is somebody's, wherever they are.
    fn is_in_use(&self, key: &str) -> bool {
        self.holders.contains_key(key) || self.owners.contains_key(key) || self.expected.holds(key)
    }

    /// If a name has several reachable holders, or an owner who is none of them, renames those of them that are on this
    /// node: all but the owner, or else the earliest.
    fn settle_conflicts(&mut self, key: &str, changes: &mut Vec<Change>) {
        let owner = self.owners.get(key).copied();
        let mut holders: Vec<&Person> = self
            .holders
            .get(key)
            .into_iter()
            .flat_map(FewSet::keys)
            .filter_map(|registration| self.person(*registration))
            .filter(|person| self.reachable.contains(&person.node))
            .collect();
        holders.sort_by_key(|person| (!person.is_claimed, person.registration));
        let keeper = owner.or_else(|| holders.first().map(|person| person.registration));
        let later: Vec<Person> = holders
            .into_iter()
            .filter(|person| Some(person.registration) != keeper && person.node == self.me && !person.is_claimed)
            .cloned()
            .collect();
        for person in later {
            let name = (1..)
                .map(|attempt| person.asked_name.renamed(self.me, attempt))
                .find(|name| !self.is_in_use(name.key()));
            let Some(name) = name else { continue };
            let old = person.name.clone();
            let renamed = Person { name, ..person };
            self.claim(renamed.clone(), changes);
            changes.push(Change::RenamedHere { person: renamed, old });
        }
    }
}

#[cfg(test)]
mod tests;
