//! The hub and its disk: what is written, what comes back, and how a life begins with what the last one left.

use super::{Hub, Now, Ports, Recovered, ToStore, claims::entry_id};
use crate::clique::{Chunk, Origin, Stored, Stretch, Write, chain::SEGMENT_ENTRIES};
use crate::wire::entry::{Body, entries, read_entry};

/// Multiplied with it, numbers that are near each other are far from each other (2^64 over the golden ratio).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hub {
    /// Takes note of what is on the disk, one piece after the other, each origin in order, before `recover`: whatever is
    /// derived from entries is derived from these again.
    pub fn recall(&mut self, origin: Origin, chunk: &Chunk) {
        let latest = self.see_times(chunk);
        self.replica.recall(origin, chunk, latest);
        for (number, view) in entries(chunk) {
            let id = entry_id(origin, number);
            match &view.body {
                Body::Message(message) => self.ledger.take_message(id, view.time, message),
                Body::Change(change) => {
                    self.ledger.take_change(id, view.time, change);
                }
                Body::Unknown => {}
            }
        }
    }

    /// Begins with what was on the disk.
    pub fn recover(&mut self, recovered: Vec<Recovered>, now: Now) {
        for Recovered { origin, first, chain, damaged, tail, aside, .. } in recovered {
            self.replica.recover(Stored { origin, first, chain, tail }, now.monotonic_ms);
            let aside = aside.into_iter().map(|chunk| (self.see_times(&chunk), chunk)).collect();
            self.replica.set_aside(origin, aside);
            for (first, last) in damaged {
                self.replica.damaged_at(Stretch { origin, first, last });
            }
        }
        // A former life may have given out later times that are on no disk. If the wall clock is behind, another life
        // must not give them to somebody else: each begins in another place of the next quarter of a second.
        let place = self.settings.origin.incarnation.wrapping_mul(SPREAD) >> 40;
        let clock = self.replica.clock();
        clock.see(clock.last() + place);
        // Nobody is connected yet: this is only put in order.
        while self.replica.apply_next(now.monotonic_ms, SEGMENT_ENTRIES).is_some() {}
        for named in self.ledger.settle_names() {
            self.directory.owned(named.registration, &named.name, named.old.as_ref());
        }
    }

    /// New entries are later than all that are kept. Within an origin the last is the latest.
    fn see_times(&mut self, chunk: &Chunk) -> u64 {
        let latest = read_entry(&chunk.slice(chunk.last(), chunk.last())).map_or(0, |(view, _)| view.time);
        self.replica.clock().see(latest);
        latest
    }

    /// Hands over what is to be written.
    pub(super) fn write(&mut self, ports: &mut impl Ports) {
        for write in self.replica.take_writes() {
            ports.to_store(match write {
                Write::Entries { sequence, origin, chunk, boundaries } => {
                    ToStore::Entries { sequence, origin, chunk, boundaries }
                }
                Write::Cut { sequence, origin, first, hash } => ToStore::Cut { sequence, origin, first, hash },
                Write::Repair { sequence, origin, chunk } => ToStore::Repair { sequence, origin, chunk },
                Write::Rehash { sequence, origin, chain } => ToStore::Rehash { sequence, origin, chain },
            });
        }
    }
}
