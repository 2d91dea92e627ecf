//! What the hub and the disk say to each other. The hub never waits for the disk: it says what is to be written and
//! read, goes on, and hears of it later.

use crate::clique::{Chain, Chunk, Origin, chain::Hash};

/// Something for the disk to do. Writes are carried out in order; many make one transaction.
#[derive(Debug, Clone)]
pub enum ToStore {
    /// Entries that follow those of their origin that were written before, or the cut; and the running hash at each segment
    /// boundary among them. `sequence` counts writes up.
    Entries { sequence: u64, origin: Origin, chunk: Chunk, boundaries: Box<[(u64, Hash)]> },
    /// Nothing before `first` is kept of this origin. `hash` is the running hash at `first - 1`. If the origin held less
    /// than that, it goes on at `first`.
    Cut { sequence: u64, origin: Origin, first: u64, hash: Hash },
    /// Entries in place of a stretch that is damaged, or of others, exactly.
    Repair { sequence: u64, origin: Origin, chunk: Chunk },
    /// The running hash from where it begins to the height, in place of what it was.
    Rehash { sequence: u64, origin: Origin, chain: Box<Chain> },
    /// Asks for entries of one origin from `from` on, up to about so many bytes, at least one entry.
    Read { id: u64, origin: Origin, from: u64, max_bytes: usize },
}

impl ToStore {
    /// `None` where nothing is written.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        match self {
            Self::Entries { sequence, .. }
            | Self::Cut { sequence, .. }
            | Self::Repair { sequence, .. }
            | Self::Rehash { sequence, .. } => Some(*sequence),
            Self::Read { .. } => None,
        }
    }
}

/// What the hub hears from the disk.
#[derive(Debug, Clone)]
pub enum FromStore {
    /// Everything up to this sequence is on the disk, as far as the settings ask for that.
    Synced { sequence: u64 },
    /// The answer to a read: a chunk that begins at or before `from`, checked; `None` if there is nothing there.
    Read { id: u64, chunk: Option<Chunk> },
    /// These entries cannot be read back as they were written. They are to be had from a peer, and then repaired.
    Damaged { origin: Origin, first: u64, last: u64 },
    /// Nothing can be written, for this reason; it is tried again by itself, and nothing that was given is forgotten.
    Unwritable { reason: String },
    /// Writing works again.
    Writable,
}

/// What was on the disk of one origin when it was opened.
#[derive(Debug, Clone)]
pub struct Recovered {
    pub origin: Origin,
    /// The first entry that is kept; `height + 1` if none is.
    pub first: u64,
    pub height: u64,
    /// The running hash up to the height.
    pub chain: Chain,
    /// Stretches within `first..=height` that cannot be read back as they were written, first and last entry.
    pub damaged: Vec<(u64, u64)>,
    /// The latest entries, without a gap up to the height, to begin with in memory.
    pub tail: Vec<Chunk>,
    /// What is sound behind damage in the last, incomplete segment, where no hash tells that it belongs there: it goes on
    /// from there once what is missing has been had from a peer.
    pub aside: Vec<Chunk>,
}
