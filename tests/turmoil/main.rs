//! Whole nodes with their sockets, tasks, gRPC and store over a simulated network that is cut, held, slow, and loses hosts, and
//! over simulated disks that are slow, full, and at a power cut forget what was not synced; people in the lines and the
//! extended dialect; and a model that checks what each of them must have heard. Every run follows from its seed.
//!
//! What the hub decides is simulated in `tests/simulation`, a thousand times faster. Here it is the shell that is proved:
//! sessions, doors, dialler, links, and the store with its database.
//!
//! - `CLIQUE_TURMOIL_SEEDS=500 cargo test --test turmoil` runs more seeds than the default.
//! - `CLIQUE_TURMOIL_SEED=7 cargo test --test turmoil cuts -- --nocapture` replays one, and prints its transcript.

mod checks;
#[path = "../simulation/dice.rs"]
mod dice;
mod disk;
mod faults;
mod hearing;
mod model;
mod nodes;
mod person;
mod probe;
mod scenario;
mod scene;
mod sockets;
mod stage;
mod themes;
#[path = "../simulation/transcript.rs"]
mod transcript;
mod world;
