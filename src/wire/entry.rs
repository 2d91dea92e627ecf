//! Log entries: the hot part of the peer protocol, written and read by hand, without an allocation per message.
//!
//! The encoding is that of `Entry` in `proto/clique/v1/peer.proto`, each entry with the tag that it has inside
//! `Entries`, so that stored bytes go on the wire as they are. A test holds this file against the generated types.

use bytes::Bytes;

use super::{
    WireError,
    proto::{change_body, read_change},
};
use crate::{
    chat::{Addressee, Message, Registration, StateChange, Trace},
    clique::{Chunk, Dependencies, Origin},
};

/// Wire types of the protobuf encoding.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

const fn tag(field: u8, wire_type: u64) -> u8 {
    (field << 3) | wire_type.to_le_bytes()[0]
}

/// Tag of an entry inside `Entries`.
pub const ENTRY_TAG: u8 = tag(4, LENGTH);

const MALFORMED: WireError = WireError::Malformed("log entry");

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

fn registration_bytes(registration: Registration) -> usize {
    9 + 1 + varint_bytes(registration.node.into())
}

fn put_registration(out: &mut Vec<u8>, field: u8, registration: Registration) {
    out.push(tag(field, LENGTH));
    put_varint(out, registration_bytes(registration) as u64);
    out.push(tag(1, FIXED64));
    out.extend_from_slice(&registration.time.to_le_bytes());
    out.push(tag(2, VARINT));
    put_varint(out, registration.node.into());
}

fn person_bytes(name: &str, registration: Registration, is_owner: bool) -> usize {
    field_bytes(name.len()) + field_bytes(registration_bytes(registration)) + 2 * usize::from(is_owner)
}

fn put_person(out: &mut Vec<u8>, name: &str, registration: Registration, is_owner: bool) {
    out.push(tag(3, LENGTH));
    put_varint(out, person_bytes(name, registration, is_owner) as u64);
    put_field(out, 1, name.as_bytes());
    put_registration(out, 2, registration);
    if is_owner {
        out.extend_from_slice(&[tag(3, VARINT), 1]);
    }
}

fn message_bytes(message: &Message<'_>) -> usize {
    let to = match message.to {
        Addressee::Person(name, registration) => field_bytes(person_bytes(name, registration, false)),
        Addressee::Owner(name, registration) => field_bytes(person_bytes(name, registration, true)),
        Addressee::Everyone => 2,
        Addressee::Room(room) => field_bytes(field_bytes(room.len())),
    };
    field_bytes(message.sender.len())
        + field_bytes(registration_bytes(message.sender_registration))
        + to
        + field_bytes(message.text.len())
        + 2 * usize::from(message.receipts)
        + if message.trace.is_some() { field_bytes(18 + 10) } else { 0 }
}

fn put_message(out: &mut Vec<u8>, message: &Message<'_>) {
    put_field(out, 1, message.sender.as_bytes());
    put_registration(out, 2, message.sender_registration);
    match message.to {
        Addressee::Person(name, registration) => put_person(out, name, registration, false),
        Addressee::Owner(name, registration) => put_person(out, name, registration, true),
        Addressee::Everyone => put_field(out, 4, &[]),
        Addressee::Room(room) => {
            out.push(tag(8, LENGTH));
            put_varint(out, field_bytes(room.len()) as u64);
            put_field(out, 1, room.as_bytes());
        }
    }
    put_field(out, 5, message.text);
    if message.receipts {
        out.extend_from_slice(&[tag(6, VARINT), 1]);
    }
    if let Some(trace) = &message.trace {
        out.extend_from_slice(&[tag(7, LENGTH), 18 + 10]);
        put_field(out, 1, &trace.trace_id);
        put_field(out, 2, &trace.span_id);
    }
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
        Self { dependencies, ..Self::default() }
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

    /// Encodes one message.
    pub fn push(&mut self, time: u64, message: &Message<'_>) {
        self.push_body(time, 3, message_bytes(message), |out| put_message(out, message));
    }

    /// Encodes one state change.
    pub fn push_change(&mut self, time: u64, change: &StateChange) {
        let body = change_body(change);
        self.push_body(time, 4, body.len(), |out| out.extend_from_slice(&body));
    }

    fn push_body(&mut self, time: u64, field: u8, body_bytes: usize, put: impl FnOnce(&mut Vec<u8>)) {
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
        out.push(tag(1, FIXED64));
        out.extend_from_slice(&time.to_le_bytes());
        out.extend_from_slice(&dependencies);
        out.push(tag(field, LENGTH));
        put_varint(out, body_bytes as u64);
        put(out);
        // A chunk is bounded by what one turn of the router takes, far below 4 GiB.
        self.ends.push(u32::try_from(out.len()).unwrap_or(u32::MAX));
    }

    /// The chunk, its first entry numbered `first`.
    #[must_use]
    pub fn finish(mut self, first: u64) -> Chunk {
        // The log keeps it: room for more would be memory that its bound does not see.
        self.bytes.shrink_to_fit();
        let dependencies = if self.dependencies.is_empty() { Vec::new() } else { vec![(first, self.dependencies)] };
        Chunk { first, bytes: self.bytes.into(), ends: self.ends.into(), dependencies: dependencies.into() }
    }
}

