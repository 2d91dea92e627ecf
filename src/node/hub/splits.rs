//! What comes late because links were cut, and the line that people read when nodes can be reached again.
//!
//! When a node that people were told of as lost says hello again, its heights show what is on its side and not here:
//! these entries, and no later ones, are *from the split*. The line is said before they are shown, once for all nodes
//! that come back together, so for a moment nothing that came over links is applied.

use std::collections::{BTreeMap, BTreeSet};

use super::{Hub, Now, Ports};
use crate::{
    chat::{Name, Person, notice},
    clique::{Chunk, Held, LinkId, Origin, time},
    wire::entry::read_entry,
};

/// Nodes that come back within this time make one line, in milliseconds.
const GATHER_MS: u64 = 300;
/// A node that was lost this part of the announcement's delay ago is announced together with the first.
const SAME_CUT_SHARE: u64 = 5;
/// Renames that are remembered for one line.
const MAX_RENAMED: usize = 1_000;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Splits {
    /// Of each origin the entries, first and last, that were on the other side when the latest split healed.
    late: BTreeMap<Origin, (u64, u64)>,
    gathering: Option<Gathering>,
}

/// What the next line is about.
#[derive(Debug)]
struct Gathering {
    /// Known from the end of the turn on.
    since_ms: Option<u64>,
    nodes: BTreeSet<u16>,
    entries: u64,
    /// Old and new name of those who had to give theirs up.
    renamed: Vec<(Name, Name)>,
}

impl Splits {
    pub(super) fn is_late(&self, origin: Origin, number: u64) -> bool {
        self.late.get(&origin).is_some_and(|(first, last)| (*first..=*last).contains(&number))
    }

    /// Whether the next line is about this node.
    fn is_back(&self, node: u16) -> bool {
        self.gathering.as_ref().is_some_and(|back| back.nodes.contains(&node))
    }

    fn gather(&mut self) -> &mut Gathering {
        self.gathering.get_or_insert_with(|| Gathering {
            since_ms: None,
            nodes: BTreeSet::new(),
            entries: 0,
            renamed: Vec::new(),
        })
    }

    /// These entries of an origin were on the other side. Returns how many of them are news.
    fn mark(&mut self, origin: Origin, first: u64, last: u64) -> u64 {
        match self.late.get_mut(&origin) {
            Some((begin, end)) if first <= *end + 1 => {
                let added = begin.saturating_sub(first) + last.saturating_sub(*end);
                (*begin, *end) = (first.min(*begin), last.max(*end));
                added
            }
            _ => {
                self.late.insert(origin, (first, last));
                last + 1 - first
            }
        }
    }
}

impl Hub {
    /// A node that was announced as lost is back, and holds this.
    pub(super) fn came_back(&mut self, node: u16, link: LinkId, held: &[Held]) {
        self.splits.gather().nodes.insert(node);
        for held in held.iter().filter(|held| held.origin != self.settings.origin) {
            // What another node within reach has is only under way.
            let here = self.members.iter().filter_map(|(_, linked)| linked);
            let here = here.filter(|linked| linked.link != link && !self.splits.is_back(linked.origin.node));
            let had =
                here.map(|linked| self.replica.sources().peer_height(linked.link, held.origin)).max().unwrap_or(0);
            let first = held.first.max(had.max(self.replica.log().height(held.origin)) + 1);
            if first <= held.height {
                let count = self.splits.mark(held.origin, first, held.height);
                self.splits.gather().entries += count;
            }
        }
    }

