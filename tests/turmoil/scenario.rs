//! Seeded schedules: who does what when, in themes, each with its own weights.

use clique::wire::Dialect;

use crate::{
    checks,
    faults::Fault,
    model::PersonId,
    person::Order,
    scene::{Scene, Standing, Trouble},
    stage::note,
};

/// What a run is about. Weights are relative.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    pub name: &'static str,
    pub nodes: (u64, u64),
    pub people: (u64, u64),
    pub duration_ms: (u64, u64),
    pub say: u64,
    pub burst: u64,
    pub cut: u64,
    pub hold: u64,
    pub latency: u64,
    pub crash: u64,
    pub stop: u64,
    pub roam: u64,
    pub pause: u64,
    pub extended_percent: u64,
    /// How likely it is that the nodes have disks.
    pub disks_percent: u64,
    /// A disk has no room.
    pub fill: u64,
    pub max_client_output_bytes: usize,
}

/// What is common; themes change what they are about.
pub const PLAIN: Theme = Theme {
    name: "plain",
    nodes: (2, 5),
    people: (2, 6),
    duration_ms: (2_000, 6_000),
    say: 100,
    burst: 4,
    cut: 0,
    hold: 0,
    latency: 2,
    crash: 0,
    stop: 0,
    roam: 2,
    pause: 2,
    extended_percent: 60,
    disks_percent: 40,
    fill: 0,
    max_client_output_bytes: 16 * 1024,
};

/// The longest that a healed clique may take to be whole, and its people to be back, in milliseconds.
const SETTLING_MS: u64 = 20_000;
/// The same for what was said in it to be heard.
const HEARING_MS: u64 = 6_000;
/// How often it is looked whether that is so.
const LOOK_MS: u64 = 100;

/// What a run came to.
pub struct Outcome {
    pub violations: Vec<String>,
    pub fingerprint: u64,
    pub transcript: String,
    pub messages: usize,
}

pub fn run(theme: &Theme, seed: u64, fault: Option<Fault>) -> Outcome {
    let mut scene = Scene::new(theme, seed, fault);
    for _ in 0..scene.dice.between(theme.people.0, theme.people.1) {
        let dialect = if scene.dice.chance(theme.extended_percent) { Dialect::Extended } else { Dialect::Lines };
        let node = scene.some_node();
        scene.add_person(dialect, node);
    }
    let end_ms = scene.dice.between(theme.duration_ms.0, theme.duration_ms.1);
    while scene.now_ms() < end_ms && scene.stage.model().violations.is_empty() {
        let until_ms = scene.now_ms() + scene.dice.below(80);
        scene.run_until(until_ms);
        scene.act(theme);
    }
    scene.calm_down();
    let mut found = Vec::new();
    if scene.stage.model().violations.is_empty() {
        found = checks::at_the_end(&mut scene);
    }
    let mut model = scene.stage.model();
    model.violations.extend(found);
    for violation in &model.violations {
        note!(scene.stage, scene.now_ms(), "VIOLATION: {violation}");
    }
    let transcript = scene.stage.transcript();
    Outcome {
        fingerprint: transcript.fingerprint(),
        transcript: transcript.text(),
        messages: model.said.len(),
        violations: model.violations.clone(),
    }
}

impl Scene {
    fn some_node(&mut self) -> u16 {
        let count = self.node_count();
        u16::try_from(self.dice.below(count.into())).unwrap()
    }

    fn some_person(&mut self) -> PersonId {
        usize::try_from(self.dice.below(self.people.len() as u64)).unwrap()
    }

    fn act(&mut self, theme: &Theme) {
        let weights = [
            theme.say,
            theme.burst,
            theme.cut,
            theme.hold,
            theme.latency,
            theme.crash,
            theme.stop,
            theme.roam,
            theme.pause,
            theme.fill,
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
            2 => self.cut_something(),
            3 => self.hold_something(),
            4 => {
                let (from, to, most_ms) = (self.some_node(), self.some_node(), self.dice.between(2, 300));
                if from != to {
                    self.set_latency(from, to, most_ms);
                }
            }
            5 => self.somebody_dies(),
            6 => self.somebody_stops(),
            7 => self.somebody_roams(),
            9 => {
                let (node, lasting_ms) = (self.some_node(), self.some_time_ms());
                self.fill(node, lasting_ms);
            }
            _ => {
                let (person, lasting_ms) = (self.some_person(), self.dice.between(100, 2_000));
                self.order(person, Order::Pause { lasting_ms });
            }
        }
    }

