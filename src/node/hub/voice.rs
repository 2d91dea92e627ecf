//! How each dialect says what the node has to say.

use super::{ClientId, Hub, Ports, clients::Client};
use crate::{
    chat::{Addressee, Message, SERVICE_NAME},
    clique::{Origin, time},
    wire::{
        Dialect,
        extended::{self, FromNode, MessageId},
        frames, lines,
        traceparent::format_traceparent,
    },
};

impl Hub {
    /// Says something to one client, in its dialect.
    pub(super) fn tell(&self, client: ClientId, text: &str, ports: &mut impl Ports) {
        if let Some(state) = self.clients.get(&client) {
            ports.to_client(client, &notice(state, text), None);
        }
    }

    /// Says something to everybody who is registered here.
    pub(super) fn tell_everyone(&self, text: &str, ports: &mut impl Ports) {
        for (client, state) in self.clients.iter().filter(|(_, state)| state.registration().is_some()) {
            ports.to_client(*client, &notice(state, text), None);
        }
    }
}

fn notice(client: &Client, text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 64);
    match client.dialect {
        Dialect::Lines => lines::encode_notice(&mut out, text),
        Dialect::Frames => {
            let receiver = client.name().map_or("you", |name| name.as_str());
            frames::encode_message(&mut out, SERVICE_NAME, receiver, text.as_bytes());
        }
        Dialect::Extended => FromNode::Notice(extended::Notice { text: text.to_owned() }).encode(&mut out),
    }
    out
}

/// One log entry in the words of each dialect, each made at most once.
pub(super) struct Rendered<'a> {
    origin: Origin,
    number: u64,
    /// Hybrid logical time of acceptance.
    time: u64,
    message: Message<'a>,
    frames: Option<Vec<u8>>,
    lines: Option<Vec<u8>>,
    extended: [Option<Vec<u8>>; 2],
}

impl<'a> Rendered<'a> {
    pub(super) fn new(origin: Origin, number: u64, time: u64, message: Message<'a>) -> Self {
        Self { origin, number, time, message, frames: None, lines: None, extended: [None, None] }
    }

    /// Which entry it is, and what it says.
    pub(super) fn identity(&self) -> (Origin, u64, &Message<'a>) {
        (self.origin, self.number, &self.message)
    }

    /// When it was accepted, in hybrid logical time.
    pub(super) fn time(&self) -> u64 {
        self.time
    }

    pub(super) fn for_dialect(&mut self, dialect: Dialect, is_replayed: bool) -> &[u8] {
        let (origin, number, time, message) = (self.origin, self.number, self.time, &self.message);
        match dialect {
            Dialect::Frames => self.frames.get_or_insert_with(|| {
                let mut out = Vec::new();
                frames::encode_message(&mut out, message.sender, message.to.as_str(), message.text);
                out
            }),
            Dialect::Lines => self.lines.get_or_insert_with(|| {
                let mut out = Vec::new();
                let to = match message.to {
                    Addressee::Person(..) | Addressee::Owner(..) => None,
                    Addressee::Everyone | Addressee::Room(_) => Some(message.to.as_str()),
                };
                lines::encode_message(&mut out, message.sender, to, message.text);
                out
            }),
            Dialect::Extended => self.extended[usize::from(is_replayed)]
                .get_or_insert_with(|| delivery(origin, number, time, message, is_replayed)),
        }
    }
}

fn delivery(origin: Origin, number: u64, time: u64, message: &Message<'_>, is_replayed: bool) -> Vec<u8> {
    let mut out = Vec::new();
    FromNode::Delivery(extended::Delivery {
        id: Some(MessageId { origin: Some(origin.into()), number }),
        from: message.sender.to_owned(),
        to: message.to.as_str().to_owned(),
        text: message.text.to_vec(),
        time_unix_ms: time::unix_ms(time),
        replayed: is_replayed,
        history: false,
        from_split: false,
        traceparent: message.trace.as_ref().map(format_traceparent).unwrap_or_default(),
    })
    .encode(&mut out);
    out
}
