//! What became of the messages of this node's extended clients, and who hears of it.
//!
//! A message belongs to the registration that sent it; its receipts go to the connection on which it was sent, or to the
//! one that asked for them since, here or on another node (see `following`).

use std::collections::BTreeMap;

use super::{ClientId, Hub, Now, Ports, clients::count};
use crate::{
    chat::{Registration, notice},
    clique::Origin,
    wire::{
        Dialect,
        entry::read_entry,
        extended::{FromNode, Receipt, State},
        peer::{MAX_RECIPIENT_NAMES, Outcome, PeerFrame},
    },
};

/// Messages whose senders are still told news; beyond it the oldest are forgotten.
const MAX_PENDING: usize = 100_000;
/// Messages of which there is no more news, kept so that a sender whose connection broke just then can still hear it.
const MAX_SETTLED: usize = 10_000;
/// If not all nodes within reach hold a message after this long, its sender hears how many do, in milliseconds. Also the
/// pause between two looks, and so between two receipts of one message.
const STEP_MS: u64 = 200;

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

/// A message that its sender may still hear of.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) listener: Listener,
    sender: Registration,
    is_direct: bool,
    accepted_ms: u64,
    pub(super) receipt: Receipt,
}

impl Pending {
    pub(super) fn new(client: ClientId, sender: Registration, is_direct: bool, receipt: Receipt, now: Now) -> Self {
        Self { listener: Listener::Here(client), sender, is_direct, accepted_ms: now.monotonic_ms, receipt }
    }

    fn is_settled(&self) -> bool {
        let everywhere = self.receipt.nodes_holding >= self.receipt.nodes_known;
        // A message to everyone is delivered to whoever comes; it is never finished, only forgotten.
        self.receipt.state() == State::Undelivered || everywhere && self.is_direct && self.receipt.recipients > 0
    }

    fn take_outcome(&mut self, outcome: Outcome) {
        let receipt = &mut self.receipt;
        receipt.recipients = receipt.recipients.saturating_add(outcome.delivered);
        if self.is_direct {
            // A resumed client can be sent the same message on two connections.
            receipt.recipients = receipt.recipients.min(1);
        }
        for name in outcome.names {
            if receipt.recipients_names.len() < MAX_RECIPIENT_NAMES && !receipt.recipients_names.contains(&name) {
                receipt.recipients_names.push(name);
            }
        }
        receipt.state = if outcome.gone { State::Undelivered } else { State::Delivered }.into();
        if outcome.gone {
            receipt.reason = notice::gone("the addressee");
        }
    }
}

/// By number of the entry; and how far each node has confirmed this node's log.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    pending: BTreeMap<u64, Pending>,
    settled: BTreeMap<u64, Pending>,
    confirmed: BTreeMap<u16, u64>,
    looked_ms: u64,
}

impl Receipts {
    pub(super) fn insert(&mut self, number: u64, pending: Pending) {
        self.pending.insert(number, pending);
        if self.pending.len() > MAX_PENDING {
            self.pending.pop_first();
        }
    }

    /// A message of this sender that is not forgotten yet.
    pub(super) fn sent_by(&mut self, sender: Registration, number: u64) -> Option<&mut Pending> {
        let known = self.pending.get_mut(&number).or_else(|| self.settled.get_mut(&number))?;
        (known.sender == sender).then_some(known)
    }

    fn holding(&self, number: u64) -> usize {
        1 + self.confirmed.values().filter(|height| **height >= number).count()
    }

