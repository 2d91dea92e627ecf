//! What no client should send, and clients that behave as none should: the node says so, and serves the others on.

mod common;

use std::{net::SocketAddr, thread};

use clique::wire::extended::State;
use common::{
    cliques::{Clique, get},
    eventually,
    extended::Extended,
    frames::{ECHO_ANSWER, Frames, MESSAGE, REFUSED, REGISTERED, echo, frame, message, register},
    lines::Lines,
    ports::Ports,
    process::Process,
    socket::Socket,
};

/// Somebody who was there before can still talk, and so can a newcomer.
fn assert_served(clique: &Clique, before: &mut Frames, newcomer: &str) {
    let mut other = clique.frames(0, newcomer);
    other.send("before", "still there?");
    assert_eq!(before.hear_person().text(), "still there?");
}

#[test]
fn whatever_the_first_byte_is_the_node_goes_on() {
    let clique = Clique::new(1).with("CLIQUE_HANDSHAKE_MS", 300).started();
    let mut before = clique.frames(0, "before");
    let mut sockets = Vec::new();
    for first in 0..=255_u8 {
        let mut socket = Socket::connect(clique.chat(0));
        let bytes: Vec<u8> = std::iter::once(first).chain((0..500).map(|_| rand::random())).collect();
        let _ = socket.try_send(&bytes);
        let _ = socket.try_half_close();
        sockets.push((first, socket));
    }
    for (first, mut socket) in sockets {
        let answer = socket.rest();
        // A byte that begins no dialect is not answered: nobody knows how.
        let is_dialect = matches!(first, 0..=8 | b' '..=b'~' | 0xc2..=0xf4 | b'\r' | b'\n');
        assert!(is_dialect || answer.is_empty(), "{first:#04x} is answered with {answer:?}");
        assert!(is_dialect != answer.is_empty(), "{first:#04x} is told what is wrong");
    }
    assert_served(&clique, &mut before, "newcomer");
}

#[test]
fn headers_that_lie_are_answered_once_and_end_the_connection() {
    let clique = Clique::of(1);
    let mut before = clique.frames(0, "before");
    let lies: [(&[u8], &str); 5] = [
        (b"\x03\x00\xff\xff\x00\x00", "negative length"),
        (b"\x02\x01\x80\x00\x00\x00", "negative length"),
        (b"\x03\x00\x00\x02\x00\x03ab", "longer than its body"),
        (b"\x03\x00\x00\x02\x80\x00ab", "negative length"),
        (b"\x06\x00\x00\x00\x00\x01", "longer than its body"),
    ];
    for (number, (lie, reason)) in lies.into_iter().enumerate() {
        let mut liar = clique.frames(0, &format!("liar{number}"));
        // What came whole before the lie is taken.
        liar.socket.send(&[&message("before", "true")[..], lie].concat());
        let notice = liar.notice();
        assert!(notice.contains(reason) && notice.contains("the connection is closed"), "{notice}");
        assert!(liar.socket.rest().is_empty());
        assert_eq!(before.hear().text(), "true");
    }
    assert_served(&clique, &mut before, "newcomer");
}

#[test]
fn unknown_types_and_extended_frames_that_were_not_asked_for_are_refused() {
    let clique = Clique::of(1);
    let mut client = clique.frames(0, "before");
    for (kind, subkind) in [(1, 0), (3, 1), (4, 0), (5, 1), (6, 2), (7, 1), (30, 0), (39, 0)] {
        client.socket.send(&frame(kind, subkind, 0, b"body"));
        let notice = client.notice();
        assert!(notice.contains(&format!("there is no frame of type {kind}, subtype {subkind}")), "{notice}");
    }
    for kind in 40..=49 {
        client.socket.send(&frame(kind, 0, 0, b"body"));
        let notice = client.notice();
        assert!(notice.contains(&format!("a frame of type {kind} is not for this connection")), "{notice}");
    }
    for kind in [0x80, 0xff] {
        client.socket.send(&[kind, 0, 0, 0, 0, 0]);
        assert!(client.notice().contains("there is no frame of type -"));
    }
    client.expect_silence();
    // A registration that cannot be read, or has no key, ends the connection with a reason.
    for body in [&b"\xff\xff"[..], b"\x0a\x03bob", b""] {
        let mut client = Frames::connect(clique.chat(0));
        client.socket.send(&frame(2, 2, 0, body));
        assert!(client.notice().contains("the connection is closed"));
        assert!(client.socket.rest().is_empty());
    }
    // And so does an extended frame with nonsense in it.
    let mut extended = clique.extended(0, "extended");
    extended.socket.send(&frame(42, 0, 0, b"\xff\xff\xff"));
    extended.notice_of("the connection is closed");
    assert_served(&clique, &mut client, "newcomer");
}

