//! Links that are cut, held up and healed: nothing is lost, nothing comes twice, everything stays in order.

mod common;

use std::time::{Duration, Instant};

use clique::{
    node::hub::Timing,
    wire::extended::{FromNode, State},
};
use common::{
    eventually,
    extended::Extended,
    frames::{Frames, REFUSED, REGISTERED},
    lines::Lines,
    next_millisecond,
    split::Split,
};

/// Claims the name that somebody has.
fn claim(person: &mut Lines, passphrase: &str) {
    person.say(&format!("/claim {passphrase}"));
    person.line_with("is yours now");
}

#[test]
fn a_name_claimed_on_both_sides_of_a_cut_is_the_earlier_one_s_and_the_other_is_told() {
    let split = Split::of(2);
    split.cut(&[0], &[1]);
    (0..2).for_each(|index| split.clique.wait_for(index, 1, 2));
    let mut early = split.clique.lines(0, "bob");
    claim(&mut early, "the early passphrase");
    let mut late = split.clique.lines(1, "bob");
    claim(&mut late, "the late passphrase");
    // On this side only somebody else uses a name that is claimed on the other.
    let mut zoe = split.clique.lines(0, "zoe");
    claim(&mut zoe, "zoes own passphrase");
    let mut user = split.clique.lines(1, "zoe");
    split.heal();
    split.clique.wait_whole();
    assert_eq!(
        late.line_with("claimed the name bob"),
        "* somebody else claimed the name bob before you on the other side of a cut; you are bob~1 now, with the same passphrase"
    );
    assert!(user.line_with("zoe").ends_with("; you are zoe~1 now and stay connected"));
    split.clique.wait_people(4);
    zoe.say("bob to the early one");
    assert_eq!(early.line_with("zoe: "), "zoe: to the early one");
    zoe.say("bob~1 to the late one");
    assert_eq!(late.line_with("zoe: "), "zoe: to the late one");
    // The later one keeps the passphrase, on the other node too.
    drop(late);
    split.clique.wait_people(3);
    let mut again = Lines::connect(split.clique.chat(0));
    again.say("bob~1");
    again.line_with("type its passphrase");
    again.say("the late passphrase");
    again.line_with("* welcome, bob~1");
}

/// The numbers that somebody sent, in the order in which they came, until the last.
fn numbers(reader: &mut Frames, sender: &str, last: u32) -> Vec<u32> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        let said = reader.hear_person();
        assert_eq!(said.from, sender);
        numbers.push(said.text().parse().unwrap());
    }
    numbers
}

#[test]
fn what_is_sent_across_a_link_that_comes_and_goes_arrives_once_and_in_order() {
    let split = Split::of(2);
    let (mut alice, mut bob) = (split.frames(0, "alice"), split.frames(1, "bob"));
    split.clique.wait_people(2);
    let mut sent = 0;
    let mut say = |alice: &mut Frames, bob: &mut Frames| {
        for _ in 0..200 {
            sent += 1;
            alice.send("bob", sent.to_string());
            bob.send("alice", sent.to_string());
        }
        sent
    };
    for round in 0..4 {
        say(&mut alice, &mut bob);
        // Right in the middle of it, by turns with a reset and with silence.
        if round % 2 == 0 {
            split.cut(&[0], &[1])
        } else {
            split.hold(&[0], &[1])
        }
        say(&mut alice, &mut bob);
        for index in 0..2 {
            split.clique.wait_for(index, 1, 2);
        }
        say(&mut alice, &mut bob);
        split.heal();
        say(&mut alice, &mut bob);
        println!("round {round}: whole {} ms after the cut was healed", split.clique.wait_whole());
    }
    let last = say(&mut alice, &mut bob);
    let all: Vec<u32> = (1..=last).collect();
    assert_eq!(numbers(&mut bob, "alice", last), all);
    assert_eq!(numbers(&mut alice, "bob", last), all);
    for person in [&mut alice, &mut bob] {
        assert!(person.sync().iter().all(|said| said.from == "clique"), "nothing comes twice");
    }
}

#[test]
fn who_cannot_be_reached_directly_is_reached_through_a_third() {
    let split = Split::of(3);
    let (mut alice, mut bob) = (split.frames(0, "alice"), split.frames(1, "bob"));
    split.clique.wait_people(2);
    split.cut(&[0], &[1]);
    split.clique.wait_for(0, 2, 3);
    split.clique.wait_for(1, 2, 3);
    for number in 1..=100 {
        alice.send("bob", number.to_string());
        bob.send("alice", number.to_string());
    }
    let all: Vec<u32> = (1..=100).collect();
    assert_eq!(numbers(&mut bob, "alice", 100), all, "while the link is cut");
    assert_eq!(numbers(&mut alice, "bob", 100), all, "while the link is cut");
    split.heal();
    split.clique.wait_whole();
    alice.send("bob", "101");
    assert_eq!(numbers(&mut bob, "alice", 101), [101], "nothing comes twice");
}

