//! The client with real nodes, one of which is killed.

mod client_fake;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "common/ports.rs"]
mod ports;

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use client_fake::{DEADLINE, Piped, client};
use ports::Ports;

/// Node processes on free ports.
struct Clique {
    nodes: Vec<Child>,
    addresses: Vec<String>,
    _ports: Vec<Ports>,
}

impl Clique {
    fn start(count: usize) -> Self {
        let ports: Vec<Ports> = (0..count).map(|_| Ports::claim()).collect();
        let peers = ports.iter().map(|ports| ports.grpc().to_string()).collect::<Vec<_>>().join(",");
        let list = ports.iter().map(|ports| ports.chat.to_string()).collect::<Vec<_>>().join(",");
        let nodes = (0..count).map(|index| {
            Command::new(env!("CARGO_BIN_EXE_clique"))
                .args(["node", "--listen", "127.0.0.1", "--ports", &list, "--index", &index.to_string()])
                .args(["--peers", &peers, "--advertise", &ports[index].grpc().to_string()])
                .env("CLIQUE_DATA", ":memory:")
                .env("CLIQUE_SECRET", "a secret for tests only, long enough")
                .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        });
        let nodes = nodes.collect();
        let addresses = ports.iter().map(|ports| ports.chat().to_string()).collect();
        Self { nodes, addresses, _ports: ports }
    }

    fn client(&self, name: &str, node: usize) -> Piped {
        self.client_with(name, node, |command| command)
    }

    fn client_with(&self, name: &str, node: usize, set: impl Fn(&mut Command) -> &mut Command) -> Piped {
        let mut command = client(&[]);
        command.env("CLIQUE_NODES", self.addresses.join(",")).args(["--format", "json", "--name", name]);
        Piped::start(set(command.args(["--node", &node.to_string()])))
    }

    /// Waits until the nodes have found each other.
    fn wait(&self) {
        let end = Instant::now() + DEADLINE;
        let all = format!(r#""nodes_reachable":{}"#, self.nodes.len());
        loop {
            let mut probe = self.client("probe", 0);
            let line = probe.line_with(&[r#""state":"registered""#]);
            probe.end();
            if line.contains(&all) {
                return;
            }
            assert!(Instant::now() < end, "the nodes do not find each other: {line}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Clique {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

#[test]
fn a_conversation_goes_on_when_a_node_is_killed_and_nothing_comes_twice_or_out_of_order() {
    let mut clique = Clique::start(3);
    clique.wait();
    let mut bob = clique.client("bob", 0);
    bob.line_with(&[r#""state":"registered""#, r#""node":0"#]);
    let mut alice = clique.client("alice", 1);
    alice.line_with(&[r#""state":"registered""#, r#""node":1"#]);
    let mut sent = 0;
    let mut say = |alice: &mut Piped, count: usize| {
        for _ in 0..count {
            sent += 1;
            alice.type_line(&format!("bob number {sent}"));
        }
    };
    say(&mut alice, 20);
    bob.line_with(&["number 20"]);
    clique.nodes[0].kill().unwrap();
    say(&mut alice, 20);
    let moved = bob.line_with(&[r#""state":"registered""#]);
    assert!(moved.contains(r#""name":"bob""#) && moved.contains(r#""resumed":true"#), "{moved}");
    say(&mut alice, 20);
    let mut expected = 21;
    while expected <= 60 {
        let line = bob.line_with(&[r#""event":"message""#]);
        assert!(line.contains(&format!(r#""text":"number {expected}""#)), "number {expected} is next, not {line}");
        expected += 1;
    }
    assert_eq!(alice.end(), 0);
    assert_eq!(bob.end(), 0);
}

#[test]
fn a_claimed_name_its_rooms_and_its_mail_go_with_the_client_to_another_node() {
    let mut clique = Clique::start(3);
    clique.wait();
    let mut bob = clique.client("bob", 0);
    bob.line_with(&[r#""state":"registered""#, r#""node":0"#, r#""claimed":false"#]);
    bob.type_line("/claim zebra quilt walrus");
    bob.line_with(&[r#"{"event":"claimed","name":"bob"}"#]);
    bob.type_line("/join #ship");
    bob.line_with(&[r##""rooms":[{"name":"#ship""##]);
    let mut alice = clique.client("alice", 1);
    alice.line_with(&[r#""state":"registered""#, r#""node":1"#]);
    alice.type_line("/join #ship");
    alice.line_with(&[r##""rooms":[{"name":"#ship""##]);
    alice.type_line("#ship one");
    bob.line_with(&[r##""to":"#ship","text":"one""##]);

    clique.nodes[0].kill().unwrap();
    let moved = bob.line_with(&[r#""state":"registered""#]);
    assert!(moved.contains(r#""name":"bob""#) && moved.contains(r#""claimed":true"#), "{moved}");
    bob.line_with(&[r##""rooms":[{"name":"#ship""##]);
    alice.type_line("#ship two");
    bob.line_with(&[r##""to":"#ship","text":"two""##]);
    bob.type_line("#ship three");
    alice.line_with(&[r##""to":"#ship","text":"three""##]);
    assert_eq!(bob.end(), 0);

    // While nobody of that name is connected his messages wait; they come once, and nobody else gets the name.
    alice.line_with(&[r#""event":"presence""#, r#""left":["bob"]"#]);
    alice.type_line("bob four");
    alice.line_with(&[r#""event":"receipt""#, r#""reference":3"#]);
    assert_eq!(clique.client("bob", 2).exit_code(), 4);
    let mut bob = clique.client_with("bob", 2, |command| command.env("CLIQUE_PASSPHRASE", "zebra quilt walrus"));
    let mail = bob.line_with(&[r#""event":"message""#]);
    assert!(mail.contains(r#""to":"bob","text":"four""#), "{mail}");
    assert_eq!((alice.end(), bob.end()), (0, 0));
    assert!(!bob.rest().iter().any(|line| line.contains(r#""event":"message""#)), "once");
}

#[test]
fn rooms_of_a_name_that_is_not_claimed_go_along_too() {
    let mut clique = Clique::start(2);
    clique.wait();
    let mut bob = clique.client("bob", 0);
    bob.line_with(&[r#""state":"registered""#]);
    bob.type_line("/join #ship");
    bob.line_with(&[r##""rooms":[{"name":"#ship""##]);
    clique.nodes[0].kill().unwrap();
    bob.line_with(&[r#""state":"registered""#, r#""node":1"#]);
    let mut alice = clique.client("alice", 1);
    alice.line_with(&[r#""state":"registered""#]);
    alice.type_line("/join #ship");
    alice.line_with(&["you are in #ship", "alice", "bob"]);
    alice.type_line("#ship ahoy");
    bob.line_with(&[r##""to":"#ship","text":"ahoy""##]);
    assert_eq!((alice.end(), bob.end()), (0, 0));
}
