//! The reference model: what was said, by whom, after having read what; and what each person must have read by the end.
//!
//! It watches the system from outside: what people submit, the bytes they read, and which entries each node has
//! applied. Checks that can be made at once are made here, those of the end in `checks`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clique::{
    chat::{Addressee, Directory, Registration},
    clique::{Heights, Origin, replica::MAX_CAUSAL_WAIT_MS},
    node::hub::Hub,
    wire::{Dialect, entry::read_entry, extended::Receipt},
};

use crate::{
    node::SimNode,
    person::{ConnectionId, PersonId, Reading},
    set::MessageSet,
};

/// What a message became.
#[derive(Debug, Clone)]
pub struct Entry {
    pub origin: Origin,
    pub number: u64,
    pub time: u64,
    /// `None`: everyone, or a room.
    pub to: Option<Registration>,
    /// To those who are in this room.
    pub room: Option<String>,
    /// To the owner of a claimed name: it waits for them.
    pub is_mail: bool,
    pub sender: Registration,
    pub accepted_ms: u64,
    /// A crash took the last copy.
    pub is_lost: bool,
    /// It must never have been acknowledged: no disk had it.
    pub is_unsynced: bool,
    pub bytes: Bytes,
}

#[derive(Debug)]
pub struct Said {
    pub connection: ConnectionId,
    pub reference: u64,
    pub to: String,
    /// Their node expected the addressee back.
    pub is_to_expected: bool,
    pub entry: Option<Entry>,
    /// What its sender had read and said before, and what those had.
    pub past: MessageSet,
    /// What the node that accepted it had applied by then.
    node_had: MessageSet,
    pub receipts: Vec<Receipt>,
}

/// One connection, as the model knows it.
#[derive(Debug)]
pub struct Talk {
    pub person: PersonId,
    /// Which session of that person it belongs to.
    pub session: u8,
    pub node: u16,
    pub dialect: Dialect,
    pub reading: Reading,
    pub registration: Option<Registration>,
    pub admitted_ms: u64,
    /// The person has read that they are registered. Before that nothing tells them what to go on from.
    pub has_begun: bool,
    pub is_open: bool,
    pub said: Vec<usize>,
    pub heard: Vec<usize>,
    /// Notices that something was not sent.
    pub refusals: usize,
    /// Messages that the person was told to have missed here, and by this node as a whole.
    pub missed: u64,
    pub lost_in_cuts: u64,
    pub past: MessageSet,
    /// What a resuming person said to have had.
    pub claimed: Heights,
    /// Acknowledged messages of former connections that this one's node had when the name was given.
    pub covered: Vec<usize>,
}

/// One registration: everything that its connections have read together.
#[derive(Debug, Default)]
pub struct Stay {
    pub connections: Vec<ConnectionId>,
    pub heard: MessageSet,
    /// The pasts of everything heard: none of it may come later.
    pub past: MessageSet,
}

#[derive(Debug, Default)]
struct Known {
    life: u64,
    /// Of the log, up to which everything is in the set.
    position: u64,
    /// Who was there after the last turn.
    people: BTreeSet<Registration>,
    set: MessageSet,
    /// Of each origin, the first entry in memory when last looked at.
    firsts: BTreeMap<Origin, u64>,
}

#[derive(Debug, Default)]
pub struct Model {
    pub said: Vec<Said>,
    pub talks: BTreeMap<ConnectionId, Talk>,
    pub stays: BTreeMap<Registration, Stay>,
    /// Everybody who had a name so far, by its key: what was sent to one may go to the next.
    pub names: BTreeMap<String, BTreeSet<Registration>>,
    pub entries: BTreeMap<(Origin, u64), usize>,
    /// Who has claimed their name.
    pub owners: BTreeSet<Registration>,
    known: BTreeMap<u16, Known>,
    /// What some node has waited for in vain, or skipped: it can come to people late, from another node.
    pub given_up: MessageSet,
    /// Whether entries may be gone from the log of their own node before they are seen here.
    pub is_bounded: bool,
    /// Where some disk has held something else than was said.
    pub contradicted: BTreeSet<(Origin, u64)>,
    pub violations: Vec<String>,
}

