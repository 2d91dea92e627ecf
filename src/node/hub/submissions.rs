//! Messages on their way from a client's session to the hub.

use super::Sampled;
use crate::chat::message::EVERYONE;

/// Messages of one client that came together, in their order, in one piece of memory.
#[derive(Debug, Default)]
pub struct Submissions {
    received_unix_us: u64,
    /// Of each message the addressee and then the text.
    bytes: Vec<u8>,
    messages: Vec<Place>,
    /// Of these, how many were dropped, and where the next begins.
    dropped: usize,
    begin: usize,
    to_everyone: usize,
}

#[derive(Debug)]
struct Place {
    text_begin: usize,
    end: usize,
    reference: u64,
    /// In a box, since few are.
    sampled: Option<Box<Sampled>>,
}

/// One message as it came from its sender.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    pub to: &'a [u8],
    pub text: &'a [u8],
    /// The client's own number for it; receipts name it.
    pub reference: u64,
    pub sampled: Option<Sampled>,
    pub received_unix_us: u64,
}

impl Submissions {
    #[must_use]
    pub fn new(received_unix_us: u64) -> Self {
        Self { received_unix_us, ..Self::default() }
    }

    /// Makes room for so many more, and so many bytes of them.
    pub fn reserve(&mut self, messages: usize, bytes: usize) {
        self.messages.reserve(messages);
        self.bytes.reserve(bytes);
    }

    /// Adds a message. `reference` is the client's own number for it.
    pub fn push(&mut self, to: &[u8], text: &[u8], reference: u64, sampled: Option<Sampled>) {
        self.bytes.extend_from_slice(to);
        let text_begin = self.bytes.len();
        self.bytes.extend_from_slice(text);
        self.messages.push(Place { text_begin, end: self.bytes.len(), reference, sampled: sampled.map(Box::new) });
        self.to_everyone += usize::from(to == EVERYONE.as_bytes());
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len() - self.dropped
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of those that were added are to everyone.
    #[must_use]
    pub fn to_everyone(&self) -> usize {
        self.to_everyone
    }

    /// The first of those that are left.
    #[must_use]
    pub fn first(&self) -> Option<Submission<'_>> {
        let Place { text_begin, end, reference, sampled } = self.messages.get(self.dropped)?;
        Some(Submission {
            to: &self.bytes[self.begin..*text_begin],
            text: &self.bytes[*text_begin..*end],
            reference: *reference,
            sampled: sampled.as_deref().copied(),
            received_unix_us: self.received_unix_us,
        })
    }

    /// Drops that one.
    pub fn drop_first(&mut self) {
        if let Some(place) = self.messages.get(self.dropped) {
            (self.begin, self.dropped) = (place.end, self.dropped + 1);
        }
    }
}
