//! What comes from a client.

use bytes::Bytes;

use super::{Mark, Submissions, Verdict};
use crate::{
    chat::{Command, Passphrase, Registration, directory::KeyHash},
    clique::{Heights, Origin},
    wire::{Dialect, peer::Awaited},
};

/// What comes from a client.
#[derive(Debug)]
pub enum FromClient {
    Opened {
        dialect: Dialect,
    },
    Register(Box<Registering>),
    /// Messages, in the order in which they were sent.
    Submit(Submissions),
    Command(Command),
    /// Type 5 of the original protocol.
    ListNodes,
    /// Type 6 of the original protocol.
    Echo,
    /// Type 7 of the original protocol.
    Goodbye,
    /// Something to say to the client from its own connection: a line too long, an unknown command.
    Tell(String),
    /// It sends nothing more; what it sent is still answered.
    HalfClosed,
    /// Its passphrase has been hashed; `None` if that cannot be done now.
    Hashed(Option<String>),
    /// Its passphrase has been compared.
    Checked(Verdict),
    /// Its output has room again.
    Drained,
    /// These were written to its socket.
    Written(Vec<Mark>),
    /// It is gone; these were not written any more.
    Closed {
        unwritten: Vec<Mark>,
    },
}

/// A request for a name.
#[derive(Debug, Clone, Default)]
pub struct Registering {
    pub name: Bytes,
    /// Only from extended clients.
    pub key_hash: Option<KeyHash>,
    pub resume: Option<Resume>,
    /// Of a claimed name.
    pub passphrase: Option<Passphrase>,
    /// How many of the latest messages to show first; only from extended clients, the settings say it for lines.
    pub history: usize,
}

/// Where a client goes on that was connected before.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// What it has received.
    pub received: Heights,
    /// Under this registration; `None` if it does not say.
    pub registration: Option<Registration>,
    /// All that it has had in this session, the first one first.
    pub formers: Vec<Registration>,
    /// What it has sent.
    pub sent: Vec<(Origin, u64)>,
    /// Of what it has sent, that whose receipts it still waits for.
    pub unsettled: Vec<(Origin, Awaited)>,
}

impl Resume {
    /// The registrations that it says it has had, the first of all first.
    pub(super) fn registrations(&self) -> impl Iterator<Item = Registration> {
        self.formers.iter().copied().chain(self.registration)
    }
}
