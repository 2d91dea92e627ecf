//! What became of the messages of this node's extended clients.

use std::collections::BTreeMap;

use super::{ClientId, Hub, Ports, clients::count};
use crate::{
    chat::notice,
    wire::{
        Dialect,
        entry::read_entry,
        extended::{FromNode, Receipt, State},
        peer::Outcome,
    },
};

/// Messages whose senders are still told news; beyond it the oldest are forgotten.
const MAX_PENDING: usize = 100_000;

/// A message that its sender may still hear of.
#[derive(Debug)]
pub(super) struct Pending {
    client: ClientId,
    is_direct: bool,
    receipt: Receipt,
}

impl Pending {
    pub(super) fn new(client: ClientId, is_direct: bool, receipt: Receipt) -> Self {
        Self { client, is_direct, receipt }
    }

    fn is_settled(&self) -> bool {
        let everywhere = self.receipt.nodes_holding >= self.receipt.nodes_known;
        // A message to everyone is delivered to whoever comes; it is never finished, only forgotten.
        everywhere && self.is_direct && self.receipt.recipients > 0
    }

    fn send(&self, ports: &mut impl Ports) {
        let mut out = Vec::new();
        FromNode::Receipt(self.receipt.clone()).encode(&mut out);
        ports.to_client(self.client, &out, None);
    }
}

/// By number of the entry, and how far each node has confirmed this node's log.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    pending: BTreeMap<u64, Pending>,
    confirmed: BTreeMap<u16, u64>,
}

impl Receipts {
    pub(super) fn insert(&mut self, number: u64, pending: Pending) {
        self.pending.insert(number, pending);
        if self.pending.len() > MAX_PENDING {
            self.pending.pop_first();
        }
    }

    fn holding(&self, number: u64) -> usize {
        1 + self.confirmed.values().filter(|height| **height >= number).count()
    }
}

impl Hub {
    /// Takes note of how far a node holds this node's log, and tells senders whose messages all reachable nodes have now.
    pub(super) fn confirmed(&mut self, node: u16, height: u64, ports: &mut impl Ports) {
        let before = self.receipts.confirmed.insert(node, height).unwrap_or(0);
        if height > before {
            self.tell_holding(before + 1..=height, ports);
        }
    }

    /// Fewer nodes are reachable: what waits for them only is as far as it can be.
    pub(super) fn reachable_shrank(&mut self, ports: &mut impl Ports) {
        self.tell_holding(0..=u64::MAX, ports);
    }

    /// A node has restarted with nothing: what it had confirmed does not count any more.
    pub(super) fn unconfirm(&mut self, node: u16) {
        self.receipts.confirmed.remove(&node);
    }

    pub(super) fn tell_holding(&mut self, numbers: std::ops::RangeInclusive<u64>, ports: &mut impl Ports) {
        let reachable = self.members.reachable_count();
        let known = self.members.known_count();
        let changed: Vec<(u64, usize)> = self
            .receipts
            .pending
            .range(numbers)
            .map(|(number, pending)| (*number, pending, self.receipts.holding(*number)))
            .filter(|(_, pending, holding)| *holding >= reachable && count(*holding) > pending.receipt.nodes_holding)
            .map(|(number, _, holding)| (number, holding))
            .collect();
        for (number, holding) in changed {
            let Some(pending) = self.receipts.pending.get_mut(&number) else { continue };
            pending.receipt.nodes_holding = count(holding);
            pending.receipt.nodes_known = count(known);
            if pending.receipt.recipients == 0 {
                pending.receipt.state = State::Replicated.into();
            }
            pending.send(ports);
            if pending.is_settled() {
                self.receipts.pending.remove(&number);
            }
        }
    }

    /// Passes on what became of an entry: to its sender if that is here, else to the node that accepted it.
    pub(super) fn report(&mut self, outcome: Outcome) {
        let node = outcome.origin.node;
        if outcome.origin == self.settings.origin {
            self.outcomes_here.add(outcome);
        } else {
            self.owed_outcomes.entry(node).or_default().add(outcome);
        }
    }

    /// Tells senders what became of their messages.
    pub(super) fn tell_outcomes(&mut self, ports: &mut impl Ports) {
        let synced = self.replica.log().synced(self.settings.origin);
        for outcome in self.outcomes_here.take() {
            if outcome.number > synced {
                // Delivery does not wait for the disk; its sender hears first that the message is kept.
                self.outcomes_here.add(outcome);
            } else {
                self.tell_outcome(outcome, ports);
            }
        }
    }

    /// Tells the sender, who was or is connected here.
    fn tell_outcome(&mut self, outcome: Outcome, ports: &mut impl Ports) {
        let Some(pending) = self.receipts.pending.get_mut(&outcome.number) else {
            if outcome.gone {
                self.tell_gone(outcome.number, ports);
            }
            return;
        };
        pending.receipt.recipients = pending.receipt.recipients.saturating_add(outcome.delivered);
        if pending.is_direct {
            // A resumed client can be sent the same message on two connections.
            pending.receipt.recipients = pending.receipt.recipients.min(1);
        }
        pending.receipt.state = if outcome.gone { State::Undelivered } else { State::Delivered }.into();
        if outcome.gone {
            pending.receipt.reason = notice::gone("the addressee");
        }
        pending.send(ports);
        if outcome.gone || pending.is_settled() {
            self.receipts.pending.remove(&outcome.number);
        }
    }

    /// Tells a sender whose dialect has no receipts.
    fn tell_gone(&self, number: u64, ports: &mut impl Ports) {
        let Some(bytes) = self.replica.log().entry(self.settings.origin, number) else { return };
        let Ok((view, _)) = read_entry(&bytes) else { return };
        let Some(message) = view.message() else { return };
        let sender = self.by_registration.get(&message.sender_registration);
        let Some(client) =
            sender.filter(|client| self.clients.get(client).is_some_and(|state| state.dialect != Dialect::Extended))
        else {
            return;
        };
        self.tell(*client, &notice::gone(message.to.as_str()), ports);
    }
}
