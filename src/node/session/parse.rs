//! From a client's bytes to inputs for the router, in each dialect.

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use crate::{
    chat::{Command, Passphrase, command::HISTORY_MAX},
    clique::Heights,
    node::{
        hub::{FromClient, Registering, Resume, Sampled, Submission},
        spans::NodeSpans,
    },
    wire::{
        Dialect, WireError,
        extended::{self, awaited, heights_from_proto},
        frames::{self, Frame, FrameError, kind},
        lines::{self, LineError, LineReader},
        traceparent::parse_traceparent,
    },
};

/// Messages handed to the router at once.
const MAX_SUBMISSIONS: usize = 256;
/// Registrations of one session that count.
const MAX_FORMERS: usize = 16;
/// Allowed lengths of a session key, in bytes.
const SESSION_KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// The client's stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParseError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Body(#[from] WireError),
    #[error("a session key has {} to {} bytes", SESSION_KEY_BYTES.start(), SESSION_KEY_BYTES.end())]
    SessionKey,
}

/// The reading half of a session.
#[derive(Debug)]
pub(super) struct Parser {
    dialect: Dialect,
    lines: LineReader,
    /// As asked for last; for logs and traces.
    name: String,
    has_registered: bool,
    /// Parsed while messages were being gathered.
    held_back: Option<Frame>,
    held_line: Option<Result<Bytes, LineError>>,
}

