//! Ballots: a name is given out when every reachable node agrees.

use std::{collections::BTreeSet, sync::Arc};

use super::{Directory, KeyHash, Lookup, Name, Person, Registration};

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

#[derive(Debug)]
pub(super) struct Ballot {
    person: Person,
    awaiting: BTreeSet<u16>,
    /// The latest session of the same key that another node knew.
    former: Option<Person>,
}

impl Directory {
    /// Somebody at this node asks for a name. `owner` is its owner, if they have proved that they are.
    ///
    /// A client that shows the key of a session it had before gets that session's registration (and present name) back;
    /// `recorded` is one of its that only the log knows any more.
    pub fn register(
        &mut self,
        asked: Name,
        key_hash: Option<KeyHash>,
        owner: Option<(Name, Registration)>,
        recorded: Option<Registration>,
        now: u64,
    ) -> Registering {
        let former = key_hash.and_then(|hash| self.session(&asked, hash)).cloned();
        let person = match (owner, former) {
            (Some((name, registration)), _) => Person {
                name,
                asked_name: asked,
                registration,
                key_hash,
                attached: now,
                node: self.me,
                is_claimed: true,
            },
            (None, Some(former)) => Person { attached: now, node: self.me, key_hash, ..former },
            (None, None) => Person {
                name: asked.clone(),
                asked_name: asked,
                registration: recorded.unwrap_or(Registration { time: now, node: self.me }),
                key_hash,
                attached: now,
                node: self.me,
                is_claimed: false,
            },
        };
        let is_being_given = !person.is_claimed && self.ballots_by_key.contains_key(person.name.key());
        if is_being_given || self.conflicts(&person) {
            return Registering::Taken;
        }
        let voters: Vec<u16> = self.reachable.iter().copied().filter(|node| *node != self.me).collect();
        if voters.is_empty() {
            return Registering::Given(person);
        }
        let ballot = self.next_ballot;
        self.next_ballot += 1;
        if !person.is_claimed {
            self.ballots_by_key.insert(person.name.shared_key(), ballot);
        }
        let awaiting = voters.iter().copied().collect();
        self.ballots.insert(ballot, Ballot { person: person.clone(), awaiting, former: None });
        Registering::Ask { ballot, person, voters }
    }

    /// The session that this node knows somebody's key to have, if it is not the one with which they ask for a name.
    #[must_use]
    pub fn former(&self, person: &Person) -> Option<&Person> {
        let former = person.key_hash.and_then(|hash| self.session(&person.asked_name, hash))?;
        (former.registration != person.registration).then_some(former)
    }

    /// Another node asks whether a person may have a name. Ballots of this node that lose by it are settled at once.
    pub fn asked(&mut self, person: &Person) -> (bool, Vec<Settled>) {
        let is_theirs =
            |registration: Registration| self.former(person).is_some_and(|former| former.registration == registration);
        if self.owner(person.name.key()).is_some_and(|owner| owner != person.registration && !is_theirs(owner)) {
            return (false, Vec::new());
        }
        if self.holder_but(person).is_some_and(|holder| !is_theirs(holder.registration)) {
            return (false, Vec::new());
        }
        if self.is_held_from(person) {
            return (false, Vec::new());
        }
        let rival = self.ballots_by_key.get(person.name.key()).and_then(|id| Some((*id, self.ballots.get(id)?)));
        let Some((id, rival)) = rival.filter(|(_, rival)| rival.person.registration != person.registration) else {
            return (true, Vec::new());
        };
        if !person.is_claimed && rival.person.registration < person.registration {
            return (false, Vec::new());
        }
        (true, self.settle_ballot(id, false).into_iter().collect())
    }

    /// Another node's answer. Returns the ballot if this settles it.
    ///
    /// It may know the session that the person had before; of several the one with the latest connection counts.
    pub fn voted(&mut self, node: u16, ballot: u64, granted: bool, former: Option<Person>) -> Option<Settled> {
        let open = self.ballots.get_mut(&ballot)?;
        open.awaiting.remove(&node);
        if let Some(former) = former.filter(|former| former.key_hash == open.person.key_hash)
            && open.former.as_ref().is_none_or(|known| known.attached < former.attached)
        {
            open.former = Some(former);
        }
        if !granted {
            return self.settle_ballot(ballot, false);
        }
        if open.awaiting.is_empty() { self.settle_ballot(ballot, true) } else { None }
    }

    /// The open ballots to which a node has not answered yet.
    pub fn awaited_from(&self, node: u16) -> impl Iterator<Item = (u64, &Person)> {
        self.ballots
            .iter()
            .filter(move |(_, open)| open.awaiting.contains(&node))
            .map(|(ballot, open)| (*ballot, &open.person))
    }

    /// The key of the name that a ballot is about.
    #[must_use]
    pub fn balloted_key(&self, ballot: u64) -> Option<Arc<str>> {
        self.ballots.get(&ballot).map(|open| open.person.name.shared_key())
    }

    /// Withdraws a ballot whose client has gone.
    pub fn withdraw(&mut self, ballot: u64) {
        self.close_ballot(ballot);
    }

    /// A node will not answer the ballots that are open now; that does not hold them up.
    pub fn abstains(&mut self, node: u16) -> Vec<Settled> {
        let ballots: Vec<u64> = self.ballots.keys().copied().collect();
        ballots.into_iter().filter_map(|ballot| self.voted(node, ballot, true, None)).collect()
    }

    /// The session that a client with this key had under the name it asks for.
    fn session(&self, asked: &Name, hash: KeyHash) -> Option<&Person> {
        let registration = self.sessions.get(&hash)?;
        let person = self.known(*registration)?;
        (person.name.key() == asked.key() || person.asked_name.key() == asked.key()).then_some(person)
    }

    /// Whether the name is another's: its owner's, or that of a person who is reachable or expected back.
    fn conflicts(&self, person: &Person) -> bool {
        let is_anothers = self.owner(person.name.key()).is_some_and(|owner| owner != person.registration);
        is_anothers || self.holder_but(person).is_some() || self.is_held_from(person)
    }

    /// The session in which a client with this key was the owner of the name that it asks for.
    #[must_use]
    pub fn owner_session(&self, asked: &Name, hash: KeyHash) -> Option<Registration> {
        let registration = self.session(asked, hash)?.registration;
        (self.owner(asked.key()) == Some(registration)).then_some(registration)
    }

    fn holder_but(&self, person: &Person) -> Option<&Person> {
        match self.lookup(person.name.key()) {
            Lookup::Present(holder) if holder.registration != person.registration => {
                // An owner has the name whoever else is using it.
                (!person.is_claimed || holder.is_claimed).then_some(holder)
            }
            _ => None,
        }
    }

    /// Gives the person as their former session makes them, if another node knew one.
    fn close_ballot(&mut self, ballot: u64) -> Option<Person> {
        let Ballot { person, former, .. } = self.ballots.remove(&ballot)?;
        if !person.is_claimed {
            self.ballots_by_key.remove(person.name.key());
        }
        Some(match former {
            // What an owner has proved counts before what a key says.
            Some(Person { registration, asked_name, is_claimed, .. }) if !person.is_claimed => {
                Person { registration, asked_name, is_claimed, ..person }
            }
            _ => person,
        })
    }

    fn settle_ballot(&mut self, ballot: u64, granted: bool) -> Option<Settled> {
        let person = self.close_ballot(ballot)?;
        // Somebody may have joined under the name from a node that was not there to be asked.
        let given = granted && !self.conflicts(&person);
        Some(Settled { ballot, person, given })
    }
}
