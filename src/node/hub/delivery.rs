//! Delivery: entries that are applied go to those of their addressees who are connected here; readers who are behind
//! are fed from the log.

use std::sync::Arc;

use super::{ClientId, Hub, MAX_REPLAY_ENTRIES_PER_TURN, Mailbox, Mark, Now, Ports, clients::Resume, voice::Rendered};
use crate::{
    chat::{Addressee, Message, Person, Registration, notice},
    clique::{Heights, Origin, Run, time},
    wire::{
        Dialect,
        entry::{EntryView, read_entry},
        peer::Outcome,
    },
};

/// Where a reader is in the log.
#[derive(Debug)]
pub(super) enum Cursor {
    /// At the end: entries go out as they are applied.
    Live,
    /// Behind: the next to be shown is at this position.
    At { position: u64, filter: Filter },
}

/// What a reader who is behind is to be shown.
#[derive(Debug, Clone)]
pub(super) enum Filter {
    /// All that is for them.
    Everything,
    /// What they had not received when they were connected before.
    Resumed { received: Arc<Heights> },
    /// Before position `until`, what was sent to a former holder of the name on a node that went away without a
    /// goodbye, as far as that node is not known to have had it; from there on everything.
    Reconnected { former: Registration, received: Arc<Heights>, until: u64, is_announced: bool },
}

impl Filter {
    /// Whether it is still to be said that what follows is not live.
    fn announce(&mut self) -> bool {
        match self {
            Self::Reconnected { is_announced, .. } => !std::mem::replace(is_announced, true),
            Self::Everything | Self::Resumed { .. } => false,
        }
    }
}

/// A reader, as far as the choice of entries goes.
struct Reader<'a> {
    registration: Registration,
    filter: &'a Filter,
}

impl Reader<'_> {
    fn wants(&self, origin: Origin, number: u64, position: u64, view: &EntryView<'_>) -> bool {
        match self.filter {
            Filter::Resumed { received } if number <= received.get(origin) => false,
            Filter::Reconnected { former, received, until, .. } if position < *until => {
                matches!(view.message.to, Addressee::Person(_, to) if to == *former) && number > received.get(origin)
            }
            _ => is_for(self.registration, view),
        }
    }

    fn is_replay(&self, position: u64) -> bool {
        match self.filter {
            Filter::Everything => false,
            Filter::Resumed { .. } => true,
            Filter::Reconnected { until, .. } => position < *until,
        }
    }
}

