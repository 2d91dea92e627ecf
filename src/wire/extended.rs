//! Extended frames: what our own client may use after it registered with type 2, subtype 2.
//!
//! The header is that of the original frames; types from 40 up have a protobuf message of `proto/clique/v1/client.proto`
//! as their body.

pub use super::proto::{
    awaited,
    generated::{
        Claimed, Command, Delivery, Height, MessageId, NodeState, NodesChanged, Notice, Origin, PeopleChanged,
        PersonAt, Receipt, ReceiptRun, Register, RegisterRefused, Registered, Registration, Renamed, Resume, RoomState,
        RoomsChanged, Send, Stopping, Unsettled, receipt::State, register_refused::Why,
    },
    heights_from_proto, heights_to_proto,
};
use super::{
    WireError,
    fields::{Malformed, Reader, Value},
    frames::{self, Frame, kind},
    proto::{Body, decode_body, encode_body},
};

/// Type numbers of the extended frames; the subtype is 0.
pub mod number {
    pub const REGISTERED: i8 = 40;
    pub const REGISTER_REFUSED: i8 = 41;
    pub const SEND: i8 = 42;
    pub const DELIVERY: i8 = 43;
    pub const RECEIPT: i8 = 44;
    pub const NOTICE: i8 = 45;
    pub const PEOPLE_CHANGED: i8 = 46;
    pub const NODES_CHANGED: i8 = 47;
    pub const RENAMED: i8 = 48;
    pub const COMMAND: i8 = 49;
    pub const STOPPING: i8 = 50;
    pub const ROOMS_CHANGED: i8 = 51;
    pub const CLAIMED: i8 = 52;
    pub const RECEIPT_RUN: i8 = 53;
}

/// Messages of one run at most, so that whoever takes it apart knows a bound.
pub const MAX_RUN: u32 = 4_096;

/// What an extended client says, besides the original types 5, 6 and 7.
#[derive(Debug, Clone, PartialEq)]
pub enum FromClient {
    Register(Register),
    Send(Send),
    Command(Command),
}

/// A [`Send`] as it lies in its frame: read without an allocation, since it comes with every message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendView<'a> {
    pub reference: u64,
    pub to: &'a str,
    pub text: &'a [u8],
    pub traceparent: &'a str,
}

impl<'a> SendView<'a> {
    /// Reads the body of a frame of this type.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Malformed);
        let read = || -> Result<Self, Malformed> {
            let (mut reader, mut view) = (Reader(body), Self::default());
            while let Some(field) = reader.field()? {
                match field {
                    (1, Value::Number(reference)) => view.reference = reference,
                    (2, Value::Bytes(bytes)) => view.to = text(bytes)?,
                    (3, Value::Bytes(bytes)) => view.text = bytes,
                    (4, Value::Bytes(bytes)) => view.traceparent = text(bytes)?,
                    _ => {}
                }
            }
            Ok(view)
        };
        read().map_err(|Malformed| WireError::Malformed("message of an extended client"))
    }
}

/// What a node says to an extended client, besides the original types 5, 6 and 7.
#[derive(Debug, Clone, PartialEq)]
pub enum FromNode {
    Registered(Registered),
    RegisterRefused(RegisterRefused),
    Delivery(Delivery),
    Receipt(Receipt),
    ReceiptRun(ReceiptRun),
    Notice(Notice),
    PeopleChanged(PeopleChanged),
    NodesChanged(NodesChanged),
    Renamed(Renamed),
    Stopping(Stopping),
    RoomsChanged(RoomsChanged),
    Claimed(Claimed),
}

impl FromClient {
    /// Reads a frame; `None` if it is none of these.
    ///
    /// # Errors
    /// If its body cannot be read.
    pub fn read(frame: &Frame) -> Result<Option<Self>, WireError> {
        Ok(Some(match frame.kind {
            kind::REGISTER_EXTENDED => Self::Register(decode_body(&frame.body)?),
            (number::SEND, 0) => Self::Send(decode_body(&frame.body)?),
            (number::COMMAND, 0) => Self::Command(decode_body(&frame.body)?),
            _ => return Ok(None),
        }))
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Register(body) => put(out, kind::REGISTER_EXTENDED, body),
            Self::Send(body) => put(out, (number::SEND, 0), body),
            Self::Command(body) => put(out, (number::COMMAND, 0), body),
        }
    }
}

