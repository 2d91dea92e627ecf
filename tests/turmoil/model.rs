//! What was said and heard, as people saw it: the model knows nothing of what is inside the nodes.
//!
//! What can be judged at once is judged here, the rest in `checks`.

use std::collections::{BTreeMap, BTreeSet};

use clique::{
    clique::time::unix_ms,
    wire::{
        Dialect,
        extended::{Receipt, Registration, State},
    },
};

use crate::{
    hearing::{Place, place},
    world::EPOCH_S,
};

pub type PersonId = usize;
pub type ConnectionId = usize;
pub type MessageId = usize;

#[derive(Debug)]
pub struct Said {
    pub connection: ConnectionId,
    pub sender: PersonId,
    /// `None`: everyone.
    pub to: Option<PersonId>,
    pub said_ms: u64,
    /// All that came, each with its time.
    pub receipts: Vec<(u64, Receipt)>,
}

impl Said {
    pub fn first(&self) -> Option<State> {
        self.receipts.first().map(|(_, receipt)| receipt.state())
    }

    pub fn was(&self, state: State) -> bool {
        self.receipts.iter().any(|(_, receipt)| receipt.state() == state)
    }

    /// Which entry it became; known only to those who are sent receipts.
    pub fn place(&self) -> Option<Place> {
        self.receipts.iter().find_map(|(_, receipt)| place(receipt.id.as_ref()?))
    }

    pub fn most_holding(&self) -> u32 {
        self.receipts.iter().map(|(_, receipt)| receipt.nodes_holding).max().unwrap_or(0)
    }
}

/// One connection.
#[derive(Debug)]
pub struct Talk {
    pub person: PersonId,
    pub node: u16,
    pub dialect: Dialect,
    pub is_registered: bool,
    pub is_open: bool,
    pub said: Vec<MessageId>,
    /// Lines that were not taken.
    pub refusals: usize,
    heard: Heard,
}

/// What came, and up to where from each connection of a sender.
#[derive(Debug, Default)]
struct Heard {
    messages: BTreeSet<MessageId>,
    latest: BTreeMap<ConnectionId, MessageId>,
}

impl Heard {
    /// Says what is wrong with a message that comes now.
    fn take(&mut self, message: MessageId, sender: ConnectionId) -> Option<String> {
        if !self.messages.insert(message) {
            return Some(format!("Once: m{message} came twice"));
        }
        let latest = self.latest.entry(sender).or_insert(message);
        if *latest > message {
            return Some(format!("Order: m{message} came after m{latest}, which was said later by the same sender"));
        }
        *latest = message;
        None
    }
}

/// One person, in all their connections.
#[derive(Debug, Default)]
pub struct Life {
    pub name: String,
    pub connection: Option<ConnectionId>,
    /// A stay is a registration and the connections that resumed it.
    pub stays: Vec<Stay>,
    pub goodbyes_ms: Vec<u64>,
    /// They have another name than they asked for.
    pub is_renamed: bool,
    ever_heard: BTreeSet<MessageId>,
}

#[derive(Debug)]
pub struct Stay {
    registration: Option<Registration>,
    pub since_ms: u64,
    heard: Heard,
}

impl Life {
    /// Whether this is one registration from beginning to end: then everything is owed that was ever for this name.
    pub fn is_one_stay(&self) -> bool {
        self.stays.len() == 1
    }

    pub fn has_heard(&self, message: MessageId) -> bool {
        self.ever_heard.contains(&message)
    }
}

impl Talk {
    pub fn has_heard(&self, message: MessageId) -> bool {
        self.heard.messages.contains(&message)
    }
}

#[derive(Debug, Default)]
pub struct Model {
    pub people: Vec<Life>,
    pub talks: Vec<Talk>,
    pub said: Vec<Said>,
    /// Ends of nodes' lives, with what they alone had.
    pub deaths: Vec<(u64, u16)>,
    /// Nodes have disks: what was acknowledged is never lost.
    pub has_disks: bool,
    pub violations: Vec<String>,
}

pub fn text_of(message: MessageId, padding: usize) -> String {
    format!("m{message} {}", "x".repeat(padding))
}

/// How a sender and their node call a message.
pub fn reference_of(message: MessageId) -> u64 {
    message as u64 + 1
}

fn message_of(reference: u64) -> MessageId {
    usize::try_from(reference).unwrap().wrapping_sub(1)
}

fn message_in(text: &str) -> Option<MessageId> {
    text.strip_prefix('m')?.split(' ').next()?.parse().ok()
}

