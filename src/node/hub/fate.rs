//! What became of a run of messages, and how much of it their sender has heard. The two are apart: news are noted when
//! they come and told when there is room, and then as they are by that time.

use std::sync::Arc;

use super::{ClientId, clients::count, outcomes::add_names, runs::Alike};
use crate::{
    chat::{Registration, notice},
    clique::Origin,
    wire::{
        extended::{MAX_RUN, MessageId, Receipt, ReceiptRun, State},
        peer::Outcome,
        traceparent::TraceId,
    },
};

/// Where the sender of a message hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Listener {
    Here(ClientId),
    /// On a connection of another node.
    There {
        node: Origin,
        client: u64,
    },
}

/// Whose messages they are, and what they have had in common from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) listener: Listener,
    pub(super) sender: Registration,
    pub(super) is_direct: bool,
    /// Why they cannot be delivered yet.
    pub(super) kept: Option<Arc<str>>,
    pub(super) trace_id: Option<[u8; 16]>,
}

/// How far they have come.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fate {
    state: State,
    nodes_holding: u32,
    nodes_known: u32,
    recipients: u32,
    /// Some of them, in order.
    names: Vec<String>,
    /// Undelivered only because the addressee has not come back in time: they still may.
    is_open: bool,
}

/// What their sender has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// They are not on the disk yet.
    NotYet,
    /// The first answer is due.
    Nothing,
    /// They have been told so much; there may be news.
    Answered { has_news: bool },
}

/// Messages with consecutive numbers and references.
#[derive(Debug, Clone)]
pub(super) struct Run {
    first: u64,
    count: u64,
    pub(super) reference: u64,
    pub(super) about: About,
    fate: Fate,
    pub(super) told: Told,
    pub(super) acknowledged_ms: u64,
}

impl Run {
    /// A message that has been accepted.
    pub(super) fn new(number: u64, reference: u64, about: About, nodes_known: usize) -> Self {
        let state = if about.kept.is_some() { State::Kept } else { State::Accepted };
        let (nodes_known, names) = (count(nodes_known), Vec::new());
        let fate = Fate { state, nodes_holding: 1, nodes_known, recipients: 0, names, is_open: false };
        Self { first: number, count: 1, reference, about, fate, told: Told::NotYet, acknowledged_ms: 0 }
    }

    pub(super) fn listener(&self) -> Listener {
        self.about.listener
    }

    pub(super) fn is_news(&self) -> bool {
        matches!(self.told, Told::Nothing | Told::Answered { has_news: true })
    }

    pub(super) fn is_settled(&self) -> bool {
        let Fate { state, nodes_holding, nodes_known, recipients, is_open, .. } = self.fate;
        // A message to everyone is delivered to whoever comes; it is never finished, only forgotten.
        let is_over = state == State::Undelivered && !is_open;
        is_over || nodes_holding >= nodes_known && self.about.is_direct && recipients > 0
    }

    /// What its listener is to be told now.
    pub(super) fn news(&self, origin: Origin) -> impl Iterator<Item = ReceiptRun> {
        let state = if self.about.kept.is_some() { State::Kept } else { State::Accepted };
        let (nodes_known, names) = (self.fate.nodes_known, Vec::new());
        let first = Fate { state, nodes_holding: 1, nodes_known, recipients: 0, names, is_open: false };
        let is_further = self.fate != first;
        let answer = (self.told == Told::Nothing).then(|| self.receipts(origin, first));
        let further =
            (self.is_news() && (is_further || answer.is_none())).then(|| self.receipts(origin, self.fate.clone()));
        answer.into_iter().chain(further)
    }

    fn receipts(&self, origin: Origin, fate: Fate) -> ReceiptRun {
        let reason = match fate.state {
            State::Undelivered if fate.is_open => notice::not_returned("the addressee"),
            State::Undelivered => notice::gone("the addressee"),
            _ => self.about.kept.as_deref().unwrap_or_default().to_owned(),
        };
        let first = Receipt {
            reference: self.reference,
            state: fate.state.into(),
            id: Some(MessageId { origin: Some(origin.into()), number: self.first }),
            nodes_holding: fate.nodes_holding,
            nodes_known: fate.nodes_known,
            recipients: fate.recipients,
            reason,
            trace_id: self.about.trace_id.map(|id| TraceId(id).to_string()).unwrap_or_default(),
            recipients_names: fate.names,
        };
        ReceiptRun { first: Some(first), count: u32::try_from(self.count).unwrap_or(MAX_RUN) }
    }

    /// True if that is something new.
    pub(super) fn take_outcome(&mut self, outcome: &Outcome) -> bool {
        let before = self.fate.clone();
        let fate = &mut self.fate;
        fate.recipients = fate.recipients.saturating_add(outcome.delivered);
        if self.about.is_direct {
            // A resumed client can be sent the same message on two connections.
            fate.recipients = fate.recipients.min(1);
        }
        add_names(&mut fate.names, &outcome.names);
        // Where else the addressee was and has left matters no more to whoever has reached them.
        let is_gone = outcome.gone && fate.recipients == 0;
        fate.state = if is_gone { State::Undelivered } else { State::Delivered };
        // Whoever has been told that it was not delivered need not hear it again.
        fate.is_open &= is_gone;
        *fate != before
    }

    /// The addressee has not come back in time. True if that is something new.
    pub(super) fn take_not_returned(&mut self) -> bool {
        let is_new = self.fate.recipients == 0 && self.fate.state != State::Undelivered;
        if is_new {
            (self.fate.state, self.fate.is_open) = (State::Undelivered, true);
        }
        is_new
    }

    pub(super) fn take_holding(&mut self, holding: usize, known: usize) -> bool {
        let is_more = count(holding) > self.fate.nodes_holding;
        if is_more {
            (self.fate.nodes_holding, self.fate.nodes_known) = (count(holding), count(known));
            if self.fate.recipients == 0 && self.fate.state != State::Undelivered {
                self.fate.state = State::Replicated;
            }
        }
        // On how many nodes it is matters to nobody while it is not delivered.
        is_more && self.fate.state != State::Undelivered
    }
}

impl Alike for Run {
    fn first(&self) -> u64 {
        self.first
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn split_off(&mut self, count: u64) -> Self {
        let (first, reference) = (self.first + count, self.reference.wrapping_add(count));
        let rest = Self { first, reference, count: self.count - count, ..self.clone() };
        self.count = count;
        rest
    }

    fn take_next(&mut self, next: &Self) -> bool {
        let follows = self.end() == next.first && self.reference.wrapping_add(self.count) == next.reference;
        let is_alike = follows
            && self.count + next.count <= u64::from(MAX_RUN)
            && self.told == next.told
            && self.about == next.about
            && self.fate == next.fate;
        if is_alike {
            self.count += next.count;
        }
        is_alike
    }
}
