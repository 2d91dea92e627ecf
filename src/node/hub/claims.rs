//! Claimed names: claiming one, proving that one owns it, and what follows for those who are here.

use std::sync::Arc;

use super::{ClientId, Hub, Now, Ports, Verdict, accept::Interest, clients::Life, inputs::Registering};
use crate::{
    chat::{
        EntryId, Name, Passphrase, Registration, StateChange,
        change::{ChangeKind, Claim, Read},
        ledger::MAX_OWNERS,
        notice,
    },
    clique::Origin,
    wire::{
        Dialect,
        extended::{self, FromNode, Why},
    },
};

/// What one device has had is told to the other nodes within this time, in milliseconds, and for each name no more often.
const READ_TOLD_MS: u64 = 200;

/// An entry, as people's state knows it.
pub(super) fn entry_id(origin: Origin, number: u64) -> EntryId {
    EntryId { node: origin.node, incarnation: origin.incarnation, number }
}

impl Hub {
    /// Puts a state change into this node's log; gives its time.
    pub(super) fn append_change(&mut self, kind: ChangeKind, now: Now) -> u64 {
        let time = self.replica.clock().next(now.unix_ms());
        let (_, builder) = self.accepting.builder(&mut self.replica, &Interest::All);
        builder.push_change(time, &StateChange { time, kind });
        time
    }

    /// Says again what was so before.
    pub(super) fn append_copy(&mut self, change: &StateChange, now: Now) {
        let time = self.replica.clock().next(now.unix_ms());
        let (_, builder) = self.accepting.builder(&mut self.replica, &Interest::All);
        builder.push_change(time, change);
    }

    /// Acts on a state change, of whatever node.
    pub(super) fn apply_change(
        &mut self,
        (origin, number): (Origin, u64),
        entry_time: u64,
        change: &StateChange,
        ports: &mut impl Ports,
    ) {
        let has_changed = self.ledger.take_change(entry_id(origin, number), entry_time, change);
        match &change.kind {
            ChangeKind::Claim(_) => self.settle_names(ports),
            ChangeKind::Membership(membership) if has_changed => self.membership_changed(membership, ports),
            ChangeKind::Topic(topic) if has_changed => self.topic_changed(topic, ports),
            ChangeKind::Session(session) if has_changed => self.session_recorded(session),
            ChangeKind::Membership(_) | ChangeKind::Topic(_) | ChangeKind::Read(_) | ChangeKind::Session(_) => {}
        }
    }

    /// Gives names to their owners, and tells those whom it concerns.
    pub(super) fn settle_names(&mut self, ports: &mut impl Ports) {
        for named in self.ledger.settle_names() {
            let changes = self.directory.owned(named.registration, &named.name, named.old.as_ref());
            self.people_changed(changes, ports);
        }
    }

    pub(super) fn claim(&mut self, client: ClientId, passphrase: Passphrase, ports: &mut impl Ports) {
        let Some(state) = self.clients.get(&client) else { return };
        let (Some(name), Some(registration)) = (state.name(), state.registration()) else { return };
        if let Err(error) = passphrase.check_new(name.key()) {
            return self.tell(client, &error.to_string(), ports);
        }
        let is_owner = self.ledger.owner_by_registration(registration).is_some();
        if !is_owner && self.ledger.owner_count() >= MAX_OWNERS {
            return self.tell(client, &notice::no_claims(), ports);
        }
        ports.hash_passphrase(client, passphrase);
    }

    /// The passphrase of a claim has been hashed, or could not be for now.
    pub(super) fn hashed(&mut self, client: ClientId, hash: Option<String>, now: Now, ports: &mut impl Ports) {
        let Some(state) = self.clients.get(&client) else { return };
        let (Some(name), Some(registration)) = (state.name().cloned(), state.registration()) else { return };
        let Some(passphrase_hash) = hash else { return self.tell(client, &notice::vault_busy(), ports) };
        let former = self.ledger.owner_by_registration(registration);
        let text = match former {
            Some(_) => notice::passphrase_changed(name.as_str()),
            None => notice::claimed(name.as_str()),
        };
        let claim = match former {
            Some(owner) => owner.claim_again(passphrase_hash),
            None => Claim {
                name: name.to_string(),
                registration,
                node: self.node(),
                claimed: self.replica.clock().next(now.unix_ms()),
                passphrase_hash,
            },
        };
        self.append_change(ChangeKind::Claim(claim), now);
        self.commit(now, ports);
        if self.clients.get(&client).is_some_and(|state| state.dialect == Dialect::Extended) {
            let mut out = Vec::new();
            FromNode::Claimed(extended::Claimed { name: name.to_string() }).encode(&mut out);
            ports.to_client(client, &out, None);
        }
        self.tell(client, &text, ports);
    }

