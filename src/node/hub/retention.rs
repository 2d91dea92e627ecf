//! What is kept no longer, on this node's own decision or on that of another.

use super::{Hub, Now, Ports, sessions::SAID_AGAIN_MS};
use crate::{
    chat::notice,
    clique::{Origin, time::from_unix_ms},
};

/// How often it is looked at, in milliseconds.
const PAUSE_MS: u64 = 500;
/// Segments that may go in one turn.
const MAX_SEGMENTS_PER_TURN: usize = 64;

impl Hub {
    /// Cuts what is too old or too much, and what peers have cut.
    pub(super) fn retain(&mut self, now: Now, ports: &mut impl Ports) {
        if now.monotonic_ms < self.retained_ms + PAUSE_MS {
            return;
        }
        self.retained_ms = now.monotonic_ms;
        for _ in 0..MAX_SEGMENTS_PER_TURN {
            let Some((origin, first)) = self.replica.next_cut(self.settings.keep, now.unix_ms()) else { break };
            self.carry_over(origin, first, now);
            // Of a log that this node has a part of, the rest was on its way here.
            let height = self.replica.log().height(origin);
            if height > 0 && height + 1 < first {
                self.tell_everyone(&notice::lost_in_cut(origin.node, first - 1 - height), ports);
            }
            self.replica.cut(origin, first);
        }
    }

    /// The entries before `first` are about to go: what they say and is still in force is said again by entries of this
    /// node.
    fn carry_over(&mut self, origin: Origin, first: u64, now: Now) {
        let kept_since_ms = match self.settings.keep.max_age_ms {
            0 => 0,
            age_ms => now.unix_ms().saturating_sub(age_ms.saturating_add(SAID_AGAIN_MS)),
        };
        for change in self.ledger.carried(origin.node, origin.incarnation, first, from_unix_ms(kept_since_ms)) {
            self.append_copy(&change, now);
        }
        self.ledger.forget(origin.node, origin.incarnation, first);
    }
}
