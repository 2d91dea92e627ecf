//! The tests: each theme over many seeds, seeds that once failed, and the faults that must be found.

use std::{env, fs, path::PathBuf};

use crate::{
    faults::{Fault, Faults},
    scenario::{self, Outcome, PLAIN, Theme},
};

/// Violations shown of a run; all are in its transcript.
const MAX_SHOWN: usize = 8;
/// Seeds per theme unless told otherwise.
const DEFAULT_SEEDS: u64 = 50;

const PLAIN_TALK: Theme = Theme { name: "plain_talk", ..PLAIN };
const CUTS: Theme = Theme { name: "cuts", nodes: (2, 7), cut: 8, ..PLAIN };
const CRASHES: Theme = Theme { name: "crashes", nodes: (1, 5), cut: 3, crash: 3, stop: 1, ..PLAIN };
const JOINS_AND_LEAVES: Theme =
    Theme { name: "joins_and_leaves", nodes: (3, 7), newcomers_percent: 40, stop: 4, crash: 1, cut: 2, ..DISKS };
const SLOW_READERS: Theme = Theme {
    name: "slow_readers",
    nodes: (1, 4),
    slow_percent: 50,
    never_percent: 10,
    burst: 20,
    leave: 0,
    max_client_bytes: 500,
    ..PLAIN
};
const EVICTION: Theme =
    Theme { name: "eviction", people: (3, 6), max_log_bytes: 16_000, slow_links_percent: 0, ..SLOW_READERS };
const EVICTION_IN_CUTS: Theme = Theme { name: "eviction_in_cuts", cut: 5, roam: 3, leave: 2, ..EVICTION };
const NAMES: Theme =
    Theme { name: "names", nodes: (2, 5), people: (4, 10), names: 4, cut: 10, join: 6, leave: 8, roam: 4, ..PLAIN };
const ROAMING: Theme =
    Theme { name: "roaming", nodes: (2, 5), extended_percent: 80, roam: 12, cut: 4, leave: 6, ..PLAIN };
const OWNERS: Theme = Theme {
    name: "owners",
    nodes: (2, 5),
    people: (3, 7),
    names: 8,
    cut: 5,
    crash: 1,
    roam: 6,
    leave: 8,
    claim: 6,
    room: 12,
    ..PLAIN
};
const EVERYTHING: Theme = Theme {
    name: "everything",
    cut: 6,
    crash: 1,
    stop: 1,
    roam: 6,
    leave: 4,
    join: 4,
    slow_percent: 20,
    never_percent: 3,
    max_client_bytes: 1_000,
    ..PLAIN
};

const DISKS: Theme = Theme {
    name: "disks",
    nodes: (2, 7),
    cut: 4,
    crash: 3,
    stop: 1,
    roam: 3,
    slow_percent: 20,
    max_log_bytes: 16_000,
    max_client_bytes: 1_000,
    disk_ms: Some(30),
    ..PLAIN
};
const SLOW_DISKS: Theme = Theme { name: "slow_disks", nodes: (2, 4), fill: 3, disk_ms: Some(400), ..DISKS };
const WIPED_DISKS: Theme = Theme { name: "wiped_disks", nodes: (2, 4), wipe: 2, crash: 1, ..DISKS };
const CONTRADICTIONS: Theme = Theme { name: "contradictions", nodes: (2, 5), contradict: 4, crash: 1, ..DISKS };
const DAMAGED_DISKS: Theme = Theme { name: "damaged_disks", nodes: (2, 4), damage: 2, crash: 1, ..DISKS };

const RETENTION: Theme = Theme {
    name: "retention",
    nodes: (1, 3),
    people: (3, 5),
    say: 100,
    burst: 150,
    crash: 1,
    max_kept_bytes: 40_000,
    duration_ms: (1_500, 3_000),
    ..DISKS
};
const AGE: Theme = Theme { name: "retention_by_age", max_kept_bytes: 0, max_kept_ms: 1_500, ..RETENTION };
const BLACKOUTS: Theme =
    Theme { name: "blackouts", nodes: (1, 5), extended_percent: 80, burst: 8, crash: 1, blackout: 2, roam: 4, ..DISKS };

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// Where the transcript of a failed run goes.
fn keep(theme: &Theme, seed: u64, outcome: &Outcome) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("simulation-{}-{seed}.txt", theme.name));
    fs::write(&path, &outcome.transcript).unwrap();
    path
}

fn check(theme: &Theme, seed: u64) -> Outcome {
    let outcome = scenario::run(theme, seed, Faults::default());
    if !outcome.violations.is_empty() {
        let path = keep(theme, seed, &outcome);
        let shown: Vec<&str> = outcome.violations.iter().take(MAX_SHOWN).map(String::as_str).collect();
        panic!(
            "seed {seed} of {} breaks a promise ({} violations):\n{}\n\nreplay: CLIQUE_SIM_SEED={seed} cargo test --test simulation {}\ntranscript: {}",
            theme.name,
            outcome.violations.len(),
            shown.join("\n"),
            theme.name,
            path.display()
        );
    }
    outcome
}

fn check_all(theme: &Theme) {
    if let Some(seed) = number("CLIQUE_SIM_SEED") {
        println!("{}", check(theme, seed).transcript);
        return;
    }
    for seed in 0..number("CLIQUE_SIM_SEEDS").unwrap_or(DEFAULT_SEEDS) {
        check(theme, seed);
    }
}

