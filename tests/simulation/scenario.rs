//! Seeded schedules: who does what when, in themes, each with its own weights.

use clique::{
    chat::{Command, directory::RETURN_MS},
    wire::Dialect,
};

use crate::{
    checks,
    faults::Faults,
    network::Pace,
    node::{DiskLimits, NodeLimits, Phase, SimNode},
    person::{Person, PersonId, Reading, Standing},
    wiring::Death,
    world::{Event, World, note},
};

/// What a run is about. Weights are relative.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    pub name: &'static str,
    pub nodes: (u64, u64),
    pub people: (u64, u64),
    /// How many names there are to choose from: few make conflicts.
    pub names: u64,
    pub duration_ms: (u64, u64),
    pub say: u64,
    pub burst: u64,
    pub cut: u64,
    pub crash: u64,
    pub stop: u64,
    pub leave: u64,
    pub roam: u64,
    pub join: u64,
    pub jump: u64,
    pub extended_percent: u64,
    pub slow_percent: u64,
    pub never_percent: u64,
    pub slow_links_percent: u64,
    pub max_log_bytes: usize,
    pub max_client_bytes: usize,
    /// Whether nodes have disks, and how slow a sync can be on them, in milliseconds.
    pub disk_ms: Option<u64>,
    pub max_kept_bytes: u64,
    /// 0 is without a bound.
    pub max_kept_ms: u64,
    pub wipe: u64,
    pub damage: u64,
    /// Copies of what other nodes said are not what they said.
    pub contradict: u64,
    /// Nodes that are there only later.
    pub newcomers_percent: u64,
    pub fill: u64,
    pub claim: u64,
    pub room: u64,
    /// All nodes are down at once.
    pub blackout: u64,
}

impl Theme {
    /// Whether entries can be gone from everywhere: the log is small, and there is nothing behind it.
    pub fn is_bounded(&self) -> bool {
        self.max_log_bytes < 1 << 20 && self.disk_ms.is_none()
    }
}

/// What is common; themes change what they are about.
pub const PLAIN: Theme = Theme {
    name: "plain",
    nodes: (1, 7),
    people: (2, 8),
    names: 100,
    duration_ms: (2_000, 7_000),
    say: 100,
    burst: 4,
    cut: 0,
    crash: 0,
    stop: 0,
    leave: 2,
    roam: 0,
    join: 2,
    jump: 2,
    extended_percent: 50,
    slow_percent: 0,
    never_percent: 0,
    slow_links_percent: 10,
    max_log_bytes: 64 << 20,
    max_client_bytes: 16 * 1024,
    disk_ms: None,
    max_kept_bytes: 0,
    max_kept_ms: 0,
    wipe: 0,
    damage: 0,
    contradict: 0,
    newcomers_percent: 0,
    fill: 0,
    claim: 0,
    room: 0,
    blackout: 0,
};

/// What a run came to.
pub struct Outcome {
    pub violations: Vec<String>,
    pub fingerprint: u64,
    pub transcript: String,
    pub messages: usize,
}

/// For how long people are expected back: in most runs the time is over before the end.
const RETURNS_MS: [u64; 4] = [200, 1_000, 3_000, RETURN_MS];

pub fn run(theme: &Theme, seed: u64, faults: Faults) -> Outcome {
    let limits = NodeLimits {
        max_log_bytes: theme.max_log_bytes,
        max_client_bytes: theme.max_client_bytes,
        max_link_bytes: 64 * 1024,
        max_kept_bytes: theme.max_kept_bytes,
        max_kept_ms: theme.max_kept_ms,
        return_ms: RETURNS_MS[usize::try_from(seed).unwrap() % RETURNS_MS.len()],
        disk: theme.disk_ms.map(|most_ms| DiskLimits { most_ms, max_tail_bytes: 3_000 }),
        fault: faults.0,
    };
    let mut world = World::new(seed, limits, faults);
    world.model.is_bounded = theme.is_bounded();
    world.build(theme);
    let end_ms = world.dice.between(theme.duration_ms.0, theme.duration_ms.1);
    while world.now_ms < end_ms && world.model.violations.is_empty() {
        let pause_ms = world.dice.below(40);
        let until_ms = world.now_ms + pause_ms;
        world.run_until(until_ms);
        world.act(theme);
    }
    world.calm_down();
    if world.model.violations.is_empty() {
        let found = checks::at_the_end(&world, theme);
        world.model.violations.extend(found);
    }
    for violation in world.model.violations.clone() {
        note!(world, "VIOLATION: {violation}");
    }
    Outcome {
        fingerprint: world.transcript.fingerprint(),
        transcript: world.transcript.text(),
        messages: world.model.said.len(),
        violations: world.model.violations,
    }
}

