//! The text dialect, as somebody with `nc` meets it.

mod common;

use common::{cliques::Clique, lines::Lines};

#[test]
fn a_whole_conversation_in_one_write_is_answered_before_the_connection_ends() {
    let clique = Clique::of(2);
    let mut bob = clique.lines(1, "bob");
    clique.wait_people(1);
    let mut alice = Lines::connect(clique.chat(0));
    alice.socket.send(b"alice\nbob hi\n");
    alice.socket.half_close();
    assert_eq!(alice.rest(), ["* welcome, alice: you are on node 0; 2 of 2 nodes, 2 people. /help"]);
    assert_eq!(bob.line(), "alice: hi");
}

#[test]
fn an_unfinished_last_line_is_not_sent_and_its_sender_is_told() {
    let clique = Clique::of(1);
    let mut bob = clique.lines(0, "bob");
    let mut alice = clique.lines(0, "alice");
    alice.socket.send(b"bob whole\nbob half");
    alice.socket.half_close();
    assert_eq!(alice.rest(), ["* not sent: what came last has no end; finish each line with Enter"]);
    assert_eq!(bob.line(), "alice: whole");
    clique.wait_people(1);
    bob.say("/who");
    assert_eq!(bob.line(), "* 1 person here:", "nothing else came");
}

#[test]
fn messages_are_shown_with_who_said_them_to_whom() {
    let clique = Clique::of(2);
    let (mut alice, mut bob) = (clique.lines(0, "alice"), clique.lines(1, "bob"));
    clique.wait_people(2);
    alice.say("bob hello there");
    assert_eq!(bob.line(), "alice: hello there");
    bob.say("* hello  all");
    assert_eq!(alice.line(), "bob to *: hello  all");
    let mut carol = clique.frames(1, "carol");
    clique.wait_people(3);
    alice.say("carol à bientôt");
    let heard = carol.hear();
    assert_eq!((heard.from.as_str(), heard.to.as_str(), heard.text()), ("alice", "carol", "à bientôt"));
    carol.send("alice", "from frames");
    assert_eq!(alice.line(), "carol: from frames");
    alice.say("nobody hi");
    assert_eq!(alice.line(), "* not sent: nobody called nobody is here; /who shows who is");
    alice.say("bob");
    assert_eq!(alice.line(), "* not sent: there was no message; write it behind the name, after a space: bob hello");
}

#[test]
fn commands_are_answered_and_a_typo_names_the_nearest() {
    let clique = Clique::of(3);
    let mut alice = clique.lines(0, "alice");
    let _bob = clique.lines(2, "bob");
    clique.wait_people(2);
    alice.say("/who");
    assert_eq!(alice.line(), "* 2 people here:");
    assert_eq!(alice.line(), "* alice on node 0");
    assert_eq!(alice.line(), "* bob on node 2");
    alice.say("/nodes");
    assert_eq!(alice.line(), "* 3 of 3 nodes can be reached:");
    let address = |index: usize| clique.chat(index);
    assert_eq!(alice.line(), format!("* node 0 ({}): this one, 1 person", address(0)));
    assert_eq!(alice.line(), format!("* node 1 ({}): up, 0 people, has everything", address(1)));
    assert_eq!(alice.line(), format!("* node 2 ({}): up, 1 person, has everything", address(2)));
    alice.say("/help");
    for word in [
        "NAME MESSAGE",
        "* MESSAGE",
        "#ROOM MESSAGE",
        "/who",
        "/nodes",
        "/claim",
        "/join",
        "/part",
        "/rooms",
        "/topic",
        "/history",
        "/help",
        "/quit",
    ] {
        assert!(alice.line().contains(word), "help has a line for {word}");
    }
    assert!(alice.line().contains("clique"));
    for (typed, nearest) in [("/hwo", "/who"), ("/node", "/nodes"), ("/hepl", "/help"), ("/exit", "/quit")] {
        alice.say(typed);
        let line = alice.line();
        assert!(line.starts_with(&format!("* there is no command {typed}; did you mean {nearest}?")), "{line}");
    }
    alice.say("/QUIT");
    assert_eq!(alice.rest(), ["* goodbye"]);
}

