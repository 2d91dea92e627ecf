//! Sessions: which client is whose registration, of people without a claimed name to whom something was sent. Nodes know
//! it by themselves for as long as they run; from the log they know it when all of them have been restarted.

use std::collections::{BTreeMap, BTreeSet};

use super::{Carrier, MAX_SESSIONS};
use crate::chat::{
    Registration, StateChange,
    change::{ChangeKind, Session},
    directory::KeyHash,
};

#[derive(Debug)]
struct Known {
    /// When it was said last; that counts.
    said: (u64, Session),
    /// None if it is only about to be said.
    carrier: Option<Carrier>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Sessions {
    known: BTreeMap<Registration, Known>,
    by_key: BTreeMap<KeyHash, BTreeSet<Registration>>,
    by_time: BTreeSet<(u64, Registration)>,
}

impl Sessions {
    /// Returns whether the registration was not known before.
    pub(super) fn take(&mut self, session: &Session, time: u64, carrier: Option<Carrier>) -> bool {
        let registration = session.registration;
        let said = (time, session.clone());
        let is_new = match self.known.get_mut(&registration) {
            Some(known) if known.said > said => return false,
            Some(known) if known.said == said => {
                known.carrier = known.carrier.max(carrier);
                return false;
            }
            known => known.is_none(),
        };
        self.remove(registration);
        self.by_key.entry(session.key_hash).or_default().insert(registration);
        self.by_time.insert((time, registration));
        self.known.insert(registration, Known { said, carrier });
        if self.by_time.len() > MAX_SESSIONS
            && let Some((_, oldest)) = self.by_time.first().copied()
        {
            self.remove(oldest);
        }
        is_new
    }

    pub(super) fn remove(&mut self, registration: Registration) {
        let Some(Known { said: (time, session), .. }) = self.known.remove(&registration) else { return };
        self.by_time.remove(&(time, registration));
        if let Some(registrations) = self.by_key.get_mut(&session.key_hash) {
            registrations.remove(&registration);
            if registrations.is_empty() {
                self.by_key.remove(&session.key_hash);
            }
        }
    }

    pub(super) fn forget(&mut self, goes: impl Fn(Carrier) -> bool) {
        let gone = self.known.iter().filter(|(_, known)| known.carrier.is_some_and(&goes));
        let gone: Vec<Registration> = gone.map(|(registration, _)| *registration).collect();
        gone.into_iter().for_each(|registration| self.remove(registration));
    }

    /// Those that were said before `since` have run out.
    pub(super) fn carried(&self, goes: impl Fn(Carrier) -> bool, since: u64) -> impl Iterator<Item = StateChange> {
        let carried =
            self.known.values().filter(move |known| known.said.0 >= since && known.carrier.is_some_and(&goes));
        carried.map(|Known { said: (time, session), .. }| StateChange {
            time: *time,
            kind: ChangeKind::Session(session.clone()),
        })
    }

    /// The session of a registration, and when it was said last.
    #[must_use]
    pub fn get(&self, registration: Registration) -> Option<(&Session, u64)> {
        self.known.get(&registration).map(|Known { said: (time, session), .. }| (session, *time))
    }

    /// The sessions of a key, the earliest first.
    pub fn of_key(&self, key_hash: KeyHash) -> impl DoubleEndedIterator<Item = &Session> {
        let registrations = self.by_key.get(&key_hash).into_iter().flatten();
        registrations.filter_map(|registration| self.known.get(registration)).map(|known| &known.said.1)
    }
}
