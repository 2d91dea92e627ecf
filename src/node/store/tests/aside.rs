//! Damage in the last, incomplete segment of a log; and entries in place of others that were not damaged.

use super::*;

#[test]
fn what_is_sound_behind_damage_is_handed_over_and_joined_again() {
    let folder = tempfile::tempdir().unwrap();
    let chunks: Vec<Chunk> = (0..4).map(|round| chunk(1 + round * 50, 50, 0, 60)).collect();
    let mut store = Running::without_journal(folder.path());
    for chunk in &chunks {
        store.append(ORIGIN, chunk);
        store.wait_synced();
    }
    store.close();
    flip(&lock::database_path(folder.path()), "entry 60 of flavour 0");

    let mut store = Running::open(folder.path());
    let recovered = store.of_origin(ORIGIN);
    assert_eq!((recovered.height, recovered.chain.height(), &recovered.damaged[..]), (200, 50, &[(51, 100)][..]));
    let places = |chunks: &[Chunk]| chunks.iter().map(|chunk| (chunk.first, chunk.last())).collect::<Vec<_>>();
    assert_eq!(places(&recovered.aside), [(101, 150), (151, 200)]);
    assert_eq!(store.seen.len(), 3, "what is derived from entries is derived from these too");

    // What was missing has come from a peer, and what follows goes on from there.
    for chunk in &chunks[1..] {
        store.append(ORIGIN, chunk);
    }
    store.wait_synced();
    store.close();
    let store = Running::open(folder.path());
    let recovered = store.of_origin(ORIGIN);
    assert_eq!(recovered.chain.hash(), whole_chain(&chunks).hash());
    assert_eq!((recovered.chain.height(), recovered.damaged.len(), recovered.aside.len()), (200, 0, 0));
    store.close();
}

#[test]
fn what_another_node_holds_takes_the_place_of_what_is_here() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Running::open(folder.path());
    store.append(ORIGIN, &chunk(1, 700, 0, 60));
    store.wait_synced();
    // Shorter ones, from the second segment on; and what follows was the same.
    let pieces = [chunk(1, 256, 0, 60), chunk(257, 100, 9, 20), chunk(357, 200, 9, 20), chunk(557, 144, 0, 60)];
    for piece in pieces[1..3].iter().cloned() {
        store.say(|sequence| ToStore::Repair { sequence, origin: ORIGIN, chunk: piece });
    }
    let whole = whole_chain(&pieces);
    let mut chain = Chain::from_boundary(256, whole.hash_at(256).unwrap());
    pieces[1..].iter().for_each(|piece| chain.push(piece));
    store.chains.insert(ORIGIN, chain.clone());
    store.say(|sequence| ToStore::Rehash { sequence, origin: ORIGIN, chain: Box::new(chain) });
    let after = chunk(701, 100, 0, 60);
    store.append(ORIGIN, &after);
    store.wait_synced();
    store.close();

    let store = Running::open(folder.path());
    let recovered = store.of_origin(ORIGIN);
    let whole = whole_chain(&[&pieces[..], &[after]].concat());
    assert_eq!((recovered.height, &recovered.damaged[..]), (800, &[][..]));
    assert_eq!(recovered.chain.hash(), whole.hash());
    assert!(recovered.chain.boundaries().eq(whole.boundaries()));
    store.close();
}
