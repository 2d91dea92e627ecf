//! The hub and its disk: what is written, what comes back, and how a life begins with what the last one left.

use super::{FromStore, Hub, Now, Ports, Recovered, ToStore};
use crate::clique::{Chunk, Origin, Stored, Write, chain::SEGMENT_ENTRIES};
use crate::wire::entry::read_entry;

impl Hub {
    /// Takes note of what is on the disk, one piece after the other, each origin in order, before `recover`: whatever is
    /// derived from entries is derived from these again.
    pub fn recall(&mut self, _origin: Origin, chunk: &Chunk) {
        self.see_times(chunk);
    }

    /// Begins with what was on the disk.
    pub fn recover(&mut self, recovered: Vec<Recovered>, now: Now) {
        for Recovered { origin, first, chain, tail, .. } in recovered {
            tail.iter().for_each(|chunk| self.see_times(chunk));
            self.replica.recover(Stored { origin, first, chain, tail }, now.monotonic_ms);
        }
        // Nobody is connected yet: this is only put in order.
        while self.replica.apply_next(now.monotonic_ms, SEGMENT_ENTRIES).is_some() {}
    }

    /// New entries are later than all that are kept. Within an origin the last is the latest.
    fn see_times(&mut self, chunk: &Chunk) {
        if let Ok((view, _)) = read_entry(&chunk.slice(chunk.last(), chunk.last())) {
            self.replica.clock().see(view.time);
        }
    }

    /// Takes what the disk has to say.
    pub fn from_store(&mut self, input: FromStore, _now: Now, ports: &mut impl Ports) {
        match input {
            FromStore::Synced { sequence } => {
                self.replica.synced(sequence);
                self.acknowledge(ports);
            }
            FromStore::Read { .. } | FromStore::Damaged { .. } | FromStore::Unwritable { .. } | FromStore::Writable => {
            }
        }
    }

    /// Hands over what is to be written.
    pub(super) fn write(&mut self, ports: &mut impl Ports) {
        for write in self.replica.take_writes() {
            ports.to_store(match write {
                Write::Entries { sequence, origin, chunk } => ToStore::Entries { sequence, origin, chunk },
                Write::Cut { sequence, origin, first, hash } => ToStore::Cut { sequence, origin, first, hash },
            });
        }
    }
}
