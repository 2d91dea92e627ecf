//! People and their nodes: connecting, reading, saying something, leaving, moving, being lost.

use clique::{
    chat::Command,
    node::hub::{FromClient, Mark, Submissions},
    wire::{Dialect, extended::State},
};

use crate::{
    model::text_of,
    node::{ClientOut, Phase},
    person::{Connection, ConnectionId, Heard, PersonId, Reading, Standing},
    world::{Event, World, note},
};

/// What fits between a node and a reader who is not fast.
const SOCKET_BYTES: usize = 400;

impl World {
    pub fn connect(&mut self, person: PersonId, node: u16) {
        let life = self.node(node).life;
        let client = self.node(node).fresh_id();
        let who = &self.people[person];
        let (dialect, reading, session) = (who.dialect, who.reading, who.session());
        let room = if reading == Reading::Fast { usize::MAX } else { SOCKET_BYTES };
        let open = Connection::new(who, node, life, client, room);
        let connection = self.next_connection;
        self.next_connection += 1;
        note!(self, "person {person} ({}, {dialect:?}) connects to node {node} (connection {connection})", who.name);
        self.model.opened(connection, (person, session), node, dialect, reading);
        self.connections.insert(connection, open);
        self.by_client.insert((node, life, client), connection);
        self.people[person].connection = Some(connection);
        self.node(node).ports.clients.insert(client, ClientOut::default());
        self.client_input(connection, FromClient::Opened { dialect });
        self.ask_for_name(connection);
        if let Reading::Slow { every_ms, .. } = reading {
            self.schedule(every_ms, Event::Read(connection));
        }
    }

    fn ask_for_name(&mut self, connection: ConnectionId) {
        let Some(open) = self.connections.get(&connection) else { return };
        let input = self.people[open.person].registering(self.now_ms);
        let FromClient::Register(registering) = input else { return self.client_input(connection, input) };
        let talk = self.model.talks.get_mut(&connection).unwrap();
        talk.claimed = registering.resume.as_ref().map(|resume| resume.received.clone()).unwrap_or_default();
        let registering = self.faults.on_registering(registering);
        self.client_input(connection, FromClient::Register(registering));
    }

    /// After the name was refused: the same again, as others may not have noticed that the former connection is dead.
    pub fn ask_again(&mut self, connection: ConnectionId) {
        let Some(open) = self.connections.get(&connection) else { return };
        if open.standing != Standing::Asking || !self.is_current(open.node, open.life) {
            return;
        }
        let person = &mut self.people[open.person];
        person.refusals += 1;
        if person.refusals.is_multiple_of(6) {
            person.name = format!("{}-{}-{}", person.name, person.id, person.refusals / 6);
            person.has_claimed = false;
        }
        self.ask_for_name(connection);
    }

    pub fn client_input(&mut self, connection: ConnectionId, input: FromClient) {
        let Some(open) = self.connections.get(&connection) else { return };
        let (node, life, client) = (open.node, open.life, open.client);
        if !self.is_current(node, life) {
            return;
        }
        let now_ms = self.now_ms;
        let state = self.node(node);
        let now = state.now(now_ms);
        state.hub.from_client(client, input, now, &mut state.ports);
        self.wake(node);
    }

    /// Everybody connected to the present life of a node.
    fn clients_of(&mut self, node: u16) -> Vec<(u64, ConnectionId)> {
        let life = self.node(node).life;
        let here = self.by_client.range((node, life, 0)..=(node, life, u64::MAX));
        here.map(|((_, _, client), connection)| (*client, *connection)).collect()
    }