/// Checks entries from a peer and finds where each ends. Also gives the latest time among them.
///
/// # Errors
/// If they are not entries, each with a body that can be read or that a later version has thought of.
pub fn read_chunk(first: u64, bytes: Bytes) -> Result<(Chunk, u64), WireError> {
    let mut reader = Reader(&bytes);
    let (mut ends, mut dependencies, mut latest) = (Vec::new(), Vec::new(), 0);
    while !reader.0.is_empty() {
        let entry = reader.entry()?;
        read_body(
            entry,
            |view| latest = latest.max(view.time),
            |needs| {
                dependencies.push((first + ends.len() as u64, needs));
            },
        )?;
        ends.push(u32::try_from(bytes.len() - reader.0.len()).map_err(|_| MALFORMED)?);
    }
    if ends.is_empty() || first == 0 || first.checked_add(ends.len() as u64).is_none() {
        return Err(MALFORMED);
    }
    Ok((Chunk { first, bytes, ends: ends.into(), dependencies: dependencies.into() }, latest))
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryView<'a> {
    /// Hybrid logical time of acceptance.
    pub time: u64,
    pub body: Body<'a>,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body<'a> {
    Message(Message<'a>),
    Change(Box<StateChange>),
    /// Something of a later version: kept and passed on, and otherwise passed over.
    Unknown,
}

impl<'a> EntryView<'a> {
    /// The message, if it is one.
    #[must_use]
    pub fn message(&self) -> Option<&Message<'a>> {
        match &self.body {
            Body::Message(message) => Some(message),
            Body::Change(_) | Body::Unknown => None,
        }
    }
}

/// Reads the first entry of `bytes`, and says how many bytes it has.
///
/// # Errors
/// If it is none.
pub fn read_entry(bytes: &[u8]) -> Result<(EntryView<'_>, usize), WireError> {
    let mut reader = Reader(bytes);
    let body = reader.entry()?;
    let mut view = None;
    read_body(body, |read| view = Some(read), |_| {})?;
    Ok((view.ok_or(MALFORMED)?, bytes.len() - reader.0.len()))
}

fn read_body<'a>(
    body: &'a [u8],
    view: impl FnOnce(EntryView<'a>),
    with_dependencies: impl FnOnce(Dependencies),
) -> Result<(), WireError> {
    let mut reader = Reader(body);
    let (mut time, mut said, mut needs) = (0, Body::Unknown, Dependencies::new());
    while let Some((field, value)) = reader.field()? {
        match (field, value) {
            (1, Value::Number(value)) => time = value,
            (2, Value::Bytes(bytes)) => needs.push(read_dependency(bytes)?),
            (3, Value::Bytes(bytes)) => said = read_message(bytes)?.map_or(Body::Unknown, Body::Message),
            (4, Value::Bytes(bytes)) => {
                said = read_change(bytes)?.map_or(Body::Unknown, |change| Body::Change(Box::new(change)));
            }
            _ => {}
        }
    }
    view(EntryView { time, body: said });
    if !needs.is_empty() {
        with_dependencies(needs);
    }
    Ok(())
}

fn read_dependency(bytes: &[u8]) -> Result<(Origin, u64), WireError> {
    let mut reader = Reader(bytes);
    let (mut origin, mut height) = (Origin { node: 0, incarnation: 0 }, 0);
    while let Some((field, value)) = reader.field()? {
        match (field, value) {
            (1, Value::Bytes(bytes)) => {
                let (incarnation, node) = read_pair(bytes, 2, 1)?;
                origin = Origin { node, incarnation };
            }
            (2, Value::Number(value)) => height = value,
            _ => {}
        }
    }
    Ok((origin, height))
}

/// A large number and a node index, as in `Origin` and `Registration`.
fn read_pair(bytes: &[u8], number_field: u64, node_field: u64) -> Result<(u64, u16), WireError> {
    let mut reader = Reader(bytes);
    let (mut number, mut node) = (0, 0);
    while let Some((field, value)) = reader.field()? {
        if let Value::Number(value) = value {
            if field == number_field {
                number = value;
            } else if field == node_field {
                node = u16::try_from(value).map_err(|_| MALFORMED)?;
            }
        }
    }
    Ok((number, node))
}

fn read_registration(bytes: &[u8]) -> Result<Registration, WireError> {
    let (time, node) = read_pair(bytes, 1, 2)?;
    Ok(Registration { time, node })
}

fn read_text(bytes: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| MALFORMED)
}