impl World {
    pub fn build(&mut self, theme: &Theme) {
        let count = self.dice.between(theme.nodes.0, theme.nodes.1);
        let count = u16::try_from(count).unwrap();
        for index in 0..count {
            let skew_ms = if self.dice.chance(50) { self.dice.between(0, 300_000).cast_signed() - 150_000 } else { 0 };
            self.nodes.push(SimNode::start(index, usize::from(count), self.limits, skew_ms));
        }
        // Everybody is told of everybody, of the first only, or of the next in a ring.
        let topology = self.dice.below(3);
        for index in 0..count {
            let targets = match topology {
                0 => (0..count).collect(),
                1 => vec![0],
                _ => vec![(index + 1) % count],
            };
            self.node(index).targets = targets.into_iter().filter(|target| *target != index).collect();
            if theme.newcomers_percent > 0 && index > 0 && self.dice.chance(theme.newcomers_percent) {
                self.comes_later(index, theme);
            } else {
                self.begin(index);
            }
        }
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                if self.dice.chance(theme.slow_links_percent) {
                    let pace = Pace { least_ms: 20, most_ms: 150, bytes_per_ms: Some(4), window_bytes: 2_000 };
                    self.network.set_pace(from, to, pace);
                }
            }
        }
        note!(self, "{count} nodes, topology {topology}");
        for _ in 0..self.dice.between(theme.people.0, theme.people.1) {
            self.join(theme);
        }
    }

    /// A node that joins when the others have long begun.
    fn comes_later(&mut self, node: u16, theme: &Theme) {
        note!(self, "node {node} comes later");
        let life = self.node(node).life;
        self.node(node).phase = Phase::Down;
        let delay_ms = self.dice.between(200, theme.duration_ms.0);
        self.schedule(delay_ms, Event::Restart { node, life });
    }

    fn join(&mut self, theme: &Theme) {
        let id = self.people.len();
        let name = match self.dice.below(theme.names) {
            number if theme.names < 50 => format!("name{number}"),
            _ => format!("person{id}"),
        };
        let dialect = match self.dice.below(100) {
            roll if roll < theme.extended_percent => Dialect::Extended,
            roll if roll % 2 == 0 => Dialect::Lines,
            _ => Dialect::Frames,
        };
        let roll = self.dice.below(100);
        let reading = if roll < theme.never_percent {
            Reading::Never
        } else if roll < theme.never_percent + theme.slow_percent {
            Reading::Slow {
                bytes: 60 + usize::try_from(self.dice.below(120)).unwrap(),
                every_ms: self.dice.between(20, 200),
            }
        } else {
            Reading::Fast
        };
        self.people.push(Person::new(id, &name, dialect, reading));
        let delay_ms = self.dice.between(0, 600);
        self.schedule(delay_ms, Event::Reconnect(id));
    }

    fn act(&mut self, theme: &Theme) {
        let weights = [
            theme.say,
            theme.burst,
            theme.cut,
            theme.crash,
            theme.stop,
            theme.leave,
            theme.roam,
            theme.join,
            theme.jump,
            theme.wipe,
            theme.damage,
            theme.fill,
            theme.claim,
            theme.room,
            theme.blackout,
            theme.contradict,
        ];
        let mut roll = self.dice.below(weights.iter().sum());
        let mut action = 0;
        while roll >= weights[action] {
            roll -= weights[action];
            action += 1;
        }
        match action {
            0 => self.somebody_speaks(),
            1 => (0..self.dice.between(5, 30)).for_each(|_| self.somebody_speaks()),
            2 => self.disturb(),
            3 => self.somebody_dies(),
            4 => self.somebody_stops(),
            5 => self.somebody_leaves(),
            6 => self.somebody_roams(),
            7 => self.join(theme),
            9 => self.a_disk_is_wiped(),
            10 => self.a_disk_is_damaged(),
            11 => self.a_disk_is_full(),
            12 => self.somebody_claims(),
            13 => self.somebody_is_in_a_room(),
            14 => self.everything_dies(),
            15 => self.a_disk_contradicts(),
            _ => self.a_clock_jumps(),
        }
    }

    fn present(&self) -> Vec<PersonId> {
        let is_registered = |person: &&Person| {
            person
                .connection
                .and_then(|id| self.connections.get(&id))
                .is_some_and(|open| open.standing == Standing::Registered)
        };
        self.people.iter().filter(is_registered).map(|person| person.id).collect()
    }

    fn somebody_speaks(&mut self) {
        let present = self.present();
        if let Some(person) = self.dice.pick(&present) {
            self.say_something(person);
        }
    }

    pub fn say_something(&mut self, person: PersonId) {
        let people: Vec<PersonId> = self.people.iter().map(|person| person.id).collect();
        let to = match self.dice.below(100) {
            0 => "clique".to_owned(),
            1 => "nobody".to_owned(),
            2 => "#room".to_owned(),
            3..45 => "*".to_owned(),
            _ => self.dice.pick(&people).map_or_else(|| "*".to_owned(), |other| self.people[other].name.clone()),
        };
        let padding =
            usize::try_from(if self.dice.chance(5) { self.dice.below(600) } else { self.dice.below(20) }).unwrap();
        self.say(person, &to, padding);
    }

    /// A cut of one kind or another, with its end.
    fn disturb(&mut self) {
        let mut nodes: Vec<u16> = self.nodes.iter().map(|node| node.index).collect();
        self.dice.shuffle(&mut nodes);
        let lasting_ms = match self.dice.below(4) {
            0 => self.dice.between(10, 300),
            1 => self.dice.between(500, 1_200),
            _ => self.dice.between(1_000, 5_000),
        };
        let [one, other, ..] = nodes[..] else { return };
        match self.dice.below(5) {
            0 => {
                let side = usize::try_from(self.dice.between(1, nodes.len() as u64 - 1)).unwrap();
                note!(self, "the clique is cut: {:?} from {:?}", &nodes[..side], &nodes[side..]);
                for from in &nodes[..side] {
                    nodes[side..].iter().for_each(|to| self.cut(*from, *to, lasting_ms));
                }
            }
            1 => {
                note!(self, "node {one} is cut from node {other}");
                self.cut(one, other, lasting_ms);
            }
            2 => {
                note!(self, "what node {one} says does not reach node {other} any more");
                self.stall(one, other, lasting_ms);
            }
            3 => {
                let cables = self.network.of_node(one);
                if let Some((cable, end)) = self.dice.pick(&cables) {
                    note!(self, "cable {cable} between nodes {one} and {} breaks", self.peer(cable, end));
                    self.break_cable(cable);
                }
            }
            _ => {
                let pace = Pace { least_ms: 50, most_ms: 300, bytes_per_ms: Some(2), window_bytes: 600 };
                note!(self, "the way from node {one} to node {other} is slow now");
                self.network.set_pace(one, other, pace);
            }
        }
    }

    fn cut(&mut self, one: u16, other: u16, lasting_ms: u64) {
        self.stall(one, other, lasting_ms);
        self.stall(other, one, lasting_ms);
    }

    fn stall(&mut self, from: u16, to: u16, lasting_ms: u64) {
        self.network.stall(from, to);
        self.schedule(lasting_ms, Event::Heal { from, to });
    }

    fn somebody_dies(&mut self) {
        let nodes: Vec<u16> = self.nodes.iter().filter(|node| node.is_running()).map(|node| node.index).collect();
        let Some(node) = self.dice.pick(&nodes) else { return };
        let death = if self.dice.chance(60) { Death::Killed } else { Death::PowerCut };
        self.crash(node, death);
        self.come_back(node);
    }

    fn everything_dies(&mut self) {
        note!(self, "all nodes are down at once");
        let nodes: Vec<u16> = self.nodes.iter().filter(|node| node.is_running()).map(|node| node.index).collect();
        let death = if self.dice.chance(60) { Death::Killed } else { Death::PowerCut };
        nodes.iter().for_each(|node| self.crash(*node, death));
        nodes.iter().for_each(|node| self.come_back(*node));
    }

    pub fn come_back(&mut self, node: u16) {
        let life = self.node(node).life;
        let delay_ms = if self.dice.chance(50) { self.dice.between(5, 500) } else { self.dice.between(500, 4_000) };
        self.schedule(delay_ms, Event::Restart { node, life });
    }

    fn somebody_stops(&mut self) {
        let nodes = self.open_nodes();
        if let Some(node) = self.dice.pick(&nodes) {
            self.stop(node);
        }
    }

    fn somebody_leaves(&mut self) {
        let present = self.present();
        let Some(person) = self.dice.pick(&present) else { return };
        self.people[person].has_left = true;
        match (self.dice.chance(50), self.people[person].connection) {
            (false, Some(connection)) => self.hang_up(connection),
            _ => self.say_goodbye(person),
        }
        if self.dice.chance(60) {
            // They come back: under the same name, as somebody with the same key.
            self.people[person].has_left = false;
            let delay_ms = self.dice.between(50, 2_000);
            self.schedule(delay_ms, Event::Reconnect(person));
        }
    }

    fn somebody_roams(&mut self) {
        let present = self.present();
        let Some(person) = self.dice.pick(&present) else { return };
        // What was written to one device of an owner counts as read, even if nobody looks at it.
        let is_abandoning = self.dice.chance(40) && !self.people[person].has_claimed;
        if is_abandoning && self.people[person].dialect == Dialect::Extended {
            self.abandon(person);
        } else if let Some(connection) = self.people[person].connection {
            self.hang_up(connection);
        }
        let delay_ms = if self.dice.chance(50) { 0 } else { self.dice.between(1, 1_500) };
        self.schedule(delay_ms, Event::Reconnect(person));
    }

    fn somebody_claims(&mut self) {
        let present = self.present();
        if let Some(person) = self.dice.pick(&present) {
            self.claim(person);
        }
    }

    fn somebody_is_in_a_room(&mut self) {
        let present = self.present();
        let Some(person) = self.dice.pick(&present) else { return };
        let room = format!("#room{}", self.dice.below(3));
        match self.dice.below(6) {
            0..2 => self.command(person, Command::Join(room)),
            2 => self.command(person, Command::Part(Some(room))),
            3 => {
                let number = self.dice.below(1_000);
                self.command(person, Command::Topic(format!("{room} number {number}")));
            }
            _ => self.say(person, &room, 0),
        }
    }

    fn a_clock_jumps(&mut self) {
        let nodes: Vec<u16> = self.nodes.iter().map(|node| node.index).collect();
        let Some(node) = self.dice.pick(&nodes) else { return };
        let jump_ms = self.dice.between(0, 240_000).cast_signed() - 120_000;
        self.node(node).skew_ms += jump_ms;
        note!(self, "the wall clock of node {node} jumps by {jump_ms} ms");
    }

    /// All is healed, all nodes are up, everybody reads; then a last word from everybody.
    pub fn calm_down(&mut self) {
        note!(self, "everything calms down");
        self.is_quiet = true;
        let nodes: Vec<u16> = self.nodes.iter().map(|node| node.index).collect();
        for from in &nodes {
            nodes.iter().for_each(|to| self.heal(*from, *to));
        }
        self.network.heal_all();
        self.nodes.iter_mut().for_each(|node| node.disk.is_full = false);
        for node in nodes.iter().copied() {
            // What is damaged is found when it is read; at the latest at a start.
            if self.node(node).is_running() && self.node(node).disk.is_damaged() {
                self.crash(node, Death::Killed);
            }
        }
        let settle_ms = self.now_ms + 6_000;
        self.run_until(settle_ms);
        for node in nodes {
            let life = self.node(node).life;
            self.restart(node, life);
        }
        let settle_ms = self.now_ms + 7_000;
        self.run_until(settle_ms);
        // What a damaged disk gave up may have been the last copy.
        self.model.copies_lost(&self.nodes, self.limits.disk.is_some());
        for person in self.present() {
            self.say(person, "*", 0);
            self.say_something(person);
            let rooms: Vec<String> =
                self.nodes[0].hub.ledger().rooms().iter().map(|(name, _)| name.to_owned()).collect();
            rooms.iter().filter(|name| *name != "#room").for_each(|room| self.say(person, room, 0));
        }
        let settle_ms = self.now_ms + 3_000;
        self.run_until(settle_ms);
    }
}
