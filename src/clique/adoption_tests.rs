use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::clique::Stored;

/// Whose log it is that all hold, in a former life.
const OWNER: u16 = 2;
const LOG: Origin = Origin { node: OWNER, incarnation: 1 };

/// Entries `first..=last` as a node holds them: of one byte, another one from `differs_from` on, now and then.
fn version(node: u16, first: u64, last: u64, differs_from: u64) -> Chunk {
    let entry = |number: u64| match number >= differs_from && number % 90 < 50 {
        true => 100 + node.to_le_bytes()[0],
        false => number.to_le_bytes()[0] % 100,
    };
    let bytes: Vec<u8> = (first..=last).map(entry).collect();
    let ends = (1..).take(bytes.len()).collect();
    Chunk { first, bytes: bytes.into(), ends, dependencies: [].into() }
}

struct Node {
    replica: Replica,
    /// As written: each entry, and the running hash from its beginning on.
    disk: BTreeMap<u64, Bytes>,
    hashes: Chain,
    applied: Vec<u64>,
}

impl Node {
    fn new(node: u16, height: u64, differs_from: u64) -> Self {
        let mut replica = Replica::with_store(Origin { node, incarnation: 2 }, 1 << 20);
        let chunk = version(node, 1, height, differs_from);
        let mut chain = Chain::default();
        chain.push(&chunk);
        let mut new = Self { replica, disk: BTreeMap::new(), hashes: chain.clone(), applied: Vec::new() };
        new.put(&chunk);
        let tail = vec![chunk];
        replica = new.replica;
        replica.recover(Stored { origin: LOG, first: 1, chain, tail }, 0);
        while replica.apply_next(0, u64::MAX).is_some() {}
        Self { replica, ..new }
    }

    fn put(&mut self, chunk: &Chunk) {
        self.disk.extend((chunk.first..=chunk.last()).map(|number| (number, chunk.slice(number, number))));
    }

    fn write(&mut self) {
        for write in self.replica.take_writes() {
            let sequence = match write {
                Write::Entries { sequence, chunk, .. } => {
                    self.put(&chunk);
                    self.hashes.push(&chunk);
                    sequence
                }
                Write::Repair { sequence, chunk, .. } => {
                    self.put(&chunk);
                    sequence
                }
                Write::Rehash { sequence, mut chain, .. } => {
                    chain.replace(&self.hashes);
                    self.hashes = *chain;
                    sequence
                }
                Write::Cut { .. } => panic!("nothing is cut"),
            };
            self.replica.synced(sequence);
        }
        while let Some(run) = self.replica.apply_next(0, u64::MAX) {
            self.applied.extend(run.applied.first..run.applied.first + run.applied.count);
        }
    }

    /// The whole log: in memory, and on the disk.
    fn log(&self) -> (Vec<u8>, Vec<u8>) {
        let entry = |number| self.replica.log().entry(LOG, number).unwrap();
        let memory = (1..=self.replica.log().height(LOG)).flat_map(|number| entry(number).to_vec()).collect();
        (memory, self.disk.values().flat_map(|entry| entry.to_vec()).collect())
    }
}

struct Clique {
    nodes: BTreeMap<u16, Node>,
    now_ms: u64,
}

impl Clique {
    fn link(&mut self, here: u16, there: u16) {
        let (origin, held) = self.said_by(there);
        self.of(here).link_up(there.into(), origin, &held);
    }

    fn cut(&mut self, here: u16, there: u16) {
        self.of(here).link_down(there.into());
    }

    fn of(&mut self, node: u16) -> &mut Replica {
        &mut self.nodes.get_mut(&node).unwrap().replica
    }

    fn said_by(&self, node: u16) -> (Origin, Vec<crate::clique::Held>) {
        let replica = &self.nodes[&node].replica;
        (replica.me(), replica.log().held().collect())
    }

    /// A node hears what its peers hold, gets what it asks for, and repairs one piece.
    fn step(&mut self, node: u16) {
        self.now_ms += 1;
        let now_ms = self.now_ms;
        for peer in self.nodes.keys().copied().collect::<Vec<_>>() {
            let (_, held) = self.said_by(peer);
            if self.of(node).sources().node(peer.into()).is_some() {
                self.of(node).peer_holds(peer.into(), &held);
            }
            let next = self.of(node).log().height(LOG) + 1;
            let chunk = self.nodes[&peer].replica.log().chunk(LOG, next).map(|chunk| chunk.from(next));
            if let Some(chunk) = chunk.filter(|_| self.nodes[&node].replica.sources().is_asked(peer.into(), LOG)) {
                self.of(node).receive(peer.into(), LOG, chunk, 1, 0);
            }
        }
        if let Some((link, wanted)) = self.of(node).next_repair(now_ms) {
            self.send_range(node, link, wanted);
        }
        self.nodes.get_mut(&node).unwrap().write();
    }

