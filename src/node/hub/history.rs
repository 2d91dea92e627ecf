//! What was said before: shown on joining, on connecting, and when somebody asks.
//!
//! What is to be shown to a client is a queue of entries. It is worked off while there is room, before anything live;
//! what memory does not hold is read from the disk. Rooms and everyone have their latest messages listed in the ledger;
//! what two people said to each other is looked for, from the end of the origins' logs backwards in the order of
//! history, a bounded piece in each turn.

use std::collections::{BTreeMap, VecDeque};

use super::{ClientId, Hub, Now, Ports, claims::entry_id, delivery::Cursor, reading::Reader, voice::Said};
use crate::{
    chat::{EntryId, Person, Registration, message::EVERYONE, name, notice},
    clique::{Chunk, Origin, time::unix_ms},
    wire::{Dialect, entry::read_entry},
};

/// Entries that are looked through for one history between two people; what is older is not found.
const MAX_LOOKED_THROUGH: u64 = 1_000_000;
/// Entries that are asked of the disk at once on the way back.
const STEP_BACK: u64 = 64;

/// Why an entry is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Somebody wants to see what was said.
    History,
    /// It waited for the owner of the name.
    Mail,
}

/// What is to be shown to one client before anything live.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    queue: VecDeque<(EntryId, Reason)>,
    search: Option<Search>,
    /// Read from the disk, of this origin.
    chunk: Option<(Origin, Chunk)>,
    /// The read that is waited for.
    read: Option<(u64, Origin)>,
    /// What was asked for is not on the disk either.
    is_gone: bool,
    has_announced_mail: bool,
}

impl Shelf {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.search.is_none()
    }
}

/// What is known of a stretch of the log.
enum Found {
    Chunk(Chunk),
    Gone,
    Waiting,
}

/// A look for what two people said to each other.
#[derive(Debug)]
struct Search {
    pair: (Registration, Registration),
    wanted: usize,
    found: Vec<EntryId>,
    ways: BTreeMap<Origin, Back>,
    looked_through: u64,
}

/// The way back along one origin's log.
#[derive(Debug)]
struct Back {
    /// The last entry that was not looked at yet; 0 at the end.
    next: u64,
    /// Entries that were looked at and not passed yet, the latest last: their times, and whether they are wanted.
    seen: Vec<(u64, u64, bool)>,
}

impl Search {
    /// Whether an entry is one of the two's.
    fn is_between(&self, bytes: &[u8]) -> Option<(u64, bool)> {
        let (view, _) = read_entry(bytes).ok()?;
        let is_theirs = view.message().is_some_and(|message| {
            let (a, b) = self.pair;
            let (from, to) = (message.sender_registration, message.to.person());
            (from == a && to == Some(b)) || (from == b && to == Some(a))
        });
        Some((view.time, is_theirs))
    }

    /// The origin of which something must be looked at before the next step.
    fn lacks(&self) -> Option<(Origin, u64)> {
        let lacking = self.ways.iter().find(|(_, way)| way.seen.is_empty() && way.next > 0);
        lacking.map(|(origin, way)| (*origin, way.next))
    }

    /// Passes the latest entry of all. Returns whether there may be more.
    fn step(&mut self) -> bool {
        let latest = self.ways.iter().filter_map(|(origin, way)| Some((way.seen.last()?.0, *origin))).max();
        let Some((_, origin)) = latest else { return false };
        self.looked_through += 1;
        if let Some((_, number, true)) = self.ways.get_mut(&origin).and_then(|way| way.seen.pop()) {
            self.found.push(entry_id(origin, number));
        }
        self.found.len() < self.wanted && self.looked_through < MAX_LOOKED_THROUGH
    }
}

impl Hub {
    /// What somebody is shown first: what was said last, then what waits for them.
    pub(super) fn show_first(&mut self, client: ClientId, person: &Person, is_resumed: bool, count: usize) {
        let registration = person.registration;
        let mut queue = VecDeque::new();
        if !is_resumed && count > 0 {
            let rooms = self.ledger.rooms().of(registration).filter_map(|room| self.ledger.rooms().get(room));
            let recents = std::iter::once(self.ledger.public()).chain(rooms.map(|room| room.recent()));
            let mut latest: Vec<(u64, EntryId)> = recents.flat_map(|recents| recents.last(count)).collect();
            latest.sort_unstable();
            let skipped = latest.len().saturating_sub(count);
            queue.extend(latest.into_iter().skip(skipped).map(|(_, id)| (id, Reason::History)));
        }
        if person.is_claimed {
            let mail = self.ledger.mailboxes().unread(registration).into_iter().map(|(_, id)| id);
            let past = self.clients.get(&client).map(|state| &state.past);
            // What is not applied yet comes live. Whoever resumes may have been in the middle of their mail: what waits
            // below their heights is shown now, the rest with what they missed.
            let is_due = |id: &EntryId| {
                let origin = Origin { node: id.node, incarnation: id.incarnation };
                let is_below = || past.is_some_and(|past| past.has_received(origin, id.number));
                id.number <= self.replica.applied().get(origin) && (!is_resumed || is_below())
            };
            queue.extend(mail.filter(is_due).map(|id| (id, Reason::Mail)));
        }
        if queue.is_empty() {
            return;
        }
        // What is live waits its turn behind it.
        let (position, had) = (self.replica.log().next_position(), self.replica.applied().clone());
        if let Some(state) = self.clients.get_mut(&client) {
            if matches!(state.cursor, Cursor::Live) {
                state.cursor = Cursor::At { position, had };
            }
            state.shelf.get_or_insert_default().queue.extend(queue);
            self.replaying.insert(client);
        }
    }

