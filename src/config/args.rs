//! Flags of a node.

use std::path::PathBuf;

use clap::Args;

/// Flags that every command takes.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonArgs {
    /// A TOML file with settings; its keys are the flags' names with underscores.
    #[arg(long, value_name = "FILE", env = "CLIQUE_CONFIG")]
    pub config: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as clique=debug.
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How it is logged: text or json.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// Flags of a node; each has a `CLIQUE_…` variable and a key in the file.
#[derive(Debug, Clone, Default, Args)]
pub struct NodeArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// Which of the ports is this node's, from 0.
    #[arg(long, value_name = "N")]
    pub index: Option<String>,
    /// Chat ports of all nodes, in order.
    #[arg(long, value_name = "PORT,…")]
    pub ports: Option<String>,
    /// Address to listen on.
    #[arg(long, value_name = "IP")]
    pub listen: Option<String>,
    /// Port for peers; the chat port + 1 if not given.
    #[arg(long, value_name = "PORT")]
    pub grpc_port: Option<String>,
    /// Port for health and metrics; the chat port + 2 if not given.
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<String>,
    /// gRPC ports of other nodes, host:port; or one DNS name with several addresses.
    #[arg(long, value_name = "HOST:PORT,…")]
    pub peers: Option<String>,
    /// Where other nodes reach this one's gRPC port.
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// A file with the clique's secret (the secret itself is not taken from the command line, where others see it).
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<String>,
    /// Directory of the log on disk, or :memory: for none; ./clique-data/node-N if not given.
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// When the log is put on the disk for sure: always (before a message is acknowledged), interval:MS, or never.
    #[arg(long, value_name = "WHEN")]
    pub sync: Option<String>,
    /// How many days the log is kept; 0 for ever.
    #[arg(long, value_name = "DAYS")]
    pub keep_days: Option<String>,
    /// How much of the log is kept, in MiB; 0 for all.
    #[arg(long, value_name = "MIB")]
    pub keep_mib: Option<String>,
    /// Memory for the log, in MiB; 64 if not given, 256 without a disk.
    #[arg(long, value_name = "MIB")]
    pub log_mib: Option<String>,
    /// Messages that people who write lines are shown first, of what was said last.
    #[arg(long, value_name = "N")]
    pub history_shown: Option<String>,
    /// Threads that serve clients and peers; half as many as there are processors if not given.
    #[arg(long, value_name = "N")]
    pub threads: Option<String>,
    /// How long a stop may take, in milliseconds.
    #[arg(long, value_name = "MS")]
    pub drain_ms: Option<String>,
    /// Client connections at once.
    #[arg(long, value_name = "N")]
    pub max_connections: Option<String>,
    /// Client connections at once from one address.
    #[arg(long, value_name = "N")]
    pub max_connections_per_address: Option<String>,
    /// How long a client may take to ask for a name, or to finish a frame, in milliseconds.
    #[arg(long, value_name = "MS")]
    pub handshake_ms: Option<String>,
    /// How long a client may be silent, in seconds.
    #[arg(long, value_name = "S")]
    pub idle_s: Option<String>,
    /// Output that may wait for one client, in KiB.
    #[arg(long, value_name = "KIB")]
    pub client_output_kib: Option<String>,
    /// Output that may wait for one peer, in KiB.
    #[arg(long, value_name = "KIB")]
    pub peer_output_kib: Option<String>,
}

impl NodeArgs {
    /// Keys and what the flags say of them.
    pub(super) fn overrides(&self) -> [(&'static str, &Option<String>); 24] {
        [
            ("log", &self.common.log),
            ("log_format", &self.common.log_format),
            ("index", &self.index),
            ("ports", &self.ports),
            ("listen", &self.listen),
            ("grpc_port", &self.grpc_port),
            ("http_port", &self.http_port),
            ("peers", &self.peers),
            ("advertise", &self.advertise),
            ("secret_file", &self.secret_file),
            ("data", &self.data),
            ("sync", &self.sync),
            ("keep_days", &self.keep_days),
            ("keep_mib", &self.keep_mib),
            ("log_mib", &self.log_mib),
            ("history_shown", &self.history_shown),
            ("threads", &self.threads),
            ("drain_ms", &self.drain_ms),
            ("max_connections", &self.max_connections),
            ("max_connections_per_address", &self.max_connections_per_address),
            ("handshake_ms", &self.handshake_ms),
            ("idle_s", &self.idle_s),
            ("client_output_kib", &self.client_output_kib),
            ("peer_output_kib", &self.peer_output_kib),
        ]
    }
}

/// Flags of `clique status`.
#[derive(Debug, Clone, Default, Args)]
pub struct StatusArgs {
    /// Which node to ask: its host and its port for health and metrics; that of the settings, or else of the first of the
    /// ports, if not given.
    #[arg(long, value_name = "HOST:HTTPPORT")]
    pub node: Option<String>,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: NodeArgs,
}
