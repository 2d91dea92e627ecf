//! Acceptance: a message from a client of this node becomes an entry of this node's log, or is refused with a reason.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{
    ClientId, Hub, Now, Ports, Submission, TraceStep,
    clients::count,
    fate::{About, Listener, Run},
    runs::Alike,
    target::{Target, WaitsFor},
};
use crate::{
    chat::{
        Addressee, Command, Message, Registration, SERVICE_NAME,
        directory::Lookup,
        ledger::{MAX_UNREAD, MAX_UNREAD_OF_ALL},
        message::EVERYONE,
        name,
        notice::{self, Refusal},
    },
    clique::Replica,
    wire::{
        Dialect,
        entry::{ChunkBuilder, Envelope, Letter},
        extended::{self, FromNode, State},
    },
};

/// Entries are appended at the latest when they have come to this many bytes, so that a frame to a peer stays small.
const MAX_CHUNK_BYTES: usize = 256 * 1024;

/// What the messages of one sender to one addressee have in common, as long as nobody comes or goes.
#[derive(Debug)]
pub(super) struct Conversation {
    to: Bytes,
    /// Of the directory and the names, when it was found out.
    version: u64,
    target: Target,
    sender: Registration,
    envelope: Envelope,
    max_text_bytes: usize,
    is_direct: bool,
    interest: Interest,
    /// Why messages cannot be delivered yet.
    kept: Option<Arc<str>>,
}

/// Which other nodes somebody waits on for new entries; the rest can have them a moment later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Interest {
    All,
    Nodes(SmallVec<[u16; 4]>),
}

impl Default for Interest {
    fn default() -> Self {
        Self::Nodes(SmallVec::new())
    }
}

impl Interest {
    pub(super) fn includes(&self, node: u16) -> bool {
        match self {
            Self::All => true,
            Self::Nodes(nodes) => nodes.contains(&node),
        }
    }

    fn extend(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::All, _) => {}
            (_, Self::All) => *self = Self::All,
            (Self::Nodes(nodes), Self::Nodes(others)) => {
                for node in others {
                    if !nodes.contains(node) {
                        nodes.push(*node);
                    }
                }
            }
        }
    }
}

/// Entries accepted in this turn and not yet appended.
#[derive(Debug, Default)]
pub(super) struct Accepting {
    builder: Option<(u64, ChunkBuilder)>,
    /// Of those, what senders are told of.
    awaited: Vec<Run>,
    interest: Interest,
    /// As many entries, and bytes of them, as the last batch had.
    expected: (usize, usize),
}

impl Accepting {
    /// What is being put together, and the number of its first entry. What is put there is of this interest.
    pub(super) fn builder<'a>(&'a mut self, replica: &mut Replica, interest: &Interest) -> &'a mut (u64, ChunkBuilder) {
        self.interest.extend(interest);
        let (entries, bytes) = self.expected;
        self.builder.get_or_insert_with(|| {
            let (first, dependencies) = replica.next_entry();
            (first, ChunkBuilder::with_capacity(dependencies, entries, bytes))
        })
    }
}

impl Hub {
    pub(super) fn submit(&mut self, client: ClientId, submission: &Submission, now: Now, ports: &mut impl Ports) {
        let conversation = match self.conversation(client, submission) {
            Ok(conversation) => conversation,
            Err(refusal) => return self.refuse(client, submission.reference, &refusal, ports),
        };
        if matches!(conversation.target, Target::Service) {
            self.answer(client, submission, now, ports);
        } else if let Some(reason) = &self.unwritable {
            let refusal = Refusal::Unwritable(reason.clone());
            self.refuse(client, submission.reference, &refusal, ports);
        } else if self.replica.is_full() {
            self.refuse(client, submission.reference, &Refusal::DiskBehind, ports);
        } else {
            self.record_session(client, &conversation.target, now);
            self.accept(client, submission, &conversation, now, ports);
        }
    }

