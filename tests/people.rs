//! People who were away, rooms and history: claimed names, mailboxes, what was said before.

mod common;

use clique::wire::extended::{FromNode, Register, State, Why};
use common::{
    cliques::Clique,
    eventually,
    extended::Extended,
    frames::{Frames, REFUSED, REGISTERED, register},
    lines::Lines,
    socket::Socket,
};

const SECRET: &str = "four words, no less";

/// Bob, who has claimed his name and gone.
fn bob_was_here(clique: &Clique) {
    let mut bob = clique.lines(0, "bob");
    bob.say(&format!("/claim {SECRET}"));
    assert_eq!(bob.line(), "* the name bob is yours now, on every node; log in with the passphrase");
    bob.say("/quit");
    assert_eq!(bob.rest(), ["* goodbye"]);
    clique.wait_people(0);
}

/// Somebody with `nc` who proves that the name is theirs. Waits until the node knows of the claim.
fn login(clique: &Clique, index: usize, name: &str, passphrase: &str) -> Lines {
    let mut client = Lines::connect(clique.chat(index));
    client.say(name);
    let asked = client.line();
    assert!(asked.ends_with(" is claimed; type its passphrase"), "{asked}");
    client.say(passphrase);
    client
}

fn device(name: &str, key: u8, passphrase: &str) -> Register {
    let passphrase = passphrase.to_owned();
    Register { name: name.to_owned(), session_key: vec![key; 32], passphrase, ..Register::default() }
}

#[test]
fn a_claimed_name_is_its_owner_s_on_every_node_in_every_dialect() {
    let clique = Clique::of(3);
    bob_was_here(&clique);
    let mut stranger = login(&clique, 1, "BOB", "not the passphrase");
    assert_eq!(stranger.line(), "* that is not the passphrase of BOB; type your name again");
    stranger.say("eve");
    assert!(stranger.line().starts_with("* welcome, eve: you are on node 1;"));
    let mut bob = login(&clique, 1, "Bob", SECRET);
    assert!(bob.line().starts_with("* welcome, bob: you are on node 1;"));

    let refused = |why: Why, passphrase: &str| match Extended::ask(clique.chat(2), device("bob", 7, passphrase))
        .err()
        .map(|refused| *refused)
    {
        Some(FromNode::RegisterRefused(refused)) => assert_eq!(refused.why(), why, "{}", refused.reason),
        other => panic!("{other:?}"),
    };
    refused(Why::PassphraseWanted, "");
    refused(Why::PassphraseWrong, "wrong one again");
    let mut phone = Extended::ask(clique.chat(2), device("bob", 8, SECRET)).unwrap();
    assert!(phone.registered.claimed && !phone.registered.resumed);

    let mut socket = Socket::connect(clique.chat(2));
    socket.send(&register("bob"));
    let mut original = Frames { socket };
    assert_eq!(original.next().kind, REFUSED);
    original.socket.send(&register(&format!("bob:{SECRET}")));
    assert_eq!(original.next().kind, REGISTERED);

    // One person, on three devices at two nodes.
    clique.wait_people(2);
    let mut eve = stranger;
    eve.say("bob hello to all of you");
    assert_eq!(bob.line_with("eve: "), "eve: hello to all of you");
    assert_eq!(phone.delivery().text, b"hello to all of you");
    assert_eq!(original.hear_person().text(), "hello to all of you");
    eve.say("/who");
    assert_eq!(eve.line_with("bob on"), "* bob on nodes 1 and 2");
}

#[test]
fn a_bad_passphrase_is_refused_and_none_is_shown_anywhere() {
    let clique = Clique::of(1);
    let mut bob = clique.lines(0, "bobby");
    for (passphrase, reason) in [
        ("", "say the passphrase too"),
        ("short", "8 to 128 bytes"),
        ("bobby123", "everybody would try first"),
        ("/slashes all", "begin with a slash"),
    ] {
        bob.say(&format!("/claim {passphrase}"));
        assert!(bob.line().contains(reason), "{passphrase}");
    }
    bob.say("/claim the first passphrase");
    bob.line_with("is yours now");
    bob.say("/claim the second passphrase");
    assert_eq!(bob.line(), "* the passphrase of bobby is changed");
    drop(bob);
    clique.wait_people(0);
    assert!(login(&clique, 0, "bobby", "the first passphrase").line().contains("not the passphrase"));
    assert!(login(&clique, 0, "bobby", "the second passphrase").line().starts_with("* welcome, bobby"));
    let err = clique.node(0).err();
    assert!(!err.contains("second passphrase") && !err.contains("first passphrase"), "{err}");
}

