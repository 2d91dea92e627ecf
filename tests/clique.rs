//! Five real node processes that are started in any order, killed, stopped, paused and added to.

mod common;

use std::{
    net::SocketAddr,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use clique::wire::extended::FromNode;
use common::{
    cliques::Clique,
    frames::{Frames, REFUSED, REGISTERED, frame},
    ports::Ports,
    process::Process,
    socket::Socket,
};

#[test]
fn nodes_find_each_other_in_any_order_of_starting() {
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]] {
        let mut clique = Clique::new(5);
        order.iter().for_each(|index| clique.start(*index));
        println!("{order:?}: whole {} ms after the last node was up", clique.wait_whole());
        let mut people: Vec<Frames> = (0..5).map(|index| clique.frames(index, &format!("p{index}"))).collect();
        clique.wait_people(5);
        for from in 0..5 {
            people[from].send("*", "hello");
            for to in (0..5).filter(|to| *to != from) {
                assert_eq!(people[to].hear().from, format!("p{from}"));
            }
        }
    }
}

#[test]
fn nodes_can_be_added_that_nobody_was_told_of() {
    let mut clique = Clique::new(5);
    let some = |count: usize| {
        let ports: Vec<String> = (0..count).map(|index| clique.ports(index).chat.to_string()).collect();
        ports.join(",")
    };
    let (one, two, five) = (some(1), some(2), some(5));
    clique.start_with(0, &[("CLIQUE_PORTS", one)]);
    clique.wait_for(0, 1, 1);
    clique.start_with(1, &[("CLIQUE_PORTS", two)]);
    clique.wait_for(0, 2, 2);
    clique.wait_for(1, 2, 2);
    let (mut alice, mut bob) = (clique.frames(0, "alice"), clique.frames(1, "bob"));
    for index in 2..5 {
        clique.start_with(index, &[("CLIQUE_PORTS", five.clone())]);
    }
    clique.wait_whole();
    let mut carol = clique.frames(4, "carol");
    clique.wait_people(3);
    carol.send("*", "I am new");
    assert_eq!(alice.hear_person().text(), "I am new");
    assert_eq!(bob.hear_person().text(), "I am new");
}

#[test]
fn one_member_is_enough_to_join_and_the_rest_is_learned() {
    let mut clique = Clique::new(5);
    let (only, first) = (clique.ports(0).chat.to_string(), clique.ports(0).grpc().to_string());
    clique.start_with(0, &[("CLIQUE_PORTS", only)]);
    for index in 1..5 {
        clique.start_with(index, &[("CLIQUE_PEERS", first.clone())]);
    }
    println!("whole {} ms after the last node was up", clique.wait_whole());
    // They are joined to each other, not only to the one they knew.
    clique.kill(0);
    for index in 1..5 {
        clique.wait_for(index, 4, 5);
    }
    let (mut alice, mut bob) = (clique.frames(1, "alice"), clique.frames(4, "bob"));
    clique.wait_people(2);
    alice.send("bob", "without the first");
    assert_eq!(bob.hear_person().text(), "without the first");
}

#[test]
fn a_killed_node_is_missed_and_taken_back_and_nothing_is_lost_meanwhile() {
    let mut clique = Clique::of(5);
    let (mut alice, mut bob) = (clique.frames(0, "alice"), clique.frames(1, "bob"));
    let mut carol = clique.frames(2, "carol");
    clique.wait_people(3);
    let mut sent = 0;
    let mut say = |alice: &mut Frames, count: u32| {
        for _ in 0..count {
            alice.send("bob", format!("{sent}"));
            sent += 1;
        }
    };
    for round in 0..3 {
        say(&mut alice, 50);
        clique.kill(2);
        say(&mut alice, 50);
        assert!(carol.socket.rest().is_empty());
        for index in [0, 1, 3, 4] {
            clique.wait_for(index, 4, 5);
        }
        say(&mut alice, 50);
        alice.send("carol", format!("kept {round}"));
        assert!(alice.notice_of("carol was last seen on node 2").ends_with("your message is kept until it can"));
        clique.start(2);
        println!("round {round}: whole {} ms after the killed node was up again", clique.wait_whole());
        say(&mut alice, 50);
        // A client of the original protocol cannot resume; it gets what was kept for its name.
        carol = Frames::connect(clique.chat(3 + round % 2));
        assert_eq!(carol.register("carol"), REGISTERED);
        assert_eq!(carol.notice(), "sent to you while you were away, perhaps in part seen already:");
        assert_eq!(carol.hear().text(), format!("kept {round}"));
        // Back to the node that is killed next.
        carol.socket.send(&frame(7, 0, 0, b""));
        carol.socket.rest();
        clique.wait_people(2);
        carol = clique.frames(2, "carol");
        clique.wait_people(3);
    }
    for number in 0..sent {
        assert_eq!(bob.hear_person().text(), number.to_string());
    }
    assert_eq!(bob.sync().into_iter().filter(|said| said.from != "clique").count(), 0, "nothing comes twice");
}

