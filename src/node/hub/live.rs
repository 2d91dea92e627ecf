//! Live delivery: entries that are applied go to those of their addressees who are connected here.
//!
//! Messages of a run that follow each other and are for the same people are handed over as one *streak*: their readers are
//! looked up once, each dialect's words are made once, and each reader's output takes all of it at once.

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

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
        entry::{Body, EntryReader, EntryView, Walk, Whom},
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
    /// Whose they are: each who is not the one before.
    senders: SmallVec<[Registration; 2]>,
    text_bytes: usize,
}

/// A streak in the words of one dialect.
struct Words {
    bytes: Bytes,
    /// Where each message ends.
    ends: Vec<usize>,
    /// Where each message ends that has a mark, if not all have one.
    marked_ends: Option<Vec<usize>>,
}

impl Words {
    fn of(streak: &Streak<'_>, dialect: Dialect) -> Self {
        let (mut bytes, mut ends) = (Vec::with_capacity(streak.text_bytes * 3 / 2), Vec::new());
        ends.reserve(streak.messages.len());
        for (_, said) in &streak.messages {
            said.put(dialect, false, &mut bytes);
            ends.push(bytes.len());
        }
        let is_marked = || streak.messages.iter().map(|(_, said)| said.has_mark());
        let marked_ends = (!is_marked().all(|is_marked| is_marked))
            .then(|| ends.iter().zip(is_marked()).filter_map(|(end, is_marked)| is_marked.then_some(*end)).collect());
        Self { bytes: bytes.into(), ends, marked_ends }
    }

    fn marked_ends(&self) -> &[usize] {
        self.marked_ends.as_ref().unwrap_or(&self.ends)
    }

    fn message(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(self.bytes.len());
        &self.bytes[start..end]
    }
}

/// What readers of a streak get, made once for all of them.
#[derive(Default)]
struct Wording {
    /// For each dialect, made when the first reader wants them.
    words: [Option<Words>; 3],
    /// Those of the first reader; those of the others differ in the recipient.
    marks: Option<SmallVec<[Mark; 1]>>,
}

impl Wording {
    fn of(&mut self, streak: &Streak<'_>, dialect: Dialect) -> &Words {
        let place = match dialect {
            Dialect::Frames => 0,
            Dialect::Lines => 1,
            Dialect::Extended => 2,
        };
        self.words[place].get_or_insert_with(|| Words::of(streak, dialect))
    }

    fn marks(&mut self, streak: &Streak<'_>, recipient: Registration, now: Now) -> impl Iterator<Item = Mark> + use<> {
        let marks = self.marks.get_or_insert_with(|| streak.marks(recipient, now)).clone();
        marks.into_iter().map(move |mark| Mark { recipient, ..mark })
    }
}

impl<'a> Streak<'a> {
    fn new(position: u64, said: Said<'a>) -> Self {
        let Message { to, sender_registration, text, .. } = said.message;
        let senders = smallvec![sender_registration];
        Self { to, messages: vec![(position, said)], senders, text_bytes: text.len() }
    }

    fn takes(&self, said: &Said<'_>) -> bool {
        self.to == said.message.to && self.text_bytes < MAX_STREAK_BYTES
    }

    fn push(&mut self, position: u64, said: Said<'a>) {
        self.text_bytes += said.message.text.len();
        if self.senders.last() != Some(&said.message.sender_registration) {
            self.senders.push(said.message.sender_registration);
        }
        self.messages.push((position, said));
    }

    /// What is to be reported of it for one reader.
    fn marks(&self, recipient: Registration, now: Now) -> SmallVec<[Mark; 1]> {
        let mut marks: SmallVec<[Mark; 1]> = SmallVec::new();
        for mark in self.messages.iter().filter_map(|(_, said)| said.mark(recipient, now, None)) {
            if !marks.last_mut().is_some_and(|last| last.take_next(&mark)) {
                marks.push(mark);
            }
        }
        marks
    }

    /// Whether all of it is for somebody, and new to them, without looking at each message.
    fn is_all_for(&self, registration: Registration, past: &Past) -> bool {
        let Some((_, first)) = self.messages.first() else { return false };
        let was_here = match self.to {
            Addressee::Person(..) | Addressee::Owner(..) => true,
            Addressee::Everyone => first.time > past.since && !self.senders.contains(&registration),
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
        let mut reader = EntryReader::default();
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
            let Ok(EntryView { time, body }) = reader.read(bytes) else { continue };
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
        let is_all_theirs = streak.is_all_for(registration, &state.past);
        let marks = is_all_theirs.then(|| wording.marks(streak, registration, now));
        let words = wording.of(streak, state.dialect);
        if let Some(marks) = marks
            && ports.client_room_bytes(client) >= words.bytes.len()
        {
            return ports.share_with_client(client, &words.bytes, words.marked_ends(), marks);
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
    /// Whether something is to be reported once it is written to somebody's socket; not for most broadcasts.
    fn has_mark(&self) -> bool {
        let Message { to, receipts, trace, .. } = &self.message;
        to.person().is_some() || *receipts || trace.is_some()
    }

    /// What is to be reported once the message is written to somebody's socket.
    pub(super) fn mark(&self, recipient: Registration, now: Now, replayed_from_unix_ms: Option<u64>) -> Option<Mark> {
        let Message { to, receipts, trace, .. } = self.message;
        let is_direct = to.person().is_some();
        self.has_mark().then_some(Mark {
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
