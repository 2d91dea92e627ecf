//! Presence: each node says who is connected to it, and what several nodes say of one person is made into one picture.
//!
//! A node speaks for its own people only, and withdraws what it said when they leave. While somebody moves, and the node
//! that they left does not know it yet, two nodes claim them. The claim of a reachable node counts before that of one
//! which is not, then the one with the later connection. The other is kept: it may turn out to be the one that lasts.
//! The owner of a claimed name may really be in several places; then the same rule says which of them is shown.

use std::sync::Arc;

use super::{Change, Directory, MAX_DEPARTED, MAX_KEYS, Person, Registration};

impl Directory {
    /// A node says that somebody is connected to it.
    pub(super) fn claim(&mut self, person: Person, changes: &mut Vec<Change>) {
        let registration = person.registration;
        self.has_returned(registration);
        self.claims.entry(registration).or_default().insert(person.node, Arc::new(person));
        self.reconcile(registration, changes);
    }

    /// A node takes back what it said of somebody.
    pub(super) fn disclaim(&mut self, node: u16, registration: Registration, changes: &mut Vec<Change>) {
        let Some(claims) = self.claims.get_mut(&registration) else { return };
        claims.remove(&node);
        if claims.is_empty() {
            self.claims.remove(&registration);
        }
        self.reconcile(registration, changes);
    }

    /// Whom a node claims.
    pub(super) fn claimed_by(&self, node: u16) -> Vec<Registration> {
        let claimed = self.claims.iter().filter(|(_, claims)| claims.contains_key(&node));
        claimed.map(|(registration, _)| *registration).collect()
    }

    /// Makes the picture of one person that of the claim that counts.
    pub(super) fn reconcile(&mut self, registration: Registration, changes: &mut Vec<Change>) {
        let claims = self.claims.get(&registration).into_iter().flat_map(|claims| claims.values());
        let best = claims.max_by_key(|person| (self.reachable.contains(&person.node), person.attached, person.node));
        let (best, known) = (best.cloned(), self.people.get(&registration).cloned());
        match (known, best) {
            (Some(known), None) => {
                self.remove(registration);
                changes.push(Change::Left { name: known.name.clone() });
            }
            (None, Some(best)) => {
                changes.push(Change::Joined { name: best.name.clone(), node: best.node });
                self.enter(best);
            }
            (Some(known), Some(best)) if known != best => {
                if known.node == self.me && best.node != self.me && !best.is_claimed {
                    changes.push(Change::MovedAway { registration, node: best.node });
                }
                if known.name != best.name {
                    changes.push(Change::Left { name: known.name.clone() });
                    changes.push(Change::Joined { name: best.name.clone(), node: best.node });
                } else if known.node != best.node {
                    changes.push(Change::Joined { name: best.name.clone(), node: best.node });
                }
                self.unlink(registration);
                self.enter(best);
            }
            _ => {}
        }
    }

    fn enter(&mut self, person: Arc<Person>) {
        let registration = person.registration;
        self.departed.remove(&registration);
        self.remember_key(&person);
        *self.counts.entry(person.node).or_default() += 1;
        self.forget_away(&person);
        self.holders.entry(person.name.shared_key()).or_default().insert(registration, ());
        self.people.insert(registration, person);
        self.version += 1;
    }

    pub(super) fn remember_key(&mut self, person: &Person) {
        let (Some(hash), registration) = (person.key_hash, person.registration) else { return };
        let holder = self.holder(&hash).filter(|holder| *holder != registration);
        // Who has begun anew here is not yet known to the node that they have left.
        if person.node == self.me || !holder.is_some_and(|holder| self.is_said_by(self.me, holder)) {
            self.sessions.insert(hash, registration);
        }
        let keys = self.keys.entry(registration).or_default();
        if keys.contains(&hash) {
            return;
        }
        keys.push_back(hash);
        if keys.len() > MAX_KEYS
            && let Some(oldest) = keys.pop_front()
        {
            self.sessions.remove(&oldest);
        }
    }

    /// A new holder ends the memory of one who is away; should that one's node come back, it says so itself.
    fn forget_away(&mut self, newcomer: &Person) {
        let Some(holders) = self.holders.get(newcomer.name.key()) else {
            return;
        };
        let away: Vec<Registration> = holders
            .keys()
            .copied()
            .filter(|held| {
                *held != newcomer.registration
                    && self.people.get(held).is_some_and(|person| !self.reachable.contains(&person.node))
            })
            .collect();
        for registration in away {
            self.claims.remove(&registration);
            self.remove(registration);
        }
    }

    fn remove(&mut self, registration: Registration) {
        self.unlink(registration);
        let Some(person) = self.people.remove(&registration) else { return };
        self.version += 1;
        if self.keys.contains_key(&registration) {
            self.depart(Arc::unwrap_or_clone(person));
        }
    }

    /// Remembers somebody who has left, so that their client can resume.
    pub(super) fn depart(&mut self, person: Person) {
        let registration = person.registration;
        self.departed.insert(registration, person);
        self.departed_order.push_back(registration);
        if self.departed_order.len() > MAX_DEPARTED {
            self.forget_departed();
        }
    }

    /// Somebody who has left does not come back: their clients cannot resume any more.
    pub fn forget(&mut self, registration: Registration) {
        self.gives_up(registration);
        if self.departed.remove(&registration).is_none() {
            return;
        }
        for key in self.keys.remove(&registration).unwrap_or_default() {
            if self.sessions.get(&key) == Some(&registration) {
                self.sessions.remove(&key);
            }
        }
    }

    fn forget_departed(&mut self) {
        if let Some(oldest) = self.departed_order.pop_front().filter(|oldest| self.departed.contains_key(oldest)) {
            self.forget(oldest);
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
}
