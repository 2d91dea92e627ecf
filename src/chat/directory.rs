//! Who is here: the names of everybody on every node, and how one name stays with one person.
//!
//! Each node is the authority for the people connected to it and tells the others: everybody when a link opens, then
//! each change. To give out a name, a node asks every reachable node; one that has the name, or is giving it out with
//! an earlier time, says no. So as long as the nodes can reach each other a name has one holder.
//!
//! Across a cut both sides can give out the same name. When the cut heals, every node sees both registrations and
//! applies one rule: the earlier registration keeps the name; the node that has the later one renames it.
//!
//! People on a node that cannot be reached are *away*: their names are free, but remembered.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{message::Registration, name::Name};

/// How many people who left are remembered, so that their clients can resume.
const MAX_DEPARTED: usize = 10_000;

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
}

/// What a name stands for at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// Connected to a reachable node.
    Present(&'a Person),
    /// Last seen on a node that cannot be reached now.
    Away(&'a Person),
    Unknown,
}

/// The answer to somebody who asks for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registering {
    /// No other node to ask: the name is given.
    Given(Person),
    /// The other nodes must be asked; the ballot is settled by their votes.
    Ask { ballot: u64, person: Person, voters: Vec<u16> },
    /// Somebody has it.
    Taken,
}

/// A ballot that has come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub ballot: u64,
    pub person: Person,
    pub given: bool,
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
    /// Somebody on this node has resumed elsewhere: the connection here is over.
    MovedAway {
        registration: Registration,
        node: u16,
    },
}

#[derive(Debug)]
struct Ballot {
    person: Person,
    awaiting: BTreeSet<u16>,
}

