//! Disks that are full, for a while.

use std::{process::Command, sync::atomic::Ordering};

use super::{medium::Sizes, watched::Watched, *};

fn fill_up(store: &mut Running, mut next: u64, count: u64) -> (u64, String) {
    loop {
        store.append(ORIGIN, &chunk(next, count, 0, 400));
        next += count;
        match store.next() {
            FromStore::Synced { .. } => {}
            FromStore::Unwritable { reason } => return (next, reason),
            other => panic!("{other:?}"),
        }
    }
}

fn hold_out(mut store: Running, count: u64, is_synced: bool, make_room: impl FnOnce()) {
    let (next, reason) = fill_up(&mut store, 1, count);
    assert!(reason.contains("nothing can be written to") && reason.contains("os error 28"), "{reason}");
    // Reading what is on the disk goes on, and what comes in meanwhile is not forgotten.
    assert!(!is_synced || store.read(ORIGIN, 1, 10).0.unwrap().first == 1);
    store.append(ORIGIN, &chunk(next, 100, 0, 400));
    assert!(!is_synced || store.read(ORIGIN, 50, 10).0.unwrap().first == 50);
    make_room();
    // What the journal takes meanwhile is synced.
    let word = std::iter::repeat_with(|| store.next()).find(|word| !matches!(word, FromStore::Synced { .. }));
    assert!(matches!(word, Some(FromStore::Writable)), "{word:?}");
    store.wait_synced();
    assert_eq!(store.read(ORIGIN, next + 99, 10).0.unwrap().last(), next + 99);
    store.close();
}

/// With so many entries at once.
fn on_full_disk(sync: Sync, count: u64) {
    let folder = tempfile::tempdir().unwrap();
    let medium = Watched::of(folder.path(), 3 << 20, Sizes::default());
    let room_bytes = medium.room_bytes.clone();
    let settings = settings(folder.path(), sync);
    let begin = |incarnation| (incarnation, Vec::new());
    let opened = Store::open_on(medium, &settings, 1, begin, |shown: &mut Shown, origin, chunk| {
        shown.1.push((origin, chunk.clone()));
    });
    let make_room = || room_bytes.store(1 << 30, Ordering::Relaxed);
    hold_out(Running::started(opened.unwrap()), count, sync == Sync::Always, make_room);
    assert!(count == 100 || lock::packs_path(folder.path()).exists(), "long rows go into packs");
    assert!(verify::verify(folder.path()).unwrap().sound);
    let store = Running::open(folder.path());
    let recovered = store.of_origin(ORIGIN);
    assert!(recovered.damaged.is_empty());
    let whole = whole_chain(&[chunk(1, recovered.height, 0, 400)]);
    assert_eq!(recovered.chain.hash(), whole.hash());
    store.close();
}

#[test]
fn a_full_disk_is_said_and_written_to_again_when_there_is_room() {
    on_full_disk(Sync::Always, 100);
    on_full_disk(Sync::Always, 1_000);
}

#[test]
fn what_was_not_yet_synced_when_the_disk_was_full_is_written_again() {
    for count in [100, 1_000] {
        on_full_disk(Sync::Interval(Duration::from_millis(5)), count);
        on_full_disk(Sync::Never, count);
    }
}

/// A real full disk, where this user may mount one.
#[test]
fn a_real_full_disk_is_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        let status = Command::new(arguments[0]).args(&arguments[1..]).arg(folder.path()).status();
        status.is_ok_and(|status| status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs"]) {
        println!("skipped: nothing can be mounted here");
        return;
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let ballast = folder.path().join("ballast");
        fs::write(&ballast, vec![0; 40 << 20]).unwrap();
        hold_out(Running::open(&folder.path().join("data")), 100, true, || fs::remove_file(ballast).unwrap());
    }));
    assert!(mount(&["umount"]));
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}
