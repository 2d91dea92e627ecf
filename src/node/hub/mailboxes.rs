//! What waits for people whose node went away without a goodbye, and what a node says of whoever asks another for a name.

use std::sync::Arc;

use super::{Hub, Mailbox, Now, Ports};
use crate::{
    chat::{Person, Registration},
    clique::{Heights, LinkId},
    wire::peer::{Mail, PeerFrame},
};

/// Former people of lost nodes who are remembered.
const MAX_MAILBOXES: usize = 10_000;

impl Hub {
    /// Answers another node that wants to give out a name, and says what is known of whoever asks for it.
    pub(super) fn vote(&mut self, ballot: u64, person: &Person, now: Now, ports: &mut impl Ports) -> PeerFrame {
        let (granted, lost) = self.directory.asked(person);
        self.settle(lost, now, ports);
        let former = self.directory.former(person).cloned().or_else(|| self.recorded_person(person));
        let former = former.filter(|_| granted).map(Box::new);
        let mail = self.mailboxes.get(person.name.key()).filter(|_| granted && former.is_none()).map(|mailbox| {
            Box::new(Mail { registration: mailbox.registration, received: (*mailbox.received).clone() })
        });
        PeerFrame::Vote { ballot, granted, former, mail }
    }

    /// Another node knows what waits under a name that is being asked for here.
    pub(super) fn hear_of_mail(&mut self, ballot: u64, mail: Mail) {
        let Some(key) = self.directory.balloted_key(ballot) else { return };
        let Mail { registration, mut received } = mail;
        if let Some(known) = self.mailboxes.get(&key) {
            if known.registration != registration {
                return;
            }
            known.received.iter().for_each(|(origin, height)| received.raise(origin, height));
        }
        self.mailboxes.insert(key, Mailbox { registration, received: Arc::new(received) });
    }

    /// Somebody is connected to another node: nothing waits here under that name, and whoever has gone on under it is not
    /// shown what is sent to this one.
    pub(super) fn is_back(&mut self, person: &Person) {
        self.mailboxes.remove(person.name.key());
        self.goes_on(person.registration);
        if let Some(client) = self.successors.remove(&person.registration)
            && let Some(state) = self.clients.get_mut(&client)
        {
            state.past.end_succession(person.registration);
        }
    }

    /// A stay that had ended has not: nobody is told any more that its messages do not arrive.
    pub(super) fn goes_on(&mut self, registration: Registration) {
        if self.ended.remove(&registration) {
            self.quit.retain(|quit| *quit != registration);
        }
    }

    /// The people of a node have gone without a goodbye: remembers how far the node is known to have served them.
    ///
    /// Only of those whose clients cannot resume: for the others nobody else may have what waits.
    pub(super) fn keep_mailboxes(&mut self, node: u16, link: LinkId) {
        if !self.directory.is_reachable(node) {
            // Its state never came over this link, so nothing is known that was not known before.
            return;
        }
        let received: Arc<Heights> = Arc::new(self.replica.sources().peer_heights(link).collect());
        for person in self.directory.people_on(node).filter(|person| person.key_hash.is_none()) {
            let mailbox = Mailbox { registration: person.registration, received: received.clone() };
            self.mailboxes.insert(person.name.shared_key(), mailbox);
        }
        while self.mailboxes.len() > MAX_MAILBOXES {
            self.mailboxes.pop_first();
        }
    }
}
