//! Entries that are got from one peer piece by piece, and hashed as they come.

use super::{Chain, Chunk, LinkId, Origin, Stretch};

/// A peer that has not sent what it was asked for within this time is passed over, or asked anew, in milliseconds.
const MAX_ANSWER_MS: u64 = 1_000;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) link: LinkId,
    pub(super) origin: Origin,
    /// The running hash over what has come.
    pub(super) chain: Chain,
    /// What has come since it was last asked for something.
    chunks: Vec<Chunk>,
    /// Up to which entry it was asked for, and until when the answer is waited for.
    asked: Option<(u64, u64)>,
}

/// What a piece has come to.
#[derive(Debug)]
pub(super) enum Fetched {
    /// The rest is to be asked for.
    Ask(Stretch),
    /// That is all that was asked for.
    Whole(Vec<Chunk>),
}

impl Fetch {
    /// What follows a hash that is known.
    pub(super) fn after(link: LinkId, origin: Origin, chain: Chain) -> Self {
        Self { link, origin, chain, chunks: Vec::new(), asked: None }
    }

    /// Asks for what follows, up to an entry.
    pub(super) fn ask(&mut self, last: u64, now_ms: u64) -> (LinkId, Stretch) {
        self.asked = Some((last, now_ms + MAX_ANSWER_MS));
        (self.link, Stretch { origin: self.origin, first: self.chain.height() + 1, last })
    }

    pub(super) fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether the peer has had its time.
    pub(super) fn is_late(&self, now_ms: u64) -> bool {
        self.asked.is_some_and(|(_, until_ms)| now_ms >= until_ms)
    }

    /// Takes a piece. `None` if it is not the next of what was asked for.
    pub(super) fn take(&mut self, link: LinkId, origin: Origin, chunk: Chunk, now_ms: u64) -> Option<Fetched> {
        let (last, until_ms) = self.asked.as_mut()?;
        let is_next = chunk.first == self.chain.height() + 1 && chunk.last() <= *last;
        if (link, origin) != (self.link, self.origin) || !is_next {
            return None;
        }
        *until_ms = now_ms + MAX_ANSWER_MS;
        self.chain.push(&chunk);
        self.chunks.push(chunk);
        let last = *last;
        if self.chain.height() < last {
            return Some(Fetched::Ask(Stretch { origin, first: self.chain.height() + 1, last }));
        }
        self.asked = None;
        Some(Fetched::Whole(std::mem::take(&mut self.chunks)))
    }
}
