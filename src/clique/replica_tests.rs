use proptest::prelude::*;

use super::*;

/// What happens in a run: nodes are given by number, modulo how many there are.
#[derive(Debug, Clone)]
enum Step {
    /// A node accepts so many entries at once.
    Append(usize, u64),
    /// Something under way from one node to another arrives.
    Arrive(usize, usize),
    Link(usize, usize),
    Cut(usize, usize),
    Apply(usize),
    /// What a node has written so far is on its disk.
    Sync(usize),
    /// A node loses what is not, and begins again, as another origin.
    Crash(usize),
    /// A node's disk is gone as well.
    Wipe(usize),
}

/// What a peer sends, as far as replicas are concerned.
#[derive(Debug, Clone)]
enum Sent {
    Entries(Origin, Chunk),
    Holds(Vec<Held>),
    Wants(Origin, u64),
    StopsWanting(Origin),
}

struct Node {
    replica: Replica,
    /// What each linked peer wants: the next entry, per origin.
    feeds: BTreeMap<usize, BTreeMap<Origin, u64>>,
    /// In the order of application, with what each entry depends on.
    applied: Vec<(Origin, u64)>,
    /// Written and not yet on the disk.
    writes: Vec<Write>,
    disk: BTreeMap<Origin, Vec<Chunk>>,
}

/// Replicas and the links between them.
struct Clique {
    nodes: Vec<Node>,
    /// Under way, per pair and direction; a link exists where there is an entry.
    wires: BTreeMap<(usize, usize), VecDeque<Sent>>,
    /// What every entry depends on, from its own node's mouth.
    needs: BTreeMap<(Origin, u64), Dependencies>,
    now_ms: u64,
    /// What its node has told somebody to be kept: on its disk, which was not wiped since.
    kept: BTreeSet<(Origin, u64)>,
}

fn origin(node: usize) -> Origin {
    Origin { node: u16::try_from(node).unwrap(), incarnation: 1 }
}

/// Entries of one byte each, which is their number.
fn chunk(first: u64, count: u64, dependencies: Dependencies) -> Chunk {
    let bytes: Vec<u8> = (first..first + count).map(|number| number.to_le_bytes()[0]).collect();
    let needs = if dependencies.is_empty() { Vec::new() } else { vec![(first, dependencies)] };
    Chunk {
        first,
        bytes: bytes.into(),
        ends: (1..=u32::try_from(count).unwrap()).collect(),
        dependencies: needs.into(),
    }
}

impl Clique {
    fn new(count: usize, has_disks: bool) -> Self {
        let begin = if has_disks { Replica::with_store } else { Replica::new };
        let node = |index| Node {
            replica: begin(origin(index), 1 << 20),
            feeds: BTreeMap::new(),
            applied: Vec::new(),
            writes: Vec::new(),
            disk: BTreeMap::new(),
        };
        let nodes = (0..count).map(node).collect();
        Self { nodes, wires: BTreeMap::new(), needs: BTreeMap::new(), now_ms: 0, kept: BTreeSet::new() }
    }

    fn take(&mut self, step: &Step) {
        let count = self.nodes.len();
        self.now_ms += 1;
        match *step {
            Step::Append(node, entries) => self.append(node % count, entries),
            Step::Arrive(from, to) => self.arrive(from % count, to % count),
            Step::Link(one, other) => self.link(one % count, other % count),
            Step::Cut(one, other) => self.cut(one % count, other % count),
            Step::Apply(node) => self.apply(node % count),
            Step::Sync(node) => self.sync(node % count),
            Step::Crash(node) => self.crash(node % count, false),
            Step::Wipe(node) => self.crash(node % count, true),
        }
        (0..count).for_each(|node| self.send(node));
    }

    fn append(&mut self, node: usize, entries: u64) {
        let state = &mut self.nodes[node];
        let (first, dependencies) = state.replica.next_entry();
        for number in first..first + entries {
            let me = state.replica.me();
            let mut needs = state.replica.applied().iter().filter(|(other, _)| *other != me).collect::<Vec<_>>();
            needs.retain(|(_, height)| *height > 0);
            self.needs.insert((me, number), needs);
        }
        let me = state.replica.me();
        state.replica.append(chunk(first, entries, dependencies));
        state.applied.extend((first..first + entries).map(|number| (me, number)));
    }

