//! What happens to a client.

use jiff::Timestamp;

use crate::wire::extended::{Delivery, NodesChanged, PeopleChanged, Receipt, Registered, RoomsChanged, Why};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A node did not take the connection; others are tried.
    Unreachable { address: String, reason: String },
    /// Registered at a node, for the first time or again.
    Registered { address: String, registered: Box<Registered> },
    /// The node does not give the name: another must be chosen, or its passphrase given, or `retry_after_ms` waited for.
    NameRefused { name: String, reason: String, why: Why, retry_after_ms: u64 },
    /// The connection was lost; other nodes are tried.
    Lost { reason: String },
    /// Somebody said something, now or before.
    Message(Box<Delivery>),
    /// A message of one's own is on its way. Its reference is never used again by this process.
    Sent { reference: u64, to: String, text: String },
    /// What became of a message.
    Receipt(Box<Receipt>),
    /// The connection was lost before the node answered. Unless it was `written` it was certainly not taken.
    NotAnswered { reference: u64, written: bool },
    /// A sentence from the node.
    Notice(String),
    /// Who came and left.
    People(PeopleChanged),
    /// The state of the nodes.
    Nodes(NodesChanged),
    /// All the rooms that one is in.
    Rooms(RoomsChanged),
    /// The name is one's own now.
    Claimed { name: String },
    /// One has another name now.
    Renamed { name: String, reason: String },
}

/// Why a message has no receipt, as scripts and people are told.
#[must_use]
pub fn no_answer(written: bool) -> &'static str {
    if written {
        "the connection was lost before the node answered; it may or may not have been taken"
    } else {
        "not sent: no node could be reached"
    }
}

/// The sentence for somebody whose passphrase is not the right one.
#[must_use]
pub fn wrong_passphrase(name: &str) -> String {
    format!("that is not the passphrase of {name}")
}

/// When a message was accepted; a time past the calendar becomes its end.
#[must_use]
pub fn accepted_at(message: &Delivery) -> Timestamp {
    let millisecond = i64::try_from(message.time_unix_ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millisecond).unwrap_or(Timestamp::MAX)
}
