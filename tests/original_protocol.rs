//! The original protocol to the byte: its clients exist and must work unchanged.

mod common;

use common::{
    cliques::Clique,
    frames::{ECHO_ANSWER, Frames, GOODBYE_ANSWER, REFUSED, REGISTERED, Said, echo, frame, message, register},
    socket::Socket,
};

fn said(from: &str, to: &str, text: &str) -> Said {
    Said { from: from.to_owned(), to: to.to_owned(), text: text.as_bytes().to_vec() }
}

#[test]
fn the_bytes_on_the_wire_are_those_of_the_original() {
    let clique = Clique::of(2);
    let mut alice = Socket::connect(clique.chat(0));
    alice.send(b"\x02\x01\x00\x05\x00\x00alice");
    assert_eq!(alice.take(6), b"\x02\x00\x00\x00\x00\x00", "registered");
    let mut bob = Socket::connect(clique.chat(1));
    bob.send(b"\x02\x01\x00\x05\x00\x00alice");
    assert_eq!(bob.take(6), b"\x1e\x00\x00\x00\x00\x00", "refused");
    bob.send(b"\x02\x01\x00\x03\x00\x00bob");
    assert_eq!(bob.take(6), b"\x02\x00\x00\x00\x00\x00", "another name on the same connection");
    clique.wait_people(2);

    alice.send(b"\x03\x00\x00\x0c\x00\x03bob hi there");
    assert_eq!(bob.take(6 + 18), b"\x03\x00\x00\x12\x00\x09alice\0bob hi there");
    bob.send(b"\x03\x00\x00\x07\x00\x01* hello");
    assert_eq!(alice.take(6 + 11), b"\x03\x00\x00\x0b\x00\x05bob\0* hello");

    alice.send(b"\x06\x00\x00\x00\x00\x00");
    assert_eq!(alice.take(6), b"\x06\x01\x00\x00\x00\x00");
    alice.send(b"\x05\x00\x00\x00\x00\x00");
    let other = format!("[{}]", clique.ports(1).chat);
    assert_eq!(alice.take(6 + other.len()), [b"\x05\x01\x00\x07\x00\x00", other.as_bytes()].concat());
    alice.send(b"\x07\x00\x00\x00\x00\x00");
    assert_eq!(alice.rest(), b"\x07\x01\x00\x00\x00\x00", "goodbye, and the connection is closed");
    bob.send(b"\x06\x00\x00\x00\x00\x00");
    assert_eq!(bob.take(6), b"\x06\x01\x00\x00\x00\x00", "alice's leaving is none of bob's frames");
}

#[test]
fn a_name_is_taken_everywhere_until_its_holder_leaves() {
    let clique = Clique::of(3);
    let mut alice = clique.frames(0, "alice");
    for index in 0..3 {
        let mut other = Frames::connect(clique.chat(index));
        for name in ["alice", "ALICE", "Alice"] {
            assert_eq!(other.register(name), REFUSED, "{name} on node {index}");
        }
        assert_eq!(other.register(&format!("other{index}")), REGISTERED);
        assert_eq!(alice.sync(), [], "alice hears nothing of it");
    }
    alice.socket.send(&frame(7, 0, 0, b""));
    assert_eq!(alice.next().kind, GOODBYE_ANSWER);
    assert!(alice.socket.rest().is_empty());
    let mut heir = Frames::connect(clique.chat(2));
    common::eventually("the name is free again", || (heir.register("alice") == REGISTERED).then_some(()));
}

#[test]
fn only_legal_names_are_given() {
    let clique = Clique::of(1);
    let mut client = Frames::connect(clique.chat(0));
    let long = "x".repeat(65);
    let illegal: [&[u8]; 17] = [
        b"",
        b" ",
        b"two words",
        b"tab\there",
        b"line\nbreak",
        b"bell\x07",
        b"zero\0",
        b"a:b",
        b"a,b",
        b"a!b",
        b"a@b",
        b"a*b",
        b"a#b",
        b"a/b",
        b"clique",
        b"\xff\xfe",
        long.as_bytes(),
    ];
    for name in illegal {
        client.socket.send(&frame(2, 1, 0, name));
        assert_eq!(client.next().kind, REFUSED, "{:?}", String::from_utf8_lossy(name));
    }
    for reserved in ["CLIQUE", "Clique", "ｃｌｉｑｕｅ"] {
        assert_eq!(client.register(reserved), REFUSED, "{reserved}");
    }
    assert_eq!(client.register(&"x".repeat(64)), REGISTERED);
    for name in ["王小明", "zoë", "o'neil", "a~1", "-", "ø"] {
        Frames::named(clique.chat(0), name);
    }
}

#[test]
fn a_message_reaches_its_addressee_on_any_node_and_everyone_hears_everyone_else() {
    let clique = Clique::of(3);
    let mut people: Vec<Frames> = (0..3).map(|index| clique.frames(index, &format!("p{index}"))).collect();
    clique.wait_people(3);
    for from in 0..3 {
        for to in (0..3).filter(|to| *to != from) {
            let text = format!("from {from} to {to}");
            // In whatever case it is written, the name is shown as its holder wrote it.
            people[from].send(&format!("P{to}"), &text);
            assert_eq!(people[to].hear(), said(&format!("p{from}"), &format!("p{to}"), &text));
        }
        people[from].send("*", "to all");
        for to in (0..3).filter(|to| *to != from) {
            assert_eq!(people[to].hear(), said(&format!("p{from}"), "*", "to all"));
        }
        people[from].expect_silence();
    }
    people[0].send("p0", "to myself");
    assert_eq!(people[0].hear(), said("p0", "p0", "to myself"));
    // Any byte goes through, and a client that does not fill in the length of the first part is understood.
    let all: Vec<u8> = (0..=255).collect();
    people[1].socket.send(&frame(3, 0, 0, &[b"p2 ", &all[..]].concat()));
    assert_eq!(people[2].hear().text, all);
    people[1].send("p2", "");
    assert_eq!(people[2].hear().text, b"");
}

