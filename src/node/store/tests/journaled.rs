//! What is in the journal only: crashes before it is in the database, and records that were torn.

use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

use super::{
    watched::{Full, Watched},
    *,
};

/// A store that does nothing between two of its answers.
struct Stepped {
    runtime: Runtime,
    handle: StoreHandle,
    answers: UnboundedReceiver<FromStore>,
    workers: StoreWorkers,
}

impl Stepped {
    fn open(folder: &Path) -> Self {
        let medium = Watched::with_packs(folder, 64 << 10, 32 << 20);
        let opened = Store::open_on(medium, &settings(folder, Sync::Always), 5_000, |_| (), |(), _, _| {}).unwrap();
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (sender, answers) = unbounded_channel();
        let drive = |_: &'static str, work: Work| {
            runtime.spawn(work);
            Ok(())
        };
        let (handle, workers) = opened.store.start(drive, move |word| drop(sender.send(word))).unwrap();
        Self { runtime, handle, answers, workers }
    }

    fn append(&mut self, sequence: u64, chunk: &Chunk) {
        // The start after a crash finds the boundaries itself.
        let boundaries = Box::default();
        self.handle.say(ToStore::Entries { sequence, origin: ORIGIN, chunk: chunk.clone(), boundaries });
        let answers = &mut self.answers;
        self.runtime.block_on(async {
            while !matches!(answers.recv().await, Some(FromStore::Synced { sequence: synced }) if synced == sequence) {}
        });
    }

    /// Until what is in the journal is in the database.
    fn let_pass(&self) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_secs(1)).await });
    }

    fn close(self) {
        self.runtime.block_on(self.workers.close());
    }
}

/// The files of a store, as a crash would leave them.
fn crashed(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for path in [lock::database_path, lock::journal_path] {
        fs::copy(path(folder), path(copy.path())).unwrap();
    }
    for number in Files::new(folder).packs().unwrap() {
        fs::create_dir_all(lock::packs_path(copy.path())).unwrap();
        fs::copy(lock::pack_path(folder, number), lock::pack_path(copy.path(), number)).unwrap();
    }
    fs::write(copy.path().join("clique.lock"), "").unwrap();
    copy
}

/// How far the log goes; it must be what was written.
fn height(folder: &Path, text_bytes: usize) -> u64 {
    let report = verify::verify(folder).unwrap();
    let store = Running::open(folder);
    let recovered = store.recovered.iter().find(|recovered| recovered.origin == ORIGIN);
    let height = recovered.map_or(0, |recovered| {
        let whole = whole_chain(&[chunk(1, recovered.height, 0, text_bytes)]);
        assert_eq!((recovered.chain.hash(), recovered.damaged.len()), (whole.hash(), 0));
        recovered.height
    });
    assert!(report.sound && report.origins.iter().all(|origin| origin.height == height), "{report}");
    store.close();
    height
}

#[test]
fn a_copy_of_the_files_of_a_running_store_has_all_that_was_synced() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Stepped::open(folder.path());
    for round in 1..=20 {
        store.append(round, &chunk(round * 50 - 49, 50, 0, 50));
        assert_eq!(height(crashed(folder.path()).path(), 50), round * 50);
    }
    // More than the journal holds.
    for round in 21..=28 {
        store.append(round, &chunk(1_001 + (round - 21) * 1_000, 1_000, 0, 50));
        assert_eq!(height(crashed(folder.path()).path(), 50), 1_000 + (round - 20) * 1_000);
    }
    store.append(29, &chunk(9_001, 20_000, 0, 50));
    assert_eq!(height(crashed(folder.path()).path(), 50), 29_000);
    store.close();
    assert_eq!(height(folder.path(), 50), 29_000);
}

#[test]
fn a_journal_that_cannot_grow_goes_on_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let begin = |room_bytes, half_bytes| {
        let file = Files::new(folder.path()).journal().unwrap();
        let room_bytes = Arc::new(room_bytes);
        Journal::begin(Box::new(Full { file, room_bytes, has_unsynced: Arc::default() }), half_bytes, 7)
    };
    let refused = begin((1 << 20).into(), 2 << 20).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    fs::remove_file(lock::journal_path(folder.path())).unwrap();
    assert_eq!(begin((4 << 20).into(), 2 << 20).unwrap().half_bytes(), 2 << 20);
    let mut journal = begin((4 << 20).into(), 8 << 20).unwrap();
    assert_eq!(journal.half_bytes(), 2 << 20);
    let said = |first| ToStore::Entries {
        sequence: 1,
        origin: ORIGIN,
        chunk: chunk(first, 9_000, 0, 60),
        boundaries: Box::default(),
    };
    assert!(journal.append(&[said(1)]).unwrap() && !journal.append(&[said(9_001)]).unwrap());
    let held = journal::read(&fs::read(lock::journal_path(folder.path())).unwrap(), 7);
    assert_eq!((held[0].0, held[0].1.last()), (ORIGIN, 9_000));
    assert_eq!(begin((64 << 20).into(), 8 << 20).unwrap().half_bytes(), 8 << 20);
}

#[test]
fn a_torn_record_ends_the_journal_and_what_is_before_it_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Stepped::open(folder.path());
    for round in 0..5 {
        store.append(round + 1, &chunk(1 + round * 10, 10, 0, 100));
        let copy = crashed(folder.path());
        flip(&lock::journal_path(copy.path()), &format!("entry {} of flavour 0", 10 + round * 10));
        assert_eq!(height(copy.path(), 100), round * 10);
        assert_eq!(height(copy.path(), 100), round * 10, "and so it is at the next start");
    }
    store.close();
}

