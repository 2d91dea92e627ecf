//! The end of a node in good order: nobody is let in, what is here is finished, and everybody hears the last word.

use super::{Cursor, Hub, Now, Ports, clients::Client};
use crate::wire::{
    Dialect,
    extended::{FromNode, Stopping},
    peer::PeerFrame,
};

impl Hub {
    /// Lets nobody in any more, and tells everybody. Messages are still accepted, so that those who were about to send
    /// one lose nothing.
    pub fn stop(&mut self, now: Now, ports: &mut impl Ports) {
        self.commit(now, ports);
        self.is_stopping = true;
        let text = crate::chat::notice::stopping(self.node());
        let mut frame = Vec::new();
        FromNode::Stopping(Stopping {}).encode(&mut frame);
        for (client, state) in self.clients.iter().filter(|(_, state)| state.registration().is_some()) {
            match state.dialect {
                Dialect::Extended => ports.to_client(*client, &frame, None),
                Dialect::Frames | Dialect::Lines => self.tell(*client, &text, ports),
            }
        }
    }

    /// Whether everything that this node accepted is on its disk, and every linked peer has confirmed it.
    #[must_use]
    pub fn is_replicated(&self) -> bool {
        let me = self.settings.origin;
        let height = self.replica.log().height(me);
        self.replica.is_synced()
            && self.links.keys().all(|link| self.replica.sources().peer_height(*link, me) >= height)
    }

    /// Whether nothing is lost if the node goes now: peers have everything, and readers have been shown what is theirs.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let is_served = |client: &Client| {
            client.registration().is_none() || matches!(client.cursor, Cursor::Live) && client.shelf.is_none()
        };
        self.is_replicated() && !self.has_more_to_apply && self.clients.values().map(Box::as_ref).all(is_served)
    }

    /// Whether those who can go on at another node have gone.
    #[must_use]
    pub fn is_vacated(&self) -> bool {
        let may_go = |client: &Client| client.dialect == Dialect::Extended && client.registration().is_some();
        !self.clients.values().map(Box::as_ref).any(may_go)
    }

    /// The last word to peers, and the end of every client's connection.
    pub fn say_goodbye(&mut self, now: Now, ports: &mut impl Ports) {
        for owner in self.reading.keys().copied().collect::<Vec<_>>() {
            self.tell_read(Some(owner), now);
        }
        self.commit(now, ports);
        self.tell_receipts(ports);
        self.has_said_goodbye = true;
        for link in self.links.keys() {
            ports.to_link(*link, PeerFrame::Goodbye);
        }
        for client in self.clients.keys() {
            ports.close_client(*client);
        }
    }
}
