//! What happens to a client, and each such event as a JSON object for scripts.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    clique::Origin,
    wire::extended::{Delivery, MessageId, NodesChanged, PeopleChanged, Receipt, Registered, State},
};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A node did not take the connection; others are tried.
    Unreachable { address: String, reason: String },
    /// Registered at a node, for the first time or again.
    Registered { address: String, registered: Box<Registered> },
    /// The node does not give the name; another must be chosen.
    NameRefused { name: String, reason: String },
    /// The connection was lost; other nodes are tried.
    Lost { reason: String },
    /// Somebody said something.
    Message(Box<Delivery>),
    /// A message of one's own is on its way. Its reference is never used again by this process.
    Sent { reference: u64, to: String, text: String },
    /// What became of a message.
    Receipt(Box<Receipt>),
    /// The connection was lost before the node answered. Unless it was `written` it was certainly not taken.
    NotAnswered { reference: u64, written: bool },
    /// A sentence from the node.
    Notice(String),
    /// Who came and left.
    People(PeopleChanged),
    /// The state of the nodes.
    Nodes(NodesChanged),
    /// One has another name now.
    Renamed { name: String, reason: String },
}

/// Why a message has no receipt, as scripts and people are told.
#[must_use]
pub fn no_answer(written: bool) -> &'static str {
    if written {
        "the connection was lost before the node answered; it may or may not have been taken"
    } else {
        "not sent: no node could be reached"
    }
}

/// An entry's identity in the whole clique: `node.incarnation/number`.
#[must_use]
pub fn id(id: Option<&MessageId>) -> Option<String> {
    let id = id?;
    let origin = id.origin.as_ref()?;
    let node = u16::try_from(origin.node).ok()?;
    Some(format!("{}/{}", Origin { node, incarnation: origin.incarnation }, id.number))
}

/// The name of a state in receipts.
#[must_use]
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Unspecified => "unspecified",
        State::Accepted => "accepted",
        State::Replicated => "replicated",
        State::Delivered => "delivered",
        State::Kept => "kept",
        State::Refused => "refused",
        State::Undelivered => "undelivered",
    }
}

/// One event as one line of JSON, without the line's end.
#[must_use]
pub fn to_json(event: &Event, now: Timestamp, trace_url: Option<&str>) -> String {
    // Serialising these types cannot fail: no maps with odd keys, no failing implementations.
    serde_json::to_string(&Json::from_event(event, now, trace_url)).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Json<'a> {
    Message {
        id: Option<String>,
        from: &'a str,
        to: &'a str,
        text: String,
        time: String,
        replayed: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        trace_id: Option<&'a str>,
    },
    Sent {
        reference: u64,
        to: &'a str,
        text: &'a str,
        time: String,
    },
    Receipt(ReceiptJson<'a>),
    Notice {
        text: &'a str,
    },
    Presence {
        snapshot: bool,
        joined: Vec<PersonJson<'a>>,
        left: &'a [String],
    },
    Nodes {
        nodes: Vec<NodeJson<'a>>,
    },
    Connection(ConnectionJson<'a>),
}

#[derive(Serialize, Default)]
struct ReceiptJson<'a> {
    reference: u64,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    nodes_holding: u32,
    nodes_known: u32,
    recipients: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    trace_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_url: Option<String>,
}

#[derive(Serialize)]
struct PersonJson<'a> {
    name: &'a str,
    node: u32,
}

#[derive(Serialize)]
struct NodeJson<'a> {
    node: u32,
    reachable: bool,
    chat_address: &'a str,
    people: u32,
    entries_behind: u64,
    here: bool,
}

#[derive(Serialize, Default)]
struct ConnectionJson<'a> {
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(flatten)]
    place: Option<PlaceJson>,
}

#[derive(Serialize)]
struct PlaceJson {
    node: u32,
    nodes_reachable: u32,
    nodes_known: u32,
    people: u32,
    resumed: bool,
}

impl<'a> Json<'a> {
    fn from_event(event: &'a Event, now: Timestamp, trace_url: Option<&str>) -> Self {
        let connection = |state| ConnectionJson { state, ..ConnectionJson::default() };
        match event {
            Event::Message(message) => Self::message(message),
            Event::Sent { reference, to, text } => {
                Self::Sent { reference: *reference, to, text, time: now.to_string() }
            }
            Event::Receipt(receipt) => Self::receipt(receipt, trace_url),
            Event::NotAnswered { reference, written } => Self::Receipt(ReceiptJson {
                reference: *reference,
                state: if *written { "unknown" } else { "not_sent" },
                reason: no_answer(*written),
                ..ReceiptJson::default()
            }),
            Event::Notice(text) => Self::Notice { text },
            Event::People(change) => Self::Presence {
                snapshot: change.snapshot,
                joined: change
                    .joined
                    .iter()
                    .map(|person| PersonJson { name: &person.name, node: person.node })
                    .collect(),
                left: &change.left,
            },
            Event::Nodes(change) => Self::nodes(change),
            Event::Unreachable { address, reason } => Self::Connection(ConnectionJson {
                address: Some(address),
                reason: Some(reason),
                ..connection("unreachable")
            }),
            Event::Registered { address, registered } => Self::Connection(ConnectionJson {
                name: Some(&registered.name),
                address: Some(address),
                place: Some(PlaceJson::new(registered)),
                ..connection("registered")
            }),
            Event::NameRefused { name, reason } => Self::Connection(ConnectionJson {
                name: Some(name),
                reason: Some(reason),
                ..connection("name_refused")
            }),
            Event::Lost { reason } => Self::Connection(ConnectionJson { reason: Some(reason), ..connection("lost") }),
            Event::Renamed { name, reason } => {
                Self::Connection(ConnectionJson { name: Some(name), reason: Some(reason), ..connection("renamed") })
            }
        }
    }

