//! The sentences that the service speaks to people, without the mark that each dialect puts before them.

use super::{command::Command, message::EVERYONE, name::NameError};

/// Renames that the line after a cut names; the rest is counted.
const MAX_RENAMED_SHOWN: usize = 5;

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
    #[error("not sent: there was no message; write it behind the name, after a space: {0} hello")]
    NoText(String),
    #[error("not sent: {room} cannot be a room, because {reason}")]
    BadRoom { room: String, reason: NameError },
    #[error("not sent: you are not in {0}; join it first: /join {0}")]
    NotInRoom(String),
    #[error("not sent: {0} has not read the last 10,000 messages; more are not kept")]
    MailboxFull(String),
    #[error(
        "not sent: the connection of {0} has just broken, and as many messages as can be kept wait for such people already; try again in a moment"
    )]
    TooManyWait(String),
    #[error("not sent: this node is stopping; connect to another one")]
    Stopping,
    #[error("not sent: this node cannot write to its disk ({0}); try again later, or connect to another one")]
    Unwritable(String),
    #[error("not sent: the disk of this node does not keep up; try again in a moment, or connect to another one")]
    DiskBehind,
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

/// Somebody who can prove that it is theirs may come back for it.
#[must_use]
pub fn name_held(name: &str, for_ms: u64) -> String {
    format!(
        "the name {name} is kept for somebody whose connection has just broken, for {} s at most; try again then, or choose another",
        for_ms.div_ceil(1_000)
    )
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

/// Somebody used a name that another has claimed.
#[must_use]
pub fn renamed_for_owner(old: &str, new: &str) -> String {
    format!("the name {old} is claimed by somebody else; you are {new} now and stay connected")
}

/// Two sides of a cut let the same name be claimed.
#[must_use]
pub fn renamed_by_claim(old: &str, new: &str) -> String {
    format!(
        "somebody else claimed the name {old} before you on the other side of a cut; you are {new} now, with the same passphrase"
    )
}

#[must_use]
pub fn claimed(name: &str) -> String {
    format!("the name {name} is yours now, on every node; log in with the passphrase")
}

#[must_use]
pub fn passphrase_changed(name: &str) -> String {
    format!("the passphrase of {name} is changed")
}

#[must_use]
pub fn no_claims() -> String {
    "not claimed: this clique has as many claimed names as it can keep".to_owned()
}

#[must_use]
pub fn vault_busy() -> String {
    "too many passphrases are being checked right now; try again in a moment".to_owned()
}

#[must_use]
pub fn passphrase_wanted(name: &str) -> String {
    format!("the name {name} is claimed; type its passphrase")
}

#[must_use]
pub fn passphrase_wrong(name: &str) -> String {
    format!("that is not the passphrase of {name}; try again, or choose another name")
}

/// The same by line, where the name comes first again.
#[must_use]
pub fn passphrase_wrong_by_line(name: &str) -> String {
    format!("that is not the passphrase of {name}; type your name again")
}

#[must_use]
pub fn too_many_guesses(retry_after_ms: u64) -> String {
    format!("too many passphrases were tried; try again in {} s", retry_after_ms.div_ceil(1_000))
}

#[must_use]
pub fn not_claimed(name: &str) -> String {
    format!("the name {name} is not claimed, so no passphrase was needed; /claim PASSPHRASE makes it yours")
}

/// To the sender of a message to somebody who is not connected.
#[must_use]
pub fn owner_away(name: &str) -> String {
    format!("{name} is away; your message is kept until they come back")
}

#[must_use]
pub fn mail() -> String {
    "sent to you while you were away:".to_owned()
}

#[must_use]
pub fn joined_room(name: &str, room: &str) -> String {
    format!("{name} joined {room}")
}

#[must_use]
pub fn left_room(name: &str, room: &str) -> String {
    format!("{name} left {room}")
}

#[must_use]
pub fn topic_is(room: &str, topic: &str) -> String {
    match topic {
        "" => format!("{room} has no topic; /topic {room} TEXT gives it one"),
        topic => format!("{room} is about: {topic}"),
    }
}

#[must_use]
pub fn not_in_room(room: &str) -> String {
    format!("you are not in {room}; join it first: /join {room}")
}

#[must_use]
pub fn no_such_room(room: &str) -> String {
    format!("there is no room {room}; /join {room} makes one")
}

#[must_use]
pub fn which_room() -> String {
    "say which room, such as #tea".to_owned()
}

#[must_use]
pub fn bad_room(room: &str, reason: NameError) -> String {
    format!("{room} cannot be a room, because {reason}")
}

#[must_use]
pub fn too_many_rooms(max: usize) -> String {
    format!("there are {max} rooms, which is as many as can be; join one of them: /rooms")
}

/// `with` is a name, `#room` or `*`.
#[must_use]
pub fn no_history(with: &str) -> String {
    match with {
        EVERYONE => "nothing was said to everyone yet".to_owned(),
        room if room.starts_with('#') => format!("nothing was said in {room} yet"),
        name => format!("nothing was said between you and {name} yet"),
    }
}

#[must_use]
pub fn history_is_on() -> String {
    "one history at a time; the last one is still being looked up".to_owned()
}

#[must_use]
pub fn moved(node: u16) -> String {
    format!("you have connected again on node {node}; this connection is closed")
}

#[must_use]
pub fn kept(to: &str, node: u16) -> String {
    format!("{to} was last seen on node {node}, which cannot be reached now; your message is kept until it can")
}

/// To the sender of a message to somebody who is expected back.
#[must_use]
pub fn kept_for_return(to: &str, within_ms: u64) -> String {
    format!(
        "the connection of {to} has just broken; your message is kept, and delivered if they come back within {} s",
        within_ms.div_ceil(1_000)
    )
}

#[must_use]
pub fn not_returned(to: &str) -> String {
    format!(
        "not delivered: the connection of {to} has broken, and they have not come back; they get it if they do later"
    )
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

/// What `of` had said was held otherwise here than on node `like`.
#[must_use]
pub fn taken_over(of: u16, like: u16, count: u64) -> String {
    let messages = if count == 1 { "1 message".to_owned() } else { format!("up to {count} messages") };
    format!(
        "{messages} of node {of} were not the same on this node as on node {like}: the history here is now as it is there"
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
        format!("{:<28} to one person, on whichever node", "NAME MESSAGE"),
        format!("{:<28} to everyone in the clique", "* MESSAGE"),
    ];
    lines.push(format!("{:<28} to everyone in a room", "#ROOM MESSAGE"));
    lines.extend(Command::ALL.iter().map(|(name, with, what)| format!("/{:<27} {what}", format!("{name} {with}"))));
    lines.push("A message to clique is answered by the node itself.".to_owned());
    lines
}

/// Nodes are back after a cut, `late` messages come with them, and these people, old name and new, had to give up a name
/// that was given on both sides. Without nodes the messages came through others.
#[must_use]
pub fn reachable_again(nodes: &[u16], late: u64, renamed: &[(&str, &str)]) -> String {
    let mut parts = Vec::new();
    match nodes.len() {
        0 if late == 0 => {}
        0 => parts.push("the other side of the split can be reached again through other nodes".to_owned()),
        1 => parts.push(format!("node {} can be reached again", list(nodes))),
        _ => parts.push(format!("nodes {} can be reached again", list(nodes))),
    }
    match late {
        0 => {}
        1 => parts.push("1 message from the split follows".to_owned()),
        late => parts.push(format!("{late} messages from the split follow")),
    }
    if !renamed.is_empty() {
        let what = if renamed.len() == 1 { "1 name was".to_owned() } else { format!("{} names were", renamed.len()) };
        let shown = renamed.iter().take(MAX_RENAMED_SHOWN).map(|(old, new)| format!("{old} is {new} now"));
        let more = match renamed.len().saturating_sub(MAX_RENAMED_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        parts.push(format!("{what} given on both sides: {}{more}", shown.collect::<Vec<_>>().join(", ")));
    }
    parts.join("; ")
}

/// What stands beside a message that comes late because of a cut: when it was sent (UTC), and why it is late.
#[must_use]
pub fn late_mark(sent_unix_ms: u64) -> String {
    let minutes = sent_unix_ms / 60_000;
    format!("{:02}:{:02}, from the split", minutes / 60 % 24, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_split_has_led_to_is_said_in_one_line() {
        assert_eq!(reachable_again(&[3], 0, &[]), "node 3 can be reached again");
        assert_eq!(
            reachable_again(&[3, 4], 37, &[("bob", "bob~3")]),
            "nodes 3 and 4 can be reached again; 37 messages from the split follow; \
             1 name was given on both sides: bob is bob~3 now"
        );
        assert_eq!(reachable_again(&[], 0, &[("a", "a~1")]), "1 name was given on both sides: a is a~1 now");
        let many: Vec<(&str, &str)> = (0..7).map(|_| ("a", "a~1")).collect();
        let said = reachable_again(&[1, 2, 4], 1, &many);
        assert!(said.starts_with("nodes 1, 2 and 4 can be reached again; 1 message from the split follows; 7 names"));
        assert!(said.ends_with("a is a~1 now and 2 more"), "{said}");
        assert_eq!(late_mark(((31 * 24 + 12) * 60 + 3) * 60_000), "12:03, from the split");
    }
}
