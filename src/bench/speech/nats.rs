//! The core protocol of NATS, as a client speaks it: CONNECT, SUB, PUB, MSG, PING, PONG.

use super::{Event, Reference, SpeechError, Template};

/// Longest line: a server's INFO lists the addresses of its whole cluster.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Largest message; servers allow 1 MiB unless told otherwise, and the generator sends less.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Where acknowledgements are sent to: this, the name of the client, a dot, and the number of the message.
const RECEIPTS: &str = "_INBOX.";
/// Digits of such a number: padded, so that it can be overwritten in place.
const REFERENCE_DIGITS: usize = 12;
/// How an answer of JetStream that is a refusal begins.
const REFUSAL: &[u8] = b"{\"error\"";

/// The PONG that answers the PING says that the subscription is there too: servers take lines in order.
pub(super) fn register(out: &mut Vec<u8>, name: &str, subject: Option<&str>) {
    let version = env!("CARGO_PKG_VERSION");
    let connect = format!(
        r#"CONNECT {{"verbose":false,"pedantic":false,"echo":false,"headers":false,"protocol":0,"lang":"rust","version":"{version}","name":"{name}"}}"#
    );
    let subscribe = subject.map(|subject| format!("SUB {subject} 1\r\n")).unwrap_or_default();
    out.extend_from_slice(format!("{connect}\r\n{subscribe}PING\r\n").as_bytes());
}

pub(super) fn template(to: &str, text: &[u8]) -> Template {
    let mut bytes = format!("PUB {to} {}\r\n", text.len()).into_bytes();
    let stamp_at = bytes.len();
    bytes.extend_from_slice(text);
    bytes.extend_from_slice(b"\r\n");
    Template { bytes, stamp_at, reference: None }
}

/// The subject of acknowledgements for a client.
pub(super) fn receipts_subject(client: &str, number: &str) -> String {
    format!("{RECEIPTS}{client}.{number}")
}

pub(super) fn template_with_receipts(from: &str, to: &str, text: &[u8]) -> Template {
    let subject = receipts_subject(from, &"0".repeat(REFERENCE_DIGITS));
    let mut bytes = format!("PUB {to} {subject}").into_bytes();
    let at = bytes.len() - REFERENCE_DIGITS;
    bytes.extend_from_slice(format!(" {}\r\n", text.len()).as_bytes());
    let stamp_at = bytes.len();
    bytes.extend_from_slice(text);
    bytes.extend_from_slice(b"\r\n");
    Template { bytes, stamp_at, reference: Some(Reference::Decimal { at }) }
}

/// Overwrites the number on whose subject a message is acknowledged.
pub(super) fn put_reference(out: &mut [u8], mut sequence: u64) {
    for digit in out.iter_mut().take(REFERENCE_DIGITS).rev() {
        *digit = b'0' + (sequence % 10) as u8;
        sequence /= 10;
    }
}

#[inline]
pub(super) fn hear(bytes: &[u8]) -> Result<Option<(usize, Event<'_>)>, SpeechError> {
    let Some(newline) = bytes.iter().take(MAX_LINE_BYTES).position(|byte| *byte == b'\n') else {
        return if bytes.len() < MAX_LINE_BYTES { Ok(None) } else { Err(SpeechError::Malformed("line of NATS")) };
    };
    let after = newline + 1;
    let line = bytes[..newline].trim_ascii_end();
    if let Some(arguments) = line.strip_prefix(b"MSG ") {
        return message(bytes, after, arguments);
    }
    let event = match line {
        b"PING" => Event::Ping,
        b"PONG" => Event::Registered,
        b"+OK" => Event::Other,
        _ if line.starts_with(b"-ERR") => Event::Refused(line[4..].trim_ascii()),
        _ if line.starts_with(b"INFO") => Event::Other,
        _ => return Err(SpeechError::Malformed("line of NATS")),
    };
    Ok(Some((after, event)))
}

/// `MSG SUBJECT ID [REPLY] LENGTH`, then so many bytes and a line's end.
fn message<'a>(bytes: &'a [u8], after: usize, arguments: &[u8]) -> Result<Option<(usize, Event<'a>)>, SpeechError> {
    let digits = arguments.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let mut length = 0_usize;
    for digit in &arguments[arguments.len() - digits..] {
        length = length * 10 + usize::from(digit - b'0');
        if length > MAX_MESSAGE_BYTES {
            return Err(SpeechError::Malformed("message of NATS"));
        }
    }
    if digits == 0 {
        return Err(SpeechError::Malformed("message of NATS"));
    }
    let (end, after_text) = (after + length, after + length + 2);
    match bytes.get(end..after_text) {
        Some(b"\r\n") => Ok(Some((after_text, told(arguments, &bytes[after..end])))),
        Some(_) => Err(SpeechError::Malformed("message of NATS")),
        None => Ok(None),
    }
}

