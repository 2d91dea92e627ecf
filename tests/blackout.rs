//! All nodes are killed at once and start again: whoever resumes, at whichever node, gets what was sent to them and not
//! read, and nothing twice, though their name is not claimed.

mod common;

use clique::wire::extended::{Delivery, Height, Register, Resume, State};
use common::{cliques::Clique, eventually, extended::Extended, process::Process};
use nix::sys::signal::Signal;
use tempfile::TempDir;

const NODES: usize = 5;

struct Place {
    clique: Clique,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let mut place = Self { clique: Clique::new(NODES), folder: tempfile::tempdir().unwrap() };
        place.start(0..NODES);
        place
    }

    fn start(&mut self, indexes: impl IntoIterator<Item = usize>) {
        for index in indexes {
            let data = self.folder.path().join(format!("node-{index}")).display().to_string();
            self.clique.start_with(index, &[("CLIQUE_DATA", data)]);
        }
    }

    fn kill_all(&mut self) {
        (0..NODES).for_each(|index| self.clique.kill(index));
    }
}

/// As a client registers that has had this, under its own key.
fn resuming(name: &str, last: &Delivery, client: &Extended) -> Register {
    let id = last.id.as_ref().unwrap();
    let heights = vec![Height { origin: id.origin, height: id.number }];
    let resume = Resume { heights, registration: client.registered.registration, ..Resume::default() };
    let session_key = format!("{name:-<32}").into_bytes();
    Register { name: name.to_owned(), session_key, resume: Some(resume), ..Register::default() }
}

/// Sends numbers to somebody; all of them are on the disk of their node when this returns.
fn say(sender: &mut Extended, to: &str, numbers: std::ops::Range<u64>) {
    let references: Vec<u64> = numbers.map(|number| sender.send(to, number.to_string())).collect();
    references.into_iter().for_each(|reference| drop(sender.receipt(reference, State::Accepted)));
}

fn hear(reader: &mut Extended, numbers: std::ops::Range<u64>) -> Delivery {
    let mut last = Delivery::default();
    for number in numbers {
        last = reader.delivery();
        assert_eq!(String::from_utf8_lossy(&last.text), number.to_string());
    }
    last
}

#[test]
fn what_was_sent_to_an_unclaimed_name_waits_for_its_client_over_the_death_of_all_nodes() {
    let mut place = Place::new();
    let (mut alice, mut bob) = (place.clique.extended(0, "alice"), place.clique.extended(1, "bob"));
    place.clique.wait_people(2);
    say(&mut alice, "bob", 0..20);
    let last_read = hear(&mut bob, 0..20);
    // What the connection brings from now on is not read any more.
    say(&mut alice, "bob", 20..50);
    place.kill_all();
    let register = resuming("bob", &last_read, &bob);
    place.start(0..NODES);
    place.clique.wait_whole();

    let mut thief = register.clone();
    thief.session_key = vec![7; 32];
    let mut thief = Extended::ask(place.clique.chat(4), thief).unwrap();
    assert!(!thief.registered.resumed, "without the key the registration is nobody's");
    thief.command("quit");
    place.clique.wait_people(0);

    let mut bob = Extended::ask(place.clique.chat(3), register).unwrap();
    assert!(bob.registered.resumed);
    let last_read = hear(&mut bob, 20..50);
    let mut alice = place.clique.extended(2, "alice");
    place.clique.wait_people(2);
    say(&mut alice, "bob", 50..60);
    hear(&mut bob, 50..60);

    // Once more, with what came after the first time.
    let register = resuming("bob", &last_read, &bob);
    place.kill_all();
    place.start((0..NODES).rev());
    place.clique.wait_whole();
    let mut bob = Extended::ask(place.clique.chat(0), register).unwrap();
    assert!(bob.registered.resumed);
    hear(&mut bob, 50..60);
}

#[test]
fn who_resumes_before_the_node_is_back_that_has_their_messages_gets_them_when_it_is() {
    let mut place = Place::new();
    let (mut alice, mut bob) = (place.clique.extended(0, "alice"), place.clique.extended(1, "bob"));
    place.clique.wait_people(2);
    say(&mut alice, "*", 0..1);
    let last_read = hear(&mut bob, 0..1);
    // Only the node of the sender has what follows.
    (1..NODES).for_each(|index| place.clique.kill(index));
    say(&mut alice, "*", 1..3);
    let reference = alice.send("bob", "3");
    alice.receipt(reference, State::Kept);
    place.clique.kill(0);
    place.start(1..NODES);
    let register = resuming("bob", &last_read, &bob);
    let mut bob = Extended::ask(place.clique.chat(2), register).unwrap();
    assert!(!bob.registered.resumed, "these nodes never heard that it was told to");
    place.start([0]);
    place.clique.wait_whole();
    hear(&mut bob, 1..4);
}

#[test]
fn our_client_goes_on_after_the_death_of_all_nodes_with_nothing_missed_and_nothing_twice() {
    const COUNT: u64 = 300;
    let mut place = Place::new();
    let addresses: Vec<String> = (0..NODES).map(|index| place.clique.chat(index).to_string()).collect();
    let nodes = addresses.join(",");
    let arguments = ["client", "--format", "json", "--stay", "--name", "bob", "--nodes", &nodes, "--node", "1"];
    let bob = Process::spawn("the client", &arguments, &[]);
    bob.wait_for_output(r#""state":"registered""#);
    let mut alice = place.clique.extended(0, "alice");
    place.clique.wait_people(2);
    say(&mut alice, "bob", 0..100);
    bob.wait_for_output(r#""text":"99""#);
    // It reads nothing any more, and then there is nobody to read from.
    bob.signal(Signal::SIGSTOP);
    say(&mut alice, "bob", 100..COUNT);
    place.kill_all();
    bob.signal(Signal::SIGCONT);
    bob.wait_for_output(r#""state":"lost""#);
    place.start(2..NODES);
    eventually("the client is registered again", || {
        (bob.out().matches(r#""state":"registered""#).count() > 1).then_some(())
    });
    place.start(0..2);
    place.clique.wait_whole();
    let mut alice = place.clique.extended(0, "alice");
    place.clique.wait_people(2);
    say(&mut alice, "bob", COUNT..COUNT + 1);
    bob.wait_for_output(&format!(r#""text":"{COUNT}""#));
    let out = bob.out();
    for number in 0..=COUNT {
        assert_eq!(out.matches(&format!(r#""text":"{number}""#)).count(), 1, "message {number}\n{out}");
    }
}
