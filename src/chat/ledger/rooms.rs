//! Rooms: who is in them, what they are about, and what was said there last.

use std::collections::{BTreeMap, BTreeSet};

use super::{Carrier, MAX_MEMBERSHIPS, Recents};
use crate::chat::{
    EntryId, Registration, StateChange,
    change::{ChangeKind, Membership, Topic},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    since: u64,
    is_member: bool,
    carrier: Carrier,
}

/// One room.
#[derive(Debug, Default)]
pub struct Room {
    members: BTreeMap<Registration, Member>,
    topic: Option<(u64, String, Carrier)>,
    recent: Recents,
}

impl Room {
    /// Who is in it, and since when (hybrid logical time). People without a claimed name may be gone.
    pub fn members(&self) -> impl Iterator<Item = (Registration, u64)> + '_ {
        let members = self.members.iter().filter(|(_, member)| member.is_member);
        members.map(|(registration, member)| (*registration, member.since))
    }

    /// Empty if there is none.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.topic.as_ref().map_or("", |(_, text, _)| text)
    }

    #[must_use]
    pub fn recent(&self) -> &Recents {
        &self.recent
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.recent.is_empty() && self.topic.is_none()
    }
}

/// By name.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: BTreeMap<String, Room>,
    /// Of whom there is something to remember, by when it changed.
    by_time: BTreeSet<(u64, Registration, String)>,
    /// The rooms in which somebody is.
    by_member: BTreeMap<Registration, BTreeSet<String>>,
}

impl Rooms {
    #[must_use]
    pub fn get(&self, room: &str) -> Option<&Room> {
        self.rooms.get(room)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Room)> {
        self.rooms.iter().map(|(name, room)| (name.as_str(), room))
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.rooms.len()
    }

    /// Since when somebody is in a room.
    #[must_use]
    pub fn member_since(&self, room: &str, registration: Registration) -> Option<u64> {
        let member = self.rooms.get(room)?.members.get(&registration)?;
        member.is_member.then_some(member.since)
    }

    /// The rooms in which somebody is.
    pub fn of(&self, registration: Registration) -> impl Iterator<Item = &str> {
        self.by_member.get(&registration).into_iter().flatten().map(String::as_str)
    }

    pub(super) fn take_message(&mut self, room: &str, id: EntryId, time: u64) {
        match self.rooms.get_mut(room) {
            Some(room) => room.recent.take(id, time),
            None => self.rooms.entry(room.to_owned()).or_default().recent.take(id, time),
        }
    }

    pub(super) fn take_membership(&mut self, membership: &Membership, time: u64, carrier: Carrier) -> bool {
        let Membership { room, registration, is_member } = membership;
        let (registration, is_member) = (*registration, *is_member);
        let members = &mut self.rooms.entry(room.clone()).or_default().members;
        let known = members.get(&registration).copied();
        if let Some(known) = known {
            if (known.since, known.is_member) > (time, is_member) {
                return false;
            }
            if (known.since, known.is_member) == (time, is_member) {
                members.insert(registration, Member { carrier: carrier.max(known.carrier), ..known });
                return false;
            }
            self.by_time.remove(&(known.since, registration, room.clone()));
        }
        members.insert(registration, Member { since: time, is_member, carrier });
        self.by_time.insert((time, registration, room.clone()));
        let was_member = known.is_some_and(|known| known.is_member);
        let rooms = self.by_member.entry(registration).or_default();
        if is_member {
            rooms.insert(room.clone());
        } else {
            rooms.remove(room);
        }
        if rooms.is_empty() {
            self.by_member.remove(&registration);
        }
        while self.by_time.len() > MAX_MEMBERSHIPS {
            self.forget_oldest();
        }
        was_member != is_member
    }

    fn forget_oldest(&mut self) {
        let Some((_, registration, name)) = self.by_time.pop_first() else { return };
        if let Some(rooms) = self.by_member.get_mut(&registration) {
            rooms.remove(&name);
            if rooms.is_empty() {
                self.by_member.remove(&registration);
            }
        }
        if let Some(room) = self.rooms.get_mut(&name) {
            room.members.remove(&registration);
            if room.is_empty() {
                self.rooms.remove(&name);
            }
        }
    }

    pub(super) fn take_topic(&mut self, topic: &Topic, time: u64, carrier: Carrier) -> bool {
        let known = &mut self.rooms.entry(topic.room.clone()).or_default().topic;
        match known {
            Some((since, text, _)) if (*since, text.as_str()) > (time, topic.text.as_str()) => false,
            Some((since, text, known)) if (*since, text.as_str()) == (time, topic.text.as_str()) => {
                *known = carrier.max(*known);
                false
            }
            _ => {
                let before = known.replace((time, topic.text.clone(), carrier)).map(|(_, text, _)| text);
                before.unwrap_or_default() != topic.text
            }
        }
    }

    pub(super) fn forget(&mut self, node: u16, incarnation: u64, first: u64) {
        self.rooms.retain(|_, room| {
            room.recent.forget(node, incarnation, first);
            !room.is_empty()
        });
    }

    pub(super) fn copy_of_membership(&self, id: EntryId, membership: &Membership) -> Option<StateChange> {
        let member = self.rooms.get(&membership.room)?.members.get(&membership.registration)?;
        (member.is_member && member.carrier.1 == id)
            .then(|| StateChange { time: member.since, kind: ChangeKind::Membership(membership.clone()) })
    }

    pub(super) fn copy_of_topic(&self, id: EntryId, topic: &Topic) -> Option<StateChange> {
        let (time, text, carrier) = self.rooms.get(&topic.room)?.topic.as_ref()?;
        (carrier.1 == id && !text.is_empty())
            .then(|| StateChange { time: *time, kind: ChangeKind::Topic(topic.clone()) })
    }
}