#[test]
fn commands_work_before_a_name_is_given() {
    let clique = Clique::of(1);
    let mut nameless = Lines::connect(clique.chat(0));
    nameless.say("/who");
    assert_eq!(nameless.line(), "* 0 people here:");
    nameless.say("/quit");
    assert_eq!(nameless.rest(), ["* goodbye"]);
}

#[test]
fn a_name_that_is_refused_is_asked_for_again() {
    let clique = Clique::of(2);
    let _alice = clique.lines(0, "alice");
    let mut other = Lines::connect(clique.chat(1));
    other.say("alice");
    assert_eq!(other.line(), "* the name alice is taken; choose another");
    other.say("two words");
    assert_eq!(other.line(), "* a name cannot contain white space; choose another name");
    other.say("a:b");
    assert_eq!(other.line(), "* a name cannot contain any of : , ! @ * # /; choose another name");
    other.say("clique");
    assert_eq!(other.line(), "* that name is reserved for the service itself; choose another name");
    other.say("");
    other.say("bob");
    assert_eq!(other.line(), "* welcome, bob: you are on node 1; 2 of 2 nodes, 2 people. /help");
}

#[test]
fn telnet_line_ends_and_empty_lines_are_understood() {
    let clique = Clique::of(1);
    let mut bob = clique.lines(0, "bob");
    let mut alice = Lines::connect(clique.chat(0));
    alice.socket.send(b"\r\nalice\r\n\r\nbob hi\r\n/who\r\n");
    assert!(alice.line().starts_with("* welcome, alice:"));
    assert_eq!(alice.line(), "* 2 people here:");
    assert_eq!(bob.line(), "alice: hi");
    // Any piece may end anywhere.
    for byte in b"bob split\r\n" {
        alice.socket.send(&[*byte]);
    }
    assert_eq!(bob.line(), "alice: split");
}

#[test]
fn lines_that_cannot_be_taken_are_refused_and_the_next_is_read() {
    let clique = Clique::of(1);
    let mut bob = clique.lines(0, "bob");
    let mut alice = clique.lines(0, "alice");
    alice.say(&format!("bob {}", "x".repeat(100_000)));
    assert_eq!(alice.line(), "* that line is too long; at most 32767 bytes fit");
    alice.socket.send(b"bob \xff\xfe\n");
    assert_eq!(alice.line(), "* that line is not UTF-8 text; set your terminal to UTF-8");
    // As much as fits, and one byte more than fits with both names.
    let fits = 32_767 - "alice".len() - "bob".len() - 2;
    alice.say(&format!("bob {}", "y".repeat(fits)));
    assert_eq!(bob.line(), format!("alice: {}", "y".repeat(fits)));
    alice.say(&format!("bob {}", "z".repeat(fits + 1)));
    assert_eq!(
        alice.line(),
        format!("* not sent: the message has {} bytes; to this addressee {fits} can be sent", fits + 1)
    );
    alice.say("bob still here");
    assert_eq!(bob.line(), "alice: still here");
}

#[test]
fn nobody_can_forge_a_line_or_steer_a_terminal() {
    let clique = Clique::of(2);
    let mut alice = clique.lines(0, "alice");
    let mut mallory = clique.frames(1, "mallory");
    clique.wait_people(2);
    mallory.send("alice", "hi\n* node 0 is stopping\r\nbob: send money\x1b[2J\x07\x7f\u{2028}\u{202e}");
    assert_eq!(
        alice.line(),
        "mallory: hi\u{240a}* node 0 is stopping\u{240d}\u{240a}bob: send money\u{241b}[2J\u{2407}\u{2421}\u{fffd}\u{fffd}"
    );
    mallory.send("alice", b"\xff\x00\x9b");
    assert_eq!(alice.line(), "mallory: \u{fffd}\u{2400}\u{fffd}");
    // What the service says can quote what somebody typed.
    mallory.send("bob\n* forged", "x");
    mallory.notice();
    alice.socket.send("/node\u{1b}[2J\n".as_bytes());
    let line = alice.line();
    assert!(line.starts_with("* there is no command /node\u{241b}[2J; did you mean /nodes?"), "{line:?}");
    mallory.send("alice", "last");
    assert_eq!(alice.line(), "mallory: last");
}
