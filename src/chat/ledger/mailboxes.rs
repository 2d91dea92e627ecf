//! What waits for the owners of names: messages to them that none of their devices has had.

use std::collections::BTreeMap;

use super::Carrier;
use crate::chat::{
    EntryId, Registration, StateChange,
    change::{ChangeKind, Read},
};

/// One life of one node.
type Origin = (u16, u64);

#[derive(Debug, Default)]
struct Mailbox {
    /// By origin and number, when each was said.
    unread: BTreeMap<Origin, BTreeMap<u64, u64>>,
    /// Of each origin the last that was had.
    read: BTreeMap<Origin, u64>,
    carrier: Option<(u64, Carrier)>,
}

/// By owner.
#[derive(Debug, Default)]
pub struct Mailboxes {
    boxes: BTreeMap<Registration, Mailbox>,
    pub(super) unread: usize,
}

impl Mailboxes {
    pub(super) fn take(&mut self, owner: Registration, id: EntryId, time: u64) {
        let mailbox = self.boxes.entry(owner).or_default();
        let origin = (id.node, id.incarnation);
        if mailbox.read.get(&origin).is_none_or(|read| *read < id.number) {
            let is_new = mailbox.unread.entry(origin).or_default().insert(id.number, time).is_none();
            self.unread += usize::from(is_new);
        }
    }

    /// Returns whether something was raised. What is only noted has no entry that carries it yet.
    pub(super) fn take_read(&mut self, read: &Read, carried: Option<(u64, Carrier)>) -> bool {
        let mailbox = self.boxes.entry(read.registration).or_default();
        mailbox.carrier = mailbox.carrier.max(carried);
        let mut is_raised = false;
        for id in &read.heights {
            let origin = (id.node, id.incarnation);
            let height = mailbox.read.entry(origin).or_default();
            if *height >= id.number {
                continue;
            }
            *height = id.number;
            is_raised = true;
            self.unread -= drop_before(&mut mailbox.unread, origin, id.number.saturating_add(1));
        }
        is_raised
    }

    pub(super) fn forget(&mut self, node: u16, incarnation: u64, first: u64) {
        let origin = (node, incarnation);
        for mailbox in self.boxes.values_mut() {
            self.unread -= drop_before(&mut mailbox.unread, origin, first);
            if mailbox.read.get(&origin).is_some_and(|height| *height < first) {
                mailbox.read.remove(&origin);
            }
        }
        self.boxes.retain(|_, mailbox| !mailbox.unread.is_empty() || !mailbox.read.is_empty());
    }

    pub(super) fn carried(&self, goes: impl Fn(Carrier) -> bool) -> impl Iterator<Item = StateChange> {
        self.boxes.iter().filter_map(move |(owner, mailbox)| {
            let (time, _) = mailbox.carrier.filter(|(_, carrier)| goes(*carrier))?;
            Some(StateChange { time, kind: ChangeKind::Read(self.read(*owner)) })
        })
    }

    /// How far an owner has had everything.
    #[must_use]
    pub fn read(&self, owner: Registration) -> Read {
        let read = self.boxes.get(&owner).into_iter().flat_map(|mailbox| &mailbox.read);
        let heights = read.map(|((node, incarnation), number)| EntryId {
            node: *node,
            incarnation: *incarnation,
            number: *number,
        });
        Read { registration: owner, heights: heights.collect() }
    }

    /// What waits for an owner, in the order of history.
    #[must_use]
    pub fn unread(&self, owner: Registration) -> Vec<(u64, EntryId)> {
        let unread = self.boxes.get(&owner).into_iter().flat_map(|mailbox| &mailbox.unread);
        let mut ids: Vec<(u64, EntryId)> = unread
            .flat_map(|((node, incarnation), entries)| {
                let id = |number| EntryId { node: *node, incarnation: *incarnation, number };
                entries.iter().map(move |(number, time)| (*time, id(*number)))
            })
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Whether a message waits for an owner.
    #[must_use]
    pub fn is_unread(&self, owner: Registration, id: EntryId) -> bool {
        let unread = self.boxes.get(&owner).and_then(|mailbox| mailbox.unread.get(&(id.node, id.incarnation)));
        unread.is_some_and(|entries| entries.contains_key(&id.number))
    }

    /// How much waits for one owner, and for all of them.
    #[must_use]
    pub fn unread_count(&self, owner: Registration) -> (usize, usize) {
        let unread = self.boxes.get(&owner).into_iter().flat_map(|mailbox| mailbox.unread.values());
        (unread.map(BTreeMap::len).sum(), self.unread)
    }
}

/// Drops what is before `first` of one origin; returns how much that was.
fn drop_before(unread: &mut BTreeMap<Origin, BTreeMap<u64, u64>>, origin: Origin, first: u64) -> usize {
    let Some(entries) = unread.get_mut(&origin) else { return 0 };
    let rest = entries.split_off(&first);
    let dropped = std::mem::replace(entries, rest).len();
    if entries.is_empty() {
        unread.remove(&origin);
    }
    dropped
}