    /// The conversation that a message belongs to, if it may be said there.
    fn conversation(&mut self, client: ClientId, submission: &Submission) -> Result<Arc<Conversation>, Refusal> {
        if self.has_said_goodbye {
            return Err(Refusal::Stopping);
        }
        let version = self.directory.version() + self.ledger.names_version();
        let state = self.clients.get(&client).ok_or(Refusal::NotRegistered)?;
        let conversation = match &state.conversation {
            Some(known) if known.to == submission.to && known.version == version => known.clone(),
            _ => self.converse(client, &submission.to, version)?,
        };
        // Whoever types a name alone does not mean to say nothing; programs may.
        let is_bare = submission.text.is_empty() && !matches!(conversation.target, Target::Service);
        if is_bare && self.clients.get(&client).is_some_and(|state| state.dialect == Dialect::Lines) {
            return Err(Refusal::NoText(conversation.target.as_str().to_owned()));
        }
        match &conversation.target {
            Target::Room(room) => {
                if self.ledger.rooms().member_since(room, conversation.sender).is_none() {
                    return Err(Refusal::NotInRoom(room.to_string()));
                }
            }
            Target::Owner { name, registration, .. } => {
                let (unread, unread_of_all) = self.ledger.mailboxes().unread_count(*registration);
                if unread >= MAX_UNREAD || unread_of_all >= MAX_UNREAD_OF_ALL {
                    return Err(Refusal::MailboxFull(name.to_string()));
                }
            }
            Target::Person { name, waits_for: Some(WaitsFor::Return), .. } if !self.can_wait_for_return() => {
                return Err(Refusal::TooManyWait(name.to_string()));
            }
            Target::Everyone | Target::Service | Target::Person { .. } => {}
        }
        let (bytes, max_bytes) = (submission.text.len(), conversation.max_text_bytes);
        if bytes > max_bytes {
            return Err(Refusal::TooLong { bytes, max_bytes });
        }
        Ok(conversation)
    }

    fn converse(&mut self, client: ClientId, to: &Bytes, version: u64) -> Result<Arc<Conversation>, Refusal> {
        let state = self.clients.get(&client).ok_or(Refusal::NotRegistered)?;
        let (name, sender) = state.name().zip(state.registration()).ok_or(Refusal::NotRegistered)?;
        let target = self.look_up(to)?;
        let (addressee, kept) = match &target {
            Target::Person { name, registration, waits_for, .. } => {
                let why = |waits_for| match waits_for {
                    WaitsFor::Node(node) => notice::kept(name, node),
                    WaitsFor::Return => notice::kept_for_return(name, self.settings.timing.return_ms),
                };
                (Addressee::Person(name, *registration), waits_for.map(why))
            }
            Target::Owner { name, registration, is_away } => {
                (Addressee::Owner(name, *registration), is_away.then(|| notice::owner_away(name)))
            }
            Target::Everyone | Target::Service => (Addressee::Everyone, None),
            Target::Room(room) => (Addressee::Room(room), None),
        };
        let conversation = Arc::new(Conversation {
            to: Bytes::copy_from_slice(to),
            version,
            sender,
            envelope: Envelope::new(name.as_str(), sender, addressee),
            max_text_bytes: Message::max_text_bytes(name.as_str(), target.as_str()),
            is_direct: addressee.person().is_some(),
            interest: self.interest(addressee),
            kept: kept.map(Into::into),
            target,
        });
        if let Some(state) = self.clients.get_mut(&client) {
            state.conversation = Some(conversation.clone());
        }
        Ok(conversation)
    }

    fn interest(&self, to: Addressee<'_>) -> Interest {
        match to.person() {
            Some(registration) => match self.directory.nodes_of(registration).collect::<SmallVec<_>>() {
                // Who is away can come back anywhere.
                nodes if nodes.is_empty() => Interest::All,
                nodes => Interest::Nodes(nodes),
            },
            None => Interest::All,
        }
    }

    fn look_up(&self, to: &[u8]) -> Result<Target, Refusal> {
        if to == EVERYONE.as_bytes() {
            return Ok(Target::Everyone);
        }
        let written = String::from_utf8_lossy(to);
        if written.is_empty() {
            return Err(Refusal::NoAddressee);
        }
        let shown = || written.chars().take(name::MAX_NAME_BYTES).collect::<String>();
        if written.starts_with('#') {
            let room = name::room(&written).map_err(|reason| Refusal::BadRoom { room: shown(), reason })?;
            return Ok(Target::Room(room.into()));
        }
        let key = name::key(&written).map_err(|reason| Refusal::BadName { name: shown(), reason })?;
        if key == SERVICE_NAME {
            return Ok(Target::Service);
        }
        if let Some(owner) = self.ledger.owner(&key) {
            let (name, registration) = (owner.name.as_str().into(), owner.registration);
            let is_away = self.directory.nodes_of(registration).next().is_none();
            return Ok(Target::Owner { name, registration, is_away });
        }
        let (person, waits_for) = match self.directory.lookup(&key) {
            Lookup::Present(person) => (person, None),
            Lookup::Away(person) => (person, Some(WaitsFor::Node(person.node))),
            Lookup::Expected(person) => (person, Some(WaitsFor::Return)),
            Lookup::Unknown => return Err(Refusal::Nobody(shown())),
        };
        let (name, registration) = (person.name.as_str().into(), person.registration);
        let recorded_until_ms = self.recorded_until_ms(person);
        Ok(Target::Person { name, registration, waits_for, recorded_until_ms })
    }

