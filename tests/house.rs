//! The laws of the house, read off the sources: who may know whom.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Rust files of a folder or of one file, without test modules.
fn sources(place: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(place);
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    if root.is_file() {
        found.push(root.clone());
        folders.clear();
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {place}: has it moved?");
    found.into_iter().map(|path| (path.clone(), code(&fs::read_to_string(path).unwrap()))).collect()
}

/// A file's code: neither comments nor the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Whether a text has a word, not as part of a longer one.
fn says(text: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let open = |edge: Option<char>, inner: Option<char>| !(edge.is_some_and(is_name) && inner.is_some_and(is_name));
        open(before, word.chars().next()) && open(after, word.chars().next_back())
    })
}

/// Fails where a file of `place` says one of `words`.
fn forbid(place: &str, words: &[&str]) {
    let broken: Vec<String> = sources(place)
        .iter()
        .flat_map(|(path, text)| {
            words.iter().filter(|word| says(text, word)).map(|word| format!("{}: {word}", path.display()))
        })
        .collect();
    assert!(broken.is_empty(), "a law of the house is broken:\n{}", broken.join("\n"));
}

const IMPURE: [&str; 16] = [
    "async",
    ".await",
    "tokio",
    "std::net",
    "std::fs",
    "std::io",
    "std::time",
    "SystemTime",
    "Instant",
    "Mutex",
    "RwLock",
    "tracing",
    "opentelemetry",
    "rand::",
    "std::env",
    "unsafe",
];

#[test]
fn the_core_is_pure_and_its_two_halves_do_not_know_each_other() {
    forbid("chat", &IMPURE);
    forbid("clique", &IMPURE);
    forbid("chat", &["crate::clique", "crate::wire", "crate::node", "crate::config", "crate::telemetry"]);
    forbid("clique", &["crate::chat", "crate::wire", "crate::node", "crate::config", "crate::telemetry"]);
}

#[test]
fn the_hub_has_no_sockets_clocks_or_locks() {
    forbid("node/hub", &IMPURE);
    forbid("node/hub", &["router::", "outbox::", "session::", "crate::telemetry", "crate::config"]);
}

#[test]
fn the_wire_has_no_sockets_clocks_or_tasks() {
    forbid("wire", &IMPURE);
    forbid("wire", &["crate::node", "crate::client", "crate::config", "crate::telemetry"]);
    for (path, text) in sources("wire") {
        let is_proto = path.ends_with("wire/proto.rs");
        assert!(is_proto || !text.contains("prost::"), "{}: only wire/proto.rs knows prost", path.display());
    }
}

#[test]
fn doors_know_the_router_and_not_each_other_nor_the_log() {
    let doors = ["client_door", "peer_door", "web_door", "dialer", "session"];
    for door in ["node/client_door.rs", "node/peer_door.rs", "node/web_door.rs", "node/session.rs", "node/session"] {
        forbid(door, &["Replica", "clique::Log", "clique::log", "hub::Hub"]);
        let own = door.trim_start_matches("node/").trim_end_matches(".rs");
        // The client door opens sessions; that is what it is for.
        let allowed = |other: &str| other == own || (own, other) == ("client_door", "session");
        let others: Vec<String> =
            doors.iter().filter(|other| !allowed(other)).map(|other| format!("super::{other}")).collect();
        forbid(door, &others.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn only_config_reads_the_environment() {
    for place in [
        "chat",
        "clique",
        "wire",
        "node",
        "client",
        "up.rs",
        "health.rs",
        "http.rs",
        "status",
        "telemetry",
        "bench",
        "main.rs",
    ] {
        forbid(place, &["env::var", "env::vars"]);
    }
}
