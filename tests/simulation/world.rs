//! The world: nodes, network, people, and one queue of events in the order of their time.

use std::collections::BTreeMap;

use clique::node::hub::{ClientId, FromLink};

use crate::{
    dice::Dice,
    faults::Faults,
    model::Model,
    network::{CableId, Network},
    node::{NodeLimits, Phase, SimNode},
    person::{Connection, ConnectionId, Person, PersonId},
    transcript::Transcript,
};

/// Something that is going to happen. Those that belong to a node's life are void after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Turn {
        node: u16,
        life: u64,
    },
    /// A parcel on a lane is due.
    Arrive {
        cable: CableId,
        from: usize,
    },
    /// The handshake on one end of a cable is over.
    Opened {
        cable: CableId,
        end: usize,
    },
    /// An end of a cable is shut, its last frames written.
    Shut {
        cable: CableId,
        end: usize,
    },
    Dial {
        node: u16,
        life: u64,
        target: u16,
    },
    /// A slow reader reads a piece.
    Read(ConnectionId),
    /// Somebody notices that their node is gone.
    Lost(ConnectionId),
    /// Somebody asks for their name again.
    Retry(ConnectionId),
    Reconnect(PersonId),
    Exit {
        node: u16,
        life: u64,
    },
    Restart {
        node: u16,
        life: u64,
    },
    Heal {
        from: u16,
        to: u16,
    },
    /// A disk has done what was asked of it so far.
    Disk {
        node: u16,
        life: u64,
    },
    /// There is room on a disk again.
    Room {
        node: u16,
    },
}

pub struct World {
    pub now_ms: u64,
    pub dice: Dice,
    pub limits: NodeLimits,
    pub faults: Faults,
    pub nodes: Vec<SimNode>,
    pub network: Network,
    pub people: Vec<Person>,
    pub connections: BTreeMap<ConnectionId, Connection>,
    pub by_client: BTreeMap<(u16, u64, ClientId), ConnectionId>,
    pub model: Model,
    pub transcript: Transcript,
    /// Failed dials in a row, per dialler and target.
    pub failures: BTreeMap<(u16, u16), u32>,
    /// Everything calms down: slow readers read fast, nobody leaves.
    pub is_quiet: bool,
    pub next_connection: ConnectionId,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
}

/// Notes something in the transcript.
macro_rules! note {
    ($world:expr, $($what:tt)*) => {
        $world.transcript.note($world.now_ms, format_args!($($what)*))
    };
}
pub(crate) use note;

impl World {
    pub fn new(seed: u64, limits: NodeLimits, faults: Faults) -> Self {
        Self {
            now_ms: 0,
            dice: Dice::new(seed),
            limits,
            faults,
            nodes: Vec::new(),
            network: Network::default(),
            people: Vec::new(),
            connections: BTreeMap::new(),
            by_client: BTreeMap::new(),
            model: Model::default(),
            transcript: Transcript::default(),
            failures: BTreeMap::new(),
            is_quiet: false,
            next_connection: 1,
            queue: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub fn schedule(&mut self, after_ms: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now_ms + after_ms, self.sequence), event);
    }