    /// Tells the model who has been given a name in this turn.
    pub fn admit_people(&mut self, node: u16) {
        for (client, connection) in self.clients_of(node) {
            let hub = &self.nodes[usize::from(node)].hub;
            let Some(registration) = hub.registration(client) else { continue };
            if self.model.talks[&connection].registration.is_some() {
                continue;
            }
            let person = self.model.talks[&connection].person;
            let (applied, sent) = (hub.replica().applied(), &self.people[person].sent);
            let covered: Vec<(_, _)> = sent.iter().filter(|(origin, height)| applied.get(*origin) >= *height).collect();
            let acknowledged = (self.model.talks.iter())
                .filter(|(other, talk)| **other != connection && talk.person == person)
                .flat_map(|(_, talk)| &talk.said)
                .copied();
            let covered = acknowledged
                .filter(|message| self.model.said[*message].receipts.first().is_some_and(|first| first.id.is_some()))
                .filter(|message| {
                    let entry = self.model.said[*message].entry.as_ref();
                    entry.is_some_and(|entry| {
                        covered.iter().any(|(origin, to)| entry.origin == *origin && entry.number <= *to)
                    })
                })
                .collect();
            note!(self, "person {person} has a name on node {node}, registration {registration:?}");
            self.model.admitted(connection, registration, covered, self.now_ms);
        }
    }

    /// Writes what hubs have put out into sockets, and lets fast readers read.
    pub fn pump_people(&mut self, node: u16) {
        let life = self.node(node).life;
        for client in std::mem::take(&mut self.node(node).ports.touched) {
            if let Some(connection) = self.by_client.get(&(node, life, client)).copied() {
                self.pump_client(connection);
            }
        }
    }

    fn pump_client(&mut self, connection: ConnectionId) {
        loop {
            let Some(open) = self.connections.get_mut(&connection) else { return };
            let (node, client) = (open.node, open.client);
            let state = &mut self.nodes[usize::from(node)];
            let Some(out) = state.ports.clients.get_mut(&client) else { return };
            let room = match open.standing {
                Standing::Abandoned => usize::MAX,
                _ => open.socket_room.saturating_sub(open.socket.len()),
            };
            let count = room.min(out.writing.len() - out.written);
            if open.standing != Standing::Abandoned {
                open.socket.extend_from_slice(&out.writing[out.written..out.written + count]);
            }
            out.written += count;
            if out.written < out.writing.len() {
                break;
            }
            let marks = std::mem::take(&mut out.writing_marks);
            (out.writing, out.written) = (Vec::new(), 0);
            let is_drained =
                out.bytes.len() < state.ports.max_client_bytes / 2 && std::mem::take(&mut out.tell_when_drained);
            let is_finished = out.bytes.is_empty();
            let is_closing = out.is_closing;
            out.writing = std::mem::take(&mut out.bytes);
            out.writing_marks = std::mem::take(&mut out.marks);
            let reports: Vec<Mark> =
                marks.into_iter().map(|(_, mark)| mark).filter(|mark| mark.wants_receipt || mark.is_mail).collect();
            if !reports.is_empty() {
                self.client_input(connection, FromClient::Written(reports));
            }
            if is_drained {
                self.client_input(connection, FromClient::Drained);
            }
            if is_finished {
                if is_closing {
                    self.closed_by_node(connection);
                }
                break;
            }
        }
        let is_fast = self.connections.get(&connection).is_some_and(|open| open.socket_room == usize::MAX);
        if is_fast {
            self.read(connection, usize::MAX);
        }
    }

    pub fn read_slowly(&mut self, connection: ConnectionId) {
        let Some(open) = self.connections.get(&connection) else { return };
        let Reading::Slow { bytes, every_ms } = self.people[open.person].reading else { return };
        if self.is_quiet {
            if let Some(open) = self.connections.get_mut(&connection) {
                open.socket_room = usize::MAX;
            }
            self.read(connection, usize::MAX);
        } else {
            self.read(connection, bytes);
            self.schedule(every_ms, Event::Read(connection));
        }
        self.pump_client(connection);
    }

