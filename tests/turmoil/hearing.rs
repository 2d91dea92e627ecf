//! How people hear and speak: the bytes of the lines and the extended dialect.

use bytes::BytesMut;
use clique::{
    clique::{Heights, Origin},
    wire::{
        Dialect,
        extended::{
            FromClient, FromNode, MessageId, Receipt, Register, Registration, Resume, Send, heights_from_proto,
            heights_to_proto,
        },
        frames::{self, kind},
        lines::LineReader,
    },
};

use crate::faults::Fault;

/// Which entry of which log a message is.
pub type Place = (Origin, u64);

/// What somebody reads.
#[derive(Debug)]
pub enum Heard {
    Registered {
        resumed: bool,
        heights: Heights,
        registration: Option<Registration>,
    },
    NameRefused,
    Message {
        place: Option<Place>,
        from: String,
        to: Option<String>,
        text: String,
    },
    Receipt(Box<Receipt>),
    /// A line was not taken.
    Refused,
    Renamed(String),
    Stopping,
    /// An answer that only shows that the node is alive, or a notice.
    Sign,
}

pub fn place(id: &MessageId) -> Option<Place> {
    let origin = id.origin.as_ref()?;
    Some((Origin { node: u16::try_from(origin.node).ok()?, incarnation: origin.incarnation }, id.number))
}

/// Takes what a node writes apart.
pub struct Ear {
    dialect: Dialect,
    buffer: BytesMut,
    lines: LineReader,
}

impl Ear {
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, buffer: BytesMut::new(), lines: LineReader::default() }
    }

    pub fn take(&mut self, bytes: &[u8]) -> Vec<Heard> {
        self.buffer.extend_from_slice(bytes);
        let mut heard = Vec::new();
        if self.dialect == Dialect::Lines {
            while let Some(line) = self.lines.next(&mut self.buffer) {
                heard.push(line_heard(std::str::from_utf8(&line.unwrap()).unwrap()));
            }
        } else {
            while let Some(frame) = frames::decode(&mut self.buffer).unwrap() {
                match FromNode::read(&frame).unwrap() {
                    Some(FromNode::ReceiptRun(receipts)) => {
                        heard.extend(receipts.each().map(|receipt| Heard::Receipt(Box::new(receipt))));
                    }
                    other => heard.push(frame_heard(other)),
                }
            }
        }
        heard
    }
}

fn frame_heard(said: Option<FromNode>) -> Heard {
    match said {
        Some(FromNode::Registered(registered)) => {
            let heights = heights_from_proto(registered.heights);
            Heard::Registered { resumed: registered.resumed, heights, registration: registered.registration }
        }
        Some(FromNode::RegisterRefused(_)) => Heard::NameRefused,
        Some(FromNode::Delivery(delivery)) => Heard::Message {
            place: delivery.id.as_ref().and_then(place),
            from: delivery.from,
            to: Some(delivery.to),
            text: String::from_utf8(delivery.text).unwrap(),
        },
        Some(FromNode::Receipt(receipt)) => Heard::Receipt(Box::new(receipt)),
        Some(FromNode::Renamed(renamed)) => Heard::Renamed(renamed.name),
        Some(FromNode::Stopping(_)) => Heard::Stopping,
        _ => Heard::Sign,
    }
}

fn line_heard(line: &str) -> Heard {
    if let Some(notice) = line.strip_prefix("* ") {
        return if notice.starts_with("welcome, ") {
            Heard::Registered { resumed: false, heights: Heights::default(), registration: None }
        } else if notice.starts_with("the name ")
            && (notice.contains(" is taken") || notice.contains(" is kept for somebody"))
        {
            Heard::NameRefused
        } else if notice.starts_with("not sent: ") {
            Heard::Refused
        } else if let Some((_, name)) = notice.split_once("; you are ") {
            Heard::Renamed(name.to_owned())
        } else {
            Heard::Sign
        };
    }
    let (head, text) = line.split_once(": ").unwrap();
    // `bob to * [12:03, from the split]: text`.
    let head = head.split_once(" [").map_or(head, |(head, _)| head);
    let (from, to) = head.split_once(" to ").map_or((head, None), |(from, to)| (from, Some(to.to_owned())));
    Heard::Message { place: None, from: from.to_owned(), to, text: text.to_owned() }
}

/// What somebody has had and said: where to go on after a reconnect.
#[derive(Debug, Default)]
pub struct Memory {
    /// None before the first registration.
    pub received: Option<Heights>,
    pub sent: Heights,
    pub registration: Option<Registration>,
    pub formers: Vec<Registration>,
    pub fault: Option<Fault>,
}

impl Memory {
    /// As our client does it: what was missed is still to come, so a resumed node's heights are not received yet.
    pub fn registered(&mut self, resumed: bool, heights: Heights, registration: Option<Registration>) {
        self.registration = registration;
        self.formers.extend(registration.filter(|given| !self.formers.contains(given)));
        match &mut self.received {
            Some(_) if resumed => {}
            Some(received) => heights.iter().for_each(|(origin, height)| received.raise(origin, height)),
            None => self.received = Some(heights),
        }
    }

    pub fn received(&mut self, place: Option<Place>) {
        if let (Some(received), Some((origin, number))) = (&mut self.received, place) {
            received.raise(origin, number);
        }
    }

    pub fn acknowledged(&mut self, receipt: &Receipt) {
        if let Some((origin, number)) = receipt.id.as_ref().and_then(place) {
            self.sent.raise(origin, number);
        }
    }
}

/// Asks for a name.
pub fn ask_for_name(out: &mut Vec<u8>, dialect: Dialect, name: &str, memory: &Memory) {
    if dialect == Dialect::Lines {
        return out.extend_from_slice(format!("{name}\n").as_bytes());
    }
    let session_key = format!("{name:-<32}").into_bytes();
    let resume = memory.received.as_ref().map(|received| {
        let received = memory.fault.map_or_else(|| received.clone(), |fault| fault.on_resuming(received));
        Resume {
            heights: heights_to_proto(&received),
            sent: heights_to_proto(&memory.sent),
            registration: memory.registration,
            formers: memory.formers.clone(),
            ..Resume::default()
        }
    });
    FromClient::Register(Register { name: name.to_owned(), session_key, resume, ..Register::default() }).encode(out);
}

pub fn say(out: &mut Vec<u8>, dialect: Dialect, reference: u64, to: &str, text: &str) {
    if dialect == Dialect::Lines {
        return out.extend_from_slice(format!("{to} {text}\n").as_bytes());
    }
    let (to, text) = (to.to_owned(), text.as_bytes().to_vec());
    FromClient::Send(Send { reference, to, text, traceparent: String::new() }).encode(out);
}

/// Something that a living node answers.
pub fn knock(out: &mut Vec<u8>, dialect: Dialect) {
    match dialect {
        Dialect::Lines => out.extend_from_slice(b"/who\n"),
        _ => frames::encode_empty(out, kind::ECHO),
    }
}

pub fn say_goodbye(out: &mut Vec<u8>, dialect: Dialect) {
    match dialect {
        Dialect::Lines => out.extend_from_slice(b"/quit\n"),
        _ => frames::encode_empty(out, kind::GOODBYE),
    }
}
