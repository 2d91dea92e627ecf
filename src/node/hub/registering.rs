//! Registering: a client asks for a name, goes on where it was, and is welcomed or refused.

use smallvec::SmallVec;

use super::{
    ClientId, Hub, Now, Ports,
    clients::{Life, count},
    inputs::{Registering, Resume},
};
use crate::{
    chat::{
        Name, NameError, Person, Registration,
        directory::{self, Settled},
        notice,
    },
    wire::{
        Dialect,
        extended::{self, FromNode, Why, heights_to_proto},
        frames, lines,
        peer::PeerFrame,
    },
};

/// How long a resuming client waits for its node to catch up with what it sent elsewhere, in milliseconds.
const MAX_RESUME_WAIT_MS: u64 = 1_000;
/// People in one frame, so that it fits.
pub(super) const PEOPLE_PER_FRAME: usize = 400;

impl Hub {
    pub(super) fn register(
        &mut self,
        client: ClientId,
        registering: Box<Registering>,
        now: Now,
        ports: &mut impl Ports,
    ) {
        let Some(state) = self.clients.get_mut(&client) else { return };
        if !matches!(state.life, Life::Connected) {
            self.tell(client, "you have a name already; connect again for another", ports);
            return;
        }
        if registering.key_hash.is_some() {
            state.dialect = Dialect::Extended;
        }
        if self.is_stopping {
            self.refuse_name(client, &notice::stopping(self.settings.origin.node), Why::Stopping, 0, ports);
            return;
        }
        let name = match Name::parse(&registering.name) {
            Ok(name) => name,
            Err(reason) => {
                return self.refuse_name(client, &notice::name_illegal(reason), Why::Illegal, 0, ports);
            }
        };
        if let Some((registering, owner)) = self.prove(client, registering, &name, ports) {
            let is_frames = self.clients.get(&client).is_some_and(|state| state.dialect == Dialect::Frames);
            if is_frames && owner.is_none() && registering.passphrase.is_some() {
                // Nobody has claimed it, and as a name it is not legal.
                let text = notice::name_illegal(NameError::Forbidden);
                return self.refuse_name(client, &text, Why::Illegal, 0, ports);
            }
            self.go_on_registering(client, registering, owner, now, ports);
        }
    }

    /// Goes on with somebody who may ask for the name.
    pub(super) fn go_on_registering(
        &mut self,
        client: ClientId,
        registering: Box<Registering>,
        owner: Option<Registration>,
        now: Now,
        ports: &mut impl Ports,
    ) {
        let lacks = registering.resume.as_ref().is_some_and(|resume| !self.replica.applied().covers(&resume.sent));
        if lacks {
            let until_ms = now.monotonic_ms + MAX_RESUME_WAIT_MS;
            self.set_life(client, Life::Resuming { registering, owner, until_ms });
            self.resuming.insert(client);
        } else {
            self.ask_for_name(client, registering, owner, now, ports);
        }
    }

    /// Goes on with those whose node has caught up, or who have waited long enough.
    pub(super) fn go_on_resuming(&mut self, now: Now, ports: &mut impl Ports) {
        for client in self.resuming.clone() {
            let is_ready = match self.clients.get(&client).map(|state| &state.life) {
                Some(Life::Resuming { registering, until_ms, .. }) => {
                    let sent = registering.resume.as_ref().map_or(&[][..], |resume| &resume.sent);
                    *until_ms <= now.monotonic_ms || self.replica.applied().covers(sent)
                }
                _ => true,
            };
            if !is_ready {
                continue;
            }
            self.resuming.remove(&client);
            if let Life::Resuming { registering, owner, .. } = self.set_life(client, Life::Connected) {
                self.ask_for_name(client, registering, owner, now, ports);
                self.undefer(client, now, ports);
            }
        }
    }

    fn ask_for_name(
        &mut self,
        client: ClientId,
        registering: Box<Registering>,
        owner: Option<Registration>,
        now: Now,
        ports: &mut impl Ports,
    ) {
        let Ok(name) = Name::parse(&registering.name) else { return };
        let time = self.replica.clock().next(now.unix_ms());
        let owner = owner.and_then(|owner| self.ledger.owner_by_registration(owner));
        let owner = owner.map(|owner| (owner.name.clone(), owner.registration));
        let formers: Vec<Registration> = registering.resume.iter().flat_map(Resume::registrations).collect();
        let recorded = registering.key_hash.and_then(|key_hash| self.recorded(&name, key_hash, &formers).next_back());
        match self.directory.register(name.clone(), registering.key_hash, owner, recorded, time) {
            directory::Registering::Taken => {
                self.refuse_taken(client, &name, now, ports);
            }
            directory::Registering::Given(person) => self.admit(client, person, registering, ports),
            directory::Registering::Ask { ballot, person, voters } => {
                self.set_life(client, Life::Asking { ballot, registering });
                self.asking.insert(ballot, client);
                for link in voters.iter().filter_map(|node| self.members.linked(*node)) {
                    ports.to_link(link.link, PeerFrame::Reserve { ballot, person: person.clone() });
                }
            }
        }
    }

