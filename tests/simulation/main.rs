//! Whole cliques in one thread: nodes, a network that fails, people of every dialect, and a model that checks what each
//! of them must have seen. Every run follows from its seed.
//!
//! - `CLIQUE_SIM_SEEDS=1000 cargo test --test simulation` runs more seeds than the default.
//! - `CLIQUE_SIM_SEED=7 cargo test --test simulation cuts` replays one, and prints its transcript.

mod checks;
mod dice;
mod disk;
mod disks;
mod expecting;
mod faults;
mod meeting;
mod model;
mod network;
mod node;
mod person;
mod reading;
mod scenario;
mod set;
mod stories;
mod themes;
mod transcript;
mod wiring;
mod world;
