//! Crashes on a real disk: a node is killed in the middle of its work, again and again, and keeps what it acknowledged.

mod common;

use std::{collections::BTreeMap, path::Path, process::Output};

use bytes::BytesMut;
use clique::wire::{
    extended::{FromNode, State},
    frames,
};
use common::{
    cliques::Clique,
    process::{Process, command},
};
use serde_json::Value;

const ROUNDS: u64 = 100;
/// After so many rounds the directory is looked through.
const VERIFIED_EVERY: u64 = 10;
/// Messages under way at a time.
const WINDOW: u64 = 200;

/// What the node has acknowledged: the last number of each of its lives.
#[derive(Default)]
struct Acknowledged {
    heights: BTreeMap<u64, u64>,
    count: u64,
}

impl Acknowledged {
    fn note(&mut self, frame: &FromNode) -> bool {
        let FromNode::Receipt(receipt) = frame else { return false };
        if receipt.state() != State::Accepted {
            return false;
        }
        let id = receipt.id.expect("what is accepted has a number");
        let origin = id.origin.expect("and an origin");
        let height = self.heights.entry(origin.incarnation).or_default();
        *height = id.number.max(*height);
        self.count += 1;
        true
    }
}

fn verify(directory: &Path) -> Output {
    command(&["verify", "--json", directory.to_str().unwrap()], &[]).output().unwrap()
}

/// Fails unless the directory is sound and has everything that was acknowledged.
fn assert_kept(directory: &Path, acknowledged: &Acknowledged) {
    let output = verify(directory);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&text).unwrap();
    let origins = report["origins"].as_array().unwrap();
    for (incarnation, number) in &acknowledged.heights {
        let origin = origins.iter().find(|origin| origin["incarnation"].as_u64() == Some(*incarnation));
        let origin = origin.unwrap_or_else(|| panic!("the life {incarnation} is gone: {text}"));
        let (height, entries) = (origin["height"].as_u64().unwrap(), origin["entries"].as_u64().unwrap());
        assert!(height >= *number, "{number} was acknowledged, {height} is there: {origin}");
        assert_eq!((origin["first"].as_u64(), entries), (Some(1), height), "{origin}");
        assert!(origin["hash"].is_string());
    }
}

/// Writes until so many messages were acknowledged and others are under way, kills the node, and notes what it still said.
fn write_and_kill(clique: &mut Clique, kill_after: u64, acknowledged: &mut Acknowledged) {
    clique.start(0);
    let mut writer = clique.extended(0, "writer");
    let text = |number: u64| format!("{number} {:x>1$}", "", usize::try_from(number * 7 % 300).unwrap());
    for number in 0..WINDOW {
        writer.send("*", text(number));
    }
    let mut accepted = 0;
    while accepted < kill_after {
        let frame = writer.next();
        if acknowledged.note(&frame) {
            accepted += 1;
            writer.send("*", text(WINDOW + accepted));
        }
    }
    clique.kill(0);
    let mut rest = BytesMut::from(&writer.socket.rest()[..]);
    while let Ok(Some(frame)) = frames::decode(&mut rest) {
        if let Ok(Some(frame)) = FromNode::read(&frame) {
            acknowledged.note(&frame);
        }
    }
}

#[test]
fn a_node_that_is_killed_a_hundred_times_keeps_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("node");
    let mut clique = Clique::new(1).with("CLIQUE_DATA", directory.display());
    let mut acknowledged = Acknowledged::default();
    for round in 1..=ROUNDS {
        write_and_kill(&mut clique, round * 37 % 150, &mut acknowledged);
        if round % VERIFIED_EVERY == 0 {
            assert_kept(&directory, &acknowledged);
        }
    }
    assert!(acknowledged.count > ROUNDS, "{} messages were acknowledged", acknowledged.count);
    // The one that starts last keeps all of it, and says so in its own words.
    clique.start(0);
    assert!(clique.terminate(0).success());
    assert_kept(&directory, &acknowledged);
}

#[test]
fn a_directory_in_use_names_who_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("node");
    let mut clique = Clique::new(2).with("CLIQUE_DATA", directory.display()).with("CLIQUE_PEERS", "");
    clique.start(0);
    let settings = [
        ("CLIQUE_PORTS".to_owned(), clique.ports(1).chat.to_string()),
        ("CLIQUE_INDEX".to_owned(), "0".to_owned()),
        ("CLIQUE_DATA".to_owned(), directory.display().to_string()),
    ];
    let mut second = Process::spawn("second", &["node", "--log", "off"], &settings);
    assert_eq!(second.wait().code(), Some(2));
    let sentence = format!("clique: the data directory {} is in use by process ", directory.display());
    assert!(second.err().starts_with(&sentence), "{}", second.err());
    let output = verify(&directory);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with(&sentence));

    assert!(clique.terminate(0).success());
    assert_eq!(verify(&directory).status.code(), Some(0));
    let output = verify(folder.path());
    assert_eq!(output.status.code(), Some(2));
    let sentence = format!("clique: there is no log of a node in {}", folder.path().display());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with(&sentence));
    std::fs::write(directory.join("clique.redb"), "nonsense").unwrap();
    assert_eq!(verify(&directory).status.code(), Some(1));
}