    fn accept(
        &mut self,
        client: ClientId,
        submission: &Submission,
        conversation: &Conversation,
        now: Now,
        ports: &mut impl Ports,
    ) {
        let wants_receipt = self.clients.get(&client).is_some_and(|state| state.dialect == Dialect::Extended);
        let trace = submission.sampled.map(|sampled| sampled.trace);
        let return_of = conversation.target.waits_for_return_of();
        // Whether it has been delivered matters here too, so that nobody is told that it has not.
        let receipts = wants_receipt || return_of.is_some();
        let letter = Letter { text: &submission.text, receipts, trace };
        let time = self.replica.clock().next(now.unix_ms());
        let (first, builder) = self.accepting.builder(&mut self.replica, &conversation.interest);
        let number = *first + builder.len() as u64;
        builder.push_letter(time, &conversation.envelope, &letter);
        let is_large = builder.bytes() >= MAX_CHUNK_BYTES;
        if let Some(registration) = return_of {
            self.returning.add(number, registration);
        }
        if submission.sampled.is_some() {
            self.trace_accepted(client, (submission, conversation), number, now, ports);
        }
        if wants_receipt {
            let about = About {
                listener: Listener::Here(client),
                sender: conversation.sender,
                is_direct: conversation.is_direct,
                kept: conversation.kept.clone(),
                trace_id: trace.map(|trace| trace.trace_id),
            };
            let run = Run::new(number, submission.reference, about, self.members.known_count());
            let awaited = &mut self.accepting.awaited;
            if !awaited.last_mut().is_some_and(|last| last.take_next(&run)) {
                awaited.push(run);
            }
        } else if let Some(text) = &conversation.kept {
            self.tell(client, text, ports);
        }
        if is_large {
            self.commit(now, ports);
        }
    }

    fn trace_accepted(
        &self,
        client: ClientId,
        (submission, conversation): (&Submission, &Conversation),
        number: u64,
        now: Now,
        ports: &mut impl Ports,
    ) {
        let Some(sampled) = submission.sampled else { return };
        let sender =
            self.clients.get(&client).and_then(|client| client.name()).map(ToString::to_string).unwrap_or_default();
        ports.trace(TraceStep::Accepted {
            sampled,
            origin: self.settings.origin,
            number,
            sender,
            to: conversation.target.as_str().to_owned(),
            text_bytes: submission.text.len(),
            received_unix_us: submission.received_unix_us,
            accepted_unix_us: now.unix_us,
        });
    }

    /// Appends what was accepted, and delivers it. Its senders are told when it is on the disk.
    pub(super) fn commit(&mut self, now: Now, ports: &mut impl Ports) {
        let Accepting { builder, awaited, interest, .. } = std::mem::take(&mut self.accepting);
        let Some((first, builder)) = builder.filter(|(_, builder)| !builder.is_empty()) else { return };
        self.accepting.expected = (builder.len(), builder.bytes());
        let Some(run) = self.replica.append(builder.finish(first)) else { return };
        for link in self.links.values_mut() {
            link.is_awaited |= interest.includes(link.node);
        }
        self.receipts.accepted(awaited);
        self.acknowledge(now);
        self.deliver(&run, now, ports);
    }

    fn refuse(&mut self, client: ClientId, reference: u64, refusal: &Refusal, ports: &mut impl Ports) {
        let is_extended = self.clients.get(&client).is_some_and(|state| state.dialect == Dialect::Extended);
        if !is_extended {
            return self.tell(client, &refusal.to_string(), ports);
        }
        self.refusals.add(client, reference, refusal.to_string());
    }

    /// A message to the service itself: somebody who is alone gets a reply.
    fn answer(&mut self, client: ClientId, submission: &Submission, now: Now, ports: &mut impl Ports) {
        let text = String::from_utf8_lossy(&submission.text);
        match Command::parse(text.trim_start().trim_start_matches('/')) {
            Ok(Command::Quit) | Err(_) => {
                for line in self.state_and_tips(now) {
                    self.tell(client, &line, ports);
                }
            }
            Ok(command) => self.command(client, command, now, ports),
        }
        let is_extended = self.clients.get(&client).is_some_and(|state| state.dialect == Dialect::Extended);
        if is_extended {
            let mut out = Vec::new();
            FromNode::Receipt(extended::Receipt {
                reference: submission.reference,
                state: State::Delivered.into(),
                recipients: 1,
                nodes_holding: 1,
                nodes_known: count(self.members.known_count()),
                ..extended::Receipt::default()
            })
            .encode(&mut out);
            ports.to_client(client, &out, None);
        }
    }
}
