//! The store on real files.

mod aside;
mod damage;
mod disks;
mod journaled;
mod model;
mod packed;
mod watched;

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use super::*;
use crate::{
    chat::{Addressee, Message, Registration},
    clique::{Chain, chain::SEGMENT_ENTRIES},
    node::hub::ToStore,
    wire::entry::ChunkBuilder,
};

/// Long enough for any machine; only there so that a test that hangs ends.
const PATIENCE: Duration = Duration::from_secs(60);
/// A former life of the node whose store it is, so that it is journaled; another node's is not.
const ORIGIN: Origin = Origin { node: 3, incarnation: 1_000 };
const PEER: Origin = Origin { node: 4, incarnation: 1_000 };

/// Entries that differ by their numbers and their flavour, each with about so many bytes of text.
fn chunk(first: u64, count: u64, flavour: u64, text_bytes: usize) -> Chunk {
    let mut builder = ChunkBuilder::new(Vec::new());
    for number in first..first + count {
        let text = format!("entry {number} of flavour {flavour} {:x>text_bytes$}", "");
        builder.push(
            number,
            &Message {
                sender: "alice",
                sender_registration: Registration { time: 1, node: 0 },
                to: Addressee::Everyone,
                text: text.as_bytes(),
                receipts: false,
                trace: None,
            },
        );
    }
    builder.finish(first)
}

fn settings(directory: &Path, sync: Sync) -> StoreSettings {
    StoreSettings { directory: directory.to_owned(), node: ORIGIN.node, sync, max_tail_bytes: 1 << 20 }
}

/// A store that runs, and what it answers.
struct Running {
    handle: StoreHandle,
    workers: StoreWorkers,
    answers: Receiver<FromStore>,
    sequence: u64,
    synced: Cell<u64>,
    incarnation: u64,
    recovered: Vec<Recovered>,
    /// As the hub has them.
    chains: BTreeMap<Origin, Chain>,
    /// What was shown at the start.
    seen: Vec<(Origin, Chunk)>,
}

type Shown = (u64, Vec<(Origin, Chunk)>);

impl Running {
    fn open(directory: &Path) -> Self {
        Self::of(&settings(directory, Sync::Always))
    }

    fn of(settings: &StoreSettings) -> Self {
        Self::on(Arc::new(Files::new(&settings.directory)), settings)
    }

    fn on(medium: Arc<dyn Medium>, settings: &StoreSettings) -> Self {
        let begin = |incarnation| (incarnation, Vec::new());
        let show = |shown: &mut Shown, origin, chunk: &Chunk| shown.1.push((origin, chunk.clone()));
        Self::started(Store::open_on(medium, settings, 5_000, begin, show).unwrap())
    }

    /// With a transaction for each group.
    fn without_journal(directory: &Path) -> Self {
        Self::of(&settings(directory, Sync::Interval(Duration::ZERO)))
    }

    fn started(opened: Opened<Shown>) -> Self {
        let Opened { store, state: (incarnation, seen), recovered } = opened;
        let (sender, answers) = channel();
        let (handle, workers) = store.start(on_a_thread, move |answer| drop(sender.send(answer))).unwrap();
        let chains = recovered.iter().map(|recovered| (recovered.origin, recovered.chain.clone())).collect();
        Self { handle, workers, answers, sequence: 0, synced: Cell::new(0), incarnation, recovered, chains, seen }
    }