/// Whether a connected person is an addressee: by name, or as one of everybody who was there when it was said.
fn is_for(registration: Registration, view: &EntryView<'_>) -> bool {
    match view.message.to {
        Addressee::Person(_, to) => to == registration,
        Addressee::Everyone => view.message.sender_registration != registration && view.time > registration.time,
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
            self.deliver_entry(origin, place, view, now, ports);
            bytes = &bytes[length..];
            place = (place.0 + 1, place.1 + 1);
        }
    }

    fn deliver_entry(
        &mut self,
        origin: Origin,
        (position, number): (u64, u64),
        view: EntryView<'_>,
        now: Now,
        ports: &mut impl Ports,
    ) {
        let mut rendered = Rendered::new(origin, number, view);
        match view.message.to {
            Addressee::Person(_, to) => match self.by_registration.get(&to).copied() {
                Some(client) => self.push_live(client, to, position, &mut rendered, now, ports),
                None => self.note_gone(origin, number, to),
            },
            Addressee::Everyone => {
                let readers: Vec<(Registration, ClientId)> = self
                    .by_registration
                    .iter()
                    .filter(|(registration, _)| is_for(**registration, &view))
                    .map(|(registration, client)| (*registration, *client))
                    .collect();
                for (registration, client) in readers {
                    self.push_live(client, registration, position, &mut rendered, now, ports);
                }
            }
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
        if !matches!(state.cursor, Cursor::Live) {
            return;
        }
        if !ports.client_has_room(client) {
            state.cursor = Cursor::At { position, filter: Filter::Everything };
            ports.tell_when_drained(client);
            return;
        }
        let mark = rendered.mark(registration, now, None);
        ports.to_client(client, rendered.for_dialect(state.dialect, false), mark);
    }

    /// If the addressee was last on this node and has left, the sender is told.
    fn note_gone(&mut self, origin: Origin, number: u64, to: Registration) {
        // Not of a former life of this node: what it delivered is not known any more.
        let was_here = to.node == self.node() && time::unix_ms(to.time) >= self.settings.started_unix_ms;
        if was_here && self.directory.person(to).is_none() && !self.directory.may_resume(to) {
            self.report(Outcome { origin, number, delivered: 0, gone: true });
        }
    }

    /// Decides where in the log somebody who is being admitted begins.
    pub(super) fn place_cursor(&mut self, client: ClientId, person: &Person, resume: Option<Resume>) {
        let end = self.replica.log().next_position();
        let cursor = if let Some(resume) = resume {
            Cursor::At { position: 0, filter: Filter::Resumed { received: Arc::new(resume.received) } }
        } else if let Some(mailbox) = self.mailboxes.remove(person.name.key())
            && mailbox.registration != person.registration
        {
            let Mailbox { registration: former, received } = mailbox;
            let filter = Filter::Reconnected { former, received, until: end, is_announced: false };
            Cursor::At { position: 0, filter }
        } else {
            Cursor::Live
        };
        if let Some(state) = self.clients.get_mut(&client) {
            if matches!(cursor, Cursor::At { .. }) {
                self.replaying.insert(client);
            }
            state.cursor = cursor;
        }
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

    /// Feeds readers who are behind and have room, each a bounded piece.
    pub(super) fn replay(&mut self, now: Now, ports: &mut impl Ports) {
        for client in std::mem::take(&mut self.replaying) {
            self.replay_to(client, now, ports);
        }
    }

    fn replay_to(&mut self, client: ClientId, now: Now, ports: &mut impl Ports) {
        let end = self.replica.log().next_position();
        let Some(state) = self.clients.get_mut(&client) else { return };
        let Some(registration) = state.registration() else { return };
        let dialect = state.dialect;
        let Cursor::At { position, mut filter } = std::mem::replace(&mut state.cursor, Cursor::Live) else { return };
        let missed = std::mem::take(&mut state.missed);
        if missed > 0 {
            self.tell(client, &notice::missed(missed), ports);
        }
        let stop = end.min(position + MAX_REPLAY_ENTRIES_PER_TURN);
        let mut next = position;
        let mut is_full = false;
        for (origin, number, position, bytes) in self.scan(position, stop) {
            if !ports.client_has_room(client) {
                (next, is_full) = (position, true);
                break;
            }
            next = position + 1;
            let Ok((view, _)) = read_entry(&bytes) else { continue };
            let reader = Reader { registration, filter: &filter };
            if reader.wants(origin, number, position, &view) {
                let is_replay = reader.is_replay(position);
                // Other dialects mark each message.
                if is_replay && dialect != Dialect::Extended && filter.announce() {
                    self.tell(client, &notice::replaying(), ports);
                }
                let mut rendered = Rendered::new(origin, number, view);
                let mark = rendered.mark(registration, now, Some(time::unix_ms(view.time)));
                ports.to_client(client, rendered.for_dialect(dialect, is_replay), mark);
            }
        }
        if !is_full {
            // What the scan passed over was dropped from the log.
            next = next.max(stop);
        }
        if next < end {
            if let Some(state) = self.clients.get_mut(&client) {
                state.cursor = Cursor::At { position: next, filter };
            }
            if is_full {
                ports.tell_when_drained(client);
            } else {
                self.replaying.insert(client);
            }
        }
    }

    /// Keeps the log within its bound, and counts for readers who are behind what they have missed by it.
    pub(super) fn evict(&mut self, ports: &mut impl Ports) {
        while let Some((gone, chunk)) = self.replica.evict() {
            let behind: Vec<(ClientId, u64, Filter)> = self
                .clients
                .iter()
                .filter_map(|(client, state)| match &state.cursor {
                    Cursor::At { position, filter } if *position < gone.position + gone.count => {
                        Some((*client, *position, filter.clone()))
                    }
                    _ => None,
                })
                .collect();
            for (client, cursor, filter) in behind {
                let Some(state) = self.clients.get_mut(&client) else { continue };
                let Some(registration) = state.registration() else { continue };
                let reader = Reader { registration, filter: &filter };
                let from = cursor.max(gone.position);
                for position in from..gone.position + gone.count {
                    let number = gone.first + (position - gone.position);
                    let entry = chunk.slice(number, number);
                    let wanted =
                        read_entry(&entry).is_ok_and(|(view, _)| reader.wants(gone.origin, number, position, &view));
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
        let is_direct = matches!(to, Addressee::Person(..));
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
