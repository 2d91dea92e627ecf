//! Clique: chat without a centre.
//!
//! A handful of equal nodes, each joined to every other. A person connects to any of them and talks to anyone on any of
//! them. There is no leader, no quorum and no database: a clique that is cut in two keeps chatting on both sides and
//! becomes one again, with nothing lost and nothing doubled, when the cut heals.
//!
//! # The map
//!
//! | room | | what it knows |
//! |---|---|---|
//! | [`chat`] | pure | names, who is here, messages, the sentences of the service |
//! | [`clique`] | pure | origins, logs, heights, anti-entropy, membership, the proof of the secret |
//! | [`wire`] | pure | bytes ⇄ types: frames, lines, extended frames, the messages between nodes |
//! | [`node`] | shell | sockets, tasks, the clock; in it the [hub](node::hub), which is pure and decides everything |
//! | [`client`] | shell | the terminal client |
//! | [`bench`](mod@bench) | shell | the load generator |
//! | [`config`] | shell | the only reader of files, environment and flags |
//! | [`telemetry`] | shell | logs and spans |
//! | [`up`], [`health`], [`status`](mod@status) | shell | a clique in one process; the health check; the state of all nodes |
//!
//! # The way of a message
//!
//! `socket → session` (parse a whole read's worth) `→ router → hub` (one writer: number, append, route) `→ log → link`
//! (a cursor: everything since, as one batch) `→ gRPC stream → the peer's link → its hub → its log and its sessions'
//! outputs → socket` (as few writes as possible).
//!
//! # The laws, kept by `tests/house.rs`
//!
//! - [`chat`] and [`clique`] know nothing of each other, nor of async, sockets, clocks, disks, locks, tracing or random
//!   sources. Time comes in as an argument, so a clique of five replays from a seed in milliseconds.
//! - [`wire`] has no sockets, clocks or async beyond the gRPC codec's traits; one file of it knows generated types.
//! - The doors of a [`node`] know the router's handle, never each other and never the log.
//! - The hub never waits: not for a client, not for a peer. What has no room is fed from the log later.
//! - Nothing that came from a socket, a disk or the environment can panic the process.

// Nothing that came from a socket, a disk or the environment may end the process.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod bench;
pub mod chat;
pub mod client;
pub mod clique;
pub mod config;
pub mod health;
pub mod http;
pub mod node;
pub mod status;
pub mod telemetry;
pub mod up;
pub mod wire;