impl Parser {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            lines: LineReader::default(),
            name: String::new(),
            has_registered: false,
            held_back: None,
            held_line: None,
        }
    }

    /// Whether a name was asked for, ever.
    pub(super) fn has_registered(&self) -> bool {
        self.has_registered
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What to say to a client that sends nothing more and has left something half sent.
    pub(super) fn unfinished(&self) -> &'static str {
        match self.dialect {
            Dialect::Lines => "not sent: what came last has no end; finish each line with Enter",
            Dialect::Frames | Dialect::Extended => "not sent: what came last is not a whole frame",
        }
    }

    /// The next thing that has come whole. Messages that follow each other come together.
    pub(super) fn next(
        &mut self,
        buffer: &mut BytesMut,
        received_unix_us: u64,
        spans: &NodeSpans,
    ) -> Result<Option<FromClient>, ParseError> {
        match self.dialect {
            Dialect::Lines => Ok(self.next_line(buffer, received_unix_us, spans)),
            Dialect::Frames | Dialect::Extended => self.next_frame(buffer, received_unix_us, spans),
        }
    }

    fn next_frame(
        &mut self,
        buffer: &mut BytesMut,
        received_unix_us: u64,
        spans: &NodeSpans,
    ) -> Result<Option<FromClient>, ParseError> {
        let mut messages = Vec::new();
        loop {
            let frame = match self.held_back.take() {
                Some(frame) => Some(frame),
                // What came before a broken frame is still taken; the error shows again at the next call.
                None if !messages.is_empty() => frames::decode(buffer).unwrap_or_default(),
                None => frames::decode(buffer)?,
            };
            let Some(frame) = frame else {
                return Ok((!messages.is_empty()).then_some(FromClient::Submit(messages)));
            };
            let frame_bytes = frames::HEADER_BYTES + frame.body.len();
            let submission = match frame.kind {
                kind::MESSAGE => message(frame, received_unix_us, spans),
                _ => match self.sent(&frame, received_unix_us, spans)? {
                    Some(submission) => submission,
                    None if messages.is_empty() => return self.other(&frame).map(Some),
                    None => {
                        self.held_back = Some(frame);
                        return Ok(Some(FromClient::Submit(messages)));
                    }
                },
            };
            if messages.is_empty() {
                // The rest is most often of the same kind.
                messages.reserve((1 + buffer.len() / frame_bytes).min(MAX_SUBMISSIONS));
            }
            messages.push(submission);
            if messages.len() == MAX_SUBMISSIONS {
                return Ok(Some(FromClient::Submit(messages)));
            }
        }
    }

    /// An extended frame that is a message.
    fn sent(&self, frame: &Frame, received_unix_us: u64, spans: &NodeSpans) -> Result<Option<Submission>, ParseError> {
        if self.dialect != Dialect::Extended || frame.kind != (extended::number::SEND, 0) {
            return Ok(None);
        }
        let Some(extended::FromClient::Send(send)) = extended::FromClient::read(frame)? else { return Ok(None) };
        let sampled: Option<Sampled> = spans.decide(parse_traceparent(&send.traceparent));
        let (to, text, reference) = (send.to.into(), send.text.into(), send.reference);
        Ok(Some(Submission { to, text, reference, sampled, received_unix_us }))
    }

    /// Any other frame.
    fn other(&mut self, frame: &Frame) -> Result<FromClient, ParseError> {
        Ok(match frame.kind {
            kind::REGISTER => {
                // A name has no colon; behind one is the passphrase.
                let (name, passphrase) = match frame.body.iter().position(|byte| *byte == b':') {
                    Some(colon) => (frame.body.slice(..colon), Some(Passphrase::typed(&frame.body.slice(colon + 1..)))),
                    None => (frame.body.clone(), None),
                };
                self.note_name(&name);
                FromClient::Register(Box::new(Registering { name, passphrase, ..Registering::default() }))
            }
            kind::REGISTER_EXTENDED => self.register_extended(frame)?,
            kind::NODES => FromClient::ListNodes,
            kind::ECHO => FromClient::Echo,
            kind::GOODBYE => FromClient::Goodbye,
            (extended::number::COMMAND, 0) if self.dialect == Dialect::Extended => {
                match extended::FromClient::read(frame)? {
                    Some(extended::FromClient::Command(command)) => command_input(&command.line),
                    _ => FromClient::Tell("that command cannot be read".to_owned()),
                }
            }
            (number, _) if number >= kind::FIRST_EXTENDED => FromClient::Tell(format!(
                "a frame of type {number} is not for this connection; register with type 2, subtype 2 to use extended frames"
            )),
            (number, sub) => FromClient::Tell(format!(
                "there is no frame of type {number}, subtype {sub}; clients send 2, 3, 5, 6 and 7"
            )),
        })
    }

    fn register_extended(&mut self, frame: &Frame) -> Result<FromClient, ParseError> {
        let Some(extended::FromClient::Register(register)) = extended::FromClient::read(frame)? else {
            return Err(WireError::Malformed("registration").into());
        };
        if !SESSION_KEY_BYTES.contains(&register.session_key.len()) {
            return Err(ParseError::SessionKey);
        }
        self.dialect = Dialect::Extended;
        let name = Bytes::from(register.name);
        self.note_name(&name);
        let resume = register.resume.map(|resume| {
            let sent: Heights = heights_from_proto(resume.sent);
            let registration = resume.registration.and_then(|registration| registration.try_into().ok());
            let formers = resume.formers.into_iter().take(MAX_FORMERS);
            let formers = formers.filter_map(|former| former.try_into().ok()).collect();
            let unsettled = resume.unsettled.into_iter().filter_map(awaited).collect();
            let received = heights_from_proto(resume.heights);
            Resume { received, registration, formers, sent: sent.iter().collect(), unsettled }
        });
        let passphrase = (!register.passphrase.is_empty()).then(|| Passphrase::typed(register.passphrase.as_bytes()));
        let history = usize::try_from(register.history).unwrap_or(HISTORY_MAX).min(HISTORY_MAX);
        let key_hash = Some(Sha256::digest(&register.session_key).into());
        Ok(FromClient::Register(Box::new(Registering { name, key_hash, resume, passphrase, history })))
    }

    fn next_line(&mut self, buffer: &mut BytesMut, received_unix_us: u64, spans: &NodeSpans) -> Option<FromClient> {
        let mut messages = Vec::new();
        while messages.len() < MAX_SUBMISSIONS {
            let Some(line) = self.held_line.take().or_else(|| self.lines.next(buffer)) else { break };
            match line {
                Ok(line) if line.is_empty() => {}
                Ok(line) if line[0] != b'/' => {
                    if !self.has_registered {
                        self.note_name(&line);
                    }
                    let (to, text) = lines::split_message(&line);
                    let sampled = spans.decide(None);
                    messages.push(Submission { to, text, reference: 0, sampled, received_unix_us });
                }
                other if !messages.is_empty() => {
                    self.held_line = Some(other);
                    break;
                }
                Ok(line) => return Some(command_input(&String::from_utf8_lossy(&line[1..]))),
                Err(error) => return Some(FromClient::Tell(error.to_string())),
            }
        }
        (!messages.is_empty()).then_some(FromClient::Submit(messages))
    }

    fn note_name(&mut self, name: &[u8]) {
        self.has_registered = true;
        self.name = String::from_utf8_lossy(name).chars().take(64).collect();
    }
}

/// An original frame that is a message.
fn message(frame: Frame, received_unix_us: u64, spans: &NodeSpans) -> Submission {
    // Without a space there is no addressee; the router refuses it with that reason.
    let (to, text) = frames::split_message(frame).unwrap_or_default();
    Submission { to, text, reference: 0, sampled: spans.decide(None), received_unix_us }
}

fn command_input(line: &str) -> FromClient {
    match Command::parse(line) {
        Ok(command) => FromClient::Command(command),
        Err(unknown) => FromClient::Tell(unknown.to_string()),
    }
}