pub fn text_of(message: usize, padding: usize) -> String {
    format!("m{message} {}", "x".repeat(padding))
}

pub fn message_in(text: &str) -> Option<usize> {
    text.strip_prefix('m')?.split(' ').next()?.parse().ok()
}

impl Model {
    pub fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    pub fn opened(
        &mut self,
        connection: ConnectionId,
        (person, session): (PersonId, u8),
        node: u16,
        dialect: Dialect,
        reading: Reading,
    ) {
        let talk = Talk {
            person,
            session,
            node,
            dialect,
            reading,
            registration: None,
            admitted_ms: 0,
            has_begun: false,
            is_open: true,
            said: Vec::new(),
            heard: Vec::new(),
            refusals: 0,
            missed: 0,
            lost_in_cuts: 0,
            past: MessageSet::default(),
            claimed: Heights::default(),
            covered: Vec::new(),
        };
        self.talks.insert(connection, talk);
    }

    /// All connections of one session of somebody.
    fn session(&self, talk: &Talk) -> impl Iterator<Item = &Talk> {
        self.talks.values().filter(move |other| (other.person, other.session) == (talk.person, talk.session))
    }

    /// The registrations that somebody had in one session. With disks each goes on where the former ended, even if all
    /// nodes have been restarted in between. Not those that a later life of a node, its clock behind, gave out again.
    pub fn registrations(&self, talk: &Talk) -> BTreeSet<Registration> {
        let is_theirs = |registration: &Registration| {
            let connections = self.stays.get(registration).map_or(&[][..], |stay| &stay.connections);
            connections.iter().all(|connection| self.talks[connection].person == talk.person)
        };
        self.session(talk).filter_map(|other| other.registration).filter(is_theirs).collect()
    }

    /// When the first connection of a session began of which its person knows.
    pub fn begun_ms(&self, talk: &Talk) -> u64 {
        let begun = self.session(talk).filter(|other| other.has_begun);
        begun.map(|other| other.admitted_ms).min().unwrap_or(u64::MAX)
    }

    pub fn is_before(&self, message: usize, moment_ms: u64) -> bool {
        self.said[message].entry.as_ref().is_some_and(|entry| entry.accepted_ms < moment_ms)
    }

    /// These are held back by a node until it has what is before them: they come late, rather than never.
    pub fn held_back(&mut self, entries: impl Iterator<Item = (Origin, u64)>) {
        let messages = entries.filter_map(|entry| self.entries.get(&entry).copied());
        messages.for_each(|message| self.given_up.insert(message));
    }

    /// Whether something for everyone was said, as the clocks of the nodes have it, before somebody was first registered.
    pub fn is_history(&self, talk: &Talk, message: usize) -> bool {
        let first = self.session(talk).find_map(|other| other.registration);
        let entry = self.said[message].entry.as_ref().filter(|entry| entry.to.is_none());
        entry.zip(first).is_some_and(|(entry, first)| entry.time <= first.time)
    }

    /// Whether somebody has said or read a message in this session.
    pub fn knows(&self, talk: &Talk, message: usize) -> bool {
        self.has_heard(talk, message) || self.session(talk).any(|other| other.said.contains(&message))
    }

    /// Whether somebody has read a message in this session.
    pub fn has_heard(&self, talk: &Talk, message: usize) -> bool {
        self.session(talk).any(|other| other.heard.contains(&message))
    }

    pub fn closed(&mut self, connection: ConnectionId) {
        if let Some(talk) = self.talks.get_mut(&connection) {
            talk.is_open = false;
        }
    }

    /// A node has given a connection its name. `covered` is what its person said before and knows this node to have.
    pub fn admitted(&mut self, connection: ConnectionId, registration: Registration, covered: Vec<usize>, now_ms: u64) {
        self.stays.entry(registration).or_default().connections.push(connection);
        let Some(talk) = self.talks.get_mut(&connection) else { return };
        (talk.registration, talk.admitted_ms) = (Some(registration), now_ms);
        for message in &covered {
            talk.past.extend(&self.said[*message].past);
            talk.past.insert(*message);
        }
        talk.covered = covered;
    }

