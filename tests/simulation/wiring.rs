//! Links: dialling, opening, moving frames, closing; and nodes that die, stop and come back.

use bytes::Bytes;
use clique::{
    node::hub::FromLink,
    wire::{peer::PeerFrame, peer_codec},
};

use crate::{
    faults::Fault,
    network::{CableId, Cargo, End, EndState},
    node::{LinkOut, Phase},
    world::{Event, World, note},
};

/// How a node dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The process: the system closes its sockets.
    Killed,
    /// The machine: nobody is told.
    PowerCut,
}

fn packed(frame: &PeerFrame) -> Bytes {
    let (head, entries) = peer_codec::encode(frame);
    [&head[..], &entries[..]].concat().into()
}

impl World {
    pub fn peer(&self, cable: CableId, end: usize) -> u16 {
        self.network.cables.get(&cable).map_or(u16::MAX, |cable| cable.ends[1 - end].node)
    }

    pub fn dial(&mut self, node: u16, life: u64, target: u16) {
        if !self.is_current(node, life) || self.network.is_linked(node, target) {
            return;
        }
        let is_reachable = self.nodes[usize::from(target)].is_running()
            && !self.network.is_stalled(node, target)
            && !self.network.is_stalled(target, node);
        let failures = *self.failures.entry((node, target)).and_modify(|count| *count += 1).or_insert(0);
        let pause_ms = (50 << failures.min(5)).min(1_000);
        let pause_ms = pause_ms + self.dice.below(pause_ms);
        if !is_reachable {
            return self.schedule(pause_ms, Event::Dial { node, life, target });
        }
        let there = self.network.pace(node, target);
        let back = self.network.pace(target, node);
        let there_ms = self.dice.between(there.least_ms, there.most_ms);
        let back_ms = self.dice.between(back.least_ms, back.most_ms);
        let ends = [(node, target), (target, node)].map(|(here, other)| self.greeted_end(here, other));
        let cable = self.network.plug(ends);
        self.schedule(there_ms, Event::Opened { cable, end: 1 });
        self.schedule(there_ms + back_ms, Event::Opened { cable, end: 0 });
        // Should it fail, another try follows.
        self.schedule(there_ms + back_ms + pause_ms, Event::Dial { node, life, target });
    }

    /// One end of a new cable. It has heard what the other node says of itself, through the wire.
    fn greeted_end(&mut self, node: u16, other: u16) -> End {
        let hello = PeerFrame::Hello(Box::new(self.node(other).hub.hello()));
        let PeerFrame::Hello(greeting) = peer_codec::decode(&mut packed(&hello)).unwrap() else {
            panic!("not a hello")
        };
        let state = self.node(node);
        End { node, life: state.life, link: state.fresh_id(), state: EndState::Opening, greeting: Some(greeting) }
    }

    pub fn open_end(&mut self, cable: CableId, end: usize) {
        let Some(ends) = self.network.cables.get(&cable).map(|cable| &cable.ends) else { return };
        let (node, other) = (ends[end].node, ends[1 - end].node);
        let (life, link) = (ends[end].life, ends[end].link);
        let is_alive = self.is_current(node, life)
            && ends[end].state == EndState::Opening
            && ends[1 - end].state != EndState::Closed
            && !self.network.is_stalled(other, node);
        let Some(cable_state) = self.network.cables.get_mut(&cable) else { return };
        if !is_alive {
            cable_state.ends[end].state = EndState::Closed;
            self.network.sweep();
            return;
        }
        cable_state.ends[end].state = EndState::Open;
        let Some(hello) = cable_state.ends[end].greeting.take() else { return };
        let dialed_by_us = end == 0;
        note!(self, "node {node} has a link to node {other} (cable {cable}, dialled: {dialed_by_us})");
        self.failures.remove(&(node, other));
        self.node(node).ports.links.insert(link, LinkOut::default());
        self.link_input(node, link, FromLink::Opened { dialed_by_us, hello });
        self.schedule(0, Event::Arrive { cable, from: 1 - end });
    }

