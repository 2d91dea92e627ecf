//! A client's life: it connects, asks for a name, talks, and leaves.
//!
//! ```text
//! Connected ──register──▶ Resuming ──caught up──▶ Asking ──votes──▶ Registered ──▶ closed
//!     ▲  └───────────────new──────────────────────▲  │ no
//!     └──────────────────────────────────────────────┘
//! ```

use std::collections::VecDeque;

use bytes::Bytes;

use super::{ClientId, Hub, Mark, Now, Ports, Sampled, accept::Target, delivery::Cursor};
use crate::{
    chat::{
        Command, Name, Person, Registration,
        directory::{self, Change, KeyHash, Settled},
        notice,
    },
    clique::{Heights, Origin},
    wire::{
        Dialect,
        extended::{self, FromNode, heights_to_proto},
        frames, lines,
        peer::{Outcome, PeerFrame},
    },
};

/// Inputs put aside for a client while its name is asked for; beyond it the connection is given up.
const MAX_DEFERRED: usize = 1_024;
/// How long a resuming client waits for its node to catch up with what it sent elsewhere, in milliseconds.
const MAX_RESUME_WAIT_MS: u64 = 1_000;
/// People in one frame of the snapshot, so that it fits.
const PEOPLE_PER_FRAME: usize = 400;

/// What comes from a client.
#[derive(Debug)]
pub enum FromClient {
    Opened {
        dialect: Dialect,
    },
    Register(Registering),
    /// Messages, in the order in which they were sent.
    Submit(Vec<Submission>),
    Command(Command),
    /// Type 5 of the original protocol.
    ListNodes,
    /// Type 6 of the original protocol.
    Echo,
    /// Type 7 of the original protocol.
    Goodbye,
    /// Something to say to the client from its own connection: a line too long, an unknown command.
    Tell(String),
    /// It sends nothing more; what it sent is still answered.
    HalfClosed,
    /// Its output has room again.
    Drained,
    /// These were written to its socket.
    Written(Vec<Mark>),
    /// It is gone; these were not written any more.
    Closed {
        unwritten: Vec<Mark>,
    },
}

/// A request for a name.
#[derive(Debug, Clone, Default)]
pub struct Registering {
    pub name: Bytes,
    /// Only from extended clients.
    pub key_hash: Option<KeyHash>,
    pub resume: Option<Resume>,
}

/// Where a client goes on that was connected before.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// What it has received.
    pub received: Heights,
    /// What it has sent.
    pub sent: Vec<(Origin, u64)>,
}

/// A message as it came from its sender.
#[derive(Debug, Clone)]
pub struct Submission {
    pub to: Bytes,
    pub text: Bytes,
    /// The client's own number for it; receipts name it.
    pub reference: u64,
    pub sampled: Option<Sampled>,
    pub received_unix_us: u64,
}

#[derive(Debug)]
pub(super) enum Life {
    Connected,
    /// Waits until this node has what the client sent elsewhere.
    Resuming {
        registering: Registering,
        until_ms: u64,
    },
    Asking {
        ballot: u64,
        resume: Option<Resume>,
    },
    Registered {
        name: Name,
        registration: Registration,
    },
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) dialect: Dialect,
    pub(super) life: Life,
    pub(super) cursor: Cursor,
    /// Messages dropped from the log before this client had them, not yet told.
    pub(super) missed: u64,
    /// What came while the name was being asked for.
    deferred: VecDeque<FromClient>,
    /// The addressee of the last message, as long as nobody came or went.
    pub(super) last_target: Option<(Bytes, u64, Target)>,
}

impl Client {
    fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            life: Life::Connected,
            cursor: Cursor::Live,
            missed: 0,
            deferred: VecDeque::new(),
            last_target: None,
        }
    }

    pub(super) fn name(&self) -> Option<&Name> {
        match &self.life {
            Life::Registered { name, .. } => Some(name),
            _ => None,
        }
    }

    pub(super) fn registration(&self) -> Option<Registration> {
        match self.life {
            Life::Registered { registration, .. } => Some(registration),
            _ => None,
        }
    }
}

