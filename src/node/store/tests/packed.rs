//! Long rows, which are not in the database but in packs.

use super::{lock::pack_path, watched::Watched, *};

/// Long enough for a pack.
fn long_rows(store: &mut Running, count: u64) -> Vec<Chunk> {
    let chunks: Vec<Chunk> = (0..count).map(|round| chunk(1 + round * 1_000, 1_000, 0, 60)).collect();
    for chunk in &chunks {
        store.append(ORIGIN, chunk);
        store.wait_synced();
    }
    chunks
}

fn packs(folder: &Path) -> Vec<u64> {
    let mut packs = Files::new(folder).packs().unwrap();
    packs.sort_unstable();
    packs
}

/// Reopened, it must hold just these.
fn assert_holds(folder: &Path, chunks: &[Chunk]) {
    assert!(verify::verify(folder).unwrap().sound);
    let store = Running::open(folder);
    let recovered = store.of_origin(ORIGIN);
    let whole = whole_chain(chunks);
    assert_eq!((recovered.height, recovered.damaged.len()), (whole.height(), 0));
    assert_eq!(recovered.chain.hash(), whole.hash());
    store.close();
}

#[test]
fn what_is_cut_makes_room_on_the_disk_and_what_is_kept_stays() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), Sync::Always);
    let open = || Running::on(Watched::with_packs(folder.path(), 1, 300_000), &settings);
    let mut store = open();
    let chunks = long_rows(&mut store, 20);
    store.close();
    let before = packs(folder.path());
    assert!(before.len() > 4, "{before:?}");
    let mut store = open();
    let hash = whole_chain(&chunks).hash_at(12_800).unwrap();
    store.say(|sequence| ToStore::Cut { sequence, origin: ORIGIN, first: 12_801, hash });
    store.wait_synced();
    let after = packs(folder.path());
    assert!(after.len() < before.len() && before.ends_with(&after), "{before:?} {after:?}");
    assert_eq!(store.read(ORIGIN, 12_801, 10).0.unwrap().first, 12_801);
    store.close();

    let mut store = open();
    assert_eq!(packs(folder.path()), after);
    assert_eq!((store.of_origin(ORIGIN).first, store.of_origin(ORIGIN).damaged.len()), (12_801, 0));
    let seen: Vec<u8> = store.seen.iter().flat_map(|(_, chunk)| chunk.bytes.to_vec()).collect();
    let written: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect();
    assert!(written.ends_with(&seen));
    let hash = whole_chain(&chunks).hash();
    store.say(|sequence| ToStore::Cut { sequence, origin: ORIGIN, first: 20_001, hash });
    store.wait_synced();
    assert_eq!(packs(folder.path()).len(), 1, "the last stays, since it is appended to");
    store.close();
    Running::open(folder.path()).close();
    assert!(packs(folder.path()).is_empty(), "until the next start");
}

#[test]
fn flipped_bits_in_a_pack_are_found_and_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Running::without_journal(folder.path());
    let chunks = long_rows(&mut store, 5);
    store.close();
    flip(&pack_path(folder.path(), 1), "entry 2500 of flavour 0");
    let report = verify::verify(folder.path()).unwrap();
    assert_eq!(report.origins[0].damaged, [(2_001, 3_000)]);

    let mut store = Running::without_journal(folder.path());
    assert_eq!(store.of_origin(ORIGIN).damaged, [(2_001, 3_000)]);
    assert_eq!(store.read(ORIGIN, 2_400, 1_000).1, [(2_400, 3_000)]);
    store.say(|sequence| ToStore::Repair { sequence, origin: ORIGIN, chunk: chunk(2_001, 1_000, 0, 60) });
    store.wait_synced();
    assert_eq!(store.read(ORIGIN, 2_400, 1_000).0.unwrap().first, 2_400);
    store.close();
    assert_holds(folder.path(), &chunks);
}

