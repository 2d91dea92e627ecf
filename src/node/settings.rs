//! What a node is told at its start. `config` fills it; nothing here reads the environment.

use std::net::{IpAddr, Ipv4Addr};

use super::{hub::Timing, store::StoreSettings};
use crate::clique::{Keep, Secret};

/// The settings of one node.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// This node's index; unique within the clique.
    pub index: u16,
    /// Address that all ports are opened on.
    pub listen: IpAddr,
    pub chat_port: u16,
    pub peer_port: u16,
    pub http_port: u16,
    /// "host:port" of other nodes' gRPC ports; a DNS name may have several addresses.
    pub peers: Vec<String>,
    /// How many nodes the settings name, this one included.
    pub expected_nodes: usize,
    /// "host:port" where others reach this node's gRPC port.
    pub advertise: String,
    pub secret: Secret,
    /// The log on disk; `None` to have it in memory only.
    pub store: Option<StoreSettings>,
    /// What is kept of the log.
    pub keep: Keep,
    /// Memory for the log, in bytes.
    pub max_log_bytes: usize,
    /// Messages that people who write lines are shown first, of what was said last; 0 is none.
    pub history_shown: usize,
    /// How long a stop may take, in milliseconds.
    pub drain_ms: u64,
    pub limits: Limits,
    pub timing: Timing,
}

/// What clients may take up. Every limit has a defined behaviour where it is reached.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Client connections; more are closed at once.
    pub max_connections: usize,
    /// Client connections from one address; more are closed at once.
    pub max_connections_per_address: usize,
    /// A client that has not asked for a name by then, or leaves a frame or line half sent for so long, is closed.
    pub handshake_ms: u64,
    /// A client that neither sent nor was sent anything for so long is closed.
    pub idle_ms: u64,
    /// Output that waits for one client, in bytes; beyond it the client is fed from the log as it reads.
    pub max_client_output_bytes: usize,
    /// Output that waits for one peer, in bytes; beyond it the peer is fed from the log as it reads.
    pub max_peer_output_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            max_connections_per_address: 12_000,
            handshake_ms: 30_000,
            idle_ms: 24 * 60 * 60 * 1_000,
            max_client_output_bytes: 1024 * 1024,
            max_peer_output_bytes: 4 * 1024 * 1024,
        }
    }
}

impl NodeSettings {
    /// A lone node on loopback, for tests and as a base: ports 0 are chosen by the system.
    #[must_use]
    pub fn on_loopback(index: u16) -> Self {
        Self {
            index,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            chat_port: 0,
            peer_port: 0,
            http_port: 0,
            peers: Vec::new(),
            expected_nodes: 1,
            advertise: String::new(),
            secret: Secret::default(),
            store: None,
            keep: Keep::default(),
            max_log_bytes: 256 << 20,
            history_shown: 20,
            drain_ms: 5_000,
            limits: Limits::default(),
            timing: Timing::default(),
        }
    }
}
