//! Entries one after the other: of messages of one conversation, what they say alike is read once.

use super::{
    Body, EVERYONE, EntryView, PERSON, ROOM, SENDER, SENDER_REGISTRATION, TEXT, as_written, read_entry, read_trace,
};
use crate::{
    chat::Message,
    wire::{
        WireError,
        fields::{Reader, Value},
    },
};

/// See the module's head. Gives the same as [`read_entry`] for each.
#[derive(Debug, Default)]
pub struct EntryReader<'a> {
    /// How the last message began, up to its text, and what that says.
    last: Option<(&'a [u8], Message<'a>)>,
}

impl<'a> EntryReader<'a> {
    /// Reads the next entry.
    ///
    /// # Errors
    /// As `read_entry`.
    pub fn read(&mut self, bytes: &'a [u8]) -> Result<EntryView<'a>, WireError> {
        let written = Reader(bytes).entry().ok().and_then(as_written);
        if let Some((time, message)) = written
            && let Some(message) = self.alike(message)
        {
            return Ok(EntryView { time, body: Body::Message(message) });
        }
        let (view, _) = read_entry(bytes)?;
        let envelope = written.and_then(|(_, message)| envelope_of(message));
        self.last = envelope.zip(view.message().copied());
        Ok(view)
    }

    /// A message that begins as the last one did. `None` if it does not, or says more than this program writes.
    fn alike(&self, message: Reader<'a>) -> Option<Message<'a>> {
        let (envelope, last) = self.last?;
        let mut reader = Reader(message.0.strip_prefix(envelope)?);
        let mut message = Message { text: reader.expect(TEXT)?, receipts: false, trace: None, ..last };
        while let Some(field) = reader.field().ok()? {
            match field {
                (6, Value::Number(value)) => message.receipts = value != 0,
                (7, Value::Bytes(bytes)) => message.trace = read_trace(bytes).ok()?,
                _ => return None,
            }
        }
        Some(message)
    }
}

/// The beginning of a message up to its text, as this program writes it.
fn envelope_of(message: Reader<'_>) -> Option<&[u8]> {
    let mut reader = message;
    reader.expect(SENDER)?;
    reader.expect(SENDER_REGISTRATION)?;
    [PERSON, EVERYONE, ROOM].into_iter().find_map(|to| reader.expect(to))?;
    (reader.0.first() == Some(&TEXT)).then(|| &message.0[..message.0.len() - reader.0.len()])
}
