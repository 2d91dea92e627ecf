//! What the generator says and hears, in the dialects of a clique and in the text protocol of NATS. Pure, and without
//! allocation per message: going out, a message is a template in which the stamp is overwritten; coming in, events
//! borrow from the read buffer.

mod clique;
mod nats;

use super::payload::{self, Stamp};

/// Bytes from the other side that do not say what they should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpeechError {
    #[error("the other side sends what is no {0}; does another service listen there, or is --target wrong?")]
    Malformed(&'static str),
}

/// A way to talk to the system under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// A clique's original frames.
    Frames,
    /// A clique's extended frames.
    Extended,
    /// The core protocol of NATS.
    Nats,
    /// The same, with a subject on which each message is to be acknowledged by a stream of JetStream.
    JetStream,
}

/// Something heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    Registered,
    /// A refusal, with its reason: of the registration, or of a message.
    Refused(&'a [u8]),
    /// Somebody's message; the sender's name is empty where the protocol does not say it.
    Message {
        from: &'a [u8],
        text: &'a [u8],
    },
    /// One's own messages have been taken, so many from the first on; a refusal says why not.
    Receipt {
        first: u64,
        count: u64,
        refusal: Option<&'a [u8]>,
    },
    /// A sentence for a person.
    Notice(&'a [u8]),
    /// Must be answered with [`PONG`].
    Ping,
    Other,
}

/// The answer to [`Event::Ping`].
pub const PONG: &[u8] = b"PONG\r\n";

impl Speech {
    /// Appends what a client says first. With a `subject` it will be sent what goes there; in a clique it is
    /// sent what goes to its name and to everyone in any case.
    pub fn register(self, out: &mut Vec<u8>, name: &str, subject: Option<&str>) {
        match self {
            Self::Frames => clique::register(out, name),
            Self::Extended => clique::register_extended(out, name),
            Self::Nats => nats::register(out, name, subject),
            Self::JetStream => nats::register(out, name, Some(&nats::receipts_subject(name, "*"))),
        }
    }

    /// The addressee that stands for all clients of a run.
    #[must_use]
    pub fn everyone(self, run: &str) -> String {
        match self {
            Self::Frames | Self::Extended => crate::chat::message::EVERYONE.to_owned(),
            Self::Nats | Self::JetStream => format!("{run}all"),
        }
    }

    /// A message of `size_bytes` from the client `from` to `to`.
    #[must_use]
    pub fn template(self, from: &str, to: &str, size_bytes: usize) -> Template {
        let stamp = Stamp { sender: 0, sequence: 0, time_ns: 0 };
        let text = [&stamp.encode()[..], &payload::filler(size_bytes)].concat();
        match self {
            Self::Frames => clique::template(to, &text),
            Self::Extended => clique::template_extended(to, &text),
            Self::Nats => nats::template(to, &text),
            Self::JetStream => nats::template_with_receipts(from, to, &text),
        }
    }

    /// The first event in the bytes and how many bytes it takes; `None` if it is not all there yet.
    ///
    /// # Errors
    /// If the bytes cannot be the beginning of one.
    pub fn hear(self, bytes: &[u8]) -> Result<Option<(usize, Event<'_>)>, SpeechError> {
        match self {
            Self::Frames | Self::Extended => clique::hear(bytes),
            Self::Nats | Self::JetStream => nats::hear(bytes),
        }
    }
}

/// A message as it is sent, but for its stamp.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    stamp_at: usize,
    /// Where the reference for receipts is, in dialects that have them.
    reference: Option<Reference>,
}

/// Where in a message its reference is, and how it is written.
#[derive(Debug, Clone, Copy)]
enum Reference {
    Varint { at: usize },
    Decimal { at: usize },
}

impl Template {
    /// Bytes of one message on the wire.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the message with this stamp.
    pub fn append(&self, out: &mut Vec<u8>, stamp: Stamp) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let message = &mut out[start..];
        message[self.stamp_at..self.stamp_at + payload::STAMP_BYTES].copy_from_slice(&stamp.encode());
        match self.reference {
            Some(Reference::Varint { at }) => clique::put_reference(&mut message[at..], stamp.sequence),
            Some(Reference::Decimal { at }) => nats::put_reference(&mut message[at..], stamp.sequence),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn speech() -> impl Strategy<Value = Speech> {
        prop_oneof![Just(Speech::Frames), Just(Speech::Extended), Just(Speech::Nats), Just(Speech::JetStream)]
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(speech in speech(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            while let Ok(Some((length, _))) = speech.hear(rest) {
                prop_assert!(length > 0);
                rest = &rest[length..];
            }
        }
    }
}
