//! State changes: what is so from now on. They are log entries like messages, and are merged without regard to their
//! order (see [`ledger`](super::ledger)).

use super::{Registration, directory::KeyHash};

/// An entry of the log, wherever it is: the node that accepted it, which life of that node, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    pub node: u16,
    pub incarnation: u64,
    pub number: u64,
}

/// Something that is so from a moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// When it was made (hybrid logical time). A copy, appended when the original is about to be cut, keeps it.
    pub time: u64,
    pub kind: ChangeKind,
}

/// What is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    Claim(Claim),
    Membership(Membership),
    Topic(Topic),
    Read(Read),
    Session(Session),
}

/// A name has an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// As its owner wrote it.
    pub name: String,
    /// The owner: the stay during which the name was first claimed, for ever.
    pub registration: Registration,
    /// Where and when (hybrid logical time) it was first claimed.
    pub node: u16,
    pub claimed: u64,
    /// argon2id, as a PHC string.
    pub passphrase_hash: String,
}

/// Somebody is in a room, or not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// With its `#`, and as names are compared.
    pub room: String,
    pub registration: Registration,
    pub is_member: bool,
}

/// What a room is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// With its `#`, and as names are compared.
    pub room: String,
    /// Empty: nothing any more.
    pub text: String,
}

/// How far the owner of a claimed name has had what was sent to it, on whatever device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub registration: Registration,
    /// Of each origin the last entry that was had, and with it all that were sent before it.
    pub heights: Vec<EntryId>,
}

/// Whose a registration is, if its name is not claimed: that of the client with this session key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    /// As its holder wrote it.
    pub name: String,
    pub registration: Registration,
    pub key_hash: KeyHash,
}