/// The names of the whole clique, as one node sees them.
#[derive(Debug)]
pub struct Directory {
    me: u16,
    people: BTreeMap<Registration, Person>,
    /// Holders by key; more than one only during and right after a split.
    holders: BTreeMap<Arc<str>, BTreeSet<Registration>>,
    /// Who had which session key last, here or departed.
    sessions: BTreeMap<KeyHash, Registration>,
    reachable: BTreeSet<u16>,
    /// How many people each node has.
    counts: BTreeMap<u16, usize>,
    departed: BTreeMap<Registration, Person>,
    /// In the order of leaving; may name some who came back.
    departed_order: VecDeque<Registration>,
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
            holders: BTreeMap::new(),
            sessions: BTreeMap::new(),
            reachable: BTreeSet::from([me]),
            counts: BTreeMap::new(),
            departed: BTreeMap::new(),
            departed_order: VecDeque::new(),
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
        let Some(holders) = self.holders.get(key) else {
            return Lookup::Unknown;
        };
        let mut people = holders.iter().filter_map(|registration| self.people.get(registration));
        match people.clone().find(|person| self.reachable.contains(&person.node)) {
            Some(person) => Lookup::Present(person),
            None => people.next().map_or(Lookup::Unknown, Lookup::Away),
        }
    }

    /// The person of a registration, wherever they are.
    #[must_use]
    pub fn person(&self, registration: Registration) -> Option<&Person> {
        self.people.get(&registration)
    }

    /// Everybody on a reachable node, by name.
    pub fn present(&self) -> impl Iterator<Item = &Person> {
        self.holders
            .values()
            .flatten()
            .filter_map(|registration| self.people.get(registration))
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

    /// Everybody connected to one node.
    pub fn people_on(&self, node: u16) -> impl Iterator<Item = &Person> {
        self.people.values().filter(move |person| person.node == node)
    }

    /// Somebody at this node asks for a name.
    ///
    /// A client that shows the key of a session it had before gets that session's registration (and present name) back.
    pub fn register(&mut self, asked: Name, key_hash: Option<KeyHash>, now: u64) -> Registering {
        let former = key_hash.and_then(|hash| self.session(&asked, hash)).cloned();
        let person = match former {
            Some(former) => Person { attached: now, node: self.me, ..former },
            None => Person {
                name: asked.clone(),
                asked_name: asked,
                registration: Registration { time: now, node: self.me },
                key_hash,
                attached: now,
                node: self.me,
            },
        };
        let is_being_given = self.ballots_by_key.contains_key(person.name.key());
        if is_being_given || self.conflicts(&person) {
            return Registering::Taken;
        }
        let voters: Vec<u16> = self.reachable.iter().copied().filter(|node| *node != self.me).collect();
        if voters.is_empty() {
            return Registering::Given(person);
        }
        let ballot = self.next_ballot;
        self.next_ballot += 1;
        self.ballots_by_key.insert(person.name.key().into(), ballot);
        self.ballots.insert(ballot, Ballot { person: person.clone(), awaiting: voters.iter().copied().collect() });
        Registering::Ask { ballot, person, voters }
    }

    /// Another node asks whether a person may have a name. Ballots of this node that lose by it are settled at once.
    pub fn asked(&mut self, person: &Person) -> (bool, Vec<Settled>) {
        if self.conflicts(person) {
            return (false, Vec::new());
        }
        let rival = self.ballots_by_key.get(person.name.key()).and_then(|id| Some((*id, self.ballots.get(id)?)));
        let Some((id, rival)) = rival.filter(|(_, rival)| rival.person.registration != person.registration) else {
            return (true, Vec::new());
        };
        if rival.person.registration < person.registration {
            return (false, Vec::new());
        }
        (true, self.settle_ballot(id, false).into_iter().collect())
    }

    /// Another node's answer. Returns the ballot if this settles it.
    pub fn voted(&mut self, node: u16, ballot: u64, granted: bool) -> Option<Settled> {
        let open = self.ballots.get_mut(&ballot)?;
        open.awaiting.remove(&node);
        if !granted {
            return self.settle_ballot(ballot, false);
        }
        if open.awaiting.is_empty() { self.settle_ballot(ballot, true) } else { None }
    }

    /// Withdraws a ballot whose client has gone.
    pub fn withdraw(&mut self, ballot: u64) {
        self.close_ballot(ballot);
    }

    /// Enters somebody to whom this node has given a name.
    pub fn admit(&mut self, person: Person) -> Vec<Change> {
        let mut changes = Vec::new();
        self.upsert(person, &mut changes);
        changes
    }

    /// Somebody has left, on this node or (as its node says) on another.
    pub fn left(&mut self, node: u16, registration: Registration) -> Vec<Change> {
        if self.people.get(&registration).is_none_or(|person| person.node != node) {
            return Vec::new();
        }
        self.remove(registration).map(|person| Change::Left { name: person.name }).into_iter().collect()
    }

    /// Another node says that somebody is connected to it.
    pub fn joined(&mut self, person: Person) -> Vec<Change> {
        let mut changes = Vec::new();
        let key = person.name.key().to_owned();
        self.upsert(person, &mut changes);
        self.settle_conflicts(&key, &mut changes);
        changes
    }

    /// A node can be reached, and these people are connected to it.
    pub fn node_up(&mut self, node: u16, people: Vec<Person>) -> Vec<Change> {
        let mut changes = Vec::new();
        self.reachable.insert(node);
        let staying: BTreeSet<Registration> = people.iter().map(|person| person.registration).collect();
        let gone: Vec<Registration> =
            self.people_on(node).map(|person| person.registration).filter(|known| !staying.contains(known)).collect();
        for registration in gone {
            self.remove(registration);
        }
        let keys: Vec<String> = people.iter().map(|person| person.name.key().to_owned()).collect();
        for person in people {
            // They count as joining: while the node was cut off they were not here.
            let (name, registration) = (person.name.clone(), person.registration);
            let before = changes.len();
            self.upsert(person, &mut changes);
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

    /// A node cannot be reached any more. If it said goodbye its people have been told and are gone; if not they are away.
    pub fn node_down(&mut self, node: u16, said_goodbye: bool) -> (Vec<Change>, Vec<Settled>) {
        self.reachable.remove(&node);
        self.version += 1;
        let people: Vec<Person> = self.people_on(node).cloned().collect();
        let mut changes = Vec::with_capacity(people.len());
        for person in people {
            if said_goodbye {
                self.remove(person.registration);
            }
            changes.push(Change::Left { name: person.name });
        }
        (changes, self.abstains(node))
    }

    /// A node will not answer the ballots that are open now; that does not hold them up.
    pub fn abstains(&mut self, node: u16) -> Vec<Settled> {
        let ballots: Vec<u64> = self.ballots.keys().copied().collect();
        ballots.into_iter().filter_map(|ballot| self.voted(node, ballot, true)).collect()
    }

    /// The session that a client with this key had under the name it asks for.
    fn session(&self, asked: &Name, hash: KeyHash) -> Option<&Person> {
        let registration = self.sessions.get(&hash)?;
        let person = self.people.get(registration).or_else(|| self.departed.get(registration))?;
        (person.name.key() == asked.key() || person.asked_name.key() == asked.key()).then_some(person)
    }

    /// Whether a reachable person other than this one has the name.
    fn conflicts(&self, person: &Person) -> bool {
        matches!(self.lookup(person.name.key()), Lookup::Present(holder) if holder.registration != person.registration)
    }

    fn close_ballot(&mut self, ballot: u64) -> Option<Person> {
        let Ballot { person, .. } = self.ballots.remove(&ballot)?;
        self.ballots_by_key.remove(person.name.key());
        Some(person)
    }

    fn settle_ballot(&mut self, ballot: u64, granted: bool) -> Option<Settled> {
        let person = self.close_ballot(ballot)?;
        // Somebody may have joined under the name from a node that was not there to be asked.
        let given = granted && !self.conflicts(&person);
        Some(Settled { ballot, person, given })
    }

    fn upsert(&mut self, person: Person, changes: &mut Vec<Change>) {
        let registration = person.registration;
        if let Some(known) = self.people.get(&registration) {
            if known.attached > person.attached {
                return;
            }
            if known.node == self.me && person.node != self.me {
                changes.push(Change::MovedAway { registration, node: person.node });
            }
            if known.name != person.name {
                changes.push(Change::Left { name: known.name.clone() });
                changes.push(Change::Joined { name: person.name.clone(), node: person.node });
            } else if known.node != person.node {
                changes.push(Change::Joined { name: person.name.clone(), node: person.node });
            }
            self.unlink(registration);
        } else {
            changes.push(Change::Joined { name: person.name.clone(), node: person.node });
        }
        self.departed.remove(&registration);
        if let Some(hash) = person.key_hash {
            self.sessions.insert(hash, registration);
        }
        *self.counts.entry(person.node).or_default() += 1;
        self.forget_away(&person);
        self.holders.entry(person.name.key().into()).or_default().insert(registration);
        self.people.insert(registration, person);
        self.version += 1;
    }

    /// A new holder ends the memory of one who is away; should that one's node come back, it says so itself.
    fn forget_away(&mut self, newcomer: &Person) {
        let Some(holders) = self.holders.get(newcomer.name.key()) else {
            return;
        };
        let away: Vec<Registration> = holders
            .iter()
            .copied()
            .filter(|held| {
                *held != newcomer.registration
                    && self.people.get(held).is_some_and(|person| !self.reachable.contains(&person.node))
            })
            .collect();
        for registration in away {
            self.remove(registration);
        }
    }

    fn remove(&mut self, registration: Registration) -> Option<Person> {
        self.unlink(registration);
        let person = self.people.remove(&registration)?;
        self.version += 1;
        if person.key_hash.is_some() {
            self.departed.insert(registration, person.clone());
            self.departed_order.push_back(registration);
            if self.departed_order.len() > MAX_DEPARTED {
                self.forget_departed();
            }
        }
        Some(person)
    }

    fn forget_departed(&mut self) {
        let oldest = self.departed_order.pop_front();
        let Some(forgotten) = oldest.and_then(|oldest| self.departed.remove(&oldest)) else {
            return;
        };
        if let Some(hash) = forgotten.key_hash
            && self.sessions.get(&hash) == Some(&forgotten.registration)
        {
            self.sessions.remove(&hash);
        }
    }

    fn unlink(&mut self, registration: Registration) {
        let Some(person) = self.people.get(&registration) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&person.node) {
            *count = count.saturating_sub(1);
        }
        if let Some(holders) = self.holders.get_mut(person.name.key()) {
            holders.remove(&registration);
            if holders.is_empty() {
                self.holders.remove(person.name.key());
            }
        }
    }

    /// If a name has several reachable holders, renames those of them that are on this node and not the earliest.
    fn settle_conflicts(&mut self, key: &str, changes: &mut Vec<Change>) {
        let holders: Vec<&Person> = self
            .holders
            .get(key)
            .into_iter()
            .flatten()
            .filter_map(|registration| self.people.get(registration))
            .filter(|person| self.reachable.contains(&person.node))
            .collect();
        let later: Vec<Person> = holders.into_iter().skip(1).filter(|person| person.node == self.me).cloned().collect();
        for person in later {
            let name = (1..)
                .map(|attempt| person.asked_name.renamed(self.me, attempt))
                .find(|name| !self.holders.contains_key(name.key()));
            let Some(name) = name else { continue };
            let old = person.name.clone();
            let renamed = Person { name, ..person };
            self.upsert(renamed.clone(), changes);
            changes.push(Change::RenamedHere { person: renamed, old });
        }
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