    /// The latest messages of a room, for somebody who has just gone in.
    pub(super) fn show_room(&mut self, client: ClientId, room: &str) {
        let Some(room) = self.ledger.rooms().get(room) else { return };
        let Some(state) = self.clients.get_mut(&client) else { return };
        let count = state.history_shown;
        let ids: Vec<EntryId> = room.recent().last(count).map(|(_, id)| id).collect();
        if !ids.is_empty() {
            state.shelf.get_or_insert_default().queue.extend(ids.into_iter().map(|id| (id, Reason::History)));
            self.replaying.insert(client);
        }
    }

    /// `/history`: what was said to everyone, in a room, or between the asker and somebody.
    pub(super) fn history(&mut self, client: ClientId, with: &str, count: usize, ports: &mut impl Ports) {
        let Some(registration) = self.registration(client) else { return };
        if self.clients.get(&client).is_some_and(|state| state.shelf.as_ref().is_some_and(|shelf| !shelf.is_empty())) {
            return self.tell(client, &notice::history_is_on(), ports);
        }
        let mut shelf = Shelf::default();
        if let Some(room) = with.strip_prefix('#') {
            let Ok(room) = name::room(room) else { return self.tell(client, &notice::no_history(with), ports) };
            if self.ledger.rooms().member_since(&room, registration).is_none() {
                return self.tell(client, &notice::not_in_room(&room), ports);
            }
            let recent = self.ledger.rooms().get(&room).into_iter().flat_map(|room| room.recent().last(count));
            shelf.queue = recent.map(|(_, id)| (id, Reason::History)).collect();
        } else if with == EVERYONE {
            shelf.queue = self.ledger.public().last(count).map(|(_, id)| (id, Reason::History)).collect();
        } else {
            let Some(other) = name::key(with).ok().and_then(|key| self.somebody(&key)) else {
                return self.tell(client, &notice::no_history(with), ports);
            };
            let applied = self.replica.applied().iter();
            let ways = applied.map(|(origin, next)| (origin, Back { next, seen: Vec::new() })).collect();
            let (pair, found) = ((registration, other), Vec::new());
            shelf.search = Some(Search { pair, wanted: count, found, ways, looked_through: 0 });
        }
        if shelf.is_empty() {
            return self.tell(client, &notice::no_history(with), ports);
        }
        if let Some(state) = self.clients.get_mut(&client) {
            state.shelf = Some(Box::new(shelf));
            self.replaying.insert(client);
        }
    }

    /// Who is meant by a name, be they here or not.
    fn somebody(&self, key: &str) -> Option<Registration> {
        use crate::chat::directory::Lookup;
        let owner = self.ledger.owner(key).map(|owner| owner.registration);
        owner.or_else(|| match self.directory.lookup(key) {
            Lookup::Present(person) | Lookup::Away(person) | Lookup::Expected(person) => Some(person.registration),
            Lookup::Unknown => None,
        })
    }

    /// Works off what is to be shown, a bounded piece. Returns whether nothing is left.
    pub(super) fn work_off(&mut self, client: ClientId, max_entries: u64, now: Now, ports: &mut impl Ports) -> bool {
        let Some(mut shelf) = self.clients.get_mut(&client).and_then(|state| state.shelf.take()) else { return true };
        let mut is_waiting = shelf.read.is_some();
        for _ in 0..max_entries {
            if is_waiting || shelf.is_empty() || !ports.client_has_room(client) {
                break;
            }
            is_waiting = match shelf.search.take() {
                Some(search) => !self.search_on(client, &mut shelf, search, ports),
                None => !self.show_next(client, &mut shelf, now, ports),
            };
        }
        let is_done = shelf.is_empty();
        if !is_done && !is_waiting && ports.client_has_room(client) {
            self.replaying.insert(client);
        }
        if let Some(state) = self.clients.get_mut(&client).filter(|_| !is_done) {
            state.shelf = Some(shelf);
        }
        is_done
    }

