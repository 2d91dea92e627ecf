//! What links are owed: presence, outcomes, entries, heights, heartbeats.

use bytes::{Bytes, BytesMut};

use super::{
    Hub, Now, Ports,
    outcomes::Owed,
    reading::{READ_RETRY_MS, Reader},
};
use crate::{
    chat::Person,
    clique::{Chunk, LinkId, Log, Origin},
    wire::peer::{Entries, PeerFrame},
};

/// Small chunks are joined up to this size where several wait.
const MAX_FRAME_BYTES: usize = 64 * 1024;
/// Entries that nobody at a node waits for go there within this time, or once they have come to `MAX_FRAME_BYTES`: so most
/// of what a clique says costs most of its nodes a few large frames.
pub(super) const HOLD_BACK_MS: u64 = 5;
/// Entries after which heights are acknowledged at once.
const ACKNOWLEDGE_ENTRIES: u64 = 4_096;

/// What a peer wants of one origin.
#[derive(Debug)]
pub(super) struct Feed {
    /// The next entry to send.
    pub(super) next: u64,
    /// The read that it waits for, where memory does not hold it.
    pub(super) read: Option<u64>,
    /// After a read that found nothing, the next is not before this.
    pub(super) retry_ms: u64,
}

impl From<u64> for Feed {
    fn from(next: u64) -> Self {
        Self { next, read: None, retry_ms: 0 }
    }
}

/// What was gathered for one link: most often the next one wants the same.
#[derive(Default)]
struct Gathered(Option<(Origin, u64, Bytes, u64)>);

impl Gathered {
    fn from(&mut self, log: &Log, origin: Origin, next: u64) -> Option<(Bytes, u64)> {
        if let Some((_, _, bytes, last)) = self.0.as_ref().filter(|known| (known.0, known.1) == (origin, next)) {
            return Some((bytes.clone(), *last));
        }
        let (bytes, last) = gather(log, origin, next)?;
        self.0 = Some((origin, next, bytes.clone(), last));
        Some((bytes, last))
    }
}

impl Hub {
    /// Everything that links are owed: presence, outcomes, entries, heights, heartbeats; and the end of dead ones.
    pub(super) fn pump_links(&mut self, now: Now, ports: &mut impl Ports) {
        self.tell_report(now, ports);
        let timing = self.settings.timing;
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        let mut gathered = Gathered::default();
        for link in links {
            let silent_ms = self.links.get(&link).map_or(0, |state| now.monotonic_ms.saturating_sub(state.heard_ms));
            if silent_ms >= timing.dead_after_ms {
                ports.close_link(link, &format!("nothing was heard from the peer for {silent_ms} ms"));
                self.link_closed(link, now, ports);
                continue;
            }
            self.flush_news(link, ports);
            self.feed(link, &mut gathered, now, ports);
            self.heartbeat(link, now, ports);
        }
    }

    fn flush_news(&mut self, link: LinkId, ports: &mut impl Ports) {
        let Some(state) = self.links.get_mut(&link) else { return };
        // In this order somebody who left and came back under one registration is there in the end; one who came and
        // left within a turn must not stay.
        let (left, quit) = (std::mem::take(&mut state.left), std::mem::take(&mut state.quit));
        let joined: Vec<Person> = std::mem::take(&mut state.joined)
            .into_iter()
            .filter(|person| self.directory.is_said_by(person.node, person.registration))
            .collect();
        if !joined.is_empty() || !left.is_empty() || !quit.is_empty() {
            ports.to_link(link, PeerFrame::Presence { joined, left, quit });
        }
        if let Some((batch, outcomes)) = self.owed_outcomes.get_mut(&state.node).and_then(Owed::next_batch) {
            ports.to_link(link, PeerFrame::Outcomes { batch, outcomes });
        }
    }

    /// Whether the entries accepted here that a peer lacks are better sent later, with others.
    fn holds_back(&mut self, link: LinkId, now: Now) -> bool {
        let me = self.settings.origin;
        let Some(state) = self.links.get_mut(&link) else { return false };
        let Some(feed) = state.feeds.get(&me) else { return false };
        let log = self.replica.log();
        let is_little = feed.next >= log.first(me) && log.bytes_from(me, feed.next, MAX_FRAME_BYTES) < MAX_FRAME_BYTES;
        if feed.next > log.height(me) || state.is_awaited || !is_little || self.is_stopping {
            (state.is_awaited, state.held_back_since_ms) = (false, None);
            return false;
        }
        let since = *state.held_back_since_ms.get_or_insert(now.monotonic_ms);
        let is_over = now.monotonic_ms >= since + HOLD_BACK_MS;
        if is_over {
            state.held_back_since_ms = None;
        }
        !is_over
    }