    /// Acts on ballots that have come to their end.
    pub(super) fn settle(&mut self, settled: Vec<Settled>, now: Now, ports: &mut impl Ports) {
        for Settled { ballot, person, given } in settled {
            let Some(client) = self.asking.remove(&ballot) else { continue };
            let Life::Asking { registering, .. } = self.set_life(client, Life::Connected) else { continue };
            if given {
                self.admit(client, person, registering, ports);
            } else {
                self.refuse_taken(client, &person.asked_name, now, ports);
            }
            self.undefer(client, now, ports);
        }
    }

    fn admit(&mut self, client: ClientId, person: Person, registering: Box<Registering>, ports: &mut impl Ports) {
        let registration = person.registration;
        self.goes_on(registration);
        let Registering { mut resume, passphrase, history, .. } = *registering;
        let unsettled = resume.as_mut().map(|resume| std::mem::take(&mut resume.unsettled)).unwrap_or_default();
        // What was had under another registration is not what this one had, if it was not in the same session.
        let is_same = |resume: &Resume| {
            resume.registration.is_none() || resume.registrations().any(|former| former == registration)
        };
        let is_resumed = resume.as_ref().is_some_and(is_same) && person.goes_on();
        self.place_cursor(client, &person, resume, is_resumed);
        let changes = self.directory.admit(person.clone());
        self.set_life(client, Life::Registered { name: person.name.clone(), registration });
        self.inherit(client);
        let clients = self.by_registration.entry(registration).or_default();
        // Whoever owns the name may be here several times; others go on where they come last.
        let former = if person.is_claimed { SmallVec::new() } else { std::mem::take(clients) };
        clients.push(client);
        for former in former {
            self.detach(former, self.node(), ports);
        }
        self.broadcast_presence(vec![person.clone()], Vec::new());
        self.people_changed(changes, ports);
        self.welcome(client, &person, is_resumed, ports);
        self.follow(client, registration, unsettled, ports);
        if passphrase.is_some() && !person.is_claimed {
            self.tell(client, &notice::not_claimed(person.name.as_str()), ports);
        }
        if let Some(state) = self.clients.get_mut(&client) {
            state.history_shown = history;
        }
        self.show_first(client, &person, is_resumed, history);
    }

    fn welcome(&mut self, client: ClientId, person: &Person, is_resumed: bool, ports: &mut impl Ports) {
        let Some(state) = self.clients.get(&client) else { return };
        let (reachable, known) = (self.members.reachable_count(), self.members.known_count());
        let people = self.directory.present_count();
        let mut out = Vec::new();
        match state.dialect {
            Dialect::Frames => frames::encode_empty(&mut out, frames::kind::REGISTERED),
            Dialect::Lines => {
                let text = notice::welcome(person.name.as_str(), self.node(), reachable, known, people);
                lines::encode_notice(&mut out, &text);
            }
            Dialect::Extended => {
                // Who is shown again what was said since they were forgotten begins where they were.
                let has_begun = person.goes_on() || !state.past.formers.is_empty();
                let is_shown_again = !is_resumed && state.past.replay_until > 0 && has_begun;
                let begin = if is_shown_again { &state.past.received } else { self.replica.applied() };
                FromNode::Registered(extended::Registered {
                    name: person.name.to_string(),
                    node: self.node().into(),
                    nodes_reachable: count(reachable),
                    nodes_known: count(known),
                    people: count(people),
                    resumed: is_resumed,
                    heights: heights_to_proto(begin),
                    registration: Some(person.registration.into()),
                    claimed: person.is_claimed,
                })
                .encode(&mut out);
                self.nodes_frame().encode(&mut out);
                self.rooms_frame(person.registration).encode(&mut out);
                self.newcomers.push(client);
            }
        }
        ports.to_client(client, &out, None);
    }

    /// Somebody else has the name, or it is held for them for a moment.
    fn refuse_taken(&self, client: ClientId, name: &Name, now: Now, ports: &mut impl Ports) {
        let is_present = matches!(self.directory.lookup(name.key()), directory::Lookup::Present(_));
        let held_for_ms = self.directory.held_for_ms(name, now.monotonic_ms).filter(|_| !is_present);
        let text = match held_for_ms {
            Some(held_for_ms) => notice::name_held(name.as_str(), held_for_ms),
            None => notice::name_taken(name.as_str()),
        };
        self.refuse_name(client, &text, Why::Taken, held_for_ms.unwrap_or(0), ports);
    }

    pub(super) fn refuse_name(
        &self,
        client: ClientId,
        reason: &str,
        why: Why,
        retry_after_ms: u64,
        ports: &mut impl Ports,
    ) {
        let Some(state) = self.clients.get(&client) else { return };
        let mut out = Vec::new();
        match state.dialect {
            Dialect::Frames => frames::encode_empty(&mut out, frames::kind::REFUSED),
            Dialect::Lines => lines::encode_notice(&mut out, reason),
            Dialect::Extended => {
                let refusal = extended::RegisterRefused {
                    reason: reason.to_owned(),
                    taken: why != Why::Stopping,
                    why: why.into(),
                    retry_after_ms,
                };
                FromNode::RegisterRefused(refusal).encode(&mut out);
            }
        }
        ports.to_client(client, &out, None);
    }
}
