//! Messages and state changes into the entries of a chunk.

use super::{ENTRY_TAG, FIXED64, LENGTH, VARINT, tag};
use crate::{
    chat::{Addressee, Message, Registration, StateChange, Trace},
    clique::{Chunk, Dependencies, Origin},
    wire::proto::change_body,
};

/// Bytes of a trace context, as a field of its own inside a message.
const TRACE_BYTES: usize = 18 + 10;

/// Bytes of a varint.
#[must_use]
pub fn varint_bytes(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn put_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(tag(field, LENGTH));
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn field_bytes(length: usize) -> usize {
    1 + varint_bytes(length as u64) + length
}

fn put_registration(out: &mut Vec<u8>, field: u8, registration: Registration) {
    out.push(tag(field, LENGTH));
    put_varint(out, (9 + 1 + varint_bytes(registration.node.into())) as u64);
    out.push(tag(1, FIXED64));
    out.extend_from_slice(&registration.time.to_le_bytes());
    out.push(tag(2, VARINT));
    put_varint(out, registration.node.into());
}

fn put_person(out: &mut Vec<u8>, name: &str, registration: Registration, is_owner: bool) {
    let mut person = Vec::with_capacity(name.len() + 20);
    put_field(&mut person, 1, name.as_bytes());
    put_registration(&mut person, 2, registration);
    if is_owner {
        person.extend_from_slice(&[tag(3, VARINT), 1]);
    }
    put_field(out, 3, &person);
}

fn put_dependency(out: &mut Vec<u8>, origin: Origin, height: u64) {
    let origin_bytes = 1 + varint_bytes(origin.node.into()) + 9;
    out.push(tag(2, LENGTH));
    put_varint(out, (field_bytes(origin_bytes) + 1 + varint_bytes(height)) as u64);
    out.push(tag(1, LENGTH));
    put_varint(out, origin_bytes as u64);
    out.push(tag(1, VARINT));
    put_varint(out, origin.node.into());
    out.push(tag(2, FIXED64));
    out.extend_from_slice(&origin.incarnation.to_le_bytes());
    out.push(tag(2, VARINT));
    put_varint(out, height);
}

/// Who says something to whom: the part that messages of one conversation share, encoded once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope(Box<[u8]>);

impl Envelope {
    #[must_use]
    pub fn new(sender: &str, sender_registration: Registration, to: Addressee<'_>) -> Self {
        let mut out = Vec::with_capacity(sender.len() + to.as_str().len() + 48);
        put_field(&mut out, 1, sender.as_bytes());
        put_registration(&mut out, 2, sender_registration);
        match to {
            Addressee::Person(name, registration) => put_person(&mut out, name, registration, false),
            Addressee::Owner(name, registration) => put_person(&mut out, name, registration, true),
            Addressee::Everyone => put_field(&mut out, 4, &[]),
            Addressee::Room(room) => {
                out.push(tag(8, LENGTH));
                put_varint(&mut out, field_bytes(room.len()) as u64);
                put_field(&mut out, 1, room.as_bytes());
            }
        }
        Self(out.into())
    }
}

/// What is in the envelope.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    pub text: &'a [u8],
    pub receipts: bool,
    pub trace: Option<Trace>,
}

/// Collects the entries of one batch into a chunk.
#[derive(Debug, Default)]
pub struct ChunkBuilder {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    dependencies: Dependencies,
}

impl ChunkBuilder {
    /// `dependencies` go into the first entry: the batch is accepted at one moment.
    #[must_use]
    pub fn new(dependencies: Dependencies) -> Self {
        Self::with_capacity(dependencies, 0, 0)
    }

    /// One with room for so many entries, and so many bytes of them, from the start.
    #[must_use]
    pub fn with_capacity(dependencies: Dependencies, entries: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(entries), dependencies }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Entries so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Encodes one message.
    pub fn push(&mut self, time: u64, message: &Message<'_>) {
        let Message { sender, sender_registration, to, text, receipts, trace } = *message;
        self.push_letter(time, &Envelope::new(sender, sender_registration, to), &Letter { text, receipts, trace });
    }

    /// Encodes one message whose envelope is.
    pub fn push_letter(&mut self, time: u64, envelope: &Envelope, letter: &Letter<'_>) {
        let Letter { text, receipts, trace } = *letter;
        let trace_bytes = if trace.is_some() { field_bytes(TRACE_BYTES) } else { 0 };
        let bytes = envelope.0.len() + field_bytes(text.len()) + 2 * usize::from(receipts) + trace_bytes;
        self.push_body(time, 3, bytes, |out| {
            out.extend_from_slice(&envelope.0);
            put_field(out, 5, text);
            if receipts {
                out.extend_from_slice(&[tag(6, VARINT), 1]);
            }
            if let Some(trace) = trace {
                out.push(tag(7, LENGTH));
                put_varint(out, TRACE_BYTES as u64);
                put_field(out, 1, &trace.trace_id);
                put_field(out, 2, &trace.span_id);
            }
        });
    }

    /// Encodes one state change.
    pub fn push_change(&mut self, time: u64, change: &StateChange) {
        let body = change_body(change);
        self.push_body(time, 4, body.len(), |out| out.extend_from_slice(&body));
    }

    pub(super) fn push_body(&mut self, time: u64, field: u8, body_bytes: usize, put: impl FnOnce(&mut Vec<u8>)) {
        let mut dependencies = Vec::new();
        if self.ends.is_empty() {
            for (origin, height) in &self.dependencies {
                put_dependency(&mut dependencies, *origin, *height);
            }
        }
        let entry_bytes = 9 + dependencies.len() + field_bytes(body_bytes);
        let out = &mut self.bytes;
        out.reserve(field_bytes(entry_bytes));
        out.push(ENTRY_TAG);
        put_varint(out, entry_bytes as u64);
        let mut head = [tag(1, FIXED64), 0, 0, 0, 0, 0, 0, 0, 0];
        head[1..].copy_from_slice(&time.to_le_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(&dependencies);
        out.push(tag(field, LENGTH));
        put_varint(out, body_bytes as u64);
        put(out);
        // A chunk is bounded by what one turn of the router takes, far below 4 GiB.
        self.ends.push(u32::try_from(out.len()).unwrap_or(u32::MAX));
    }

    /// The chunk, its first entry numbered `first`.
    #[must_use]
    pub fn finish(self, first: u64) -> Chunk {
        let dependencies = if self.dependencies.is_empty() { Vec::new() } else { vec![(first, self.dependencies)] };
        // The log keeps it: room for more would be memory that its bound does not see.
        let bytes = self.bytes.into_boxed_slice();
        Chunk { first, bytes: bytes.into(), ends: self.ends.into(), dependencies: dependencies.into() }
    }
}