    /// Shows the next of the queue. Returns `false` if it must be read first.
    fn show_next(&mut self, client: ClientId, shelf: &mut Shelf, now: Now, ports: &mut impl Ports) -> bool {
        let Some((id, reason)) = shelf.queue.front().copied() else { return true };
        let origin = Origin { node: id.node, incarnation: id.incarnation };
        let chunk = match self.find(client, shelf, origin, id.number, id.number, ports) {
            Found::Waiting => return false,
            Found::Gone => None,
            Found::Chunk(chunk) => Some(chunk),
        };
        shelf.queue.pop_front();
        let Some(bytes) = chunk.map(|chunk| chunk.slice(id.number, id.number)) else { return true };
        let Some(state) = self.clients.get(&client) else { return true };
        let (dialect, Some(registration)) = (state.dialect, state.registration()) else { return true };
        let Ok((view, _)) = read_entry(&bytes) else { return true };
        let Some(message) = view.message().copied() else { return true };
        let said = Said { origin, number: id.number, time: view.time, message, is_late: false };
        match reason {
            Reason::History => ports.to_client(client, &said.as_history(dialect), None),
            Reason::Mail => {
                if !std::mem::replace(&mut shelf.has_announced_mail, true) && dialect != Dialect::Extended {
                    self.tell(client, &notice::mail(), ports);
                }
                let mark = said.mark(registration, now, Some(unix_ms(view.time)));
                let mut words = Vec::new();
                said.put(dialect, true, &mut words);
                ports.to_client(client, &words, mark.map(|mark| (words.len(), mark)));
            }
        }
        true
    }

    /// Goes a step back. Returns `false` if something must be read first.
    fn search_on(&mut self, client: ClientId, shelf: &mut Shelf, mut search: Search, ports: &mut impl Ports) -> bool {
        let mut goes_on = true;
        if let Some((origin, last)) = search.lacks() {
            let from = last.saturating_sub(STEP_BACK - 1).max(self.replica.log().first_kept(origin));
            let found = if from > last { Found::Gone } else { self.find(client, shelf, origin, from, last, ports) };
            let way = match found {
                Found::Waiting => {
                    shelf.search = Some(search);
                    return false;
                }
                Found::Gone => Back { next: 0, seen: Vec::new() },
                Found::Chunk(chunk) => {
                    let numbers = chunk.first..=last.min(chunk.last());
                    let seen = numbers.filter_map(|number| {
                        let (time, is_theirs) = search.is_between(&chunk.slice(number, number))?;
                        Some((time, number, is_theirs))
                    });
                    Back { next: chunk.first - 1, seen: seen.collect() }
                }
            };
            search.ways.insert(origin, way);
        } else {
            goes_on = search.step();
        }
        if goes_on {
            shelf.search = Some(search);
        } else {
            if search.found.is_empty() {
                self.tell(client, "nothing was said between you yet", ports);
            }
            shelf.queue.extend(search.found.into_iter().rev().map(|id| (id, Reason::History)));
        }
        true
    }

    /// Entries of one origin, `last` among them and as far back to `from` as is at hand.
    fn find(
        &mut self,
        client: ClientId,
        shelf: &mut Shelf,
        origin: Origin,
        from: u64,
        last: u64,
        ports: &mut impl Ports,
    ) -> Found {
        if let Some(chunk) = self.replica.log().chunk(origin, last) {
            return Found::Chunk(chunk.clone());
        }
        if std::mem::take(&mut shelf.is_gone) || !self.settings.has_store {
            return Found::Gone;
        }
        let next = match &shelf.chunk {
            Some((read, chunk)) if *read == origin && chunk.first <= last && last <= chunk.last() => {
                return Found::Chunk(chunk.clone());
            }
            // Not far enough yet.
            Some((read, chunk)) if *read == origin && chunk.first <= last && from <= chunk.last() => chunk.last() + 1,
            _ => from,
        };
        shelf.read = Some((self.reads.ask(Reader::Shelf(client), origin, next, ports), origin));
        Found::Waiting
    }

    /// The disk has found something for a shelf, or not.
    pub(super) fn shelve(&mut self, client: ClientId, id: u64, chunk: Option<Chunk>) {
        let Some(shelf) = self.clients.get_mut(&client).and_then(|state| state.shelf.as_mut()) else { return };
        let Some((_, origin)) = shelf.read.take_if(|(asked, _)| *asked == id) else { return };
        shelf.is_gone = chunk.is_none();
        shelf.chunk = chunk.map(|chunk| (origin, chunk));
        self.replaying.insert(client);
    }
}
