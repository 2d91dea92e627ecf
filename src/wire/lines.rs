//! The text dialect for people with `nc` and `telnet`: UTF-8, one line each.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use crate::chat::name::addressee;

/// Longest line, in bytes, its end not counted.
pub const MAX_LINE_BYTES: usize = 32_767;

/// A line that cannot be taken. The rest of it is skipped, and the next line is read as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("that line is too long; at most {MAX_LINE_BYTES} bytes fit")]
    TooLong,
    #[error("that line is not UTF-8 text; set your terminal to UTF-8")]
    NotUtf8,
}

/// Reads lines off a stream.
#[derive(Debug, Default)]
pub struct LineReader {
    /// Inside a line that was too long, until its end comes.
    skipping: bool,
    /// How far the buffer was searched for an end.
    searched: usize,
}

impl LineReader {
    /// Takes the next line, without its `\n` or `\r\n`; `None` if it is not all there yet.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Option<Result<Bytes, LineError>> {
        let end = buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| end + self.searched) else {
            if self.skipping || buffer.len() > MAX_LINE_BYTES + 1 {
                let report = !std::mem::replace(&mut self.skipping, true);
                buffer.clear();
                self.searched = 0;
                return report.then_some(Err(LineError::TooLong));
            }
            self.searched = buffer.len();
            return None;
        };
        self.searched = 0;
        let mut line = buffer.split_to(end + 1).freeze();
        line.truncate(end - usize::from(end > 0 && line[end - 1] == b'\r'));
        if std::mem::take(&mut self.skipping) {
            return self.next(buffer);
        }
        if line.len() > MAX_LINE_BYTES {
            return Some(Err(LineError::TooLong));
        }
        Some(if std::str::from_utf8(&line).is_ok() { Ok(line) } else { Err(LineError::NotUtf8) })
    }
}

/// Splits a line into its addressee, the word before the first space, and what follows it.
#[must_use]
pub fn split_message(line: &[u8]) -> (&[u8], &[u8]) {
    let (word, text) = match line.iter().position(|byte| *byte == b' ') {
        Some(space) => (&line[..space], &line[space + 1..]),
        None => (line, &[][..]),
    };
    let to = std::str::from_utf8(word).map(addressee).unwrap_or_default();
    // Of signs alone nothing would be left to be named in the answer.
    let to = if to.is_empty() { word } else { to.as_bytes() };
    (to, text)
}

/// Text from elsewhere as part of one line: control characters, which could break the line or steer a terminal, become
/// visible signs; bytes that are not UTF-8 become U+FFFD.
#[must_use]
pub fn printable(text: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(text);
    let unsafe_sign = |c: char| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(unsafe_sign) {
        return text;
    }
    let shown = text.chars().map(|c| match c {
        // The control pictures of Unicode stand in the order of ASCII.
        '\0'..='\x1f' if c != '\t' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        c if unsafe_sign(c) => '\u{fffd}',
        c => c,
    });
    Cow::Owned(shown.collect())
}

/// Appends a message: `bob: hello`, or `bob to *: hello`.
pub fn encode_message(out: &mut Vec<u8>, sender: &str, to: Option<&str>, text: &[u8]) {
    encode_marked_message(out, sender, to, None, text);
}

/// The same with a mark, if there is one: `bob to * [mark]: hello`.
pub fn encode_marked_message(out: &mut Vec<u8>, sender: &str, to: Option<&str>, mark: Option<&str>, text: &[u8]) {
    out.extend_from_slice(sender.as_bytes());
    if let Some(to) = to {
        out.extend_from_slice(b" to ");
        out.extend_from_slice(to.as_bytes());
    }
    if let Some(mark) = mark {
        out.extend_from_slice(b" [");
        out.extend_from_slice(mark.as_bytes());
        out.push(b']');
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(printable(text).as_bytes());
    out.push(b'\n');
}

/// Appends something that the node says: `* welcome, …`.
pub fn encode_notice(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"* ");
    out.extend_from_slice(printable(text.as_bytes()).as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(stream: &[u8], step: usize) -> Vec<Result<Bytes, LineError>> {
        let (mut reader, mut buffer, mut lines) = (LineReader::default(), BytesMut::new(), Vec::new());
        for piece in stream.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(line) = reader.next(&mut buffer) {
                lines.push(line);
            }
        }
        lines
    }

    #[test]
    fn an_addressee_may_be_written_as_it_arrives() {
        let cases = [
            ("bob hello there", "bob", "hello there"),
            ("bob: hello", "bob", "hello"),
            ("@bob, hello", "bob", "hello"),
            ("* all", "*", "all"),
            ("#tea: anyone?", "#tea", "anyone?"),
            (": hello", ":", "hello"),
            ("@: hello", "@:", "hello"),
            ("bob", "bob", ""),
        ];
        for (line, to, text) in cases {
            assert_eq!(split_message(line.as_bytes()), (to.as_bytes(), text.as_bytes()), "{line}");
        }
    }

    #[test]
    fn a_line_too_long_or_not_text_is_refused_once_and_the_next_is_read() {
        let mut stream = vec![b'x'; MAX_LINE_BYTES + 1];
        stream.extend_from_slice(b"\nbob hi\r\n\xff\xff\nlast\n");
        for step in [1, 7, 4096, 100_000] {
            let lines = read_all(&stream, step);
            assert_eq!(
                lines,
                [Err(LineError::TooLong), Ok("bob hi".into()), Err(LineError::NotUtf8), Ok("last".into())],
                "in pieces of {step}"
            );
        }
        let longest = [vec![b'y'; MAX_LINE_BYTES], b"\r\n".to_vec()].concat();
        assert_eq!(read_all(&longest, 1000)[0].as_ref().unwrap().len(), MAX_LINE_BYTES);
    }

    #[test]
    fn no_text_can_forge_a_line_or_steer_the_terminal() {
        let mut out = Vec::new();
        encode_message(&mut out, "eve", None, b"x\n* you are root\x1b[2J");
        assert_eq!(String::from_utf8(out).unwrap(), "eve: x\u{240a}* you are root\u{241b}[2J\n");
    }

    proptest! {
        #[test]
        fn lines_survive_any_cut_of_the_stream(lines in proptest::collection::vec("[^\r\n]{0,50}", 1..10), step in 1..60_usize) {
            let stream: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let read: Vec<String> = read_all(stream.as_bytes(), step)
                .into_iter()
                .map(|line| String::from_utf8(line.unwrap().to_vec()).unwrap())
                .collect();
            prop_assert_eq!(read, lines);
        }
    }
}
