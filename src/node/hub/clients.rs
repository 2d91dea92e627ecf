//! A client's life: it connects, asks for a name, talks, and leaves.
//!
//! ```text
//! Connected ──register──▶ Resuming ──caught up──▶ Asking ──votes──▶ Registered ──▶ closed
//!     ▲  └───────────────new──────────────────────▲  │ no
//!     └──────────────────────────────────────────────┘
//! ```

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{
    ClientId, FromClient, Hub, Mark, Now, Ports, Registering, Submissions, conversation::Conversation,
    delivery::Cursor, history::Shelf, past::Past,
};
use crate::{
    chat::{Name, Passphrase, Registration},
    wire::{Dialect, frames, peer::Outcome},
};

/// Inputs put aside for a client while its name is asked for; beyond it the connection is given up.
const MAX_DEFERRED: usize = 1_024;

/// Stays under a name that ended on this node and are remembered, so that senders hear of it.
const MAX_ENDED: usize = 10_000;

#[derive(Debug)]
pub(super) enum Life {
    Connected,
    /// Waits until this node has what the client sent elsewhere.
    Resuming {
        registering: Box<Registering>,
        /// The owner of the name, if they have proved that they are.
        owner: Option<Registration>,
        until_ms: u64,
    },
    /// Has been asked for the passphrase of the name, by line.
    Proving {
        registering: Box<Registering>,
    },
    /// The passphrase is being compared.
    Checking {
        registering: Box<Registering>,
        owner: Registration,
    },
    Asking {
        ballot: u64,
        registering: Box<Registering>,
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
    pub(super) past: Past,
    /// Messages dropped from the log before this client had them, not yet told.
    pub(super) missed: u64,
    /// It has said goodbye, and does not come back.
    has_quit: bool,
    /// What came while the name was being asked for.
    deferred: VecDeque<FromClient>,
    /// The one that the last message belongs to.
    pub(super) conversation: Option<Arc<Conversation>>,
    /// What was said before and is to be shown; nothing for most, most of the time.
    pub(super) shelf: Option<Box<Shelf>>,
    /// Messages of a room that are shown on going in.
    pub(super) history_shown: usize,
}

impl Life {
    /// Whether what comes from the client is put aside for now.
    fn is_waiting(&self) -> bool {
        matches!(self, Self::Asking { .. } | Self::Resuming { .. } | Self::Checking { .. })
    }
}

impl Client {
    fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            life: Life::Connected,
            cursor: Cursor::Live,
            past: Past::default(),
            missed: 0,
            has_quit: false,
            deferred: VecDeque::new(),
            conversation: None,
            shelf: None,
            history_shown: 0,
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
            self.clients.insert(client, Box::new(Client::new(dialect)));
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
                self.tell_receipts(ports);
                let mut out = Vec::new();
                frames::encode_empty(&mut out, frames::kind::GOODBYE_ANSWER);
                ports.to_client(client, &out, None);
                self.quits(client);
                ports.close_client(client);
            }
            FromClient::HalfClosed => {
                self.commit(now, ports);
                self.tell_receipts(ports);
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
                let is_behind = |state: &Client| !matches!(state.cursor, Cursor::Live) || state.shelf.is_some();
                if self.clients.get(&client).map(Box::as_ref).is_some_and(is_behind) {
                    self.replaying.insert(client);
                }
                self.release_receipts(client, ports);
            }
            FromClient::Written(marks) => self.written(client, marks, now),
            FromClient::Closed { unwritten } => self.closed(client, &unwritten, now, ports),
            FromClient::Hashed(hash) => self.hashed(client, hash, now, ports),
            FromClient::Checked(verdict) => self.checked(client, verdict, now, ports),
        }
    }

    /// A client's stay under its name, once it has one.
    #[must_use]
    pub fn registration(&self, client: ClientId) -> Option<Registration> {
        self.clients.get(&client).and_then(|client| client.registration())
    }

    /// Puts aside what comes from a client whose name is being asked for. Gives back what is to be acted on now.
    fn defer(&mut self, client: ClientId, input: FromClient, ports: &mut impl Ports) -> Option<FromClient> {
        let is_about_output = matches!(
            input,
            FromClient::Drained
                | FromClient::Written(_)
                | FromClient::Closed { .. }
                | FromClient::Hashed(_)
                | FromClient::Checked(_)
        );
        let state = self.clients.get_mut(&client)?;
        let is_waiting = state.life.is_waiting();
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
    pub(super) fn undefer(&mut self, client: ClientId, now: Now, ports: &mut impl Ports) {
        while let Some(state) = self.clients.get_mut(&client)
            && !state.life.is_waiting()
            && let Some(input) = state.deferred.pop_front()
        {
            self.from_client(client, input, now, ports);
        }
    }

    fn submit_all(&mut self, client: ClientId, mut submissions: Submissions, now: Now, ports: &mut impl Ports) {
        let mut known = None;
        while let Some(submission) = submissions.first() {
            let Some(state) = self.clients.get_mut(&client) else { return };
            match &state.life {
                // In the text dialect the first line is the name, and so is each line until one is given.
                Life::Connected if state.dialect == Dialect::Lines => {
                    let name = match submission.text.trim_ascii() {
                        b"" => Bytes::copy_from_slice(submission.to),
                        text => [submission.to, text].join(&b' ').into(),
                    };
                    let history = self.settings.history_shown;
                    let registering = Box::new(Registering { name, history, ..Registering::default() });
                    self.register(client, registering, now, ports);
                }
                Life::Proving { registering } => {
                    let line = [submission.to, submission.text].join(&b' ');
                    // Without a space there was nothing behind the first word.
                    let line = if submission.text.is_empty() { submission.to.to_vec() } else { line };
                    let passphrase = Some(Passphrase::typed(&line));
                    let registering = Box::new(Registering { passphrase, ..(**registering).clone() });
                    self.set_life(client, Life::Connected);
                    self.register(client, registering, now, ports);
                }
                life if life.is_waiting() => {
                    state.deferred.push_front(FromClient::Submit(submissions));
                    return;
                }
                _ => self.submit(client, &submission, &mut known, now, ports),
            }
            submissions.drop_first();
        }
    }

    /// A client leaves for good; those that are told to go on elsewhere say goodbye too.
    pub(super) fn quits(&mut self, client: ClientId) {
        let is_stopping = self.is_stopping;
        if let Some(state) = self.clients.get_mut(&client) {
            state.has_quit = !is_stopping;
        }
    }

    fn closed(&mut self, client: ClientId, unwritten: &[Mark], now: Now, ports: &mut impl Ports) {
        self.replaying.remove(&client);
        self.unfollow(client);
        self.rereading.remove(&client);
        self.going_through.remove(&client);
        self.receipts.listener_left(client);
        self.refusals.listener_left(client);
        let Some(state) = self.clients.remove(&client) else { return };
        for former in state.past.succeeded() {
            if self.successors.get(&former) == Some(&client) {
                self.successors.remove(&former);
            }
        }
        match state.life {
            Life::Asking { ballot, .. } => {
                self.asking.remove(&ballot);
                self.directory.withdraw(ballot);
            }
            Life::Registered { registration, .. } => {
                // Whoever connects elsewhere in a moment is not to be given again what was had here.
                self.tell_read(Some(registration), now);
                if let Some(clients) = self.by_registration.get_mut(&registration) {
                    clients.retain(|other| *other != client);
                    if clients.is_empty() {
                        self.by_registration.remove(&registration);
                        self.person_left(registration, &state, now, ports);
                    }
                }
            }
            Life::Connected | Life::Resuming { .. } | Life::Proving { .. } | Life::Checking { .. } => {}
        }
        for mark in unwritten.iter().filter(|mark| mark.is_direct && !mark.is_mail) {
            let is_elsewhere = self.directory.person(mark.recipient).is_some();
            if !is_elsewhere && !self.directory.may_resume(mark.recipient) {
                self.report(Outcome { count: mark.count, ..Outcome::gone(mark.origin, mark.number) });
            }
        }
    }

    /// Somebody's only connection has ended.
    fn person_left(&mut self, registration: Registration, state: &Client, now: Now, ports: &mut impl Ports) {
        let may_resume = self.directory.person(registration).is_some_and(|person| person.key_hash.is_some());
        if self.is_stopping && may_resume {
            // They go on at another node in a moment; until then messages to them are kept, not refused.
            return;
        }
        let is_owner = self.directory.person(registration).is_some_and(|person| person.is_claimed);
        let changes = self.directory.left(self.node(), registration);
        self.broadcast_presence(Vec::new(), vec![registration]);
        self.people_changed(changes, ports);
        if state.has_quit {
            self.does_not_return(registration);
            self.broadcast_quit(registration);
        } else {
            self.directory.expect(registration, self.return_by_ms(now));
        }
        if is_owner {
            // What is theirs waits.
            return;
        }
        // An extended client may resume, and then gets the rest.
        if state.dialect != Dialect::Extended || state.has_quit {
            self.note_ended(registration);
            match &state.cursor {
                Cursor::Live => {}
                Cursor::At { position, .. } => self.report_left_behind(registration, *position),
                Cursor::Behind(way) => {
                    let position = self.replica.log().position_beyond(way.had());
                    self.report_left_behind(registration, position);
                }
            }
        }
    }

    fn note_ended(&mut self, registration: Registration) {
        self.ended.insert(registration);
        if self.ended.len() > MAX_ENDED {
            self.ended.pop_first();
        }
    }

    /// Changes what a client is; gives what it was.
    pub(super) fn set_life(&mut self, client: ClientId, life: Life) -> Life {
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
