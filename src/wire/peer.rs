//! What two nodes say to each other on their stream. `peer_codec` puts it there.

use bytes::Bytes;

use super::extended::ReceiptRun;
use crate::{
    chat::{Person, Registration},
    clique::{Heights, Held, Member, Origin, Stretch},
};

/// People that a receipt names; the rest is counted.
pub const MAX_RECIPIENT_NAMES: usize = 16;

/// Version of the peer protocol. Nodes of different versions do not link.
pub const PROTOCOL_VERSION: u32 = 3;

/// What nodes say to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerFrame {
    Challenge(Vec<u8>),
    Proof(Vec<u8>),
    Hello(Box<Hello>),
    Entries(Entries),
    Heartbeat {
        held: Vec<Held>,
        time: u64,
        outcomes_taken: u64,
    },
    Want {
        origin: Origin,
        from: u64,
        stop: bool,
    },
    Presence {
        joined: Vec<Person>,
        left: Vec<Registration>,
        quit: Vec<Registration>,
    },
    Reserve {
        ballot: u64,
        person: Person,
    },
    Vote {
        ballot: u64,
        granted: bool,
        former: Option<Box<Person>>,
        mail: Option<Box<Mail>>,
    },
    Outcomes {
        batch: u64,
        outcomes: Vec<Outcome>,
    },
    Members(Vec<Member>),
    /// Asks for these entries once, to repair a damaged stretch.
    WantRange(Stretch),
    /// The answer, or the first part of it.
    Range(Entries),
    Goodbye,
    Refusal(String),
    Report(Box<NodeReport>),
    Unsettled {
        client: u64,
        registration: Registration,
        awaited: Vec<Awaited>,
    },
    Receipts {
        client: u64,
        receipts: Vec<ReceiptRun>,
    },
}

/// Who a node is and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub protocol: u32,
    pub origin: Origin,
    pub advertise: String,
    pub chat_port: u16,
    pub held: Vec<Held>,
    pub people: Vec<Person>,
    pub expected: Vec<Expected>,
    pub time: u64,
    pub members: Vec<Member>,
}

/// Somebody whose connection to the sending node has just broken, and who is expected back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    pub person: Person,
    /// For how much longer, in milliseconds.
    pub for_ms: u64,
}

/// Consecutive entries of one origin, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    pub origin: Origin,
    pub first: u64,
    /// When the run was handed to the link, in Unix microseconds; 0 where nothing is traced.
    pub sent_unix_us: u64,
    pub bytes: Bytes,
}

/// What waits under a name for somebody whose node went away without a goodbye.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// To whom it was sent.
    pub registration: Registration,
    /// What that one's node is known to have had.
    pub received: Heights,
}

/// A message whose receipts are awaited by a client that has connected again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited {
    pub number: u64,
    /// The client's own number for it.
    pub reference: u64,
}

/// What became of a run of entries, of each the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub origin: Origin,
    pub first: u64,
    pub count: u64,
    /// People to whose connection each was written.
    pub delivered: u32,
    /// The addressee had left.
    pub gone: bool,
    /// Names of those people, `MAX_RECIPIENT_NAMES` at most.
    pub names: Vec<String>,
}

/// What a node says of itself, so that any node can be asked about all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeReport {
    /// Client connections.
    pub clients: u32,
    pub people: u32,
    /// The nodes that it is linked with.
    pub sees: Vec<u16>,
    pub is_stopping: bool,
    /// Why its store takes nothing at the moment; empty if it does, or if there is none.
    pub unwritable: String,
    /// Stretches of its log that cannot be read back as they were written.
    pub damaged: u32,
    /// Stretches on which its history and that of another node contradict each other.
    pub diverging: u32,
}

impl Outcome {
    /// An entry was written to this person's connection.
    #[must_use]
    pub fn delivered(origin: Origin, number: u64, name: String) -> Self {
        Self { origin, first: number, count: 1, delivered: 1, gone: false, names: vec![name] }
    }

    /// The addressee of an entry had left.
    #[must_use]
    pub fn gone(origin: Origin, number: u64) -> Self {
        Self { origin, first: number, count: 1, delivered: 0, gone: true, names: Vec::new() }
    }

    /// One more than the number of the last entry.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.count
    }
}

impl PeerFrame {
    /// About how much memory and wire it takes, in bytes.
    #[must_use]
    pub fn cost_bytes(&self) -> usize {
        const SMALL: usize = 64;
        const PERSON: usize = 160;
        match self {
            Self::Entries(entries) | Self::Range(entries) => SMALL + entries.bytes.len(),
            Self::Hello(hello) => {
                SMALL + (hello.people.len() + hello.expected.len()) * PERSON + hello.held.len() * SMALL
            }
            Self::Presence { joined, left, quit } => SMALL + joined.len() * PERSON + (left.len() + quit.len()) * SMALL,
            Self::Outcomes { outcomes, .. } => {
                let names = outcomes.iter().map(|outcome| outcome.names.len()).sum::<usize>();
                SMALL + (outcomes.len() + names) * SMALL
            }
            Self::Unsettled { awaited, .. } => SMALL + awaited.len() * SMALL,
            Self::Receipts { receipts, .. } => {
                let named = |run: &ReceiptRun| run.first.as_ref().map_or(0, |first| first.recipients_names.len());
                let names = receipts.iter().map(named).sum::<usize>();
                SMALL + receipts.len() * PERSON + names * SMALL
            }
            Self::Report(report) => SMALL + report.sees.len() * 2 + report.unwritable.len(),
            _ => SMALL,
        }
    }
}