    /// Moves frames from a hub's output to the lane, as far as there is room.
    pub fn pump_link(&mut self, cable: CableId, end: usize) {
        let Some(ends) = self.network.cables.get(&cable).map(|cable| &cable.ends) else { return };
        let (node, life, link) = (ends[end].node, ends[end].life, ends[end].link);
        let other = ends[1 - end].node;
        if ends[end].state != EndState::Open || !self.is_current(node, life) {
            return;
        }
        while self.network.has_room(cable, end) {
            let Some(frame) = self.node(node).ports.next_frame(link) else { break };
            let Some(frame) = self.faults.on_the_way(node, other, frame, &mut self.dice) else {
                note!(self, "FAULT: a frame from node {node} to node {other} is dropped");
                continue;
            };
            let cargo = Cargo::Frame(packed(&frame));
            if let Some(at_ms) = self.network.send(cable, end, cargo, self.now_ms, &mut self.dice) {
                self.schedule(at_ms - self.now_ms, Event::Arrive { cable, from: end });
            }
        }
        if self.node(node).ports.is_drained(link) {
            self.link_input(node, link, FromLink::Drained);
        }
    }

    pub fn arrive(&mut self, cable: CableId, from: usize) {
        while let Some(cargo) = self.network.arrive(cable, from, self.now_ms) {
            let Some(end) = self.network.cables.get(&cable).map(|cable| &cable.ends[1 - from]) else { return };
            let (node, life, link, state) = (end.node, end.life, end.link, end.state);
            if state != EndState::Open || !self.is_current(node, life) {
                continue;
            }
            match cargo {
                Cargo::Close => self.shut_end(cable, 1 - from),
                Cargo::Frame(mut bytes) => {
                    let frame = peer_codec::decode(&mut bytes).unwrap();
                    self.note_frame(cable, from, &frame);
                    self.link_input(node, link, FromLink::Frame(frame));
                }
            }
        }
        self.pump_link(cable, from);
    }

    /// The frames that decide what is held where.
    fn note_frame(&mut self, cable: CableId, from: usize, frame: &PeerFrame) {
        let (node, other) = (self.peer(cable, from), self.peer(cable, 1 - from));
        match frame {
            PeerFrame::Entries(entries) => {
                let (origin, first) = (entries.origin, entries.first);
                note!(self, "cable {cable}: node {other} -> {node}: entries of {origin} from {first}");
            }
            PeerFrame::Want { origin, from, stop } => {
                note!(self, "cable {cable}: node {other} -> {node}: wants {origin} from {from} (stop: {stop})");
            }
            _ => {}
        }
    }

    pub fn shut_end(&mut self, cable: CableId, end: usize) {
        let Some(state) = self.network.cables.get_mut(&cable) else { return };
        if state.ends[end].state == EndState::Closed {
            return;
        }
        state.ends[end].state = EndState::Closed;
        let (node, life, link) = (state.ends[end].node, state.ends[end].life, state.ends[end].link);
        let other = state.ends[1 - end].node;
        self.network.deafen(cable, end);
        if let Some(at_ms) = self.network.send(cable, end, Cargo::Close, self.now_ms, &mut self.dice) {
            self.schedule(at_ms - self.now_ms, Event::Arrive { cable, from: end });
        }
        if self.is_current(node, life) {
            self.link_input(node, link, FromLink::Closed);
            let state = self.node(node);
            state.ports.links.remove(&link);
            if state.targets.contains(&other) {
                let delay_ms = self.dice.between(0, 60);
                self.schedule(delay_ms, Event::Dial { node, life, target: other });
            }
        }
        self.network.sweep();
    }

    /// What is under way on a cable is lost, and one or both ends are told; the other finds out by the silence.
    pub fn break_cable(&mut self, cable: CableId) {
        self.network.kill(cable);
        let told = self.dice.below(3);
        for end in [0, 1] {
            if told == 2 || told == end as u64 {
                let delay_ms = self.dice.between(0, 40);
                self.schedule(delay_ms, Event::Shut { cable, end });
            }
        }
    }

    pub fn heal(&mut self, from: u16, to: u16) {
        if !self.network.is_stalled(from, to) {
            return;
        }
        note!(self, "the way from node {from} to node {to} is whole again");
        self.network.heal(from, to);
        let late: Vec<(CableId, usize)> =
            self.network.of_node(to).into_iter().filter(|(cable, end)| self.peer(*cable, *end) == from).collect();
        for (cable, end) in late {
            self.schedule(0, Event::Arrive { cable, from: 1 - end });
        }
    }

