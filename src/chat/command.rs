//! Slash commands.

/// What a person can ask of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Who,
    Nodes,
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
    /// All of them, with what they do.
    pub const ALL: [(&'static str, Self, &'static str); 4] = [
        ("who", Self::Who, "who is here, and on which node"),
        ("nodes", Self::Nodes, "the nodes of the clique and their state"),
        ("help", Self::Help, "this page"),
        ("quit", Self::Quit, "leave"),
    ];

    /// Reads a command as typed, without its slash; what follows the first word is ignored.
    ///
    /// # Errors
    /// Names the nearest command.
    pub fn parse(line: &str) -> Result<Self, UnknownCommand> {
        let word = line.split_whitespace().next().unwrap_or_default();
        let lower = word.to_lowercase();
        if let Some((_, command, _)) = Self::ALL.iter().find(|(name, ..)| *name == lower) {
            return Ok(*command);
        }
        let nearest = Self::ALL
            .iter()
            .max_by(|(a, ..), (b, ..)| strsim::jaro_winkler(a, &lower).total_cmp(&strsim::jaro_winkler(b, &lower)))
            .map_or("help", |(name, ..)| *name);
        Err(UnknownCommand { word: word.chars().take(40).collect(), nearest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_names_the_nearest_command() {
        assert_eq!(Command::parse("who"), Ok(Command::Who));
        assert_eq!(Command::parse("NODES now"), Ok(Command::Nodes));
        for (typed, nearest) in [("hwo", "who"), ("node", "nodes"), ("hlep", "help"), ("exit", "quit")] {
            assert_eq!(Command::parse(typed).unwrap_err().nearest, nearest, "{typed}");
        }
        assert_eq!(
            Command::parse("nods").unwrap_err().to_string(),
            "there is no command /nods; did you mean /nodes? /help lists them all"
        );
    }
}
