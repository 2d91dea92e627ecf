//! The original binary protocol: a header of 6 bytes, big-endian, then a body.
//!
//! ```text
//! type: i8 | subtype: i8 | length: i16 | sublen: i16 | body: `length` bytes, `sublen` of them the first part
//! ```
//!
//! Extended frames (types from 40 up) have the same header with an unsigned length, so that the longest message of an
//! original client still fits with what is said about it.

use bytes::{Buf as _, Bytes, BytesMut};

pub use crate::chat::message::MAX_BODY_BYTES;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 6;
/// Longest body of an extended frame, in bytes.
pub const MAX_EXTENDED_BODY_BYTES: usize = u16::MAX as usize;

/// Frame types and subtypes of the original protocol.
pub mod kind {
    pub const REGISTER: (i8, i8) = (2, 1);
    pub const REGISTER_EXTENDED: (i8, i8) = (2, 2);
    pub const REGISTERED: (i8, i8) = (2, 0);
    pub const MESSAGE: (i8, i8) = (3, 0);
    pub const NODES: (i8, i8) = (5, 0);
    pub const NODES_ANSWER: (i8, i8) = (5, 1);
    pub const ECHO: (i8, i8) = (6, 0);
    pub const ECHO_ANSWER: (i8, i8) = (6, 1);
    pub const GOODBYE: (i8, i8) = (7, 0);
    pub const GOODBYE_ANSWER: (i8, i8) = (7, 1);
    pub const REFUSED: (i8, i8) = (30, 0);
    /// Extended types begin here.
    pub const FIRST_EXTENDED: i8 = 40;
}

/// One frame, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: (i8, i8),
    /// Bytes of the first part of the body.
    pub first_part_bytes: usize,
    pub body: Bytes,
}

impl Frame {
    #[must_use]
    pub fn view(&self) -> FrameView<'_> {
        FrameView { kind: self.kind, first_part_bytes: self.first_part_bytes, body: &self.body }
    }
}

/// One frame, where it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameView<'a> {
    pub kind: (i8, i8),
    /// Bytes of the first part of the body.
    pub first_part_bytes: usize,
    pub body: &'a [u8],
}

impl FrameView<'_> {
    /// With its header.
    #[must_use]
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }
}

/// A header that no frame can have; the stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of type {0} announces a negative length")]
    NegativeLength(i8),
    #[error("a frame of type {0} announces a first part longer than its body")]
    FirstPartTooLong(i8),
}

/// What a header says.
struct Header {
    kind: (i8, i8),
    first_part_bytes: usize,
    body_bytes: usize,
}

fn header(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let [kind, subkind, length @ .., first_high, first_low] = *header;
    let kind = (kind.cast_signed(), subkind.cast_signed());
    let length = usize::from(u16::from_be_bytes(length));
    let first_part = usize::from(u16::from_be_bytes([first_high, first_low]));
    if max_body_bytes(kind) < length.max(first_part) {
        return Err(FrameError::NegativeLength(kind.0));
    }
    if first_part > length {
        return Err(FrameError::FirstPartTooLong(kind.0));
    }
    Ok(Some(Header { kind, first_part_bytes: first_part, body_bytes: length }))
}

/// The frame at the front of what has come; `None` if it is not all there yet.
///
/// # Errors
/// If the header contradicts itself.
pub fn front(bytes: &[u8]) -> Result<Option<FrameView<'_>>, FrameError> {
    let Some(Header { kind, first_part_bytes, body_bytes }) = header(bytes)? else { return Ok(None) };
    let body = bytes.get(HEADER_BYTES..HEADER_BYTES + body_bytes);
    Ok(body.map(|body| FrameView { kind, first_part_bytes, body }))
}

/// Takes the next frame off the front of the buffer; `None` if it is not all there yet.
///
/// # Errors
/// If the header contradicts itself.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(Header { kind, first_part_bytes, body_bytes }) = header(buffer)? else { return Ok(None) };
    if buffer.len() < HEADER_BYTES + body_bytes {
        buffer.reserve(HEADER_BYTES + body_bytes - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEADER_BYTES);
    let body = buffer.split_to(body_bytes).freeze();
    Ok(Some(Frame { kind, first_part_bytes, body }))
}

/// Appends a frame whose body is the given parts, the first `first_part_bytes` of them its first part.
///
/// Bodies past the limit cannot be written; callers refuse such messages before (`Message::max_text_bytes`). Should
/// one come here nevertheless it is cut, so that the stream stays readable.
#[inline]
pub fn encode(out: &mut Vec<u8>, kind: (i8, i8), first_part_bytes: usize, parts: &[&[u8]]) {
    let body_bytes = parts.iter().map(|part| part.len()).sum::<usize>().min(max_body_bytes(kind));
    let length = u16::try_from(body_bytes).unwrap_or(u16::MAX);
    let first_part = u16::try_from(first_part_bytes.min(body_bytes)).unwrap_or(u16::MAX);
    out.reserve(HEADER_BYTES + body_bytes);
    let ([high, low], [first_high, first_low]) = (length.to_be_bytes(), first_part.to_be_bytes());
    out.extend_from_slice(&[kind.0.cast_unsigned(), kind.1.cast_unsigned(), high, low, first_high, first_low]);
    let end = out.len() + body_bytes;
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.truncate(end);
}