    /// In pieces of at most a hundred entries.
    fn send_range(&mut self, node: u16, link: LinkId, mut wanted: Stretch) {
        loop {
            let peer = &self.nodes[&u16::try_from(link).unwrap()].replica;
            let Some(chunk) = peer.log().chunk(LOG, wanted.first) else { return };
            let piece = chunk.within(wanted.first, wanted.last.min(wanted.first + 99)).unwrap();
            let now_ms = self.now_ms;
            match self.of(node).range_came(link, LOG, piece, now_ms) {
                Repaired::Ask(rest) => wanted = rest,
                Repaired::Write(_) | Repaired::Nothing => return,
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Link(u16, u16),
    Cut(u16, u16),
    Turn(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..4_u16, 0..4_u16).prop_map(|(here, there)| Step::Link(here, there)),
        1 => (0..4_u16, 0..4_u16).prop_map(|(here, there)| Step::Cut(here, there)),
        8 => (0..4_u16).prop_map(Step::Turn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whoever meets whom first, all end with the version of the origin's own node, or of the lowest of them without it, and
    /// nothing is applied a second time.
    #[test]
    fn whoever_meets_whom_all_end_with_one_version(
        has_owner: bool,
        heights in [1..1_500_u64, 1..1_500_u64, 1..1_500_u64, 1..1_500_u64],
        differs_from in [1..1_600_u64, 1..1_600_u64, 1..1_600_u64, 1..1_600_u64],
        steps in proptest::collection::vec(step(), 0..150),
    ) {
        let present = (0..4).filter(|node| has_owner || *node != OWNER);
        let began: BTreeMap<u16, u64> = present.map(|node| (node, heights[usize::from(node)])).collect();
        let new = |(node, height): (&u16, &u64)| (*node, Node::new(*node, *height, differs_from[usize::from(*node)]));
        let mut clique = Clique { nodes: began.iter().map(new).collect(), now_ms: 0 };
        let is_linked = |clique: &Clique, one: u16, other: u16| {
            clique.nodes[&one].replica.sources().node(other.into()).is_some()
        };
        let exist = |nodes: &[u16]| nodes.iter().all(|node| began.contains_key(node));
        for step in steps {
            match step {
                Step::Link(one, other) if exist(&[one, other]) && one != other && !is_linked(&clique, one, other) => {
                    clique.link(one, other);
                    clique.link(other, one);
                }
                Step::Cut(one, other) if exist(&[one, other]) && one != other && is_linked(&clique, one, other) => {
                    clique.cut(one, other);
                    clique.cut(other, one);
                }
                Step::Turn(node) if exist(&[node]) => clique.step(node),
                _ => {}
            }
        }
        let nodes: Vec<u16> = began.keys().copied().collect();
        for (one, other) in nodes.iter().flat_map(|one| nodes.iter().map(move |other| (*one, *other))) {
            if one != other && !is_linked(&clique, one, other) {
                clique.link(one, other);
            }
        }
        for _ in 0..100 {
            nodes.iter().for_each(|node| clique.step(*node));
        }
        let height = began.values().copied().max().unwrap();
        let best = if has_owner { OWNER } else { 0 };
        let known = began[&best];
        let wanted = version(best, 1, known, differs_from[usize::from(best)]).bytes;
        let (first, _) = clique.nodes[&nodes[0]].log();
        for (node, state) in &clique.nodes {
            let (memory, disk) = state.log();
            prop_assert_eq!(memory.len() as u64, height);
            prop_assert_eq!(&memory[..usize::try_from(known).unwrap()], &wanted[..], "node {}", node);
            prop_assert_eq!(&memory, &first);
            prop_assert_eq!(&memory, &disk);
            prop_assert_eq!(state.replica.log().chain(LOG).map(Chain::hash), Some(state.hashes.hash()));
            let hash = state.replica.log().chain(LOG).map(Chain::hash);
            prop_assert_eq!(hash, clique.nodes[&nodes[0]].replica.log().chain(LOG).map(Chain::hash));
            let differs: Vec<(u16, Stretch)> = state.replica.diverging().collect();
            let damaged: Vec<Stretch> = state.replica.damaged().collect();
            prop_assert!(differs.is_empty() && damaged.is_empty(), "node {}: {:?}, {:?}", node, differs, damaged);
            let new: Vec<u64> = (began[node] + 1..=height).collect();
            prop_assert_eq!(&state.applied, &new, "what came, once each");
        }
    }
}
