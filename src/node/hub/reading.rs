//! Reading older entries from the disk: for peers, and for readers who are behind what memory holds.
//!
//! A reader who is behind memory goes through the origins' logs in the order of history, (time, origin, number), from
//! the heights they have had, until memory covers the rest.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    ClientId, Cursor, Hub, Now, Ports, ToStore,
    delivery::{Shown, Words},
};
use crate::{
    chat::notice,
    clique::{Chunk, Heights, LinkId, Log, Origin},
    wire::entry::read_entry,
};

/// Asked of the disk at a time.
const MAX_READ_BYTES: usize = 64 * 1024;
/// After a read that found nothing, in milliseconds.
pub(super) const READ_RETRY_MS: u64 = 200;
/// Readers who are fed from the disk at a time, each with at most `MAX_READ_BYTES` per origin; others wait their turn.
const MAX_GOING_THROUGH: usize = 64;

/// Who waits for a read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reader {
    Link {
        link: LinkId,
        origin: Origin,
    },
    /// A peer that repairs what is damaged there.
    Range {
        link: LinkId,
    },
    Client(ClientId),
    /// Somebody who is shown what was said before.
    Shelf(ClientId),
}

/// Reads that have not been answered yet. Everybody has at most one per origin.
#[derive(Debug, Default)]
pub(super) struct Reads {
    last: u64,
    open: BTreeMap<u64, Reader>,
}

impl Reads {
    pub(super) fn ask(&mut self, reader: Reader, origin: Origin, from: u64, ports: &mut impl Ports) -> u64 {
        self.last += 1;
        self.open.insert(self.last, reader);
        ports.to_store(ToStore::Read { id: self.last, origin, from, max_bytes: MAX_READ_BYTES });
        self.last
    }
}

/// The next entry of one origin.
#[derive(Debug)]
struct Head {
    chunk: Chunk,
    number: u64,
    time: u64,
}

impl Head {
    fn at(chunk: Chunk, number: u64) -> Option<Self> {
        let is_within = chunk.first <= number && number <= chunk.last();
        let time = read_entry(&chunk.slice(number, number)).ok().filter(|_| is_within)?.0.time;
        Some(Self { chunk, number, time })
    }
}

/// Somebody's way through the logs.
#[derive(Debug)]
pub(super) struct Way {
    /// What was gone through, of each origin.
    had: Heights,
    heads: BTreeMap<Origin, Head>,
    read: Option<(u64, Origin, u64)>,
    retry_ms: u64,
    /// Whether it is shown as what was missed on a former connection.
    pub(super) is_replay: bool,
}

/// What comes next on somebody's way.
enum Step {
    Show(Origin, u64, Bytes),
    Read(Origin, u64),
    /// So many entries are gone before they were shown.
    Gone(u64),
    /// The rest is in memory.
    Over,
}

impl Way {
    pub(super) fn after(had: Heights, is_replay: bool) -> Self {
        Self { had, heads: BTreeMap::new(), read: None, retry_ms: 0, is_replay }
    }

    pub(super) fn had(&self) -> &Heights {
        &self.had
    }

    fn next(&mut self, log: &Log) -> Step {
        if log.covers_beyond(&self.had) {
            return Step::Over;
        }
        for origin in log.origins() {
            let (next, kept) = (self.had.get(origin) + 1, log.first_kept(origin));
            if next < kept {
                self.had.raise(origin, kept - 1);
                return Step::Gone(kept - next);
            }
            if next > log.applied(origin) {
                self.heads.remove(&origin);
            } else if self.heads.get(&origin).is_none_or(|head| head.number != next) {
                // Most often the entry after the last one, in the same chunk.
                let former = self.heads.remove(&origin).map(|head| head.chunk);
                let chunk = former.filter(|chunk| chunk.last() >= next).or_else(|| log.chunk(origin, next).cloned());
                let Some(head) = chunk.and_then(|chunk| Head::at(chunk, next)) else { return Step::Read(origin, next) };
                self.heads.insert(origin, head);
            }
        }
        let first = self.heads.iter().min_by_key(|(origin, head)| (head.time, **origin));
        match first {
            Some((origin, head)) => Step::Show(*origin, head.number, head.chunk.slice(head.number, head.number)),
            None => Step::Over,
        }
    }
}

