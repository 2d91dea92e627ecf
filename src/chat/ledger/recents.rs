//! The latest messages of one room, or to everyone.

use std::collections::VecDeque;

use crate::chat::EntryId;

/// Messages that are remembered.
pub const MAX_RECENT: usize = 1_000;

/// In the order of history: time, then origin and number. The latest are kept.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recents(VecDeque<(u64, EntryId)>);

impl Recents {
    pub(super) fn take(&mut self, id: EntryId, time: u64) {
        let place = self.0.partition_point(|known| *known < (time, id));
        if self.0.get(place) == Some(&(time, id)) || (place == 0 && self.0.len() >= MAX_RECENT) {
            return;
        }
        // Nearly always the end.
        self.0.insert(place, (time, id));
        if self.0.len() > MAX_RECENT {
            self.0.pop_front();
        }
    }

    pub(super) fn forget(&mut self, node: u16, incarnation: u64, first: u64) {
        self.0.retain(|(_, id)| (id.node, id.incarnation) != (node, incarnation) || id.number >= first);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last `count`, in order.
    pub fn last(&self, count: usize) -> impl Iterator<Item = (u64, EntryId)> + '_ {
        self.0.iter().skip(self.0.len().saturating_sub(count)).copied()
    }
}