    /// Lets things happen until a moment, or until the model has something to complain about.
    pub fn run_until(&mut self, until_ms: u64) {
        while let Some(entry) = self.queue.first_entry() {
            let at_ms = entry.key().0;
            if at_ms > until_ms || !self.model.violations.is_empty() {
                break;
            }
            let event = entry.remove();
            self.now_ms = at_ms.max(self.now_ms);
            self.happen(event);
        }
        self.now_ms = self.now_ms.max(until_ms);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn { node, life } => self.turn(node, life),
            Event::Arrive { cable, from } => self.arrive(cable, from),
            Event::Opened { cable, end } => self.open_end(cable, end),
            Event::Shut { cable, end } => self.shut_end(cable, end),
            Event::Dial { node, life, target } => self.dial(node, life, target),
            Event::Read(connection) => self.read_slowly(connection),
            Event::Lost(connection) => self.lose(connection),
            Event::Retry(connection) => self.ask_again(connection),
            Event::Reconnect(person) => self.reconnect(person),
            Event::Exit { node, life } => self.exit(node, life),
            Event::Restart { node, life } => self.restart(node, life),
            Event::Heal { from, to } => self.heal(from, to),
            Event::Disk { node, life } => self.disk_works(node, life),
            Event::Room { node } => self.make_room(node),
        }
    }

    pub fn node(&mut self, node: u16) -> &mut SimNode {
        &mut self.nodes[usize::from(node)]
    }

    pub fn is_current(&self, node: u16, life: u64) -> bool {
        let node = &self.nodes[usize::from(node)];
        node.is_running() && node.life == life
    }

    /// Nodes that take people.
    pub fn open_nodes(&self) -> Vec<u16> {
        self.nodes.iter().filter(|node| node.phase == Phase::Up).map(|node| node.index).collect()
    }

    /// A hub was given something: a turn must follow, soon, perhaps with more in it.
    pub fn wake(&mut self, node: u16) {
        let delay_ms = u64::from(self.dice.chance(20));
        self.plan_turn(node, self.now_ms + delay_ms);
    }

    fn plan_turn(&mut self, node: u16, at_ms: u64) {
        let now_ms = self.now_ms;
        let state = self.node(node);
        if state.turn_ms.is_some_and(|planned| planned <= at_ms && planned >= now_ms) {
            return;
        }
        state.turn_ms = Some(at_ms);
        let life = state.life;
        self.schedule(at_ms - now_ms, Event::Turn { node, life });
    }

    fn turn(&mut self, node: u16, life: u64) {
        let now_ms = self.now_ms;
        if !self.is_current(node, life) || self.node(node).turn_ms != Some(now_ms) {
            return;
        }
        let state = self.node(node);
        state.turn_ms = None;
        let now = state.now(now_ms);
        state.hub.finish_turn(now, &mut state.ports);
        let due_ms = state.started_ms + state.hub.next_deadline_ms(now);
        let due_ms = if state.hub.has_work() { now_ms } else { due_ms }.max(now_ms + 1);
        self.flush(node);
        self.admit_people(node);
        let state = &self.nodes[usize::from(node)];
        self.model.observe(&state.hub, life, now_ms);
        if let Some(name) = doubled_name(state) {
            self.model.violation(format!("node {node} has given the name {name} to two people of its own"));
        }
        self.pump_people(node);
        self.drain(node);
        self.serve_disk(node);
        self.plan_turn(node, due_ms);
    }

    /// What a turn has put out goes on its way to peers.
    pub fn flush(&mut self, node: u16) {
        let life = self.node(node).life;
        for member in std::mem::take(&mut self.node(node).ports.dials) {
            if self.node(node).targets.insert(member.node) {
                self.schedule(1, Event::Dial { node, life, target: member.node });
            }
        }
        let links: Vec<u64> = self.node(node).ports.links.keys().copied().collect();
        for link in links {
            let Some((cable, end)) = self.network.find(node, life, link) else { continue };
            self.pump_link(cable, end);
            let closing = self.node(node).ports.links.get_mut(&link).and_then(|out| out.closing.take());
            if let Some(reason) = closing {
                note!(self, "node {node} closes its link to node {}: {reason}", self.peer(cable, end));
                // Time for the last frames, which may say why.
                self.schedule(100, Event::Shut { cable, end });
            }
        }
    }

    /// A stopping node says goodbye when its peers have everything, or when its time is over.
    fn drain(&mut self, node: u16) {
        let now_ms = self.now_ms;
        let state = self.node(node);
        let Phase::Stopping(deadline_ms) = state.phase else { return };
        if deadline_ms == u64::MAX || (now_ms < deadline_ms && !state.hub.is_replicated()) {
            return;
        }
        // Said once.
        state.phase = Phase::Stopping(u64::MAX);
        let now = state.now(now_ms);
        state.hub.say_goodbye(now, &mut state.ports);
        let life = state.life;
        note!(self, "node {node} says goodbye");
        self.flush(node);
        self.pump_people(node);
        let delay_ms = self.dice.between(1, 100);
        self.schedule(delay_ms, Event::Exit { node, life });
    }

    pub fn link_input(&mut self, node: u16, link: u64, input: FromLink) {
        let now_ms = self.now_ms;
        let state = self.node(node);
        let now = state.now(now_ms);
        state.hub.from_link(link, input, now, &mut state.ports);
        self.wake(node);
    }
}

/// A name that two people of this node have.
fn doubled_name(node: &SimNode) -> Option<String> {
    let mut names: Vec<&str> = node.hub.directory().people_on(node.index).map(|person| person.name.key()).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].to_owned())
}
