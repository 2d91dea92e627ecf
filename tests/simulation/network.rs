//! The network between nodes: cables that carry the bytes of frames in order, with delay; cuts, breaks and slowness.
//!
//! A *cable* is one connection between two nodes. Each of its two *lanes* carries what one end sends. A cut stalls a
//! lane: nothing arrives any more, and nobody is told; should it heal in time, everything arrives late, as TCP would
//! have it. A break loses what is under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use clique::{clique::LinkId, wire::peer::Hello};

use crate::dice::Dice;

pub type CableId = u64;

/// How fast the way from one node to another is.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub least_ms: u64,
    pub most_ms: u64,
    /// `None`: as much as comes.
    pub bytes_per_ms: Option<u64>,
    /// Bytes under way at most; more waits at the sender.
    pub window_bytes: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { least_ms: 1, most_ms: 8, bytes_per_ms: None, window_bytes: 1 << 20 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndState {
    /// The handshake is under way.
    Opening,
    Open,
    Closed,
}

#[derive(Debug)]
pub struct End {
    pub node: u16,
    /// Which life of the node.
    pub life: u64,
    pub link: LinkId,
    pub state: EndState,
    /// What the other side says of itself.
    pub greeting: Option<Box<Hello>>,
}

#[derive(Debug)]
pub enum Cargo {
    Frame(Bytes),
    /// The sender has closed its end.
    Close,
}

#[derive(Debug)]
struct Parcel {
    at_ms: u64,
    cargo: Cargo,
}

#[derive(Debug, Default)]
struct Lane {
    parcels: VecDeque<Parcel>,
    /// When the last parcel arrives, and when the sender has put it on its way.
    last_ms: u64,
    free_ms: u64,
    bytes: usize,
}

/// The end that dialled comes first.
#[derive(Debug)]
pub struct Cable {
    pub ends: [End; 2],
    lanes: [Lane; 2],
    /// Broken: nothing arrives any more, in either direction.
    is_dead: bool,
}

#[derive(Debug, Default)]
pub struct Network {
    pub cables: BTreeMap<CableId, Cable>,
    next_cable: CableId,
    stalled: BTreeSet<(u16, u16)>,
    paces: BTreeMap<(u16, u16), Pace>,
}

impl Network {
    pub fn set_pace(&mut self, from: u16, to: u16, pace: Pace) {
        self.paces.insert((from, to), pace);
    }

    pub fn pace(&self, from: u16, to: u16) -> Pace {
        self.paces.get(&(from, to)).copied().unwrap_or_default()
    }

    pub fn stall(&mut self, from: u16, to: u16) {
        self.stalled.insert((from, to));
    }

    pub fn is_stalled(&self, from: u16, to: u16) -> bool {
        self.stalled.contains(&(from, to))
    }

    pub fn heal(&mut self, from: u16, to: u16) {
        self.stalled.remove(&(from, to));
    }

    pub fn heal_all(&mut self) {
        self.stalled.clear();
        self.paces.clear();
    }

    pub fn plug(&mut self, ends: [End; 2]) -> CableId {
        self.next_cable += 1;
        self.cables.insert(self.next_cable, Cable { ends, lanes: [Lane::default(), Lane::default()], is_dead: false });
        self.next_cable
    }

    /// Whether more fits on a lane now.
    pub fn has_room(&self, cable: CableId, from: usize) -> bool {
        let Some(cable) = self.cables.get(&cable) else { return false };
        let window = self.pace(cable.ends[from].node, cable.ends[1 - from].node).window_bytes;
        cable.lanes[from].bytes < window
    }

    /// Puts something on a lane; says when it will arrive.
    pub fn send(&mut self, cable: CableId, from: usize, cargo: Cargo, now_ms: u64, dice: &mut Dice) -> Option<u64> {
        let pace = self.pace(self.cables.get(&cable)?.ends[from].node, self.cables.get(&cable)?.ends[1 - from].node);
        if self.cables.get(&cable)?.is_dead {
            return None;
        }
        let lane = &mut self.cables.get_mut(&cable)?.lanes[from];
        let bytes = match &cargo {
            Cargo::Frame(frame) => frame.len(),
            Cargo::Close => 0,
        };
        let transfer_ms = pace.bytes_per_ms.map_or(0, |rate| bytes as u64 / rate.max(1));
        lane.free_ms = lane.free_ms.max(now_ms) + transfer_ms;
        let at_ms = lane.last_ms.max(lane.free_ms + dice.between(pace.least_ms, pace.most_ms));
        lane.last_ms = at_ms;
        lane.bytes += bytes;
        lane.parcels.push_back(Parcel { at_ms, cargo });
        Some(at_ms)
    }

    /// What arrives at the end of a lane by now, one at a time. Nothing while it is stalled or its receiver not open.
    pub fn arrive(&mut self, cable: CableId, from: usize, now_ms: u64) -> Option<Cargo> {
        let cable = self.cables.get_mut(&cable)?;
        let (sender, receiver) = (cable.ends[from].node, cable.ends[1 - from].node);
        if self.stalled.contains(&(sender, receiver)) || cable.ends[1 - from].state == EndState::Opening {
            return None;
        }
        let lane = &mut cable.lanes[from];
        let parcel = lane.parcels.pop_front_if(|parcel| parcel.at_ms <= now_ms)?;
        if let Cargo::Frame(frame) = &parcel.cargo {
            lane.bytes -= frame.len();
        }
        Some(parcel.cargo)
    }

    /// Breaks a cable: everything that is under way is lost, and nothing gets through any more.
    pub fn kill(&mut self, cable: CableId) {
        if let Some(cable) = self.cables.get_mut(&cable) {
            cable.is_dead = true;
            cable.lanes.iter_mut().for_each(|lane| (lane.bytes, lane.parcels) = (0, VecDeque::new()));
        }
    }

    /// Nobody reads what comes to this end any more.
    pub fn deafen(&mut self, cable: CableId, end: usize) {
        if let Some(cable) = self.cables.get_mut(&cable) {
            (cable.lanes[1 - end].bytes, cable.lanes[1 - end].parcels) = (0, VecDeque::new());
        }
    }

    /// The cable and end of a node's link.
    pub fn find(&self, node: u16, life: u64, link: LinkId) -> Option<(CableId, usize)> {
        self.cables.iter().find_map(|(id, cable)| {
            let end = cable.ends.iter().position(|end| (end.node, end.life, end.link) == (node, life, link))?;
            Some((*id, end))
        })
    }

    /// Cables with an end at a node that is not closed yet, and which end that is.
    pub fn of_node(&self, node: u16) -> Vec<(CableId, usize)> {
        let at_node =
            |cable: &Cable| cable.ends.iter().position(|end| end.node == node && end.state != EndState::Closed);
        self.cables.iter().filter_map(|(id, cable)| Some((*id, at_node(cable)?))).collect()
    }

    /// Whether a node has an open end of a cable to another, whatever the other thinks.
    pub fn is_linked(&self, node: u16, to: u16) -> bool {
        self.of_node(node).iter().any(|(id, end)| {
            let ends = &self.cables[id].ends;
            ends[*end].state == EndState::Open && ends[1 - end].node == to
        })
    }

    /// Forgets cables that both sides have closed.
    pub fn sweep(&mut self) {
        self.cables.retain(|_, cable| cable.ends.iter().any(|end| end.state != EndState::Closed));
    }
}
