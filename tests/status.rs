//! `clique status`: one node tells about all.

mod common;

use clique::node::hub::{History, NodeCondition, Overview};
use common::{cliques::Clique, eventually, ports::Ports, process::Process, split::Split};

/// Runs `clique status`: exit code, standard output, standard error.
fn status(arguments: &[&str]) -> (i32, String, String) {
    let arguments = [&["status"], arguments].concat();
    let mut process = Process::spawn("clique status", &arguments, &[]);
    let code = process.wait().code().expect("it ends by itself");
    (code, process.out(), process.err())
}

fn of_node(clique: &Clique, index: usize, more: &[&str]) -> (i32, String, String) {
    let address = clique.ports(index).http().to_string();
    status(&[&["--node", &address], more].concat())
}

fn overview(clique: &Clique, index: usize) -> (i32, Overview) {
    let (code, out, err) = of_node(clique, index, &["--json"]);
    (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")))
}

/// Waits until a node knows of something: news of peers take a moment.
fn wait_for(clique: &Clique, index: usize, what: &str, wanted: impl Fn(i32, &Overview) -> bool) -> Overview {
    eventually(&format!("node {index} knows that {what}"), || {
        let (code, overview) = overview(clique, index);
        wanted(code, &overview).then_some(overview)
    })
}

#[test]
fn a_whole_clique_is_well_and_every_node_says_the_same_of_all() {
    let clique = Clique::of(3);
    let (mut alice, _bob) = (clique.frames(0, "alice"), clique.frames(2, "bob"));
    clique.wait_people(2);
    for number in 0..10 {
        alice.send("*", number.to_string());
    }
    for index in 0..3 {
        let seen = wait_for(&clique, index, "all have everything", |code, overview| {
            let has_all = |overview: &Overview| {
                overview.nodes.iter().all(|node| node.heights.iter().map(|height| height.height).sum::<u64>() == 10)
            };
            code == 0 && has_all(overview) && overview.nodes.iter().all(|node| node.people.is_some())
        });
        assert_eq!((seen.asked, seen.nodes_known, seen.histories), (index as u16, 3, History::Equal));
        assert_eq!(seen.oldest_lacking_ms, None);
        let people: Vec<Option<u32>> = seen.nodes.iter().map(|node| node.people).collect();
        assert_eq!(people, [Some(1), Some(0), Some(1)]);
        let sees: Vec<&[u16]> = seen.nodes.iter().map(|node| &node.sees[..]).collect();
        assert_eq!(sees, [&[1, 2][..], &[0, 2], &[0, 1]]);
    }
    let (code, out, _) = of_node(&clique, 1, &[]);
    assert_eq!(code, 0);
    assert!(out.starts_with("as node 1 sees it: 3 of 3 nodes can be reached; their histories are equal"), "{out}");
    assert!(out.ends_with("All is well.\n"), "{out}");
}

#[test]
fn what_is_wrong_is_named_and_the_exit_code_says_so() {
    let clique = Clique::of(3);
    let mut alice = clique.frames(0, "alice");
    clique.pause(2);
    clique.wait_for(0, 2, 3);
    alice.send("*", "hello");
    let seen = wait_for(&clique, 1, "node 2 is gone and lacks something", |code, overview| {
        code == 1 && overview.nodes[2].state == NodeCondition::Unreachable && overview.nodes[2].lacks == 1
    });
    assert!(seen.alarms[0].starts_with("node 2 cannot be reached for "), "{:?}", seen.alarms);
    assert!(seen.alarms[0].contains("it lacks at least 1 message"), "{:?}", seen.alarms);
    assert!(seen.oldest_lacking_ms.is_some());
    let (code, out, _) = of_node(&clique, 0, &[]);
    assert_eq!(code, 1);
    assert!(out.contains("UNREACHABLE") && out.contains("\nalarm: node 2 cannot be reached"), "{out}");
    clique.resume(2);
    wait_for(&clique, 1, "node 2 is back", |code, overview| code == 0 && overview.nodes[2].lacks == 0);
}

#[test]
fn who_cannot_see_whom_is_known_to_a_third() {
    let split = Split::of(3);
    let mut watcher = split.clique.lines(2, "watcher");
    split.cut(&[0], &[1]);
    let sentence = "nodes 0 and 1 cannot see each other";
    let seen = wait_for(&split.clique, 2, sentence, |code, overview| code == 1 && !overview.alarms.is_empty());
    assert_eq!(seen.alarms, [sentence]);
    watcher.say("/nodes");
    assert_eq!(watcher.line_with("alarm"), format!("* alarm: {sentence}"));
    let (_, seen) = overview(&split.clique, 0);
    assert!(seen.alarms.iter().any(|alarm| alarm.ends_with("; node 2 can reach it")), "{:?}", seen.alarms);
}

#[test]
fn without_an_answer_it_says_so_and_ends_with_2() {
    let address = Ports::claim().http().to_string();
    let (code, out, err) = status(&["--node", &address]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(err, format!("clique: no node answers at {address}; is it running?\n"));
    let (code, _, err) = status(&["--node", "not an address"]);
    assert_eq!(code, 2);
    assert!(err.contains("not an address is no address of a node"), "{err}");
}
