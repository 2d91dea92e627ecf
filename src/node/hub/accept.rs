//! Acceptance: a message from a client of this node becomes an entry of this node's log, or is refused with a reason.

use std::sync::Arc;

use bytes::Bytes;

use super::{ClientId, Hub, Now, Ports, Submission, TraceStep, clients::count, receipts::Pending};
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
        entry::ChunkBuilder,
        extended::{self, FromNode, MessageId, State},
        traceparent::TraceId,
    },
};

/// Entries are appended at the latest when they have come to this many bytes, so that a frame to a peer stays small.
const MAX_CHUNK_BYTES: usize = 256 * 1024;

/// Whom a client's message is for, found out.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Everyone,
    Service,
    Person {
        name: Arc<str>,
        registration: Registration,
        /// The node where they were last seen, if that cannot be reached.
        away_on: Option<u16>,
        /// Until when it need not be said again whose session that is, in Unix milliseconds.
        recorded_until_ms: u64,
    },
    /// The owner of a claimed name.
    Owner {
        name: Arc<str>,
        registration: Registration,
        is_away: bool,
    },
    Room(Arc<str>),
}

/// Entries accepted in this turn and not yet appended.
#[derive(Debug, Default)]
pub(super) struct Accepting {
    builder: Option<(u64, ChunkBuilder)>,
    receipts: Vec<Accepted>,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Accepted {
    client: ClientId,
    sender: Registration,
    pub(super) number: u64,
    reference: u64,
    is_direct: bool,
    /// Why it cannot be delivered yet.
    kept: Option<String>,
    trace_id: Option<[u8; 16]>,
}

impl Accepting {
    /// What is being put together, and the number of its first entry.
    pub(super) fn builder<'a>(&'a mut self, replica: &mut Replica) -> &'a mut (u64, ChunkBuilder) {
        self.builder.get_or_insert_with(|| {
            let (first, dependencies) = replica.next_entry();
            (first, ChunkBuilder::new(dependencies))
        })
    }
}

impl Hub {
    pub(super) fn submit(&mut self, client: ClientId, submission: Submission, now: Now, ports: &mut impl Ports) {
        match self.target(client, &submission) {
            Err(refusal) => self.refuse(client, submission.reference, &refusal, ports),
            Ok(Target::Service) => self.answer(client, &submission, now, ports),
            Ok(_) if let Some(reason) = &self.unwritable => {
                let refusal = Refusal::Unwritable(reason.clone());
                self.refuse(client, submission.reference, &refusal, ports);
            }
            Ok(_) if self.replica.is_full() => self.refuse(client, submission.reference, &Refusal::DiskBehind, ports),
            Ok(target) => {
                self.record_session(client, &target, now);
                self.accept(client, &submission, &target, now, ports);
            }
        }
    }

    fn target(&mut self, client: ClientId, submission: &Submission) -> Result<Target, Refusal> {
        if self.has_said_goodbye {
            return Err(Refusal::Stopping);
        }
        let version = self.directory.version() + self.ledger.names_version();
        let state = self.clients.get(&client).ok_or(Refusal::NotRegistered)?;
        let sender = state.name().ok_or(Refusal::NotRegistered)?;
        let to = &submission.to;
        let target = match &state.last_target {
            Some((last, at, target)) if last == to && *at == version => target.clone(),
            _ => self.look_up(to)?,
        };
        let to_written = match &target {
            Target::Everyone => EVERYONE,
            Target::Service => SERVICE_NAME,
            Target::Person { name, .. } | Target::Owner { name, .. } | Target::Room(name) => name,
        };
        match &target {
            Target::Room(room) => {
                let registration = state.registration().ok_or(Refusal::NotRegistered)?;
                if self.ledger.rooms().member_since(room, registration).is_none() {
                    return Err(Refusal::NotInRoom(room.to_string()));
                }
            }
            Target::Owner { name, registration, .. } => {
                let (unread, unread_of_all) = self.ledger.mailboxes().unread_count(*registration);
                if unread >= MAX_UNREAD || unread_of_all >= MAX_UNREAD_OF_ALL {
                    return Err(Refusal::MailboxFull(name.to_string()));
                }
            }
            Target::Everyone | Target::Service | Target::Person { .. } => {}
        }
        let (bytes, max_bytes) = (submission.text.len(), Message::max_text_bytes(sender.as_str(), to_written));
        if bytes > max_bytes {
            return Err(Refusal::TooLong { bytes, max_bytes });
        }
        if let Some(state) = self.clients.get_mut(&client)
            && !matches!(&state.last_target, Some((last, at, _)) if last == to && *at == version)
        {
            state.last_target = Some((Bytes::copy_from_slice(to), version, target.clone()));
        }
        Ok(target)
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
        let (person, away_on) = match self.directory.lookup(&key) {
            Lookup::Present(person) => (person, None),
            Lookup::Away(person) => (person, Some(person.node)),
            Lookup::Unknown => return Err(Refusal::Nobody(shown())),
        };
        let (name, registration) = (person.name.as_str().into(), person.registration);
        let recorded_until_ms = self.recorded_until_ms(person);
        Ok(Target::Person { name, registration, away_on, recorded_until_ms })
    }

