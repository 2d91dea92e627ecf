//! Settings of the load generator.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

use super::{
    ConfigError,
    client::DEFAULT_NODES,
    range,
    suite::{self, FailoverArgs, GrowthArgs, SuiteArgs},
};
use crate::bench::{
    Awaits, Fleet, Limit, MAX_BYTES, MAX_SENDERS, MIN_BYTES, Pace, Settings, Shape, Speech, Traffic, Workload,
    suite::{Kind, Plan},
};

/// Where a NATS server listens unless told otherwise.
const DEFAULT_NATS: &str = "127.0.0.1:4222";
/// Most clients of one run: more do not find ports to connect from.
const MAX_CLIENTS: u64 = 60_000;

/// Flags of the load generator.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// One workload on nodes that run, or a whole measurement.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchCommand {
    #[command(flatten)]
    Workload(BenchWorkload),
    /// Starts a clique and a NATS cluster, has both do the same work in turn, and writes a document.
    Compare(SuiteArgs),
    /// Kills the node of a sender, and cuts links, in a clique and in a NATS cluster; into the same document.
    Failover(FailoverArgs),
    /// More nodes, more clients, larger messages, a longer history: what costs more; into the same document.
    Growth(GrowthArgs),
}

/// What is measured. Every run verifies that nothing is lost, doubled or out of order; exit code 1 if something is.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchWorkload {
    /// Messages per second from one sender to one recipient on another node.
    Direct(FlowArgs),
    /// Messages per second of several senders over all nodes, each to a recipient on another node.
    Spread {
        /// How many senders.
        #[arg(long, value_name = "N", default_value_t = 8)]
        senders: u16,
        #[command(flatten)]
        flow: FlowArgs,
    },
    /// Messages per second to everyone, over all nodes.
    Broadcast {
        /// How many senders.
        #[arg(long, value_name = "N", default_value_t = 1)]
        senders: u16,
        /// How many recipients.
        #[arg(long, value_name = "N", default_value_t = 100)]
        recipients: u32,
        #[command(flatten)]
        flow: FlowArgs,
    },
    /// Latency at a fixed rate, counted from when each message was due (so that a stall is charged in full).
    Latency {
        /// Messages per second of all senders together.
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        rate_per_s: u64,
        /// How many senders, each with a recipient on another node.
        #[arg(long, value_name = "N", default_value_t = 1)]
        senders: u16,
        /// Messages that are due before are sent and verified, but not measured; in milliseconds.
        #[arg(long, value_name = "MS", default_value_t = 1_000)]
        warmup_ms: u64,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Messages per second that are acknowledged, which a node does when they are on its disk. With NATS, by a stream of
    /// JetStream that is made for the run.
    Durable {
        /// Messages of a sender that may wait for their acknowledgement.
        #[arg(long, value_name = "N", default_value_t = 64)]
        in_flight: u64,
        /// How many senders, each with a recipient on another node.
        #[arg(long, value_name = "N", default_value_t = 1)]
        senders: u16,
        /// On how many servers the stream of JetStream keeps its messages.
        #[arg(long, value_name = "N", default_value_t = 3)]
        replicas: u16,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Memory of the nodes per client that is silent; to be measured on nodes that were just started.
    Idle {
        #[command(flatten)]
        fleet: FleetArgs,
        /// How long the nodes are left alone before memory is read, in milliseconds.
        #[arg(long, value_name = "MS", default_value_t = 3_000)]
        settle_ms: u64,
    },
    /// Clients registered per second.
    Connect(FleetArgs),
}

/// What the load generator is to do.
#[derive(Debug, Clone)]
pub enum BenchTask {
    /// One workload on running nodes.
    Run(Box<Settings>),
    /// A whole measurement, with nodes of its own.
    Suite(Box<Plan>),
}

/// Flags of workloads that send as much as goes through.
#[derive(Debug, Clone, Args)]
pub struct FlowArgs {
    /// KiB that may be on their way from a sender to its slowest recipient.
    #[arg(long, value_name = "KIB", default_value_t = 1_024)]
    pub window_kib: u64,
    /// Senders ask for acknowledgements, and wait for them within the same window. Not with NATS, whose core has none.
    #[arg(long)]
    pub acknowledged: bool,
    #[command(flatten)]
    pub load: LoadArgs,
}

/// Flags of workloads that send.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Bytes of a message.
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    pub size_bytes: u64,
    /// How long messages are sent, in seconds.
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub duration_s: f64,
    /// How many messages are sent by all senders together, instead of for how long.
    #[arg(long, value_name = "N")]
    pub messages: Option<u64>,
    #[command(flatten)]
    pub target: TargetArgs,
}

