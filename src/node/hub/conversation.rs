//! Conversations: what is the same of all that one sender says to one addressee is found out once.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{
    ClientId, Hub,
    accept::Interest,
    submissions::Submission,
    target::{Target, WaitsFor},
};
use crate::{
    chat::{
        Addressee, Message, Registration, SERVICE_NAME,
        directory::Lookup,
        ledger::{MAX_UNREAD, MAX_UNREAD_OF_ALL},
        message::EVERYONE,
        name,
        notice::{self, Refusal},
    },
    wire::{Dialect, entry::Envelope},
};

/// What the messages of one sender to one addressee have in common, as long as nobody comes or goes.
#[derive(Debug)]
pub(super) struct Conversation {
    to: Bytes,
    /// Of the directory and the names, when it was found out.
    version: u64,
    pub(super) target: Target,
    pub(super) sender: Registration,
    /// Whether the sender wants receipts, or is a person who types lines.
    pub(super) is_extended: bool,
    is_typed: bool,
    pub(super) envelope: Envelope,
    max_text_bytes: usize,
    pub(super) is_direct: bool,
    pub(super) interest: Interest,
    /// Why messages cannot be delivered yet.
    pub(super) kept: Option<Arc<str>>,
}

impl Hub {
    /// The conversation that messages of a client to an addressee belong to.
    pub(super) fn conversation<'a>(
        &mut self,
        client: ClientId,
        to: &[u8],
        known: &'a mut Option<Arc<Conversation>>,
    ) -> Result<&'a Conversation, Refusal> {
        if self.has_said_goodbye {
            return Err(Refusal::Stopping);
        }
        let version = self.directory.version() + self.ledger.names_version();
        let is_it = |known: &Arc<Conversation>| known.to == to && known.version == version;
        let conversation = match known.take().filter(is_it) {
            Some(known) => known,
            None => match &self.clients.get(&client).ok_or(Refusal::NotRegistered)?.conversation {
                Some(last) if is_it(last) => last.clone(),
                _ => self.converse(client, to, version)?,
            },
        };
        Ok(known.insert(conversation))
    }

    /// Whether a message may be said in its conversation.
    pub(super) fn check(&mut self, conversation: &Conversation, submission: &Submission<'_>) -> Result<(), Refusal> {
        // Whoever types a name alone does not mean to say nothing; programs may.
        if submission.text.is_empty() && conversation.is_typed && !matches!(conversation.target, Target::Service) {
            return Err(Refusal::NoText(conversation.target.as_str().to_owned()));
        }
        match &conversation.target {
            Target::Room(room) => {
                if self.ledger.rooms().member_since(room, conversation.sender).is_none() {
                    return Err(Refusal::NotInRoom(room.to_string()));
                }
            }
            Target::Owner { name, registration, .. } => {
                let (unread, unread_of_all) = self.ledger.mailboxes().unread_count(*registration);
                if unread >= MAX_UNREAD || unread_of_all >= MAX_UNREAD_OF_ALL {
                    return Err(Refusal::MailboxFull(name.to_string()));
                }
            }
            Target::Person { name, waits_for: Some(WaitsFor::Return), .. } if !self.can_wait_for_return() => {
                return Err(Refusal::TooManyWait(name.to_string()));
            }
            Target::Everyone | Target::Service | Target::Person { .. } => {}
        }
        let (bytes, max_bytes) = (submission.text.len(), conversation.max_text_bytes);
        if bytes > max_bytes {
            return Err(Refusal::TooLong { bytes, max_bytes });
        }
        Ok(())
    }

    pub(super) fn forget_conversation(&mut self, client: ClientId) {
        if let Some(state) = self.clients.get_mut(&client) {
            state.conversation = None;
        }
    }

    fn converse(&mut self, client: ClientId, to: &[u8], version: u64) -> Result<Arc<Conversation>, Refusal> {
        let state = self.clients.get(&client).ok_or(Refusal::NotRegistered)?;
        let (name, sender) = state.name().zip(state.registration()).ok_or(Refusal::NotRegistered)?;
        let (is_extended, is_typed) = (state.dialect == Dialect::Extended, state.dialect == Dialect::Lines);
        let target = self.look_up(to)?;
        let (addressee, kept) = match &target {
            Target::Person { name, registration, waits_for, .. } => {
                let why = |waits_for| match waits_for {
                    WaitsFor::Node(node) => notice::kept(name, node),
                    WaitsFor::Return => notice::kept_for_return(name, self.settings.timing.return_ms),
                };
                (Addressee::Person(name, *registration), waits_for.map(why))
            }
            Target::Owner { name, registration, is_away } => {
                (Addressee::Owner(name, *registration), is_away.then(|| notice::owner_away(name)))
            }
            Target::Everyone | Target::Service => (Addressee::Everyone, None),
            Target::Room(room) => (Addressee::Room(room), None),
        };
        let conversation = Arc::new(Conversation {
            to: Bytes::copy_from_slice(to),
            version,
            sender,
            is_extended,
            is_typed,
            envelope: Envelope::new(name.as_str(), sender, addressee),
            max_text_bytes: Message::max_text_bytes(name.as_str(), target.as_str()),
            is_direct: addressee.person().is_some(),
            interest: self.interest(addressee),
            kept: kept.map(Into::into),
            target,
        });
        if let Some(state) = self.clients.get_mut(&client) {
            state.conversation = Some(conversation.clone());
        }
        Ok(conversation)
    }

    fn interest(&self, to: Addressee<'_>) -> Interest {
        match to.person() {
            Some(registration) => match self.directory.nodes_of(registration).collect::<SmallVec<_>>() {
                // Who is away can come back anywhere.
                nodes if nodes.is_empty() => Interest::All,
                nodes => Interest::Nodes(nodes),
            },
            None => Interest::All,
        }
    }

    fn look_up(&self, to: &[u8]) -> Result<Target, Refusal> {
        if to == EVERYONE.as_bytes() {
            return Ok(Target::Everyone);
        }
        let written = String::from_utf8_lossy(to);
        if written.is_empty() {
            return Err(Refusal::NoAddressee);
        }
        let shown = || written.chars().take(name::MAX_NAME_BYTES).collect::<String>();
        if written.starts_with('#') {
            let room = name::room(&written).map_err(|reason| Refusal::BadRoom { room: shown(), reason })?;
            return Ok(Target::Room(room.into()));
        }
        let key = name::key(&written).map_err(|reason| Refusal::BadName { name: shown(), reason })?;
        if key == SERVICE_NAME {
            return Ok(Target::Service);
        }
        if let Some(owner) = self.ledger.owner(&key) {
            let (name, registration) = (owner.name.as_str().into(), owner.registration);
            let is_away = self.directory.nodes_of(registration).next().is_none();
            return Ok(Target::Owner { name, registration, is_away });
        }
        let (person, waits_for) = match self.directory.lookup(&key) {
            Lookup::Present(person) => (person, None),
            Lookup::Away(person) => (person, Some(WaitsFor::Node(person.node))),
            Lookup::Expected(person) => (person, Some(WaitsFor::Return)),
            Lookup::Unknown => return Err(Refusal::Nobody(shown())),
        };
        let (name, registration) = (person.name.as_str().into(), person.registration);
        let recorded_until_ms = self.recorded_until_ms(person);
        Ok(Target::Person { name, registration, waits_for, recorded_until_ms })
    }
}