    /// Entries have come that are new here. Those of a node that is lost or just back, and so old that they did not come
    /// straight through others, come from the other side through a node that was back before on their way.
    pub(super) fn note_late(&mut self, origin: Origin, chunk: &Chunk, now: Now) {
        let after_ms = self.settings.timing.announce_after_ms;
        let lost = self.lost.get_mut(&origin.node).filter(|lost| lost.is_announced);
        if lost.is_none() && !self.splits.is_back(origin.node) {
            return;
        }
        let Ok((view, _)) = read_entry(&chunk.bytes) else { return };
        // Where nobody has said anything for a while, the log's time stands still.
        let latest_ms = time::unix_ms(self.replica.clock().last()).max(now.unix_ms());
        if latest_ms.saturating_sub(time::unix_ms(view.time)) <= after_ms {
            return;
        }
        let count = self.splits.mark(origin, chunk.first, chunk.last());
        // Said once of each loss: the way through others can be a slow one.
        let is_first = lost.is_some_and(|lost| !std::mem::replace(&mut lost.is_bridged, true));
        if is_first || self.is_gathering() {
            self.splits.gather().entries += count;
        }
    }

    /// Somebody has another name than the one that they had, because two sides of a cut had given it out.
    pub(super) fn note_renamed(&mut self, person: &Person, old: &Name) {
        let renamed = &mut self.splits.gather().renamed;
        if renamed.len() < MAX_RENAMED {
            renamed.push((old.clone(), person.name.clone()));
        }
    }

    /// Another node says who somebody is.
    pub(super) fn note_renamed_there(&mut self, person: &Person) {
        let known = self.directory.person(person.registration).map(|known| known.name.clone());
        let old = known.unwrap_or_else(|| person.asked_name.clone());
        if old == person.asked_name && old != person.name {
            self.note_renamed(person, &old);
        }
    }

    /// Whether the line is still to be said; until then what came over links is not shown.
    pub(super) fn is_gathering(&self) -> bool {
        self.splits.gathering.is_some() && !self.is_stopping
    }

    /// Says the line, once no more nodes are expected to come back with the first.
    pub(super) fn announce_back(&mut self, now: Now, ports: &mut impl Ports) {
        let is_due = |gathering: &mut Gathering| {
            now.monotonic_ms >= *gathering.since_ms.get_or_insert(now.monotonic_ms) + GATHER_MS
        };
        let Some(gathering) = self.splits.gathering.take_if(is_due) else { return };
        let nodes: Vec<u16> = gathering.nodes.into_iter().collect();
        let renamed: Vec<(&str, &str)> =
            gathering.renamed.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
        self.tell_everyone(&notice::reachable_again(&nodes, gathering.entries, &renamed), ports);
        let log = self.replica.log();
        // What is gone from the log is not shown again.
        self.splits.late.retain(|origin, (_, last)| *last >= log.first(*origin));
    }

    /// Tells people, once, which nodes cannot be reached; not of a link that is back at once. The links that one cut ends
    /// die one after the other: once the first is to be told, all are.
    pub(super) fn announce_lost(&mut self, now: Now, ports: &mut impl Ports) {
        let after_ms = self.settings.timing.announce_after_ms;
        let missing = || self.lost.values().filter(|lost| !lost.is_announced && !lost.said_goodbye);
        if !missing().any(|lost| now.monotonic_ms >= lost.since_ms + after_ms) {
            return;
        }
        let mut nodes = Vec::new();
        for (node, lost) in &mut self.lost {
            let is_lasting = now.monotonic_ms >= lost.since_ms + after_ms / SAME_CUT_SHARE;
            if !lost.is_announced && !lost.said_goodbye && is_lasting {
                lost.is_announced = true;
                nodes.push(*node);
            }
        }
        if !nodes.is_empty() {
            self.tell_everyone(&notice::unreachable(&nodes), ports);
        }
    }

    /// Since when a node has not been reachable, in monotonic milliseconds.
    pub(super) fn lost_since_ms(&self, node: u16) -> Option<u64> {
        self.lost.get(&node).map(|lost| lost.since_ms)
    }

    /// When the line is due, in monotonic milliseconds.
    pub(super) fn back_due_ms(&self) -> Option<u64> {
        Some(self.splits.gathering.as_ref()?.since_ms? + GATHER_MS)
    }
}
