//! Log entries: the hot part of the peer protocol, written and read by hand, without an allocation per message.
//!
//! The encoding is that of `Entry` in `proto/clique/v1/peer.proto`, each entry with the tag that it has inside
//! `Entries`, so that stored bytes go on the wire as they are. A test holds this file against the generated types.

mod alike;
mod writer;

use bytes::Bytes;

pub use self::alike::EntryReader;
pub use self::writer::{ChunkBuilder, Envelope, Letter, put_varint, varint_bytes};
use super::{
    WireError,
    fields::{FIXED64, LENGTH, Malformed, Reader, VARINT, Value},
    proto::read_change,
};
use crate::{
    chat::{Addressee, Message, Registration, StateChange, Trace},
    clique::{Chunk, Dependencies, Origin},
};

const fn tag(field: u8, wire_type: u64) -> u8 {
    (field << 3) | wire_type.to_le_bytes()[0]
}

/// Tag of an entry inside `Entries`.
pub const ENTRY_TAG: u8 = tag(4, LENGTH);

/// Tags that are read where they are expected.
const TIME: u8 = tag(1, FIXED64);
const DEPENDENCY: u8 = tag(2, LENGTH);
const MESSAGE: u8 = tag(3, LENGTH);
const SENDER: u8 = tag(1, LENGTH);
const SENDER_REGISTRATION: u8 = tag(2, LENGTH);
const PERSON: u8 = tag(3, LENGTH);
const EVERYONE: u8 = tag(4, LENGTH);
const TEXT: u8 = tag(5, LENGTH);
const ROOM: u8 = tag(8, LENGTH);
const NAME: u8 = tag(1, LENGTH);
const REGISTRATION: u8 = tag(2, LENGTH);
const NODE: u8 = tag(2, VARINT);

impl From<Malformed> for WireError {
    fn from(_: Malformed) -> Self {
        Self::Malformed("log entry")
    }
}

impl<'a> Reader<'a> {
    /// The body of the next entry.
    #[inline(always)]
    fn entry(&mut self) -> Result<&'a [u8], Malformed> {
        let (tag, rest) = self.0.split_first().ok_or(Malformed)?;
        if *tag != ENTRY_TAG {
            return Err(Malformed);
        }
        self.0 = rest;
        let length = self.varint()?;
        self.take(length)
    }
}

/// Finds where each of the entries from a peer ends, and what they depend on. Also gives the latest time among them.
///
/// What they say is read where it is wanted: a body that cannot be read is passed over there, as one of a later version.
///
/// # Errors
/// If they are not entries.
pub fn read_chunk(first: u64, bytes: Bytes) -> Result<(Chunk, u64), WireError> {
    let (ends, dependencies, latest) = outline(first, &bytes)?;
    if ends.is_empty() || first == 0 || first.checked_add(ends.len() as u64).is_none() {
        return Err(Malformed.into());
    }
    Ok((Chunk { first, bytes, ends: ends.into(), dependencies: dependencies.into() }, latest))
}

type Outline = (Vec<u32>, Vec<(u64, Dependencies)>, u64);

fn outline(first: u64, bytes: &[u8]) -> Result<Outline, Malformed> {
    let mut reader = Reader(bytes);
    let (mut ends, mut dependencies, mut latest) = (Vec::new(), Vec::new(), 0);
    while !reader.0.is_empty() {
        let entry = reader.entry()?;
        // Nearly all are a time and a message.
        if let [TIME, rest @ ..] = entry
            && let Some((time, [MESSAGE, ..])) = rest.split_first_chunk()
        {
            latest = latest.max(u64::from_le_bytes(*time));
        } else {
            let (time, needs) = read_head(entry)?;
            latest = latest.max(time);
            if !needs.is_empty() {
                dependencies.push((first + ends.len() as u64, needs));
            }
        }
        let end = bytes.len() - reader.0.len();
        if ends.is_empty() {
            // The rest is most often of the same size.
            ends.reserve(1 + reader.0.len() / end);
        }
        ends.push(u32::try_from(end).map_err(|_| Malformed)?);
    }
    Ok((ends, dependencies, latest))
}