/// What a message is: somebody's, or the answer to one's own.
fn told<'a>(arguments: &[u8], text: &'a [u8]) -> Event<'a> {
    let number = arguments.strip_prefix(RECEIPTS.as_bytes()).and_then(|rest| {
        let subject = rest.split(|byte| *byte == b' ').next()?;
        std::str::from_utf8(subject.rsplit(|byte| *byte == b'.').next()?).ok()?.parse().ok()
    });
    match number {
        Some(first) => Event::Receipt { first, count: 1, refusal: text.starts_with(REFUSAL).then_some(text) },
        None => Event::Message { from: b"", text },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{super::payload::Stamp, Speech},
        *,
    };

    #[test]
    fn the_lines_that_are_sent() {
        let mut out = Vec::new();
        register(&mut out, "r1", Some("x7all"));
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("CONNECT {\"verbose\":false,"), "{text}");
        assert!(text.ends_with("\"name\":\"r1\"}\r\nSUB x7all 1\r\nPING\r\n"), "{text}");
        let mut out = Vec::new();
        let template = Speech::Nats.template("me", "r1", 20);
        template.append(&mut out, Stamp { sender: 0, sequence: 1, time_ns: 2 });
        assert_eq!(out, b"PUB r1 20\r\n0000000100000002abcd\r\n");
        let mut out = Vec::new();
        Speech::JetStream.template("me", "r1", 20).append(&mut out, Stamp { sender: 0, sequence: 5, time_ns: 2 });
        assert_eq!(out, b"PUB r1 _INBOX.me.000000000005 20\r\n0000000500000002abcd\r\n");
    }

    #[test]
    fn what_a_server_says_is_understood() {
        let said = b"INFO {\"server_id\":\"x\"}\r\nPING\r\n+OK\r\nMSG a.b 1 5\r\nhi\r\ny\r\nMSG a 1 _INBOX.1 0\r\n\r\nPONG\r\n-ERR 'Authorization Violation'\r\n";
        let mut events = Vec::new();
        let mut rest = &said[..];
        while let Some((length, event)) = hear(rest).unwrap() {
            events.push(event);
            rest = &rest[length..];
        }
        let expected = [
            Event::Other,
            Event::Ping,
            Event::Other,
            Event::Message { from: b"", text: b"hi\r\ny" },
            Event::Message { from: b"", text: b"" },
            Event::Registered,
            Event::Refused(b"'Authorization Violation'"),
        ];
        assert_eq!(events, expected);
        assert!(rest.is_empty());
    }

    #[test]
    fn acknowledgements_are_told_from_messages() {
        let event = |said: &'static [u8]| hear(said).unwrap().unwrap().1;
        let taken = event(b"MSG _INBOX.me.000000000005 1 26\r\n{\"stream\":\"b1\", \"seq\":9}  \r\n");
        assert_eq!(taken, Event::Receipt { first: 5, count: 1, refusal: None });
        let refused = event(b"MSG _INBOX.me.000000000006 1 12\r\n{\"error\":{}}\r\n");
        assert_eq!(refused, Event::Receipt { first: 6, count: 1, refusal: Some(b"{\"error\":{}}") });
        let other = event(b"MSG _INBOX.me.x 1 2\r\nhi\r\n");
        assert_eq!(other, Event::Message { from: b"", text: b"hi" });
    }

    #[test]
    fn other_protocols_are_noticed() {
        for said in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"MSG a 1 x\r\n",
            b"MSG a 1 1\r\nabcd",
            b"MSG a 1 99999999999999999999\r\n",
        ] {
            assert!(hear(said).is_err(), "{}", String::from_utf8_lossy(said));
        }
        assert!(hear(&vec![b'x'; MAX_LINE_BYTES]).is_err());
        assert_eq!(hear(b"MSG a 1 12"), Ok(None));
    }

    proptest! {
        #[test]
        fn messages_survive_any_cut(
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6), step in 1..30_usize,
        ) {
            let mut stream = Vec::new();
            for text in &texts {
                stream.extend_from_slice(format!("MSG subject 1 {}\r\n", text.len()).as_bytes());
                stream.extend_from_slice(text);
                stream.extend_from_slice(b"\r\n");
            }
            let (mut buffer, mut heard) = (Vec::new(), Vec::new());
            for piece in stream.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some((length, event)) = hear(&buffer).unwrap() {
                    if let Event::Message { text, .. } = event {
                        heard.push(text.to_vec());
                    }
                    buffer.drain(..length);
                }
            }
            prop_assert_eq!(heard, texts);
        }
    }
}