    /// Whether somebody may go on asking for a name: not if it is claimed, until they have proved that it is theirs.
    /// Gives the owner that they have proved to be.
    pub(super) fn prove(
        &mut self,
        client: ClientId,
        registering: Box<Registering>,
        name: &Name,
        ports: &mut impl Ports,
    ) -> Option<(Box<Registering>, Option<Registration>)> {
        let Some(owner) = self.ledger.owner(name.key()) else { return Some((registering, None)) };
        let session = registering.key_hash.and_then(|hash| self.directory.owner_session(name, hash));
        if session == Some(owner.registration) {
            return Some((registering, session));
        }
        let owner = owner.clone();
        match registering.passphrase.clone() {
            Some(passphrase) => {
                ports.check_passphrase(client, name.key(), passphrase, &owner.passphrase_hash);
                self.set_life(client, Life::Checking { registering, owner: owner.registration });
            }
            None => {
                let is_lines = self.clients.get(&client).is_some_and(|state| state.dialect == Dialect::Lines);
                if is_lines {
                    self.set_life(client, Life::Proving { registering });
                }
                let text = notice::passphrase_wanted(owner.name.as_str());
                self.refuse_name(client, &text, Why::PassphraseWanted, 0, ports);
            }
        }
        None
    }

    /// Somebody's passphrase has been checked.
    pub(super) fn checked(&mut self, client: ClientId, verdict: Verdict, now: Now, ports: &mut impl Ports) {
        let Some(state) = self.clients.get(&client) else { return };
        if !matches!(state.life, Life::Checking { .. }) {
            return;
        }
        let Life::Checking { registering, owner } = self.set_life(client, Life::Connected) else { return };
        let shown = String::from_utf8_lossy(&registering.name).into_owned();
        match verdict {
            Verdict::Right => self.go_on_registering(client, registering, Some(owner), now, ports),
            Verdict::Wrong => {
                let is_lines = self.clients.get(&client).is_some_and(|state| state.dialect == Dialect::Lines);
                let text = match is_lines {
                    true => notice::passphrase_wrong_by_line(&shown),
                    false => notice::passphrase_wrong(&shown),
                };
                self.refuse_name(client, &text, Why::PassphraseWrong, 0, ports);
            }
            Verdict::TooMany { retry_after_ms } => {
                let text = notice::too_many_guesses(retry_after_ms);
                self.refuse_name(client, &text, Why::TooManyGuesses, retry_after_ms, ports);
            }
            Verdict::Busy => {
                self.refuse_name(client, &notice::vault_busy(), Why::TooManyGuesses, 1_000, ports);
            }
        }
        self.undefer(client, now, ports);
    }

    /// A device of an owner has had a message.
    pub(super) fn note_read(&mut self, registration: Registration, id: EntryId, now: Now) {
        if self.ledger.note_read(&Read { registration, heights: vec![id] }) {
            self.reading.entry(registration).or_insert(now.monotonic_ms + READ_TOLD_MS);
        }
    }

    /// Says what owners have had: of those whose time has come, and of one who leaves at once.
    pub(super) fn tell_read(&mut self, leaving: Option<Registration>, now: Now) {
        if self.reading.is_empty() {
            return;
        }
        let is_due = |registration: &Registration, at: u64| at <= now.monotonic_ms || leaving == Some(*registration);
        let due: Vec<Registration> =
            self.reading.iter().filter(|(owner, at)| is_due(owner, **at)).map(|(owner, _)| *owner).collect();
        for owner in due {
            self.reading.remove(&owner);
            let read = self.ledger.mailboxes().read(owner);
            self.append_change(ChangeKind::Read(read), now);
        }
    }

    /// When the next of them is to be said, in monotonic milliseconds.
    pub(super) fn read_due_ms(&self) -> Option<u64> {
        self.reading.values().min().copied()
    }

    /// The name under which people know somebody: as its owner, or as somebody who is here.
    pub(super) fn name_of(&self, registration: Registration) -> Option<Arc<str>> {
        let owned = self.ledger.owner_by_registration(registration).map(|owner| &owner.name);
        owned
            .or_else(|| self.directory.person(registration).map(|person| &person.name))
            .map(|name| name.as_str().into())
    }
}