    pub fn crash(&mut self, node: u16, death: Death) {
        note!(self, "node {node} dies ({death:?})");
        self.node(node).phase = Phase::Down;
        self.nodes[usize::from(node)].disk.crash(&mut self.dice);
        self.unplug(node, death == Death::Killed);
        self.after_death(node, false);
    }

    /// Every cable of a node ends; its peers are told, or not.
    fn unplug(&mut self, node: u16, tells: bool) {
        for (cable, end) in self.network.of_node(node) {
            if let Some(state) = self.network.cables.get_mut(&cable) {
                state.ends[end].state = EndState::Closed;
            }
            self.network.deafen(cable, end);
            if !tells {
                self.network.kill(cable);
            } else if let Some(at_ms) = self.network.send(cable, end, Cargo::Close, self.now_ms, &mut self.dice) {
                self.schedule(at_ms - self.now_ms, Event::Arrive { cable, from: end });
            }
        }
    }

    /// `is_wiped`: its disk is gone, too.
    pub fn after_death(&mut self, node: u16, is_wiped: bool) {
        let orphans: Vec<usize> =
            self.connections.iter().filter(|(_, open)| open.node == node).map(|(connection, _)| *connection).collect();
        for connection in orphans {
            let delay_ms = self.dice.between(5, 1_500);
            self.schedule(delay_ms, Event::Lost(connection));
            self.model.closed(connection);
        }
        let lost = self.model.copies_lost(&self.nodes, self.limits.disk.is_some() && !is_wiped);
        if lost > 0 {
            note!(self, "with node {node} the last copies of {lost} messages are gone");
        }
    }

    /// Begins a stop in good order.
    pub fn stop(&mut self, node: u16) {
        note!(self, "node {node} is told to stop");
        let now_ms = self.now_ms;
        let state = self.node(node);
        state.phase = Phase::Stopping(now_ms + 5_000);
        let now = state.now(now_ms);
        state.hub.stop(now, &mut state.ports);
        self.wake(node);
    }

    pub fn exit(&mut self, node: u16, life: u64) {
        if !self.is_current(node, life) {
            return;
        }
        self.flush(node);
        let all_have_it = self.node(node).hub.is_replicated() && self.has_living_peers(node);
        self.write_last(node);
        note!(self, "node {node} has stopped");
        self.serve_disk(node);
        self.node(node).phase = Phase::Down;
        self.node(node).disk.close();
        self.unplug(node, true);
        let origin = self.node(node).origin();
        self.after_death(node, false);
        let said = &self.model.said;
        let lost =
            said.iter().filter_map(|said| said.entry.as_ref()).find(|entry| entry.is_lost && entry.origin == origin);
        if let Some(number) = lost.map(|entry| entry.number).filter(|_| all_have_it) {
            self.model.violation(format!("Kept: node {node} stopped in good order, and {origin}#{number} is gone"));
        }
    }

    /// Whether a node is linked, and all that it is linked to are what it takes them for.
    fn has_living_peers(&self, node: u16) -> bool {
        let cables = self.network.of_node(node);
        let reachable = self.nodes[usize::from(node)].hub.members().reachable_count();
        let is_alive = |(cable, end): &(CableId, usize)| {
            let peer = &self.network.cables[cable].ends[1 - end];
            peer.state == EndState::Open && self.is_current(peer.node, peer.life)
        };
        reachable > 1 && cables.iter().all(is_alive)
    }

    pub fn restart(&mut self, node: u16, life: u64) {
        if self.node(node).is_running() || self.node(node).life != life {
            return;
        }
        let (now_ms, count, limits) = (self.now_ms, self.nodes.len(), self.limits);
        if self.limits.fault == Some(Fault::ForgetHeight) {
            self.nodes[usize::from(node)].disk.forget_a_row(&mut self.dice);
        }
        self.node(node).restart(count, limits, now_ms);
        self.model.held_back(self.nodes[usize::from(node)].disk.aside());
        note!(self, "node {node} starts, as {}", self.nodes[usize::from(node)].origin());
        self.begin(node);
    }

    /// The first things that a node does.
    pub fn begin(&mut self, node: u16) {
        let life = self.node(node).life;
        self.wake(node);
        for target in self.node(node).targets.clone() {
            self.failures.remove(&(node, target));
            let delay_ms = self.dice.between(0, 30);
            self.schedule(delay_ms, Event::Dial { node, life, target });
        }
    }
}
