//! Senders hear what became of their messages.
//!
//! A message belongs to the registration that sent it; its receipts go to the connection on which it was sent, or to the
//! one that asked for them since, here or on another node (see `following`). What becomes so during a turn is told at its
//! end, in as few frames as it takes. While a client's output is over its bound, what it is to hear waits as what it is: a
//! state, not a queue.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::{ClientId, Hub, Mark, Now, Ports, claims::entry_id, fate::Listener};
use crate::{
    chat::notice,
    clique::Origin,
    wire::{
        Dialect,
        entry::read_entry,
        extended::ReceiptRun,
        peer::{Outcome, PeerFrame},
    },
};

/// If not all nodes within reach hold a message after this long, its sender hears how many do, in milliseconds. Also the
/// pause between two looks, and so between two receipts of one message.
const STEP_MS: u64 = 200;
/// Runs that a client whose output has drained hears of before it is shown more messages; so neither holds up the other.
const MAX_BEFORE_MESSAGES: usize = 64;

impl Hub {
    /// What is on the disk is as good as told: its senders hear of it at the end of the turn.
    pub(super) fn acknowledge(&mut self, now: Now) {
        let synced = self.replica.log().synced(self.settings.origin);
        self.receipts.acknowledge(synced, now.monotonic_ms);
    }

    /// Takes note of how far a node holds this node's log.
    pub(super) fn confirmed(&mut self, node: u16, height: u64) {
        let before = self.receipts.confirm(node, height);
        if height > before {
            self.note_holding(before + 1..=height);
        }
    }

    /// Fewer nodes are reachable: what waits for them only is as far as it can be.
    pub(super) fn reachable_shrank(&mut self) {
        self.note_holding(0..=u64::MAX);
    }

    /// A node has restarted with nothing: what it had confirmed does not count any more.
    pub(super) fn unconfirm(&mut self, node: u16) {
        self.receipts.unconfirm(node);
    }

    /// Notes which of these messages all reachable nodes have now.
    fn note_holding(&mut self, numbers: RangeInclusive<u64>) {
        let everywhere = self.receipts.held_by(self.members.reachable_count());
        let last = everywhere.min(*numbers.end());
        self.receipts.hold(*numbers.start()..=last, self.members.known_count());
    }

    /// Notes how many nodes have what some within reach still lack after a while.
    pub(super) fn note_steps(&mut self, now: Now) {
        if now.monotonic_ms < self.receipts.looked_ms + STEP_MS {
            return;
        }
        self.receipts.looked_ms = now.monotonic_ms;
        let linked = self.members.iter().filter(|(_, linked)| linked.is_some());
        let everywhere = linked.map(|(member, _)| self.receipts.confirmed(member.node)).min().unwrap_or(u64::MAX);
        let somewhere = self.receipts.confirmed_somewhere();
        if everywhere < somewhere
            && let Some(last) = self.receipts.acknowledged_by(everywhere + 1, now.monotonic_ms.saturating_sub(STEP_MS))
        {
            self.receipts.hold(everywhere + 1..=last.min(somewhere), self.members.known_count());
        }
    }

    /// Tells senders what there is to tell, as far as there is room.
    pub(super) fn tell_receipts(&mut self, ports: &mut impl Ports) {
        self.tell_refusals(ports);
        let news = self.receipts.take_news();
        self.tell_runs(news, ports);
    }

    fn tell_runs(&mut self, news: Vec<u64>, ports: &mut impl Ports) {
        let mut there: BTreeMap<(Origin, u64), Vec<ReceiptRun>> = BTreeMap::new();
        for first in news {
            let Some(run) = self.receipts.run(first) else { continue };
            match run.listener() {
                Listener::Here(client) if self.clients.contains_key(&client) => {
                    if self.receipts.is_held_back(client) || !ports.client_has_room(client) {
                        self.receipts.hold_back(client, first);
                        continue;
                    }
                    run.news(self.settings.origin).for_each(|receipts| Self::send_receipts(client, receipts, ports));
                }
                Listener::Here(_) => {}
                Listener::There { node, client } => {
                    there.entry((node, client)).or_default().extend(run.news(self.settings.origin));
                }
            }
            self.receipts.told(first);
        }
        for ((node, client), receipts) in there {
            // Without a link the other node asks again once there is one.
            if let Some(linked) = self.members.linked(node.node).filter(|linked| linked.origin == node) {
                ports.to_link(linked.link, PeerFrame::Receipts { client, receipts });
            }
        }
    }

    pub(super) fn send_receipts(client: ClientId, receipts: ReceiptRun, ports: &mut impl Ports) {
        let mut out = Vec::new();
        receipts.encode(&mut out);
        ports.to_client(client, &out, None);
    }

    /// A client's output has room again.
    pub(super) fn release_receipts(&mut self, client: ClientId, ports: &mut impl Ports) {
        self.release_refusals(client, ports);
        let news = self.receipts.release(client, MAX_BEFORE_MESSAGES);
        self.tell_runs(news, ports);
        self.ask_again(client, ports);
    }

    /// These messages were written to a client's socket.
    pub(super) fn written(&mut self, client: ClientId, marks: Vec<Mark>, now: Now) {
        let name =
            self.clients.get(&client).and_then(|client| client.name()).map(ToString::to_string).unwrap_or_default();
        let mut run: Option<Outcome> = None;
        for mark in marks {
            if mark.is_mail {
                self.note_read(mark.recipient, entry_id(mark.origin, mark.number), now);
            }
            match &mut run {
                _ if !mark.wants_receipt => {}
                Some(run) if (run.origin, run.end()) == (mark.origin, mark.number) => run.count += mark.count,
                _ => {
                    let next =
                        Outcome { count: mark.count, ..Outcome::delivered(mark.origin, mark.number, name.clone()) };
                    run.replace(next).into_iter().for_each(|run| self.report(run));
                }
            }
        }
        run.into_iter().for_each(|run| self.report(run));
    }

    /// Passes on what became of entries: to their senders if they are here, else to the node that accepted them.
    pub(super) fn report(&mut self, outcome: Outcome) {
        let node = outcome.origin.node;
        if outcome.origin == self.settings.origin {
            self.outcomes_here.add(outcome);
        } else {
            self.owed_outcomes.entry(node).or_default().add(outcome);
        }
    }

    /// Notes what became of this node's messages. Delivery does not wait for the disk; senders hear first that a message
    /// is kept.
    pub(super) fn note_outcomes(&mut self, ports: &mut impl Ports) {
        for outcome in self.outcomes_here.take() {
            self.has_settled(&outcome);
            self.receipts.take_outcome(&outcome);
            if outcome.gone {
                let height = self.replica.log().height(self.settings.origin);
                for number in outcome.first..outcome.end().min(height + 1) {
                    if !self.receipts.knows(number) {
                        self.tell_undelivered(number, notice::gone, ports);
                    }
                }
            }
        }
    }

    /// Tells a sender whose dialect has no receipts.
    pub(super) fn tell_undelivered(&self, number: u64, why: fn(&str) -> String, ports: &mut impl Ports) {
        let Some(bytes) = self.replica.log().entry(self.settings.origin, number) else { return };
        let Ok((view, _)) = read_entry(&bytes) else { return };
        let Some(message) = view.message() else { return };
        let sender = self.by_registration.get(&message.sender_registration).and_then(|clients| clients.first());
        let Some(client) =
            sender.filter(|client| self.clients.get(client).is_some_and(|state| state.dialect != Dialect::Extended))
        else {
            return;
        };
        self.tell(*client, &why(message.to.as_str()), ports);
    }
}