impl Model {
    pub fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    pub fn joined(&mut self, name: &str) -> PersonId {
        self.people.push(Life { name: name.to_owned(), ..Life::default() });
        self.people.len() - 1
    }

    pub fn connected(&mut self, person: PersonId, node: u16, dialect: Dialect) -> ConnectionId {
        self.talks.push(Talk {
            person,
            node,
            dialect,
            is_registered: false,
            is_open: true,
            said: Vec::new(),
            refusals: 0,
            heard: Heard::default(),
        });
        self.talks.len() - 1
    }

    /// Where the dialect can resume, nodes tell which registration it is, and whether what was missed under it follows.
    pub fn registered(
        &mut self,
        connection: ConnectionId,
        resumed: bool,
        registration: Option<Registration>,
        now_ms: u64,
    ) {
        let talk = &mut self.talks[connection];
        talk.is_registered = true;
        let life = &mut self.people[talk.person];
        life.connection = Some(connection);
        let is_same = |stay: &Stay| registration.is_some() && stay.registration == registration;
        if !life.stays.last().is_some_and(is_same) {
            let asked_ms = |registration: Registration| unix_ms(registration.time) - EPOCH_S * 1_000;
            let since_ms = registration.filter(|_| resumed).map_or(now_ms, asked_ms);
            life.stays.push(Stay { registration, since_ms, heard: Heard::default() });
        }
    }

    pub fn closed(&mut self, connection: ConnectionId) {
        let talk = &mut self.talks[connection];
        talk.is_open = false;
        let life = &mut self.people[talk.person];
        life.connection = life.connection.filter(|present| *present != connection);
    }

    pub fn says(&mut self, connection: ConnectionId, to: Option<PersonId>, said_ms: u64) -> MessageId {
        let (message, talk) = (self.said.len(), &mut self.talks[connection]);
        talk.said.push(message);
        self.said.push(Said { connection, sender: talk.person, to, said_ms, receipts: Vec::new() });
        message
    }

    pub fn hears(&mut self, connection: ConnectionId, from: &str, to: Option<&str>, text: &str) {
        let reader = self.talks[connection].person;
        let who = &self.people[reader].name;
        let Some((message, said)) = message_in(text).and_then(|message| Some((message, self.said.get(message)?)))
        else {
            return self.violation(format!("{who} heard what nobody said: {text:?} from {from}"));
        };
        let is_mine = said.to.map_or(said.sender != reader, |to| to == reader);
        let is_to_right = match said.to {
            None => to == Some("*"),
            // Lines leave out whom a direct message is to.
            Some(_) => to.is_none_or(|to| to == who || self.people[reader].is_renamed),
        };
        let is_named =
            |person: PersonId, name: &str| self.people[person].is_renamed || self.people[person].name == name;
        if !(is_mine && is_to_right && is_named(said.sender, from)) {
            return self.violation(format!("{who} heard m{message} from {from} to {to:?}, but it is {said:?}"));
        }
        if said.first() == Some(State::Refused) {
            return self.violation(format!("Honest: {who} heard m{message}, which was refused"));
        }
        let (sender, life) = (said.connection, &mut self.people[reader]);
        let again = life.stays.last_mut().and_then(|stay| stay.heard.take(message, sender));
        // Who came back to a node that did not know them is somebody new there, and may be shown things again.
        let across = again.filter(|_| life.is_one_stay());
        life.ever_heard.insert(message);
        let here = self.talks[connection].heard.take(message, sender);
        if let Some(wrong) = here.or(across) {
            let who = &self.people[reader].name;
            self.violations.push(format!("{wrong} ({who}, connection {connection})"));
        }
    }

    pub fn receipt(&mut self, connection: ConnectionId, receipt: &Receipt, now_ms: u64) {
        let person = self.talks[connection].person;
        let message = message_of(receipt.reference);
        let Some(said) = self.said.get_mut(message).filter(|said| said.sender == person) else {
            return self.violation(format!("connection {connection} got a receipt for what its person did not say"));
        };
        let (former, state) = (said.receipts.last().map(|(_, former)| former.state()), receipt.state());
        // Whoever has not come back in time still may.
        let is_open = said.receipts.last().is_some_and(|(_, former)| former.reason.contains("get it if they do later"));
        let is_over = former == Some(State::Undelivered) && !(is_open && state == State::Delivered);
        let is_first = matches!(state, State::Accepted | State::Kept | State::Refused);
        said.receipts.push((now_ms, receipt.clone()));
        let is_out_of_order = said.connection == connection && is_first != former.is_none();
        if is_out_of_order || is_over {
            self.violation(format!("Honest: m{message} was {former:?}, then {state:?}"));
        }
    }
}
