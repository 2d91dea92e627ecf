//! The sentences that the service speaks to people, without the mark that each dialect puts before them.

use super::{command::Command, name::NameError};

/// Why a message was not taken, each a sentence for its sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("not sent: nobody called {0} is here; /who shows who is")]
    Nobody(String),
    #[error("not sent: {name} cannot be a name, because {reason}")]
    BadName { name: String, reason: NameError },
    #[error("not sent: the message has {bytes} bytes; to this addressee {max_bytes} can be sent")]
    TooLong { bytes: usize, max_bytes: usize },
    #[error("not sent: say whom it is for, then a space, then the message; * is everyone")]
    NoAddressee,
    #[error("not sent: rooms are not served by this version; use * for everyone or a name")]
    NoRooms,
    #[error("not sent: this node is stopping; connect to another one")]
    Stopping,
    #[error("not sent: register under a name first")]
    NotRegistered,
}

/// `"1 person"`, `"2 people"`.
#[must_use]
pub fn people(count: usize) -> String {
    if count == 1 { "1 person".to_owned() } else { format!("{count} people") }
}

#[must_use]
pub fn welcome(name: &str, node: u16, reachable: usize, known: usize, people_count: usize) -> String {
    format!("welcome, {name}: you are on node {node}; {reachable} of {known} nodes, {}. /help", people(people_count))
}

#[must_use]
pub fn name_taken(name: &str) -> String {
    format!("the name {name} is taken; choose another")
}

#[must_use]
pub fn name_illegal(reason: NameError) -> String {
    format!("{reason}; choose another name")
}

#[must_use]
pub fn renamed(old: &str, new: &str) -> String {
    format!(
        "somebody else had the name {old} before you on the other side of a cut; you are {new} now and stay connected"
    )
}

#[must_use]
pub fn moved(node: u16) -> String {
    format!("you have connected again on node {node}; this connection is closed")
}

#[must_use]
pub fn kept(to: &str, node: u16) -> String {
    format!("{to} was last seen on node {node}, which cannot be reached now; your message is kept until it can")
}

#[must_use]
pub fn gone(to: &str) -> String {
    format!("not delivered: {to} had left before your message arrived")
}

#[must_use]
pub fn missed(count: u64) -> String {
    format!(
        "you missed {count} messages: this node keeps a bounded log, and they were dropped from it before you read them"
    )
}

/// The count is of everybody's messages: which of those that are gone were for whom is not known any more.
#[must_use]
pub fn dropped_meanwhile(count: u64) -> String {
    format!(
        "{count} messages since you were last connected were dropped from its bounded log before you came back to this node; some may have been for you"
    )
}

#[must_use]
pub fn lost_in_cut(node: u16, count: u64) -> String {
    format!(
        "{count} messages from node {node} were dropped from its bounded log before they could reach this node; some may have been for you"
    )
}

#[must_use]
pub fn replaying() -> String {
    "sent to you while you were away, perhaps in part seen already:".to_owned()
}

/// `"1"`, `"1 and 2"`, `"1, 2 and 3"`.
#[must_use]
pub fn list(nodes: &[u16]) -> String {
    let mut text = String::new();
    for (place, node) in nodes.iter().enumerate() {
        let separator = match nodes.len() - place {
            _ if place == 0 => "",
            1 => " and ",
            _ => ", ",
        };
        text.push_str(separator);
        text.push_str(&node.to_string());
    }
    text
}

#[must_use]
pub fn unreachable(nodes: &[u16]) -> String {
    let (noun, pronoun) = if nodes.len() == 1 { ("node", "it") } else { ("nodes", "them") };
    format!("{noun} {} cannot be reached now; messages for {pronoun} are kept until the link is back", list(nodes))
}

#[must_use]
pub fn stopping(node: u16) -> String {
    format!("node {node} is stopping; connect to another node to go on")
}

#[must_use]
pub fn goodbye() -> String {
    "goodbye".to_owned()
}

/// One screen.
#[must_use]
pub fn help() -> Vec<String> {
    let mut lines = vec![
        "NAME MESSAGE    to one person, on whichever node".to_owned(),
        "* MESSAGE       to everyone in the clique".to_owned(),
    ];
    lines.extend(Command::ALL.iter().map(|(name, _, what)| format!("/{name:<14} {what}")));
    lines.push("A message to clique is answered by the node itself.".to_owned());
    lines
}

#[must_use]
pub fn reachable_again(node: u16) -> String {
    format!("node {node} can be reached again")
}
