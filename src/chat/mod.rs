//! What people say: names, addressees, messages, who is here, and the sentences that the service itself speaks.
//!
//! Pure: no async, sockets, clocks, disks, locks, tracing or random sources. Times come in as hybrid logical
//! times (`u64`, see `clique::time`), nodes as their index (`u16`). Knows nothing of replication.

pub mod change;
pub mod command;
pub mod directory;
pub mod few;
pub mod ledger;
pub mod message;
pub mod name;
pub mod notice;
pub mod passphrase;

pub use change::{EntryId, StateChange};
pub use command::Command;
pub use directory::{Directory, Person};
pub use ledger::Ledger;
pub use message::{Addressee, Message, Registration, Trace};
pub use name::{Name, NameError, SERVICE_NAME};
pub use passphrase::Passphrase;
