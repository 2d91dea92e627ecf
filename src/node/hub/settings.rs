//! What a hub is told when it begins.

use crate::{
    chat::directory::RETURN_MS,
    clique::{Keep, Origin},
};

/// What a hub needs to know about its node.
#[derive(Debug, Clone)]
pub struct HubSettings {
    pub origin: Origin,
    /// How others reach this node's gRPC port.
    pub advertise: String,
    pub chat_port: u16,
    /// How many nodes the settings name, this one included.
    pub expected_nodes: usize,
    /// Memory for the log, in bytes.
    pub max_log_bytes: usize,
    /// Whether there is a disk behind the log. If not, everything counts as synced at once.
    pub has_store: bool,
    /// Messages that people who write lines are shown first, of what was said last.
    pub history_shown: usize,
    /// What is kept how long, on disk and in memory.
    pub keep: Keep,
    pub timing: Timing,
    /// Whether frames to peers say when they were sent.
    pub is_tracing: bool,
}

/// The rhythm of a link.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A link says something at least this often.
    pub heartbeat_ms: u64,
    /// A link that has been silent for this long is dead.
    pub dead_after_ms: u64,
    /// Heights are acknowledged within this time.
    pub acknowledge_ms: u64,
    /// A node that cannot be reached for this long is announced to people.
    pub announce_after_ms: u64,
    /// Somebody whose connection has broken is expected back for this long.
    pub return_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_ms: 200,
            dead_after_ms: 800,
            acknowledge_ms: 5,
            announce_after_ms: 1_500,
            return_ms: RETURN_MS,
        }
    }
}
