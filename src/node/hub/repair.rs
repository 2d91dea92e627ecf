//! What is damaged on the disk, or contradicts a node that has the better claim, is got again from a peer; and what peers ask
//! for to repair theirs.

use super::{FromStore, Hub, Now, Ports, claims::entry_id, feeding::gather, reading::Reader};
use crate::{
    chat::notice,
    clique::{Chunk, LinkId, Origin, Repaired, Stretch, TakenOver},
    wire::{
        entry::{Body, EntryView, entries, read_chunk},
        peer::{Entries, PeerFrame},
    },
};

impl Hub {
    /// Takes what the disk has to say.
    pub fn from_store(&mut self, input: FromStore, now: Now, ports: &mut impl Ports) {
        match input {
            FromStore::Synced { sequence } => {
                let asks = self.replica.synced(sequence);
                Self::send_asks(asks, ports);
                self.acknowledge(now);
            }
            FromStore::Read { id, chunk } => self.read(id, chunk, now, ports),
            FromStore::Unwritable { reason } => self.unwritable = Some(reason),
            FromStore::Writable => self.unwritable = None,
            FromStore::Damaged { origin, first, last } => self.replica.damaged_at(Stretch { origin, first, last }),
        }
    }

    /// Asks a peer for what is damaged or to be taken over here, one segment at a time.
    pub(super) fn repair(&mut self, now: Now, ports: &mut impl Ports) {
        if let Some((link, stretch)) = self.replica.next_repair(now.monotonic_ms) {
            ports.to_link(link, PeerFrame::WantRange(stretch));
        }
        for TakenOver { stretch, node } in self.replica.take_taken_over() {
            let count = stretch.last + 1 - stretch.first;
            self.taken_over_entries += count;
            self.tell_everyone(&notice::taken_over(stretch.origin.node, node, count), ports);
        }
    }

    /// Answers a peer that repairs: with the beginning of what it asks for, from memory or from the disk.
    pub(super) fn range_wanted(&mut self, link: LinkId, wanted: Stretch, ports: &mut impl Ports) {
        let log = self.replica.log();
        let Some(state) = self.links.get_mut(&link) else { return };
        if wanted.first < log.first_kept(wanted.origin) || wanted.last > log.height(wanted.origin) {
            return;
        }
        if let Some((bytes, last)) = gather(log, wanted.origin, wanted.first) {
            if let Ok((chunk, _)) = read_chunk(wanted.first, bytes) {
                Self::send_range(link, wanted, &chunk.within(wanted.first, last.min(wanted.last)), ports);
            }
        } else if state.range.is_none() {
            // A peer asks for one at a time.
            let id = self.reads.ask(Reader::Range { link }, wanted.origin, wanted.first, ports);
            state.range = Some((id, wanted));
        }
    }

    /// What a peer that repairs has asked for has come from the disk.
    pub(super) fn range_read(&mut self, link: LinkId, id: u64, chunk: Option<Chunk>, ports: &mut impl Ports) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some((_, wanted)) = state.range.take_if(|(asked, _)| *asked == id) else { return };
        let part = chunk.and_then(|chunk| chunk.within(wanted.first, wanted.last));
        Self::send_range(link, wanted, &part.filter(|part| part.first == wanted.first), ports);
    }

    fn send_range(link: LinkId, wanted: Stretch, part: &Option<Chunk>, ports: &mut impl Ports) {
        if let Some(part) = part {
            let (origin, bytes) = (wanted.origin, part.bytes.clone());
            let entries = Entries { origin, first: part.first, sent_unix_us: 0, bytes };
            ports.to_link(link, PeerFrame::Range(entries));
        }
    }

    /// What was asked for to repair has come.
    pub(super) fn range_came(&mut self, link: LinkId, entries: Entries, now: Now, ports: &mut impl Ports) {
        let origin: Origin = entries.origin;
        let chunk = match read_chunk(entries.first, entries.bytes) {
            Ok((chunk, _)) => chunk,
            Err(error) => return ports.close_link(link, &error.to_string()),
        };
        match self.replica.range_came(link, origin, chunk, now.monotonic_ms) {
            Repaired::Ask(rest) => ports.to_link(link, PeerFrame::WantRange(rest)),
            Repaired::Write(chunks) => chunks.iter().for_each(|chunk| self.learn_again(origin, chunk, ports)),
            Repaired::Nothing => {}
        }
    }

    /// Whatever is derived from entries is derived from these too. Of those that were applied before, nothing is delivered.
    fn learn_again(&mut self, origin: Origin, chunk: &Chunk, ports: &mut impl Ports) {
        let Some(applied) = chunk.within(chunk.first, self.replica.log().applied(origin)) else { return };
        for (number, EntryView { time, body }) in entries(&applied) {
            match body {
                Body::Message(message) => self.ledger.take_message(entry_id(origin, number), time, &message),
                Body::Change(change) => self.apply_change((origin, number), time, &change, ports),
                Body::Unknown => {}
            }
        }
    }
}
