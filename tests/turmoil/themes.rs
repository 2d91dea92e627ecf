//! The tests: each theme over many seeds.

use std::{env, fs, path::PathBuf};

use crate::{
    faults::Fault,
    scenario::{self, Outcome, PLAIN, Theme},
};

/// Violations shown of a run; all are in its transcript.
const MAX_SHOWN: usize = 8;
/// Seeds per theme unless told otherwise.
const DEFAULT_SEEDS: u64 = 35;

const TALK: Theme = Theme { name: "talk", pause: 4, max_client_output_bytes: 2_000, ..PLAIN };
const ROAMING: Theme = Theme { name: "roaming", extended_percent: 80, roam: 20, ..PLAIN };
const CUTS: Theme = Theme { name: "cuts", cut: 6, ..PLAIN };
const HALF_OPEN: Theme = Theme { name: "half_open", hold: 6, roam: 4, ..PLAIN };
const CRASHES: Theme = Theme { name: "crashes", crash: 3, stop: 1, disks_percent: 0, ..PLAIN };
const DISKS: Theme = Theme { name: "disks", crash: 4, stop: 1, cut: 1, roam: 4, fill: 3, disks_percent: 100, ..PLAIN };
const EVERYTHING: Theme = Theme {
    name: "everything",
    cut: 3,
    hold: 3,
    crash: 1,
    stop: 1,
    roam: 5,
    pause: 4,
    max_client_output_bytes: 4_000,
    ..PLAIN
};

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// Where the transcript of a failed run goes.
fn keep(theme: &Theme, seed: u64, outcome: &Outcome) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("turmoil-{}-{seed}.txt", theme.name));
    fs::write(&path, &outcome.transcript).unwrap();
    path
}

fn check(theme: &Theme, seed: u64) {
    let outcome = scenario::run(theme, seed, None);
    if number("CLIQUE_TURMOIL_SEED").is_some() {
        println!("{}", outcome.transcript);
    }
    if !outcome.violations.is_empty() {
        let path = keep(theme, seed, &outcome);
        let shown: Vec<&str> = outcome.violations.iter().take(MAX_SHOWN).map(String::as_str).collect();
        panic!(
            "seed {seed} of {name} breaks a promise ({} violations):\n{}\n\nreplay: CLIQUE_TURMOIL_SEED={seed} cargo test --test turmoil {name}\ntranscript: {}",
            outcome.violations.len(),
            shown.join("\n"),
            path.display(),
            name = theme.name,
        );
    }
}

fn check_all(theme: &Theme) {
    if let Some(seed) = number("CLIQUE_TURMOIL_SEED") {
        check(theme, seed);
        return;
    }
    for seed in 0..number("CLIQUE_TURMOIL_SEEDS").unwrap_or(DEFAULT_SEEDS) {
        check(theme, seed);
    }
}

#[test]
fn talk() {
    check_all(&TALK);
}

#[test]
fn roaming() {
    check_all(&ROAMING);
}

#[test]
fn cuts() {
    check_all(&CUTS);
}

#[test]
fn half_open() {
    check_all(&HALF_OPEN);
}

#[test]
fn crashes() {
    check_all(&CRASHES);
}

#[test]
fn disks() {
    check_all(&DISKS);
}

#[test]
fn everything() {
    check_all(&EVERYTHING);
}

#[test]
fn a_run_follows_from_its_seed() {
    for (theme, seed) in [(&EVERYTHING, 0), (&EVERYTHING, 1), (&CRASHES, 2), (&DISKS, 3), (&DISKS, 4)] {
        let [one, other] = [0, 1].map(|_| scenario::run(theme, seed, None));
        assert_eq!(one.transcript, other.transcript, "seed {seed}");
        assert_eq!(one.fingerprint, other.fingerprint, "seed {seed}");
        assert!(one.messages > 0);
    }
}

fn is_found(fault: Fault, theme: &Theme) {
    let found = (0..DEFAULT_SEEDS).find(|seed| !scenario::run(theme, *seed, Some(fault)).violations.is_empty());
    assert!(found.is_some(), "{fault:?} goes unnoticed in {DEFAULT_SEEDS} runs of {}", theme.name);
}

#[test]
fn the_checker_finds_deliberate_faults() {
    is_found(Fault::LoseWrites, &ROAMING);
    is_found(Fault::WriteTwice, &ROAMING);
    is_found(Fault::SkipOnResume, &ROAMING);
    is_found(Fault::ForgetOnResume, &ROAMING);
    is_found(Fault::SkipSync, &DISKS);
}