impl Hub {
    /// Takes what the disk has found.
    pub(super) fn read(&mut self, id: u64, chunk: Option<Chunk>, now: Now, ports: &mut impl Ports) {
        match self.reads.open.remove(&id) {
            Some(Reader::Link { link, origin }) => self.feed_read((link, origin), id, chunk, now, ports),
            Some(Reader::Range { link }) => self.range_read(link, id, chunk, ports),
            Some(Reader::Client(client)) => {
                let Some(state) = self.clients.get_mut(&client) else { return };
                let Cursor::Behind(way) = &mut state.cursor else { return };
                let Some((_, origin, from)) = way.read.filter(|(asked, ..)| *asked == id) else { return };
                way.read = None;
                match chunk.and_then(|chunk| Head::at(chunk, from)) {
                    Some(head) => {
                        way.heads.insert(origin, head);
                        self.replaying.insert(client);
                    }
                    None => {
                        way.retry_ms = now.monotonic_ms + READ_RETRY_MS;
                        self.rereading.insert(client);
                    }
                }
            }
            Some(Reader::Shelf(client)) => self.shelve(client, id, chunk),
            None => {}
        }
    }

    /// Those whose reads found nothing try again.
    pub(super) fn reread(&mut self, now: Now) {
        let clients = &self.clients;
        let replaying = &mut self.replaying;
        self.rereading.retain(|client| {
            let is_early = clients.get(client).is_some_and(|state| match &state.cursor {
                Cursor::Behind(way) => way.retry_ms > now.monotonic_ms,
                _ => false,
            });
            if !is_early {
                replaying.insert(*client);
            }
            is_early
        });
    }

    /// Leads somebody on along the logs, a bounded piece.
    pub(super) fn go_through(&mut self, client: ClientId, max_entries: u64, now: Now, ports: &mut impl Ports) {
        let has_place = self.going_through.contains(&client) || self.going_through.len() < MAX_GOING_THROUGH;
        let Some(state) = self.clients.get_mut(&client) else { return };
        let Some(registration) = state.registration() else { return };
        let Cursor::Behind(way) = &mut state.cursor else { return };
        if way.read.is_some() {
            return;
        }
        if !has_place {
            way.retry_ms = now.monotonic_ms + READ_RETRY_MS;
            self.rereading.insert(client);
            return;
        }
        self.going_through.insert(client);
        let mut way = std::mem::replace(way, Box::new(Way::after(Heights::default(), false)));
        let mut shown = Shown { client, registration, past: state.past.clone(), is_replay: way.is_replay };
        let (mut cursor, mut words) = (None, Words::default());
        for _ in 0..max_entries {
            if !ports.client_has_room(client) {
                break;
            }
            match way.next(self.replica.log()) {
                Step::Show(origin, number, bytes) => {
                    way.had.raise(origin, number);
                    self.show(&mut shown, (origin, number), &bytes, now, &mut words);
                    words.flush(client, ports);
                }
                Step::Gone(count) => self.tell(client, &notice::dropped_meanwhile(count), ports),
                Step::Read(origin, from) => {
                    let id = self.reads.ask(Reader::Client(client), origin, from, ports);
                    way.read = Some((id, origin, from));
                    break;
                }
                Step::Over => {
                    let position = self.replica.log().position_beyond(&way.had);
                    shown.past.gone_through(&way.had);
                    cursor = Some(Cursor::At { position, had: way.had.clone() });
                    self.going_through.remove(&client);
                    break;
                }
            }
        }
        let is_waiting = way.read.is_some() || !ports.client_has_room(client);
        if let Some(state) = self.clients.get_mut(&client) {
            state.past = shown.past;
            state.cursor = cursor.unwrap_or(Cursor::Behind(way));
        }
        if !is_waiting {
            self.replaying.insert(client);
        }
    }
}
