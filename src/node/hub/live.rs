//! Live delivery: entries that are applied go to those of their addressees who are connected here.
//!
//! Messages of a run that follow each other and are for the same people are handed over as one *streak*: their readers are
//! looked up once, each dialect's words are made once, and each reader's output takes all of it at once.

use smallvec::SmallVec;

use super::{
    ClientId, Hub, Mark, Now, Ports,
    claims::entry_id,
    delivery::Cursor,
    past::{Past, is_for},
    voice::Said,
};
use crate::{
    chat::{Addressee, Message, Registration, ledger::Room},
    clique::{Heights, Origin, Run},
    wire::{
        Dialect,
        entry::{Body, EntryView, Walk, Whom, read_entry},
        peer::Outcome,
    },
};

/// A streak ends at the latest when its texts have come to this many bytes.
const MAX_STREAK_BYTES: usize = 32 * 1024;

/// Messages of one origin for the same people, in their order.
struct Streak<'a> {
    to: Addressee<'a>,
    /// Each with its position in the order of application.
    messages: Vec<(u64, Said<'a>)>,
    text_bytes: usize,
}

/// A streak in the words of one dialect: each message ends at its mark.
#[derive(Default)]
struct Words {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Words {
    fn of(streak: &Streak<'_>, dialect: Dialect) -> Self {
        let mut words = Self::default();
        for (_, said) in &streak.messages {
            said.put(dialect, false, &mut words.bytes);
            words.ends.push(words.bytes.len());
        }
        words
    }

    fn message(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(self.bytes.len());
        &self.bytes[start..end]
    }
}

/// The words of a streak, each made when the first reader wants them.
#[derive(Default)]
struct Wording([Option<Words>; 3]);

impl Wording {
    fn of(&mut self, streak: &Streak<'_>, dialect: Dialect) -> &Words {
        let place = match dialect {
            Dialect::Frames => 0,
            Dialect::Lines => 1,
            Dialect::Extended => 2,
        };
        self.0[place].get_or_insert_with(|| Words::of(streak, dialect))
    }
}

impl<'a> Streak<'a> {
    fn new(position: u64, said: Said<'a>) -> Self {
        let text_bytes = said.message.text.len();
        Self { to: said.message.to, messages: vec![(position, said)], text_bytes }
    }

    fn takes(&self, said: &Said<'_>) -> bool {
        self.to == said.message.to && self.text_bytes < MAX_STREAK_BYTES
    }

    fn push(&mut self, position: u64, said: Said<'a>) {
        self.text_bytes += said.message.text.len();
        self.messages.push((position, said));
    }

    /// Whether all of it is for somebody, and new to them, without looking at each message.
    fn is_all_for(&self, registration: Registration, past: &Past) -> bool {
        let Some((_, first)) = self.messages.first() else { return false };
        let is_said_by = |(_, said): &(u64, Said<'_>)| said.message.sender_registration == registration;
        let was_here = match self.to {
            Addressee::Person(..) | Addressee::Owner(..) => true,
            Addressee::Everyone => first.time > past.since && !self.messages.iter().any(is_said_by),
            // Their time in the room differs from message to message.
            Addressee::Room(_) => false,
        };
        was_here && past.is_before(first.origin, first.number)
    }
}

impl Hub {
    /// Hands entries to those of their addressees who are connected here.
    pub(super) fn deliver(&mut self, run: &Run, now: Now, ports: &mut impl Ports) {
        let origin = run.applied.origin;
        let (mut streak, mut nobody_here): (Option<Streak<'_>>, _) = (None, None);
        for (index, (whom, bytes)) in (0..).zip(Walk::new(&run.chunk.bytes)) {
            match whom {
                Whom::Person(to) if nobody_here == Some(to) => continue,
                Whom::Person(to) if !self.concerns(to) => {
                    nobody_here = Some(to);
                    continue;
                }
                Whom::Person(_) | Whom::Anybody => {}
            }
            let (position, number) = (run.applied.position + index, run.applied.first + index);
            // Entries are checked when they come in.
            let Ok((EntryView { time, body }, _)) = read_entry(bytes) else { continue };
            match body {
                Body::Message(message) => {
                    self.ledger.take_message(entry_id(origin, number), time, &message);
                    let said = Said { origin, number, time, message, is_late: self.splits.is_late(origin, number) };
                    if let Some(streak) = streak.as_mut().filter(|streak| streak.takes(&said)) {
                        streak.push(position, said);
                    } else if let Some(streak) = streak.replace(Streak::new(position, said)) {
                        self.hand_to_readers(&streak, now, ports);
                    }
                }
                Body::Change(change) => {
                    if let Some(streak) = streak.take() {
                        self.hand_to_readers(&streak, now, ports);
                    }
                    self.apply_change((origin, number), time, &change, ports);
                }
                Body::Unknown => {}
            }
        }
        if let Some(streak) = streak {
            self.hand_to_readers(&streak, now, ports);
        }
    }

    /// Whether something for one person is to be looked at here: they are connected, succeeded by somebody, or gone.
    fn concerns(&self, to: Registration) -> bool {
        self.by_registration.contains_key(&to) || self.successors.contains_key(&to) || self.ended.contains(&to)
    }

    fn hand_to_readers(&mut self, streak: &Streak<'_>, now: Now, ports: &mut impl Ports) {
        let readers: SmallVec<[(Registration, ClientId); 4]> = match streak.to {
            Addressee::Person(_, to) | Addressee::Owner(_, to) => {
                let here = self.by_registration.get(&to).map(SmallVec::as_slice).unwrap_or_default();
                let successor = self.successors.get(&to).filter(|_| here.is_empty());
                here.iter().chain(successor).map(|client| (to, *client)).collect()
            }
            Addressee::Everyone => {
                let readers = self.clients.iter().filter_map(|(client, state)| Some((state.registration()?, *client)));
                readers.collect()
            }
            Addressee::Room(room) => self.members_in(room).collect(),
        };
        let mut wording = Wording::default();
        for (registration, client) in &readers {
            self.push_live(*client, *registration, streak, &mut wording, now, ports);
        }
        if let (true, Addressee::Person(_, to) | Addressee::Owner(_, to)) = (readers.is_empty(), streak.to) {
            self.note_gone(streak, to);
        }
    }

    /// The connections here of those who are in a room.
    fn members_in(&self, room: &str) -> impl Iterator<Item = (Registration, ClientId)> + '_ {
        let members = self.ledger.rooms().get(room).into_iter().flat_map(Room::members);
        members
            .filter_map(|(registration, _)| Some((registration, self.by_registration.get(&registration)?)))
            .flat_map(|(registration, clients)| clients.iter().map(move |client| (registration, *client)))
    }