impl Hub {
    /// Takes what a client sent.
    pub fn from_client(&mut self, client: ClientId, input: FromClient, now: Now, ports: &mut impl Ports) {
        if let FromClient::Opened { dialect } = input {
            self.clients.insert(client, Client::new(dialect));
            return;
        }
        let Some(input) = self.defer(client, input, ports) else { return };
        match input {
            FromClient::Opened { .. } => {}
            FromClient::Register(registering) => self.register(client, registering, now, ports),
            FromClient::Submit(submissions) => self.submit_all(client, submissions, now, ports),
            FromClient::Echo => {
                let mut out = Vec::new();
                frames::encode_empty(&mut out, frames::kind::ECHO_ANSWER);
                ports.to_client(client, &out, None);
            }
            FromClient::Goodbye => {
                self.commit(now, ports);
                let mut out = Vec::new();
                frames::encode_empty(&mut out, frames::kind::GOODBYE_ANSWER);
                ports.to_client(client, &out, None);
                ports.close_client(client);
            }
            FromClient::HalfClosed => {
                self.commit(now, ports);
                ports.close_client(client);
            }
            FromClient::Command(command) => self.command(client, command, now, ports),
            FromClient::ListNodes => {
                let mut out = Vec::new();
                let live = self.members.iter().filter(|(_, linked)| linked.is_some());
                let chat_ports: Vec<u16> = live.map(|(member, _)| member.chat_port).collect();
                frames::encode_nodes(&mut out, &chat_ports);
                ports.to_client(client, &out, None);
            }
            FromClient::Tell(text) => self.tell(client, &text, ports),
            FromClient::Drained => {
                if self.clients.get(&client).is_some_and(|state| !matches!(state.cursor, Cursor::Live)) {
                    self.replaying.insert(client);
                }
            }
            FromClient::Written(marks) => {
                for mark in marks.iter().filter(|mark| mark.wants_receipt) {
                    let (origin, number) = (mark.origin, mark.number);
                    self.report(Outcome { origin, number, delivered: 1, gone: false });
                }
            }
            FromClient::Closed { unwritten } => self.closed(client, &unwritten, ports),
        }
    }

    /// Puts aside what comes from a client whose name is being asked for. Gives back what is to be acted on now.
    fn defer(&mut self, client: ClientId, input: FromClient, ports: &mut impl Ports) -> Option<FromClient> {
        let is_about_output = matches!(input, FromClient::Drained | FromClient::Written(_) | FromClient::Closed { .. });
        let state = self.clients.get_mut(&client)?;
        let is_waiting = matches!(state.life, Life::Asking { .. } | Life::Resuming { .. });
        if is_about_output || !is_waiting {
            return Some(input);
        }
        state.deferred.push_back(input);
        if state.deferred.len() > MAX_DEFERRED {
            state.deferred.clear();
            self.tell(client, "too much came before the name was given; the connection is closed", ports);
            ports.close_client(client);
        }
        None
    }

    /// Goes on with what was put aside, now that the name is given or refused.
    fn undefer(&mut self, client: ClientId, now: Now, ports: &mut impl Ports) {
        while let Some(state) = self.clients.get_mut(&client)
            && !matches!(state.life, Life::Asking { .. } | Life::Resuming { .. })
            && let Some(input) = state.deferred.pop_front()
        {
            self.from_client(client, input, now, ports);
        }
    }

    fn submit_all(&mut self, client: ClientId, submissions: Vec<Submission>, now: Now, ports: &mut impl Ports) {
        let mut submissions = submissions.into_iter();
        while let Some(submission) = submissions.next() {
            let Some(state) = self.clients.get_mut(&client) else { return };
            match state.life {
                // In the text dialect the first line is the name, and so is each line until one is given.
                Life::Connected if state.dialect == Dialect::Lines => {
                    let name = match submission.text.trim_ascii() {
                        b"" => submission.to,
                        text => [&submission.to, text].join(&b' ').into(),
                    };
                    self.register(client, Registering { name, ..Registering::default() }, now, ports);
                }
                Life::Asking { .. } | Life::Resuming { .. } => {
                    let rest = std::iter::once(submission).chain(submissions).collect();
                    state.deferred.push_front(FromClient::Submit(rest));
                    return;
                }
                Life::Connected | Life::Registered { .. } => self.submit(client, submission, now, ports),
            }
        }
    }