    /// Sends entries that the peer wants, as long as there is room.
    fn feed(&mut self, link: LinkId, gathered: &mut Gathered, now: Now, ports: &mut impl Ports) {
        let (me, holds_back) = (self.settings.origin, self.holds_back(link, now));
        let Some(state) = self.links.get_mut(&link) else { return };
        let time = self.replica.clock().last();
        let outcomes_taken = self.outcomes_taken.get(&state.origin).copied().unwrap_or(0);
        let log = self.replica.log();
        for (origin, feed) in state.feeds.iter_mut().filter(|(origin, _)| !(holds_back && **origin == me)) {
            while feed.next <= log.height(*origin) && ports.link_has_room(link) {
                if feed.next < log.first_kept(*origin) {
                    // What the peer wants next is not here any more. It hears so before it gets what follows: else it
                    // could not tell this from the late rest of a former request.
                    feed.next = log.first_kept(*origin);
                    let held = vec![log.held_of(*origin)];
                    ports.to_link(link, PeerFrame::Heartbeat { held, time, outcomes_taken });
                }
                if feed.next < log.first(*origin) {
                    if feed.read.is_none() && now.monotonic_ms >= feed.retry_ms {
                        let reader = Reader::Link { link, origin: *origin };
                        feed.read = Some(self.reads.ask(reader, *origin, feed.next, ports));
                    }
                    break;
                }
                let Some((bytes, last)) = gathered.from(log, *origin, feed.next) else { break };
                let sent_unix_us = if self.settings.is_tracing { now.unix_us } else { 0 };
                let entries = Entries { origin: *origin, first: feed.next, sent_unix_us, bytes };
                ports.to_link(link, PeerFrame::Entries(entries));
                feed.next = last + 1;
            }
        }
    }

    /// What a peer wants has come from the disk.
    pub(super) fn feed_read(
        &mut self,
        (link, origin): (LinkId, Origin),
        id: u64,
        chunk: Option<Chunk>,
        now: Now,
        ports: &mut impl Ports,
    ) {
        let feed = self.links.get_mut(&link).and_then(|state| state.feeds.get_mut(&origin));
        let Some(feed) = feed.filter(|feed| feed.read == Some(id)) else { return };
        feed.read = None;
        let next = feed.next;
        let Some(chunk) = chunk.filter(|chunk| chunk.first <= next && next <= chunk.last()) else {
            feed.retry_ms = now.monotonic_ms + READ_RETRY_MS;
            return;
        };
        let sent_unix_us = if self.settings.is_tracing { now.unix_us } else { 0 };
        feed.next = chunk.last() + 1;
        let bytes = chunk.slice(next, chunk.last());
        ports.to_link(link, PeerFrame::Entries(Entries { origin, first: next, sent_unix_us, bytes }));
    }

    fn heartbeat(&mut self, link: LinkId, now: Now, ports: &mut impl Ports) {
        let timing = self.settings.timing;
        let Some(state) = self.links.get_mut(&link) else { return };
        // Only where entries come from is their arrival waited for; the others hear of it with the next heartbeat, which
        // comes early when a link is lost.
        if self.replica.has_changed(link, state.origin) && state.acknowledge_since_ms.is_none() {
            state.acknowledge_since_ms = Some(now.monotonic_ms);
        }
        let is_due = now.monotonic_ms >= state.heartbeat_sent_ms + timing.heartbeat_ms;
        let is_acknowledgement_due = state.unacknowledged >= ACKNOWLEDGE_ENTRIES
            || state.acknowledge_since_ms.is_some_and(|since| now.monotonic_ms >= since + timing.acknowledge_ms);
        if is_due || is_acknowledgement_due {
            state.heartbeat_sent_ms = now.monotonic_ms;
            state.acknowledge_since_ms = None;
            state.unacknowledged = 0;
            let held = self.replica.take_changes(link);
            let outcomes_taken = self.outcomes_taken.get(&state.origin).copied().unwrap_or(0);
            ports.to_link(link, PeerFrame::Heartbeat { held, time: self.replica.clock().last(), outcomes_taken });
        }
    }
}

/// Entries from `next` on, as one piece of bytes, and the number of the last: one chunk as it is, or several small ones.
pub(super) fn gather(log: &Log, origin: Origin, next: u64) -> Option<(Bytes, u64)> {
    let chunk = log.chunk(origin, next)?;
    let mut last = chunk.last();
    let bytes = chunk.slice(next, last);
    let joins = |last: u64, size: usize| {
        log.chunk(origin, last + 1).filter(|following| size + following.bytes.len() <= MAX_FRAME_BYTES)
    };
    if joins(last, bytes.len()).is_none() {
        return Some((bytes, last));
    }
    let mut joined = BytesMut::from(&bytes[..]);
    while let Some(following) = joins(last, joined.len()) {
        joined.extend_from_slice(&following.bytes);
        last = following.last();
    }
    Some((joined.freeze(), last))
}