fn max_body_bytes(kind: (i8, i8)) -> usize {
    if kind.0 >= kind::FIRST_EXTENDED { MAX_EXTENDED_BODY_BYTES } else { MAX_BODY_BYTES }
}

/// Appends a frame without a body.
pub fn encode_empty(out: &mut Vec<u8>, kind: (i8, i8)) {
    encode(out, kind, 0, &[]);
}

/// Appends a message for the client: `SENDER 0x00 RECEIVER 0x20 MESSAGE`.
pub fn encode_message(out: &mut Vec<u8>, sender: &str, receiver: &str, text: &[u8]) {
    let parts = [sender.as_bytes(), &[0], receiver.as_bytes(), b" ", text];
    encode(out, kind::MESSAGE, sender.len() + 1 + receiver.len(), &parts);
}

/// Appends the answer to a request for the other nodes: `[4010, 4020]`.
pub fn encode_nodes(out: &mut Vec<u8>, chat_ports: &[u16]) {
    let list: Vec<String> = chat_ports.iter().map(ToString::to_string).collect();
    encode(out, kind::NODES_ANSWER, 0, &[format!("[{}]", list.join(", ")).as_bytes()]);
}

/// Splits the body of a message from a client into receiver and text. The header's first part is right by definition;
/// clients that leave it 0 are served by the first space.
#[must_use]
pub fn split_message(frame: FrameView<'_>) -> Option<(&[u8], &[u8])> {
    let FrameView { first_part_bytes, body, .. } = frame;
    let end = match first_part_bytes {
        0 => body.iter().position(|byte| *byte == b' ')?,
        end => end,
    };
    match body.split_at_checked(end)? {
        (receiver, [b' ', text @ ..]) => Some((receiver, text)),
        (receiver, []) => Some((receiver, &[])),
        (_, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_of_the_original_protocol() {
        let mut out = Vec::new();
        encode_empty(&mut out, kind::REGISTERED);
        encode_message(&mut out, "alice", "bob", b"hi there");
        encode_nodes(&mut out, &[4010, 4020]);
        encode_empty(&mut out, kind::REFUSED);
        assert_eq!(
            out,
            b"\x02\x00\x00\x00\x00\x00\x03\x00\x00\x12\x00\x09alice\0bob hi there\x05\x01\x00\x0c\x00\x00[4010, 4020]\x1e\x00\x00\x00\x00\x00"
        );
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let mut negative = BytesMut::from(&b"\x03\x00\xff\xff\x00\x00"[..]);
        assert_eq!(decode(&mut negative), Err(FrameError::NegativeLength(3)));
        let mut too_long = BytesMut::from(&b"\x03\x00\x00\x02\x00\x03ab"[..]);
        assert_eq!(decode(&mut too_long), Err(FrameError::FirstPartTooLong(3)));
    }

    #[test]
    fn receiver_and_text_are_told_apart() {
        let split = |first_part_bytes, body| split_message(FrameView { kind: kind::MESSAGE, first_part_bytes, body });
        assert_eq!(split(3, b"bob hi  x"), Some((&b"bob"[..], &b"hi  x"[..])));
        assert_eq!(split(0, b"bob hi"), Some((&b"bob"[..], &b"hi"[..])));
        assert_eq!(split(3, b"bob"), Some((&b"bob"[..], &b""[..])));
        assert_eq!(split(2, b"bob hi"), None);
        assert_eq!(split(0, b"bob"), None);
    }

    fn frame() -> impl Strategy<Value = Frame> {
        (any::<(i8, i8)>(), proptest::collection::vec(any::<u8>(), 0..300), any::<prop::sample::Index>()).prop_map(
            |(kind, body, first)| Frame { kind, first_part_bytes: first.index(body.len() + 1), body: body.into() },
        )
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut_of_the_stream(frames in proptest::collection::vec(frame(), 1..6), step in 1..40_usize) {
            let mut stream = Vec::new();
            for frame in &frames {
                encode(&mut stream, frame.kind, frame.first_part_bytes, &[&frame.body]);
            }
            let mut buffer = BytesMut::new();
            let mut read = Vec::new();
            for piece in stream.chunks(step) {
                buffer.extend_from_slice(piece);
                loop {
                    let whole = buffer.clone();
                    let Some(frame) = decode(&mut buffer).unwrap() else {
                        prop_assert_eq!(front(&buffer), Ok(None));
                        break;
                    };
                    prop_assert_eq!(front(&whole), Ok(Some(frame.view())));
                    prop_assert_eq!(frame.view().bytes(), whole.len() - buffer.len());
                    read.push(frame);
                }
            }
            prop_assert_eq!(read, frames);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = decode(&mut buffer) {
                let _ = split_message(frame.view());
            }
        }
    }
}