    pub fn read(&mut self, connection: ConnectionId, max_bytes: usize) {
        let Some(open) = self.connections.get_mut(&connection) else { return };
        if open.standing == Standing::Abandoned {
            return;
        }
        let (person, dialect) = (open.person, open.dialect);
        for heard in open.read(max_bytes) {
            self.model.heard(connection, &heard);
            self.take_in(connection, person, dialect, heard);
        }
    }

    fn take_in(&mut self, connection: ConnectionId, person: PersonId, dialect: Dialect, heard: Heard) {
        let who = &mut self.people[person];
        match heard {
            Heard::Registered { name, resumed, heights, registration } => {
                note!(self, "person {person} reads that they are registered (resumed: {resumed})");
                who.registered(resumed, heights, registration);
                if let Some(name) = name {
                    who.name = name;
                }
                if let Some(open) = self.connections.get_mut(&connection) {
                    open.standing = Standing::Registered;
                }
            }
            Heard::Refused { taken } => {
                note!(self, "person {person} reads that the name {} is refused (taken: {taken})", who.name);
                if taken {
                    self.schedule(250, Event::Retry(connection));
                }
            }
            Heard::PassphraseWanted => {
                let passphrase = who.passphrase().reveal().to_owned();
                note!(self, "person {person} is asked for the passphrase of {}", who.name);
                self.type_line(connection, &passphrase);
            }
            Heard::Message { id, from, to, text, replayed } => {
                let text = text.trim_end_matches('x');
                note!(self, "person {person} reads {text}from {from} to {to:?} (replayed: {replayed})");
                who.receive(id);
            }
            Heard::Receipt(receipt) => {
                let (reference, state, holding) = (receipt.reference, receipt.state(), receipt.nodes_holding);
                note!(self, "person {person} reads that {reference} is {state:?} (on {holding})");
                if matches!(state, State::Accepted | State::Kept) {
                    who.acknowledge(receipt.id.as_ref());
                }
            }
            Heard::Notice(text) => note!(self, "person {person} ({dialect:?}) is told: {text}"),
            Heard::Renamed(name) => {
                note!(self, "person {person} reads that they are {name} now");
                who.name = name;
            }
            Heard::Nothing => {}
        }
    }

    /// The node has written everything and closes.
    fn closed_by_node(&mut self, connection: ConnectionId) {
        self.read(connection, usize::MAX);
        self.hang_up(connection);
        self.go_elsewhere(connection);
    }

    /// The connection ends now. What was not written is told to the hub; what was not read is gone.
    pub fn hang_up(&mut self, connection: ConnectionId) {
        let Some(open) = self.connections.get(&connection) else { return };
        let (person, node, life, client) = (open.person, open.node, open.life, open.client);
        note!(self, "connection {connection} of person {person} to node {node} ends");
        if let Some(out) = self.node(node).ports.clients.remove(&client)
            && self.is_current(node, life)
        {
            let late = out.writing_marks.into_iter().filter(|(end, _)| *end > out.written);
            let unwritten = late.chain(out.marks).map(|(_, mark)| mark).collect();
            let registration = self.node(node).hub.registration(client);
            self.client_input(connection, FromClient::Closed { unwritten });
            if self.node(node).phase == Phase::Up {
                self.check_expected(connection, registration);
            }
        }
        self.by_client.remove(&(node, life, client));
        self.connections.remove(&connection);
        self.model.closed(connection);
        if self.people[person].connection == Some(connection) {
            self.people[person].connection = None;
        }
    }

    fn go_elsewhere(&mut self, connection: ConnectionId) {
        let person = self.model.talks[&connection].person;
        if !self.people[person].has_left && self.people[person].connection.is_none() {
            let delay_ms = self.dice.between(1, 800);
            self.schedule(delay_ms, Event::Reconnect(person));
        }
    }

    /// A person finds that the node is gone.
    pub fn lose(&mut self, connection: ConnectionId) {
        if self.connections.contains_key(&connection) {
            if self.dice.chance(50) {
                self.read(connection, usize::MAX);
            }
            self.hang_up(connection);
            self.go_elsewhere(connection);
        }
    }