#[test]
fn guesses_are_limited() {
    let clique = Clique::of(1);
    bob_was_here(&clique);
    // All at once: the limit counts tries, not answers.
    let mut guessers: Vec<Lines> = (0..9).map(|n| login(&clique, 0, "bob", &format!("guess number {n}"))).collect();
    let answers: Vec<String> = guessers.iter_mut().map(Lines::line).collect();
    let wrong = answers.iter().filter(|line| line.contains("that is not the passphrase of bob")).count();
    let refused = answers.iter().filter(|line| line.contains("too many passphrases were tried; try again in ")).count();
    assert!(wrong >= 1 && refused >= 1 && wrong + refused == 9, "{answers:?}");
}

#[test]
fn what_was_sent_to_an_owner_who_was_away_arrives_once_in_order_on_any_node() {
    let clique = Clique::of(3);
    bob_was_here(&clique);
    let mut alice = clique.lines(1, "alice");
    let mut carol = clique.extended(2, "carol");
    clique.wait_people(2);
    for number in 1..=30 {
        alice.say(&format!("bob {number}"));
        assert_eq!(alice.line(), "* bob is away; your message is kept until they come back");
    }
    // What she has seen comes before what she says then, even within the same millisecond.
    alice.say("carol now you");
    assert_eq!(carol.delivery().text, b"now you");
    let reference = carol.send("bob", "from carol");
    assert_eq!(carol.receipt(reference, State::Kept).reason, "bob is away; your message is kept until they come back");

    let mut bob = login(&clique, 2, "bob", SECRET);
    bob.line_with("* welcome, bob");
    bob.line_with("* sent to you while you were away:");
    for number in 1..=30 {
        assert_eq!(bob.line(), format!("alice: {number}"));
    }
    assert_eq!(bob.line(), "carol: from carol");
    carol.receipt(reference, State::Delivered);
    bob.say("/quit");
    bob.rest();
    clique.wait_people(2);
    // What one device has had is not new on another, on another node.
    alice.say("bob the last");
    alice.line_with("is away");
    let mut phone = Extended::ask(clique.chat(0), device("bob", 9, SECRET)).unwrap();
    let delivery = phone.delivery();
    assert_eq!((delivery.text.as_slice(), delivery.replayed), (&b"the last"[..], true));
    alice.say("bob live");
    assert_eq!(phone.delivery().text, b"live");
}

#[test]
fn rooms_have_members_topics_and_history() {
    let clique = Clique::of(3);
    let (mut alice, mut bob) = (clique.lines(0, "alice"), clique.lines(1, "bob"));
    let mut carol = clique.extended(2, "carol");
    clique.wait_people(3);
    alice.say("#tea anyone?");
    assert_eq!(alice.line(), "* not sent: you are not in #tea; join it first: /join #tea");
    alice.say("/rooms");
    assert_eq!(alice.line(), "* there are no rooms yet; /join #ROOM makes one");
    alice.say("/topic #tea");
    assert_eq!(alice.line(), "* there is no room #tea; /join #tea makes one");
    alice.say("/join #Tea");
    assert_eq!(alice.line(), "* you are in #tea: 1 person: alice");
    alice.say("#tea anyone?");
    alice.say("/topic #tea green or black");
    assert_eq!(alice.line(), "* #tea is about: green or black");
    eventually("node 1 knows the topic", || {
        bob.say("/rooms");
        bob.line().contains("about: green or black").then_some(())
    });
    bob.say("/join #tea");
    assert_eq!(bob.line(), "* you are in #tea: 2 people: alice, bob");
    assert_eq!(bob.line(), "* #tea is about: green or black");
    let before = bob.line();
    assert!(before.starts_with("[20") && before.ends_with("] alice to #tea: anyone?"), "{before}");
    assert_eq!(alice.line(), "* bob joined #tea");
    carol.command("join #tea");
    let rooms = carol.wait_for(|frame| match frame {
        FromNode::RoomsChanged(changed) => changed.rooms.first().cloned(),
        _ => None,
    });
    assert_eq!((rooms.name.as_str(), rooms.topic.as_str()), ("#tea", "green or black"));
    assert_eq!(alice.line(), "* carol joined #tea");
    assert_eq!(bob.line(), "* carol joined #tea");
    bob.say("#TEA me");
    assert_eq!(alice.line(), "bob to #tea: me");
    let said = carol.wait_for(|frame| match frame {
        FromNode::Delivery(delivery) if !delivery.history => Some(delivery.clone()),
        _ => None,
    });
    assert_eq!((said.to.as_str(), said.text.as_slice()), ("#tea", &b"me"[..]));
    bob.say("/part");
    assert_eq!(bob.line(), "* you have left #tea");
    assert_eq!(alice.line(), "* bob left #tea");
    bob.say("#tea still?");
    bob.line_with("not sent: you are not in #tea");
    alice.say("/who #tea");
    assert_eq!(alice.line(), "* #tea: 2 people: alice, carol");
    drop(carol);
}

