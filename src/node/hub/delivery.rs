//! Delivery: entries that are applied go to those of their addressees who are connected here; readers who are behind
//! are fed from the log.

use std::sync::Arc;

use super::{ClientId, Hub, MAX_REPLAY_ENTRIES_PER_TURN, Mailbox, Mark, Now, Ports, clients::Resume, voice::Rendered};
use crate::{
    chat::{Addressee, Message, Person, Registration, notice},
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
    /// Behind: the next to be shown is at this position.
    At { position: u64 },
}

/// What somebody had on former connections. It counts for as long as they are connected: entries from then may come
/// to this node only later.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    /// Entries that they have had.
    received: Arc<Heights>,
    /// A former holder of their name, on a node that went away without a goodbye: that one's messages are theirs, but
    /// for what that node is known to have had.
    former: Option<(Registration, Arc<Heights>)>,
    /// Before this position they are shown what they have missed; from there on what is new.
    replay_until: u64,
    /// It is still to be said that what follows is not live.
    is_unannounced: bool,
    /// Entries since then that had been dropped from the log before they came; still to be said.
    dropped: u64,
}

impl Past {
    pub(super) fn former(&self) -> Option<Registration> {
        self.former.as_ref().map(|(registration, _)| *registration)
    }

    /// The former holder of the name has come back.
    pub(super) fn end_succession(&mut self) {
        self.former = None;
    }

    /// Whether an entry is for somebody with this past.
    fn wants(&self, registration: Registration, origin: Origin, number: u64, time: u64, message: &Message<'_>) -> bool {
        let is_theirs = self.is_formers(message) || is_for(registration, time, message);
        is_theirs && !self.has_had(origin, number, message)
    }

    fn is_formers(&self, message: &Message<'_>) -> bool {
        message.to.person().is_some_and(|to| Some(to) == self.former())
    }

    fn has_had(&self, origin: Origin, number: u64, message: &Message<'_>) -> bool {
        let heights = match &self.former {
            Some((_, received)) if self.is_formers(message) => received,
            _ => &self.received,
        };
        number <= heights.get(origin)
    }
}

