//! Single stories, told step by step: what a random schedule meets too seldom.

use clique::{
    chat::directory::RETURN_MS,
    wire::{
        Dialect,
        extended::{Receipt, State},
    },
};

use crate::{
    checks,
    faults::Faults,
    node::NodeLimits,
    person::{Person, PersonId, Reading},
    scenario::{PLAIN, Theme},
    wiring::Death,
    world::{Event, World},
};

const STORY: Theme = Theme { name: "story", nodes: (3, 3), people: (0, 0), slow_links_percent: 0, ..PLAIN };

struct Story(World);

impl Story {
    fn begin(seed: u64) -> Self {
        let limits = NodeLimits {
            max_log_bytes: STORY.max_log_bytes,
            max_client_bytes: STORY.max_client_bytes,
            max_link_bytes: 64 * 1024,
            disk: None,
            max_kept_bytes: 0,
            max_kept_ms: 0,
            return_ms: RETURN_MS,
            fault: None,
        };
        let mut world = World::new(seed, limits, Faults::default());
        world.build(&STORY);
        let mut story = Self(world);
        story.wait(3_000);
        story
    }

    fn wait(&mut self, ms: u64) {
        let until_ms = self.0.now_ms + ms;
        self.0.run_until(until_ms);
    }

    fn meet(&mut self, name: &str, dialect: Dialect, node: u16) -> PersonId {
        let id = self.0.people.len();
        self.0.people.push(Person::new(id, name, dialect, Reading::Fast));
        self.0.connect(id, node);
        self.wait(300);
        id
    }

    /// Says something, and lets it arrive.
    fn say(&mut self, person: PersonId, to: &str) -> usize {
        self.0.say(person, to, 0);
        self.wait(200);
        self.0.model.said.len() - 1
    }

    fn crash(&mut self, node: u16) {
        self.0.crash(node, Death::Killed);
        // Whoever was there stays away until told otherwise.
        self.0.people.iter_mut().for_each(|person| person.has_left = true);
        self.wait(2_000);
    }

    fn restart(&mut self, node: u16) {
        let life = self.0.node(node).life;
        self.0.schedule(0, Event::Restart { node, life });
        self.wait(3_000);
    }

    fn return_to(&mut self, person: PersonId, node: u16) {
        self.0.people[person].has_left = false;
        self.0.connect(person, node);
        self.wait(1_000);
    }

    fn has_read(&self, person: PersonId, message: usize) -> bool {
        self.0.model.talks.values().any(|talk| talk.person == person && talk.heard.contains(&message))
    }

    fn is_refused(&self, person: PersonId) -> bool {
        let connection = self.0.people[person].connection.unwrap();
        self.0.model.talks[&connection].registration.is_none()
    }

    fn end(mut self) {
        self.0.calm_down();
        let mut wrong = self.0.model.violations.clone();
        wrong.extend(checks::at_the_end(&self.0, &STORY));
        assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), self.0.transcript.text());
    }
}

#[test]
fn who_comes_back_to_a_restarted_node_goes_on_and_gets_what_was_kept() {
    for dialect in [Dialect::Extended, Dialect::Frames, Dialect::Lines] {
        let mut story = Story::begin(1);
        let ann = story.meet("ann", dialect, 0);
        let bob = story.meet("bob", Dialect::Extended, 1);
        story.crash(0);
        let kept = story.say(bob, "ann");
        let to_all = story.say(bob, "*");
        story.restart(0);
        story.return_to(ann, 0);
        assert!(story.has_read(ann, kept), "{dialect:?}\n{}", story.0.transcript.text());
        assert_eq!(
            story.has_read(ann, to_all),
            dialect == Dialect::Extended,
            "only who resumes was there all the time"
        );
        story.end();
    }
}

#[test]
fn what_became_of_a_message_is_told_though_the_link_broke_as_it_was_on_its_way() {
    for seed in 0..10 {
        let mut story = Story::begin(seed);
        story.meet("ann", Dialect::Lines, 0);
        let bob = story.meet("bob", Dialect::Extended, 1);
        for _ in 0..5 {
            story.0.say(bob, "ann", 0);
            story.wait(seed + 2);
            for (cable, _) in story.0.network.of_node(0) {
                story.0.break_cable(cable);
            }
            story.wait(1_500);
        }
        story.end();
    }
}

