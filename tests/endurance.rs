//! Five nodes, ten people who never stop talking, and one fault after the other: nothing that was acknowledged is lost,
//! nobody who resumes hears anything twice, and in the end every node has the same history.

mod common;

use std::{collections::BTreeMap, thread, time::Duration};

use clique::wire::extended::MessageId;
use common::{
    PATIENCE,
    cliques::Clique,
    eventually,
    process::Process,
    split::Split,
    wanderer::{Story, Wanderer},
};

const NODES: usize = 5;
const PEOPLE: usize = 10;
/// Messages that each has acknowledged between two faults.
const ROUND: u64 = 40;
/// How long a node is cut off from the network.
const CUT: Duration = Duration::from_secs(10);

fn kill_and_restart(split: &mut Split, index: usize, people: &[Wanderer]) {
    split.clique.kill(index);
    progress(people, ROUND);
    split.start(index);
    split.clique.wait_whole();
    progress(people, ROUND);
}

fn cut_off_for(split: &Split, time: Duration, people: &[Wanderer]) {
    split.hold(&[0, 1, 2, 3], &[4]);
    thread::sleep(time);
    progress(people, ROUND);
    split.heal();
    split.clique.wait_whole();
    progress(people, ROUND);
}

/// Waits until a node says that all is well and every node holds the same history.
fn histories_are_equal(clique: &Clique) {
    let address = clique.ports(0).http().to_string();
    eventually("`clique status` says that all histories are equal", || {
        let mut status = Process::spawn("clique status", &["status", "--node", &address], &[]);
        status.wait().success().then_some(())
    });
}

/// Waits until everybody has had so many more messages acknowledged.
fn progress(people: &[Wanderer], more: u64) {
    let before: Vec<u64> = people.iter().map(Wanderer::acknowledged).collect();
    for (person, before) in people.iter().zip(before) {
        eventually(&format!("{} goes on", person.name()), || (person.acknowledged() >= before + more).then_some(()));
    }
}

/// Waits until nothing comes any more.
fn settle(people: &[Wanderer]) {
    let total = || people.iter().map(Wanderer::heard).sum::<u64>();
    let (mut last, mut quiet) = (total(), 0);
    eventually("nothing is under way any more", || {
        let now = total();
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
        // Looks are 10 ms apart; what comes late waits for a lost node for 3 s at most.
        (quiet > 400).then_some(())
    });
}

fn identity(id: &MessageId) -> (u32, u64, u64) {
    let origin = id.origin.expect("an identity has an origin");
    (origin.node, origin.incarnation, id.number)
}

/// Each acknowledged message came to each of its addressees exactly once.
fn judge(stories: &[Story]) -> (usize, usize) {
    let (mut acknowledged, mut deliveries) = (0, 0);
    for listener in stories {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, text, _) in &listener.heard {
            *times.entry(text).or_default() += 1;
        }
        let doubled: Vec<_> = times.iter().filter(|(_, count)| **count > 1).collect();
        assert!(doubled.is_empty(), "{} heard {} messages more than once: {doubled:?}", listener.name, doubled.len());
        deliveries += times.len();
        for sender in stories.iter().filter(|sender| sender.name != listener.name) {
            let to_listener = sender.acknowledged.iter().filter(|(_, (to, _))| to == "*" || *to == listener.name);
            let lost: Vec<_> = to_listener.filter(|(text, _)| !times.contains_key(text.as_str())).collect();
            assert!(lost.is_empty(), "{} never heard {} of {}: {lost:?}", listener.name, lost.len(), sender.name);
            in_order(listener, sender);
        }
    }
    for story in stories {
        acknowledged += story.acknowledged.len();
    }
    (acknowledged, deliveries)
}

/// What one sender said at one node came in that order.
fn in_order(listener: &Story, sender: &Story) {
    let mut last: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    for (_, text, id) in listener.heard.iter().filter(|(from, ..)| *from == sender.name) {
        let (node, incarnation, number) = identity(id);
        let before = last.insert((node, incarnation), number).unwrap_or(0);
        assert!(before < number, "{} heard {text:?} of {} out of order", listener.name, sender.name);
    }
}

#[test]
fn whatever_happens_to_the_nodes_nothing_is_lost_or_doubled() {
    let directory = tempfile::tempdir().unwrap();
    let mut split = Split::in_directory(NODES, directory.path());
    let name = |index: usize| format!("walker{index}");
    let people: Vec<Wanderer> = (0..PEOPLE)
        .map(|index| {
            let nodes = (0..NODES).map(|hop| split.clique.chat((index + hop) % NODES)).collect();
            Wanderer::set_out(&name(index), nodes, &name((index + 3) % PEOPLE))
        })
        .collect();
    split.clique.wait_people(PEOPLE);
    people.iter().for_each(|person| person.talk(true));
    progress(&people, ROUND);
    for index in 0..NODES {
        kill_and_restart(&mut split, index, &people);
    }
    cut_off_for(&split, CUT, &people);
    people.iter().for_each(|person| person.talk(false));
    settle(&people);
    histories_are_equal(&split.clique);
    let stories: Vec<Story> = people.into_iter().map(Wanderer::end).collect();
    let (acknowledged, deliveries) = judge(&stories);
    let sent: u64 = stories.iter().map(|story| story.sent).sum();
    let reconnections: u64 = stories.iter().map(|story| story.reconnections).sum();
    println!(
        "{sent} messages sent, {acknowledged} acknowledged, {deliveries} delivered, {reconnections} reconnections: \
         0 acknowledged messages lost, 0 doubled, all histories equal"
    );
    assert!(CUT < PATIENCE && reconnections > 0, "nobody had to move: what was tested?");
}
