//! What follows from the log for people: who owns which name, who is in which room, what waits for whom, and what was
//! said last.
//!
//! All of it is merged without regard to the order in which entries come: a claim's *earliest* time counts, of other
//! changes the *latest*, of read heights the *highest*; and where there is a bound, the latest are kept. So every node
//! derives the same from the same entries, and so does a node that reads them from its disk again.
//!
//! | what | bound |
//! |---|---|
//! | owned names | [`MAX_OWNERS`]; no more can be claimed |
//! | rooms | [`MAX_ROOMS`]; no more can be made |
//! | memberships, former ones included | [`MAX_MEMBERSHIPS`]; those that changed longest ago are forgotten |
//! | sessions of unclaimed names | [`MAX_SESSIONS`]; those that were said longest ago are forgotten |
//! | unread messages of one name, of all names | [`MAX_UNREAD`], [`MAX_UNREAD_OF_ALL`]; no more are taken for it |
//! | latest messages of a room, or to everyone | [`MAX_RECENT`] |

mod claims;
mod mailboxes;
mod recents;
mod rooms;
mod sessions;

use self::claims::Claims;
pub use self::{
    claims::{Named, Owner},
    mailboxes::Mailboxes,
    recents::{MAX_RECENT, Recents},
    rooms::{Room, Rooms},
    sessions::Sessions,
};
use super::{
    Addressee, EntryId, Message, Registration, StateChange,
    change::{ChangeKind, Read, Session},
};

/// Names that can be owned.
pub const MAX_OWNERS: usize = 100_000;
/// Rooms that there can be.
pub const MAX_ROOMS: usize = 4_096;
/// Memberships that are remembered, in all rooms together.
pub const MAX_MEMBERSHIPS: usize = 100_000;
/// Sessions of people without a claimed name that are remembered.
pub const MAX_SESSIONS: usize = 100_000;
/// Messages that can wait for one name, and for all together.
pub const MAX_UNREAD: usize = 10_000;
pub const MAX_UNREAD_OF_ALL: usize = 1_000_000;

/// The entry that carries what is in force, by its time and place: once it is cut, a copy must be in the log.
type Carrier = (u64, EntryId);

/// See the module's head.
#[derive(Debug, Default)]
pub struct Ledger {
    claims: Claims,
    rooms: Rooms,
    mailboxes: Mailboxes,
    sessions: Sessions,
    public: Recents,
}

impl Ledger {
    /// Takes a message. Most, those between people without a claimed name, leave no trace here.
    pub fn take_message(&mut self, id: EntryId, time: u64, message: &Message<'_>) {
        match message.to {
            Addressee::Person(..) => {}
            Addressee::Owner(_, registration) => self.mailboxes.take(registration, id, time),
            Addressee::Everyone => self.public.take(id, time),
            Addressee::Room(room) => self.rooms.take_message(room, id, time),
        }
    }

    /// Takes a state change from an entry of this time. Returns whether it changed what is in force.
    pub fn take_change(&mut self, id: EntryId, entry_time: u64, change: &StateChange) -> bool {
        let carrier = (entry_time, id);
        match &change.kind {
            ChangeKind::Claim(claim) => self.claims.take(claim, change.time, carrier),
            ChangeKind::Membership(membership) => self.rooms.take_membership(membership, change.time, carrier),
            ChangeKind::Topic(topic) => self.rooms.take_topic(topic, change.time, carrier),
            ChangeKind::Read(read) => self.mailboxes.take_read(read, Some((change.time, carrier))),
            ChangeKind::Session(session) => self.sessions.take(session, change.time, Some(carrier)),
        }
    }

    /// Takes note of what was just read here, before the log says so.
    pub fn note_read(&mut self, read: &Read) -> bool {
        self.mailboxes.take_read(read, None)
    }

    /// Takes note of whose session something is being sent to here, before the log says so.
    pub fn note_session(&mut self, session: &Session, time: u64) {
        self.sessions.take(session, time, None);
    }

    /// Whoever had this registration has said goodbye, and does not come back.
    pub fn end_session(&mut self, registration: Registration) {
        self.sessions.remove(registration);
    }

    /// Nothing before `first` is kept of an origin any more.
    pub fn forget(&mut self, node: u16, incarnation: u64, first: u64) {
        self.mailboxes.forget(node, incarnation, first);
        self.rooms.forget(node, incarnation, first);
        self.public.forget(node, incarnation, first);
        self.sessions.forget(|(_, id)| (id.node, id.incarnation) == (node, incarnation) && id.number < first);
    }

    /// What is carried by entries of an origin before `first` alone: it must be appended again before they are cut, or it
    /// would be in force no longer. Sessions that were said before `since` are not.
    #[must_use]
    pub fn carried(&self, node: u16, incarnation: u64, first: u64, since: u64) -> Vec<StateChange> {
        let goes = |(_, id): Carrier| (id.node, id.incarnation) == (node, incarnation) && id.number < first;
        let is_owner = |registration: Registration| self.claims.by_registration(registration).is_some();
        let claims = self.claims.carried(goes);
        // Of people without a claimed name nobody asks later whether they were in a room.
        let rooms = self.rooms.carried(goes, is_owner);
        claims.chain(rooms).chain(self.mailboxes.carried(goes)).chain(self.sessions.carried(goes, since)).collect()
    }

    /// Gives out names after claims have come; what changed, for those who are here to be told.
    pub fn settle_names(&mut self) -> Vec<Named> {
        self.claims.settle()
    }

    /// Who owns a name.
    #[must_use]
    pub fn owner(&self, key: &str) -> Option<&Owner> {
        self.claims.by_key(key)
    }

    /// The name that somebody owns.
    #[must_use]
    pub fn owner_by_registration(&self, registration: Registration) -> Option<&Owner> {
        self.claims.by_registration(registration)
    }

    #[must_use]
    pub fn owner_count(&self) -> usize {
        self.claims.len()
    }

    /// Grows with every change among the names, so that a look-up can be remembered.
    #[must_use]
    pub fn names_version(&self) -> u64 {
        self.claims.version()
    }

    #[must_use]
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    #[must_use]
    pub fn mailboxes(&self) -> &Mailboxes {
        &self.mailboxes
    }

    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The latest messages to everyone.
    #[must_use]
    pub fn public(&self) -> &Recents {
        &self.public
    }
}

#[cfg(test)]
mod tests;
