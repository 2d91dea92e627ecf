//! Sessions that outlive all nodes. Whose a registration is, nodes tell each other; when all of them have been restarted,
//! the log says it of everybody for whom something may wait: the node that accepts a message to somebody without a
//! claimed name puts it there first, once.

use super::{ClientId, Hub, Now, target::Target};
use crate::{
    chat::{
        Name, Person, Registration,
        change::{ChangeKind, Session},
        directory::KeyHash,
    },
    clique::time::unix_ms,
};

/// It is said again after this long if messages are still accepted for the session, in milliseconds; so it is remembered
/// for this much longer than messages are kept.
pub(super) const SAID_AGAIN_MS: u64 = 24 * 60 * 60 * 1_000;

impl Hub {
    /// Until when what the log says of somebody's session will do, in Unix milliseconds.
    pub(super) fn recorded_until_ms(&self, person: &Person) -> u64 {
        if person.key_hash.is_none() {
            return u64::MAX;
        }
        let known = self.ledger.sessions().get(person.registration);
        let same = known.filter(|(session, _)| session.name == person.name.as_str());
        same.map_or(0, |(_, time)| unix_ms(time) + SAID_AGAIN_MS)
    }

    /// Puts into the log whose session it is to which something is about to be accepted, unless it says so already. True
    /// if that was done.
    pub(super) fn record_session(&mut self, target: &Target, now: Now) -> bool {
        let Target::Person { registration, recorded_until_ms, .. } = target else { return false };
        if now.unix_ms() < *recorded_until_ms {
            return false;
        }
        let Some(person) = self.directory.known(*registration) else { return false };
        let Some(key_hash) = person.key_hash else { return false };
        let session = Session { name: person.name.to_string(), registration: *registration, key_hash };
        let time = self.append_change(ChangeKind::Session(session.clone()), now);
        self.ledger.note_session(&session, time);
        true
    }

    /// The registrations that a client with this key had under the name it asks for, as the log knows them, and those that
    /// it says it had, if they were its own; the earliest first. None that somebody has now.
    pub(super) fn recorded(
        &self,
        name: &Name,
        key_hash: KeyHash,
        formers: &[Registration],
    ) -> impl DoubleEndedIterator<Item = Registration> {
        let is_theirs = move |session: &&Session| {
            let is_named = Name::parse(session.name.as_bytes()).is_ok_and(|known| known.key() == name.key());
            let is_owner = self.ledger.owner_by_registration(session.registration).is_some();
            let has_ended = self.ended.contains(&session.registration);
            let is_free = !is_owner && !has_ended && self.directory.person(session.registration).is_none();
            (is_named || formers.contains(&session.registration)) && is_free
        };
        self.ledger.sessions().of_key(key_hash).filter(is_theirs).map(|session| session.registration)
    }

    /// What another node is told of whoever asks it for a name with a key that it has not seen before.
    pub(super) fn recorded_person(&self, person: &Person) -> Option<Person> {
        // Whoever goes on with a session that some node knows has been connected before.
        let is_unknown = !person.is_claimed && !person.goes_on();
        let key_hash = person.key_hash.filter(|_| is_unknown)?;
        let registration = self.recorded(&person.asked_name, key_hash, &[]).next_back()?;
        Some(Person { registration, attached: registration.time, ..person.clone() })
    }

    /// Somebody had to begin anew, and the log knows now who they were before: what waits for that one is theirs.
    pub(super) fn inherit(&mut self, client: ClientId) {
        let Some(state) = self.clients.get(&client) else { return };
        let Some(person) = state.registration().and_then(|registration| self.directory.person(registration)) else {
            return;
        };
        let Some(key_hash) = person.key_hash.filter(|_| !person.is_claimed) else { return };
        let recorded = self.recorded(&person.name, key_hash, &state.past.formers);
        let inherited: Vec<Registration> = recorded.filter(|former| *former != person.registration).collect();
        self.successors.extend(inherited.iter().map(|former| (*former, client)));
        if let Some(state) = self.clients.get_mut(&client) {
            state.past.inherited = inherited;
        }
    }

    /// Somebody has said goodbye, and does not come back.
    pub(super) fn does_not_return(&mut self, registration: Registration) {
        self.directory.forget(registration);
        self.ledger.end_session(registration);
    }

    /// The log says whose a registration is.
    pub(super) fn session_recorded(&mut self, session: &Session) {
        let holder = self.directory.holder(&session.key_hash).filter(|holder| *holder != session.registration);
        let client = holder.and_then(|holder| self.by_registration.get(&holder)?.first());
        if let Some(client) = client.copied() {
            self.inherit(client);
        }
    }
}