#[test]
fn the_longest_message_arrives_or_its_sender_is_told() {
    let clique = Clique::of(2);
    let (mut alice, mut bob) = (clique.frames(0, "alice"), clique.frames(1, "bob"));
    let mut carol = clique.extended(0, "carol");
    clique.wait_people(3);
    // The frame that bob gets has alice's name in it besides: so many bytes fit in 32,767.
    let fits = 32_767 - "alice".len() - "bob".len() - 2;
    alice.send("bob", vec![0xaa; fits]);
    assert_eq!(bob.hear_person().text, vec![0xaa; fits]);
    for text in [fits + 1, 32_767 - "bob ".len()] {
        alice.send("bob", vec![0xaa; text]);
        let told = format!("not sent: the message has {text} bytes; to this addressee {fits} can be sent");
        assert_eq!(alice.notice(), told);
    }
    // Extended frames have more room, but the same bound: an original client may be the reader.
    let reference = carol.send("bob", vec![b'x'; 60_000]);
    assert!(carol.receipt(reference, State::Refused).reason.contains("60000 bytes"));
    let reference = carol.send("bob", vec![b'x'; fits]);
    carol.receipt(reference, State::Delivered);
    assert_eq!(bob.hear_person().text.len(), fits);
}

#[test]
fn half_a_frame_or_line_and_then_silence_is_given_up() {
    let clique = Clique::new(1).with("CLIQUE_HANDSHAKE_MS", 200).started();
    let mut before = clique.frames(0, "before");
    let mut client = Frames::connect(clique.chat(0));
    client.socket.send(&register("alice")[..7]);
    assert!(client.notice().contains("left half sent, for 200 ms"));
    assert!(client.socket.rest().is_empty());
    let mut client = clique.frames(0, "alice");
    client.socket.send(&message("before", "half a message")[..12]);
    assert!(client.notice().contains("left half sent, for 200 ms"));
    assert!(client.socket.rest().is_empty());
    let mut client = Lines::connect(clique.chat(0));
    client.socket.send(b"carol");
    assert!(client.rest()[0].contains("left half sent"));
    // Who has not said anything is let go without a word: there is no dialect to say it in.
    assert!(Socket::connect(clique.chat(0)).rest().is_empty());
    // One byte at a time does not count as saying something.
    let mut loris = clique.frames(0, "loris");
    let frame = message("before", vec![b'x'; 30_000]);
    let mut sent = 0;
    while loris.socket.poll() && sent < frame.len() - 1 {
        let _ = loris.socket.try_send(&frame[sent..=sent]);
        sent += 1;
        thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(sent < frame.len() - 1, "it was not given up before its frame was whole");
    before.expect_silence();
    // Somebody with a name, who has said all that they began, may be silent.
    let mut silent = clique.frames(0, "silent");
    let mut clock = Frames::connect(clique.chat(0));
    clock.socket.rest();
    silent.send("before", "I am still here");
    assert_eq!(before.hear().text(), "I am still here");
}

#[test]
fn a_sender_who_never_pauses_is_not_taken_for_one_who_dawdles() {
    let clique = Clique::new(1).with("CLIQUE_HANDSHAKE_MS", 200).started();
    let mut reader = clique.frames(0, "reader");
    let mut sender = clique.frames(0, "sender");
    let mut clock = Frames::connect(clique.chat(0));
    let one = message("reader", "x".repeat(100));
    // Each write ends in the middle of a frame, so that something is always left half sent.
    sender.socket.send(&one[..50]);
    let mut sent = 0;
    // By the time that another, who says nothing, was given up, this one has been at it for just as long, twice over.
    for _ in 0..3 {
        while clock.socket.poll() {
            sender.socket.send(&[&one[50..], &one[..50]].concat());
            sent += 1;
            assert_eq!(reader.hear().text().len(), 100);
        }
        clock = Frames::connect(clique.chat(0));
    }
    sender.socket.send(&one[50..]);
    reader.hear();
    assert!(sender.sync().is_empty());
    assert!(sent > 0);
}

/// Connects so many times, and says the first byte. Gives those connections that are not refused.
fn connect(address: SocketAddr, count: usize) -> Vec<Socket> {
    let mut sockets: Vec<Socket> = (0..count).map(|_| Socket::connect(address)).collect();
    for socket in &mut sockets {
        let _ = socket.try_send(&echo());
    }
    sockets.retain_mut(|socket| {
        // A connection over the limit is closed, maybe before what was sent to it could be read.
        while socket.pending().len() < 6 && socket.fill() {}
        socket.pending().first() == Some(&ECHO_ANSWER.0)
    });
    sockets
}

#[test]
fn connections_beyond_the_limits_are_refused_and_the_others_served() {
    rlimit::increase_nofile_limit(8_000).unwrap();
    let mut clique = Clique::new(1).with("CLIQUE_MAX_CONNECTIONS", 1_000).started();
    let mut before = clique.frames(0, "before");
    let open = connect(clique.chat(0), 3_000);
    assert_eq!(open.len(), 999);
    assert_eq!(clique.metric(0, "clique_connections_refused_total"), Some(2_001));
    before.expect_silence();
    drop(open);
    eventually("places are free again", || (clique.metric(0, "clique_clients") == Some(1)).then_some(()));
    assert_served(&clique, &mut before, "newcomer");
    assert!(get(clique.ports(0).http(), "/ready").is_some());
    let warnings = clique.node(0).err().matches("connection").count();
    assert!(warnings < 100, "{warnings} lines about connections: whoever connects must not fill the disk with logs");

    clique.kill(0);
    clique.start_with(0, &[("CLIQUE_MAX_CONNECTIONS_PER_ADDRESS", "10".to_owned())]);
    let open = connect(clique.chat(0), 50);
    assert_eq!(open.len(), 10);
    drop(open);
    eventually("places are free again", || (clique.metric(0, "clique_clients") == Some(0)).then_some(()));
    clique.frames(0, "before");
}

#[test]
fn clients_cannot_take_the_open_files_that_peers_need() {
    let ports = [Ports::claim(), Ports::claim()];
    let list = format!("{},{}", ports[0].chat, ports[1].chat);
    let settings = |index: &str| {
        [("CLIQUE_PORTS", list.as_str()), ("CLIQUE_INDEX", index)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let poor = Process::spawn_with_files("poor node", 600, &["node"], &settings("0"));
    poor.wait_for_output("at most 300 client connections are taken, because this process can have 600 files open");
    eventually("it is up", || get(ports[0].http(), "/live"));
    let open = connect(ports[0].chat(), 1_000);
    assert_eq!(open.len(), 300);
    let _other = Process::spawn("other node", &["node"], &settings("1"));
    eventually("it has its peer", || (get(ports[0].http(), "/ready")?.1 == "ready: 2 of 2 nodes\n").then_some(()));
}

#[test]
fn strangers_who_only_connect_to_the_other_ports_do_not_take_the_clients_places() {
    const PLACES: usize = 256;
    let clique = Clique::new(1).with("CLIQUE_SECRET", "ours").started();
    for address in [clique.ports(0).grpc(), clique.ports(0).http()] {
        let mut strangers: Vec<Socket> = (0..PLACES + 200).map(|_| Socket::connect(address)).collect();
        eventually("those beyond the bound are turned away", || {
            strangers.retain_mut(Socket::poll);
            (strangers.len() <= PLACES).then_some(())
        });
        assert!(strangers.len() > PLACES / 2, "a few probes and scrapers have their places too");
        clique.frames(0, "client").expect_silence();
        drop(strangers);
    }
    eventually("places are free again", || clique.ready(0));
}

#[test]
fn a_client_that_never_reads_costs_a_bounded_amount_and_hears_in_the_end_what_it_missed() {
    const LOG_MIB: u64 = 8;
    const MESSAGES: u64 = 40_000;
    let mut clique = Clique::new(2).with("CLIQUE_LOG_MIB", LOG_MIB);
    (0..2).for_each(|index| clique.start(index));
    clique.wait_whole();
    let mut sleepers = [clique.frames(1, "sleeper"), clique.frames(0, "dozer")];
    let mut reader = clique.frames(1, "reader");
    let mut sender = clique.frames(0, "sender");
    clique.wait_people(4);
    let before_kib = [0, 1].map(|index| clique.node(index).rss_kib());
    // 40 MB, five times what the log holds, while two of the three do not read.
    for number in 0..MESSAGES {
        sender.send("*", format!("{number:01000}"));
        if number % 100 == 99 {
            for expected in number - 99..=number {
                assert_eq!(reader.hear_person().text().parse(), Ok(expected));
            }
        }
    }
    for (index, before_kib) in before_kib.into_iter().enumerate() {
        let after_kib = clique.node(index).rss_kib();
        println!("node {index}: {before_kib} KiB before, {after_kib} KiB after");
        assert!(
            after_kib < before_kib + (LOG_MIB + 24) * 1_024,
            "node {index}: {before_kib} KiB, then {after_kib} KiB"
        );
    }
    for sleeper in &mut sleepers {
        let (mut next, mut missed, mut heard) = (0, 0, 0);
        while next < MESSAGES {
            let said = sleeper.hear();
            if said.from == "clique" {
                assert!(said.text().starts_with("you missed "), "{}", said.text());
                missed += said.text().split(' ').nth(2).unwrap().parse::<u64>().unwrap();
            } else {
                let number: u64 = said.text().parse().unwrap();
                assert!(number >= next, "in order, and none twice");
                (next, heard) = (number + 1, heard + 1);
            }
        }
        println!("{heard} heard, {missed} missed");
        assert_eq!(heard + missed, MESSAGES, "each is either heard or counted as missed");
        assert!(missed > 0, "the log is bounded");
        sleeper.expect_silence();
    }
    sender.send("sleeper", "live again");
    assert_eq!(sleepers[0].hear().text(), "live again");
}

#[test]
fn a_client_that_sends_and_never_reads_the_answers_is_not_listened_to_without_end() {
    let clique = Clique::of(1);
    let mut before = clique.frames(0, "before");
    let mut client = clique.frames(0, "client");
    let before_kib = clique.node(0).rss_kib();
    let nodes: Vec<u8> = frame(5, 0, 0, b"").repeat(10_000);
    // The sockets' own buffers take some, then the node takes no more.
    client.socket.set_write_timeout_ms(300);
    let mut taken = 0;
    while taken < 200 && client.socket.try_send(&nodes).is_ok() {
        taken += 1;
    }
    assert!(taken < 200, "the node took {taken} times 10,000 questions without an answer being read");
    let after_kib = clique.node(0).rss_kib();
    assert!(after_kib < before_kib + 24 * 1_024, "{before_kib} KiB, then {after_kib} KiB");
    assert_served(&clique, &mut before, "newcomer");
}

#[test]
fn clients_that_die_in_mid_message_leave_nothing_behind() {
    let clique = Clique::of(2);
    let mut before = clique.frames(0, "before");
    let mut last = 0;
    for round in 0..200 {
        let mut client = Frames::connect(clique.chat(round % 2));
        assert_eq!(client.register("client"), REGISTERED, "round {round}: the name is free again");
        clique.wait_people(2);
        let whole = message("before", round.to_string());
        client.socket.send(&[&whole[..], &whole[..round % whole.len()]].concat());
        if round % 3 == 0 {
            client.socket.half_close();
        }
        drop(client);
        clique.wait_people(1);
        last = round;
    }
    for round in 0..=last {
        let said = before.hear();
        assert_eq!((said.from.as_str(), said.text()), ("client", &*round.to_string()));
    }
    before.expect_silence();
}

#[test]
fn a_name_changes_hands_a_thousand_times_without_a_trace() {
    let clique = Clique::of(2);
    let mut watcher = Extended::named(clique.chat(1), "watcher");
    let before_kib = clique.node(0).rss_kib();
    let mut given = 0;
    for round in 0..1_000 {
        let mut client = Socket::connect(clique.chat(round % 2));
        client.send(&[register("busy"), frame(7, 0, 0, b"")].concat());
        let answer = client.rest();
        // The former holder's leaving may not have got around yet.
        assert!(answer[0] == REGISTERED.0 || answer[0] == REFUSED.0, "{answer:?}");
        given += u32::from(answer[0] == REGISTERED.0);
    }
    println!("{given} of 1000 times it was free");
    clique.wait_people(1);
    let after_kib = clique.node(0).rss_kib();
    assert!(after_kib < before_kib + 16 * 1_024, "{before_kib} KiB, then {after_kib} KiB");
    let mut last = clique.frames(0, "busy");
    clique.wait_people(2);
    let reference = watcher.send("busy", "hi");
    assert_eq!(last.next().kind, MESSAGE);
    watcher.receipt(reference, State::Delivered);
}
