//! The codec of the stream between two nodes.
//!
//! The encoding is that of `PeerFrame` in `proto/clique/v1/peer.proto`. Entries pass through as the bytes they were
//! accepted as; everything else goes through the generated types.

use bytes::{Buf, BufMut as _, Bytes};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::{
    WireError,
    entry::{self, ENTRY_TAG},
    peer::{Entries, PeerFrame},
    proto,
};

/// Field of `Entries` in `PeerFrame`.
const ENTRIES_FIELD: u8 = 4;

/// Entries of at least so many bytes are kept where they were received.
const MIN_PINNED_BYTES: usize = 32 * 1024;

/// The codec of the generated client and server. Nodes do without its copies: `node::grpc`.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeerCodec;

impl Codec for PeerCodec {
    type Encode = PeerFrame;
    type Decode = PeerFrame;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for PeerCodec {
    type Item = PeerFrame;
    type Error = Status;

    fn encode(&mut self, frame: PeerFrame, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let (head, entries) = encode(&frame);
        out.reserve(head.len() + entries.len());
        out.put_slice(&head);
        out.put_slice(&entries);
        Ok(())
    }
}

impl Decoder for PeerCodec {
    type Item = PeerFrame;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<PeerFrame>, Status> {
        decode(buffer).map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

/// The bytes of a frame, in two parts: the second is the entries, as they are.
#[must_use]
pub fn encode(frame: &PeerFrame) -> (Vec<u8>, Bytes) {
    let mut head = Vec::with_capacity(48);
    let PeerFrame::Entries(entries) = frame else {
        let (field, body) = proto::peer_frame_body(frame);
        put_key(&mut head, field);
        entry::put_varint(&mut head, body.len() as u64);
        head.extend_from_slice(&body);
        return (head, Bytes::new());
    };
    let mut fields = Vec::with_capacity(40);
    let origin = proto::origin_body(entries.origin);
    put_key(&mut fields, 1);
    entry::put_varint(&mut fields, origin.len() as u64);
    fields.extend_from_slice(&origin);
    fields.push(2 << 3);
    entry::put_varint(&mut fields, entries.first);
    if entries.sent_unix_us != 0 {
        fields.push((3 << 3) | 1);
        fields.extend_from_slice(&entries.sent_unix_us.to_le_bytes());
    }
    put_key(&mut head, ENTRIES_FIELD);
    entry::put_varint(&mut head, (fields.len() + entries.bytes.len()) as u64);
    head.extend_from_slice(&fields);
    (head, entries.bytes.clone())
}

fn put_key(out: &mut Vec<u8>, field: u8) {
    entry::put_varint(out, (u64::from(field) << 3) | 2);
}

/// Reads a frame, all of the bytes: exactly one of the kinds.
///
/// # Errors
/// If it is anything else.
pub fn decode(bytes: &mut impl Buf) -> Result<PeerFrame, WireError> {
    const MALFORMED: WireError = WireError::Malformed("frame from a peer");
    let key = take_varint(bytes).ok_or(MALFORMED)?;
    let length = take_varint(bytes).ok_or(MALFORMED)?;
    if key & 7 != 2 || length != bytes.remaining() as u64 {
        return Err(MALFORMED);
    }
    if key >> 3 == u64::from(ENTRIES_FIELD) {
        return read_entries(bytes).map(PeerFrame::Entries);
    }
    proto::read_peer_frame(key >> 3, bytes.copy_to_bytes(bytes.remaining()))
}

fn read_entries(bytes: &mut impl Buf) -> Result<Entries, WireError> {
    const MALFORMED: WireError = WireError::Malformed("entries");
    let (mut origin, mut first, mut sent_unix_us) = (None, 0, 0);
    loop {
        match bytes.chunk().first() {
            Some(&ENTRY_TAG) => break,
            Some(0x0a) => {
                bytes.advance(1);
                let length = take_varint(bytes).and_then(|length| usize::try_from(length).ok()).ok_or(MALFORMED)?;
                if length > bytes.remaining() {
                    return Err(MALFORMED);
                }
                origin = Some(proto::read_origin(bytes.copy_to_bytes(length))?);
            }
            Some(0x10) => {
                bytes.advance(1);
                first = take_varint(bytes).ok_or(MALFORMED)?;
            }
            Some(0x19) if bytes.remaining() >= 9 => {
                bytes.advance(1);
                sent_unix_us = bytes.get_u64_le();
            }
            _ => return Err(MALFORMED),
        }
    }
    // The log keeps it, and a slice pins the whole receive buffer: what does not fill much of it is copied.
    let bytes = bytes.copy_to_bytes(bytes.remaining());
    let bytes = if bytes.len() < MIN_PINNED_BYTES { Bytes::copy_from_slice(&bytes) } else { bytes };
    Ok(Entries { origin: origin.ok_or(MALFORMED)?, first, sent_unix_us, bytes })
}

fn take_varint(bytes: &mut impl Buf) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        if !bytes.has_remaining() {
            return None;
        }
        let byte = bytes.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[path = "peer_codec_tests.rs"]
mod tests;