    fn register(&mut self, client: ClientId, registering: Registering, now: Now, ports: &mut impl Ports) {
        let Some(state) = self.clients.get_mut(&client) else { return };
        if !matches!(state.life, Life::Connected) {
            self.tell(client, "you have a name already; connect again for another", ports);
            return;
        }
        if registering.key_hash.is_some() {
            state.dialect = Dialect::Extended;
        }
        if self.is_stopping {
            self.refuse_name(client, &notice::stopping(self.settings.origin.node), false, ports);
            return;
        }
        let lacks = registering.resume.as_ref().is_some_and(|resume| !self.replica.applied().covers(&resume.sent));
        if lacks {
            let until_ms = now.monotonic_ms + MAX_RESUME_WAIT_MS;
            self.set_life(client, Life::Resuming { registering, until_ms });
            self.resuming.insert(client);
        } else {
            self.ask_for_name(client, registering, now, ports);
        }
    }

    /// Goes on with those whose node has caught up, or who have waited long enough.
    pub(super) fn go_on_resuming(&mut self, now: Now, ports: &mut impl Ports) {
        for client in self.resuming.clone() {
            let is_ready = match self.clients.get(&client).map(|state| &state.life) {
                Some(Life::Resuming { registering, until_ms }) => {
                    let sent = registering.resume.as_ref().map_or(&[][..], |resume| &resume.sent);
                    *until_ms <= now.monotonic_ms || self.replica.applied().covers(sent)
                }
                _ => true,
            };
            if !is_ready {
                continue;
            }
            self.resuming.remove(&client);
            if let Life::Resuming { registering, .. } = self.set_life(client, Life::Connected) {
                self.ask_for_name(client, registering, now, ports);
                self.undefer(client, now, ports);
            }
        }
    }

    fn ask_for_name(&mut self, client: ClientId, registering: Registering, now: Now, ports: &mut impl Ports) {
        let name = match Name::parse(&registering.name) {
            Ok(name) => name,
            Err(reason) => return self.refuse_name(client, &notice::name_illegal(reason), true, ports),
        };
        let time = self.replica.clock().next(now.unix_ms());
        match self.directory.register(name.clone(), registering.key_hash, time) {
            directory::Registering::Taken => {
                self.refuse_name(client, &notice::name_taken(name.as_str()), true, ports);
            }
            directory::Registering::Given(person) => self.admit(client, person, registering.resume, ports),
            directory::Registering::Ask { ballot, person, voters } => {
                self.set_life(client, Life::Asking { ballot, resume: registering.resume });
                self.asking.insert(ballot, client);
                for link in voters.iter().filter_map(|node| self.members.linked(*node)) {
                    ports.to_link(link.link, PeerFrame::Reserve { ballot, person: person.clone() });
                }
            }
        }
    }

    /// Acts on ballots that have come to their end.
    pub(super) fn settle(&mut self, settled: Vec<Settled>, now: Now, ports: &mut impl Ports) {
        for Settled { ballot, person, given } in settled {
            let Some(client) = self.asking.remove(&ballot) else { continue };
            let Life::Asking { resume, .. } = self.set_life(client, Life::Connected) else { continue };
            if given {
                self.admit(client, person, resume, ports);
            } else {
                self.refuse_name(client, &notice::name_taken(person.asked_name.as_str()), true, ports);
            }
            self.undefer(client, now, ports);
        }
    }