/// Flags of workloads that only connect.
#[derive(Debug, Clone, Args)]
pub struct FleetArgs {
    /// How many clients.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub clients: u64,
    /// How many register at the same time.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub concurrency: u32,
    #[command(flatten)]
    pub target: TargetArgs,
}

/// Flags of every workload.
#[derive(Debug, Clone, Args)]
pub struct TargetArgs {
    /// Chat ports of the nodes (or client ports of NATS servers); unless given those of CLIQUE_NODES, or of clique up.
    #[arg(long, value_name = "HOST:PORT,…")]
    pub nodes: Option<String>,
    /// What is measured.
    #[arg(long, value_enum, default_value_t = BenchTarget::Clique)]
    pub target: BenchTarget,
    /// How clients of a clique talk.
    #[arg(long, value_enum, default_value_t = BenchDialect::Frames)]
    pub dialect: BenchDialect,
    /// How the result is written to standard output.
    #[arg(long, value_enum, default_value_t = BenchFormat::Table)]
    pub format: BenchFormat,
    /// Draws the run as SVG: throughput over time, or latency by percentile.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Processes of the nodes, for their memory and processor time; on this machine they are found by their ports.
    #[arg(long, value_name = "PID,…", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Threads of the generator itself.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: u8,
    /// When nothing has arrived for so long, what is missing is lost; in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub drain_ms: u64,
}

/// A system that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchTarget {
    Clique,
    /// The core protocol of a NATS server.
    Nats,
}

/// A dialect that clients can talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchDialect {
    /// The original protocol.
    Frames,
    /// Our own client's, with a receipt for every message.
    Extended,
}

/// A form of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchFormat {
    Table,
    Json,
}

/// The settings of the load generator.
///
/// # Errors
/// The first thing that cannot be used, in a sentence.
pub fn bench(args: &BenchArgs, environment: &HashMap<String, String>) -> Result<BenchTask, ConfigError> {
    let (suite, kind) = match &args.command {
        BenchCommand::Workload(workload) => return Ok(BenchTask::Run(Box::new(run(workload, environment)?))),
        BenchCommand::Compare(suite) => (suite, Kind::Compare),
        BenchCommand::Failover(args) => (&args.suite, suite::failover(args)?),
        BenchCommand::Growth(args) => (&args.suite, suite::growth(args)?),
    };
    Ok(BenchTask::Suite(Box::new(suite::plan(suite, kind)?)))
}

fn run(work: &BenchWorkload, environment: &HashMap<String, String>) -> Result<Settings, ConfigError> {
    let (workload, target) = match work {
        BenchWorkload::Direct(flow) => by_window(Shape::Direct, flow)?,
        BenchWorkload::Spread { senders: count, flow } => by_window(Shape::Spread { senders: senders(*count)? }, flow)?,
        BenchWorkload::Broadcast { senders: count, recipients, flow } => {
            let recipients = clients("--recipients", (*recipients).into())?;
            by_window(Shape::Broadcast { senders: senders(*count)?, recipients }, flow)?
        }
        BenchWorkload::Latency { rate_per_s, senders: count, warmup_ms, load } => {
            let per_s = range("--rate-per-s", *rate_per_s, 1, 100_000_000)?;
            let warmup = Duration::from_millis(range("--warmup-ms", *warmup_ms, 0, 3_600_000)?);
            traffic(pairs(*count)?, Pace::Rate { per_s, warmup }, Awaits::Delivery, load)?
        }
        BenchWorkload::Durable { in_flight, senders, load, .. } => {
            let messages = range("--in-flight", *in_flight, 1, 1 << 20)?;
            traffic(pairs(*senders)?, Pace::InFlight { messages }, Awaits::Receipts, load)?
        }
        BenchWorkload::Idle { fleet: args, settle_ms } => {
            let settle = Duration::from_millis(range("--settle-ms", *settle_ms, 0, 3_600_000)?);
            (Workload::Idle(Fleet { settle, ..fleet(args)? }), &args.target)
        }
        BenchWorkload::Connect(args) => (Workload::Connect(fleet(args)?), &args.target),
    };
    let (speech, sender_speech) = speeches(&workload, target)?;
    let stream_replicas = match work {
        BenchWorkload::Durable { replicas, .. } if sender_speech == Speech::JetStream => {
            range("--replicas", (*replicas).into(), 1, 5)?;
            Some(*replicas)
        }
        _ => None,
    };
    Ok(Settings {
        workload,
        speech,
        sender_speech,
        stream_replicas,
        nodes: nodes(target, environment)?,
        json: target.format == BenchFormat::Json,
        plot: target.plot.clone(),
        pids: target.pid.clone(),
        threads: target.threads.into(),
        drain: Duration::from_millis(range("--drain-ms", target.drain_ms, 100, 3_600_000)?),
    })
}

