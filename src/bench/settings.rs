//! What the generator is told. `config` fills it; nothing here reads flags or the environment.

use std::{path::PathBuf, time::Duration};

use super::{flow::Awaits, speech::Speech};

/// One run.
#[derive(Debug, Clone)]
pub struct Settings {
    pub workload: Workload,
    /// How recipients talk.
    pub speech: Speech,
    /// How senders talk: as recipients do, or so that their messages are acknowledged.
    pub sender_speech: Speech,
    /// On how many servers a stream of JetStream keeps the messages.
    pub stream_replicas: Option<u16>,
    /// "host:port" of the nodes, in order.
    pub nodes: Vec<String>,
    /// JSON instead of a table.
    pub json: bool,
    pub plot: Option<PathBuf>,
    /// The nodes' processes; found by their ports where this is empty.
    pub pids: Vec<u32>,
    /// Threads of the generator.
    pub threads: usize,
    /// Messages that have not arrived when nothing has come for so long are lost.
    pub drain: Duration,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub enum Workload {
    /// Messages, as many as go through or at a given rate.
    Traffic(Traffic),
    /// Memory of clients that are silent.
    Idle(Fleet),
    /// Clients registered per second.
    Connect(Fleet),
}

/// Who sends to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One sender, one recipient on the next node.
    Direct,
    /// Several senders over all nodes, each with a recipient of its own on another node.
    Spread { senders: u16 },
    /// Each sender's messages go to all recipients, which are over all nodes.
    Broadcast { senders: u16, recipients: usize },
}

/// Messages under way.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    pub shape: Shape,
    pub pace: Pace,
    pub size_bytes: usize,
    pub limit: Limit,
    /// What senders wait for.
    pub awaits: Awaits,
}

/// When the next message is sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// As soon as fewer bytes than this are on their way from a sender to its slowest recipient.
    Window { bytes: usize },
    /// As soon as fewer messages than this of a sender are not acknowledged.
    InFlight { messages: u64 },
    /// When it is due at this rate of all senders together; what is due in the first `warmup` is not measured.
    Rate { per_s: u64, warmup: Duration },
}

/// When a run ends.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    /// After so many messages of all senders together.
    Messages(u64),
    Time(Duration),
}

/// Clients that only connect.
#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    pub clients: usize,
    /// How many register at the same time.
    pub concurrency: usize,
    /// How long the nodes are left alone before memory is read.
    pub settle: Duration,
}

impl Workload {
    /// As on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Traffic(Traffic { pace: Pace::Rate { .. }, .. }) => "latency",
            Self::Traffic(Traffic { pace: Pace::InFlight { .. }, .. }) => "durable",
            Self::Traffic(traffic) => match traffic.shape {
                Shape::Direct => "direct",
                Shape::Spread { .. } => "spread",
                Shape::Broadcast { .. } => "broadcast",
            },
            Self::Idle(_) => "idle",
            Self::Connect(_) => "connect",
        }
    }
}
