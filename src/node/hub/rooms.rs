//! Rooms: going in and out, what they are about, and who is told.

use super::{ClientId, Hub, Now, Ports};
use crate::{
    chat::{
        Registration,
        change::{ChangeKind, Membership, Topic},
        ledger::{MAX_ROOMS, Room},
        name, notice,
    },
    wire::{
        Dialect,
        extended::{FromNode, RoomState, RoomsChanged},
    },
};

/// Members of a room that are named; the rest is counted.
const MAX_MEMBERS_SHOWN: usize = 20;
/// Rooms that are listed; the rest is counted.
const MAX_ROOMS_SHOWN: usize = 200;
/// Longest topic, in bytes.
const MAX_TOPIC_BYTES: usize = 400;

impl Hub {
    pub(super) fn join(&mut self, client: ClientId, written: &str, now: Now, ports: &mut impl Ports) {
        let Some((registration, room)) = self.member_and_room(client, written, ports) else { return };
        let is_new = self.ledger.rooms().get(&room).is_none();
        if is_new && self.ledger.rooms().count() >= MAX_ROOMS {
            return self.tell(client, &notice::too_many_rooms(MAX_ROOMS), ports);
        }
        if self.ledger.rooms().member_since(&room, registration).is_none() {
            let membership = Membership { room: room.clone(), registration, is_member: true };
            self.append_change(ChangeKind::Membership(membership), now);
            self.commit(now, ports);
        }
        let members = self.ledger.rooms().get(&room).map(|room| self.members_line(room)).unwrap_or_default();
        self.tell(client, &format!("you are in {room}: {members}"), ports);
        let topic = self.ledger.rooms().get(&room).map(|room| room.topic().to_owned()).unwrap_or_default();
        if !topic.is_empty() {
            self.tell(client, &notice::topic_is(&room, &topic), ports);
        }
        self.show_room(client, &room);
    }

    pub(super) fn part(&mut self, client: ClientId, written: Option<&str>, now: Now, ports: &mut impl Ports) {
        let Some(registration) = self.registration(client) else { return };
        let only = || {
            let mut rooms = self.ledger.rooms().of(registration);
            rooms.next().filter(|_| rooms.next().is_none()).map(str::to_owned)
        };
        let Some(written) = written.map(str::to_owned).or_else(only) else {
            return self.tell(client, &notice::which_room(), ports);
        };
        let Some((registration, room)) = self.member_and_room(client, &written, ports) else { return };
        if self.ledger.rooms().member_since(&room, registration).is_none() {
            return self.tell(client, &notice::not_in_room(&room), ports);
        }
        let membership = Membership { room: room.clone(), registration, is_member: false };
        self.append_change(ChangeKind::Membership(membership), now);
        self.commit(now, ports);
        self.tell(client, &format!("you have left {room}"), ports);
    }

