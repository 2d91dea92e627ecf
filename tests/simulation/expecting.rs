//! Whether nodes expect those back whose connection has just broken.

use clique::{
    chat::{Name, Registration, directory::Lookup},
    wire::Dialect,
};

use crate::{person::ConnectionId, world::World};

impl World {
    /// Whoever can resume and has not said goodbye is expected back, unless they are connected elsewhere.
    pub fn check_expected(&mut self, connection: ConnectionId, registration: Option<Registration>) {
        let talk = &self.model.talks[&connection];
        let Some(registration) = registration.filter(|_| talk.dialect == Dialect::Extended) else { return };
        let directory = self.nodes[usize::from(talk.node)].hub.directory();
        let has_quit = talk.session != self.people[talk.person].session();
        let is_elsewhere = directory.person(registration).is_some();
        let is_owner = self.model.owners.contains(&registration);
        if !is_elsewhere && !is_owner && directory.is_expected(registration) == has_quit {
            self.model.violation(format!("Kept: connection {connection} ended; expected back: {}", !has_quit));
        }
    }

    /// Whether a node expects somebody back under a name.
    pub fn expects(&self, node: u16, name: &str) -> bool {
        let directory = self.nodes[usize::from(node)].hub.directory();
        Name::parse(name.as_bytes()).is_ok_and(|name| matches!(directory.lookup(name.key()), Lookup::Expected(_)))
    }
}
