//! What links are owed: presence, outcomes, entries, heights, heartbeats.

use bytes::{Bytes, BytesMut};

use super::{Hub, Now, Ports, outcomes::Owed};
use crate::{
    chat::Person,
    clique::{Held, LinkId, Log, Origin},
    wire::peer::{Entries, PeerFrame},
};

/// Small chunks are joined up to this size where several wait.
const MAX_FRAME_BYTES: usize = 64 * 1024;
/// Entries after which heights are acknowledged at once.
const ACKNOWLEDGE_ENTRIES: u64 = 4_096;

impl Hub {
    /// Everything that links are owed: presence, outcomes, entries, heights, heartbeats; and the end of dead ones.
    pub(super) fn pump_links(&mut self, now: Now, ports: &mut impl Ports) {
        self.tell_report(now, ports);
        let timing = self.settings.timing;
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            let silent_ms = self.links.get(&link).map_or(0, |state| now.monotonic_ms.saturating_sub(state.heard_ms));
            if silent_ms >= timing.dead_after_ms {
                ports.close_link(link, &format!("nothing was heard from the peer for {silent_ms} ms"));
                self.link_closed(link, now, ports);
                continue;
            }
            self.flush_news(link, ports);
            self.feed(link, now, ports);
            self.heartbeat(link, now, ports);
        }
    }

    fn flush_news(&mut self, link: LinkId, ports: &mut impl Ports) {
        let Some(state) = self.links.get_mut(&link) else { return };
        // In this order somebody who left and came back under one registration is there in the end; one who came and
        // left within a turn must not stay.
        let left = std::mem::take(&mut state.left);
        let joined: Vec<Person> = std::mem::take(&mut state.joined)
            .into_iter()
            .filter(|person| self.directory.person(person.registration).is_some_and(|now| now.node == person.node))
            .collect();
        if !joined.is_empty() || !left.is_empty() {
            ports.to_link(link, PeerFrame::Presence { joined, left });
        }
        if let Some((batch, outcomes)) = self.owed_outcomes.get_mut(&state.node).and_then(Owed::next_batch) {
            ports.to_link(link, PeerFrame::Outcomes { batch, outcomes });
        }
    }

    /// Sends entries that the peer wants, as long as there is room.
    fn feed(&mut self, link: LinkId, now: Now, ports: &mut impl Ports) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let time = self.replica.clock().last();
        let outcomes_taken = self.outcomes_taken.get(&state.origin).copied().unwrap_or(0);
        let log = self.replica.log();
        for (origin, next) in &mut state.feeds {
            while *next <= log.height(*origin) && ports.link_has_room(link) {
                if *next < log.first(*origin) {
                    // What the peer wants next is not here any more. It hears so before it gets what follows: else it
                    // could not tell this from the late rest of a former request.
                    *next = log.first(*origin);
                    let held = vec![Held { origin: *origin, first: *next, height: log.height(*origin) }];
                    ports.to_link(link, PeerFrame::Heartbeat { held, time, outcomes_taken });
                }
                let Some((bytes, last)) = gather(log, *origin, *next) else { break };
                let sent_unix_us = if self.settings.is_tracing { now.unix_us } else { 0 };
                let entries = Entries { origin: *origin, first: *next, sent_unix_us, bytes };
                ports.to_link(link, PeerFrame::Entries(entries));
                *next = last + 1;
            }
        }
    }

    fn heartbeat(&mut self, link: LinkId, now: Now, ports: &mut impl Ports) {
        let timing = self.settings.timing;
        let has_changes = self.replica.has_changes(link);
        let Some(state) = self.links.get_mut(&link) else { return };
        if has_changes && state.acknowledge_since_ms.is_none() {
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
fn gather(log: &Log, origin: Origin, next: u64) -> Option<(Bytes, u64)> {
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