    /// Whom a node knows under which name, now.
    pub fn named(&mut self, people: &Directory) {
        for person in people.present() {
            if person.is_claimed {
                self.owners.insert(person.registration);
            }
            if !self.names.get(person.name.key()).is_some_and(|holders| holders.contains(&person.registration)) {
                self.names.entry(person.name.key().to_owned()).or_default().insert(person.registration);
            }
        }
    }

    /// Somebody says something; gives its number.
    pub fn submitted(&mut self, connection: ConnectionId, reference: u64, to: &str) -> usize {
        let message = self.said.len();
        let talk = self.talks.get_mut(&connection).unwrap();
        self.said.push(Said {
            connection,
            reference,
            to: to.to_owned(),
            is_to_expected: false,
            entry: None,
            past: talk.past.clone(),
            node_had: MessageSet::default(),
            receipts: Vec::new(),
        });
        talk.said.push(message);
        talk.past.insert(message);
        message
    }

    /// What a node has applied since the last time.
    pub fn observe(&mut self, hub: &Hub, life: u64, now_ms: u64) {
        self.named(hub.directory());
        let log = hub.replica().log();
        let mut known = self.known.remove(&hub.node()).filter(|known| known.life == life).unwrap_or_default();
        known.life = life;
        self.give_up_holes(hub, &mut known);
        self.take_in_evicted(hub, &mut known);
        while let Some(run) = log.applied_at(known.position) {
            known.position = run.position + 1;
            let place = (run.origin, run.first);
            if let Some(bytes) = log.entry(run.origin, run.first) {
                self.applied(hub, place, &bytes, &known, now_ms);
            }
            if let Some(message) = self.entries.get(&place).copied() {
                self.check_past(hub, message, &known, now_ms);
                known.set.insert(message);
            }
        }
        known.people = hub.directory().present().map(|person| person.registration).collect();
        self.known.insert(hub.node(), known);
    }

    /// What a node has on its disk and not in memory any more: it has been applied.
    fn take_in_evicted(&self, hub: &Hub, known: &mut Known) {
        let log = hub.replica().log();
        for origin in log.origins() {
            let first = log.first(origin);
            let seen = known.firsts.insert(origin, first).unwrap_or(1).max(log.first_kept(origin));
            if seen < first {
                let evicted = self.entries.range((origin, seen)..(origin, first));
                evicted.for_each(|(_, message)| known.set.insert(*message));
            }
        }
    }

    /// What was dropped everywhere before it came to a node, or from its log since, is not waited for.
    fn give_up_holes(&mut self, hub: &Hub, known: &mut Known) {
        for held in hub.replica().log().held().filter(|held| held.first > 1) {
            let dropped = self.entries.range((held.origin, 0)..(held.origin, held.first));
            for (_, message) in dropped {
                if known.set.contains(*message) {
                    continue;
                }
                known.set.insert(*message);
                self.given_up.insert(*message);
            }
        }
    }

    fn applied(&mut self, hub: &Hub, (origin, number): (Origin, u64), bytes: &Bytes, known: &Known, now_ms: u64) {
        let node = hub.node();
        let (view, _) = read_entry(bytes).unwrap();
        let Some(said) = view.message() else { return };
        let Some(message) = std::str::from_utf8(said.text).ok().and_then(message_in) else {
            return self.violation(format!("node {node} holds {origin}#{number}, which nobody said"));
        };
        if let Some(before) = &self.said[message].entry {
            let is_other = before.bytes != *bytes && !self.contradicted.contains(&(origin, number));
            if (before.origin, before.number) != (origin, number) || is_other {
                let text =
                    format!("m{message} is {}#{} and, on node {node}, {origin}#{number}", before.origin, before.number);
                self.violation(format!("Same everywhere: {text}"));
            }
            return;
        }
        if origin != hub.replica().me() {
            if self.is_bounded {
                return;
            }
            return self.violation(format!("node {node} had {origin}#{number} (m{message}) before its own origin"));
        }
        let to = said.to.person();
        let sender = said.sender_registration;
        if to.is_none() {
            self.check_time(known, message, view.time);
        }
        self.entries.insert((origin, number), message);
        // What counts is what the accepting node had; it gives up waiting for what nobody has.
        self.said[message].past.keep(&known.set);
        self.said[message].node_had = known.set.clone();
        self.said[message].entry = Some(Entry {
            origin,
            number,
            time: view.time,
            to,
            room: if let Addressee::Room(room) = said.to { Some(room.to_owned()) } else { None },
            is_mail: matches!(said.to, Addressee::Owner(..)),
            sender,
            accepted_ms: now_ms,
            is_lost: false,
            is_unsynced: false,
            bytes: bytes.clone(),
        });
    }

