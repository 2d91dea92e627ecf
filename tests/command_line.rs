//! The program as people start it: what it says, and with which code it ends.

mod common;

use std::{fs, net::TcpListener};

use common::{
    PATIENCE,
    cliques::{Clique, get},
    eventually,
    frames::Frames,
    ports::{Ports, local},
    process::{Process, command},
};
use nix::sys::{signal::Signal, wait::WaitStatus};
use rexpect::session::PtySession;

/// Runs to the end: exit code, standard output, standard error.
fn run(arguments: &[&str], settings: &[(&str, &str)]) -> (i32, String, String) {
    let settings: Vec<(String, String)> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut process = Process::spawn(&arguments.join(" "), arguments, &settings);
    let code = process.wait().code().expect("it ends by itself");
    (code, process.out(), process.err())
}

/// One sentence on standard error, exit code 2.
#[track_caller]
fn assert_refused(arguments: &[&str], settings: &[(&str, &str)], sentence: &str) {
    let (code, out, err) = run(arguments, settings);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert_eq!(err, format!("clique: {sentence}\n"));
}

#[test]
fn a_port_in_use_is_said_in_one_sentence() {
    let ports = Ports::claim();
    let list = ports.chat.to_string();
    for (offset, what) in [(0, "chat"), (1, "gRPC"), (2, "HTTP")] {
        let taken = TcpListener::bind(local(ports.chat + offset)).unwrap();
        let address = taken.local_addr().unwrap();
        let (code, _, err) = run(&["node", "--log", "off"], &[("CLIQUE_PORTS", &list), ("CLIQUE_INDEX", "0")]);
        assert_eq!(code, 2);
        let question = "is this node running already, or another with the same index?";
        assert_eq!(err, format!("clique: the {what} port {address} is in use; {question}\n"));
        let (code, out, err) = run(&["up", "--nodes", "1"], &[("CLIQUE_PORTS", &list)]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains(&format!("node 0: the {what} port {address} is in use; {question}\n")), "{err}");
    }
}

#[test]
fn settings_that_make_no_sense_are_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let node = ["node", "--index", "0", "--ports", "4000,4010"];
    let with = |more: [&'static str; 2]| [&node[..], &more].concat();
    let (missing, broken, unknown, empty) = (at("missing"), at("broken"), at("unknown"), at("empty"));
    fs::write(&broken, "ports = [").unwrap();
    fs::write(&unknown, "prots = [4000]").unwrap();
    fs::write(&empty, " \n").unwrap();

    assert_refused(
        &["node", "--index", "2", "--ports", "4000,4010"],
        &[],
        "index 2 is out of range; CLIQUE_PORTS has 2 ports, so it goes from 0 to 1",
    );
    assert_refused(
        &["node"],
        &[("CLIQUE_PORTS", "4000,4010,4020")],
        "no index is given; set CLIQUE_INDEX or --index to a number from 0 to 2",
    );
    assert_refused(
        &with(["--listen", "nowhere"]),
        &[],
        "nowhere is not an address to listen on; use an IP address, such as 127.0.0.1 or 0.0.0.0",
    );
    assert_refused(&with(["--log-mib", "0"]), &[], "CLIQUE_LOG_MIB is 0, but goes from 1 to 1048576");
    assert_refused(&with(["--log-format", "xml"]), &[], "xml is not a log format; there are text and json");
    assert_refused(
        &node,
        &[("CLIQUE_SECRET", "a"), ("CLIQUE_SECRET_FILE", &empty)],
        "CLIQUE_SECRET and CLIQUE_SECRET_FILE are both set; set one of them",
    );
    let gone = "No such file or directory (os error 2)";
    assert_refused(&node, &[("CLIQUE_SECRET_FILE", &missing)], &format!("the file {missing} cannot be read: {gone}"));
    assert_refused(
        &node,
        &[("CLIQUE_SECRET_FILE", &empty)],
        &format!("the secret in {empty} is empty; put a long random text there"),
    );
    assert_refused(&node, &[("CLIQUE_CONFIG", &missing)], &format!("the file {missing} cannot be read: {gone}"));
    assert_refused(&["up", "--nodes", "0"], &[], "a clique in one process has 1 to 32 nodes, not 0");
    assert_refused(
        &["node", "--index", "0", "--ports", "4000,4001"],
        &[],
        "port 4001 is used twice; a node takes three ports in a row (chat, gRPC, HTTP), so leave room between them",
    );
    for (arguments, settings, parts) in [
        (with(["--config", "{broken}"]), vec![], ["TOML", "line"]),
        (with(["--config", "{unknown}"]), vec![], ["unknown", "prots"]),
        (with(["--max-connections", "many"]), vec![], ["max_connections", "many"]),
        (node.to_vec(), vec![("CLIQUE_LOG_MIB", "-1")], ["log_mib", "-1"]),
        (node.to_vec(), vec![("CLIQUE_PORTS", "4000,x")], ["x is not a port", "4000,4010,4020"]),
        (
            node.to_vec(),
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_TRACES_SAMPLER", "sometimes")],
            ["OTEL_TRACES_SAMPLER", "sometimes"],
        ),
    ] {
        let arguments: Vec<String> =
            arguments.iter().map(|word| word.replace("{broken}", &broken).replace("{unknown}", &unknown)).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (code, out, err) = run(if settings.is_empty() { &arguments } else { &arguments[..3] }, &settings);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.starts_with("clique: ") && parts.iter().all(|part| err.contains(part)), "{arguments:?}: {err}");
    }
}