    fn push_live(
        &mut self,
        client: ClientId,
        registration: Registration,
        streak: &Streak<'_>,
        wording: &mut Wording,
        now: Now,
        ports: &mut impl Ports,
    ) {
        let Some(state) = self.clients.get(&client) else { return };
        if !matches!(state.cursor, Cursor::Live) {
            return;
        }
        let words = wording.of(streak, state.dialect);
        if streak.is_all_for(registration, &state.past) && ports.client_room_bytes(client) >= words.bytes.len() {
            let marks = words.ends.iter().zip(&streak.messages);
            let marks = marks.filter_map(|(end, (_, said))| Some((*end, said.mark(registration, now, None)?)));
            return ports.to_client(client, &words.bytes, marks);
        }
        let is_to_person = streak.to.person().is_some();
        for (index, (position, said)) in streak.messages.iter().enumerate() {
            let Said { origin, number, time, message, .. } = said;
            let is_theirs = is_to_person || is_for(registration, state.past.since, self.ledger.rooms(), *time, message);
            if !is_theirs || state.past.has_had(&self.ledger, *origin, *number, message) {
                continue;
            }
            if ports.client_room_bytes(client) == 0 {
                return self.fall_behind(client, *origin, *number, *position);
            }
            let bytes = words.message(index);
            ports.to_client(client, bytes, said.mark(registration, now, None).map(|mark| (bytes.len(), mark)));
        }
    }

    /// A reader's output is full: from this entry on they are fed from the log.
    fn fall_behind(&mut self, client: ClientId, origin: Origin, number: u64, position: u64) {
        let had = match self.settings.has_store {
            true => self.replica.applied().before(origin, number),
            false => Heights::default(),
        };
        if let Some(state) = self.clients.get_mut(&client) {
            state.cursor = Cursor::At { position, had };
        }
    }

    /// If the addressee was on this node and has left for good, the sender is told.
    fn note_gone(&mut self, streak: &Streak<'_>, to: Registration) {
        if self.ended.contains(&to) {
            for (_, said) in &streak.messages {
                self.report(Outcome::gone(said.origin, said.number));
            }
        }
    }
}

impl Said<'_> {
    /// What is to be reported once the message is written to somebody's socket; nothing for most broadcasts.
    pub(super) fn mark(&self, recipient: Registration, now: Now, replayed_from_unix_ms: Option<u64>) -> Option<Mark> {
        let Message { to, receipts, trace, .. } = self.message;
        let is_direct = to.person().is_some();
        (is_direct || receipts || trace.is_some()).then_some(Mark {
            origin: self.origin,
            number: self.number,
            count: 1,
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
