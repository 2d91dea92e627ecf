//! Damage in the last, incomplete segment of a log.

use super::*;

#[test]
fn what_is_sound_behind_damage_is_handed_over_and_joined_again() {
    let folder = tempfile::tempdir().unwrap();
    let chunks: Vec<Chunk> = (0..4).map(|round| chunk(1 + round * 50, 50, 0, 60)).collect();
    let mut store = Running::open(folder.path());
    for chunk in &chunks {
        store.append(ORIGIN, chunk);
        store.wait_synced();
    }
    store.threads.close();
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
    store.threads.close();
    let store = Running::open(folder.path());
    let recovered = store.of_origin(ORIGIN);
    assert_eq!(recovered.chain.hash(), whole_chain(&chunks).hash());
    assert_eq!((recovered.chain.height(), recovered.damaged.len(), recovered.aside.len()), (200, 0, 0));
    store.threads.close();
}