    pub fn reconnect(&mut self, person: PersonId) {
        if self.people[person].has_left || self.people[person].connection.is_some() {
            return;
        }
        let nodes = self.open_nodes();
        match self.dice.pick(&nodes) {
            Some(node) => self.connect(person, node),
            None => self.schedule(300, Event::Reconnect(person)),
        }
    }

    /// A stopping process writes what it still can, whatever the reader's pace: the system keeps it for them.
    pub fn write_last(&mut self, node: u16) {
        for (client, connection) in self.clients_of(node) {
            let Some(out) = self.node(node).ports.clients.remove(&client) else { continue };
            let Some(open) = self.connections.get_mut(&connection) else { continue };
            open.socket.extend_from_slice(&out.writing[out.written..]);
            open.socket.extend_from_slice(&out.bytes);
        }
    }

    /// Says something on a connection, if its person has a name there.
    pub fn say(&mut self, person: PersonId, to: &str, padding: usize) {
        let Some(connection) = self.people[person].connection else { return };
        let Some(open) = self.connections.get_mut(&connection) else { return };
        if open.standing != Standing::Registered || !self.model.talks[&connection].is_open {
            return;
        }
        let reference = open.next_reference;
        open.next_reference += 1;
        let (node, life) = (open.node, open.life);
        let message = self.model.submitted(connection, reference, to);
        self.model.said[message].is_to_expected = self.is_current(node, life) && self.expects(node, to);
        note!(self, "person {person} says m{message} to {to}");
        let mut submissions = Submissions::new(self.now_ms * 1_000);
        submissions.push(to.as_bytes(), text_of(message, padding).as_bytes(), reference, None);
        self.client_input(connection, FromClient::Submit(submissions));
    }

    fn type_line(&mut self, connection: ConnectionId, line: &str) {
        let (to, text) = line.split_once(' ').unwrap();
        let mut submissions = Submissions::new(self.now_ms * 1_000);
        submissions.push(to.as_bytes(), text.as_bytes(), 0, None);
        self.client_input(connection, FromClient::Submit(submissions));
    }

    /// Types a slash command, if the person has a name.
    pub fn command(&mut self, person: PersonId, command: Command) {
        let Some(connection) = self.people[person].connection else { return };
        if self.connections.get(&connection).is_some_and(|open| open.standing == Standing::Registered) {
            note!(self, "person {person} says {command:?}");
            self.client_input(connection, FromClient::Command(command));
        }
    }

    /// Makes the name theirs; from then on they say the passphrase with it.
    pub fn claim(&mut self, person: PersonId) {
        // What is written to a connection that nobody looks at any more counts as read by an owner.
        let is_abandoned = |open: &Connection| open.person == person && open.standing == Standing::Abandoned;
        if self.connections.values().any(is_abandoned) {
            return;
        }
        self.people[person].has_claimed = true;
        let passphrase = self.people[person].passphrase();
        self.command(person, Command::Claim(passphrase));
    }

    /// Leaves in good order: the node answers and closes.
    pub fn say_goodbye(&mut self, person: PersonId) {
        let Some(connection) = self.people[person].connection else { return };
        note!(self, "person {person} says goodbye");
        let input = match self.people[person].dialect {
            Dialect::Lines => FromClient::Command(Command::Quit),
            _ => FromClient::Goodbye,
        };
        self.people[person].ends_session();
        self.client_input(connection, input);
    }

    /// The person goes elsewhere and the old connection is neither read nor closed.
    pub fn abandon(&mut self, person: PersonId) {
        let Some(connection) = self.people[person].connection.take() else { return };
        note!(self, "person {person} is gone from connection {connection}, which stays open");
        if let Some(open) = self.connections.get_mut(&connection) {
            open.standing = Standing::Abandoned;
        }
        self.model.closed(connection);
        self.pump_client(connection);
    }
}
