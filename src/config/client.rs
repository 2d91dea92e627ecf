//! Settings of the client.

use std::{collections::HashMap, fs, path::PathBuf};

use clap::Args;

use super::ConfigError;
use crate::{
    chat::Passphrase,
    client::{Format, MAX_HISTORY, Settings, SettingsError},
};

/// Where the five nodes are that `clique up` and Docker Compose start.
pub(super) const DEFAULT_NODES: &str = "127.0.0.1:4000,127.0.0.1:4010,127.0.0.1:4020,127.0.0.1:4030,127.0.0.1:4040";

/// What flags do not say.
const MORE_HELP: &str = "\
Environment:
  CLIQUE_PASSPHRASE  The passphrase of your name (no flag: others could see it)
  NO_COLOR           Without colours, if it is set to anything

Exit codes:
  0  fine
  1  something that was sent was refused, not delivered, or its fate is unknown
  2  the settings make no sense
  3  no node could be reached
  4  the name was refused, or its passphrase";

/// Flags of the client.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = MORE_HELP)]
pub struct ClientArgs {
    /// Chat ports of the nodes, in the order of their indexes.
    #[arg(long, value_name = "HOST:PORT,…", env = "CLIQUE_NODES", default_value = DEFAULT_NODES)]
    pub nodes: String,
    /// The node to begin with: an index in that list, or its own host:port.
    #[arg(long, value_name = "N|HOST:PORT", env = "CLIQUE_NODE")]
    pub node: Option<String>,
    /// Your name.
    #[arg(long, env = "CLIQUE_NAME")]
    pub name: Option<String>,
    /// A file with the passphrase of your name, if it is claimed; a terminal is asked for it otherwise.
    #[arg(long, value_name = "FILE", env = "CLIQUE_PASSPHRASE_FILE")]
    pub passphrase_file: Option<String>,
    /// How many of the latest messages to show first; by default 20 at a terminal, otherwise none.
    #[arg(long, value_name = "N", env = "CLIQUE_HISTORY")]
    pub history: Option<String>,
    /// What is written when there is no person at a terminal: text or json.
    #[arg(long, value_name = "FORMAT", env = "CLIQUE_FORMAT", default_value = "text")]
    pub format: String,
    /// Where traces are looked at; a trace's id is appended.
    #[arg(long, value_name = "URL", env = "CLIQUE_TRACE_URL")]
    pub trace_url: Option<String>,
    /// Without a terminal: go on receiving after the input has ended.
    #[arg(long)]
    pub stay: bool,
}

/// The settings of the client.
///
/// # Errors
/// The first thing that cannot be used, in a sentence.
pub fn client(args: &ClientArgs, environment: &HashMap<String, String>) -> Result<Settings, ConfigError> {
    let nonempty = |value: &Option<String>| value.clone().filter(|value| !value.trim().is_empty());
    let nodes = args.nodes.split(',').map(|node| node.trim().to_owned()).filter(|node| !node.is_empty()).collect();
    let format: Format = args.format.parse()?;
    let history = nonempty(&args.history).map(|written| history(&written)).transpose()?;
    let node = nonempty(&args.node).map(|node| node.trim().parse()).transpose()?;
    Ok(Settings {
        nodes,
        node,
        name: nonempty(&args.name),
        passphrase: passphrase(args, environment)?,
        history,
        format,
        color: environment.get("NO_COLOR").is_none_or(String::is_empty),
        trace_url: nonempty(&args.trace_url),
        stay: args.stay,
    })
}

fn history(written: &str) -> Result<u32, SettingsError> {
    let count = written.trim().parse().ok().filter(|count| *count <= MAX_HISTORY);
    count.ok_or_else(|| SettingsError::History(written.to_owned()))
}

/// The first line of the file, or the variable.
fn passphrase(args: &ClientArgs, environment: &HashMap<String, String>) -> Result<Option<Passphrase>, ConfigError> {
    let written = environment.get("CLIQUE_PASSPHRASE").filter(|written| !written.is_empty());
    let Some(path) = args.passphrase_file.as_ref().filter(|path| !path.is_empty()).map(PathBuf::from) else {
        return Ok(written.map(|written| Passphrase::typed(written.as_bytes())));
    };
    if written.is_some() {
        return Err(SettingsError::TwoPassphrases.into());
    }
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return Err(ConfigError::File { path, error }),
    };
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(Some(Passphrase::typed(line.as_bytes()))),
        None => Err(SettingsError::EmptyPassphrase(path).into()),
    }
}
