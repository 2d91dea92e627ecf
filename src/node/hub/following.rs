//! Receipts after a reconnect: a client that comes back names the messages of which it still wants to hear.
//!
//! Those that this node accepted it looks up; for the others it asks the node that did, at once and on each new link to
//! it, and that one answers with how things are and goes on with each change. Whether or not it can be asked, the
//! heights tell how many nodes hold a message.

use std::collections::BTreeMap;

use super::{ClientId, Hub, Ports, clients::count, receipts::Listener};
use crate::{
    chat::Registration,
    clique::{LinkId, Origin},
    wire::{
        Dialect,
        extended::{MessageId, Receipt, State},
        peer::{Awaited, PeerFrame},
    },
};

/// Messages that one client can name; what is more is passed over.
pub(super) const MAX_UNSETTLED: usize = 1_000;

/// What clients of this node wait for from others, by the node that accepted it.
pub(super) type Following = BTreeMap<(Origin, ClientId), (Registration, Vec<Awaited>)>;

impl Hub {
    /// A client that has come back as this registration waits for receipts of these messages.
    pub(super) fn follow(
        &mut self,
        client: ClientId,
        registration: Registration,
        unsettled: Vec<(Origin, Awaited)>,
        ports: &mut impl Ports,
    ) {
        let mut elsewhere: BTreeMap<Origin, Vec<Awaited>> = BTreeMap::new();
        let mut news = Vec::new();
        for (origin, awaited) in unsettled.into_iter().take(MAX_UNSETTLED) {
            let listener = Listener::Here(client);
            if origin != self.settings.origin {
                elsewhere.entry(origin).or_default().push(awaited);
            } else if let Some(receipt) = self.hand_over(registration, awaited, listener) {
                news.push((listener, receipt));
                continue;
            }
            news.extend(self.held_by(origin, awaited).map(|receipt| (listener, receipt)));
        }
        self.send_receipts(news, ports);
        for (origin, awaited) in elsewhere {
            if let Some(linked) = self.members.linked(origin.node).filter(|linked| linked.origin == origin) {
                let awaited = awaited.clone();
                ports.to_link(linked.link, PeerFrame::Unsettled { client, registration, awaited });
            }
            self.following.insert((origin, client), (registration, awaited));
        }
    }

    /// Asks a node with which there is a new link for what clients here wait for.
    pub(super) fn ask_unsettled(&self, link: LinkId, origin: Origin, ports: &mut impl Ports) {
        let theirs = self.following.range((origin, ClientId::MIN)..=(origin, ClientId::MAX));
        for ((_, client), (registration, awaited)) in theirs {
            let (client, registration, awaited) = (*client, *registration, awaited.clone());
            ports.to_link(link, PeerFrame::Unsettled { client, registration, awaited });
        }
    }

    /// Another node asks for receipts on behalf of one of its clients, which sent these messages from here.
    pub(super) fn asked_for_unsettled(
        &mut self,
        node: Origin,
        (client, registration): (u64, Registration),
        awaited: Vec<Awaited>,
        ports: &mut impl Ports,
    ) {
        let listener = Listener::There { node, client };
        let news = awaited
            .into_iter()
            .take(MAX_UNSETTLED)
            .filter_map(|awaited| self.hand_over(registration, awaited, listener).map(|receipt| (listener, receipt)));
        let news = news.collect();
        self.send_receipts(news, ports);
    }

    /// Another node has receipts for a client here.
    pub(super) fn receipts_for(&self, client: ClientId, receipts: Vec<Receipt>, ports: &mut impl Ports) {
        let is_there = self
            .clients
            .get(&client)
            .is_some_and(|state| state.dialect == Dialect::Extended && state.registration().is_some());
        if is_there {
            receipts.into_iter().for_each(|receipt| Self::send_receipt(client, receipt, ports));
        }
    }

    /// A client is gone, and so is who waited.
    pub(super) fn unfollow(&mut self, client: ClientId) {
        self.following.retain(|(_, follower), _| *follower != client);
    }

    /// From now on receipts of a message go to this listener. Gives the present one.
    fn hand_over(&mut self, sender: Registration, awaited: Awaited, listener: Listener) -> Option<Receipt> {
        let pending = self.receipts.sent_by(sender, awaited.number)?;
        pending.listener = listener;
        pending.receipt.reference = awaited.reference;
        Some(pending.receipt.clone())
    }

    /// What the heights say of a message that this node does not know as its own any more; nothing if nobody holds it.
    fn held_by(&self, origin: Origin, awaited: Awaited) -> Option<Receipt> {
        let Awaited { number, reference } = awaited;
        let here = usize::from(self.replica.log().synced(origin) >= number);
        let links = self.members.iter().filter_map(|(_, linked)| linked);
        let there = links.filter(|linked| self.replica.sources().peer_height(linked.link, origin) >= number).count();
        (here + there > 0).then(|| Receipt {
            reference,
            state: State::Replicated.into(),
            id: Some(MessageId { origin: Some(origin.into()), number }),
            nodes_holding: count(here + there),
            nodes_known: count(self.members.known_count()),
            ..Receipt::default()
        })
    }
}