    fn message(message: &'a Delivery) -> Self {
        Self::Message {
            id: id(message.id.as_ref()),
            from: &message.from,
            to: &message.to,
            text: String::from_utf8_lossy(&message.text).into_owned(),
            time: accepted_at(message).to_string(),
            replayed: message.replayed,
            trace_id: trace_id(&message.traceparent),
        }
    }

    fn receipt(receipt: &'a Receipt, trace_url: Option<&str>) -> Self {
        Self::Receipt(ReceiptJson {
            reference: receipt.reference,
            state: state_name(receipt.state()),
            id: id(receipt.id.as_ref()),
            nodes_holding: receipt.nodes_holding,
            nodes_known: receipt.nodes_known,
            recipients: receipt.recipients,
            reason: &receipt.reason,
            trace_id: &receipt.trace_id,
            trace_url: trace_url
                .filter(|_| !receipt.trace_id.is_empty())
                .map(|url| format!("{url}{}", receipt.trace_id)),
        })
    }

    fn nodes(change: &'a NodesChanged) -> Self {
        let node = |node: &'a crate::wire::extended::NodeState| NodeJson {
            node: node.node,
            reachable: node.reachable,
            chat_address: &node.chat_address,
            people: node.people,
            entries_behind: node.entries_behind,
            here: node.here,
        };
        Self::Nodes { nodes: change.nodes.iter().map(node).collect() }
    }
}

impl PlaceJson {
    fn new(registered: &Registered) -> Self {
        Self {
            node: registered.node,
            nodes_reachable: registered.nodes_reachable,
            nodes_known: registered.nodes_known,
            people: registered.people,
            resumed: registered.resumed,
        }
    }
}

/// When a message was accepted; a time past the calendar becomes its end.
#[must_use]
pub fn accepted_at(message: &Delivery) -> Timestamp {
    let millisecond = i64::try_from(message.time_unix_ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millisecond).unwrap_or(Timestamp::MAX)
}

/// The trace id within a W3C traceparent: `00-<trace id>-<span id>-<flags>`.
fn trace_id(traceparent: &str) -> Option<&str> {
    traceparent.split('-').nth(1).filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::extended;

    fn json(event: &Event) -> String {
        to_json(event, Timestamp::UNIX_EPOCH, Some("http://j/trace/"))
    }

    #[test]
    fn each_event_is_one_object_on_one_line() {
        let id = MessageId { origin: Some(extended::Origin { node: 2, incarnation: 255 }), number: 7 };
        let message = Event::Message(Box::new(Delivery {
            id: Some(id),
            from: "bob".to_owned(),
            to: "*".to_owned(),
            text: b"two\nlines\x1b".as_slice().into(),
            time_unix_ms: 1_500,
            replayed: true,
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            ..Delivery::default()
        }));
        assert_eq!(
            json(&message),
            r#"{"event":"message","id":"2.ff/7","from":"bob","to":"*","text":"two\nlines\u001b","time":"1970-01-01T00:00:01.5Z","replayed":true,"trace_id":"0af7651916cd43dd8448eb211c80319c"}"#
        );
        let receipt = Event::Receipt(Box::new(Receipt {
            reference: 3,
            state: State::Delivered.into(),
            id: Some(id),
            nodes_holding: 4,
            nodes_known: 5,
            recipients: 1,
            trace_id: "0a".to_owned(),
            ..Receipt::default()
        }));
        assert_eq!(
            json(&receipt),
            r#"{"event":"receipt","reference":3,"state":"delivered","id":"2.ff/7","nodes_holding":4,"nodes_known":5,"recipients":1,"trace_id":"0a","trace_url":"http://j/trace/0a"}"#
        );
        let registered = Event::Registered {
            address: "h:1".to_owned(),
            registered: Box::new(Registered { name: "al".to_owned(), node: 1, ..Registered::default() }),
        };
        assert_eq!(
            json(&registered),
            r#"{"event":"connection","state":"registered","name":"al","address":"h:1","node":1,"nodes_reachable":0,"nodes_known":0,"people":0,"resumed":false}"#
        );
        assert_eq!(
            json(&Event::Lost { reason: "cut".to_owned() }),
            r#"{"event":"connection","state":"lost","reason":"cut"}"#
        );
    }

    #[test]
    fn nonsense_from_a_node_is_survived() {
        let message = Delivery { time_unix_ms: u64::MAX, traceparent: "x-y".to_owned(), ..Delivery::default() };
        assert!(json(&Event::Message(Box::new(message))).contains(r#""id":null"#));
        assert!(json(&Event::Receipt(Box::new(Receipt { state: 99, ..Receipt::default() }))).contains("unspecified"));
    }
}
