//! What changes among the people, wherever they are, and who here is told of it.

use std::collections::BTreeSet;

use super::{ClientId, Hub, Ports, clients::Life, registering::PEOPLE_PER_FRAME};
use crate::{
    chat::{
        Name, Person,
        directory::{Change, Lookup},
        notice,
    },
    wire::{
        Dialect,
        extended::{self, FromNode},
    },
};

impl Hub {
    /// Ends a connection whose person goes on elsewhere.
    pub(super) fn detach(&mut self, client: ClientId, to_node: u16, ports: &mut impl Ports) {
        self.tell(client, &notice::moved(to_node), ports);
        self.set_life(client, Life::Connected);
        self.replaying.remove(&client);
        self.going_through.remove(&client);
        ports.close_client(client);
    }

    /// Acts on what changed among the people: renames and moves here, news for extended clients.
    pub(super) fn people_changed(&mut self, changes: Vec<Change>, ports: &mut impl Ports) {
        for change in changes {
            match &change {
                Change::RenamedHere { person, old } => self.renamed(person, old, ports),
                Change::MovedAway { registration, node } => {
                    // This node speaks for them no more.
                    self.broadcast_presence(Vec::new(), vec![*registration]);
                    self.directory.left(self.node(), *registration);
                    if let Some(client) = self.by_registration.remove(registration) {
                        self.detach(client, *node, ports);
                    }
                }
                Change::Joined { .. } | Change::Left { .. } => self.people_news.push(change),
            }
        }
    }

    fn renamed(&mut self, person: &Person, old: &Name, ports: &mut impl Ports) {
        self.broadcast_presence(vec![person.clone()], Vec::new());
        let Some(client) = self.by_registration.get(&person.registration).copied() else { return };
        self.set_life(client, Life::Registered { name: person.name.clone(), registration: person.registration });
        let text = notice::renamed(old.as_str(), person.name.as_str());
        let is_extended = self.clients.get(&client).is_some_and(|state| state.dialect == Dialect::Extended);
        if is_extended {
            let mut out = Vec::new();
            FromNode::Renamed(extended::Renamed { name: person.name.to_string(), reason: text }).encode(&mut out);
            ports.to_client(client, &out, None);
        } else {
            self.tell(client, &text, ports);
        }
    }

    /// Tells extended clients who came and went.
    pub(super) fn tell_people_news(&mut self, ports: &mut impl Ports) {
        let newcomers = std::mem::take(&mut self.newcomers);
        if !newcomers.is_empty() {
            let snapshot = self.people_snapshot();
            for client in &newcomers {
                ports.to_client(*client, &snapshot, None);
            }
        }
        if self.people_news.is_empty() {
            return;
        }
        let news = std::mem::take(&mut self.people_news);
        let names: BTreeSet<(&str, &str)> = news
            .iter()
            .filter_map(|change| match change {
                Change::Joined { name, .. } | Change::Left { name } => Some(name),
                Change::RenamedHere { .. } | Change::MovedAway { .. } => None,
            })
            .map(|name| (name.as_str(), name.key()))
            .collect();
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        // How it is now: after a conflict one holder of a name may have lost it and another still have it.
        for (name, key) in names {
            match self.directory.lookup(key) {
                Lookup::Present(person) if person.name.as_str() == name => {
                    joined.push(extended::PersonAt { name: name.to_owned(), node: person.node.into() });
                }
                _ => left.push(name.to_owned()),
            }
        }
        let mut out = Vec::new();
        for piece in left.chunks(PEOPLE_PER_FRAME) {
            let change = extended::PeopleChanged { snapshot: false, joined: Vec::new(), left: piece.to_vec() };
            FromNode::PeopleChanged(change).encode(&mut out);
        }
        for piece in joined.chunks(PEOPLE_PER_FRAME) {
            let change = extended::PeopleChanged { snapshot: false, joined: piece.to_vec(), left: Vec::new() };
            FromNode::PeopleChanged(change).encode(&mut out);
        }
        self.to_extended(&out, &newcomers, ports);
    }

    /// Everybody who is here, in as many frames as it takes.
    fn people_snapshot(&self) -> Vec<u8> {
        let people: Vec<extended::PersonAt> = self
            .directory
            .present()
            .map(|person| extended::PersonAt { name: person.name.to_string(), node: person.node.into() })
            .collect();
        let mut out = Vec::new();
        for (index, piece) in people.chunks(PEOPLE_PER_FRAME).enumerate() {
            // Only the first piece replaces what was known before.
            let change = extended::PeopleChanged { snapshot: index == 0, joined: piece.to_vec(), left: Vec::new() };
            FromNode::PeopleChanged(change).encode(&mut out);
        }
        out
    }

    /// Tells extended clients that the state of a node has changed.
    pub(super) fn tell_nodes_news(&mut self, ports: &mut impl Ports) {
        if std::mem::take(&mut self.nodes_changed) {
            let mut out = Vec::new();
            self.nodes_frame().encode(&mut out);
            self.to_extended(&out, &[], ports);
        }
    }

    fn to_extended(&self, bytes: &[u8], but: &[ClientId], ports: &mut impl Ports) {
        let extended =
            self.clients.iter().filter(|(_, state)| state.dialect == Dialect::Extended && state.name().is_some());
        for (client, _) in extended.filter(|(client, _)| !but.contains(client)) {
            ports.to_client(*client, bytes, None);
        }
    }
}
