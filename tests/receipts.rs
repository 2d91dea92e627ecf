//! What senders hear of their messages: step by step, and after a reconnect.

mod common;

use std::collections::BTreeMap;

use clique::{
    chat::directory::RETURN_MS,
    wire::{
        extended::{FromNode, Height, Receipt, Register, State},
        frames::{self, kind},
    },
};
use common::{cliques::Clique, extended::Extended, split::Split};

/// The first news in which a message is on so many nodes.
fn on_nodes(sender: &mut Extended, reference: u64, nodes: u32) -> Receipt {
    sender.wait_for(|frame| match frame {
        FromNode::Receipt(receipt) if receipt.reference == reference && receipt.nodes_holding == nodes => {
            Some(receipt.clone())
        }
        _ => None,
    })
}

fn say_goodbye(person: &mut Extended) {
    let mut goodbye = Vec::new();
    frames::encode_empty(&mut goodbye, kind::GOODBYE);
    person.socket.send(&goodbye);
    person.socket.rest();
}

#[test]
fn a_sender_hears_on_how_many_nodes_a_message_is_and_who_has_had_it() {
    let clique = Clique::of(3);
    let mut alice = clique.extended(0, "alice");
    let (mut bob, mut cleo) = (clique.extended(1, "bob"), clique.extended(2, "cleo"));
    clique.wait_people(3);
    let to_bob = alice.send("bob", "hello");
    assert_eq!(alice.receipt(to_bob, State::Accepted).nodes_known, 3);
    assert_eq!(alice.receipt(to_bob, State::Delivered).recipients_names, ["bob"]);
    let to_all = alice.send("*", "hello");
    let mut names = alice.wait_for(|frame| match frame {
        FromNode::Receipt(receipt) if receipt.reference == to_all && receipt.recipients == 2 => {
            Some(receipt.recipients_names.clone())
        }
        _ => None,
    });
    names.sort();
    assert_eq!(names, ["bob", "cleo"]);
    // One that does not answer is waited for only so long.
    clique.pause(2);
    let kept_back = alice.send("bob", "hello again");
    assert_eq!(on_nodes(&mut alice, kept_back, 2).nodes_known, 3);
    clique.resume(2);
    on_nodes(&mut alice, kept_back, 3);
    assert_eq!((bob.delivery().text, cleo.delivery().text), (b"hello".to_vec(), b"hello".to_vec()));
}

#[test]
fn receipts_follow_their_sender_to_another_node_and_back() {
    let split = Split::of(3);
    let mut alice = split.clique.extended(0, "alice");
    let bob = split.clique.extended(2, "bob");
    split.clique.wait_people(2);
    split.hold(&[0, 1], &[2]);
    split.clique.wait_for(0, 2, 3);
    split.clique.wait_for(1, 2, 3);
    let heights = alice.registered.heights.clone();
    let references: Vec<u64> = (0..3).map(|number| alice.send("bob", number.to_string())).collect();
    let kept: Vec<Receipt> = references.iter().map(|reference| alice.receipt(*reference, State::Kept)).collect();
    for reference in &references {
        on_nodes(&mut alice, *reference, 2);
    }
    drop(alice);
    let mut alice = Extended::awaiting(split.clique.chat(1), "alice", heights.clone(), &kept);
    assert!(alice.registered.resumed);
    for reference in &references {
        assert_eq!(on_nodes(&mut alice, *reference, 2).nodes_known, 3);
    }
    drop(alice);
    let mut alice = Extended::awaiting(split.clique.chat(0), "alice", heights.clone(), &kept);
    for reference in &references {
        on_nodes(&mut alice, *reference, 2);
    }
    drop(alice);
    // What happens while nobody listens is told to who comes and asks.
    split.heal();
    split.clique.wait_whole();
    let mut alice = Extended::awaiting(split.clique.chat(1), "alice", heights.clone(), &kept);
    for reference in &references {
        let receipt = alice.receipt(*reference, State::Delivered);
        assert_eq!((receipt.recipients, &receipt.recipients_names[..]), (1, &["bob".to_owned()][..]));
    }
    // Settled, and still known.
    drop(alice);
    let mut alice = Extended::awaiting(split.clique.chat(2), "alice", heights, &kept);
    for reference in &references {
        alice.receipt(*reference, State::Delivered);
    }
    drop(bob);
}

#[test]
fn where_the_accepting_node_is_gone_another_tells_on_how_many_a_message_is() {
    let mut clique = Clique::of(3);
    let mut alice = clique.extended(0, "alice");
    let _bob = clique.frames(1, "bob");
    clique.wait_people(2);
    let heights = alice.registered.heights.clone();
    let reference = alice.send("*", "hello");
    let accepted = alice.receipt(reference, State::Accepted);
    on_nodes(&mut alice, reference, 3);
    clique.kill(0);
    clique.wait_for(1, 2, 3);
    let mut alice = Extended::awaiting(clique.chat(1), "alice", heights, &[accepted]);
    assert_eq!(on_nodes(&mut alice, reference, 2).nodes_known, 3);
}

#[test]
fn a_message_to_somebody_who_has_left_for_good_is_said_to_be_undelivered() {
    let split = Split::of(2);
    let (mut alice, mut bob) = (split.clique.extended(0, "alice"), split.clique.extended(1, "bob"));
    split.clique.wait_people(2);
    split.hold(&[0], &[1]);
    split.clique.wait_for(0, 1, 2);
    let reference = alice.send("bob", "too late");
    alice.receipt(reference, State::Kept);
    say_goodbye(&mut bob);
    split.heal();
    let receipt = alice.receipt(reference, State::Undelivered);
    assert!(receipt.reason.contains("had left before your message arrived"), "{}", receipt.reason);
    // The key does not bring the stay back.
    let again = Extended::resumed(split.clique.chat(0), "bob", bob.registered.heights.clone(), Vec::new());
    assert!(!again.registered.resumed);
}

