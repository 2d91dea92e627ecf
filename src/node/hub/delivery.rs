//! Delivery: entries that are applied go to those of their addressees who are connected here; readers who are behind
//! are fed from the log.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    ClientId, Hub, MAX_REPLAY_ENTRIES_PER_TURN, Mailbox, Mark, Now, Ports,
    claims::entry_id,
    clients::{Client, Resume},
    past::{Past, is_for},
    reading::Way,
    voice::Rendered,
};
use crate::{
    chat::{Addressee, Message, Person, Registration, ledger::Room, notice},
    clique::{Heights, Origin, Run, time::unix_ms},
    wire::{
        Dialect,
        entry::{Body, read_entry},
        peer::Outcome,
    },
};

/// Entries that a slow reader is shown in a turn at least.
const MIN_REPLAY_ENTRIES: u64 = 16;
/// Entries that are looked through for somebody who leaves without having had everything.
const MAX_LEFT_BEHIND: u64 = 100_000;

/// Where a reader is in the log.
#[derive(Debug)]
pub(super) enum Cursor {
    /// At the end: entries go out as they are applied.
    Live,
    /// Behind: the next to be shown is at this position, and up to these heights all was. (Without a disk they are not
    /// counted: what memory does not hold any more is gone.)
    At { position: u64, had: Heights },
    /// Behind what memory holds: on the way through what is on the disk.
    Behind(Box<Way>),
}

/// To whom something is shown from the log.
pub(super) struct Shown {
    pub(super) client: ClientId,
    pub(super) registration: Registration,
    pub(super) past: Past,
    pub(super) is_replay: bool,
}

impl Hub {
    /// Hands entries to those of their addressees who are connected here.
    pub(super) fn deliver(&mut self, run: &Run, now: Now, ports: &mut impl Ports) {
        let origin = run.applied.origin;
        let mut bytes = &run.chunk.bytes[..];
        let mut place = (run.applied.position, run.applied.first);
        while !bytes.is_empty() {
            // Entries are checked when they come in, so this cannot fail; if it did, the rest could not be read either.
            let Ok((view, length)) = read_entry(bytes) else { return };
            match view.body {
                Body::Message(message) => {
                    self.ledger.take_message(entry_id(origin, place.1), view.time, &message);
                    let is_late = self.splits.is_late(origin, place.1);
                    let rendered = Rendered::new(origin, place.1, view.time, message).late(is_late);
                    self.deliver_message(place, rendered, now, ports);
                }
                Body::Change(change) => self.apply_change((origin, place.1), view.time, &change, ports),
                Body::Unknown => {}
            }
            bytes = &bytes[length..];
            place = (place.0 + 1, place.1 + 1);
        }
    }

    fn deliver_message(
        &mut self,
        (position, number): (u64, u64),
        mut rendered: Rendered<'_>,
        now: Now,
        ports: &mut impl Ports,
    ) {
        let (origin, _, message) = rendered.identity();
        let message = *message;
        match message.to {
            Addressee::Person(_, to) | Addressee::Owner(_, to) => {
                match self.by_registration.get(&to).map(SmallVec::as_slice) {
                    Some([client]) => self.push_live(*client, to, position, &mut rendered, now, ports),
                    Some(clients) => {
                        let devices: SmallVec<[ClientId; 4]> = clients.iter().copied().collect();
                        for client in devices {
                            self.push_live(client, to, position, &mut rendered, now, ports);
                        }
                    }
                    None => match self.successors.get(&to).copied() {
                        Some(client) => self.push_live(client, to, position, &mut rendered, now, ports),
                        None => self.note_gone(origin, number, to),
                    },
                }
            }
            Addressee::Everyone => {
                let is_reader = |(client, state): (&ClientId, &Client)| {
                    let registration = state.registration()?;
                    is_for(registration, state.past.since, self.ledger.rooms(), rendered.time(), &message)
                        .then_some((registration, *client))
                };
                let readers: Vec<(Registration, ClientId)> = self.clients.iter().filter_map(is_reader).collect();
                for (registration, client) in readers {
                    self.push_live(client, registration, position, &mut rendered, now, ports);
                }
            }
            Addressee::Room(room) => {
                for (registration, client) in self.readers_in(room, rendered.time(), &message) {
                    self.push_live(client, registration, position, &mut rendered, now, ports);
                }
            }
        }
    }