    /// A message to everyone must come after everybody whom its node knows, or some would not be counted as there.
    fn check_time(&mut self, known: &Known, message: usize, time: u64) {
        let late = known.people.iter().find(|registration| {
            registration.time >= time
                && self
                    .stays
                    .get(registration)
                    .is_some_and(|stay| !stay.connections.contains(&self.said[message].connection))
        });
        if let Some(late) = late {
            self.violations
                .push(format!("Kept: m{message} to everyone has a time before {late:?}, whom its node knew"));
        }
    }

    /// Nothing is applied before what its sender had read, save after the longest wait.
    fn check_past(&mut self, hub: &Hub, message: usize, known: &Known, now_ms: u64) {
        let node = hub.node();
        let missing: Vec<usize> = self.said[message]
            .past
            .without(&known.set)
            .into_iter()
            .filter(|before| self.said[*before].entry.as_ref().is_some())
            .collect();
        if missing.is_empty() {
            return;
        }
        let too_early = missing.iter().find(|before| {
            self.declaring(message, **before).is_some_and(|entry| {
                // What the dropped front of a log had declared is not known to who gets only the rest.
                let is_dropped = entry.number < hub.replica().log().first(entry.origin);
                !is_dropped && now_ms < entry.accepted_ms + MAX_CAUSAL_WAIT_MS
            })
        });
        if let Some(first) = too_early {
            return self.violation(format!(
                "Order: at {now_ms} ms node {node} applied m{message} ({:?}) before m{first} ({:?}), which it answers",
                self.said[message].entry.as_ref().map(|entry| (entry.origin.node, entry.number)),
                self.said[*first].entry.as_ref().map(|entry| (entry.origin.node, entry.number)),
            ));
        }
        missing.iter().for_each(|before| self.given_up.insert(*before));
    }

    /// The first entry of a message's origin that comes after another message: only that one says so.
    fn declaring(&self, message: usize, before: usize) -> Option<&Entry> {
        let entry = self.said[message].entry.as_ref()?;
        let row =
            self.entries.range((entry.origin, 0)..=(entry.origin, entry.number)).map(|(_, other)| &self.said[*other]);
        row.filter(|said| said.node_had.contains(before)).find_map(|said| said.entry.as_ref())
    }

    /// Nodes have died; what no other holds, nor any disk, is lost for good. Where disks count, none of it may have been
    /// acknowledged.
    pub fn copies_lost(&mut self, nodes: &[SimNode], disks_count: bool) -> usize {
        let mut lost = 0;
        for ((origin, number), message) in &self.entries {
            let said = &mut self.said[*message];
            let entry = said.entry.as_mut().unwrap();
            let holds = |node: &SimNode| match node.is_running() {
                true => node.hub.replica().log().height(*origin) >= *number || node.disk.had(*origin, *number),
                false => node.disk.had(*origin, *number),
            };
            if entry.is_lost || nodes.iter().any(holds) {
                continue;
            }
            (entry.is_lost, entry.is_unsynced) = (true, disks_count);
            lost += 1;
            if entry.is_unsynced && said.receipts.iter().any(|receipt| receipt.id.is_some()) {
                self.violations.push(format!("Kept: m{message} was acknowledged, and its last copy is gone"));
            }
        }
        lost
    }
}