/// Whether a connected person is an addressee: by name, or as one of everybody who was there when it was said.
fn is_for(registration: Registration, time: u64, message: &Message<'_>) -> bool {
    match message.to {
        Addressee::Person(_, to) | Addressee::Owner(_, to) => to == registration,
        Addressee::Everyone => message.sender_registration != registration && time > registration.time,
        Addressee::Room(_) => false,
    }
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
            if let Body::Message(message) = view.body {
                self.deliver_message(place, Rendered::new(origin, place.1, view.time, message), now, ports);
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
                match self.by_registration.get(&to).or_else(|| self.successors.get(&to)).copied() {
                    Some(client) => self.push_live(client, to, position, &mut rendered, now, ports),
                    None => self.note_gone(origin, number, to),
                }
            }
            Addressee::Everyone => {
                let readers: Vec<(Registration, ClientId)> = self
                    .by_registration
                    .iter()
                    .filter(|(registration, _)| is_for(**registration, rendered.time(), &message))
                    .map(|(registration, client)| (*registration, *client))
                    .collect();
                for (registration, client) in readers {
                    self.push_live(client, registration, position, &mut rendered, now, ports);
                }
            }
            Addressee::Room(_) => {}
        }
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
        if !matches!(state.cursor, Cursor::Live) || state.past.has_had(origin, number, message) {
            return;
        }
        if !ports.client_has_room(client) {
            state.cursor = Cursor::At { position };
            return;
        }
        let mark = rendered.mark(registration, now, None);
        ports.to_client(client, rendered.for_dialect(state.dialect, false), mark);
    }

    /// If the addressee was on this node and has left for good, the sender is told.
    fn note_gone(&mut self, origin: Origin, number: u64, to: Registration) {
        if self.ended.contains(&to) {
            self.report(Outcome { origin, number, delivered: 0, gone: true });
        }
    }

    /// Decides where in the log somebody who is being admitted begins.
    pub(super) fn place_cursor(&mut self, client: ClientId, person: &Person, resume: Option<Resume>, is_resumed: bool) {
        let end = self.replica.log().next_position();
        let received = resume.map(|resume| Arc::new(resume.received)).unwrap_or_default();
        let (past, had) = if is_resumed {
            let dropped = self.dropped_since(&received);
            (Past { received: received.clone(), replay_until: end, dropped, ..Past::default() }, received)
        } else if let Some(mailbox) = self.mailboxes.remove(person.name.key())
            && mailbox.registration != person.registration
        {
            let Mailbox { registration, received: had } = mailbox;
            self.successors.insert(registration, client);
            let dropped = self.dropped_since(&had);
            let former = Some((registration, had.clone()));
            (Past { received, former, replay_until: end, is_unannounced: true, dropped }, had)
        } else {
            // Nothing is to be shown again. But this node may get some of what they have had only now.
            (Past { received: received.clone(), ..Past::default() }, received)
        };
        if let Some(state) = self.clients.get_mut(&client) {
            if past.replay_until > 0 || past.dropped > 0 {
                self.replaying.insert(client);
                state.cursor = Cursor::At { position: self.replica.log().position_beyond(&had) };
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
            self.report(Outcome { origin, number, delivered: 0, gone: true });
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
        let Some(state) = self.clients.get_mut(&client) else { return };
        let Some(registration) = state.registration() else { return };
        let dialect = state.dialect;
        let Cursor::At { position } = std::mem::replace(&mut state.cursor, Cursor::Live) else { return };
        let dropped = std::mem::take(&mut state.past.dropped);
        let mut past = state.past.clone();
        let missed = std::mem::take(&mut state.missed);
        if missed > 0 {
            self.tell(client, &notice::missed(missed), ports);
        }
        if dropped > 0 {
            self.tell(client, &notice::dropped_meanwhile(dropped), ports);
        }
        let stop = end.min(position + max_entries);
        let mut next = position;
        let mut is_full = false;
        for (origin, number, position, bytes) in self.scan(position, stop) {
            if !ports.client_has_room(client) {
                (next, is_full) = (position, true);
                break;
            }
            next = position + 1;
            let Ok((view, _)) = read_entry(&bytes) else { continue };
            let (time, Some(message)) = (view.time, view.message().copied()) else { continue };
            if past.wants(registration, origin, number, time, &message) {
                let is_replay = position < past.replay_until;
                // The extended dialect marks each message.
                if is_replay && std::mem::take(&mut past.is_unannounced) && dialect != Dialect::Extended {
                    self.tell(client, &notice::replaying(), ports);
                }
                let mut rendered = Rendered::new(origin, number, time, message);
                let mark = rendered.mark(registration, now, Some(unix_ms(time)));
                ports.to_client(client, rendered.for_dialect(dialect, is_replay), mark);
            }
        }
        if !is_full {
            // What the scan passed over was dropped from the log.
            next = next.max(stop);
        }
        if let Some(state) = self.clients.get_mut(&client) {
            state.past.is_unannounced = past.is_unannounced;
            if next < end {
                state.cursor = Cursor::At { position: next };
            }
        }
        if next < end && !is_full {
            self.replaying.insert(client);
        }
    }

    /// Keeps the log within its bound, and counts for readers who are behind what they have missed by it.
    pub(super) fn evict(&mut self, ports: &mut impl Ports) {
        while let Some((gone, chunk)) = self.replica.evict() {
            let behind: Vec<(ClientId, u64)> = self
                .clients
                .iter()
                .filter_map(|(client, state)| match &state.cursor {
                    Cursor::At { position } if *position < gone.position + gone.count => Some((*client, *position)),
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
                        let message = view.message();
                        message.is_some_and(|m| state.past.wants(registration, gone.origin, number, view.time, m))
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
    fn mark(&self, recipient: Registration, now: Now, replayed_from_unix_ms: Option<u64>) -> Option<Mark> {
        let (origin, number, message) = self.identity();
        let Message { to, receipts, trace, .. } = *message;
        let is_direct = to.person().is_some();
        (is_direct || receipts || trace.is_some()).then_some(Mark {
            origin,
            number,
            recipient,
            is_direct,
            wants_receipt: receipts,
            trace,
            queued_unix_us: now.unix_us,
            replayed_from_unix_ms,
        })
    }
}
