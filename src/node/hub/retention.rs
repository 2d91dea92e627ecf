//! What is kept no longer, on this node's own decision or on that of another.

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
            self.carry_over(origin, first, now);
            self.replica.cut(origin, first);
        }
    }

    /// The entries before `first` are about to go: what they say and is still in force is said again by entries of this
    /// node.
    fn carry_over(&mut self, origin: Origin, first: u64, now: Now) {
        for change in self.ledger.carried(origin.node, origin.incarnation, first) {
            self.append_copy(&change, now);
        }
        self.ledger.forget(origin.node, origin.incarnation, first);
    }
}