#[test]
fn mail_that_broke_off_in_the_middle_goes_on_with_the_resumed_connection() {
    let mut story = Story::begin(1);
    let ann = story.meet("ann", Dialect::Extended, 0);
    let bob = story.meet("bob", Dialect::Extended, 1);
    story.0.claim(ann);
    story.wait(500);
    story.0.people[ann].has_left = true;
    story.0.say_goodbye(ann);
    story.wait(500);
    let mail: Vec<usize> = (0..60)
        .map(|_| {
            story.0.say(bob, "ann", 600);
            story.0.model.said.len() - 1
        })
        .collect();
    story.wait(500);
    // Nothing is read of what their new device begins to get: more than fits into its output.
    story.0.people[ann].reading = Reading::Never;
    story.return_to(ann, 2);
    let broken = story.0.people[ann].connection.unwrap();
    story.0.people[ann].reading = Reading::Fast;
    let welcome = story.0.connections[&broken].socket.len();
    story.0.read(broken, welcome);
    story.0.people[ann].has_left = true;
    story.0.hang_up(broken);
    story.wait(500);
    story.return_to(ann, 1);
    let missing: Vec<usize> = mail.into_iter().filter(|message| !story.has_read(ann, *message)).collect();
    assert!(missing.is_empty(), "{missing:?}\n{}", story.0.transcript.text());
    story.end();
}

#[test]
fn what_waited_for_a_dead_connection_is_not_undelivered_once_its_person_goes_on_elsewhere() {
    let mut story = Story::begin(1);
    let ann = story.meet("ann", Dialect::Extended, 0);
    let bob = story.meet("bob", Dialect::Extended, 1);
    // Nothing is read any more; what does not fit between the two waits at the node.
    let dead = story.0.people[ann].connection.unwrap();
    story.0.connections.get_mut(&dead).unwrap().socket_room = 0;
    let waiting = story.say(bob, "ann");
    story.return_to(ann, 2);
    story.0.hang_up(dead);
    assert!(story.has_read(ann, waiting), "{}", story.0.transcript.text());
    story.end();
}

#[test]
fn a_message_to_whose_connection_has_broken_waits_and_comes_wherever_they_go_on() {
    for goes_to in 0..3 {
        let mut story = Story::begin(goes_to);
        let ann = story.meet("ann", Dialect::Extended, 0);
        let bob = story.meet("bob", Dialect::Extended, 1);
        let before = story.say(bob, "ann");
        let broken = story.0.people[ann].connection.unwrap();
        story.0.people[ann].has_left = true;
        story.0.hang_up(broken);
        story.wait(200);
        let kept: Vec<usize> = (0..3).map(|_| story.say(bob, "ann")).collect();
        story.return_to(ann, u16::try_from(goes_to).unwrap());
        assert!(story.has_read(ann, before));
        for message in kept {
            let states: Vec<State> = story.0.model.said[message].receipts.iter().map(Receipt::state).collect();
            assert!(states.starts_with(&[State::Kept]) && states.contains(&State::Delivered), "{states:?}");
            assert!(story.has_read(ann, message));
        }
        story.end();
    }
}

#[test]
fn the_name_of_whose_node_has_died_is_given_to_nobody_else_for_a_while() {
    let mut story = Story::begin(1);
    let ann = story.meet("ann", Dialect::Extended, 0);
    let bob = story.meet("bob", Dialect::Extended, 1);
    story.crash(0);
    let other = story.meet("ann", Dialect::Lines, 2);
    assert!(story.is_refused(other), "{}", story.0.transcript.text());
    let kept = story.say(bob, "ann");
    story.return_to(ann, 2);
    assert!(story.has_read(ann, kept), "{}", story.0.transcript.text());
    // Who has waited gets another name, not this one.
    story.wait(2_000);
    assert_eq!(story.0.people[ann].name, "ann");
    story.restart(0);
    story.end();
}

#[test]
fn who_comes_back_when_nobody_expects_them_any_more_gets_what_was_said_to_be_undelivered() {
    let mut story = Story::begin(1);
    let ann = story.meet("ann", Dialect::Extended, 0);
    let bob = story.meet("bob", Dialect::Extended, 1);
    let broken = story.0.people[ann].connection.unwrap();
    story.0.people[ann].has_left = true;
    story.0.hang_up(broken);
    story.wait(200);
    let message = story.say(bob, "ann");
    story.wait(RETURN_MS);
    let last = |story: &Story| story.0.model.said[message].receipts.last().map(Receipt::state);
    assert_eq!(last(&story), Some(State::Undelivered));
    story.return_to(ann, 2);
    assert!(story.has_read(ann, message));
    assert_eq!(last(&story), Some(State::Delivered));
    story.end();
}
