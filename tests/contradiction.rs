//! A node comes back with a data directory that is sound, and in which other things were said than elsewhere.

mod common;

use std::{path::Path, sync::mpsc};

use clique::{
    clique::{Chain, Chunk, Origin},
    node::{
        hub::{FromStore, ToStore},
        store::{Store, StoreSettings, Sync, on_a_thread},
    },
};
use common::{cliques::Clique, eventually, process::command};
use serde_json::Value;

const MESSAGES: usize = 600;

/// Everything that node 0 said reads otherwise from entry 300 on, with the hashes that belong to it. Gives how much that is.
fn contradict(directory: &Path, node: u16) -> u64 {
    let settings = StoreSettings { directory: directory.to_owned(), node, sync: Sync::Always, max_tail_bytes: 1 << 20 };
    let visit = |chunks: &mut Vec<Chunk>, origin: Origin, chunk: &Chunk| {
        if origin.node == 0 {
            chunks.push(chunk.clone());
        }
    };
    let opened = Store::open(&settings, 1, |_| Vec::new(), visit).unwrap();
    let of_node_0 = opened.recovered.iter().find(|found| found.origin.node == 0 && found.height > 300).unwrap();
    let origin = of_node_0.origin;
    let (answers, answer) = mpsc::channel();
    let (store, workers) = opened.store.start(on_a_thread, move |word| answers.send(word).unwrap()).unwrap();
    let mut chain = Chain::default();
    let (mut sequence, mut changed) = (0, 0);
    for chunk in opened.state {
        let mut bytes = chunk.bytes.to_vec();
        for (number, end) in (chunk.first..).zip(chunk.ends.iter()).filter(|(number, _)| *number >= 300) {
            let last = usize::try_from(*end).unwrap() - 1;
            assert!(bytes[last].is_ascii(), "entry {number} ends with its text");
            bytes[last] = b'?';
            changed += 1;
        }
        let chunk = Chunk { bytes: bytes.into(), ..chunk };
        chain.push(&chunk);
        sequence += 1;
        store.say(ToStore::Repair { sequence, origin, chunk });
    }
    store.say(ToStore::Rehash { sequence: sequence + 1, origin, chain: Box::new(chain) });
    let is_last = |word: &FromStore| matches!(word, FromStore::Synced { sequence: synced } if *synced > sequence);
    answer.iter().find(is_last).unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(workers.close());
    changed
}

fn hashes(directory: &Path) -> Vec<(u64, u64, String)> {
    let output = command(&["verify", "--json", directory.to_str().unwrap()], &[]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |origin: &Value| {
        let number = |name: &str| origin[name].as_u64().unwrap();
        (number("incarnation"), number("height"), origin["hash"].to_string())
    };
    report["origins"].as_array().unwrap().iter().filter(|origin| origin["height"] != 0).map(of).collect()
}

#[test]
fn a_node_with_another_history_takes_over_that_of_whoever_said_it() {
    let folder = tempfile::tempdir().unwrap();
    let directory = |node: usize| folder.path().join(format!("node-{node}"));
    let data = |node: usize| [("CLIQUE_DATA", directory(node).to_str().unwrap().to_owned())];
    let mut clique = Clique::new(3);
    (0..3).for_each(|node| clique.start_with(node, &data(node)));
    clique.wait_whole();
    let mut speaker = clique.extended(0, "speaker");
    for number in 0..MESSAGES {
        speaker.send("*", format!("message {number}!"));
    }
    speaker.send("*", "the last");
    eventually("everybody has everything", || {
        (0..3).all(|node| clique.metric(node, "clique_histories_equal") == Some(1)).then_some(())
    });
    clique.terminate(1);
    let changed = contradict(&directory(1), 1);
    assert!(changed > 200, "{changed}");

    clique.start_with(1, &data(1));
    clique.wait_whole();
    eventually("node 1 has taken over what node 0 said", || {
        let taken_over = clique.metric(1, "clique_entries_taken_over_total")?;
        (taken_over >= usize::try_from(changed).unwrap()).then_some(())
    });
    eventually("all are the same", || {
        (0..3).all(|node| clique.metric(node, "clique_histories_equal") == Some(1)).then_some(())
    });
    (0..3).for_each(|node| assert!(clique.terminate(node).success()));
    let all = [0, 1, 2].map(|node| hashes(&directory(node)));
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
}
