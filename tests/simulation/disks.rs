//! What happens to disks: syncs that take their time, crashes, wiped, damaged and full ones.

use clique::{clique::Origin, node::hub::FromStore};

use crate::{
    dice::Dice,
    disk::SimDisk,
    faults::Fault,
    wiring::Death,
    world::{Event, World, note},
};

/// Whether an entry is on all other disks.
type IsElsewhere<'a> = &'a dyn Fn(Origin, u64) -> bool;

impl World {
    /// What a hub asks of its disk goes there.
    pub fn serve_disk(&mut self, node: u16) {
        let Some(limits) = self.limits.disk else { return };
        let state = &mut self.nodes[usize::from(node)];
        let life = state.life;
        for order in std::mem::take(&mut state.ports.store) {
            state.disk.take(order);
        }
        let has_work = state.disk.has_work();
        let is_idle = has_work && !std::mem::replace(&mut state.disk.is_busy, has_work);
        let lie = state.disk.last_sequence().filter(|_| self.limits.fault == Some(Fault::SkipSync));
        if is_idle {
            let delay_ms = self.dice.between(1, limits.most_ms);
            self.schedule(delay_ms, Event::Disk { node, life });
        }
        if let Some(sequence) = lie {
            self.disk_says(node, FromStore::Synced { sequence });
        }
    }

    fn disk_says(&mut self, node: u16, word: FromStore) {
        let now_ms = self.now_ms;
        let state = self.node(node);
        let now = state.now(now_ms);
        state.hub.from_store(word, now, &mut state.ports);
        self.wake(node);
    }

    pub fn disk_works(&mut self, node: u16, life: u64) {
        if !self.is_current(node, life) {
            return;
        }
        self.node(node).disk.is_busy = false;
        for word in self.node(node).disk.work() {
            match &word {
                FromStore::Unwritable { .. } | FromStore::Writable | FromStore::Damaged { .. } => {
                    note!(self, "the disk of node {node} says {word:?}");
                }
                FromStore::Synced { .. } | FromStore::Read { .. } => {}
            }
            self.disk_says(node, word);
        }
        if self.node(node).disk.has_work() {
            // It is full; what waits is tried again.
            self.node(node).disk.is_busy = true;
            self.schedule(50, Event::Disk { node, life });
        }
    }

    fn some_running_node(&mut self) -> Option<u16> {
        let nodes: Vec<u16> = self.nodes.iter().filter(|node| node.is_running()).map(|node| node.index).collect();
        self.dice.pick(&nodes)
    }

    pub fn a_disk_is_wiped(&mut self) {
        let Some(node) = self.some_running_node() else { return };
        self.crash(node, Death::PowerCut);
        note!(self, "the disk of node {node} is wiped");
        self.node(node).disk.wipe();
        self.after_death(node, true);
        self.come_back(node);
    }

    /// Does something to a disk; it is told which entries all the other disks have too.
    fn spoil<T>(&mut self, node: u16, work: impl FnOnce(&mut SimDisk, &mut Dice, IsElsewhere<'_>) -> T) -> T {
        let mut disk = std::mem::take(&mut self.node(node).disk);
        let others = self.nodes.iter().filter(|other| other.index != node);
        let done = work(&mut disk, &mut self.dice, &|origin, number| {
            others.clone().all(|other| other.disk.has(origin, number))
        });
        self.node(node).disk = disk;
        done
    }

    pub fn a_disk_is_damaged(&mut self) {
        let Some(node) = self.some_running_node() else { return };
        if self.dice.chance(50) {
            self.crash(node, Death::Killed);
            self.come_back(node);
        }
        let count = self.spoil(node, |disk, dice, is_elsewhere| disk.damage(dice, is_elsewhere));
        note!(self, "on the disk of node {node} {count} rows are damaged");
    }

    /// As after a backup of another clique was put back, say: this node's copies are not what was said.
    pub fn a_disk_contradicts(&mut self) {
        let Some(node) = self.some_running_node() else { return };
        self.crash(node, Death::Killed);
        self.come_back(node);
        let places = self.spoil(node, |disk, dice, is_elsewhere| disk.contradict(node, dice, is_elsewhere));
        note!(self, "on the disk of node {node} other entries are at {places:?}");
        self.model.contradicted.extend(places);
    }

    pub fn a_disk_is_full(&mut self) {
        let Some(node) = self.some_running_node() else { return };
        note!(self, "the disk of node {node} is full");
        self.node(node).disk.is_full = true;
        let lasting_ms = self.dice.between(100, 3_000);
        self.schedule(lasting_ms, Event::Room { node });
    }

    pub fn make_room(&mut self, node: u16) {
        note!(self, "there is room on the disk of node {node} again");
        self.node(node).disk.is_full = false;
    }
}