#[test]
fn nodes_echo_and_goodbye_work_before_and_after_registering() {
    let clique = Clique::of(3);
    let chat = |index: usize| clique.ports(index).chat;
    let others = [
        format!("[{}, {}]", chat(1), chat(2)),
        format!("[{}, {}]", chat(0), chat(2)),
        format!("[{}, {}]", chat(0), chat(1)),
    ];
    for (index, others) in others.iter().enumerate() {
        let mut client = Frames::connect(clique.chat(index));
        for name in [Some("somebody"), None] {
            assert_eq!(&client.nodes(), others);
            client.socket.send(&echo());
            let answer = client.next();
            assert_eq!((answer.kind, answer.sublen, answer.body), (ECHO_ANSWER, 0, Vec::new()));
            if let Some(name) = name {
                assert_eq!(client.register(&format!("{name}{index}")), REGISTERED);
            }
        }
        client.socket.send(&frame(7, 0, 0, b""));
        assert_eq!(client.next().kind, GOODBYE_ANSWER);
        assert!(client.socket.rest().is_empty(), "the node closes after its answer");
        let mut stranger = Frames::connect(clique.chat(index));
        stranger.socket.send(&frame(7, 0, 0, b""));
        assert_eq!(stranger.next().kind, GOODBYE_ANSWER);
        assert!(stranger.socket.rest().is_empty());
    }
    let alone = Clique::of(1);
    assert_eq!(Frames::connect(alone.chat(0)).nodes(), "[]");
}

#[test]
fn frames_may_be_cut_at_any_byte() {
    let clique = Clique::of(2);
    let mut bob = clique.frames(1, "bob");
    clique.wait_people(1);
    let script = |name: &str| [register(name), message("bob", "cut?"), echo()].concat();
    let length = script("name00").len();
    // Between two pieces another client has a whole exchange with the node, so that they are read one by one.
    let mut other = clique.frames(0, "other");
    for cut in 1..length {
        let name = format!("name{cut:02}");
        let bytes = script(&name);
        let mut client = Frames::connect(clique.chat(0));
        client.socket.send(&bytes[..cut]);
        other.expect_silence();
        client.socket.send(&bytes[cut..]);
        assert_eq!(client.next().kind, REGISTERED, "cut after {cut} bytes");
        assert_eq!(client.next().kind, ECHO_ANSWER, "cut after {cut} bytes");
        assert_eq!(bob.hear(), said(&name, "bob", "cut?"), "cut after {cut} bytes");
    }
    let mut client = Frames::connect(clique.chat(0));
    for byte in script("bytewise") {
        client.socket.send(&[byte]);
        other.expect_silence();
    }
    assert_eq!(client.next().kind, REGISTERED);
    assert_eq!(client.next().kind, ECHO_ANSWER);
    assert_eq!(bob.hear(), said("bytewise", "bob", "cut?"));
}

#[test]
fn frames_in_one_write_are_all_acted_on_in_order() {
    let clique = Clique::of(3);
    let mut bob = clique.frames(2, "bob");
    clique.wait_people(1);
    let mut bytes = [register("bob"), register("alice")].concat();
    for number in 0..500 {
        bytes.extend(message("bob", format!("{number}")));
        if number % 100 == 0 {
            bytes.extend(echo());
        }
    }
    bytes.extend(message("nobody", "?"));
    bytes.extend(frame(7, 0, 0, b""));
    let mut alice = Frames::connect(clique.chat(0));
    alice.socket.send(&bytes);
    assert_eq!(alice.next().kind, REFUSED);
    assert_eq!(alice.next().kind, REGISTERED);
    for _ in 0..5 {
        assert_eq!(alice.next().kind, ECHO_ANSWER);
    }
    assert!(alice.notice().contains("nobody called nobody"));
    assert_eq!(alice.next().kind, GOODBYE_ANSWER);
    assert!(alice.socket.rest().is_empty());
    for number in 0..500 {
        assert_eq!(bob.hear(), said("alice", "bob", &number.to_string()));
    }
    bob.expect_silence();
}

#[test]
fn what_cannot_be_done_is_told_by_the_service_in_a_message() {
    let clique = Clique::of(2);
    let mut client = Frames::connect(clique.chat(0));
    client.send("bob", "too early");
    assert!(client.notice().contains("register under a name first"));
    assert_eq!(client.register("alice"), REGISTERED);
    client.send("bob", "hi");
    let notice = client.hear();
    let text = "not sent: nobody called bob is here; /who shows who is";
    assert_eq!(notice, said("clique", "alice", text));
    client.socket.send(&frame(3, 0, 0, b"nospace"));
    assert!(client.notice().contains("say whom it is for"));
    client.send("a:b", "hi");
    assert!(client.notice().contains("a:b cannot be a name"));
    client.send("#tea", "hi");
    assert!(client.notice().contains("you are not in #tea"));
    client.socket.send(&frame(2, 1, 0, b"another"));
    assert!(client.notice().contains("you have a name already"));
    // The service answers whoever talks to it.
    client.send("clique", "who");
    assert_eq!(client.notice(), "1 person here:");
    assert_eq!(client.notice(), "alice on node 0");
    client.expect_silence();
}