#[test]
fn both_sides_of_a_split_go_on_and_hear_of_each_other_once_it_heals() {
    let split = Split::of(4);
    let mut people: Vec<Frames> = (0..4).map(|index| split.frames(index, &format!("p{index}"))).collect();
    split.clique.wait_people(4);
    split.hold(&[0, 1], &[2, 3]);
    (0..4).for_each(|index| split.clique.wait_for(index, 2, 4));
    for number in 0..50 {
        for person in &mut people {
            person.send("*", number.to_string());
        }
    }
    // On one's own side at once.
    for (reader, neighbour) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        for number in 0..50 {
            let said = people[reader].hear_person();
            assert_eq!((said.from, said.text), (format!("p{neighbour}"), number.to_string().into_bytes()));
        }
    }
    // A reader who cannot be reached is named, and what is for them is kept.
    people[0].send("p3", "kept");
    assert!(people[0].notice_of("p3 was last seen on node 3").ends_with("your message is kept until it can"));
    let mut extended = split.clique.extended(1, "extended");
    let reference = extended.send("p2", "kept too");
    extended.receipt(reference, State::Kept);
    split.heal();
    println!("whole {} ms after the split was healed", split.clique.wait_whole());
    extended.receipt(reference, State::Delivered);
    // What the other side said meanwhile: of each sender all, in order, once.
    let others = [[2, 3], [2, 3], [0, 1], [0, 1]];
    for (reader, others) in others.iter().enumerate() {
        let mut next = [0, 0];
        let mut direct = Vec::new();
        let expected_direct = usize::from(reader >= 2);
        while next != [50, 50] || direct.len() < expected_direct {
            let said = people[reader].hear_person();
            if said.to != "*" {
                direct.push(said.text().to_owned());
                continue;
            }
            let sender = others.iter().position(|other| said.from == format!("p{other}")).unwrap();
            assert_eq!(said.text(), next[sender].to_string(), "p{reader} hears {}", said.from);
            next[sender] += 1;
        }
        let expected: &[&str] = [&[][..], &[], &["kept too"], &["kept"]][reader];
        assert_eq!(direct, expected);
        assert!(people[reader].sync().iter().all(|said| said.from == "clique"), "nothing comes twice");
    }
}

#[test]
fn of_two_holders_of_a_name_the_earlier_keeps_it_and_the_later_is_told_the_new_one() {
    let split = Split::of(3);
    let mut before = split.frames(0, "before");
    split.clique.wait_people(1);
    split.cut(&[0], &[1, 2]);
    split.clique.wait_for(0, 1, 3);
    split.clique.wait_for(1, 2, 3);
    split.clique.wait_for(2, 2, 3);
    // One name is taken on both sides, another was taken already when the split came.
    let mut earlier = split.frames(1, "dana");
    next_millisecond();
    let mut later = split.frames(0, "Dana");
    let mut usurper = Extended::named(split.clique.chat(2), "BEFORE");
    assert_eq!(Frames::connect(split.clique.chat(2)).register("dana"), REFUSED, "each side keeps its own order");
    split.heal();
    split.clique.wait_whole();
    let told = later.notice_of("you are");
    assert!(told.contains("you are Dana~0 now and stay connected"), "{told}");
    let renamed = usurper.wait_for(|frame| match frame {
        FromNode::Renamed(renamed) => Some(renamed.clone()),
        _ => None,
    });
    assert_eq!(renamed.name, "BEFORE~2");
    assert!(renamed.reason.contains("somebody else had the name BEFORE before you"), "{}", renamed.reason);
    split.clique.wait_people(4);
    // Everybody is reached under the name that they have now, from everywhere, and speaks under it.
    let mut asker = split.frames(1, "asker");
    split.clique.wait_people(5);
    for (name, person) in [("dana", &mut earlier), ("dana~0", &mut later), ("before", &mut before)] {
        asker.send(name, "who are you?");
        let said = person.hear_person();
        assert_eq!(said.to.to_lowercase(), name);
        person.send("asker", "it is me");
        assert_eq!(asker.hear_person().from.to_lowercase(), name);
    }
    asker.send("before~2", "who are you?");
    assert_eq!(usurper.delivery().to, "BEFORE~2");
    for name in ["dana", "before", "dana~0", "before~2"] {
        assert_eq!(Frames::connect(split.clique.chat(1)).register(name), REFUSED, "{name}");
    }
    // With the later one gone its new name is free, and the old one stays where it is.
    drop(later);
    split.clique.wait_people(4);
    assert_eq!(Frames::connect(split.clique.chat(2)).register("dana~0"), REGISTERED);
}