    fn close(self) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(self.workers.close());
    }

    fn next(&self) -> FromStore {
        let word = self.answers.recv_timeout(PATIENCE).expect("the store answers");
        if let FromStore::Synced { sequence } = word {
            self.synced.set(self.synced.get().max(sequence));
        }
        word
    }

    fn say(&mut self, item: impl FnOnce(u64) -> ToStore) {
        self.sequence += 1;
        self.handle.say(item(self.sequence));
    }

    fn append(&mut self, origin: Origin, chunk: &Chunk) {
        let chain = self.chains.entry(origin).or_default();
        chain.push(chunk);
        let (chunk, boundaries) = (chunk.clone(), chain.boundaries_in(chunk.first, chunk.last()));
        self.say(|sequence| ToStore::Entries { sequence, origin, chunk, boundaries });
    }

    fn wait_synced(&self) {
        while self.synced.get() < self.sequence {
            let word = self.next();
            assert!(matches!(word, FromStore::Synced { .. }), "not synced: {word:?}");
        }
    }

    /// The answer to a read, and what was said of damage before.
    fn read(&self, origin: Origin, from: u64, max_bytes: usize) -> (Option<Chunk>, Vec<(u64, u64)>) {
        self.handle.say(ToStore::Read { id: from, origin, from, max_bytes });
        let mut damaged = Vec::new();
        loop {
            match self.next() {
                FromStore::Read { id, chunk } if id == from => return (chunk, damaged),
                FromStore::Damaged { first, last, .. } => damaged.push((first, last)),
                FromStore::Synced { .. } => {}
                other => panic!("not read: {other:?}"),
            }
        }
    }

    fn of_origin(&self, origin: Origin) -> &Recovered {
        self.recovered.iter().find(|recovered| recovered.origin == origin).expect("the origin is there")
    }
}

fn whole_chain(chunks: &[Chunk]) -> Chain {
    let mut chain = Chain::default();
    chunks.iter().for_each(|chunk| chain.push(chunk));
    chain
}

/// Changes a byte in the middle of a text that is in the file, everywhere it is.
fn flip(path: &Path, text: &str) {
    let mut bytes = fs::read(path).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text.as_bytes())).collect();
    assert!(!places.is_empty(), "{text} is not there");
    for at in places {
        bytes[at + 2] ^= 0x10;
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_was_synced_is_there_again_with_the_same_hash() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = [chunk(1, 700, 0, 20), chunk(701, 3, 0, 20), chunk(704, 9_000, 0, 90)];
    let mut store = Running::open(folder.path());
    for chunk in &chunks {
        store.append(ORIGIN, chunk);
    }
    store.wait_synced();
    let (read, damaged) = store.read(ORIGIN, 650, 4_000);
    let read = read.unwrap();
    assert!(damaged.is_empty() && read.first == 650 && read.bytes.len() <= 4_000, "{read:?}");
    assert!(read.last() > 670, "rows are joined");
    assert!(store.read(ORIGIN, 9_704, 100).0.is_none());
    let incarnation = store.incarnation;
    store.close();

    let store = Running::open(folder.path());
    let recovered = store.of_origin(ORIGIN);
    assert_eq!((recovered.first, recovered.height, recovered.damaged.len()), (1, 9_703, 0));
    assert_eq!(recovered.chain.hash(), whole_chain(&chunks).hash());
    assert!(recovered.chain.boundaries().eq(whole_chain(&chunks).boundaries()));
    assert_eq!(recovered.tail.last().unwrap().last(), 9_703);
    let seen: Vec<u8> = store.seen.iter().flat_map(|(_, chunk)| chunk.bytes.to_vec()).collect();
    let written: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect();
    assert!(seen == written);
    assert!(store.incarnation > incarnation, "a new life, although the clock stood still");
    store.close();
}

#[test]
fn a_cut_forgets_what_is_before_it_and_a_later_one_goes_on_behind_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = [chunk(1, 300, 0, 20), chunk(301, 900, 0, 20)];
    let whole = whole_chain(&chunks);
    let mut store = Running::open(folder.path());
    for chunk in &chunks {
        store.append(ORIGIN, chunk);
        store.wait_synced();
    }
    let hash = whole.hash_at(512).unwrap();
    store.say(|sequence| ToStore::Cut { sequence, origin: ORIGIN, first: 513, hash });
    store.wait_synced();
    assert!(store.read(ORIGIN, 512, 10).0.is_none());
    assert_eq!(store.read(ORIGIN, 513, 10).0.unwrap().first, 513);
    store.close();

    let mut store = Running::open(folder.path());
    let recovered = store.of_origin(ORIGIN);
    assert_eq!((recovered.first, recovered.height, recovered.damaged.len()), (513, 1_200, 0));
    assert_eq!(recovered.chain.hash(), whole.hash());
    assert_eq!(store.seen[0].1.first, 513);
    store.say(|sequence| ToStore::Cut { sequence, origin: ORIGIN, first: 2_561, hash: [7; 32] });
    store.append(ORIGIN, &chunk(2_561, 10, 1, 20));
    store.wait_synced();
    store.close();

    let store = Running::open(folder.path());
    let recovered = store.of_origin(ORIGIN);
    assert_eq!((recovered.first, recovered.height, recovered.damaged.len()), (2_561, 2_570, 0));
    assert_eq!(recovered.chain.hash_at(2_560), Some([7; 32]));
    assert_eq!(store.seen.len(), 1);
    store.close();
}

