//! People: who they are across connections, and how each dialect's bytes are read.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use clique::{
    chat::{Passphrase, Registration, directory::KeyHash},
    clique::{Heights, Origin},
    node::hub::{ClientId, FromClient, Registering, Resume, Submissions},
    wire::{
        Dialect,
        extended::{self, FromNode, MessageId, Receipt, heights_from_proto},
        frames::{self, Frame, kind},
        lines::LineReader,
    },
};

pub type PersonId = usize;
pub type ConnectionId = usize;

/// How somebody takes what their node has for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    Fast,
    /// So many bytes every so many milliseconds.
    Slow {
        bytes: usize,
        every_ms: u64,
    },
    Never,
}

#[derive(Debug)]
pub struct Person {
    pub id: PersonId,
    /// As it stands; a node may have changed it.
    pub name: String,
    pub dialect: Dialect,
    pub key_hash: KeyHash,
    pub reading: Reading,
    /// What was received; none before the first registration. Only extended clients count it.
    pub received: Option<Heights>,
    /// As the last node said it; only extended clients hear it.
    pub registration: Option<Registration>,
    /// All of the session, the first one first.
    pub formers: Vec<Registration>,
    /// What was sent and acknowledged.
    pub sent: Heights,
    pub connection: Option<ConnectionId>,
    /// How often the name was refused since the last success.
    pub refusals: u32,
    /// Not to be reconnected any more.
    pub has_left: bool,
    /// They have claimed their name, and say the passphrase with it.
    pub has_claimed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Asking,
    Registered,
    /// The person has gone; what still comes is read by nobody.
    Abandoned,
}

/// One connection, as its person sees it.
#[derive(Debug)]
pub struct Connection {
    pub person: PersonId,
    pub dialect: Dialect,
    pub node: u16,
    pub life: u64,
    pub client: ClientId,
    pub standing: Standing,
    /// Written by the node, not yet read.
    pub socket: Vec<u8>,
    pub socket_room: usize,
    pub next_reference: u64,
    /// The person's picture of who is where; only in the extended dialect.
    pub people: BTreeMap<String, u16>,
    buffer: BytesMut,
    lines: LineReader,
}

/// What a person reads.
#[derive(Debug)]
pub enum Heard {
    Registered {
        name: Option<String>,
        resumed: bool,
        heights: Heights,
        registration: Option<Registration>,
    },
    Refused {
        taken: bool,
    },
    /// By line.
    PassphraseWanted,
    Message {
        id: Option<(Origin, u64)>,
        from: String,
        to: String,
        text: String,
        replayed: bool,
    },
    Receipt(Box<Receipt>),
    Notice(String),
    Renamed(String),
    Nothing,
}

impl Person {
    pub fn new(id: PersonId, name: &str, dialect: Dialect, reading: Reading) -> Self {
        let mut key_hash = [7; 32];
        key_hash[..8].copy_from_slice(&(id as u64).to_be_bytes());
        Self {
            id,
            name: name.to_owned(),
            dialect,
            key_hash,
            reading,
            received: None,
            registration: None,
            formers: Vec::new(),
            sent: Heights::default(),
            connection: None,
            refusals: 0,
            has_left: false,
            has_claimed: false,
        }
    }

    /// Which session of theirs it is.
    pub fn session(&self) -> u8 {
        self.key_hash[31]
    }

    /// After a goodbye nobody resumes: the next connection begins with a new key.
    pub fn ends_session(&mut self) {
        self.key_hash[31] = self.key_hash[31].wrapping_add(1);
        (self.received, self.registration, self.sent) = (None, None, Heights::default());
        self.formers.clear();
    }

    /// What they claim their name with.
    pub fn passphrase(&self) -> Passphrase {
        Passphrase::typed(format!("the passphrase of {}", self.id).as_bytes())
    }

