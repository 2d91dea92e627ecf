//! What is kept no longer, on this node's own decision or on that of another.

use std::ops::RangeInclusive;

use super::{Hub, Now};
use crate::clique::Origin;

/// How often it is looked at, in milliseconds.
const PAUSE_MS: u64 = 500;
/// Segments that may go in one turn.
const MAX_SEGMENTS_PER_TURN: usize = 64;

impl Hub {
    /// Cuts what is too old or too much, and what peers have cut.
    pub(super) fn retain(&mut self, now: Now) {
        if now.monotonic_ms < self.retained_ms + PAUSE_MS {
            return;
        }
        self.retained_ms = now.monotonic_ms;
        for _ in 0..MAX_SEGMENTS_PER_TURN {
            let Some((origin, first)) = self.replica.next_cut(self.settings.keep, now.unix_ms()) else { break };
            self.carry_over(origin, self.replica.log().floor(origin)..=first - 1);
            self.replica.cut(origin, first);
        }
    }

    /// Entries that are about to go: what they say and is still in force is to be said again by an entry of this node.
    fn carry_over(&mut self, _origin: Origin, _entries: RangeInclusive<u64>) {}
}
