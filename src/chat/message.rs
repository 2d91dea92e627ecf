//! A message: who said what to whom.

/// One person's stay under a name: when it began, on which node.
///
/// It says *which* holder of a name is meant (during a split a name can have two), and it survives a resumed
/// connection. Earlier registrations win conflicts, so the order is part of the meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Registration {
    /// Hybrid logical time.
    pub time: u64,
    /// Index of the node that gave the name out.
    pub node: u16,
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressee<'a> {
    /// One person: the name as its holder wrote it, and which holder.
    Person(&'a str, Registration),
    /// The owner of a claimed name: the message waits until one of the owner's devices has had it.
    Owner(&'a str, Registration),
    /// Everybody in the clique, the sender excepted.
    Everyone,
    /// Everybody in a room, the sender excepted: its name with `#`, as names are compared.
    Room(&'a str),
}

/// W3C trace context of a sampled message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
}

/// What somebody said, borrowed from wherever its bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    pub sender: &'a str,
    pub sender_registration: Registration,
    pub to: Addressee<'a>,
    /// UTF-8 by convention; original clients may send anything.
    pub text: &'a [u8],
    /// The sender's client shows receipts, so deliveries are reported back.
    pub receipts: bool,
    pub trace: Option<Trace>,
}

/// The sign for everyone.
pub const EVERYONE: &str = "*";

/// Longest body of an original frame, in bytes (the length field is a positive `i16`); it bounds every message.
pub const MAX_BODY_BYTES: usize = 32_767;

impl<'a> Addressee<'a> {
    /// As people write it.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        match self {
            Self::Person(name, _) | Self::Owner(name, _) | Self::Room(name) => name,
            Self::Everyone => EVERYONE,
        }
    }

    /// Whether it is for one person alone, and for whom.
    #[must_use]
    pub fn person(&self) -> Option<Registration> {
        match self {
            Self::Person(_, registration) | Self::Owner(_, registration) => Some(*registration),
            Self::Everyone | Self::Room(_) => None,
        }
    }
}

impl Message<'_> {
    /// Most bytes of text that can go from `sender` to `to`: the delivered frame holds both names, two separators and the text.
    #[must_use]
    pub fn max_text_bytes(sender: &str, to: &str) -> usize {
        MAX_BODY_BYTES - sender.len() - to.len() - 2
    }
}
