//! Receipts after a reconnect: a client that comes back names the messages of which it still wants to hear.
//!
//! Those that this node accepted it looks up; for the others it asks the node that did, at once and on each new link to
//! it, and that one answers with how things are and goes on with each change. Whether or not it can be asked, the
//! heights tell how many nodes hold a message.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::{ClientId, Hub, Ports, clients::count, fate::Listener};
use crate::{
    chat::Registration,
    clique::{LinkId, Origin},
    wire::{
        Dialect,
        extended::{MessageId, Receipt, ReceiptRun, State},
        peer::{Awaited, PeerFrame},
    },
};

/// Messages that one client can name; what is more is passed over.
pub(super) const MAX_UNSETTLED: usize = 1_000;

/// What clients of this node wait for from others, by the node that accepted it.
pub(super) type Following = BTreeMap<(ClientId, Origin), Followed>;

#[derive(Debug)]
pub(super) struct Followed {
    registration: Registration,
    awaited: Vec<Awaited>,
    /// There was no room for the last news: when there is, the present state is asked for.
    is_behind: bool,
}

impl Followed {
    fn question(&self, client: ClientId) -> PeerFrame {
        PeerFrame::Unsettled { client, registration: self.registration, awaited: self.awaited.clone() }
    }
}

fn all_of(client: ClientId) -> RangeInclusive<(ClientId, Origin)> {
    let origin = |node, incarnation| Origin { node, incarnation };
    (client, origin(0, 0))..=(client, origin(u16::MAX, u64::MAX))
}

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
        for (origin, awaited) in unsettled.into_iter().take(MAX_UNSETTLED) {
            if origin != self.settings.origin {
                elsewhere.entry(origin).or_default().push(awaited);
            } else if self.receipts.hand_over(registration, awaited, Listener::Here(client)) {
                continue;
            }
            // They are few, and the connection is new: there is room.
            if let Some(receipt) = self.held_by(origin, awaited) {
                Self::send_receipts(client, ReceiptRun { first: Some(receipt), count: 1 }, ports);
            }
        }
        for (origin, awaited) in elsewhere {
            let followed = Followed { registration, awaited, is_behind: false };
            if let Some(linked) = self.members.linked(origin.node).filter(|linked| linked.origin == origin) {
                ports.to_link(linked.link, followed.question(client));
            }
            self.following.insert((client, origin), followed);
        }
    }

    /// Asks a node with which there is a new link for what clients here wait for.
    pub(super) fn ask_unsettled(&self, link: LinkId, origin: Origin, ports: &mut impl Ports) {
        for ((client, _), followed) in self.following.iter().filter(|((_, followed), _)| *followed == origin) {
            ports.to_link(link, followed.question(*client));
        }
    }

    /// Another node asks for receipts on behalf of one of its clients, which sent these messages from here.
    pub(super) fn asked_for_unsettled(
        &mut self,
        node: Origin,
        (client, registration): (u64, Registration),
        awaited: Vec<Awaited>,
    ) {
        let listener = Listener::There { node, client };
        for awaited in awaited.into_iter().take(MAX_UNSETTLED) {
            self.receipts.hand_over(registration, awaited, listener);
        }
    }

    /// Another node has receipts for a client here. If there is no room for them it is asked for the state again when
    /// there is.
    pub(super) fn receipts_for(
        &mut self,
        node: Origin,
        client: ClientId,
        receipts: Vec<ReceiptRun>,
        ports: &mut impl Ports,
    ) {
        let is_there = self
            .clients
            .get(&client)
            .is_some_and(|state| state.dialect == Dialect::Extended && state.registration().is_some());
        if !is_there {
            return;
        }
        for receipts in receipts {
            if !ports.client_has_room(client) {
                if let Some(followed) = self.following.get_mut(&(client, node)) {
                    followed.is_behind = true;
                }
                return;
            }
            Self::send_receipts(client, receipts, ports);
        }
    }

    /// A client has room again for receipts from other nodes. Where there is no link it is asked on the next.
    pub(super) fn ask_again(&mut self, client: ClientId, ports: &mut impl Ports) {
        for ((_, origin), followed) in self.following.range_mut(all_of(client)) {
            let linked = self.members.linked(origin.node).filter(|linked| linked.origin == *origin);
            if std::mem::take(&mut followed.is_behind)
                && let Some(linked) = linked
            {
                ports.to_link(linked.link, followed.question(client));
            }
        }
    }

    /// A client is gone, and so is who waited.
    pub(super) fn unfollow(&mut self, client: ClientId) {
        while let Some((key, _)) = self.following.range(all_of(client)).next() {
            let key = *key;
            self.following.remove(&key);
        }
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
