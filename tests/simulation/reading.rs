//! What the model says to what people read.

use std::collections::BTreeSet;

use clique::{
    chat::Registration,
    clique::Origin,
    wire::{
        Dialect,
        extended::{Receipt, State},
    },
};

use crate::{
    model::{Model, message_in},
    person::{ConnectionId, Heard},
};

/// Undelivered because the addressee has not come back in time: they still may.
pub fn is_open(receipt: &Receipt) -> bool {
    receipt.state() == State::Undelivered && receipt.reason.contains("they get it if they do later")
}

/// Whether a message waits for an addressee whose connection has just broken.
pub fn waits_for_return(receipts: &[Receipt]) -> bool {
    receipts.first().is_some_and(|first| first.state() == State::Kept && first.reason.contains("has just broken"))
}

impl Model {
    /// Somebody has read something.
    pub fn heard(&mut self, connection: ConnectionId, heard: &Heard) {
        match heard {
            Heard::Message { id, from, to, text, .. } => self.message(connection, *id, (from, to), text),
            Heard::Receipt(receipt) => self.receipt(connection, receipt),
            Heard::Notice(text) => self.notice(connection, text),
            Heard::Registered { .. } => {
                if let Some(talk) = self.talks.get_mut(&connection) {
                    talk.has_begun = true;
                }
            }
            _ => {}
        }
    }

    fn message(&mut self, connection: ConnectionId, id: Option<(Origin, u64)>, names: (&str, &str), text: &str) {
        let person = self.talks[&connection].person;
        let Some(message) = message_in(text).filter(|message| *message < self.said.len()) else {
            return self.violation(format!("person {person} read what nobody said: {text:?} from {}", names.0));
        };
        let Some(registration) = self.talks[&connection].registration else {
            return self.violation(format!("person {person} read m{message} before having a name"));
        };
        let Some(entry) = self.said[message].entry.clone() else {
            if self.is_bounded {
                // It was gone from a small log before the model saw it.
                return;
            }
            return self.violation(format!("person {person} read m{message}, which is in no log"));
        };
        if id.is_some_and(|id| id != (entry.origin, entry.number)) {
            self.violation(format!("m{message} came to person {person} with another number than it has"));
        }
        let is_extended = self.talks[&connection].dialect == Dialect::Extended;
        let formers = if is_extended { self.registrations(&self.talks[&connection]) } else { BTreeSet::new() };
        let is_mine = |to: Registration| {
            to == registration
                || formers.contains(&to)
                || self.names.values().any(|holders| holders.contains(&registration) && holders.contains(&to))
        };
        if entry.to.map_or(entry.sender == registration || formers.contains(&entry.sender), |to| !is_mine(to)) {
            self.violation(format!("m{message} came to person {person}, for whom it is not"));
        }
        let claimed = self.talks[&connection].claimed.get(entry.origin);
        if self.owners.contains(&registration) {
            return self.message_to_owner(connection, registration, message);
        }
        // Under a name there can be somebody else's mail, which is not in what the person had.
        let is_own = entry.to.is_none_or(|to| to == registration || formers.contains(&to));
        let is_claimed = is_own && entry.number <= claimed;
        // The client itself passes over what comes again of somebody's whose name it has.
        if is_extended && is_own && !is_claimed && self.has_heard(&self.talks[&connection], message) {
            self.violations.push(format!("Once: person {person} read m{message} twice (last on {connection})"));
        }
        let stay = self.stays.entry(registration).or_default();
        if stay.heard.contains(message) && !is_claimed && !self.talks[&connection].heard.contains(&message) {
            // The person had to begin anew in between, at a node that did not know them, and claims less: the client
            // itself passes such a message over.
            return;
        }
        if stay.heard.contains(message) || is_claimed {
            self.violations.push(format!("Once: person {person} read m{message} twice (connection {connection})"));
        }
        // What one node had dropped before it was read can still come from another, after a resume.
        let can_be_late = self.given_up.contains(message) || (self.is_bounded && stay.connections.len() > 1);
        if stay.past.contains(message) && !can_be_late {
            self.violations.push(format!("Order: person {person} read m{message} after something that came after it"));
        }
        stay.heard.insert(message);
        // Dropped from a small log before the model saw it applied: whether too early cannot be told.
        if !self.given_up.contains(message) {
            stay.past.extend(&self.said[message].past);
        }
        let Some(talk) = self.talks.get_mut(&connection) else { return };
        talk.heard.push(message);
        talk.past.extend(&self.said[message].past);
        talk.past.insert(message);
    }