    fn sync(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        state.writes.extend(state.replica.take_writes());
        let mut asks = Vec::new();
        for write in state.writes.drain(..) {
            let Write::Entries { sequence, origin, chunk, .. } = write else { panic!("nothing is cut or repaired") };
            state.disk.entry(origin).or_default().push(chunk);
            asks.extend(state.replica.synced(sequence));
        }
        let (me, synced) = (state.replica.me(), state.replica.log().synced(state.replica.me()));
        self.kept.extend((1..=synced).map(|number| (me, number)));
        self.ask(node, asks);
    }

    fn crash(&mut self, node: usize, is_wiped: bool) {
        (0..self.nodes.len()).for_each(|other| self.cut(node, other));
        let state = &mut self.nodes[node];
        let me = Origin { incarnation: state.replica.me().incarnation + 1, ..state.replica.me() };
        state.replica = Replica::with_store(me, 1 << 20);
        (state.applied, state.writes) = (Vec::new(), Vec::new());
        if is_wiped {
            state.disk.clear();
        }
        for (origin, tail) in state.disk.clone() {
            let mut chain = crate::clique::Chain::default();
            tail.iter().for_each(|chunk| chain.push(chunk));
            state.replica.recover(crate::clique::Stored { origin, first: 1, chain, tail }, self.now_ms);
        }
        if is_wiped {
            // What no other disk has may be gone.
            let disks: Vec<_> = self.nodes.iter().map(|node| &node.disk).collect();
            let has = |disk: &BTreeMap<Origin, Vec<Chunk>>, (origin, number): (Origin, u64)| {
                disk.get(&origin).and_then(|chunks| chunks.last()).is_some_and(|chunk| chunk.last() >= number)
            };
            self.kept.retain(|entry| disks.iter().any(|disk| has(disk, *entry)));
        }
    }

    /// A link of a node is known by its peer's number.
    fn link(&mut self, one: usize, other: usize) {
        if one == other || self.wires.contains_key(&(one, other)) {
            return;
        }
        for (here, there) in [(one, other), (other, one)] {
            self.wires.insert((here, there), VecDeque::new());
        }
        for (here, there) in [(one, other), (other, one)] {
            let held: Vec<Held> = self.nodes[here].replica.log().held().collect();
            self.put(here, there, Sent::Holds(held));
            let peer = self.nodes[there].replica.me();
            let asks = self.nodes[here].replica.link_up(there as LinkId, peer, &[]);
            self.ask(here, asks);
        }
    }

    fn cut(&mut self, one: usize, other: usize) {
        for (here, there) in [(one, other), (other, one)] {
            if self.wires.remove(&(here, there)).is_some() {
                self.nodes[here].feeds.remove(&there);
                let asks = self.nodes[here].replica.link_down(there as LinkId);
                self.ask(here, asks);
            }
        }
    }

    fn put(&mut self, from: usize, to: usize, sent: Sent) {
        if let Some(wire) = self.wires.get_mut(&(from, to)) {
            wire.push_back(sent);
        }
    }

    fn ask(&mut self, node: usize, asks: Vec<Ask>) {
        for ask in asks {
            let (link, sent) = match ask {
                Ask::From { link, origin, number } => (link, Sent::Wants(origin, number)),
                Ask::Stop { link, origin } => (link, Sent::StopsWanting(origin)),
            };
            self.put(node, usize::try_from(link).unwrap(), sent);
        }
    }