    fn accept(&mut self, client: ClientId, submission: &Submission, target: &Target, now: Now, ports: &mut impl Ports) {
        let Some(state) = self.clients.get(&client) else { return };
        let (Some(sender), Some(sender_registration)) = (state.name(), state.registration()) else { return };
        let (to, kept) = match target {
            Target::Person { name, registration, away_on, .. } => {
                (Addressee::Person(name, *registration), away_on.map(|node| notice::kept(name, node)))
            }
            Target::Owner { name, registration, is_away } => {
                (Addressee::Owner(name, *registration), is_away.then(|| notice::owner_away(name)))
            }
            Target::Everyone | Target::Service => (Addressee::Everyone, None),
            Target::Room(room) => (Addressee::Room(room), None),
        };
        let wants_receipt = state.dialect == Dialect::Extended;
        let message = Message {
            sender: sender.as_str(),
            sender_registration,
            to,
            text: &submission.text,
            receipts: wants_receipt,
            trace: submission.sampled.map(|sampled| sampled.trace),
        };
        let time = self.replica.clock().next(now.unix_ms());
        let (first, builder) = Accepting::builder(&mut self.accepting, &mut self.replica);
        let number = *first + builder.len() as u64;
        builder.push(time, &message);
        self.accepting.bytes += submission.text.len();
        if let Some(sampled) = submission.sampled {
            ports.trace(TraceStep::Accepted {
                sampled,
                origin: self.settings.origin,
                number,
                sender: sender.to_string(),
                to: to.as_str().to_owned(),
                text_bytes: submission.text.len(),
                received_unix_us: submission.received_unix_us,
                accepted_unix_us: now.unix_us,
            });
        }
        if wants_receipt {
            self.accepting.receipts.push(Accepted {
                client,
                sender: sender_registration,
                number,
                reference: submission.reference,
                is_direct: to.person().is_some(),
                kept,
                trace_id: submission.sampled.map(|sampled| sampled.trace.trace_id),
            });
        } else if let Some(text) = kept {
            self.tell(client, &text, ports);
        }
        if self.accepting.bytes >= MAX_CHUNK_BYTES {
            self.commit(now, ports);
        }
    }

    /// Appends what was accepted, and delivers it. Its senders are told when it is on the disk.
    pub(super) fn commit(&mut self, now: Now, ports: &mut impl Ports) {
        let Accepting { builder, receipts, .. } = std::mem::take(&mut self.accepting);
        let Some((first, builder)) = builder.filter(|(_, builder)| !builder.is_empty()) else { return };
        let Some(run) = self.replica.append(builder.finish(first)) else { return };
        self.unacknowledged.extend(receipts);
        self.acknowledge(now, ports);
        self.deliver(&run, now, ports);
    }

    /// Tells the senders of what is on the disk that it is, and where else.
    pub(super) fn acknowledge(&mut self, now: Now, ports: &mut impl Ports) {
        let synced = self.replica.log().synced(self.settings.origin);
        let mut numbers = None;
        while let Some(accepted) = self.unacknowledged.pop_front_if(|accepted| accepted.number <= synced) {
            self.send_accepted(&accepted, now, ports);
            let first = numbers.map_or(accepted.number, |(first, _)| first);
            numbers = Some((first, accepted.number));
        }
        // Peers can have confirmed it before the disk here did.
        if let Some((first, last)) = numbers.filter(|_| self.settings.has_store) {
            self.tell_holding(first..=last, ports);
        }
    }

    fn send_accepted(&mut self, accepted: &Accepted, now: Now, ports: &mut impl Ports) {
        let receipt = extended::Receipt {
            reference: accepted.reference,
            state: if accepted.kept.is_some() { State::Kept } else { State::Accepted }.into(),
            id: Some(MessageId { origin: Some(self.settings.origin.into()), number: accepted.number }),
            nodes_holding: 1,
            nodes_known: count(self.members.known_count()),
            reason: accepted.kept.clone().unwrap_or_default(),
            trace_id: accepted.trace_id.map(|id| TraceId(id).to_string()).unwrap_or_default(),
            ..extended::Receipt::default()
        };
        Self::send_receipt(accepted.client, receipt.clone(), ports);
        let pending = Pending::new(accepted.client, accepted.sender, accepted.is_direct, receipt, now);
        self.receipts.insert(accepted.number, pending);
    }

    fn refuse(&self, client: ClientId, reference: u64, refusal: &Refusal, ports: &mut impl Ports) {
        let is_extended = self.clients.get(&client).is_some_and(|state| state.dialect == Dialect::Extended);
        if !is_extended {
            return self.tell(client, &refusal.to_string(), ports);
        }
        let mut out = Vec::new();
        FromNode::Receipt(extended::Receipt {
            reference,
            state: State::Refused.into(),
            reason: refusal.to_string(),
            ..extended::Receipt::default()
        })
        .encode(&mut out);
        ports.to_client(client, &out, None);
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
