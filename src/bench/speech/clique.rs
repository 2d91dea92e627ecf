//! The dialects of a clique: frames and extended frames.

use super::{Event, Reference, SpeechError, Template};
use crate::{
    chat::SERVICE_NAME,
    wire::{
        extended::{self, FromClient, Register, number},
        frames::{self, HEADER_BYTES, MAX_BODY_BYTES, kind},
    },
};

/// Bytes of a reference: a padded number, so that it can be overwritten in place.
const REFERENCE_BYTES: usize = 6;
/// Tag bytes of the fields of `Send`.
const SEND_REFERENCE: u8 = 1 << 3;
const SEND_TO: u8 = (2 << 3) | LENGTH_DELIMITED as u8;
const SEND_TEXT: u8 = (3 << 3) | LENGTH_DELIMITED as u8;
/// Fields of `Delivery`, `Receipt`, `RegisterRefused` and `Notice`.
const DELIVERY_FROM: u64 = 2;
const DELIVERY_TEXT: u64 = 4;
const RECEIPT_REFERENCE: u64 = 1;
const RECEIPT_STATE: u64 = 2;
const RECEIPT_REASON: u64 = 7;
const REASON: u64 = 1;
/// Fields of `ReceiptRun`.
const RUN_FIRST: u64 = 1;
const RUN_COUNT: u64 = 2;
/// Protobuf's wire types.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

pub(super) fn register(out: &mut Vec<u8>, name: &str) {
    frames::encode(out, kind::REGISTER, 0, &[name.as_bytes()]);
}

pub(super) fn register_extended(out: &mut Vec<u8>, name: &str) {
    let session_key = rand::random::<[u8; 16]>().to_vec();
    FromClient::Register(Register { name: name.to_owned(), session_key, ..Register::default() }).encode(out);
}

pub(super) fn template(to: &str, text: &[u8]) -> Template {
    let mut bytes = Vec::new();
    frames::encode(&mut bytes, kind::MESSAGE, to.len(), &[to.as_bytes(), b" ", text]);
    Template { bytes, stamp_at: HEADER_BYTES + to.len() + 1, reference: None }
}

pub(super) fn template_extended(to: &str, text: &[u8]) -> Template {
    let mut body = vec![SEND_REFERENCE];
    body.extend_from_slice(&[0; REFERENCE_BYTES]);
    put_reference(&mut body[1..], 0);
    for (tag, bytes) in [(SEND_TO, to.as_bytes()), (SEND_TEXT, text)] {
        body.push(tag);
        put_varint(&mut body, bytes.len() as u64);
        body.extend_from_slice(bytes);
    }
    let mut bytes = Vec::new();
    frames::encode(&mut bytes, (number::SEND, 0), 0, &[&body]);
    let stamp_at = bytes.len() - text.len();
    Template { bytes, stamp_at, reference: Some(Reference::Varint { at: HEADER_BYTES + 1 }) }
}

