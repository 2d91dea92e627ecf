//! Deliberate faults, to prove that the checker bites. A run without any must be clean; a run with one must not.

use clique::clique::Heights;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Now and then what a node writes to somebody vanishes on a connection that stays up.
    LoseWrites,
    /// Now and then it is written twice.
    WriteTwice,
    /// A resuming client claims one message more than it had from each origin.
    SkipOnResume,
    /// A resuming client claims one message less.
    ForgetOnResume,
    /// A disk says that it has synced, and has not.
    SkipSync,
}

impl Fault {
    pub fn on_resuming(self, received: &Heights) -> Heights {
        let shifted = |height: u64| match self {
            Self::SkipOnResume => height + 1,
            Self::ForgetOnResume => height.saturating_sub(1),
            _ => height,
        };
        received.iter().map(|(origin, height)| (origin, shifted(height))).collect()
    }
}
