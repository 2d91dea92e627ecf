//! Acceptance: a message from a client of this node becomes an entry of this node's log, or is refused with a reason.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    ClientId, Hub, Now, Ports, TraceStep,
    clients::count,
    conversation::Conversation,
    fate::{About, Listener, Run},
    runs::Alike,
    submissions::Submission,
    target::Target,
};
use crate::{
    chat::{Command, notice::Refusal},
    clique::Replica,
    wire::{
        Dialect,
        entry::{ChunkBuilder, Letter},
        extended::{self, FromNode, State},
    },
};

/// Entries are appended once they have come to this many bytes: with what is said about them they fit one frame of HTTP/2, so
/// that a peer keeps them where it received them.
const MAX_CHUNK_BYTES: usize = 120 * 1024;

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
    /// Takes a message. `known` is the conversation that the one before belonged to.
    pub(super) fn submit(
        &mut self,
        client: ClientId,
        submission: &Submission<'_>,
        known: &mut Option<Arc<Conversation>>,
        now: Now,
        ports: &mut impl Ports,
    ) {
        let found = self.conversation(client, submission.to, known);
        let conversation =
            match found.and_then(|conversation| self.check(conversation, submission).map(|()| conversation)) {
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
            let is_recorded = self.record_session(&conversation.target, now);
            self.accept(client, submission, conversation, now, ports);
            if is_recorded {
                // What is remembered of the addressee says that it is still to be done.
                self.forget_conversation(client);
                *known = None;
            }
        }
    }

    fn accept(
        &mut self,
        client: ClientId,
        submission: &Submission<'_>,
        conversation: &Conversation,
        now: Now,
        ports: &mut impl Ports,
    ) {
        let wants_receipt = conversation.is_extended;
        let trace = submission.sampled.map(|sampled| sampled.trace);
        let return_of = conversation.target.waits_for_return_of();
        // Whether it has been delivered matters here too, so that nobody is told that it has not.
        let receipts = wants_receipt || return_of.is_some();
        let letter = Letter { text: submission.text, receipts, trace };
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
        (submission, conversation): (&Submission<'_>, &Conversation),
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
    fn answer(&mut self, client: ClientId, submission: &Submission<'_>, now: Now, ports: &mut impl Ports) {
        let text = String::from_utf8_lossy(submission.text);
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
