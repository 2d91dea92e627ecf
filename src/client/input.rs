//! What somebody typed, understood.

use serde::Deserialize;

use crate::chat::{Command, Passphrase, message::EVERYONE, name::addressee, notice};

/// A line of input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Nothing to do.
    Nothing,
    /// A message.
    Message { to: String, text: String },
    /// Answered here.
    Help,
    /// Leave.
    Quit,
    /// Make the name one's own; the passphrase is asked for if it is not there.
    Claim(Option<Passphrase>),
    /// A command for the node, without its slash.
    Command(String),
}

/// Input that cannot be carried out; each variant is a sentence for the person who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    #[error("say what: {0} MESSAGE")]
    NoText(String),
    #[error("no message in this line: {0}; send {{\"to\": \"NAME\", \"text\": \"MESSAGE\"}}, or NAME MESSAGE")]
    Json(String),
}

/// A message as a script may write it, so that its text can hold line ends.
#[derive(Deserialize)]
struct JsonMessage {
    to: String,
    text: String,
}

impl Input {
    /// Understands `NAME MESSAGE`, `* MESSAGE` and `/COMMAND`, the name as `addressee` does.
    ///
    /// # Errors
    /// If there is no message.
    pub fn parse(line: &str) -> Result<Self, InputError> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(Self::Nothing);
        }
        if let Some(command) = line.strip_prefix('/') {
            return Ok(match Command::parse(command) {
                Ok(Command::Help) => Self::Help,
                Ok(Command::Quit) => Self::Quit,
                Ok(Command::Claim(passphrase)) => {
                    Self::Claim(Some(passphrase).filter(|given| !given.reveal().is_empty()))
                }
                // What is not known here may be known to the node, which else names the nearest command.
                Ok(_) | Err(_) => Self::Command(command.to_owned()),
            });
        }
        let (to, text) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let to = addressee(to).to_owned();
        if text.trim().is_empty() {
            return Err(InputError::NoText(if to.is_empty() { "NAME".to_owned() } else { to }));
        }
        Ok(Self::Message { to, text: text.to_owned() })
    }

    /// The same, but a line that begins with `{` is a message in JSON.
    ///
    /// # Errors
    /// If there is no message.
    pub fn parse_json(line: &str) -> Result<Self, InputError> {
        if !line.starts_with('{') {
            return Self::parse(line);
        }
        let message: JsonMessage = serde_json::from_str(line).map_err(|error| InputError::Json(error.to_string()))?;
        Ok(Self::Message { to: message.to, text: message.text })
    }
}

/// The help of the service, with what this client adds.
#[must_use]
pub fn help() -> Vec<String> {
    let mut lines = notice::help();
    for (keys, what) in [
        ("/claim alone", "asks for the passphrase and does not show it"),
        ("Tab", "completes names, rooms and commands"),
        ("Up, Down", "what you typed before; Ctrl-R searches it"),
        ("Ctrl-D", "leaves, as Ctrl-C does"),
    ] {
        lines.push(format!("{keys:<28} {what}"));
    }
    lines
}

/// Whether a message goes to everybody or to a room.
#[must_use]
pub fn is_for_many(to: &str) -> bool {
    to == EVERYONE || to.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(to: &str, text: &str) -> Result<Input, InputError> {
        Ok(Input::Message { to: to.to_owned(), text: text.to_owned() })
    }

    #[test]
    fn a_line_is_a_message_or_a_command() {
        assert_eq!(Input::parse("bob hi  there "), message("bob", "hi  there"));
        assert_eq!(Input::parse("* hello all"), message("*", "hello all"));
        assert_eq!(Input::parse("@bob: hi"), message("bob", "hi"));
        assert_eq!(Input::parse("bob pasted\nlines"), message("bob", "pasted\nlines"));
        assert_eq!(Input::parse("  "), Ok(Input::Nothing));
        assert_eq!(Input::parse("/help"), Ok(Input::Help));
        assert_eq!(Input::parse("/QUIT"), Ok(Input::Quit));
        let claim = |passphrase: &str| Ok(Input::Claim(Some(Passphrase::typed(passphrase.as_bytes()))));
        assert_eq!(Input::parse("/claim four  words\n"), claim("four  words"));
        assert_eq!(Input::parse(" /CLAIM "), Ok(Input::Claim(None)));
        assert_eq!(Input::parse("#ship ahoy"), message("#ship", "ahoy"));
        assert_eq!(Input::parse("/who"), Ok(Input::Command("who".to_owned())));
        assert_eq!(Input::parse("/hwo x"), Ok(Input::Command("hwo x".to_owned())));
        assert_eq!(Input::parse("bob"), Err(InputError::NoText("bob".to_owned())));
        assert_eq!(Input::parse("@"), Err(InputError::NoText("NAME".to_owned())));
    }

    #[test]
    fn scripts_may_write_json() {
        assert_eq!(Input::parse_json(r#"{"to":"bob","text":"a\nb"}"#), message("bob", "a\nb"));
        assert_eq!(Input::parse_json("bob hi"), message("bob", "hi"));
        assert!(matches!(Input::parse_json(r#"{"to":"bob"}"#), Err(InputError::Json(_))));
    }
}