#[test]
fn a_message_to_somebody_whose_connection_has_broken_is_kept_and_comes_once_when_they_resume() {
    let clique = Clique::of(2);
    let (mut alice, mut bob) = (clique.extended(0, "alice"), clique.extended(1, "bob"));
    clique.wait_people(2);
    let before = alice.send("bob", "before");
    alice.receipt(before, State::Delivered);
    let had = bob.delivery().id.unwrap();
    drop(bob);
    clique.wait_people(1);
    let references: Vec<u64> = ["one", "two"].map(|text| alice.send("bob", text)).into();
    for reference in &references {
        let kept = alice.receipt(*reference, State::Kept);
        assert!(kept.reason.starts_with("the connection of bob has just broken"), "{}", kept.reason);
    }
    let stranger = Register { name: "bob".to_owned(), session_key: vec![9; 32], ..Register::default() };
    match Extended::ask(clique.chat(0), stranger).err().map(|refused| *refused) {
        Some(FromNode::RegisterRefused(refused)) => {
            assert!(refused.reason.starts_with("the name bob is kept for somebody"), "{}", refused.reason);
            assert!((1..=RETURN_MS).contains(&refused.retry_after_ms), "{}", refused.retry_after_ms);
        }
        other => panic!("{other:?}"),
    }
    // On the other node, where they are given their name at once.
    let heights = vec![Height { origin: had.origin, height: had.number }];
    let mut bob = Extended::resumed(clique.chat(0), "bob", heights, Vec::new());
    assert!(bob.registered.resumed);
    for text in ["one", "two"] {
        let missed = bob.delivery();
        assert_eq!((&missed.text[..], missed.replayed), (text.as_bytes(), true));
    }
    for reference in references {
        assert_eq!(alice.receipt(reference, State::Delivered).recipients_names, ["bob"]);
    }
    // What comes next is the next: nothing comes twice.
    alice.send("bob", "three");
    let next = bob.delivery();
    assert_eq!((&next.text[..], next.replayed), (&b"three"[..], false));
}

#[test]
fn a_message_to_somebody_whose_node_was_killed_comes_when_they_resume() {
    let mut clique = Clique::of(3);
    let (mut alice, bob) = (clique.extended(0, "alice"), clique.extended(1, "bob"));
    clique.wait_people(2);
    let heights = bob.registered.heights.clone();
    clique.kill(1);
    clique.wait_for(0, 2, 3);
    let reference = alice.send("bob", "are you there?");
    alice.receipt(reference, State::Kept);
    let mut bob = Extended::resumed(clique.chat(2), "bob", heights, Vec::new());
    assert_eq!(bob.delivery().text, b"are you there?");
    alice.receipt(reference, State::Delivered);
}

#[test]
fn a_message_to_somebody_who_has_said_goodbye_is_refused_and_the_name_is_free() {
    let clique = Clique::of(2);
    let (mut alice, mut bob) = (clique.extended(0, "alice"), clique.extended(1, "bob"));
    clique.wait_people(2);
    say_goodbye(&mut bob);
    clique.wait_people(1);
    let reference = alice.send("bob", "hello");
    let refused = alice.receipt(reference, State::Refused);
    assert!(refused.reason.contains("nobody called bob is here"), "{}", refused.reason);
    let stranger = Register { name: "bob".to_owned(), session_key: vec![9; 32], ..Register::default() };
    assert!(Extended::ask(clique.chat(0), stranger).is_ok());
}

#[test]
fn a_sender_with_thousands_under_way_keeps_its_connection_and_hears_of_each() {
    const MESSAGES: u64 = 2_000;
    const READERS: u32 = 60;
    let clique = Clique::new(3).with("CLIQUE_CLIENT_OUTPUT_KIB", 16).started();
    let readers: Vec<_> = (0..READERS).map(|index| clique.frames(index as usize % 3, &format!("r{index}"))).collect();
    let mut senders = [clique.extended(0, "alice"), clique.extended(0, "bert")];
    clique.wait_people(READERS as usize + 2);
    // In turns, so that what is known of neighbours concerns two people.
    for number in 0..MESSAGES {
        for sender in &mut senders {
            sender.send("*", number.to_string());
        }
    }
    for sender in &mut senders {
        let mut open: BTreeMap<u64, Option<State>> = (1..=MESSAGES).map(|reference| (reference, None)).collect();
        while !open.is_empty() {
            let FromNode::Receipt(receipt) = sender.next() else { continue };
            let Some(former) = open.insert(receipt.reference, Some(receipt.state())) else {
                panic!("nothing more is to be said than was: {receipt:?}");
            };
            assert_eq!(former.is_none(), receipt.state() == State::Accepted, "after {former:?}: {receipt:?}");
            if (receipt.nodes_holding, receipt.recipients) == (3, READERS + 1) {
                open.remove(&receipt.reference);
            }
        }
    }
    drop(readers);
}

#[test]
fn a_sender_of_thousands_that_are_refused_keeps_its_connection_and_hears_of_each() {
    const MESSAGES: u64 = 3_000;
    let clique = Clique::new(1).with("CLIQUE_CLIENT_OUTPUT_KIB", 16).started();
    let mut alice = clique.extended(0, "alice");
    // In turns, so that neighbours have different reasons.
    let nobody = ["x", "y"].map(|letter| letter.repeat(60));
    for (_, name) in (0..MESSAGES).zip(nobody.iter().cycle()) {
        alice.send(name, "hello");
    }
    for reference in 1..=MESSAGES {
        alice.receipt(reference, State::Refused);
    }
}
