//! Completion of names, rooms and commands.

use crate::{
    chat::{Command, message::EVERYONE},
    wire::lines::printable,
};

/// Commands after which a room is meant.
const WITH_ROOM: [&str; 5] = ["/join", "/part", "/topic", "/who", "/history"];

/// Where the word to complete begins, and what it can become.
///
/// The first word is an addressee or a command; later ones may be the name of somebody who is talked about.
#[must_use]
pub fn complete(line: &str, cursor: usize, names: &[String]) -> (usize, Vec<String>) {
    let Some(before) = line.get(..cursor) else {
        return (cursor, Vec::new());
    };
    let begin = before
        .rfind(char::is_whitespace)
        .map_or(0, |space| space + before[space..].chars().next().map_or(1, char::len_utf8));
    let word = &before[begin..];
    let first = before[..begin].trim().is_empty();
    if let Some(command) = word.strip_prefix('/').filter(|_| first) {
        let command = command.to_lowercase();
        let fits = Command::ALL.iter().filter(|(name, ..)| name.starts_with(&command));
        return (begin, fits.map(|(name, ..)| format!("/{name}")).collect());
    }
    if word.is_empty() && !first {
        let takes_room = WITH_ROOM.contains(&before.trim().to_lowercase().as_str());
        let rooms = names.iter().filter(|name| takes_room && name.starts_with('#'));
        return (begin, rooms.map(|room| format!("{} ", printable(room.as_bytes()))).collect());
    }
    let wanted = word.trim_start_matches('@').to_lowercase();
    let fits = names.iter().filter(|name| name.to_lowercase().starts_with(&wanted));
    let mut fits: Vec<String> = fits.map(|name| format!("{} ", printable(name.as_bytes()))).collect();
    if word.is_empty() {
        fits.insert(0, format!("{EVERYONE} "));
    }
    (begin, fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> (usize, Vec<String>) {
        let names = ["alice", "Bob", "bobby", "zoë"].map(str::to_owned);
        complete(line, line.len(), &names)
    }

    #[test]
    fn names_and_commands_complete() {
        assert_eq!(completed("b"), (0, vec!["Bob ".to_owned(), "bobby ".to_owned()]));
        assert_eq!(completed("@AL"), (0, vec!["alice ".to_owned()]));
        assert_eq!(completed("/n"), (0, vec!["/nodes".to_owned()]));
        assert_eq!(completed("/").1.len(), Command::ALL.len());
        assert_eq!(completed("bob ask zo"), (8, vec!["zoë ".to_owned()]));
        assert_eq!(completed("zoë\u{3000}al"), ("zoë\u{3000}".len(), vec!["alice ".to_owned()]));
        assert_eq!(
            completed(""),
            (0, vec!["* ".into(), "alice ".into(), "Bob ".into(), "bobby ".into(), "zoë ".into()])
        );
        let names = ["alice", "#ship", "#tea"].map(str::to_owned);
        assert_eq!(complete("#s", 2, &names), (0, vec!["#ship ".to_owned()]));
        assert_eq!(complete("/join ", 6, &names), (6, vec!["#ship ".to_owned(), "#tea ".to_owned()]));
        assert_eq!(completed("bob "), (4, vec![]));
        assert_eq!(completed("bob /n"), (4, vec![]));
        assert_eq!(complete("ë", 1, &[]), (1, vec![]));
    }
}