    /// Puts a message aside of which nothing more is to be said, if it is so.
    fn settle(&mut self, number: u64) {
        if self.pending.get(&number).is_some_and(Pending::is_settled)
            && let Some(settled) = self.pending.remove(&number)
        {
            self.settled.insert(number, settled);
            if self.settled.len() > MAX_SETTLED {
                self.settled.pop_first();
            }
        }
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

    /// Tells senders whose messages all reachable nodes have now.
    pub(super) fn tell_holding(&mut self, numbers: std::ops::RangeInclusive<u64>, ports: &mut impl Ports) {
        let reachable = self.members.reachable_count();
        self.tell_held(numbers, |_, holding| holding >= reachable, ports);
    }

    /// Tells senders whose messages some nodes within reach still lack after a while how many have them.
    pub(super) fn tell_steps(&mut self, now: Now, ports: &mut impl Ports) {
        if now.monotonic_ms < self.receipts.looked_ms + STEP_MS {
            return;
        }
        self.receipts.looked_ms = now.monotonic_ms;
        let confirmed = |node: u16| self.receipts.confirmed.get(&node).copied().unwrap_or(0);
        let linked = self.members.iter().filter(|(_, linked)| linked.is_some());
        let everywhere = linked.map(|(member, _)| confirmed(member.node)).min().unwrap_or(u64::MAX);
        let somewhere = self.receipts.confirmed.values().copied().max().unwrap_or(0);
        if everywhere < somewhere {
            let is_waiting = |pending: &Pending, _| now.monotonic_ms >= pending.accepted_ms + STEP_MS;
            self.tell_held(everywhere + 1..=somewhere, is_waiting, ports);
        }
    }

    fn tell_held(
        &mut self,
        numbers: std::ops::RangeInclusive<u64>,
        is_worth_it: impl Fn(&Pending, usize) -> bool,
        ports: &mut impl Ports,
    ) {
        let known = self.members.known_count();
        let changed: Vec<(u64, usize)> = self
            .receipts
            .pending
            .range(numbers)
            .map(|(number, pending)| (*number, pending, self.receipts.holding(*number)))
            .filter(|(_, pending, holding)| {
                count(*holding) > pending.receipt.nodes_holding && is_worth_it(pending, *holding)
            })
            .map(|(number, _, holding)| (number, holding))
            .collect();
        let mut news = Vec::new();
        for (number, holding) in changed {
            let Some(pending) = self.receipts.pending.get_mut(&number) else { continue };
            pending.receipt.nodes_holding = count(holding);
            pending.receipt.nodes_known = count(known);
            if pending.receipt.recipients == 0 {
                pending.receipt.state = State::Replicated.into();
            }
            news.push((pending.listener, pending.receipt.clone()));
            self.receipts.settle(number);
        }
        self.send_receipts(news, ports);
    }

    /// Sends receipts to where their senders are, those for one connection of another node together.
    pub(super) fn send_receipts(&self, receipts: Vec<(Listener, Receipt)>, ports: &mut impl Ports) {
        let mut there: BTreeMap<(Origin, u64), Vec<Receipt>> = BTreeMap::new();
        for (listener, receipt) in receipts {
            match listener {
                Listener::Here(client) => Self::send_receipt(client, receipt, ports),
                Listener::There { node, client } => there.entry((node, client)).or_default().push(receipt),
            }
        }
        for ((node, client), receipts) in there {
            // Without a link the other node asks again once there is one.
            if let Some(linked) = self.members.linked(node.node).filter(|linked| linked.origin == node) {
                ports.to_link(linked.link, PeerFrame::Receipts { client, receipts });
            }
        }
    }

    pub(super) fn send_receipt(client: ClientId, receipt: Receipt, ports: &mut impl Ports) {
        let mut out = Vec::new();
        FromNode::Receipt(receipt).encode(&mut out);
        ports.to_client(client, &out, None);
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
        let number = outcome.number;
        let Some(pending) = self.receipts.pending.get_mut(&number) else {
            if outcome.gone && !self.receipts.settled.contains_key(&number) {
                self.tell_gone(number, ports);
            }
            return;
        };
        pending.take_outcome(outcome);
        let news = vec![(pending.listener, pending.receipt.clone())];
        self.receipts.settle(number);
        self.send_receipts(news, ports);
    }

    /// Tells a sender whose dialect has no receipts.
    fn tell_gone(&self, number: u64, ports: &mut impl Ports) {
        let Some(bytes) = self.replica.log().entry(self.settings.origin, number) else { return };
        let Ok((view, _)) = read_entry(&bytes) else { return };
        let Some(message) = view.message() else { return };
        let sender = self.by_registration.get(&message.sender_registration).and_then(|clients| clients.first());
        let Some(client) =
            sender.filter(|client| self.clients.get(client).is_some_and(|state| state.dialect != Dialect::Extended))
        else {
            return;
        };
        self.tell(*client, &notice::gone(message.to.as_str()), ports);
    }
}
