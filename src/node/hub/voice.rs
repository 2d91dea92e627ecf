//! How each dialect says what the node has to say.

use super::{ClientId, Hub, Ports, clients::Client};
use crate::{
    chat::{Addressee, Message, SERVICE_NAME, notice},
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
            ports.to_client(client, &said(state, text), None);
        }
    }

    /// Says something to everybody who is registered here.
    pub(super) fn tell_everyone(&self, text: &str, ports: &mut impl Ports) {
        for (client, state) in self.clients.iter().filter(|(_, state)| state.registration().is_some()) {
            ports.to_client(*client, &said(state, text), None);
        }
    }
}

/// What the service says to a client, in its dialect.
pub(super) fn said(client: &Client, text: &str) -> Vec<u8> {
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

/// One message of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) origin: Origin,
    pub(super) number: u64,
    /// Hybrid logical time of acceptance.
    pub(super) time: u64,
    pub(super) message: Message<'a>,
    /// It comes late because a link was cut.
    pub(super) is_late: bool,
}

impl Said<'_> {
    /// As something that was said before.
    pub(super) fn as_history(&self, dialect: Dialect) -> Vec<u8> {
        let message = &self.message;
        match dialect {
            Dialect::Extended => {
                let mut out = Vec::new();
                let shown = delivery(self.origin, self.number, self.time, message, false);
                FromNode::Delivery(extended::Delivery { history: true, ..shown }).encode(&mut out);
                out
            }
            Dialect::Lines => {
                let mut out = format!("[{}] ", minute(time::unix_ms(self.time))).into_bytes();
                lines::encode_message(&mut out, message.sender, Some(message.to.as_str()), message.text);
                out
            }
            // Only for whoever asks for it: there is no other place for the time than the text.
            Dialect::Frames => {
                let mut out = Vec::new();
                let text = [format!("[{}] ", minute(time::unix_ms(self.time))).as_bytes(), message.text].concat();
                frames::encode_message(&mut out, message.sender, message.to.as_str(), &text);
                out
            }
        }
    }

    /// Appends it in the words of a dialect.
    pub(super) fn put(&self, dialect: Dialect, is_replayed: bool, out: &mut Vec<u8>) {
        let message = &self.message;
        match dialect {
            Dialect::Frames => frames::encode_message(out, message.sender, message.to.as_str(), message.text),
            Dialect::Lines => {
                let to = match message.to {
                    Addressee::Person(..) | Addressee::Owner(..) => None,
                    Addressee::Everyone | Addressee::Room(_) => Some(message.to.as_str()),
                };
                let mark = self.is_late.then(|| notice::late_mark(time::unix_ms(self.time)));
                lines::encode_marked_message(out, message.sender, to, mark.as_deref(), message.text);
            }
            Dialect::Extended => {
                let body = delivery(self.origin, self.number, self.time, message, is_replayed);
                FromNode::Delivery(extended::Delivery { from_split: self.is_late, ..body }).encode(out);
            }
        }
    }
}

fn delivery(origin: Origin, number: u64, time: u64, message: &Message<'_>, is_replayed: bool) -> extended::Delivery {
    extended::Delivery {
        id: Some(MessageId { origin: Some(origin.into()), number }),
        from: message.sender.to_owned(),
        to: message.to.as_str().to_owned(),
        text: message.text.to_vec(),
        time_unix_ms: time::unix_ms(time),
        replayed: is_replayed,
        history: false,
        from_split: false,
        traceparent: message.trace.as_ref().map(format_traceparent).unwrap_or_default(),
    }
}

/// A time as people read it, in UTC.
fn minute(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.unwrap_or_default().strftime("%Y-%m-%d %H:%M").to_string()
}