#[test]
fn a_client_that_resumes_on_another_node_gets_what_it_missed_and_nothing_twice() {
    let split = Split::of(3);
    let mut alice = split.frames(0, "alice");
    let mut bob = split.clique.extended(1, "bob");
    split.clique.wait_people(2);
    let mut heights = bob.registered.heights.clone();
    for number in 0..100 {
        alice.send("bob", number.to_string());
    }
    for number in 0..100 {
        let delivery = bob.delivery();
        assert_eq!(delivery.text, number.to_string().as_bytes());
        let id = delivery.id.unwrap();
        heights.retain(|height| height.origin != id.origin);
        heights.push(clique::wire::extended::Height { origin: id.origin, height: id.number });
    }
    // Its node is cut off with it; meanwhile more comes.
    split.cut(&[1], &[0, 2]);
    split.clique.wait_for(0, 2, 3);
    for number in 100..200 {
        alice.send("bob", number.to_string());
    }
    drop(bob);
    let mut bob = Extended::resumed(split.clique.chat(2), "bob", heights, Vec::new());
    assert!(bob.registered.resumed);
    split.heal();
    split.clique.wait_whole();
    for number in 200..300 {
        alice.send("bob", number.to_string());
    }
    for number in 100..300 {
        let delivery = bob.delivery();
        assert_eq!(delivery.text, number.to_string().as_bytes());
    }
}

/// How many messages a line about the end of a split announces.
fn announced(line: &str) -> usize {
    let counted =
        line.split("; ").find_map(|part| part.split_once(" message").map(|(count, _)| count.parse().unwrap()));
    counted.unwrap_or(0)
}

#[test]
fn a_split_and_its_end_are_told_in_a_line_each_and_what_was_said_meanwhile_is_marked() {
    const MESSAGES: usize = 37;
    let split = Split::of(5);
    let mut watcher = split.clique.lines(0, "watcher");
    let mut extended = split.clique.extended(1, "extended");
    let mut sender = split.frames(2, "sender");
    split.clique.wait_people(3);
    split.hold(&[0, 1], &[2, 3, 4]);
    let told = "nodes 2, 3 and 4 cannot be reached now; messages for them are kept until the link is back";
    assert_eq!(watcher.line(), format!("* {told}"), "all nodes that one cut took away, in one line");
    assert_eq!(extended.notice_of("cannot be reached"), told);
    assert_eq!(sender.notice_of("cannot be reached").split(';').next(), Some("nodes 0 and 1 cannot be reached now"));
    for number in 0..MESSAGES {
        sender.send("*", number.to_string());
    }
    sender.sync();
    let said_at = Instant::now();
    let reference = extended.send("*", "from the smaller side");
    let on_nodes = |extended: &mut Extended, nodes: u32| {
        extended.wait_for(|frame| match frame {
            FromNode::Receipt(receipt) if receipt.reference == reference && receipt.nodes_holding == nodes => {
                Some(receipt.nodes_known)
            }
            _ => None,
        })
    };
    assert_eq!(on_nodes(&mut extended, 2), 5, "told what can be, as long as the split lasts");
    assert_eq!(watcher.line(), "extended to *: from the smaller side");
    let _earlier = split.frames(1, "bob");
    next_millisecond();
    let mut later = split.frames(3, "bob");
    // What is younger than this can have come straight through others: nodes do not call it from the split.
    let is_old = || said_at.elapsed() > Duration::from_millis(Timing::default().announce_after_ms);
    eventually("what was said is old enough", || is_old().then_some(()));
    split.heal();
    // Nodes whose links come back one after the other make more than one line; all that follows is counted once.
    let (mut counted, mut said, mut returned) = (0, Vec::new(), String::new());
    while said.len() < MESSAGES || !returned.contains("bob is bob~3 now") {
        let line = watcher.line();
        match line.strip_prefix("* ") {
            Some(notice) => {
                counted += announced(notice);
                returned.push_str(notice);
            }
            None => {
                assert!(said.len() < counted, "announced before it is shown: {line}");
                let (head, text) = line.split_once("]: ").unwrap();
                assert!(head.starts_with("sender to * [") && head.ends_with(", from the split"), "{line}");
                said.push(text.parse::<usize>().unwrap());
            }
        }
    }
    assert_eq!(said, (0..MESSAGES).collect::<Vec<_>>());
    assert_eq!(counted, MESSAGES);
    assert!(returned.contains("1 name was given on both sides: bob is bob~3 now"), "{returned}");
    assert!(later.notice_of("you are bob~3 now").contains("stay connected"));
    for number in 0..MESSAGES {
        let delivery = extended.delivery();
        assert_eq!(delivery.text, number.to_string().as_bytes());
        assert!(delivery.from_split && !delivery.replayed);
    }
    assert_eq!(on_nodes(&mut extended, 5), 5);
    // What is said from now on is as always.
    split.clique.wait_whole();
    sender.send("*", "live");
    assert_eq!(watcher.line_with("sender to *"), "sender to *: live");
    assert!(!extended.delivery().from_split);
}