    /// The connections here of those who were in a room when something was said there.
    fn readers_in(&self, room: &str, time: u64, message: &Message<'_>) -> Vec<(Registration, ClientId)> {
        let members = self.ledger.rooms().get(room).into_iter().flat_map(Room::members);
        members
            .filter_map(|(registration, _)| Some((registration, self.by_registration.get(&registration)?)))
            .flat_map(|(registration, clients)| clients.iter().map(move |client| (registration, *client)))
            .filter(|(registration, client)| {
                let since = self.clients.get(client).map_or(u64::MAX, |state| state.past.since);
                is_for(*registration, since, self.ledger.rooms(), time, message)
            })
            .collect()
    }

    fn push_live(
        &mut self,
        client: ClientId,
        registration: Registration,
        position: u64,
        rendered: &mut Rendered<'_>,
        now: Now,
        ports: &mut impl Ports,
    ) {
        let Some(state) = self.clients.get_mut(&client) else { return };
        let (origin, number, message) = rendered.identity();
        if !matches!(state.cursor, Cursor::Live) || state.past.has_had(&self.ledger, origin, number, message) {
            return;
        }
        if !ports.client_has_room(client) {
            let had = match self.settings.has_store {
                true => self.replica.applied().before(origin, number),
                false => Heights::default(),
            };
            state.cursor = Cursor::At { position, had };
            return;
        }
        let mark = rendered.mark(registration, now, None);
        ports.to_client(client, rendered.for_dialect(state.dialect, false), mark);
    }

    /// If the addressee was on this node and has left for good, the sender is told.
    fn note_gone(&mut self, origin: Origin, number: u64, to: Registration) {
        if self.ended.contains(&to) {
            self.report(Outcome::gone(origin, number));
        }
    }

    /// Decides where in the log somebody who is being admitted begins.
    pub(super) fn place_cursor(&mut self, client: ClientId, person: &Person, resume: Option<Resume>, is_resumed: bool) {
        let end = self.replica.log().next_position();
        let formers: Vec<Registration> = resume.iter().flat_map(Resume::registrations).collect();
        let began = formers.first().map_or(0, |first| first.time);
        let is_forgotten = resume.as_ref().is_some_and(|resume| resume.registration.is_some());
        let received = resume.map(|resume| Arc::new(resume.received)).unwrap_or_default();
        let (past, had) = if is_resumed {
            let dropped = self.dropped_since(&received);
            let mail_shown_to = person.is_claimed.then(|| self.replica.applied().clone());
            let received_too = received.clone();
            (Past { received: received_too, replay_until: end, dropped, mail_shown_to, ..Past::default() }, received)
        } else if person.is_claimed {
            // What waits is known by the ledger.
            (Past { since: person.attached, ..Past::default() }, received)
        } else if let Some(mailbox) = self.mailboxes.remove(person.name.key())
            && mailbox.registration != person.registration
        {
            let Mailbox { registration, received: had } = mailbox;
            self.successors.insert(registration, client);
            let dropped = self.dropped_since(&had);
            let former = Some((registration, had.clone()));
            (Past { received, former, replay_until: end, is_unannounced: true, dropped, ..Past::default() }, had)
        } else if is_forgotten && self.settings.has_store {
            // All nodes that knew them were restarted, and nothing was sent to them alone, or the log that says so has not
            // come yet. What was said to everyone since then is theirs.
            let dropped = self.dropped_since(&received);
            let past = Past { received: received.clone(), replay_until: end, dropped, ..Past::default() };
            (past, received)
        } else {
            // Nothing is to be shown again. But this node may get some of what they have had only now.
            (Past { received: received.clone(), ..Past::default() }, received)
        };
        let since = match past.replay_until {
            0 => past.since.max(person.registration.time),
            // The clocks are behind what they were: times of then do not tell what was said since.
            _ if began > person.registration.time => 0,
            _ if began > 0 => began,
            _ => past.since.max(person.registration.time),
        };
        let formers = formers.into_iter().filter(|former| *former != person.registration).collect();
        let past = Past { since, formers, ..past };
        if let Some(state) = self.clients.get_mut(&client) {
            if past.replay_until > 0 || past.dropped > 0 {
                self.replaying.insert(client);
                let (log, mut had) = (self.replica.log(), (*had).clone());
                // Of what is not kept any more the count is said.
                log.held().for_each(|held| had.raise(held.origin, held.first - 1));
                state.cursor = match self.settings.has_store && !log.covers_beyond(&had) {
                    true => Cursor::Behind(Box::new(Way::after(had, true))),
                    false => Cursor::At { position: log.position_beyond(&had), had },
                };
            }
            state.past = past;
        }
    }