    /// Everything that a node's peers want and it has, and what it holds now.
    fn send(&mut self, node: usize) {
        let peers: Vec<usize> = self.wires.keys().filter(|(from, _)| *from == node).map(|(_, to)| *to).collect();
        for to in peers {
            let state = &mut self.nodes[node];
            let mut out = Vec::new();
            let log = state.replica.log();
            for (origin, next) in state.feeds.entry(to).or_default() {
                while let Some(chunk) = log.chunk(*origin, *next) {
                    let chunk = chunk.from(*next);
                    *next = chunk.last() + 1;
                    out.push(Sent::Entries(*origin, chunk));
                }
            }
            let held = state.replica.take_changes(to as LinkId);
            if !held.is_empty() {
                out.push(Sent::Holds(held));
            }
            out.into_iter().for_each(|sent| self.put(node, to, sent));
        }
    }

    fn arrive(&mut self, from: usize, to: usize) {
        let Some(sent) = self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return };
        let state = &mut self.nodes[to];
        let link = from as LinkId;
        let asks = match sent {
            Sent::Entries(origin, chunk) => match state.replica.receive(link, origin, chunk, 1, self.now_ms) {
                Received::AskAgain => state.replica.ask_again(link, origin),
                Received::AfterHole { .. } => panic!("nothing was dropped, so there is no hole"),
                _ => Vec::new(),
            },
            Sent::Holds(held) => state.replica.peer_holds(link, &held),
            Sent::Wants(origin, number) => {
                state.feeds.entry(from).or_default().insert(origin, number);
                Vec::new()
            }
            Sent::StopsWanting(origin) => {
                state.feeds.entry(from).or_default().remove(&origin);
                Vec::new()
            }
        };
        self.ask(to, asks);
    }

    fn apply(&mut self, node: usize) {
        while let Some(run) = self.nodes[node].replica.apply_next(self.now_ms, 2) {
            for number in run.applied.first..run.applied.first + run.applied.count {
                let held = self.nodes[node].replica.log().entry(run.applied.origin, number);
                assert_eq!(held.as_deref(), Some(&[number.to_le_bytes()[0]][..]), "the entry itself");
                self.nodes[node].applied.push((run.applied.origin, number));
            }
        }
    }

    /// Everybody is linked and everything arrives.
    fn calm_down(&mut self) {
        let count = self.nodes.len();
        for one in 0..count {
            (0..one).for_each(|other| self.link(one, other));
        }
        (0..count).for_each(|node| self.take(&Step::Sync(node)));
        while self.wires.values().any(|wire| !wire.is_empty()) {
            let pairs: Vec<(usize, usize)> = self.wires.keys().copied().collect();
            for (from, to) in pairs {
                self.take(&Step::Arrive(from, to));
                self.take(&Step::Apply(to));
                self.take(&Step::Sync(to));
            }
        }
        // What is gone everywhere is waited for no longer.
        self.now_ms += MAX_CAUSAL_WAIT_MS;
        (0..count).for_each(|node| self.apply(node));
    }

    /// Each origin without gaps and in order, and each entry after all that its node had applied before it.
    fn check_order(&self) {
        for node in &self.nodes {
            let mut seen = Heights::default();
            for (origin, number) in &node.applied {
                assert_eq!(seen.get(*origin) + 1, *number, "one after the other");
                let needs = &self.needs[&(*origin, *number)];
                let is_held = |(other, height): &(Origin, u64)| {
                    self.nodes.iter().any(|n| n.replica.log().height(*other) >= *height)
                };
                let missing =
                    needs.iter().filter(|need| is_held(need)).find(|(other, height)| seen.get(*other) < *height);
                assert_eq!(missing, None, "{origin}#{number} was applied before what it depends on");
                seen.raise(*origin, *number);
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..5_usize, 1..4_u64).prop_map(|(node, entries)| Step::Append(node, entries)),
        12 => (0..5_usize, 0..5_usize).prop_map(|(from, to)| Step::Arrive(from, to)),
        4 => (0..5_usize, 0..5_usize).prop_map(|(one, other)| Step::Link(one, other)),
        1 => (0..5_usize, 0..5_usize).prop_map(|(one, other)| Step::Cut(one, other)),
        4 => (0..5_usize).prop_map(Step::Apply),
    ]
}