#[test]
fn a_file_the_environment_and_flags_are_read_later_over_earlier() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clique.toml");
    let ports: Vec<Ports> = (0..3).map(|_| Ports::claim()).collect();
    fs::write(&file, format!("ports = [{}]\nindex = 0\n", ports[0].chat)).unwrap();
    let file = file.display().to_string();
    let setting = |name: &str, value: &Ports| vec![(name.to_owned(), value.chat.to_string())];
    let cases = [
        (vec!["node", "--config", &file], vec![], 0),
        (vec!["node", "--config", &file], setting("CLIQUE_PORTS", &ports[1]), 1),
        (vec!["node", "--config", &file, "--ports", "{2}"], setting("CLIQUE_PORTS", &ports[1]), 2),
    ];
    for (arguments, settings, expected) in cases {
        let third = ports[2].chat.to_string();
        let arguments: Vec<&str> =
            arguments.into_iter().map(|word| if word == "{2}" { third.as_str() } else { word }).collect();
        let node = Process::spawn("node", &arguments, &settings);
        eventually("the node is up", || get(ports[expected].http(), "/live"));
        drop(node);
    }
}

/// A real terminal with the program in it.
fn terminal(arguments: &[&str], settings: &[(String, String)]) -> PtySession {
    let timeout_ms = u64::try_from(PATIENCE.as_millis()).unwrap();
    rexpect::session::spawn_command(terminal_command(arguments, settings), Some(timeout_ms)).unwrap()
}

fn terminal_command(arguments: &[&str], settings: &[(String, String)]) -> std::process::Command {
    let mut command = command(arguments, settings);
    command.stdin(std::process::Stdio::inherit());
    command
}

#[test]
fn at_a_terminal_the_index_is_asked_for_as_the_original_did() {
    let ports: Vec<Ports> = (0..5).map(|_| Ports::claim()).collect();
    let list: Vec<String> = ports.iter().map(|ports| ports.chat.to_string()).collect();
    let mut session = terminal(&["node"], &[("CLIQUE_PORTS".to_owned(), list.join(","))]);
    session.exp_string("Choose an index [0-4] :").unwrap();
    for wrong in ["5", "-1", "one", ""] {
        session.send_line(wrong).unwrap();
        session.exp_string(&format!("{wrong} is no index; it goes from 0 to 4")).unwrap();
        session.exp_string("Choose an index [0-4] :").unwrap();
    }
    session.send_line("3").unwrap();
    session.exp_string("node 3 is up").unwrap();
    Frames::named(ports[3].chat(), "alice");
    session.send_control('c').unwrap();
    session.exp_string("node 3 has stopped").unwrap();
    session.exp_eof().unwrap();
    let ended = session.process().wait().unwrap();
    assert!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?}");
}