#[test]
fn an_owner_stays_in_a_room_across_connections_and_nodes() {
    let clique = Clique::of(2);
    let mut bob = clique.lines(0, "bob");
    bob.say("/join #ops");
    bob.line_with("you are in #ops");
    bob.say(&format!("/claim {SECRET}"));
    bob.line_with("is yours now");
    drop(bob);
    clique.wait_people(0);
    let mut alice = clique.lines(0, "alice");
    clique.wait_people(1);
    alice.say("/join #ops");
    assert_eq!(alice.line(), "* you are in #ops: 2 people: bob (away), alice");
    alice.say("#ops nobody is here, and that is no error");
    let mut bob = login(&clique, 1, "bob", SECRET);
    bob.line_with("* welcome, bob");
    assert!(bob.line().ends_with("] alice to #ops: nobody is here, and that is no error"));
    clique.wait_people(2);
    alice.say("#ops good morning");
    assert_eq!(bob.line(), "alice to #ops: good morning");
    bob.say("#ops hello");
    assert_eq!(alice.line(), "bob to #ops: hello");
}

#[test]
fn history_is_the_same_on_every_node() {
    let clique = Clique::of(3);
    let mut people: Vec<Lines> = (0..3).map(|index| clique.lines(index, &format!("p{index}"))).collect();
    clique.wait_people(3);
    for round in 0..10 {
        for (index, person) in people.iter_mut().enumerate() {
            person.say(&format!("* {round} of p{index}"));
            person.say(&format!("p{} {round} for you", (index + 1) % 3));
        }
    }
    // Everybody has heard what the two others said to everyone, and one of them to them alone.
    for person in &mut people {
        (0..30).for_each(|_| drop(person.line()));
    }
    let last_said = |person: &mut Lines, with: &str, count: usize| -> Vec<String> {
        person.say(&format!("/history {with} {count}"));
        (0..count).map(|_| person.line()).collect()
    };
    let histories: Vec<Vec<String>> = people.iter_mut().map(|person| last_said(person, "*", 25)).collect();
    assert!(histories[0].iter().all(|line| line.starts_with("[20") && line.contains(" to *: ")), "{histories:?}");
    assert!(histories.iter().all(|history| *history == histories[0]), "{histories:?}");
    for (number, line) in last_said(&mut people[0], "p1", 10).iter().enumerate() {
        assert!(line.ends_with(&format!("] p0 to p1: {number} for you")), "{line}");
    }
    let both = last_said(&mut people[1], "p0 ", 10);
    assert_eq!(both, last_said(&mut people[0], "p1 ", 10));
    people[0].say("/history p1 500");
    assert_eq!((0..10).map(|_| people[0].line()).collect::<Vec<_>>(), both, "there is no more");
    // Whoever comes is shown the last of it first.
    let mut late = Lines::connect(clique.chat(0));
    late.say("late");
    late.line_with("* welcome, late");
    for _ in 0..20 {
        assert!(late.line().starts_with("[20"));
    }
    people[0].say("late hello");
    assert_eq!(late.line(), "p0: hello");
}
