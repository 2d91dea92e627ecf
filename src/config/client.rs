//! Settings of the client.

use std::collections::HashMap;

use clap::Args;

use super::ConfigError;
use crate::client::{Format, Settings};

/// Where the five nodes are that `clique up` and Docker Compose start.
pub(super) const DEFAULT_NODES: &str = "127.0.0.1:4000,127.0.0.1:4010,127.0.0.1:4020,127.0.0.1:4030,127.0.0.1:4040";

/// Flags of the client.
#[derive(Debug, Clone, Default, Args)]
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
    let node = nonempty(&args.node).map(|node| node.trim().parse()).transpose()?;
    Ok(Settings {
        nodes,
        node,
        name: nonempty(&args.name),
        format,
        color: environment.get("NO_COLOR").is_none_or(String::is_empty),
        trace_url: nonempty(&args.trace_url),
        stay: args.stay,
    })
}
