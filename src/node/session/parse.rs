//! From a client's bytes to inputs for the router, in each dialect.

use bytes::{Buf as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use crate::{
    chat::{Command, Passphrase, command::HISTORY_MAX},
    clique::Heights,
    node::{
        hub::{FromClient, Registering, Resume, Submissions},
        spans::NodeSpans,
    },
    wire::{
        Dialect, WireError,
        extended::{self, SendView, awaited, heights_from_proto},
        frames::{self, Frame, FrameError, FrameView, kind},
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
    /// Read while messages were being gathered.
    held_line: Option<Result<Bytes, LineError>>,
}

impl Parser {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, lines: LineReader::default(), name: String::new(), has_registered: false, held_line: None }
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
        let (mut messages, mut taken_bytes) = (Submissions::new(received_unix_us), 0);
        while messages.len() < MAX_SUBMISSIONS {
            let rest = &buffer[taken_bytes..];
            let taken = match frames::front(rest) {
                Ok(Some(frame)) => {
                    if messages.is_empty() {
                        // The rest is most often of the same kind.
                        let expected = (rest.len() / frame.bytes()).min(MAX_SUBMISSIONS);
                        messages.reserve(expected, expected * frame.body.len());
                    }
                    self.take_message(frame, &mut messages, spans).map(|is_message| is_message.then(|| frame.bytes()))
                }
                Ok(None) => Ok(None),
                Err(error) => Err(error.into()),
            };
            match taken {
                Ok(Some(frame_bytes)) => taken_bytes += frame_bytes,
                // What came before is taken first; the error shows again at the next call.
                Err(error) if messages.is_empty() => return Err(error),
                Ok(None) | Err(_) => break,
            }
        }
        buffer.advance(taken_bytes);
        if !messages.is_empty() {
            return Ok(Some(FromClient::Submit(messages)));
        }
        frames::decode(buffer)?.map(|frame| self.other(&frame)).transpose()
    }

    /// Takes a frame that is a message; `false` if it is something else.
    fn take_message(
        &self,
        frame: FrameView<'_>,
        messages: &mut Submissions,
        spans: &NodeSpans,
    ) -> Result<bool, ParseError> {
        if frame.kind == kind::MESSAGE {
            // Without a space there is no addressee; the router refuses it with that reason.
            let (to, text) = frames::split_message(frame).unwrap_or_default();
            messages.push(to, text, 0, spans.decide(None));
            return Ok(true);
        }
        if self.dialect != Dialect::Extended || frame.kind != (extended::number::SEND, 0) {
            return Ok(false);
        }
        let SendView { reference, to, text, traceparent } = SendView::read(frame.body)?;
        messages.push(to.as_bytes(), text, reference, spans.decide(parse_traceparent(traceparent)));
        Ok(true)
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
        let mut messages = Submissions::new(received_unix_us);
        while messages.len() < MAX_SUBMISSIONS {
            let Some(line) = self.held_line.take().or_else(|| self.lines.next(buffer)) else { break };
            match line {
                Ok(line) if line.is_empty() => {}
                Ok(line) if line[0] != b'/' => {
                    if !self.has_registered {
                        self.note_name(&line);
                    }
                    let (to, text) = lines::split_message(&line);
                    messages.push(to, text, 0, spans.decide(None));
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

fn command_input(line: &str) -> FromClient {
    match Command::parse(line) {
        Ok(command) => FromClient::Command(command),
        Err(unknown) => FromClient::Tell(unknown.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        telemetry::Spans,
        wire::extended::{FromClient as Said, Register, Send},
    };

    /// What the router is given of a stream that comes in pieces of this many bytes, and what stays behind.
    fn parsed(dialect: Dialect, stream: &[u8], piece_bytes: usize) -> (Vec<String>, Option<String>) {
        let (mut parser, spans) = (Parser::new(dialect), NodeSpans::new(Spans::disabled(), 0));
        let (mut buffer, mut given) = (BytesMut::new(), Vec::new());
        for piece in stream.chunks(piece_bytes) {
            buffer.extend_from_slice(piece);
            loop {
                match parser.next(&mut buffer, 5, &spans) {
                    Ok(Some(FromClient::Submit(mut messages))) => {
                        while let Some(message) = messages.first() {
                            given.push(format!("{message:?}"));
                            messages.drop_first();
                        }
                    }
                    Ok(Some(input)) => given.push(format!("{input:?}")),
                    Ok(None) => break,
                    Err(error) => return (given, Some(error.to_string())),
                }
            }
        }
        (given, None)
    }

    #[derive(Debug, Clone)]
    enum Step {
        Message(String),
        Sent(String),
        Echo,
        Command,
    }

    fn step() -> impl Strategy<Value = Step> {
        let text = "[a-z ]{0,40}";
        prop_oneof![
            4 => text.prop_map(Step::Message),
            4 => text.prop_map(Step::Sent),
            1 => Just(Step::Echo),
            1 => Just(Step::Command),
        ]
    }

    proptest! {
        #[test]
        fn inputs_depend_on_the_stream_and_not_on_how_it_is_cut(
            steps in proptest::collection::vec(step(), 1..600),
            piece_bytes in 1..3_000_usize,
            is_broken in any::<bool>(),
        ) {
            let mut stream = Vec::new();
            let register = Register { name: "bob".into(), session_key: vec![7; 32], ..Register::default() };
            Said::Register(register).encode(&mut stream);
            let mut expected = 1;
            for (reference, step) in (1..).zip(&steps) {
                expected += 1;
                match step {
                    Step::Message(text) => frames::encode(&mut stream, kind::MESSAGE, 3, &[b"ann ", text.as_bytes()]),
                    Step::Sent(text) => {
                        let (to, text, traceparent) = ("ann".into(), text.clone().into(), String::new());
                        Said::Send(Send { reference, to, text, traceparent }).encode(&mut stream);
                    }
                    Step::Echo => frames::encode_empty(&mut stream, kind::ECHO),
                    Step::Command => frames::encode_empty(&mut stream, (extended::number::COMMAND, 0)),
                }
            }
            if is_broken {
                // A message of an extended client whose body is none.
                frames::encode(&mut stream, (extended::number::SEND, 0), 0, &[&[0xff; 3]]);
            }
            let whole = parsed(Dialect::Frames, &stream, stream.len());
            prop_assert_eq!((whole.0.len(), whole.1.is_some()), (expected, is_broken));
            prop_assert_eq!(whole, parsed(Dialect::Frames, &stream, piece_bytes));
        }
    }
}