    /// An owner has many devices: what one has had can come to another, but to none of them twice.
    fn message_to_owner(&mut self, connection: ConnectionId, registration: Registration, message: usize) {
        let is_again = self.stays.get(&registration).is_some_and(|stay| stay.heard.contains(message));
        let Some(talk) = self.talks.get_mut(&connection) else { return };
        let person = talk.person;
        if talk.heard.contains(&message) {
            self.violations.push(format!("Once: owner {person} read m{message} twice (connection {connection})"));
        }
        // What one device has had another can be shown later, after what it had itself.
        let is_late = is_again || self.given_up.contains(message) || talk.said.contains(&message);
        if talk.past.contains(message) && !is_late {
            self.violations.push(format!("Order: owner {person} read m{message} after something that came after it"));
        }
        talk.heard.push(message);
        talk.past.extend(&self.said[message].past);
        talk.past.insert(message);
        let stay = self.stays.entry(registration).or_default();
        stay.heard.insert(message);
    }

    fn receipt(&mut self, connection: ConnectionId, receipt: &Receipt) {
        let message = self.talks[&connection]
            .said
            .iter()
            .copied()
            .find(|message| self.said[*message].reference == receipt.reference);
        let Some(message) = message else {
            return self.violation(format!("connection {connection} got a receipt for what it did not say"));
        };
        let said = &self.said[message];
        let former = said.receipts.last().map(Receipt::state);
        let may_follow = said.receipts.last().is_some_and(is_open) && receipt.state() == State::Delivered;
        let is_first = matches!(receipt.state(), State::Accepted | State::Kept | State::Refused);
        let to_service = self.said[message].to == "clique";
        if is_first != former.is_none() && !to_service {
            self.violation(format!("Honest: m{message} was {former:?}, then {:?}", receipt.state()));
        }
        if former == Some(State::Undelivered) && !may_follow {
            self.violation(format!("Honest: m{message} was undelivered, then {:?}", receipt.state()));
        }
        let is_kept = receipt.state() == State::Kept || receipt.reason.starts_with("not sent: this node");
        if former.is_none() && self.said[message].is_to_expected && !is_kept {
            let (state, reason) = (receipt.state(), &receipt.reason);
            self.violation(format!("Kept: m{message} to somebody who is expected back is {state:?}: {reason}"));
        }
        if receipt.id.is_some() && self.said[message].entry.as_ref().is_some_and(|entry| entry.is_unsynced) {
            self.violation(format!("Kept: m{message} was acknowledged, and its last copy is gone"));
        }
        self.said[message].receipts.push(receipt.clone());
    }

    fn notice(&mut self, connection: ConnectionId, text: &str) {
        let Some(talk) = self.talks.get_mut(&connection) else { return };
        let number = |text: Option<&str>| text.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        if text.starts_with("not sent: ") {
            talk.refusals += 1;
        } else if text.starts_with("you missed ") {
            talk.missed += number(text.strip_prefix("you missed ")).unwrap();
        } else if text.contains("were dropped from its bounded log") {
            talk.lost_in_cuts += number(Some(text)).unwrap();
        }
    }

    /// Whether a message is for somebody who has had a name since then, and who is there.
    pub fn is_due(&self, registration: Registration, admitted_ms: u64, message: usize) -> bool {
        let Some(entry) = &self.said[message].entry else { return false };
        match entry.to {
            Some(to) => to == registration && (entry.is_mail || !self.owners.contains(&registration)),
            // Who is in a room, and since when, is for the nodes to say; and what was said to all before a login is history.
            None if entry.room.is_some() || self.owners.contains(&registration) => false,
            None => entry.sender != registration && entry.time > registration.time && entry.accepted_ms > admitted_ms,
        }
    }
}
