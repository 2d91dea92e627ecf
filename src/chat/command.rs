//! Slash commands.

use super::passphrase::Passphrase;

/// Messages that `/history` shows if no number is given, and at most.
pub const HISTORY_DEFAULT: usize = 20;
pub const HISTORY_MAX: usize = 500;

/// What a person can ask of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Who is here, or in a room.
    Who(Option<String>),
    Nodes,
    Claim(Passphrase),
    Join(String),
    /// A room, or the only one.
    Part(Option<String>),
    Rooms,
    Topic(String),
    History {
        /// Everyone, a room or a person.
        with: String,
        count: usize,
    },
    Help,
    Quit,
}

/// A word that is no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no command /{word}; did you mean /{nearest}? /help lists them all")]
pub struct UnknownCommand {
    pub word: String,
    pub nearest: &'static str,
}

impl Command {
    /// All of them: the word, what can follow it, and what it does.
    pub const ALL: [(&'static str, &'static str, &'static str); 10] = [
        ("who", "[#ROOM]", "who is here, and on which node; who is in a room"),
        ("nodes", "", "the nodes of the clique and their state"),
        ("claim", "PASSPHRASE", "make your name yours; again: a new passphrase"),
        ("join", "#ROOM", "go into a room; it is made if there is none"),
        ("part", "[#ROOM]", "leave a room"),
        ("rooms", "", "all rooms, who is in them and what they are about"),
        ("topic", "#ROOM [TEXT]", "what a room is about, or shall be"),
        ("history", "[NAME|#ROOM|*] [N]", "what was said last, there or to everyone; 20 or N messages"),
        ("help", "", "this page"),
        ("quit", "", "leave"),
    ];

    /// Reads a command as typed, without its slash.
    ///
    /// # Errors
    /// Names the nearest command.
    pub fn parse(line: &str) -> Result<Self, UnknownCommand> {
        let line = line.trim_start();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let first = || rest.split_whitespace().next().map(str::to_owned);
        let lower: String = word.chars().take(40).collect::<String>().to_lowercase();
        Ok(match lower.as_str() {
            "who" => Self::Who(first().filter(|word| word.starts_with('#'))),
            "nodes" => Self::Nodes,
            "claim" => Self::Claim(Passphrase::typed(rest.as_bytes())),
            "join" => Self::Join(first().unwrap_or_default()),
            "part" => Self::Part(first()),
            "rooms" => Self::Rooms,
            "topic" => Self::Topic(rest.trim().to_owned()),
            "history" => history(rest),
            "help" => Self::Help,
            "quit" => Self::Quit,
            _ => {
                // Two letters that changed places are one mistake; a word whose beginning is right wins among equals.
                let word: String = word.chars().take(40).collect();
                let mistakes = |name: &str| strsim::damerau_levenshtein(name, &lower);
                let likeness = |name: &str| strsim::jaro_winkler(name, &lower);
                let nearest = Self::ALL
                    .iter()
                    .min_by(|(a, ..), (b, ..)| {
                        mistakes(a).cmp(&mistakes(b)).then_with(|| likeness(b).total_cmp(&likeness(a)))
                    })
                    .map_or("help", |(name, ..)| *name);
                return Err(UnknownCommand { word, nearest });
            }
        })
    }
}

/// A lone number says how many; a name that is a number is asked for with another number behind it.
fn history(rest: &str) -> Command {
    let mut words = rest.split_whitespace();
    let (with, count) = match (words.next(), words.next()) {
        (None, _) => ("*", None),
        (Some(word), None) => word.parse().map_or((word, None), |count| ("*", Some(count))),
        (Some(word), Some(count)) => (word, count.parse().ok()),
    };
    Command::History { with: with.to_owned(), count: count.unwrap_or(HISTORY_DEFAULT).min(HISTORY_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_names_the_nearest_command() {
        assert_eq!(Command::parse("who"), Ok(Command::Who(None)));
        assert_eq!(Command::parse("NODES now"), Ok(Command::Nodes));
        for (typed, nearest) in [("hwo", "who"), ("node", "nodes"), ("hlep", "help"), ("exit", "quit")] {
            assert_eq!(Command::parse(typed).unwrap_err().nearest, nearest, "{typed}");
        }
        assert_eq!(
            Command::parse("nods").unwrap_err().to_string(),
            "there is no command /nods; did you mean /nodes? /help lists them all"
        );
    }

    #[test]
    fn every_command_that_help_lists_is_understood() {
        for (word, ..) in Command::ALL {
            assert!(Command::parse(word).is_ok(), "{word}");
        }
    }

    #[test]
    fn what_follows_a_command_is_understood() {
        let history = |with: &str, count| Ok(Command::History { with: with.to_owned(), count });
        assert_eq!(Command::parse("history"), history("*", 20));
        assert_eq!(Command::parse("history 50"), history("*", 50));
        assert_eq!(Command::parse("history bob"), history("bob", 20));
        assert_eq!(Command::parse("history #tea 9999"), history("#tea", 500));
        assert_eq!(Command::parse("who #tea"), Ok(Command::Who(Some("#tea".to_owned()))));
        assert_eq!(Command::parse("topic #tea  green or black"), Ok(Command::Topic("#tea  green or black".to_owned())));
        assert_eq!(Command::parse("claim  two  words"), Ok(Command::Claim(Passphrase::typed(b"two  words"))));
    }
}