/// Overwrites the reference with one that is unique per sequence number (and not 0, which means none).
pub(super) fn put_reference(out: &mut [u8], sequence: u64) {
    let mut rest = sequence + 1;
    for (at, byte) in out.iter_mut().take(REFERENCE_BYTES).enumerate() {
        // Continued to the last byte even if the rest is 0: readers of variable-length numbers accept that.
        let more = if at + 1 < REFERENCE_BYTES { 0x80 } else { 0 };
        *byte = (rest & 0x7f) as u8 | more;
        rest >>= 7;
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[inline]
pub(super) fn hear(bytes: &[u8]) -> Result<Option<(usize, Event<'_>)>, SpeechError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [kind, subkind, length @ .., first_high, first_low] = *header;
    let kind = (kind.cast_signed(), subkind.cast_signed());
    let length = usize::from(u16::from_be_bytes(length));
    let first_part = usize::from(u16::from_be_bytes([first_high, first_low]));
    let is_extended = kind.0 >= kind::FIRST_EXTENDED;
    if kind.0 < 0 || first_part > length || (!is_extended && length > MAX_BODY_BYTES) {
        return Err(SpeechError::Malformed("frame"));
    }
    let end = HEADER_BYTES + length;
    let Some(body) = bytes.get(HEADER_BYTES..end) else { return Ok(None) };
    let event = match kind {
        kind::MESSAGE => message(body, first_part)?,
        kind::REGISTERED => Event::Registered,
        kind::REFUSED => Event::Refused(b"the name is taken or not legal"),
        _ if is_extended => extended_event(kind.0, body)?,
        _ => Event::Other,
    };
    Ok(Some((end, event)))
}

/// `SENDER 0x00 RECEIVER 0x20 TEXT`, of which the first part ends before the space.
#[inline]
fn message(body: &[u8], first_part: usize) -> Result<Event<'_>, SpeechError> {
    let (names, rest) = body.split_at(first_part);
    let from = names.iter().position(|byte| *byte == 0).map(|end| &names[..end]);
    let (Some(from), Some(text)) = (from, rest.get(1..)) else { return Err(SpeechError::Malformed("message")) };
    Ok(if from == SERVICE_NAME.as_bytes() { Event::Notice(text) } else { Event::Message { from, text } })
}

fn extended_event(kind: i8, body: &[u8]) -> Result<Event<'_>, SpeechError> {
    let mut fields = Fields { rest: body };
    let (mut from, mut text) = (&[][..], &[][..]);
    let (from_field, text_field) = match kind {
        number::DELIVERY => (DELIVERY_FROM, DELIVERY_TEXT),
        number::REGISTER_REFUSED | number::NOTICE => (0, REASON),
        number::REGISTERED => return Ok(Event::Registered),
        number::RECEIPT => return receipts(body, 1),
        number::RECEIPT_RUN => return receipt_run(body),
        _ => return Ok(Event::Other),
    };
    while let Some((field, value)) = fields.next()? {
        match value {
            Value::Bytes(bytes) if field == from_field => from = bytes,
            Value::Bytes(bytes) if field == text_field => text = bytes,
            _ => {}
        }
    }
    Ok(match kind {
        number::DELIVERY => Event::Message { from, text },
        number::REGISTER_REFUSED => Event::Refused(text),
        _ => Event::Notice(text),
    })
}

fn receipt_run(body: &[u8]) -> Result<Event<'_>, SpeechError> {
    let mut fields = Fields { rest: body };
    let (mut receipt, mut count) = (&[][..], 0);
    while let Some((field, value)) = fields.next()? {
        match value {
            Value::Bytes(bytes) if field == RUN_FIRST => receipt = bytes,
            Value::Number(number) if field == RUN_COUNT => count = number.min(extended::MAX_RUN.into()),
            _ => {}
        }
    }
    receipts(receipt, count)
}

/// The receipt of the first of so many messages.
fn receipts(body: &[u8], count: u64) -> Result<Event<'_>, SpeechError> {
    let mut fields = Fields { rest: body };
    let (mut reference, mut state, mut reason) = (0, 0, &[][..]);
    while let Some((field, value)) = fields.next()? {
        match value {
            Value::Number(number) if field == RECEIPT_REFERENCE => reference = number,
            Value::Number(number) if field == RECEIPT_STATE => state = number,
            Value::Bytes(bytes) if field == RECEIPT_REASON => reason = bytes,
            _ => {}
        }
    }
    let refused = [extended::State::Refused, extended::State::Undelivered];
    let refusal = refused.iter().any(|refused| state == *refused as u64).then_some(reason);
    // References count from 1; 0 would be a message without one.
    Ok(if reference == 0 { Event::Other } else { Event::Receipt { first: reference - 1, count, refusal } })
}

/// A field's value, as far as anything here looks at it.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a protobuf message, one after the other.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, SpeechError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            VARINT => Value::Number(self.varint()?),
            LENGTH_DELIMITED => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            FIXED_64 => self.take(8).map(|_| Value::Other)?,
            FIXED_32 => self.take(4).map(|_| Value::Other)?,
            _ => return Err(MALFORMED),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64, SpeechError> {
        let mut number = 0;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(number);
            }
        }
        Err(MALFORMED)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], SpeechError> {
        let length = usize::try_from(length).map_err(|_| MALFORMED)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(MALFORMED)?;
        self.rest = rest;
        Ok(taken)
    }
}