    fn admit(&mut self, client: ClientId, person: Person, resume: Option<Resume>, ports: &mut impl Ports) {
        let registration = person.registration;
        let is_resumed = resume.is_some() && person.attached != registration.time;
        self.place_cursor(client, &person, resume.filter(|_| is_resumed));
        let changes = self.directory.admit(person.clone());
        self.set_life(client, Life::Registered { name: person.name.clone(), registration });
        if let Some(former) = self.by_registration.insert(registration, client).filter(|former| *former != client) {
            self.detach(former, self.node(), ports);
        }
        self.broadcast_presence(vec![person.clone()], Vec::new());
        self.people_changed(changes, ports);
        self.welcome(client, &person, is_resumed, ports);
    }

    fn welcome(&mut self, client: ClientId, person: &Person, is_resumed: bool, ports: &mut impl Ports) {
        let Some(state) = self.clients.get(&client) else { return };
        let (reachable, known) = (self.members.reachable_count(), self.members.known_count());
        let people = self.directory.present_count();
        let mut out = Vec::new();
        match state.dialect {
            Dialect::Frames => frames::encode_empty(&mut out, frames::kind::REGISTERED),
            Dialect::Lines => {
                let text = notice::welcome(person.name.as_str(), self.node(), reachable, known, people);
                lines::encode_notice(&mut out, &text);
            }
            Dialect::Extended => {
                FromNode::Registered(extended::Registered {
                    name: person.name.to_string(),
                    node: self.node().into(),
                    nodes_reachable: count(reachable),
                    nodes_known: count(known),
                    people: count(people),
                    resumed: is_resumed,
                    heights: heights_to_proto(self.replica.applied()),
                })
                .encode(&mut out);
                self.encode_people_snapshot(&mut out);
                self.nodes_frame().encode(&mut out);
            }
        }
        ports.to_client(client, &out, None);
    }

    fn encode_people_snapshot(&self, out: &mut Vec<u8>) {
        let people: Vec<extended::PersonAt> = self
            .directory
            .present()
            .map(|person| extended::PersonAt { name: person.name.to_string(), node: person.node.into() })
            .collect();
        for (index, piece) in people.chunks(PEOPLE_PER_FRAME).enumerate() {
            // Only the first piece replaces what was known before.
            let change = extended::PeopleChanged { snapshot: index == 0, joined: piece.to_vec(), left: Vec::new() };
            FromNode::PeopleChanged(change).encode(out);
        }
    }

    fn refuse_name(&self, client: ClientId, reason: &str, taken: bool, ports: &mut impl Ports) {
        let Some(state) = self.clients.get(&client) else { return };
        let mut out = Vec::new();
        match state.dialect {
            Dialect::Frames => frames::encode_empty(&mut out, frames::kind::REFUSED),
            Dialect::Lines => lines::encode_notice(&mut out, reason),
            Dialect::Extended => {
                let refusal = extended::RegisterRefused { reason: reason.to_owned(), taken };
                FromNode::RegisterRefused(refusal).encode(&mut out);
            }
        }
        ports.to_client(client, &out, None);
    }

    fn command(&mut self, client: ClientId, command: Command, now: Now, ports: &mut impl Ports) {
        match command {
            Command::Quit => {
                self.tell(client, &notice::goodbye(), ports);
                ports.close_client(client);
            }
            command => {
                for line in self.report_for(command, now) {
                    self.tell(client, &line, ports);
                }
            }
        }
    }

    fn closed(&mut self, client: ClientId, unwritten: &[Mark], ports: &mut impl Ports) {
        self.replaying.remove(&client);
        let Some(state) = self.clients.remove(&client) else { return };
        match state.life {
            Life::Asking { ballot, .. } => {
                self.asking.remove(&ballot);
                self.directory.withdraw(ballot);
            }
            Life::Registered { registration, .. } => {
                if self.by_registration.get(&registration) == Some(&client) {
                    self.by_registration.remove(&registration);
                    let changes = self.directory.left(self.node(), registration);
                    self.broadcast_presence(Vec::new(), vec![registration]);
                    self.people_changed(changes, ports);
                }
                self.receipts.forget_client(client);
            }
            Life::Connected | Life::Resuming { .. } => {}
        }
        for mark in unwritten.iter().filter(|mark| mark.is_direct) {
            if !self.directory.may_resume(mark.recipient) {
                let (origin, number) = (mark.origin, mark.number);
                self.report(Outcome { origin, number, delivered: 0, gone: true });
            }
        }
    }

