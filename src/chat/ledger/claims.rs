//! Claims: which names have an owner.
//!
//! A claim belongs to its registration. Of several claims of one name the earliest has it; each later one gets, in the
//! order of their times, the first of `name~N`, `name~N~2` … that is free (N is the node where it was claimed). That is
//! worked out from all claims together, so it is the same wherever the same claims are known.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Carrier;
use crate::chat::{
    Name, Registration, StateChange,
    change::{ChangeKind, Claim},
};

/// Somebody who owns a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The name that they have.
    pub name: Name,
    pub registration: Registration,
    /// argon2id, as a PHC string.
    pub passphrase_hash: String,
    /// When, where and as what the name was first claimed; the earliest counts.
    first: (u64, u16, Name),
    /// When the passphrase was last changed; the latest counts.
    changed: u64,
    carrier: Carrier,
}

impl Owner {
    /// The claim with another passphrase.
    #[must_use]
    pub fn claim_again(&self, passphrase_hash: String) -> Claim {
        let (claimed, node, name) = &self.first;
        Claim {
            name: name.to_string(),
            registration: self.registration,
            node: *node,
            claimed: *claimed,
            passphrase_hash,
        }
    }
}

/// Somebody got a name by a claim, or another one because somebody claimed it before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub registration: Registration,
    pub name: Name,
    /// The name that they had by their claim before.
    pub old: Option<Name>,
}

#[derive(Debug, Default)]
pub(super) struct Claims {
    owners: BTreeMap<Registration, Owner>,
    by_key: BTreeMap<Arc<str>, Registration>,
    /// Names are to be given out anew.
    is_unsettled: bool,
    news: Vec<Named>,
    version: u64,
}

impl Claims {
    pub(super) fn take(&mut self, claim: &Claim, changed: u64, carrier: Carrier) -> bool {
        // Nodes check names before they let them be claimed.
        let Ok(name) = Name::parse(claim.name.as_bytes()) else { return false };
        let first = (claim.claimed, claim.node, name);
        let Some(owner) = self.owners.get_mut(&claim.registration) else {
            self.enter(first, claim, changed, carrier);
            return true;
        };
        let before = owner.clone();
        if (first.0, first.1, first.2.as_str()) < (owner.first.0, owner.first.1, owner.first.2.as_str()) {
            owner.first = first;
            self.is_unsettled = true;
        }
        if (changed, claim.passphrase_hash.as_str()) > (owner.changed, owner.passphrase_hash.as_str()) {
            (owner.changed, owner.passphrase_hash) = (changed, claim.passphrase_hash.clone());
            owner.carrier = carrier;
        } else if changed == owner.changed && claim.passphrase_hash == owner.passphrase_hash {
            owner.carrier = owner.carrier.max(carrier);
        }
        (&before.first, &before.passphrase_hash) != (&owner.first, &owner.passphrase_hash)
    }

    fn enter(&mut self, first: (u64, u16, Name), claim: &Claim, changed: u64, carrier: Carrier) {
        let (name, registration) = (first.2.clone(), claim.registration);
        if self.by_key.contains_key(name.key()) {
            self.is_unsettled = true;
        } else {
            // Nobody has it, so nobody wanted it either: no other name depends on this one.
            self.by_key.insert(name.shared_key(), registration);
            self.news.push(Named { registration, name: name.clone(), old: None });
        }
        let passphrase_hash = claim.passphrase_hash.clone();
        self.owners.insert(registration, Owner { name, registration, passphrase_hash, first, changed, carrier });
        self.version += 1;
    }

    /// Gives out names anew where that is needed, and says what changed since the last time.
    pub(super) fn settle(&mut self) -> Vec<Named> {
        let mut news = std::mem::take(&mut self.news);
        if !std::mem::take(&mut self.is_unsettled) {
            return news;
        }
        self.version += 1;
        let had: BTreeMap<Registration, Arc<str>> =
            self.by_key.iter().map(|(key, registration)| (*registration, key.clone())).collect();
        let mut order: Vec<(u64, u16, Registration)> =
            self.owners.values().map(|owner| (owner.first.0, owner.first.1, owner.registration)).collect();
        order.sort_unstable();
        self.by_key.clear();
        for (_, node, registration) in order {
            let Some(owner) = self.owners.get_mut(&registration) else { continue };
            let asked = &owner.first.2;
            let later = (1..).map(|attempt| asked.renamed(node, attempt));
            let mut names = std::iter::once(asked.clone()).chain(later);
            let Some(name) = names.find(|name| !self.by_key.contains_key(name.key())) else { continue };
            self.by_key.insert(name.shared_key(), registration);
            let old = std::mem::replace(&mut owner.name, name.clone());
            let is_new = !had.contains_key(&registration);
            if is_new || old != name {
                news.retain(|named| named.registration != registration);
                news.push(Named { registration, name, old: (!is_new).then_some(old) });
            }
        }
        let settled: BTreeSet<Registration> = self.by_key.values().copied().collect();
        news.retain(|named| settled.contains(&named.registration));
        news
    }

    pub(super) fn by_key(&self, key: &str) -> Option<&Owner> {
        self.by_key.get(key).and_then(|registration| self.owners.get(registration))
    }

    pub(super) fn by_registration(&self, registration: Registration) -> Option<&Owner> {
        self.owners.get(&registration)
    }

    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn carried(&self, goes: impl Fn(Carrier) -> bool) -> impl Iterator<Item = StateChange> {
        self.owners.values().filter(move |owner| goes(owner.carrier)).map(|owner| StateChange {
            time: owner.changed,
            kind: ChangeKind::Claim(owner.claim_again(owner.passphrase_hash.clone())),
        })
    }
}