    /// What the person says to be given the name.
    pub fn registering(&self, now_us: u64) -> FromClient {
        let name = Bytes::from(self.name.clone());
        let passphrase = self.has_claimed.then(|| self.passphrase());
        match self.dialect {
            Dialect::Lines => {
                let mut submissions = Submissions::new(now_us);
                submissions.push(&name, b"", 0, None);
                FromClient::Submit(submissions)
            }
            Dialect::Frames => {
                FromClient::Register(Box::new(Registering { name, passphrase, ..Registering::default() }))
            }
            Dialect::Extended => {
                let resume = self.received.as_ref().map(|received| Resume {
                    received: received.clone(),
                    sent: self.sent.iter().collect(),
                    registration: self.registration,
                    formers: self.formers.clone(),
                    unsettled: Vec::new(),
                });
                FromClient::Register(Box::new(Registering {
                    name,
                    key_hash: Some(self.key_hash),
                    resume,
                    passphrase,
                    ..Registering::default()
                }))
            }
        }
    }

    /// As the real client does: what was missed is still to come, so a resumed node's heights are not received yet.
    pub fn registered(&mut self, resumed: bool, heights: Heights, registration: Option<Registration>) {
        self.refusals = 0;
        if self.dialect != Dialect::Extended {
            return;
        }
        self.registration = registration;
        self.formers.extend(registration.filter(|given| !self.formers.contains(given)));
        match &mut self.received {
            Some(_) if resumed => {}
            Some(received) => heights.iter().for_each(|(origin, height)| received.raise(origin, height)),
            None => self.received = Some(heights),
        }
    }

    pub fn receive(&mut self, id: Option<(Origin, u64)>) {
        if let (Some(received), Some((origin, number))) = (&mut self.received, id) {
            received.raise(origin, number);
        }
    }

    pub fn acknowledge(&mut self, id: Option<&MessageId>) {
        if let Some((origin, number)) = id.and_then(place) {
            self.sent.raise(origin, number);
        }
    }
}

pub fn place(id: &MessageId) -> Option<(Origin, u64)> {
    let origin = id.origin.as_ref()?;
    Some((Origin { node: u16::try_from(origin.node).ok()?, incarnation: origin.incarnation }, id.number))
}

impl Connection {
    pub fn new(person: &Person, node: u16, life: u64, client: ClientId, socket_room: usize) -> Self {
        Self {
            person: person.id,
            dialect: person.dialect,
            node,
            life,
            client,
            standing: Standing::Asking,
            socket: Vec::new(),
            socket_room,
            next_reference: 1,
            people: BTreeMap::new(),
            buffer: BytesMut::new(),
            lines: LineReader::default(),
        }
    }

    /// Reads at most so many bytes off the socket, and says what came whole.
    pub fn read(&mut self, max_bytes: usize) -> Vec<Heard> {
        let count = max_bytes.min(self.socket.len());
        self.buffer.extend_from_slice(&self.socket[..count]);
        self.socket.drain(..count);
        let mut heard = Vec::new();
        if self.dialect == Dialect::Lines {
            while let Some(line) = self.lines.next(&mut self.buffer) {
                heard.push(hear_line(std::str::from_utf8(&line.unwrap()).unwrap()));
            }
            return heard;
        }
        while let Some(frame) = frames::decode(&mut self.buffer).unwrap() {
            match (self.dialect, FromNode::read(&frame).unwrap()) {
                (Dialect::Extended, Some(FromNode::ReceiptRun(receipts))) => {
                    heard.extend(receipts.each().map(|receipt| Heard::Receipt(Box::new(receipt))));
                }
                (Dialect::Extended, Some(said)) => heard.push(self.hear_extended(said)),
                _ => heard.push(hear_frame(&frame)),
            }
        }
        heard
    }