#[test]
fn plain_talk() {
    check_all(&PLAIN_TALK);
}

#[test]
fn cuts() {
    check_all(&CUTS);
}

#[test]
fn joins_and_leaves() {
    check_all(&JOINS_AND_LEAVES);
}

#[test]
fn crashes() {
    check_all(&CRASHES);
}

#[test]
fn slow_readers() {
    check_all(&SLOW_READERS);
}

#[test]
fn eviction() {
    check_all(&EVICTION);
}

#[test]
fn eviction_in_cuts() {
    check_all(&EVICTION_IN_CUTS);
}

#[test]
fn names() {
    check_all(&NAMES);
}

#[test]
fn roaming() {
    check_all(&ROAMING);
}

#[test]
fn disks() {
    check_all(&DISKS);
}

#[test]
fn slow_disks() {
    check_all(&SLOW_DISKS);
}

#[test]
fn wiped_disks() {
    check_all(&WIPED_DISKS);
}

#[test]
fn damaged_disks() {
    check_all(&DAMAGED_DISKS);
}

#[test]
fn contradictions() {
    check_all(&CONTRADICTIONS);
}

#[test]
fn retention() {
    check_all(&RETENTION);
}

#[test]
fn retention_by_age() {
    check_all(&AGE);
}

#[test]
fn blackouts() {
    check_all(&BLACKOUTS);
}

#[test]
fn owners() {
    check_all(&OWNERS);
}

#[test]
fn everything() {
    check_all(&EVERYTHING);
}

/// What was wrong, where a seed found it. The schedules have changed since, so each is only one more run; what must not
/// come back has its own test in `stories` or next to the code.
const ONCE_FAILED: [(&Theme, u64, &str); 18] = [
    (&CUTS, 0, "the late rest of a former request was taken for a hole, and 82 messages were given up"),
    (&PLAIN_TALK, 6, "the wait for what is answered was measured by a clock that jumped"),
    (&CRASHES, 14, "each of a row of entries waited three seconds for what was gone"),
    (&EVERYTHING, 2, "a resumed client got again what its new node received only later"),
    (&CUTS, 1, "what became of messages was lost with the link"),
    (&CRASHES, 11, "a restarted node took people of its former life for its own"),
    (&NAMES, 1, "the loser of a conflict took the winner off everybody's list"),
    (&CUTS, 8, "messages to somebody who had moved were reported as undelivered"),
    (&ROAMING, 14, "the claim of a node that somebody had left hid that of the one where they are"),
    (&EVERYTHING, 57, "the same, with a node that had restarted"),
    (&EVICTION, 1, "who resumed after their messages were dropped was not told"),
    (&EVICTION_IN_CUTS, 33, "what its origin had dropped to the last entry was waited for without end"),
    (&NAMES, 335, "mail under the name made a node forget what its new owner had had"),
    (&EVICTION_IN_CUTS, 1, "the hash after a hole, which nobody knows, was told as if it were known"),
    (&RETENTION, 4, "what was applied and evicted in one turn was taken for missing, by the model"),
    (&RETENTION, 17, "a log that began after a cut went on with another hash than that of the cut"),
    (&SLOW_DISKS, 21, "a reader behind memory was fed one row at a time, by the model's disk"),
    (&SLOW_READERS, 18, "an output went on after a part of it had been dropped"),
];

#[test]
fn seeds_that_once_failed() {
    for (theme, seed, what) in ONCE_FAILED {
        let outcome = scenario::run(theme, seed, Faults::default());
        assert!(outcome.violations.is_empty(), "{what} (seed {seed} of {}): {:?}", theme.name, outcome.violations);
    }
}

#[test]
fn a_run_follows_from_its_seed() {
    for seed in 0..3 {
        let [one, other] = [0, 1].map(|_| scenario::run(&EVERYTHING, seed, Faults::default()));
        assert_eq!(one.fingerprint, other.fingerprint, "seed {seed}");
        assert!(one.messages > 0);
    }
}

fn is_found(fault: Fault, theme: &Theme) {
    let seeds = 0..DEFAULT_SEEDS;
    let found = seeds.into_iter().find(|seed| !scenario::run(theme, *seed, Faults(Some(fault))).violations.is_empty());
    assert!(found.is_some(), "{fault:?} goes unnoticed in {DEFAULT_SEEDS} runs of {}", theme.name);
}

#[test]
fn the_checker_finds_deliberate_faults() {
    is_found(Fault::DropEntries, &PLAIN_TALK);
    is_found(Fault::DeliverTwice, &PLAIN_TALK);
    is_found(Fault::Reorder, &PLAIN_TALK);
    is_found(Fault::SkipOnResume, &ROAMING);
    is_found(Fault::ForgetOnResume, &ROAMING);
    is_found(Fault::DropWhenFull, &SLOW_READERS);
    is_found(Fault::GiveNamesTwice, &NAMES);
    is_found(Fault::LoseOutcomes, &PLAIN_TALK);
    is_found(Fault::SkipSync, &DISKS);
    is_found(Fault::ReuseNumbers, &DISKS);
    is_found(Fault::ForgetHeight, &DISKS);
}