/// The time of an entry, and what it depends on. What it says comes last, and is not looked at.
fn read_head(entry: &[u8]) -> Result<(u64, Dependencies), Malformed> {
    let mut fields = Reader(entry);
    let (mut latest, mut needs) = (0, Dependencies::new());
    loop {
        match fields.field()? {
            Some((1, Value::Number(time))) => latest = time,
            Some((2, Value::Bytes(bytes))) => needs.push(read_dependency(bytes)?),
            _ => return Ok((latest, needs)),
        }
    }
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

/// Whom an entry is for, as far as it says so before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// This person and nobody else: of no interest where they are not.
    Person(Registration),
    /// Everybody, a room, somebody's mailbox, or whoever a state change is about; or it says so in a way of its own.
    Anybody,
}

/// The entries of a chunk with their numbers, as far as they can be read.
pub fn entries(chunk: &Chunk) -> impl Iterator<Item = (u64, EntryView<'_>)> {
    let mut rest = &chunk.bytes[..];
    (chunk.first..).map_while(move |number| {
        let (view, length) = read_entry(rest).ok()?;
        rest = &rest[length..];
        Some((number, view))
    })
}

/// Goes through the entries of a chunk: whom each is for, and its bytes.
///
/// Entries of one conversation begin alike: whoever was found out for one is known for the next.
#[derive(Debug)]
pub struct Walk<'a> {
    rest: Reader<'a>,
    /// How the last message began, up to behind its addressee.
    envelope: &'a [u8],
    whom: Whom,
}