const MALFORMED: SpeechError = SpeechError::Malformed("body of an extended frame");

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::{
        super::{super::payload::Stamp, Speech},
        *,
    };
    use crate::wire::extended::{
        Delivery, FromNode, MessageId, Notice, Origin, Receipt, ReceiptRun, RegisterRefused, Registered,
    };

    fn heard(from_node: &FromNode) -> Vec<u8> {
        let mut bytes = Vec::new();
        from_node.encode(&mut bytes);
        bytes
    }

    #[test]
    fn what_a_node_says_is_understood() {
        let mut bytes = Vec::new();
        frames::encode_empty(&mut bytes, kind::REGISTERED);
        frames::encode_message(&mut bytes, "alice", "bob", b"hi there");
        frames::encode_message(&mut bytes, "clique", "bob", b"nobody called zed is here");
        frames::encode_nodes(&mut bytes, &[4010]);
        frames::encode_empty(&mut bytes, kind::REFUSED);
        let mut events = Vec::new();
        let mut rest = &bytes[..];
        while let Some((length, event)) = hear(rest).unwrap() {
            events.push(event);
            rest = &rest[length..];
        }
        let expected = [
            Event::Registered,
            Event::Message { from: b"alice", text: b"hi there" },
            Event::Notice(b"nobody called zed is here"),
            Event::Other,
            Event::Refused(b"the name is taken or not legal"),
        ];
        assert_eq!(events, expected);
        assert!(rest.is_empty());
    }

    #[test]
    fn extended_frames_are_understood_without_decoding_them_whole() {
        let origin = Origin { node: 3, incarnation: u64::MAX };
        let delivery = heard(&FromNode::Delivery(Delivery {
            id: Some(MessageId { origin: Some(origin), number: 1 << 40 }),
            from: "alice".into(),
            to: "bob".into(),
            text: b"hi".to_vec(),
            time_unix_ms: 1 << 41,
            replayed: true,
            traceparent: "00-".into(),
            ..Delivery::default()
        }));
        assert_eq!(hear(&delivery), Ok(Some((delivery.len(), Event::Message { from: b"alice", text: b"hi" }))));
        let receipt = |state: extended::State| {
            let receipt = Receipt { reference: 8, state: state.into(), reason: "why".into(), ..Receipt::default() };
            heard(&FromNode::Receipt(receipt))
        };
        let event = |bytes: &[u8]| format!("{:?}", hear(bytes).unwrap().unwrap().1);
        let told = |count, refusal| format!("{:?}", Event::Receipt { first: 7, count, refusal });
        assert_eq!(event(&receipt(extended::State::Refused)), told(1, Some(b"why")));
        assert_eq!(event(&receipt(extended::State::Accepted)), told(1, None));
        let first = Some(Receipt { reference: 8, state: extended::State::Replicated.into(), ..Receipt::default() });
        assert_eq!(event(&heard(&FromNode::ReceiptRun(ReceiptRun { first, count: 300 }))), told(300, None));
        assert_eq!(event(&heard(&FromNode::Receipt(Receipt::default()))), "Other");
        let refused =
            heard(&FromNode::RegisterRefused(RegisterRefused { reason: "no".into(), ..RegisterRefused::default() }));
        assert_eq!(event(&refused), format!("{:?}", Event::Refused(b"no")));
        assert_eq!(event(&heard(&FromNode::Registered(Registered::default()))), "Registered");
        let notice = heard(&FromNode::Notice(Notice { text: "so".into() }));
        assert_eq!(event(&notice), format!("{:?}", Event::Notice(b"so")));
    }

    proptest! {
        #[test]
        fn a_node_reads_what_is_sent(to in "[a-z0-9]{1,12}", size in 16..300_usize, sequence in 0..1_u64 << 36) {
            let stamp = Stamp { sender: 7, sequence, time_ns: 1 << 33 };
            let text = [&stamp.encode()[..], &super::super::payload::filler(size)].concat();
            for speech in [Speech::Frames, Speech::Extended] {
                let mut bytes = Vec::new();
                let template = speech.template("me", &to, size);
                template.append(&mut bytes, stamp);
                prop_assert_eq!(bytes.len(), template.wire_bytes());
                let frame = frames::decode(&mut BytesMut::from(&bytes[..])).unwrap().unwrap();
                if speech == Speech::Frames {
                    let (receiver, said) = frames::split_message(frame.view()).unwrap();
                    prop_assert_eq!((receiver, said), (to.as_bytes(), &text[..]));
                    continue;
                }
                let Ok(Some(FromClient::Send(send))) = FromClient::read(&frame) else { panic!("no message") };
                prop_assert_eq!((send.reference, &send.to, &send.text[..]), (sequence + 1, &to, &text[..]));
            }
        }
    }
}