    fn somebody_speaks(&mut self) {
        let (person, other) = (self.some_person(), self.some_person());
        let to = (person != other && self.dice.chance(60)).then_some(other);
        let longest = if self.dice.chance(5) { 2_000 } else { 20 };
        let padding = usize::try_from(self.dice.below(longest)).unwrap();
        self.order(person, Order::Say { to, padding });
    }

    fn some_time_ms(&mut self) -> u64 {
        match self.dice.below(4) {
            0 => self.dice.between(10, 300),
            1 => self.dice.between(500, 1_200),
            _ => self.dice.between(1_000, 4_000),
        }
    }

    fn cut_something(&mut self) {
        let mut nodes: Vec<u16> = (0..self.node_count()).collect();
        self.dice.shuffle(&mut nodes);
        let lasting_ms = self.some_time_ms();
        let trouble = if self.dice.chance(30) { Trouble::CutOneWay } else { Trouble::Cut };
        let size = if self.dice.chance(60) { self.dice.between(1, nodes.len() as u64 - 1) } else { 0 };
        let (side, rest) = nodes.split_at(usize::try_from(size).unwrap());
        for from in side {
            rest.iter().for_each(|to| self.between_nodes(*from, *to, trouble, lasting_ms));
        }
        if let ([], [from, to, ..]) = (side, rest) {
            self.between_nodes(*from, *to, trouble, lasting_ms);
        }
    }

    fn hold_something(&mut self) {
        let lasting_ms = self.some_time_ms();
        let (from, to, person) = (self.some_node(), self.some_node(), self.some_person());
        if self.dice.chance(50) {
            self.hold_person(person, to, lasting_ms);
        } else if from != to {
            self.between_nodes(from, to, Trouble::Held, lasting_ms);
        }
    }

    fn somebody_dies(&mut self) {
        let (node, is_power_cut) = (self.some_node(), self.dice.chance(40));
        let lasting_ms = if self.dice.chance(50) { self.dice.between(10, 500) } else { self.dice.between(500, 3_000) };
        if self.nodes[usize::from(node)].standing == Standing::Up {
            self.kill(node, is_power_cut, lasting_ms);
        }
    }

    fn somebody_stops(&mut self) {
        let node = self.some_node();
        if self.nodes[usize::from(node)].standing == Standing::Up {
            self.stop(node);
        }
    }

    fn somebody_roams(&mut self) {
        let (person, node) = (self.some_person(), self.some_node());
        let order = if self.dice.chance(70) { Order::Move(node) } else { Order::Goodbye };
        self.order(person, order);
    }

    /// All is healed, all nodes are up, everybody reads; then a last word from everybody to everybody.
    fn calm_down(&mut self) {
        note!(self.stage, self.now_ms(), "everything calms down");
        self.mend_all(None);
        self.make_room_everywhere();
        for person in 0..self.people.len() {
            self.order(person, Order::Calm);
        }
        self.wait_for(SETTLING_MS, checks::unsettled);
        let count = self.people.len();
        for (person, other) in (0..count).flat_map(|person| (0..count).map(move |other| (person, other))) {
            let to = (person != other).then_some(other);
            self.order(person, Order::Say { to, padding: 0 });
        }
        self.wait_for(HEARING_MS, checks::unheard);
    }

    /// Waits until nothing is wrong any more, and says what still is when the time is over.
    fn wait_for(&mut self, most_ms: u64, wrong: impl Fn(&mut Self) -> Vec<String>) {
        let end_ms = self.now_ms() + most_ms;
        loop {
            let until_ms = self.now_ms() + LOOK_MS;
            self.run_until(until_ms);
            let found = wrong(self);
            if found.is_empty() || !self.stage.model().violations.is_empty() {
                return;
            }
            if self.now_ms() >= end_ms {
                return self.stage.model().violations.extend(found);
            }
        }
    }
}
