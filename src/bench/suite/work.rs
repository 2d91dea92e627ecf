//! The work that is given to a clique and to NATS alike, and what is read off its report.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    Plan, SuiteError,
    cluster::{Cluster, System},
};
use crate::bench::{self, Awaits, BenchError, Fleet, Limit, Pace, Report, Settings, Shape, Speech, Traffic, Workload};

/// Bytes of a message, unless they are what varies.
pub const SIZE_BYTES: usize = 100;
/// Bytes under way from a sender that goes as fast as it can.
pub const WINDOW_BYTES: usize = 1 << 20;
/// Rate of the latency rows.
pub const RATE_PER_S: u64 = 10_000;
/// Senders of `spread`.
pub const SENDERS: u16 = 8;
/// Recipients of `broadcast`.
pub const RECIPIENTS: usize = 100;
/// Servers that keep each message of a stream.
const REPLICAS: u16 = 3;
/// When nothing has come for so long, what is missing is lost.
const DRAIN: Duration = Duration::from_secs(5);
/// Part of a run at a rate that is not measured: this, or a fifth of it.
const MAX_WARM_UP: Duration = Duration::from_secs(1);
/// How long clients are left alone before memory is read.
const MAX_SETTLE: Duration = Duration::from_secs(3);
/// Messages that show that everybody reaches everybody.
const GREETINGS: u64 = 2_000;
const GREETING_TIMEOUT: Duration = Duration::from_secs(60);
const GREETING_PAUSE: Duration = Duration::from_millis(500);

/// Something to do.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    Traffic(Traffic),
    /// So many clients that say nothing.
    Idle {
        clients: usize,
        is_extended: bool,
    },
}

impl Work {
    /// As much as goes through.
    #[must_use]
    pub fn flow(shape: Shape, duration: Duration) -> Self {
        let pace = Pace::Window { bytes: WINDOW_BYTES };
        let limit = Limit::Time(duration);
        Self::Traffic(Traffic { shape, pace, size_bytes: SIZE_BYTES, limit, awaits: Awaits::Delivery })
    }

    /// Direct messages at a rate.
    #[must_use]
    pub fn rate(per_s: u64, duration: Duration) -> Self {
        let pace = Pace::Rate { per_s, warmup: MAX_WARM_UP.min(duration / 5) };
        let limit = Limit::Time(duration);
        Self::Traffic(Traffic { shape: Shape::Direct, pace, size_bytes: SIZE_BYTES, limit, awaits: Awaits::Delivery })
    }

    /// Acknowledged messages, so many at a time.
    #[must_use]
    pub fn durable(messages: u64, duration: Duration) -> Self {
        let (pace, limit) = (Pace::InFlight { messages }, Limit::Time(duration));
        let shape = Shape::Direct;
        Self::Traffic(Traffic { shape, pace, size_bytes: SIZE_BYTES, limit, awaits: Awaits::Receipts })
    }

    /// The same, and acknowledgements are waited for.
    #[must_use]
    pub fn acknowledged(self) -> Self {
        match self {
            Self::Traffic(traffic) => Self::Traffic(Traffic { awaits: Awaits::Both, ..traffic }),
            idle @ Self::Idle { .. } => idle,
        }
    }

    /// The same, but so many messages.
    #[must_use]
    pub fn counted(self, messages: u64) -> Self {
        match self {
            Self::Traffic(traffic) => Self::Traffic(Traffic { limit: Limit::Messages(messages), ..traffic }),
            idle @ Self::Idle { .. } => idle,
        }
    }

    /// The same with messages of another size.
    #[must_use]
    pub fn sized(self, size_bytes: usize) -> Self {
        match self {
            Self::Traffic(traffic) => Self::Traffic(Traffic { size_bytes, ..traffic }),
            idle @ Self::Idle { .. } => idle,
        }
    }