/// `None` if it is for an addressee that only a later version knows.
fn read_message(bytes: &[u8]) -> Result<Option<Message<'_>>, WireError> {
    let mut reader = Reader(bytes);
    let (mut sender, mut registration, mut to) = ("", None, None);
    let (mut text, mut receipts, mut trace): (&[u8], _, _) = (&[], false, None);
    while let Some((field, value)) = reader.field()? {
        match (field, value) {
            (1, Value::Bytes(bytes)) => sender = read_text(bytes)?,
            (2, Value::Bytes(bytes)) => registration = Some(read_registration(bytes)?),
            (3, Value::Bytes(bytes)) => to = Some(read_person(bytes)?),
            (4, Value::Bytes(_)) => to = Some(Addressee::Everyone),
            (5, Value::Bytes(bytes)) => text = bytes,
            (6, Value::Number(value)) => receipts = value != 0,
            (7, Value::Bytes(bytes)) => trace = read_trace(bytes)?,
            (8, Value::Bytes(bytes)) => to = Some(Addressee::Room(read_room(bytes)?)),
            _ => {}
        }
    }
    let sender_registration = registration.ok_or(MALFORMED)?;
    Ok(to.map(|to| Message { sender, sender_registration, to, text, receipts, trace }))
}

fn read_room(bytes: &[u8]) -> Result<&str, WireError> {
    let mut reader = Reader(bytes);
    let mut room = "";
    while let Some((field, value)) = reader.field()? {
        if let (1, Value::Bytes(bytes)) = (field, value) {
            room = read_text(bytes)?;
        }
    }
    Ok(room)
}

fn read_person(bytes: &[u8]) -> Result<Addressee<'_>, WireError> {
    let mut reader = Reader(bytes);
    let (mut name, mut registration, mut is_owner) = ("", None, false);
    while let Some((field, value)) = reader.field()? {
        match (field, value) {
            (1, Value::Bytes(bytes)) => name = read_text(bytes)?,
            (2, Value::Bytes(bytes)) => registration = Some(read_registration(bytes)?),
            (3, Value::Number(value)) => is_owner = value != 0,
            _ => {}
        }
    }
    let registration = registration.ok_or(MALFORMED)?;
    Ok(if is_owner { Addressee::Owner(name, registration) } else { Addressee::Person(name, registration) })
}

fn read_trace(bytes: &[u8]) -> Result<Option<Trace>, WireError> {
    let mut reader = Reader(bytes);
    let (mut trace_id, mut span_id) = (None, None);
    while let Some((field, value)) = reader.field()? {
        match (field, value) {
            (1, Value::Bytes(bytes)) => trace_id = bytes.try_into().ok(),
            (2, Value::Bytes(bytes)) => span_id = bytes.try_into().ok(),
            _ => {}
        }
    }
    Ok(trace_id.zip(span_id).map(|(trace_id, span_id)| Trace { trace_id, span_id }))
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads protobuf fields off a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(MALFORMED)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(MALFORMED)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], WireError> {
        let count = usize::try_from(count).map_err(|_| MALFORMED)?;
        let (taken, rest) = self.0.split_at_checked(count).ok_or(MALFORMED)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next field; `None` at the end. Unknown fields come too, so that later versions can add some.
    fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            VARINT => Value::Number(self.varint()?),
            FIXED64 => Value::Number(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| MALFORMED)?)),
            LENGTH => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            FIXED32 => Value::Bytes(self.take(4)?),
            _ => return Err(MALFORMED),
        };
        Ok(Some((key >> 3, value)))
    }

    /// The body of the next entry.
    fn entry(&mut self) -> Result<&'a [u8], WireError> {
        let (tag, rest) = self.0.split_first().ok_or(MALFORMED)?;
        if *tag != ENTRY_TAG {
            return Err(MALFORMED);
        }
        self.0 = rest;
        let length = self.varint()?;
        self.take(length)
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