/// A step of replicas that have disks, which sync, crash and, rarely, are wiped.
fn step_with_disks() -> impl Strategy<Value = Step> {
    let step = prop_oneof![
        24 => step(),
        3 => (0..5_usize).prop_map(Step::Sync),
        1 => (0..5_usize).prop_map(Step::Crash),
    ];
    prop_oneof![60 => step, 1 => (0..5_usize).prop_map(Step::Wipe)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// However links come and go, every replica ends with the same logs, each applied in causal order.
    #[test]
    fn replicas_converge_and_apply_in_causal_order(count in 3..6_usize, steps in proptest::collection::vec(step(), 1..250)) {
        let mut clique = Clique::new(count, false);
        for step in &steps {
            clique.take(step);
        }
        clique.calm_down();
        clique.check_order();
        let all: usize = clique.needs.len();
        for node in &clique.nodes {
            prop_assert_eq!(node.applied.len(), all, "node {} has everything", node.replica.me());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever crashes lose and links bring late, nothing that was on a disk is gone, and all end with the same.
    #[test]
    fn what_was_synced_is_everywhere_in_the_end(count in 2..6_usize, steps in proptest::collection::vec(step_with_disks(), 1..200)) {
        let mut clique = Clique::new(count, true);
        for step in &steps {
            clique.take(step);
        }
        clique.calm_down();
        clique.check_order();
        let first: Vec<Held> = clique.nodes[0].replica.log().held().collect();
        for node in &clique.nodes {
            let me = node.replica.me();
            let held: Vec<Held> = node.replica.log().held().collect();
            prop_assert_eq!(&held, &first, "heights and hashes of {}", me);
            prop_assert!(node.replica.is_synced() && node.replica.diverging().next().is_none());
            for (origin, number) in &clique.kept {
                prop_assert!(node.replica.log().height(*origin) >= *number, "{} lacks {}#{}", me, origin, number);
                prop_assert!(node.replica.log().applied(*origin) >= *number, "{} waits for {}#{}", me, origin, number);
            }
        }
    }
}

#[test]
fn a_row_of_entries_that_nobody_can_complete_waits_once() {
    let mut replica = Replica::new(origin(0), 1 << 20);
    replica.link_up(1, origin(1), &[]);
    for number in 1..=5 {
        let gone = vec![(origin(2), number)];
        replica.receive(1, origin(1), chunk(number, 1, gone), 1, 100);
    }
    assert!(replica.apply_next(100 + MAX_CAUSAL_WAIT_MS - 1, u64::MAX).is_none());
    let mut applied = 0;
    while replica.apply_next(100 + MAX_CAUSAL_WAIT_MS, u64::MAX).is_some() {
        applied += 1;
    }
    assert_eq!(applied, 5);
}

#[test]
fn what_everybody_has_dropped_to_the_last_entry_is_given_up() {
    let mut replica = Replica::new(origin(0), 1 << 20);
    let dropped = [Held::new(origin(1), 13, 12)];
    replica.link_up(2, origin(2), &[Held::new(origin(1), 11, 12)]);
    replica.link_up(1, origin(1), &dropped);
    assert_eq!(replica.give_up(), [], "another still has some of it");
    replica.link_down(2);
    assert_eq!(replica.give_up(), [(origin(1), 12)]);
    assert_eq!((replica.log().height(origin(1)), replica.applied().get(origin(1))), (12, 12));
}

#[test]
fn the_late_rest_of_a_former_request_is_no_hole() {
    let mut replica = Replica::new(origin(0), 1 << 20);
    let held = |height| vec![Held::new(origin(2), 1, height)];
    replica.link_up(1, origin(1), &held(9));
    assert_eq!(replica.receive(1, origin(2), chunk(5, 5, Vec::new()), 1, 0), Received::Unasked);
    assert_eq!(replica.receive(1, origin(2), chunk(1, 4, Vec::new()), 1, 0), Received::New);
    // Said by the peer itself, it is one.
    replica.peer_holds(1, &[Held::new(origin(2), 7, 9)]);
    replica.apply_next(0, u64::MAX);
    assert_eq!(replica.receive(1, origin(2), chunk(7, 3, Vec::new()), 1, 0), Received::AfterHole { lost: 2 });
}
