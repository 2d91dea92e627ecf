//! Acceptance: a message from a client of this node becomes an entry of this node's log, or is refused with a reason.

use std::sync::Arc;

use bytes::Bytes;

use super::{ClientId, Hub, Now, Ports, Submission, TraceStep, clients::count, receipts::Pending};
use crate::{
    chat::{
        Addressee, Command, Message, Registration, SERVICE_NAME,
        directory::Lookup,
        message::EVERYONE,
        name,
        notice::{self, Refusal},
    },
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
    },
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
    pub(super) number: u64,
    reference: u64,
    is_direct: bool,
    is_kept: bool,
    trace_id: Option<[u8; 16]>,
}

impl Hub {
    pub(super) fn submit(&mut self, client: ClientId, submission: Submission, now: Now, ports: &mut impl Ports) {
        match self.target(client, &submission) {
            Err(refusal) => self.refuse(client, submission.reference, &refusal, ports),
            Ok(Target::Service) => self.answer(client, &submission, now, ports),
            Ok(target) => self.accept(client, &submission, &target, now, ports),
        }
    }

    fn target(&mut self, client: ClientId, submission: &Submission) -> Result<Target, Refusal> {
        if self.has_said_goodbye {
            return Err(Refusal::Stopping);
        }
        let version = self.directory.version();
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
            Target::Person { name, .. } => name,
        };
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
        if written.starts_with('#') {
            return Err(Refusal::NoRooms);
        }
        let shown = || written.chars().take(name::MAX_NAME_BYTES).collect::<String>();
        let key = name::key(&written).map_err(|reason| Refusal::BadName { name: shown(), reason })?;
        if key == SERVICE_NAME {
            return Ok(Target::Service);
        }
        let (person, away_on) = match self.directory.lookup(&key) {
            Lookup::Present(person) => (person, None),
            Lookup::Away(person) => (person, Some(person.node)),
            Lookup::Unknown => return Err(Refusal::Nobody(shown())),
        };
        let (name, registration) = (person.name.as_str().into(), person.registration);
        Ok(Target::Person { name, registration, away_on })
    }

    fn accept(&mut self, client: ClientId, submission: &Submission, target: &Target, now: Now, ports: &mut impl Ports) {
        let Some(state) = self.clients.get(&client) else { return };
        let (Some(sender), Some(sender_registration)) = (state.name(), state.registration()) else { return };
        let (to, away_on) = match target {
            Target::Person { name, registration, away_on } => (Addressee::Person(name, *registration), *away_on),
            Target::Everyone | Target::Service => (Addressee::Everyone, None),
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
        let (first, builder) = self.accepting.builder.get_or_insert_with(|| {
            let (first, dependencies) = self.replica.next_entry();
            (first, ChunkBuilder::new(dependencies))
        });
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
                number,
                reference: submission.reference,
                is_direct: to.person().is_some(),
                is_kept: away_on.is_some(),
                trace_id: submission.sampled.map(|sampled| sampled.trace.trace_id),
            });
        } else if let Some(node) = away_on {
            let text = notice::kept(to.as_str(), node);
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
        self.acknowledge(ports);
        self.deliver(&run, now, ports);
    }

    /// Tells the senders of what is on the disk that it is, and where else.
    pub(super) fn acknowledge(&mut self, ports: &mut impl Ports) {
        let synced = self.replica.log().synced(self.settings.origin);
        let mut numbers = None;
        while let Some(accepted) = self.unacknowledged.pop_front_if(|accepted| accepted.number <= synced) {
            self.send_accepted(&accepted, ports);
            let first = numbers.map_or(accepted.number, |(first, _)| first);
            numbers = Some((first, accepted.number));
        }
        // Peers can have confirmed it before the disk here did.
        if let Some((first, last)) = numbers.filter(|_| self.settings.has_store) {
            self.tell_holding(first..=last, ports);
        }
    }

    fn send_accepted(&mut self, accepted: &Accepted, ports: &mut impl Ports) {
        let receipt = extended::Receipt {
            reference: accepted.reference,
            state: if accepted.is_kept { State::Kept } else { State::Accepted }.into(),
            id: Some(MessageId { origin: Some(self.settings.origin.into()), number: accepted.number }),
            nodes_holding: 1,
            nodes_known: count(self.members.known_count()),
            reason: String::new(),
            trace_id: accepted.trace_id.map(|id| TraceId(id).to_string()).unwrap_or_default(),
            ..extended::Receipt::default()
        };
        let mut out = Vec::new();
        FromNode::Receipt(receipt.clone()).encode(&mut out);
        ports.to_client(accepted.client, &out, None);
        let pending = Pending::new(accepted.client, accepted.is_direct, receipt);
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
        let lines = match Command::parse(text.trim().trim_start_matches('/')) {
            Ok(Command::Quit) | Err(_) => self.state_and_tips(now),
            Ok(command) => self.report_for(command, now),
        };
        for line in lines {
            self.tell(client, &line, ports);
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
