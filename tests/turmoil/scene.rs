//! One run: hosts, the network between them and what is wrong with it at the moment.

use std::{cell::RefCell, rc::Rc, time::Duration};

use clique::{clique::Heights, wire::Dialect};
use tokio::sync::mpsc;
use turmoil::{Builder, Sim};

use crate::{
    dice::Dice,
    faults::Fault,
    hearing::Memory,
    model::PersonId,
    nodes::{self, Common, Handle, Topology, host},
    person::{Order, Person},
    probe,
    scenario::Theme,
    stage::{Stage, note},
    world::EPOCH_S,
};

/// Grain of simulated time: what is sent arrives at the earliest in the next tick.
pub const TICK_MS: u64 = 5;
/// Segments that wait in a socket.
const SOCKET_SEGMENTS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing gets through, what is under way is lost.
    Cut,
    /// The same in one direction.
    CutOneWay,
    /// Nothing gets through, but it will.
    Held,
}

/// A disk that has no room for a while.
struct Full {
    node: u16,
    until_ms: u64,
}

/// Something wrong between two hosts.
struct Disturbance {
    from: String,
    to: String,
    trouble: Trouble,
    until_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Up,
    Stopping,
    Down { until_ms: u64 },
}

pub struct SimNode {
    pub standing: Standing,
    pub handle: Handle,
}

/// A person, from outside.
pub struct Puppet {
    pub orders: mpsc::UnboundedSender<Order>,
}

pub struct Scene {
    pub sim: Sim<'static>,
    pub stage: Stage,
    pub dice: Dice,
    pub nodes: Vec<SimNode>,
    pub people: Vec<Puppet>,
    disturbances: Vec<Disturbance>,
    full: Vec<Full>,
    pub has_disks: bool,
    probes: usize,
    fault: Option<Fault>,
}

/// What a probe finds out.
pub type Answer = Rc<RefCell<Option<Heights>>>;

fn person_host(person: PersonId) -> String {
    format!("person{person}")
}