    /// `#room` shows the topic, `#room TEXT` sets it.
    pub(super) fn topic(&mut self, client: ClientId, rest: &str, now: Now, ports: &mut impl Ports) {
        let (written, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let Some((registration, room)) = self.member_and_room(client, written, ports) else { return };
        let text = text.trim();
        if self.ledger.rooms().get(&room).is_none() {
            return self.tell(client, &notice::no_such_room(&room), ports);
        }
        if text.is_empty() {
            let topic = self.ledger.rooms().get(&room).map(|room| room.topic().to_owned()).unwrap_or_default();
            return self.tell(client, &notice::topic_is(&room, &topic), ports);
        }
        if self.ledger.rooms().member_since(&room, registration).is_none() {
            return self.tell(client, &notice::not_in_room(&room), ports);
        }
        let text = text.get(..text.floor_char_boundary(MAX_TOPIC_BYTES)).unwrap_or_default().to_owned();
        self.append_change(ChangeKind::Topic(Topic { room, text }), now);
    }

    fn member_and_room(
        &self,
        client: ClientId,
        written: &str,
        ports: &mut impl Ports,
    ) -> Option<(Registration, String)> {
        let registration = self.registration(client)?;
        if written.trim_start_matches('#').is_empty() {
            self.tell(client, &notice::which_room(), ports);
            return None;
        }
        match name::room(written) {
            Ok(room) => Some((registration, room)),
            Err(reason) => {
                let shown: String = written.chars().take(name::MAX_NAME_BYTES).collect();
                self.tell(client, &notice::bad_room(&shown, reason), ports);
                None
            }
        }
    }

    pub(super) fn membership_changed(&mut self, membership: &Membership, ports: &mut impl Ports) {
        let Membership { room, registration, is_member } = membership;
        self.tell_rooms(*registration, ports);
        let Some(name) = self.name_of(*registration) else { return };
        let text = match is_member {
            true => notice::joined_room(&name, room),
            false => notice::left_room(&name, room),
        };
        self.tell_members(room, Some(*registration), &text, ports);
    }

    pub(super) fn topic_changed(&mut self, topic: &Topic, ports: &mut impl Ports) {
        self.tell_members(&topic.room, None, &notice::topic_is(&topic.room, &topic.text), ports);
        let members: Vec<Registration> = self.members_here(&topic.room);
        for registration in members {
            self.tell_rooms(registration, ports);
        }
    }

    fn tell_members(&self, room: &str, but: Option<Registration>, text: &str, ports: &mut impl Ports) {
        for registration in self.members_here(room).into_iter().filter(|member| Some(*member) != but) {
            for client in self.by_registration.get(&registration).into_iter().flatten() {
                self.tell(*client, text, ports);
            }
        }
    }

    /// The members of a room who are connected to this node.
    fn members_here(&self, room: &str) -> Vec<Registration> {
        let members = self.ledger.rooms().get(room).into_iter().flat_map(Room::members);
        members.map(|(member, _)| member).filter(|member| self.by_registration.contains_key(member)).collect()
    }

    /// Tells somebody's extended clients in which rooms they are.
    fn tell_rooms(&self, registration: Registration, ports: &mut impl Ports) {
        let clients = self.by_registration.get(&registration).into_iter().flatten();
        for client in
            clients.filter(|client| self.clients.get(client).is_some_and(|state| state.dialect == Dialect::Extended))
        {
            let mut out = Vec::new();
            self.rooms_frame(registration).encode(&mut out);
            ports.to_client(*client, &out, None);
        }
    }

    pub(super) fn rooms_frame(&self, registration: Registration) -> FromNode {
        let rooms = self.ledger.rooms();
        let state = |name: &str| RoomState {
            name: name.to_owned(),
            topic: rooms.get(name).map(|room| room.topic().to_owned()).unwrap_or_default(),
        };
        // As many as fit into a frame.
        FromNode::RoomsChanged(RoomsChanged { rooms: rooms.of(registration).take(128).map(state).collect() })
    }

    /// All rooms that somebody is in or has said something in.
    pub(super) fn rooms(&self) -> Vec<String> {
        let rooms = self.ledger.rooms();
        let mut lines: Vec<String> = rooms
            .iter()
            .take(MAX_ROOMS_SHOWN)
            .map(|(name, room)| match room.topic() {
                "" => format!("{name}: {}", self.members_line(room)),
                topic => format!("{name}: {}; about: {topic}", self.members_line(room)),
            })
            .collect();
        if lines.is_empty() {
            lines.push("there are no rooms yet; /join #ROOM makes one".to_owned());
        }
        if rooms.count() > MAX_ROOMS_SHOWN {
            lines.push(format!("and {} more", rooms.count() - MAX_ROOMS_SHOWN));
        }
        lines
    }

    pub(super) fn who_in(&self, written: &str) -> Vec<String> {
        match name::room(written) {
            Ok(name) => match self.ledger.rooms().get(&name) {
                Some(room) => vec![format!("{name}: {}", self.members_line(room))],
                None => vec![format!("there is no room {name}; /join {name} makes it")],
            },
            Err(reason) => vec![notice::bad_room(written, reason)],
        }
    }

    /// Members by name, those who are not connected marked. People without a claimed name are members while they are here.
    fn members_line(&self, room: &Room) -> String {
        let names: Vec<String> = room
            .members()
            .filter_map(|(registration, _)| {
                let is_here = self.directory.nodes_of(registration).next().is_some();
                let is_owner = self.ledger.owner_by_registration(registration).is_some();
                let name = self.name_of(registration).filter(|_| is_here || is_owner)?;
                Some(if is_here { name.to_string() } else { format!("{name} (away)") })
            })
            .collect();
        let count = notice::people(names.len());
        match names.len() {
            0 => "nobody".to_owned(),
            shown if shown <= MAX_MEMBERS_SHOWN => format!("{count}: {}", names.join(", ")),
            shown => {
                let names = names.get(..MAX_MEMBERS_SHOWN).unwrap_or_default();
                format!("{count}: {} and {} more", names.join(", "), shown - MAX_MEMBERS_SHOWN)
            }
        }
    }
}