/// How recipients talk, and how senders do.
fn speeches(workload: &Workload, target: &TargetArgs) -> Result<(Speech, Speech), ConfigError> {
    let speech = match (target.target, target.dialect) {
        (BenchTarget::Nats, _) => Speech::Nats,
        (BenchTarget::Clique, BenchDialect::Frames) => Speech::Frames,
        (BenchTarget::Clique, BenchDialect::Extended) => Speech::Extended,
    };
    let awaits = match workload {
        Workload::Traffic(traffic) => traffic.awaits,
        Workload::Idle(_) | Workload::Connect(_) => Awaits::Delivery,
    };
    let sender_speech = match (awaits, target.target) {
        (Awaits::Delivery, _) => speech,
        (Awaits::Both, BenchTarget::Nats) => return Err(ConfigError::NothingAcknowledged),
        (Awaits::Receipts, BenchTarget::Nats) => Speech::JetStream,
        (Awaits::Receipts | Awaits::Both, BenchTarget::Clique) => Speech::Extended,
    };
    Ok((speech, sender_speech))
}

fn by_window(shape: Shape, flow: &FlowArgs) -> Result<(Workload, &TargetArgs), ConfigError> {
    let kib = range("--window-kib", flow.window_kib, 1, 1 << 20)?;
    let awaits = if flow.acknowledged { Awaits::Both } else { Awaits::Delivery };
    traffic(shape, Pace::Window { bytes: size(kib) * 1_024 }, awaits, &flow.load)
}

fn pairs(count: u16) -> Result<Shape, ConfigError> {
    Ok(match senders(count)? {
        1 => Shape::Direct,
        senders => Shape::Spread { senders },
    })
}

fn traffic(shape: Shape, pace: Pace, awaits: Awaits, load: &LoadArgs) -> Result<(Workload, &TargetArgs), ConfigError> {
    let size_bytes = size(range("--size-bytes", load.size_bytes, MIN_BYTES as u64, MAX_BYTES as u64)?);
    let limit = match load.messages {
        Some(messages) => Limit::Messages(range("--messages", messages, 1, 1 << 35)?),
        None => {
            // What is no number of seconds comes out as 0 and is refused with the others.
            let duration_ms = range("--duration-s, in ms,", (load.duration_s * 1e3) as u64, 1, 86_400_000)?;
            Limit::Time(Duration::from_millis(duration_ms))
        }
    };
    Ok((Workload::Traffic(Traffic { shape, pace, size_bytes, limit, awaits }), &load.target))
}

fn fleet(args: &FleetArgs) -> Result<Fleet, ConfigError> {
    let concurrency = size(range("--concurrency", args.concurrency.into(), 1, MAX_CLIENTS)?);
    Ok(Fleet { clients: clients("--clients", args.clients)?, concurrency, settle: Duration::ZERO })
}

fn senders(count: u16) -> Result<u16, ConfigError> {
    range("--senders", count.into(), 1, u64::from(MAX_SENDERS)).map(|_| count)
}

fn clients(name: &'static str, count: u64) -> Result<usize, ConfigError> {
    range(name, count, 1, MAX_CLIENTS).map(size)
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn nodes(target: &TargetArgs, environment: &HashMap<String, String>) -> Result<Vec<String>, ConfigError> {
    // The variable names nodes of a clique; no NATS server listens there.
    let ours = || environment.get("CLIQUE_NODES").filter(|nodes| !nodes.trim().is_empty()).cloned();
    let list = target.nodes.clone().unwrap_or_else(|| match target.target {
        BenchTarget::Clique => ours().unwrap_or_else(|| DEFAULT_NODES.to_owned()),
        BenchTarget::Nats => DEFAULT_NATS.to_owned(),
    });
    let nodes: Vec<String> =
        list.split(',').map(|node| node.trim().to_owned()).filter(|node| !node.is_empty()).collect();
    match nodes.iter().find(|node| !node.contains(':')) {
        Some(node) => Err(ConfigError::BenchNode(node.clone())),
        None if nodes.is_empty() => Err(ConfigError::BenchNode(list)),
        None => Ok(nodes),
    }
}

#[cfg(test)]
#[path = "bench_tests.rs"]
mod tests;