#[test]
fn a_directory_has_one_owner_at_a_time_and_one_node() {
    let folder = tempfile::tempdir().unwrap();
    let try_open = |node| {
        let settings = StoreSettings { node, ..settings(folder.path(), Sync::Always) };
        Store::open(&settings, 1, |_| (), |(), _, _| {}).map(|opened| opened.store)
    };
    let first = try_open(0).unwrap();
    let error = try_open(0).unwrap_err().to_string();
    assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
    assert!(error.contains(&folder.path().display().to_string()), "{error}");
    let error = verify::verify(folder.path()).unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    drop(first);
    let error = try_open(4).unwrap_err().to_string();
    assert!(error.contains("belongs to node 0, and this is node 4"), "{error}");
    drop(try_open(0).unwrap());
    let made = folder.path().join("made").join("for it");
    Running::open(&made).close();
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(made).unwrap().permissions());
    assert_eq!(mode & 0o077, 0);
}

/// A directory as another version would have left it, with 600 entries of `ORIGIN`.
fn of_format(format: u64, chunks: &[Chunk]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let stored = |table: &str, number: u64, payload: &[u8]| match format {
        1 => payload.to_vec(),
        _ => [&tables::seal_before_4(table, key(ORIGIN, number), payload)[..], payload].concat(),
    };
    let database = Database::create(lock::database_path(folder.path())).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut meta = transaction.open_table(tables::META).unwrap();
    for (name, value) in [("format", format), ("node", ORIGIN.node.into()), ("incarnation", 77)] {
        meta.insert(name, value).unwrap();
    }
    drop(meta);
    let record = Record { first: 1, height: 600, cut_hash: EMPTY }.to_bytes();
    let of = (ORIGIN.node, ORIGIN.incarnation);
    transaction.open_table(ORIGINS).unwrap().insert(of, &stored("origins", 0, &record)[..]).unwrap();
    for chunk in chunks {
        let mut entries = transaction.open_table(tables::ENTRIES).unwrap();
        entries.insert(key(ORIGIN, chunk.first), &stored("entries", chunk.first, &chunk.bytes)[..]).unwrap();
    }
    for (number, hash) in whole_chain(chunks).boundaries().skip(1) {
        let mut boundaries = transaction.open_table(BOUNDARIES).unwrap();
        boundaries.insert(key(ORIGIN, number), &stored("boundaries", number, &hash)[..]).unwrap();
    }
    transaction.commit().unwrap();
    folder
}

#[test]
fn a_newer_format_is_refused_and_older_ones_are_brought_up_to_date() {
    let chunks = [chunk(1, 400, 0, 20), chunk(401, 200, 0, 20)];
    let newer = of_format(format::FORMAT + 1, &chunks);
    let refused = Store::open(&settings(newer.path(), Sync::Always), 1, |_| (), |(), _, _| {}).unwrap_err();
    let sentence = "was written by a newer version of clique (format 6, this one knows up to 5)";
    assert!(refused.to_string().contains(sentence), "{refused}");

    for older in 1..format::FORMAT {
        let folder = of_format(older, &chunks);
        for round in 0..2 {
            let mut store = Running::open(folder.path());
            let recovered = store.of_origin(ORIGIN);
            assert_eq!((recovered.height, recovered.damaged.len()), (600 + round * 10, 0), "format {older}");
            let all = [&chunks[..], &[chunk(601, round * 10, 0, 20)][..usize::from(round > 0)]].concat();
            assert_eq!(recovered.chain.hash(), whole_chain(&all).hash());
            assert!(verify::verify(folder.path()).unwrap_err().to_string().contains("in use"));
            store.append(ORIGIN, &chunk(601 + round * 10, 10, 0, 20));
            store.wait_synced();
            store.close();
        }
    }
}
