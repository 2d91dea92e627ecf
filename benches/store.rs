//! The store on this machine's disk: `cargo bench --bench store`. Items are entries of 100 bytes.
//!
//! `read_through` is what a start does with a million entries: the goal is under a second.

use std::{path::Path, sync::mpsc::channel};

use clique::{
    chat::{Addressee, Message, Registration},
    clique::{Chunk, Origin},
    node::{
        hub::{FromStore, ToStore},
        store::{Store, StoreSettings, Sync, on_a_thread},
    },
    wire::entry::ChunkBuilder,
};
use divan::{Bencher, counter::ItemsCount};

fn main() {
    divan::main();
}

const ORIGIN: Origin = Origin { node: 1, incarnation: 9 };
const GROUPS: u64 = 200;

fn chunk(first: u64, count: u64) -> Chunk {
    let mut builder = ChunkBuilder::new(Vec::new());
    for time in first..first + count {
        builder.push(
            time,
            &Message {
                sender: "alice",
                sender_registration: Registration { time: 1 << 50, node: 0 },
                to: Addressee::Person("bob", Registration { time: 9, node: 1 }),
                text: &[b'x'; 100],
                receipts: false,
                trace: None,
            },
        );
    }
    builder.finish(first)
}

/// Writes groups one by one, each waiting for the sync of the one before.
fn write(directory: &Path, chunks: Vec<Chunk>, sync: Sync) {
    let settings = StoreSettings { directory: directory.to_owned(), node: 0, sync, max_tail_bytes: 1 << 20 };
    let opened = Store::open(&settings, 1, |_| (), |(), _, _| {}).expect("the store can be opened");
    let (sender, answers) = channel();
    let started = opened.store.start(on_a_thread, move |answer| drop(sender.send(answer)));
    let (handle, workers) = started.expect("threads can be had");
    for (sequence, chunk) in (1..).zip(chunks) {
        handle.say(ToStore::Entries { sequence, origin: ORIGIN, chunk, boundaries: Box::default() });
        assert!(matches!(answers.recv(), Ok(FromStore::Synced { .. })));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be had");
    runtime.block_on(workers.close());
}

#[divan::bench(args = [64, 1_024], sample_count = 5)]
fn group_commits_synced(bencher: Bencher, entries: u64) {
    groups(bencher, entries, Sync::Always);
}

#[divan::bench(args = [64, 1_024], sample_count = 5)]
fn group_commits_never_synced(bencher: Bencher, entries: u64) {
    groups(bencher, entries, Sync::Never);
}

fn groups(bencher: Bencher, entries: u64, sync: Sync) {
    bencher
        .counter(ItemsCount::new(GROUPS * entries))
        .with_inputs(|| {
            let chunks = (0..GROUPS).map(|group| chunk(1 + group * entries, entries)).collect();
            (tempfile::tempdir().expect("a directory"), chunks)
        })
        .bench_local_values(|(folder, chunks): (tempfile::TempDir, Vec<Chunk>)| {
            write(folder.path(), chunks, sync);
            folder
        });
}

/// With rows of so many entries.
#[divan::bench(args = [30, 64, 1_024], sample_count = 3)]
fn read_through(bencher: Bencher, row_entries: u64) {
    const ENTRIES: u64 = 1_000_000;
    let folder = tempfile::tempdir().expect("a directory");
    let chunks = (0..ENTRIES / row_entries).map(|group| chunk(1 + group * row_entries, row_entries)).collect();
    write(folder.path(), chunks, Sync::Never);
    let settings =
        StoreSettings { directory: folder.path().to_owned(), node: 0, sync: Sync::Always, max_tail_bytes: 64 << 20 };
    bencher.counter(ItemsCount::new(ENTRIES / row_entries * row_entries)).bench_local(|| {
        let opened = Store::open(&settings, 1, |_| 0, |seen, _, chunk| *seen += chunk.ends.len());
        opened.expect("the store can be opened").state
    });
}
