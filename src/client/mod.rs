//! The terminal client: a person at a terminal, or a script at the other end of a pipe.
//!
//! ```text
//! terminal ─┐ lines, names                     ┌─ connection: one TCP connection, frames in and out
//!           ├───────────────▶  session  ◀──────┤
//! plain ────┘ ◀─────────────   (one task)      └─ nodes: which one, and which one next
//!               events
//! ```
//!
//! The *session* is the client's one life: it registers, passes messages both ways, and when its node dies it goes on
//! at another one under the same name, from where it was. It knows nothing of screens. What it tells, its *events*,
//! is shown by `terminal` (through `render`, with the `fate` of each message) or by `plain`.
//!
//! What is resent: messages that were never written to a connection. A message that was written but not answered when
//! the connection was lost may have been accepted, so it is not sent again behind the person's back; if no receipt for it
//! comes from the next node either, they are told that its fate is unknown.
//!
//! Exit codes:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | fine |
//! | 1 | something that was sent was refused, not delivered, or its fate is unknown (plain mode) |
//! | 2 | the settings make no sense |
//! | 3 | no node could be reached |
//! | 4 | the name was refused, or its passphrase |

mod complete;
mod connection;
mod events;
mod fate;
mod identity;
mod input;
mod json;
mod nodes;
mod people;
mod plain;
mod prompt;
mod registering;
mod render;
mod seen;
mod session;
mod spans;
mod talk;
mod terminal;
mod tty;
mod unsettled;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, time::Duration};

pub use nodes::NodeChoice;
use session::End;
use spans::Traced;

use crate::{
    chat::{Name, NameError, Passphrase},
    telemetry::Spans,
};

/// What the client is told by flags and environment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where people connect, `host:port`, in the order of the nodes' indexes.
    pub nodes: Vec<String>,
    /// The node to begin with; asked for, or the nearest, if there is none.
    pub node: Option<NodeChoice>,
    /// The name; asked for, or made up, if there is none.
    pub name: Option<String>,
    /// Of the name, if it is claimed; asked for at a terminal if there is none.
    pub passphrase: Option<Passphrase>,
    /// How many of the latest messages to show first, at most `MAX_HISTORY`; without it none, but some at a terminal.
    pub history: Option<u32>,
    /// What is written to standard output when it is not a conversation at a terminal.
    pub format: Format,
    /// Whether colours may be used at a terminal (`NO_COLOR` is not set).
    pub color: bool,
    /// Where a trace is looked at: its id is appended.
    pub trace_url: Option<String>,
    /// Plain mode: go on receiving after standard input has ended.
    pub stay: bool,
}

/// How events are written when there is no person at a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A line that a person can read.
    #[default]
    Text,
    /// One JSON object per event and line.
    Json,
}

impl std::str::FromStr for Format {
    type Err = SettingsError;
    fn from_str(written: &str) -> Result<Self, SettingsError> {
        match written {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(SettingsError::Format(other.to_owned())),
        }
    }
}

/// How the client ended; the process ends with this code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Fine = 0,
    NotDelivered = 1,
    Settings = 2,
    NoNode = 3,
    NameRefused = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Settings that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("no nodes are given; say where they are, such as CLIQUE_NODES=127.0.0.1:4000,127.0.0.1:4010")]
    NoNodes,
    #[error("{0} is not host:port, such as 127.0.0.1:4000")]
    Address(String),
    #[error("there is no node {index}; the indexes go from 0 to {last}")]
    Index { index: usize, last: usize },
    #[error("{name} cannot be a name: {reason}")]
    Name { name: String, reason: NameError },
    #[error("{0} is not an output format; there are text and json")]
    Format(String),
    #[error("{0} is not a number of messages to show first; CLIQUE_HISTORY goes from 0 to {MAX_HISTORY}")]
    History(String),
    #[error("CLIQUE_PASSPHRASE and CLIQUE_PASSPHRASE_FILE are both set; set one of them")]
    TwoPassphrases,
    #[error("the passphrase in {0} is empty; put it there as one line")]
    EmptyPassphrase(PathBuf),
}

impl Settings {
    fn check(&self) -> Result<(), SettingsError> {
        if self.nodes.is_empty() {
            return Err(SettingsError::NoNodes);
        }
        for address in &self.nodes {
            nodes::check_address(address)?;
        }
        if let Some(choice) = &self.node {
            choice.address(&self.nodes)?;
        }
        if let Some(name) = &self.name {
            Name::parse(name.as_bytes()).map_err(|reason| SettingsError::Name { name: name.clone(), reason })?;
        }
        Ok(())
    }
}

/// Runs the client until the person leaves, or the input ends, or nothing can be done.
///
/// With a terminal on both standard input and output it holds a conversation; otherwise it reads and writes plain lines.
/// Each message that `spans` samples gets a span, and its trace is handed to the node.
pub async fn run(settings: Settings, spans: Spans) -> Exit {
    if let Err(error) = settings.check() {
        complain(&error.to_string());
        return Exit::Settings;
    }
    let traced = Traced::new(spans.clone());
    let at_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let exit = if at_terminal && settings.format == Format::Text {
        terminal::run(settings, traced).await
    } else {
        plain::run(settings, traced).await
    };
    spans.shutdown(Duration::from_millis(LAST_SPANS_MS)).await;
    exit
}

/// How long the last spans may take on their way to the collector.
const LAST_SPANS_MS: u64 = 1_000;

/// Most messages that can be shown first.
pub const MAX_HISTORY: u32 = 500;

/// What to say when no node answers.
const NO_NODE: &str = "no node could be reached; are they running, and is CLIQUE_NODES right?";

/// Says why the session ended, unless somebody left on purpose, and gives the code.
fn conclude(end: End) -> Exit {
    match end {
        End::Left => Exit::Fine,
        End::NoNode => {
            complain(NO_NODE);
            Exit::NoNode
        }
        End::NameRefused(reason) => {
            complain(&reason);
            Exit::NameRefused
        }
    }
}

/// A sentence on standard error.
fn complain(sentence: &str) {
    // `eprintln!` panics when standard error is closed.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("clique: {sentence}\n").as_bytes());
}

/// A readable name for those who did not choose one.
fn made_up_name() -> String {
    petname::petname(2, "-").unwrap_or_else(|| format!("person-{}", rand::random::<u16>()))
}