    /// How many entries beyond these heights this node has dropped from its log.
    fn dropped_since(&self, received: &Heights) -> u64 {
        self.replica.log().held().map(|held| (held.first - 1).saturating_sub(received.get(held.origin))).sum()
    }

    /// Entries applied from one position up to another.
    fn scan(&self, from: u64, until: u64) -> impl Iterator<Item = (Origin, u64, u64, bytes::Bytes)> + '_ {
        let mut position = from;
        std::iter::from_fn(move || {
            while position < until {
                let run = self.replica.log().applied_at(position)?;
                position = run.position + 1;
                if let Some(bytes) = self.replica.log().entry(run.origin, run.first) {
                    return Some((run.origin, run.first, run.position, bytes));
                }
            }
            None
        })
    }

    /// What somebody who has left for good had not been shown yet: senders are told that it will not be.
    pub(super) fn report_left_behind(&mut self, registration: Registration, position: u64) {
        let end = self.replica.log().next_position();
        let left_behind: Vec<(Origin, u64)> = self
            .scan(position.max(end.saturating_sub(MAX_LEFT_BEHIND)), end)
            .filter(|(_, _, _, bytes)| {
                let read = read_entry(bytes);
                read.is_ok_and(|(view, _)| view.message().and_then(|message| message.to.person()) == Some(registration))
            })
            .map(|(origin, number, ..)| (origin, number))
            .collect();
        for (origin, number) in left_behind {
            self.report(Outcome::gone(origin, number));
        }
    }

    /// Feeds readers who are behind and have room, each a bounded piece.
    pub(super) fn replay(&mut self, now: Now, ports: &mut impl Ports) {
        let replaying = std::mem::take(&mut self.replaying);
        // All together cost a turn no more than one would, so that thousands who resume at once hold up nobody.
        let share = (MAX_REPLAY_ENTRIES_PER_TURN / replaying.len().max(1) as u64).max(MIN_REPLAY_ENTRIES);
        for client in replaying {
            self.replay_to(client, share, now, ports);
        }
    }

    fn replay_to(&mut self, client: ClientId, max_entries: u64, now: Now, ports: &mut impl Ports) {
        let end = self.replica.log().next_position();
        let oldest = self.replica.log().oldest_position();
        let Some(state) = self.clients.get_mut(&client) else { return };
        let Some(registration) = state.registration() else { return };
        // Before anything live or missed comes what was said before.
        if state.shelf.is_some() && !self.work_off(client, max_entries, now, ports) {
            return;
        }
        let Some(state) = self.clients.get_mut(&client) else { return };
        let dropped = std::mem::take(&mut state.past.dropped);
        let missed = std::mem::take(&mut state.missed);
        if missed > 0 {
            self.tell(client, &notice::missed(missed), ports);
        }
        if dropped > 0 {
            self.tell(client, &notice::dropped_meanwhile(dropped), ports);
        }
        let Some(state) = self.clients.get_mut(&client) else { return };
        let (position, mut had) = match std::mem::replace(&mut state.cursor, Cursor::Live) {
            Cursor::Live => return,
            Cursor::At { position, had } if position >= oldest || !self.settings.has_store => (position, had),
            behind => {
                state.cursor = match behind {
                    Cursor::At { position, had } => {
                        Cursor::Behind(Box::new(Way::after(had, position < state.past.replay_until)))
                    }
                    other => other,
                };
                return self.go_through(client, max_entries, now, ports);
            }
        };
        let mut shown = Shown { client, registration, past: state.past.clone(), is_replay: false };
        let stop = end.min(position + max_entries);
        let mut next = position;
        let mut is_full = false;
        for (origin, number, position, bytes) in self.scan(position, stop) {
            if !ports.client_has_room(client) {
                (next, is_full) = (position, true);
                break;
            }
            next = position + 1;
            if self.settings.has_store {
                had.raise(origin, number);
            }
            shown.is_replay = position < shown.past.replay_until;
            self.show(&mut shown, (origin, number), &bytes, now, ports);
        }
        if !is_full {
            // What the scan passed over was dropped from the log.
            next = next.max(stop);
        }
        if let Some(state) = self.clients.get_mut(&client) {
            state.past.is_unannounced = shown.past.is_unannounced;
            if next < end {
                state.cursor = Cursor::At { position: next, had };
            }
        }
        if next < end && !is_full {
            self.replaying.insert(client);
        }
    }

    /// Shows somebody an entry of the log, if it is for them.
    pub(super) fn show(
        &self,
        to: &mut Shown,
        (origin, number): (Origin, u64),
        bytes: &[u8],
        now: Now,
        ports: &mut impl Ports,
    ) {
        let Some(dialect) = self.clients.get(&to.client).map(|state| state.dialect) else { return };
        let Ok((view, _)) = read_entry(bytes) else { return };
        let (time, Some(message)) = (view.time, view.message().copied()) else { return };
        if !to.past.wants(to.registration, &self.ledger, (origin, number, time), &message) {
            return;
        }
        // The extended dialect marks each message.
        if to.is_replay && std::mem::take(&mut to.past.is_unannounced) && dialect != Dialect::Extended {
            self.tell(to.client, &notice::replaying(), ports);
        }
        let is_late = self.splits.is_late(origin, number);
        let mut rendered = Rendered::new(origin, number, time, message).late(is_late);
        let mark = rendered.mark(to.registration, now, Some(unix_ms(time)));
        ports.to_client(to.client, rendered.for_dialect(dialect, to.is_replay), mark);
    }

    /// Keeps the log within its bound, and counts for readers who are behind what they have missed by it.
    pub(super) fn evict(&mut self, ports: &mut impl Ports) {
        while let Some((gone, chunk)) = self.replica.evict() {
            if self.settings.has_store {
                // It can be read from the disk.
                continue;
            }
            let behind: Vec<(ClientId, u64)> = self
                .clients
                .iter()
                .filter_map(|(client, state)| match &state.cursor {
                    Cursor::At { position, .. } if *position < gone.position + gone.count => Some((*client, *position)),
                    _ => None,
                })
                .collect();
            for (client, cursor) in behind {
                let Some(state) = self.clients.get_mut(&client) else { continue };
                let Some(registration) = state.registration() else { continue };
                let from = cursor.max(gone.position);
                for position in from..gone.position + gone.count {
                    let number = gone.first + (position - gone.position);
                    let entry = chunk.slice(number, number);
                    let wanted = read_entry(&entry).is_ok_and(|(view, _)| {
                        let (entry, ledger) = ((gone.origin, number, view.time), &self.ledger);
                        view.message().is_some_and(|message| state.past.wants(registration, ledger, entry, message))
                    });
                    state.missed += u64::from(wanted);
                }
                if state.missed > 0 && ports.client_has_room(client) {
                    self.replaying.insert(client);
                }
            }
        }
    }
}

impl Rendered<'_> {
    /// What is to be reported once the message is written to somebody's socket; nothing for most broadcasts.
    pub(super) fn mark(&self, recipient: Registration, now: Now, replayed_from_unix_ms: Option<u64>) -> Option<Mark> {
        let (origin, number, message) = self.identity();
        let Message { to, receipts, trace, .. } = *message;
        let is_direct = to.person().is_some();
        (is_direct || receipts || trace.is_some()).then_some(Mark {
            origin,
            number,
            recipient,
            is_direct,
            is_mail: matches!(to, Addressee::Owner(..)),
            wants_receipt: receipts,
            trace,
            queued_unix_us: now.unix_us,
            replayed_from_unix_ms,
        })
    }
}
