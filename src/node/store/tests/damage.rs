//! Rows, segments and databases that are not what was written.

use super::*;

#[test]
fn flipped_bits_are_found_row_by_row_and_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let path = lock::database_path(folder.path());
    let chunks: Vec<Chunk> = (0..20).map(|round| chunk(1 + round * 100, 100, 0, 60)).collect();
    let mut store = Running::without_journal(folder.path());
    for chunk in &chunks {
        store.append(ORIGIN, chunk);
        store.wait_synced();
    }
    store.close();
    flip(&path, "entry 555 of flavour 0");
    flip(&path, "entry 1999 of flavour 0");

    let report = verify::verify(folder.path()).unwrap();
    assert!(!report.sound);
    assert_eq!(report.origins[0].damaged, [(501, 600), (1_901, 2_000)]);
    let mut store = Running::open(folder.path());
    let recovered = store.of_origin(ORIGIN);
    assert_eq!((recovered.height, &recovered.damaged[..]), (2_000, &[(501, 600), (1_901, 2_000)][..]));
    assert_eq!(store.seen.len(), 18);
    let (read, damaged) = store.read(ORIGIN, 520, 1_000);
    assert!(read.is_none());
    assert_eq!(damaged, [(520, 600)]);

    // Repaired in two pieces, the second longer than what is damaged.
    for piece in [chunk(501, 50, 0, 60), chunk(551, 150, 0, 60), chunk(1_801, 200, 0, 60)] {
        store.say(|sequence| ToStore::Repair { sequence, origin: ORIGIN, chunk: piece });
    }
    store.wait_synced();
    assert_eq!(store.read(ORIGIN, 520, 10).0.unwrap().first, 520);
    let after = chunk(2_001, 600, 0, 60);
    store.append(ORIGIN, &after);
    store.wait_synced();
    store.close();

    let store = Running::open(folder.path());
    let recovered = store.of_origin(ORIGIN);
    assert_eq!((recovered.height, recovered.damaged.len()), (2_600, 0));
    let whole = whole_chain(&[&chunks[..], &[after]].concat());
    assert_eq!(recovered.chain.hash(), whole.hash());
    assert!(recovered.chain.boundaries().eq(whole.boundaries()));
    store.close();
}

#[test]
fn rows_that_are_not_what_was_hashed_are_found_by_their_segment() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Running::open(folder.path());
    store.append(ORIGIN, &chunk(1, 1_000, 0, 20));
    // Sealed, and yet not the entries that were hashed.
    let other = chunk(300, 10, 9, 20);
    store.say(|sequence| ToStore::Repair { sequence, origin: ORIGIN, chunk: other });
    store.wait_synced();
    store.close();
    let report = verify::verify(folder.path()).unwrap();
    assert_eq!(report.origins[0].damaged, [(SEGMENT_ENTRIES + 1, 2 * SEGMENT_ENTRIES)]);
}

#[test]
fn a_database_that_cannot_be_opened_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = lock::database_path(folder.path());
    let mut store = Running::open(folder.path());
    store.append(ORIGIN, &chunk(1, 5_000, 0, 60));
    store.wait_synced();
    store.close();
    let whole = fs::read(&path).unwrap();
    let torn = whole[..whole.len() / 2].to_vec();
    let mut headless = whole.clone();
    headless[..512].fill(0xee);
    for (round, bytes) in [torn, headless, b"not a database".to_vec()].into_iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(verify::verify(folder.path()), Err(StoreError::Damaged { .. })));
        let second = u64::try_from(round).unwrap() * 1_000_000;
        let begin = |incarnation| (incarnation, Vec::new());
        let settings = settings(folder.path(), Sync::Always);
        let opened = Store::open(&settings, second, begin, |shown: &mut Shown, origin, chunk| {
            shown.1.push((origin, chunk.clone()));
        });
        let store = Running::started(opened.unwrap());
        assert!(store.recovered.is_empty() && store.seen.is_empty());
        store.close();
        assert!(folder.path().join(format!("clique.redb.damaged-{round}")).exists());
    }
}

#[test]
fn flips_anywhere_are_damage_or_nothing_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = lock::database_path(folder.path());
    let mut store = Running::open(folder.path());
    for round in 0..30 {
        store.append(ORIGIN, &chunk(1 + round * 40, 40, 0, 10));
        store.wait_synced();
    }
    store.close();
    let whole = fs::read(&path).unwrap();
    let entries = chunk(1, 1_200, 0, 10).bytes;
    for place in (0..whole.len()).step_by(whole.len() / 60) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x55;
        fs::write(&path, bytes).unwrap();
        // An error is a sentence, and a start works in any case.
        let verified = verify::verify(folder.path()).map(|report| report.sound);
        assert!(!matches!(verified, Err(StoreError::InUse { .. })));
        let refused = |error: &StoreError| matches!(error, StoreError::Newer { .. } | StoreError::OtherNode { .. });
        let opened = Store::open(
            &settings(folder.path(), Sync::Always),
            1,
            |_| Vec::new(),
            |seen: &mut Vec<Chunk>, _, chunk| seen.push(chunk.clone()),
        );
        match opened {
            Ok(opened) => {
                for chunk in opened.state {
                    let part = &chunk.bytes[..];
                    assert!(entries.windows(part.len()).any(|window| window == part), "changed entries are shown");
                }
            }
            Err(error) => assert!(refused(&error), "{error}"),
        }
    }
}

#[test]
fn what_was_not_given_is_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Running::without_journal(folder.path());
    store.append(ORIGIN, &chunk(1, 10, 0, 20));
    store.wait_synced();
    store.append(ORIGIN, &chunk(21, 10, 0, 20));
    assert!(matches!(store.next(), FromStore::Damaged { first: 11, last: 20, .. }));
    store.wait_synced();
    store.say(|sequence| ToStore::Repair { sequence, origin: ORIGIN, chunk: chunk(11, 10, 0, 20) });
    store.wait_synced();
    store.close();
    let store = Running::open(folder.path());
    assert_eq!(store.of_origin(ORIGIN).chain.hash(), whole_chain(&[chunk(1, 30, 0, 20)]).hash());
    store.close();
}