impl<'a> Walk<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: Reader(bytes), envelope: &[], whom: Whom::Anybody }
    }

    fn whom(&mut self, entry: &'a [u8]) -> Whom {
        let Some((_, message)) = as_written(entry) else { return Whom::Anybody };
        if !self.envelope.is_empty() && message.0.starts_with(self.envelope) {
            return self.whom;
        }
        let mut reader = message;
        let fields = (reader.expect(SENDER), reader.expect(SENDER_REGISTRATION), reader.expect(PERSON));
        let (Some(_), Some(_), Some(person)) = fields else { return Whom::Anybody };
        self.whom = match read_person(person) {
            Ok(PersonView { registration, is_owner: false, .. }) => Whom::Person(registration),
            _ => Whom::Anybody,
        };
        self.envelope = &message.0[..message.0.len() - reader.0.len()];
        self.whom
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = (Whom, &'a [u8]);

    /// The end of the chunk, or of what can be read of it.
    fn next(&mut self) -> Option<Self::Item> {
        let before = self.rest.0;
        let entry = self.rest.entry().ok()?;
        Some((self.whom(entry), &before[..before.len() - self.rest.0.len()]))
    }
}

/// The time and the message of an entry as this program writes it: what it depends on between them, and nothing behind.
fn as_written(entry: &[u8]) -> Option<(u64, Reader<'_>)> {
    let [TIME, rest @ ..] = entry else { return None };
    let (time, rest) = rest.split_first_chunk()?;
    let mut reader = Reader(rest);
    while reader.expect(DEPENDENCY).is_some() {}
    let message = reader.expect(MESSAGE)?;
    reader.0.is_empty().then_some((u64::from_le_bytes(*time), Reader(message)))
}

/// Reads the first entry of `bytes`, and says how many bytes it has. What cannot be read of it is unknown.
///
/// # Errors
/// If it is none.
pub fn read_entry(bytes: &[u8]) -> Result<(EntryView<'_>, usize), WireError> {
    let mut reader = Reader(bytes);
    let mut fields = Reader(reader.entry()?);
    let mut view = EntryView { time: 0, body: Body::Unknown };
    while let Ok(Some((field, value))) = fields.field() {
        match (field, value) {
            (1, Value::Number(value)) => view.time = value,
            (3, Value::Bytes(bytes)) => {
                view.body = read_message(bytes).ok().flatten().map_or(Body::Unknown, Body::Message);
            }
            (4, Value::Bytes(bytes)) => {
                let change = read_change(bytes).ok().flatten();
                view.body = change.map_or(Body::Unknown, |change| Body::Change(Box::new(change)));
            }
            _ => {}
        }
    }
    Ok((view, bytes.len() - reader.0.len()))
}

fn read_dependency(bytes: &[u8]) -> Result<(Origin, u64), Malformed> {
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
fn read_pair(bytes: &[u8], number_field: u64, node_field: u64) -> Result<(u64, u16), Malformed> {
    let mut reader = Reader(bytes);
    let (mut number, mut node) = (0, 0);
    while let Some((field, value)) = reader.field()? {
        if let Value::Number(value) = value {
            if field == number_field {
                number = value;
            } else if field == node_field {
                node = u16::try_from(value).map_err(|_| Malformed)?;
            }
        }
    }
    Ok((number, node))
}

fn read_registration(bytes: &[u8]) -> Result<Registration, Malformed> {
    if let [TIME, time @ .., NODE, node] = bytes
        && let (Ok(time), true) = (<[u8; 8]>::try_from(time), *node < 0x80)
    {
        return Ok(Registration { time: u64::from_le_bytes(time), node: (*node).into() });
    }
    let (time, node) = read_pair(bytes, 1, 2)?;
    Ok(Registration { time, node })
}

fn read_text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// `None` if it is for an addressee that only a later version knows.
fn read_message(bytes: &[u8]) -> Result<Option<Message<'_>>, Malformed> {
    let mut reader = Reader(bytes);
    // In the order in which they are written; whatever is left comes after, in any order.
    let mut sender = reader.expect(SENDER).map_or(Ok(""), read_text)?;
    let mut registration = reader.expect(SENDER_REGISTRATION).map(read_registration).transpose()?;
    let mut to = reader.expect(PERSON).map(read_addressee).transpose()?;
    let (mut text, mut receipts, mut trace): (&[u8], _, _) = (&[], false, None);
    while let Some((field, value)) = reader.field()? {
        match (field, value) {
            (1, Value::Bytes(bytes)) => sender = read_text(bytes)?,
            (2, Value::Bytes(bytes)) => registration = Some(read_registration(bytes)?),
            (3, Value::Bytes(bytes)) => to = Some(read_addressee(bytes)?),
            (4, Value::Bytes(_)) => to = Some(Addressee::Everyone),
            (5, Value::Bytes(bytes)) => text = bytes,
            (6, Value::Number(value)) => receipts = value != 0,
            (7, Value::Bytes(bytes)) => trace = read_trace(bytes)?,
            (8, Value::Bytes(bytes)) => to = Some(Addressee::Room(read_room(bytes)?)),
            _ => {}
        }
    }
    let sender_registration = registration.ok_or(Malformed)?;
    Ok(to.map(|to| Message { sender, sender_registration, to, text, receipts, trace }))
}

fn read_room(bytes: &[u8]) -> Result<&str, Malformed> {
    let mut reader = Reader(bytes);
    let mut room = "";
    while let Some((field, value)) = reader.field()? {
        if let (1, Value::Bytes(bytes)) = (field, value) {
            room = read_text(bytes)?;
        }
    }
    Ok(room)
}

fn read_addressee(bytes: &[u8]) -> Result<Addressee<'_>, Malformed> {
    let PersonView { name, registration, is_owner } = read_person(bytes)?;
    let name = read_text(name)?;
    Ok(if is_owner { Addressee::Owner(name, registration) } else { Addressee::Person(name, registration) })
}

/// A person as an addressee.
struct PersonView<'a> {
    name: &'a [u8],
    registration: Registration,
    is_owner: bool,
}

fn read_person(bytes: &[u8]) -> Result<PersonView<'_>, Malformed> {
    let mut reader = Reader(bytes);
    let mut name = reader.expect(NAME).unwrap_or_default();
    let mut registration = reader.expect(REGISTRATION).map(read_registration).transpose()?;
    let mut is_owner = false;
    while let Some((field, value)) = reader.field()? {
        match (field, value) {
            (1, Value::Bytes(bytes)) => name = bytes,
            (2, Value::Bytes(bytes)) => registration = Some(read_registration(bytes)?),
            (3, Value::Number(value)) => is_owner = value != 0,
            _ => {}
        }
    }
    Ok(PersonView { name, registration: registration.ok_or(Malformed)?, is_owner })
}

fn read_trace(bytes: &[u8]) -> Result<Option<Trace>, Malformed> {
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

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
