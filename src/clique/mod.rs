//! How nodes agree: replicated origin logs.
//!
//! Every node keeps an append-only log of what it accepted, its *origin log*, numbered 1, 2, 3 … without gaps. Every
//! node copies every origin's log. Everything else is derived from that: a link that was cut resumes because the
//! peer's height is lower; a slow reader is a cursor that lags; an entry that a third node has can be had from it.
//!
//! The invariant: for each origin a replica holds exactly the entries from `first` to `height`; it has *applied* a
//! prefix of them; and it applies an entry only after everything that the accepting node had applied before it. What it
//! tells peers to hold, a crash does not take: that is on the disk, where there is one.
//!
//! Pure: no async, sockets, clocks, disks, locks, tracing or random sources; what an entry says is opaque here.
//! Time comes in as an argument, so a clique of five replays from a seed in milliseconds.

mod adoption;
pub mod chain;
pub mod chunk;
pub mod damage;
mod fetch;
pub mod handshake;
pub mod heights;
mod keeping;
pub mod log;
pub mod members;
pub mod replica;
pub mod retention;
pub mod sources;
pub mod time;

pub use adoption::TakenOver;
pub use chain::Chain;
pub use chunk::{Chunk, Dependencies};
pub use damage::{Damage, Repaired, Stretch};
pub use handshake::{Handshake, HandshakeError, Secret};
pub use heights::{Heights, Held};
pub use log::{Log, Stored};
pub use members::{Member, Members};
pub use replica::{Received, Replica, Run, Write};
pub use retention::{Keep, Retention};
pub use time::HybridClock;

/// One life of one node: each start is a new incarnation, so an entry's number is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The node's index in the clique.
    pub node: u16,
    /// Unix time of the start, in microseconds; only its being distinct matters.
    pub incarnation: u64,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:x}", self.node, self.incarnation)
    }
}

/// A link to a peer, as long as it lives; never used twice in one process.
pub type LinkId = u64;