#[test]
fn a_journal_of_another_generation_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Stepped::open(folder.path());
    store.append(1, &chunk(1, 10, 0, 100));
    store.close();
    let before = fs::read(lock::journal_path(folder.path())).unwrap();
    let mut store = Stepped::open(folder.path());
    store.append(1, &chunk(11, 10, 0, 100));
    store.close();
    fs::write(lock::journal_path(folder.path()), before).unwrap();
    assert_eq!(height(folder.path(), 100), 20);
}

#[test]
fn a_damaged_record_of_an_origin_does_not_keep_its_journal_from_counting() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Stepped::open(folder.path());
    store.append(1, &chunk(1, 2_000, 0, 400));
    store.close();
    let mut store = Stepped::open(folder.path());
    let hash = whole_chain(&[chunk(1, 1_536, 0, 400)]).hash();
    store.handle.say(ToStore::Cut { sequence: 1, origin: ORIGIN, first: 1_537, hash });
    store.append(2, &chunk(2_001, 10, 0, 400));
    store.append(3, &chunk(2_011, 10, 0, 400));
    let copy = crashed(folder.path());
    store.close();
    let database = Database::create(lock::database_path(copy.path())).unwrap();
    let transaction = database.begin_write().unwrap();
    let of = (ORIGIN.node, ORIGIN.incarnation);
    transaction.open_table(ORIGINS).unwrap().insert(of, &[0; 64][..]).unwrap();
    transaction.commit().unwrap();
    drop(database);

    let store = Running::open(copy.path());
    let recovered = store.of_origin(ORIGIN);
    let seen: Vec<u8> = store.seen.iter().flat_map(|(_, chunk)| chunk.bytes.to_vec()).collect();
    assert!((2..=1_537).contains(&recovered.first), "it begins where its rows do");
    // The hash at the cut is gone with the record, so its first segment cannot be checked.
    assert_eq!(recovered.height, 2_020);
    assert!(recovered.damaged.iter().all(|(_, last)| *last == 1_792), "{:?}", recovered.damaged);
    assert!(seen.ends_with(&chunk(2_001, 20, 0, 400).bytes));
    store.close();
}

#[test]
fn what_is_journaled_while_a_transaction_has_not_come_through_counts_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Stepped::open(folder.path());
    for round in 0..6 {
        store.append(2 * round + 1, &chunk(1 + round * 20, 10, 0, 100));
        // As if the machine had died in the transaction that begins now, or right after it.
        let before = crashed(folder.path());
        store.let_pass();
        store.append(2 * round + 2, &chunk(11 + round * 20, 10, 0, 100));
        let after = crashed(folder.path());
        fs::copy(lock::journal_path(after.path()), lock::journal_path(before.path())).unwrap();
        for copy in [before, after] {
            assert_eq!(height(copy.path(), 100), 20 + round * 20);
        }
    }
    store.close();
}

#[test]
fn a_journal_of_the_format_before_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let mut store = Stepped::open(folder.path());
        // One generation after the other, so that each half has its turn.
        for turn in 0..round {
            store.append(turn + 1, &chunk(1 + round * 100 + turn * 10, 10, 0, 100));
            store.let_pass();
        }
        store.append(99, &chunk(1 + round * 100 + round * 10, 100 - round * 10, 0, 100));
        let copy = crashed(folder.path());
        let journal = fs::read(lock::journal_path(copy.path())).unwrap();
        let (first, second) = journal.split_at(journal.len() / 2);
        let last = [first, second].into_iter().find(|half| {
            let text = format!("entry {} of flavour 0", 100 + round * 100);
            half.windows(text.len()).any(|window| window == text.as_bytes())
        });
        fs::write(lock::journal_path(copy.path()), &last.unwrap()[..1 << 20]).unwrap();
        assert_eq!(height(copy.path(), 100), 100 + round * 100);
        store.close();
    }
}

#[test]
fn what_this_node_holds_of_its_peers_is_journaled_where_something_follows_that_it_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Stepped::open(folder.path());
    let say = |sequence, origin, chunk| {
        store.handle.say(ToStore::Entries { sequence, origin, chunk, boundaries: Box::default() });
    };
    let mut next = || match store.runtime.block_on(store.answers.recv()) {
        Some(FromStore::Synced { sequence }) => sequence,
        other => panic!("{other:?}"),
    };
    let heights = |folder: &Path| {
        let report = verify::verify(folder).unwrap();
        assert!(report.sound, "{report}");
        report.origins.iter().map(|origin| (origin.node, origin.height)).collect::<Vec<_>>()
    };
    say(1, PEER, chunk(1, 10, 0, 100));
    say(2, ORIGIN, chunk(1, 10, 0, 100));
    assert_eq!(next(), 2);
    let journal = |folder: &Path| fs::read(lock::journal_path(folder)).unwrap();
    let journaled = journal(folder.path());
    assert_eq!(heights(crashed(folder.path()).path()), [(ORIGIN.node, 10), (PEER.node, 10)]);
    assert_eq!(next(), 2, "and now they are in the database");
    say(3, PEER, chunk(11, 10, 0, 100));
    assert_eq!(next(), 3);
    assert!(journal(folder.path()) == journaled, "nobody waits for it");
    assert_eq!(heights(crashed(folder.path()).path()), [(ORIGIN.node, 10), (PEER.node, 20)]);
    say(4, PEER, chunk(21, 3_000, 0, 100));
    say(5, ORIGIN, chunk(11, 10, 0, 100));
    assert_eq!(next(), 5);
    assert!(journal(folder.path()) == journaled, "it is much, and goes into the database at once");
    assert_eq!(heights(crashed(folder.path()).path()), [(ORIGIN.node, 20), (PEER.node, 3_020)]);
    store.close();
}
