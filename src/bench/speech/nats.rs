//! The core protocol of NATS, as a client speaks it: CONNECT, SUB, PUB, MSG, PING, PONG.

use super::{Event, SpeechError, Template};

/// Longest line: a server's INFO lists the addresses of its whole cluster.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Largest message; servers allow 1 MiB unless told otherwise, and the generator sends less.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

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
    Template { bytes, stamp_at, reference_at: None }
}

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
        Some(b"\r\n") => Ok(Some((after_text, Event::Message { from: b"", text: &bytes[after..end] }))),
        Some(_) => Err(SpeechError::Malformed("message of NATS")),
        None => Ok(None),
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
        let template = Speech::Nats.template("r1", 20);
        template.append(&mut out, Stamp { sender: 0, sequence: 1, time_ns: 2 });
        assert_eq!(out, b"PUB r1 20\r\n0000000100000002abcd\r\n");
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