    fn hear_extended(&mut self, said: FromNode) -> Heard {
        match said {
            FromNode::Registered(registered) => Heard::Registered {
                name: Some(registered.name),
                resumed: registered.resumed,
                heights: heights_from_proto(registered.heights),
                registration: registered.registration.and_then(|registration| registration.try_into().ok()),
            },
            FromNode::RegisterRefused(refused) => Heard::Refused { taken: refused.taken },
            FromNode::Delivery(delivery) => Heard::Message {
                id: delivery.id.as_ref().and_then(place),
                from: delivery.from,
                to: delivery.to,
                text: String::from_utf8(delivery.text).unwrap(),
                replayed: delivery.replayed,
            },
            FromNode::Receipt(receipt) => Heard::Receipt(Box::new(receipt)),
            FromNode::Notice(extended::Notice { text }) => Heard::Notice(text),
            FromNode::Renamed(renamed) => Heard::Renamed(renamed.name),
            FromNode::Stopping(_) => Heard::Notice("stopping".to_owned()),
            FromNode::PeopleChanged(change) => {
                if change.snapshot {
                    self.people.clear();
                }
                self.people.retain(|name, _| !change.left.contains(name));
                let node = |node| u16::try_from(node).unwrap();
                self.people.extend(change.joined.into_iter().map(|person| (person.name, node(person.node))));
                Heard::Nothing
            }
            FromNode::NodesChanged(_) | FromNode::RoomsChanged(_) | FromNode::Claimed(_) => Heard::Nothing,
            FromNode::ReceiptRun(_) => unreachable!("taken apart before"),
        }
    }
}

fn hear_frame(frame: &Frame) -> Heard {
    match frame.kind {
        kind::REGISTERED => registered_as(None),
        kind::REFUSED => Heard::Refused { taken: true },
        kind::MESSAGE => {
            let body = std::str::from_utf8(&frame.body).unwrap();
            let (names, text) = body.split_at(frame.first_part_bytes);
            let (from, to) = names.split_once('\0').unwrap();
            let text = text[1..].to_owned();
            if from == "clique" {
                return hear_notice(text);
            }
            Heard::Message { id: None, from: from.to_owned(), to: to.to_owned(), text, replayed: false }
        }
        kind::NODES_ANSWER | kind::ECHO_ANSWER | kind::GOODBYE_ANSWER => Heard::Nothing,
        other => panic!("an original client cannot read a frame of type {other:?}"),
    }
}

fn hear_line(line: &str) -> Heard {
    if let Some(notice) = line.strip_prefix("* ") {
        let name = notice.strip_prefix("welcome, ").and_then(|rest| rest.split_once(": you are on node"));
        if let Some((name, _)) = name {
            return registered_as(Some(name.to_owned()));
        }
        if notice.ends_with(" is claimed; type its passphrase") {
            return Heard::PassphraseWanted;
        }
        let is_taken = notice.starts_with("the name ")
            && (notice.contains(" is taken") || notice.contains(" is kept for somebody"))
            || notice.starts_with("that is not the passphrase of ");
        return if is_taken { Heard::Refused { taken: true } } else { hear_notice(notice.to_owned()) };
    }
    let (head, text) = line.split_once(": ").unwrap();
    let (from, to) = head.split_once(" to ").unwrap_or((head, ""));
    Heard::Message { id: None, from: from.to_owned(), to: to.to_owned(), text: text.to_owned(), replayed: false }
}

fn registered_as(name: Option<String>) -> Heard {
    Heard::Registered { name, resumed: false, heights: Heights::default(), registration: None }
}

/// A new name is told in a sentence to those whose dialect has nothing else.
fn hear_notice(text: String) -> Heard {
    let new = text.split_once("; you are ").and_then(|(_, rest)| rest.split_once(" now"));
    let ends = [" and stay connected", ", with the same passphrase"];
    match new.filter(|(_, end)| ends.iter().any(|known| end.starts_with(known))) {
        Some((name, _)) => Heard::Renamed(name.to_owned()),
        None => Heard::Notice(text),
    }
}