impl Scene {
    pub fn new(theme: &Theme, seed: u64, fault: Option<Fault>) -> Self {
        let mut dice = Dice::new(seed);
        let mut builder = Builder::new();
        builder
            .epoch(std::time::UNIX_EPOCH + Duration::from_secs(EPOCH_S))
            .rng_seed(seed)
            .enable_random_order()
            .simulation_duration(Duration::from_secs(3_600))
            .tick_duration(Duration::from_millis(TICK_MS))
            .tcp_capacity(SOCKET_SEGMENTS)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(dice.between(5, 100)));
        let mut sim = builder.build();
        let stage = Stage::default();
        let count = u16::try_from(dice.between(theme.nodes.0, theme.nodes.1)).unwrap();
        let topology = dice.pick(&[Topology::Full, Topology::Star, Topology::Ring]).unwrap();
        let has_disks = dice.chance(theme.disks_percent);
        note!(stage, 0, "{count} nodes, told of each other as a {topology:?}, with disks: {has_disks}");
        stage.model().has_disks = has_disks;
        let max_client_output_bytes = theme.max_client_output_bytes;
        let common = Common { seed, count, topology, max_client_output_bytes, has_disks, fault };
        let nodes = (0..count)
            .map(|index| SimNode { standing: Standing::Up, handle: nodes::add(&mut sim, index, common) })
            .collect();
        let (people, disturbances, full) = (Vec::new(), Vec::new(), Vec::new());
        Self { sim, stage, dice, nodes, people, disturbances, full, has_disks, probes: 0, fault }
    }

    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.sim.elapsed().as_millis()).unwrap()
    }

    pub fn node_count(&self) -> u16 {
        u16::try_from(self.nodes.len()).unwrap()
    }

    pub fn add_person(&mut self, dialect: Dialect, node: u16) {
        let (orders, obeyed) = mpsc::unbounded_channel();
        let name = format!("p{}", self.people.len());
        let id = self.stage.model().joined(&name);
        let person = Person {
            id,
            name,
            dialect,
            node,
            nodes: self.node_count(),
            memory: Memory { fault: self.fault, ..Memory::default() },
            stage: self.stage.clone(),
            orders: obeyed,
            dice: Dice::new(self.dice.below(u64::MAX)),
            is_calm: false,
        };
        self.people.push(Puppet { orders });
        self.sim.client(person_host(id), async move {
            person.live().await;
            Ok(())
        });
    }

    pub fn order(&self, person: PersonId, order: Order) {
        // Who has ended with an error fails the run.
        let _ = self.people[person].orders.send(order);
    }

    /// Asks a node, as anybody may, how far it has what each origin said.
    pub fn probe(&mut self, node: u16) -> Answer {
        let (answer, name) = (Answer::default(), format!("probe{}", self.probes));
        self.probes += 1;
        let told = answer.clone();
        self.sim.client(name.clone(), async move {
            let heights = probe::heights(&name, node).await?;
            *told.borrow_mut() = Some(heights);
            Ok(())
        });
        answer
    }

    /// Lets time go by.
    pub fn run_until(&mut self, until_ms: u64) {
        while self.now_ms() < until_ms && self.stage.model().violations.is_empty() {
            if let Err(error) = self.sim.step() {
                self.stage.model().violation(format!("a task failed: {error}"));
            }
            self.mend_what_is_due();
        }
    }

    fn mend_what_is_due(&mut self) {
        let now_ms = self.now_ms();
        while let Some(due) = self.disturbances.iter().position(|fault| fault.until_ms <= now_ms) {
            self.mend(due);
        }
        while let Some(due) = self.full.iter().position(|full| full.until_ms <= now_ms) {
            self.make_room(due);
        }
        for index in 0..self.node_count() {
            match self.nodes[usize::from(index)].standing {
                Standing::Down { until_ms } if until_ms <= now_ms => self.revive(index),
                Standing::Stopping if !self.sim.is_host_running(host(index)) => {
                    note!(self.stage, now_ms, "node {index} has stopped");
                    let until_ms = now_ms + self.dice.between(10, 1_500);
                    self.has_died(index, until_ms);
                }
                _ => {}
            }
        }
    }

    fn make_room(&mut self, full: usize) {
        let Full { node, .. } = self.full.swap_remove(full);
        note!(self.stage, self.now_ms(), "there is room on the disk of node {node} again");
        self.nodes[usize::from(node)].handle.disk.set_full(false);
    }

    pub fn make_room_everywhere(&mut self) {
        while !self.full.is_empty() {
            self.make_room(0);
        }
    }

    pub fn fill(&mut self, node: u16, lasting_ms: u64) {
        let disk = &self.nodes[usize::from(node)].handle.disk;
        if self.has_disks && !disk.is_full() {
            note!(self.stage, self.now_ms(), "the disk of node {node} is full for {lasting_ms} ms");
            disk.set_full(true);
            let until_ms = self.now_ms() + lasting_ms;
            self.full.push(Full { node, until_ms });
        }
    }

    fn mend(&mut self, fault: usize) {
        let Disturbance { from, to, trouble, .. } = self.disturbances.swap_remove(fault);
        note!(self.stage, self.now_ms(), "{from} and {to} are not {trouble:?} any more");
        match trouble {
            Trouble::Cut => self.sim.repair(from, to),
            Trouble::CutOneWay => self.sim.repair_oneway(from, to),
            Trouble::Held => self.sim.release(from, to),
        }
    }

    /// Everything that is wrong with the network, with one host's if one is named, ends.
    pub fn mend_all(&mut self, host: Option<&str>) {
        let concerns = |fault: &Disturbance| host.is_none_or(|host| fault.from == host || fault.to == host);
        while let Some(fault) = self.disturbances.iter().position(concerns) {
            self.mend(fault);
        }
    }

    /// Nothing happens if there is something wrong between the two already, or one is down.
    fn trouble(&mut self, from: &str, to: &str, trouble: Trouble, lasting_ms: u64) {
        let is_between =
            |fault: &Disturbance| (fault.from == from && fault.to == to) || (fault.from == to && fault.to == from);
        if self.disturbances.iter().any(is_between) {
            return;
        }
        note!(self.stage, self.now_ms(), "{from} and {to} are {trouble:?} for {lasting_ms} ms");
        match trouble {
            Trouble::Cut => self.sim.partition(from, to),
            Trouble::CutOneWay => self.sim.partition_oneway(from, to),
            Trouble::Held => self.sim.hold(from, to),
        }
        let until_ms = self.now_ms() + lasting_ms;
        self.disturbances.push(Disturbance { from: from.to_owned(), to: to.to_owned(), trouble, until_ms });
    }

    fn is_dark(&self, node: u16) -> bool {
        matches!(self.nodes[usize::from(node)].standing, Standing::Down { .. })
    }

    pub fn between_nodes(&mut self, from: u16, to: u16, trouble: Trouble, lasting_ms: u64) {
        if !self.is_dark(from) && !self.is_dark(to) {
            self.trouble(&host(from), &host(to), trouble, lasting_ms);
        }
    }

    pub fn hold_person(&mut self, person: PersonId, node: u16, lasting_ms: u64) {
        if !self.is_dark(node) {
            self.trouble(&person_host(person), &host(node), Trouble::Held, lasting_ms);
        }
    }

    pub fn set_latency(&mut self, from: u16, to: u16, most_ms: u64) {
        note!(self.stage, self.now_ms(), "between nodes {from} and {to} it takes up to {most_ms} ms");
        self.sim.set_link_max_message_latency(host(from), host(to), Duration::from_millis(most_ms));
    }

    /// The node dies. If only its process does, its system closes its connections; after a power cut nobody hears of it.
    pub fn kill(&mut self, node: u16, is_power_cut: bool, lasting_ms: u64) {
        let now_ms = self.now_ms();
        note!(self.stage, now_ms, "node {node} dies for {lasting_ms} ms (power cut: {is_power_cut})");
        let name = host(node);
        self.mend_all(Some(&name));
        if is_power_cut {
            let until_ms = now_ms + lasting_ms;
            let nodes = (0..self.node_count()).filter(|other| *other != node).map(host);
            let others: Vec<String> = nodes.chain((0..self.people.len()).map(person_host)).collect();
            for to in others {
                self.sim.partition(name.as_str(), to.as_str());
                self.disturbances.push(Disturbance { from: name.clone(), to, trouble: Trouble::Cut, until_ms });
            }
        }
        self.end_process(node, is_power_cut);
        self.sim.crash(name);
        self.has_died(node, now_ms + lasting_ms);
    }

    /// What the system does for a process that is about to be gone.
    fn end_process(&self, node: u16, is_power_cut: bool) {
        let handle = &self.nodes[usize::from(node)].handle;
        handle.disk.crash(is_power_cut, self.now_ms());
        handle.sockets.set_dying(true);
    }

    fn has_died(&mut self, node: u16, until_ms: u64) {
        let now_ms = self.now_ms();
        self.stage.model().deaths.push((now_ms, node));
        let state = &mut self.nodes[usize::from(node)];
        state.standing = Standing::Down { until_ms };
        *state.handle.status.borrow_mut() = None;
    }

    pub fn stop(&mut self, node: u16) {
        note!(self.stage, self.now_ms(), "node {node} is told to stop");
        let state = &mut self.nodes[usize::from(node)];
        state.standing = Standing::Stopping;
        state.handle.stop.notify_one();
    }

    pub fn revive(&mut self, node: u16) {
        note!(self.stage, self.now_ms(), "node {node} starts again");
        self.nodes[usize::from(node)].standing = Standing::Up;
        self.end_process(node, false);
        self.sim.bounce(host(node));
    }
}