    fn settings(self, cluster: &Cluster, plan: &Plan) -> Settings {
        let is_clique = cluster.system.is_clique();
        let (workload, is_extended) = match self {
            Self::Traffic(traffic) => (Workload::Traffic(traffic), false),
            Self::Idle { clients, is_extended } => {
                let settle = MAX_SETTLE.min(plan.duration);
                (Workload::Idle(Fleet { clients, concurrency: 64, settle }), is_extended)
            }
        };
        let speech = match (is_clique, is_extended) {
            (true, false) => Speech::Frames,
            (true, true) => Speech::Extended,
            (false, _) => Speech::Nats,
        };
        let is_acknowledged = matches!(self, Self::Traffic(Traffic { awaits: Awaits::Receipts | Awaits::Both, .. }));
        let is_stream = is_acknowledged && matches!(cluster.system, System::JetStream | System::JetStreamAlways);
        Settings {
            workload,
            speech,
            sender_speech: match (is_acknowledged, is_clique) {
                (true, true) => Speech::Extended,
                (true, false) => Speech::JetStream,
                (false, _) => speech,
            },
            stream_replicas: is_stream.then(|| REPLICAS.min(u16::try_from(plan.nodes).unwrap_or(REPLICAS))),
            nodes: cluster.addresses(),
            json: false,
            plot: None,
            pids: cluster.pids(),
            threads: 1,
            drain: DRAIN,
        }
    }

    /// Does it once.
    ///
    /// # Errors
    /// If it could not be done to its end.
    pub async fn run(self, cluster: &Cluster, plan: &Plan) -> Result<Report, BenchError> {
        bench::run(self.settings(cluster, plan)).await
    }
}

/// Has everybody say something to somebody elsewhere until that works: processes that listen may not be joined yet, and
/// what runs for the first time is slower than it will be.
///
/// # Errors
/// If it does not work in time.
pub async fn greet(cluster: &Cluster, plan: &Plan) -> Result<(), SuiteError> {
    let senders = u16::try_from(plan.nodes * plan.nodes).unwrap_or(SENDERS).max(SENDERS);
    let work = Work::flow(Shape::Spread { senders }, Duration::ZERO).counted(GREETINGS);
    let deadline = Instant::now() + GREETING_TIMEOUT;
    loop {
        let last = match work.run(cluster, plan).await {
            Ok(report) if report.verified.ok => return Ok(()),
            Ok(report) => report.verified.to_string(),
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            let what = cluster.system.name().to_owned();
            return Err(SuiteError::NotReady { what, seconds: GREETING_TIMEOUT.as_secs(), last });
        }
        sleep(GREETING_PAUSE).await;
    }
}

/// What is read off a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    DeliveredPerS,
    DeliveredMibPerS,
    AcknowledgedPerS,
    LatencyP50Us,
    LatencyP99Us,
    CpuUsEach,
    BytesPerClient,
}

impl Figure {
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::DeliveredPerS => "delivered/s",
            Self::DeliveredMibPerS => "MiB/s",
            Self::AcknowledgedPerS => "acknowledged/s",
            Self::LatencyP50Us => "µs at p50",
            Self::LatencyP99Us => "µs at p99",
            Self::CpuUsEach => "µs of processor per message",
            Self::BytesPerClient => "bytes",
        }
    }

    #[must_use]
    pub fn of(self, report: &Report) -> Option<f64> {
        match self {
            Self::DeliveredPerS => report.delivered_per_s,
            Self::DeliveredMibPerS => report.delivered_mib_per_s,
            Self::AcknowledgedPerS => report.acknowledged_per_s,
            Self::LatencyP50Us => report.latency.map(|latency| latency.p50_us),
            Self::LatencyP99Us => report.latency.map(|latency| latency.p99_us),
            Self::CpuUsEach => report.resources.cpu_us_each,
            Self::BytesPerClient => report.idle.map(|idle| idle.bytes_per_client as f64),
        }
    }
}
