//! Readers who are behind are fed from the log; where everybody is in it.

use std::{ops::ControlFlow, sync::Arc};

use super::{
    ClientId, Hub, MAX_REPLAY_ENTRIES_PER_TURN, Mailbox, Mark, Now, Ports,
    inputs::Resume,
    past::Past,
    reading::Way,
    voice::{Said, said},
};
use crate::{
    chat::{Person, Registration, notice},
    clique::{Heights, Origin, time::unix_ms},
    wire::{
        Dialect,
        entry::{Walk, Whom, read_entry},
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

/// What somebody is shown, in their words, before it is handed to their output.
#[derive(Default)]
pub(super) struct Words {
    pub(super) bytes: Vec<u8>,
    /// What to report, and at which byte it is written.
    pub(super) marks: Vec<(usize, Mark)>,
}

impl Words {
    /// Hands them over; nothing is left.
    pub(super) fn flush(&mut self, client: ClientId, ports: &mut impl Ports) {
        if !self.bytes.is_empty() {
            ports.to_client(client, &self.bytes, self.marks.drain(..));
            self.bytes.clear();
        }
    }
}

impl Hub {
    /// Decides where in the log somebody who is being admitted begins.
    pub(super) fn place_cursor(&mut self, client: ClientId, person: &Person, resume: Option<Resume>, is_resumed: bool) {
        // Who goes on where the log is still empty goes on all the same: 0 would say that there is nothing to go on with.
        let end = self.replica.log().next_position().max(1);
        let formers: Vec<Registration> = resume.iter().flat_map(Resume::registrations).collect();
        let began = formers.first().map_or(0, |first| first.time);
        let is_unheard = resume.is_none() && person.goes_on();
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
        } else if is_unheard {
            // Their connection broke before they had heard that they are registered, so they have had nothing; what was sent
            // to them since then waits. That is not long ago: it is in memory.
            let received = Arc::new(self.replica.log().heights_before_memory());
            (Past { received: received.clone(), replay_until: end, ..Past::default() }, received)
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
            // Without a disk, who had to begin anew did not go on with what was before.
            _ if !self.settings.has_store => past.since.max(person.registration.time),
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

    /// Goes through the entries applied from one position up to another, until told to stop: for each its origin, number
    /// and position, for whom it is, and its bytes.
    fn scan(&self, from: u64, until: u64, mut look: impl FnMut((Origin, u64, u64), Whom, &[u8]) -> ControlFlow<()>) {
        let mut position = from;
        while position < until
            && let Some((piece, bytes)) = self.replica.log().piece_at(position)
        {
            let places = (piece.first..piece.first + piece.count).zip(piece.position..until);
            for ((number, position), (whom, entry)) in places.zip(Walk::new(&bytes)) {
                if look((piece.origin, number, position), whom, entry).is_break() {
                    return;
                }
            }
            position = piece.position + piece.count;
        }
    }

    /// What somebody who has left for good had not been shown yet: senders are told that it will not be.
    pub(super) fn report_left_behind(&mut self, registration: Registration, position: u64) {
        let end = self.replica.log().next_position();
        let mut left_behind = Vec::new();
        self.scan(position.max(end.saturating_sub(MAX_LEFT_BEHIND)), end, |(origin, number, _), whom, bytes| {
            let is_theirs = match whom {
                Whom::Person(to) => to == registration,
                Whom::Anybody => {
                    let read = read_entry(bytes);
                    read.is_ok_and(|(view, _)| {
                        view.message().and_then(|message| message.to.person()) == Some(registration)
                    })
                }
            };
            if is_theirs {
                left_behind.push((origin, number));
            }
            ControlFlow::Continue(())
        });
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
        let mut room_bytes = ports.client_room_bytes(client);
        let (mut next, mut is_full, mut last) = (position, false, None);
        let mut words = Words::default();
        self.scan(position, stop, |(origin, number, position), whom, bytes| {
            if words.bytes.len() >= room_bytes {
                // Asked again with all of it there, so that it is told when there is room.
                words.flush(client, ports);
                room_bytes = ports.client_room_bytes(client);
                if room_bytes == 0 {
                    (next, is_full) = (position, true);
                    return ControlFlow::Break(());
                }
            }
            next = position + 1;
            if let Some((former, height)) = last.replace((origin, number)).filter(|(former, _)| *former != origin) {
                had.raise(former, height);
            }
            let is_for_another = match whom {
                Whom::Person(to) => to != registration && !shown.past.succeeded().any(|former| former == to),
                Whom::Anybody => false,
            };
            if !is_for_another {
                shown.is_replay = position < shown.past.replay_until;
                self.show(&mut shown, (origin, number), bytes, now, &mut words);
            }
            ControlFlow::Continue(())
        });
        words.flush(client, ports);
        if let Some((origin, number)) = last.filter(|_| self.settings.has_store) {
            had.raise(origin, number);
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

    /// Puts an entry of the log into somebody's words, if it is for them.
    pub(super) fn show(
        &self,
        to: &mut Shown,
        (origin, number): (Origin, u64),
        bytes: &[u8],
        now: Now,
        words: &mut Words,
    ) {
        let Some(state) = self.clients.get(&to.client) else { return };
        let Ok((view, _)) = read_entry(bytes) else { return };
        let (time, Some(message)) = (view.time, view.message().copied()) else { return };
        if !to.past.wants(to.registration, &self.ledger, (origin, number, time), &message) {
            return;
        }
        // The extended dialect marks each message.
        if to.is_replay && std::mem::take(&mut to.past.is_unannounced) && state.dialect != Dialect::Extended {
            words.bytes.extend(said(state, &notice::replaying()));
        }
        let is_late = self.splits.is_late(origin, number);
        let said = Said { origin, number, time, message, is_late };
        said.put(state.dialect, to.is_replay, &mut words.bytes);
        let mark = said.mark(to.registration, now, Some(unix_ms(time)));
        words.marks.extend(mark.map(|mark| (words.bytes.len(), mark)));
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