#[test]
fn a_whole_clique_comes_up_with_a_table_and_stops_cleanly() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let ports: Vec<Ports> = (0..3).map(|_| Ports::claim()).collect();
        let list: Vec<String> = ports.iter().map(|ports| ports.chat.to_string()).collect();
        let settings = [("CLIQUE_PORTS".to_owned(), list.join(","))];
        let mut up = Process::spawn("up", &["up", "--nodes", "3"], &settings);
        up.wait_for_output("Ctrl-C stops the clique.");
        let table = up.out();
        assert!(table.starts_with("A clique of 3 nodes is up.\n"), "{table}");
        assert!(table.contains("What is said is forgotten at the end."), "{table}");
        for (index, ports) in ports.iter().enumerate() {
            let line = table.lines().find(|line| line.trim_start().starts_with(&format!("{index} "))).unwrap();
            assert!(line.contains(&ports.chat().to_string()) && line.contains(&format!("http://{}", ports.http())));
            eventually("the clique is whole", || {
                (get(ports.http(), "/ready")?.1 == "ready: 3 of 3 nodes\n").then_some(())
            });
        }
        let (mut alice, mut bob) = (Frames::named(ports[0].chat(), "alice"), Frames::named(ports[2].chat(), "bob"));
        eventually("bob hears alice", || {
            alice.send("bob", "hi");
            alice.sync().is_empty().then(|| bob.hear())
        });
        up.signal(signal);
        assert_eq!(up.wait().code(), Some(0));
        assert!(up.out().ends_with("stopping\n"), "{}", up.out());
        assert!(alice.notice().contains("is stopping"));
    }
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut clique = Clique::new(2).with("CLIQUE_DRAIN_MS", 3_000_000).started();
    // A peer that does not answer is waited for, but not for ever, and not by a person in a hurry.
    let mut alice = clique.frames(0, "alice");
    alice.send("*", "x".repeat(30_000));
    clique.pause(1);
    alice.send("*", "x".repeat(30_000));
    clique.node(0).signal(Signal::SIGTERM);
    clique.node(0).wait_for_output("a second signal stops at once");
    clique.node(0).signal(Signal::SIGTERM);
    let status = clique.wait(0);
    assert!(matches!(status.code(), Some(0 | 1)), "{status:?}");
    clique.resume(1);
}

#[test]
fn health_is_zero_if_and_only_if_the_node_is_ready() {
    let clique = Clique::of(1);
    let ports = clique.ports(0).chat.to_string();
    let settings = [("CLIQUE_PORTS", ports.as_str()), ("CLIQUE_INDEX", "0")];
    assert_eq!(run(&["health"], &settings), (0, "ready: 1 of 1 nodes\n".to_owned(), String::new()));
    let free = Ports::claim();
    let address = free.http();
    let list = free.chat.to_string();
    let settings = [("CLIQUE_PORTS", list.as_str()), ("CLIQUE_INDEX", "0")];
    let told = format!("clique: no node answers at {address}; is it running?\n");
    assert_eq!(run(&["health"], &settings), (1, String::new(), told));
    // Somebody who accepts and never answers is not healthy either.
    let _silent = TcpListener::bind(address).unwrap();
    let told = format!("clique: the node at {address} did not answer within 3 s\n");
    assert_eq!(run(&["health"], &settings), (1, String::new(), told));
    let (code, _, err) = run(&["health"], &[("CLIQUE_PORTS", &list)]);
    assert_eq!((code, err.contains("no index is given")), (2, true), "{err}");
}

#[test]
fn help_and_version_say_what_there_is() {
    let (code, out, _) = run(&["--help"], &[]);
    assert_eq!(code, 0);
    for command in ["node", "up", "client", "health"] {
        assert!(out.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{command}: {out}");
        let (code, help, _) = run(&[command, "--help"], &[]);
        assert_eq!(code, 0);
        assert!(help.contains("Options:"), "{help}");
    }
    assert_eq!(run(&["--version"], &[]).1, format!("clique {}\n", env!("CARGO_PKG_VERSION")));
    for wrong in [&[][..], &["nodes"], &["node", "--colour"]] {
        let (code, out, err) = run(wrong, &[]);
        assert_eq!((code, out.as_str()), (2, ""), "{wrong:?}");
        assert!(err.contains("Usage:"), "{wrong:?}: {err}");
    }
}