    /// Ends a connection whose person goes on elsewhere.
    fn detach(&mut self, client: ClientId, to_node: u16, ports: &mut impl Ports) {
        self.tell(client, &notice::moved(to_node), ports);
        self.set_life(client, Life::Connected);
        self.replaying.remove(&client);
        ports.close_client(client);
    }

    /// Acts on what changed among the people: renames and moves here, news for extended clients.
    pub(super) fn people_changed(&mut self, changes: Vec<Change>, ports: &mut impl Ports) {
        for change in changes {
            match &change {
                Change::RenamedHere { person, old } => self.renamed(person, old, ports),
                Change::MovedAway { registration, node } => {
                    if let Some(client) = self.by_registration.remove(registration) {
                        self.detach(client, *node, ports);
                    }
                }
                Change::Joined { .. } | Change::Left { .. } => self.people_news.push(change),
            }
        }
    }

    fn renamed(&mut self, person: &Person, old: &Name, ports: &mut impl Ports) {
        self.broadcast_presence(vec![person.clone()], Vec::new());
        let Some(client) = self.by_registration.get(&person.registration).copied() else { return };
        self.set_life(client, Life::Registered { name: person.name.clone(), registration: person.registration });
        let text = notice::renamed(old.as_str(), person.name.as_str());
        let is_extended = self.clients.get(&client).is_some_and(|state| state.dialect == Dialect::Extended);
        if is_extended {
            let mut out = Vec::new();
            FromNode::Renamed(extended::Renamed { name: person.name.to_string(), reason: text }).encode(&mut out);
            ports.to_client(client, &out, None);
        } else {
            self.tell(client, &text, ports);
        }
    }

    /// Tells extended clients who came and went.
    pub(super) fn tell_people_news(&mut self, ports: &mut impl Ports) {
        if self.people_news.is_empty() {
            return;
        }
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        for change in std::mem::take(&mut self.people_news) {
            match change {
                Change::Joined { name, node } => {
                    left.retain(|gone| gone != name.as_str());
                    joined.push(extended::PersonAt { name: name.to_string(), node: node.into() });
                }
                Change::Left { name } => {
                    joined.retain(|person: &extended::PersonAt| person.name != name.as_str());
                    left.push(name.to_string());
                }
                Change::RenamedHere { .. } | Change::MovedAway { .. } => {}
            }
        }
        let mut out = Vec::new();
        for piece in left.chunks(PEOPLE_PER_FRAME) {
            let change = extended::PeopleChanged { snapshot: false, joined: Vec::new(), left: piece.to_vec() };
            FromNode::PeopleChanged(change).encode(&mut out);
        }
        for piece in joined.chunks(PEOPLE_PER_FRAME) {
            let change = extended::PeopleChanged { snapshot: false, joined: piece.to_vec(), left: Vec::new() };
            FromNode::PeopleChanged(change).encode(&mut out);
        }
        self.to_extended(&out, ports);
    }

    /// Tells extended clients that the state of a node has changed.
    pub(super) fn tell_nodes_news(&mut self, ports: &mut impl Ports) {
        if std::mem::take(&mut self.nodes_changed) {
            let mut out = Vec::new();
            self.nodes_frame().encode(&mut out);
            self.to_extended(&out, ports);
        }
    }

    fn to_extended(&self, bytes: &[u8], ports: &mut impl Ports) {
        let extended =
            self.clients.iter().filter(|(_, state)| state.dialect == Dialect::Extended && state.name().is_some());
        for (client, _) in extended {
            ports.to_client(*client, bytes, None);
        }
    }

    /// Changes what a client is; gives what it was.
    fn set_life(&mut self, client: ClientId, life: Life) -> Life {
        match self.clients.get_mut(&client) {
            Some(state) => std::mem::replace(&mut state.life, life),
            None => Life::Connected,
        }
    }
}

/// A count for the wire; none of ours comes near the limit.
pub(super) fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
