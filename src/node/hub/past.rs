//! What is for whom: somebody's past on former connections, and whether an entry is meant for them.

use std::sync::Arc;

use super::claims::entry_id;
use crate::{
    chat::{Addressee, Ledger, Message, Registration, ledger::Rooms},
    clique::{Heights, Origin},
};

/// What somebody had on former connections. It counts for as long as they are connected: entries from then may come
/// to this node only later.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    /// What was said to everyone or in a room before this (hybrid logical time) is history to them.
    pub(super) since: u64,
    /// Entries that they have had.
    pub(super) received: Arc<Heights>,
    /// Entries that were gone through on the disk: all that were for them have been shown.
    pub(super) gone_through: Heights,
    /// A former holder of their name, on a node that went away without a goodbye: that one's messages are theirs, but
    /// for what that node is known to have had.
    pub(super) former: Option<(Registration, Arc<Heights>)>,
    /// Registrations that they had before, and that their node did not know: what they said to others then is not shown to
    /// them.
    pub(super) formers: Vec<Registration>,
    /// Of these the ones that were theirs as the log says: what was sent to them then is theirs.
    pub(super) inherited: Vec<Registration>,
    /// Before this position they are shown what they have missed; from there on what is new.
    pub(super) replay_until: u64,
    /// It is still to be said that what follows is not live.
    pub(super) is_unannounced: bool,
    /// Entries since then that had been dropped from the log before they came; still to be said.
    pub(super) dropped: u64,
    /// Of an owner who resumes: what this node had then. Their heights say nothing of mail, which they were still being
    /// shown: of what is below them, that which is unread is shown first, or as it comes to this node.
    pub(super) mail_shown_to: Option<Heights>,
}

impl Past {
    pub(super) fn former(&self) -> Option<Registration> {
        self.former.as_ref().map(|(registration, _)| *registration)
    }

    pub(super) fn gone_through(&mut self, heights: &Heights) {
        heights.iter().for_each(|(origin, height)| self.gone_through.raise(origin, height));
    }

    /// Whether an entry is below the heights that they resumed with.
    pub(super) fn has_received(&self, origin: Origin, number: u64) -> bool {
        number <= self.received.get(origin)
    }

    /// Whether nothing of it bears on an origin's entries from this one on, whatever they say.
    pub(super) fn is_before(&self, origin: Origin, first: u64) -> bool {
        let is_bare = self.former.is_none()
            && self.inherited.is_empty()
            && self.formers.is_empty()
            && self.mail_shown_to.is_none();
        is_bare && self.received.get(origin) < first && self.gone_through.get(origin) < first
    }

    /// Who they are too.
    pub(super) fn succeeded(&self) -> impl Iterator<Item = Registration> {
        self.former().into_iter().chain(self.inherited.iter().copied())
    }

    /// That one has come back.
    pub(super) fn end_succession(&mut self, registration: Registration) {
        self.inherited.retain(|inherited| *inherited != registration);
        self.former = self.former.take().filter(|(former, _)| *former != registration);
    }

    /// Whether an entry is for somebody with this past.
    pub(super) fn wants(
        &self,
        registration: Registration,
        ledger: &Ledger,
        entry: (Origin, u64, u64),
        message: &Message<'_>,
    ) -> bool {
        let (origin, number, time) = entry;
        let is_theirs = self.is_formers(message) || is_for(registration, self.since, ledger.rooms(), time, message);
        is_theirs && !self.has_had(ledger, origin, number, message)
    }

    pub(super) fn is_formers(&self, message: &Message<'_>) -> bool {
        message.to.person().is_some_and(|to| Some(to) == self.former() || self.inherited.contains(&to))
    }

    pub(super) fn has_had(&self, ledger: &Ledger, origin: Origin, number: u64, message: &Message<'_>) -> bool {
        if let (Some(shown), Addressee::Owner(_, owner)) = (&self.mail_shown_to, message.to)
            && self.has_received(origin, number)
            && number > shown.get(origin)
        {
            return !ledger.mailboxes().is_unread(owner, entry_id(origin, number));
        }
        let heights = match &self.former {
            Some((former, received)) if message.to.person() == Some(*former) => received,
            _ => &self.received,
        };
        let is_had = number <= heights.get(origin) || number <= self.gone_through.get(origin);
        // What they said to themselves alone is shown to them.
        is_had || message.to.person().is_none() && self.formers.contains(&message.sender_registration)
    }
}

/// Whether a connected person is an addressee: by name, or as one of everybody, or of a room, who was there when it was
/// said.
pub(super) fn is_for(registration: Registration, since: u64, rooms: &Rooms, time: u64, message: &Message<'_>) -> bool {
    let was_here = || message.sender_registration != registration && time > since;
    match message.to {
        Addressee::Person(_, to) | Addressee::Owner(_, to) => to == registration,
        Addressee::Everyone => was_here(),
        Addressee::Room(room) => was_here() && rooms.member_since(room, registration).is_some_and(|since| time > since),
    }
}