#[test]
fn a_node_that_is_told_to_stop_tells_everybody_and_hands_over_what_it_accepted() {
    let drain = Duration::from_secs(20);
    let mut clique = Clique::new(3).with("CLIQUE_DRAIN_MS", drain.as_millis()).started();
    let (mut alice, mut bob) = (clique.frames(1, "alice"), clique.frames(0, "bob"));
    let mut person = clique.lines(1, "person");
    let mut extended = clique.extended(1, "extended");
    clique.wait_people(4);
    // Connections that nobody uses do not hold it up: strangers on each port, and a scraper's that is kept open.
    let idle = [clique.ports(1).chat(), clique.ports(1).grpc(), clique.ports(1).http()].map(Socket::connect);
    let mut scraper = Socket::connect(clique.ports(1).http());
    scraper.send(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n");
    scraper.take_until(b'l').expect("an answer");
    for number in 0..2_000 {
        alice.send("bob", format!("{number}"));
    }
    assert_eq!(alice.sync(), [], "all is accepted");
    let began = Instant::now();
    let status = clique.terminate(1);
    let took = began.elapsed();
    println!("stopped in {} ms", took.as_millis());
    assert_eq!(status.code(), Some(0));
    assert!(took < drain, "stopping took {took:?}");
    assert!(alice.notice().starts_with("node 1 is stopping"));
    assert!(alice.socket.rest().is_empty(), "and the connection is closed");
    assert_eq!(person.rest(), ["* node 1 is stopping; connect to another node to go on"]);
    extended.wait_for(|frame| matches!(frame, FromNode::Stopping(_)).then_some(()));
    for number in 0..2_000 {
        assert_eq!(bob.hear().text(), number.to_string());
    }
    clique.wait_for(0, 2, 3);
    bob.send("alice", "are you there?");
    assert!(bob.notice().contains("nobody called alice"), "who was told to go is not waited for");
    drop(idle);
    clique.start(1);
    clique.wait_whole();
    assert_eq!(bob.sync(), [], "a node that said goodbye is not announced as missing");
}

#[test]
fn a_node_that_does_not_answer_any_more_is_found_and_is_whole_again_once_it_does() {
    let clique = Clique::of(5);
    let (mut alice, mut bob) = (clique.frames(0, "alice"), clique.frames(3, "bob"));
    let mut watcher = clique.lines(1, "watcher");
    clique.wait_people(3);
    clique.pause(3);
    for index in [0, 1, 2, 4] {
        clique.wait_for(index, 4, 5);
    }
    watcher.say("/nodes");
    watcher.line_with("4 of 5 nodes can be reached");
    let line = watcher.line_with("* node 3 ");
    assert!(line.contains("cannot be reached for "), "{line}");
    alice.send("bob", "kept");
    // A busy machine may have told of the cut before it took the message.
    let [kept, _] = alice.notices_of(["bob was last seen on node 3", "node 3 cannot be reached now;"]);
    assert!(kept.ends_with("your message is kept until it can"), "{kept}");
    clique.resume(3);
    println!("whole {} ms after the node went on", clique.wait_whole());
    assert_eq!(bob.hear_person().text(), "kept");
    alice.notice_of("node 3 can be reached again");
    clique.wait_people(3);
    alice.send("bob", "live");
    assert_eq!(bob.hear_person().text(), "live");
}

#[test]
fn a_node_that_is_left_alone_does_what_is_due() {
    let mut clique = Clique::of(2);
    let mut alice = clique.frames(0, "alice");
    clique.kill(1);
    // Nothing comes in any more: only time passes.
    alice.notice_of("node 1 cannot be reached now");
    clique.start(1);
    alice.notice_of("node 1 can be reached again");
}

#[test]
fn a_name_that_is_asked_for_on_all_nodes_at_once_is_given_once() {
    const ROUNDS: usize = 30;
    const CLIENTS: usize = 10;
    let clique = Clique::of(5);
    let barrier = Barrier::new(CLIENTS);
    let given: Vec<Vec<bool>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (address, barrier) = (clique.chat(client % 5), &barrier);
                scope.spawn(move || {
                    let ask = |round: usize| {
                        let mut connection = Frames::connect(address);
                        barrier.wait();
                        let is_given = match connection.register(&format!("name{round}")) {
                            REGISTERED => true,
                            REFUSED => false,
                            other => panic!("{other:?} is no answer to a request for a name"),
                        };
                        barrier.wait();
                        is_given
                    };
                    (0..ROUNDS).map(ask).collect()
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    for round in 0..ROUNDS {
        let winners = given.iter().filter(|rounds| rounds[round]).count();
        assert_eq!(winners, 1, "round {round}: {winners} of {CLIENTS} clients were given the name");
    }
    clique.wait_people(0);
}

#[test]
fn two_nodes_with_one_index_are_noticed_and_the_operator_is_told() {
    const TOLD: &str = "two nodes have index 0, one of them at";
    let mut clique = Clique::of(3);
    let double = Ports::claim();
    let start = |peer: SocketAddr| {
        let settings = [("PORTS", double.chat.to_string()), ("INDEX", "0".to_owned()), ("PEERS", peer.to_string())];
        let settings = settings.map(|(name, value)| (format!("CLIQUE_{name}"), value));
        Process::spawn("second node 0", &["node"], &settings)
    };
    // The one meets the other itself …
    let second = start(clique.ports(0).grpc());
    second.wait_for_output(TOLD);
    clique.node(0).wait_for_output(TOLD);
    drop(second);
    // … or both meet a third.
    let second = start(clique.ports(1).grpc());
    clique.node(1).wait_for_output(TOLD);
    drop(second);
    clique.wait_whole();
    // A node that restarts is not taken for a double.
    clique.kill(2);
    clique.start(2);
    clique.wait_whole();
    assert!(!clique.node(0).err().contains("two nodes have index 2"));
}