impl FromNode {
    /// Reads a frame; `None` if it is none of these.
    ///
    /// # Errors
    /// If its body cannot be read.
    pub fn read(frame: &Frame) -> Result<Option<Self>, WireError> {
        let body = &frame.body;
        Ok(Some(match frame.kind {
            (number::REGISTERED, 0) => Self::Registered(decode_body(body)?),
            (number::REGISTER_REFUSED, 0) => Self::RegisterRefused(decode_body(body)?),
            (number::DELIVERY, 0) => Self::Delivery(decode_body(body)?),
            (number::RECEIPT, 0) => Self::Receipt(decode_body(body)?),
            (number::RECEIPT_RUN, 0) => Self::ReceiptRun(decode_body::<ReceiptRun>(body)?.checked()?),
            (number::NOTICE, 0) => Self::Notice(decode_body(body)?),
            (number::PEOPLE_CHANGED, 0) => Self::PeopleChanged(decode_body(body)?),
            (number::NODES_CHANGED, 0) => Self::NodesChanged(decode_body(body)?),
            (number::RENAMED, 0) => Self::Renamed(decode_body(body)?),
            (number::STOPPING, 0) => Self::Stopping(decode_body(body)?),
            (number::ROOMS_CHANGED, 0) => Self::RoomsChanged(decode_body(body)?),
            (number::CLAIMED, 0) => Self::Claimed(decode_body(body)?),
            _ => return Ok(None),
        }))
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Registered(body) => put(out, (number::REGISTERED, 0), body),
            Self::RegisterRefused(body) => put(out, (number::REGISTER_REFUSED, 0), body),
            Self::Delivery(body) => put(out, (number::DELIVERY, 0), body),
            Self::Receipt(body) => put(out, (number::RECEIPT, 0), body),
            Self::ReceiptRun(body) => put(out, (number::RECEIPT_RUN, 0), body),
            Self::Notice(body) => put(out, (number::NOTICE, 0), body),
            Self::PeopleChanged(body) => put(out, (number::PEOPLE_CHANGED, 0), body),
            Self::NodesChanged(body) => put(out, (number::NODES_CHANGED, 0), body),
            Self::Renamed(body) => put(out, (number::RENAMED, 0), body),
            Self::Stopping(body) => put(out, (number::STOPPING, 0), body),
            Self::RoomsChanged(body) => put(out, (number::ROOMS_CHANGED, 0), body),
            Self::Claimed(body) => put(out, (number::CLAIMED, 0), body),
        }
    }
}

impl ReceiptRun {
    /// As it may come from another process.
    pub(super) fn checked(self) -> Result<Self, WireError> {
        match self.first {
            Some(_) if (1..=MAX_RUN).contains(&self.count) => Ok(self),
            _ => Err(WireError::Malformed("run of receipts")),
        }
    }

    /// Appends the shortest frame that says it: of a single message that is a plain receipt.
    pub fn encode(self, out: &mut Vec<u8>) {
        match self.first {
            Some(first) if self.count == 1 => FromNode::Receipt(first).encode(out),
            first => FromNode::ReceiptRun(Self { first, ..self }).encode(out),
        }
    }

    /// The receipt of each message.
    pub fn each(self) -> impl Iterator<Item = Receipt> {
        let following = |first: &Receipt, offset: u32| {
            let mut receipt = first.clone();
            receipt.reference = receipt.reference.wrapping_add(offset.into());
            if let Some(id) = &mut receipt.id {
                id.number = id.number.wrapping_add(offset.into());
            }
            receipt
        };
        let count = self.count;
        self.first.into_iter().flat_map(move |first| (0..count).map(move |offset| following(&first, offset)))
    }
}

fn put(out: &mut Vec<u8>, kind: (i8, i8), body: &impl Body) {
    frames::encode(out, kind, 0, &[&encode_body(body)]);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_message_is_read_where_it_lies_as_it_was_written(
            reference: u64,
            to in "\\PC{0,20}",
            text in proptest::collection::vec(any::<u8>(), 0..300),
            traceparent in "[0-9a-f-]{0,60}",
        ) {
            let send = Send { reference, to, text, traceparent };
            let mut bytes = Vec::new();
            FromClient::Send(send.clone()).encode(&mut bytes);
            let frame = frames::decode(&mut BytesMut::from(&bytes[..])).unwrap().unwrap();
            let view = SendView { reference, to: &send.to, text: &send.text, traceparent: &send.traceparent };
            prop_assert_eq!(SendView::read(&frame.body), Ok(view));
            prop_assert_eq!(FromClient::read(&frame), Ok(Some(FromClient::Send(send.clone()))));
        }

        #[test]
        fn what_can_be_read_where_it_lies_is_what_the_general_reader_reads(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let (view, general) = (SendView::read(&body), decode_body::<Send>(&body));
            if let (Ok(view), Ok(send)) = (view, general) {
                prop_assert_eq!((view.reference, view.to), (send.reference, &send.to[..]));
                prop_assert_eq!((view.text, view.traceparent), (&send.text[..], &send.traceparent[..]));
            }
        }
    }
}