#[test]
fn a_pack_that_is_gone_or_short_is_damage_and_repaired() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let mut store = Running::without_journal(folder.path());
        let chunks = match round {
            0 => long_rows(&mut store, 3),
            _ => (0..3).map(|round| chunk(1 + round * 1_000, 1_000, 0, 60)).collect(),
        };
        store.close();
        let path = pack_path(folder.path(), packs(folder.path())[0]);
        match round {
            0 => fs::remove_file(path).unwrap(),
            _ => fs::OpenOptions::new().write(true).open(path).unwrap().set_len(100).unwrap(),
        }
        let mut store = Running::without_journal(folder.path());
        assert_eq!(store.of_origin(ORIGIN).damaged, [(1, 3_000)]);
        for chunk in &chunks {
            store.say(|sequence| ToStore::Repair { sequence, origin: ORIGIN, chunk: chunk.clone() });
        }
        store.wait_synced();
        store.close();
        assert_holds(folder.path(), &chunks);
    }
}

#[test]
fn a_pack_that_cannot_be_opened_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Running::without_journal(folder.path());
    let chunks = long_rows(&mut store, 2);
    store.close();
    let (path, elsewhere) = (pack_path(folder.path(), 1), folder.path().join("elsewhere"));
    fs::rename(&path, &elsewhere).unwrap();
    // A name that leads to itself.
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert!(matches!(verify::verify(folder.path()), Err(StoreError::Unusable { .. })));
    let refused = Store::open(&settings(folder.path(), Sync::Always), 1, |_| (), |(), _, _| {}).unwrap_err();
    assert!(matches!(refused, StoreError::Unusable { .. }), "{refused}");
    fs::rename(elsewhere, path).unwrap();
    assert_holds(folder.path(), &chunks);
}

#[test]
fn what_a_crash_leaves_of_a_transaction_is_written_over_or_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Running::without_journal(folder.path());
    let mut chunks = long_rows(&mut store, 2);
    store.close();
    let mut torn = fs::OpenOptions::new().append(true).open(pack_path(folder.path(), 1)).unwrap();
    io::Write::write_all(&mut torn, &[0xab; 70_001]).unwrap();
    fs::write(pack_path(folder.path(), 2), [0xab; 10_000]).unwrap();
    fs::write(lock::packs_path(folder.path()).join("notes"), "not a pack").unwrap();
    assert_holds(folder.path(), &chunks);

    let mut store = Running::without_journal(folder.path());
    assert_eq!(packs(folder.path()), [1]);
    chunks.push(chunk(2_001, 3_000, 0, 60));
    store.append(ORIGIN, &chunks[2]);
    store.wait_synced();
    store.close();
    assert_holds(folder.path(), &chunks);
    let written: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    let length = fs::metadata(pack_path(folder.path(), 1)).unwrap().len();
    assert!(length < u64::try_from(written).unwrap() + 70_001, "over what was torn");
}

#[test]
fn what_has_just_been_put_into_a_pack_is_repaired_in_part() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Running::open(folder.path());
    // In one transaction, most likely.
    store.append(ORIGIN, &chunk(1, 6_000, 0, 60));
    store.say(|sequence| ToStore::Repair { sequence, origin: ORIGIN, chunk: chunk(1_500, 10, 0, 60) });
    store.append(ORIGIN, &chunk(6_001, 6_000, 0, 60));
    store.say(|sequence| ToStore::Repair { sequence, origin: ORIGIN, chunk: chunk(3_000, 5_000, 0, 60) });
    store.wait_synced();
    store.close();
    assert_holds(folder.path(), &[chunk(1, 12_000, 0, 60)]);
}

#[test]
fn packs_are_set_aside_with_their_database() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Running::open(folder.path());
    long_rows(&mut store, 2);
    store.close();
    fs::write(lock::database_path(folder.path()), "not a database").unwrap();
    let store = Running::open(folder.path());
    assert!(store.recovered.is_empty() && packs(folder.path()).is_empty());
    store.close();
    assert!(folder.path().join("clique.packs.damaged-0").join("00000001").exists());
    assert!(folder.path().join("clique.redb.damaged-0").exists());
}
