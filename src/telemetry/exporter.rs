//! From the queue to the collector.
//!
//! The batch processor calls the exporter on a thread of its own, which has no async runtime, but both transports need
//! one: to be built, to send, to time out. So the exporter brings one along. Spans therefore never compete with the
//! node's own tasks, and sending them does not end when the node's runtime does. That runtime has a thread, because a
//! connection must be looked after between exports too: a collector that was restarted meanwhile would otherwise be
//! noticed by losing a batch.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Collector, Protocol, TelemetryError};

/// The shortest time between two log lines about lost spans, in seconds.
const LOG_EVERY_S: u64 = 60;

/// What became of recorded spans since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpanCounts {
    /// The collector has them.
    pub exported: u64,
    /// The queue was full.
    pub dropped: u64,
    /// The collector could not be reached, did not answer in time or refused them.
    pub failed: u64,
    /// Waiting for the collector, or on the way to it.
    pub queued: u64,
}

/// Counts the spans that are queued or being sent, so that the queue never overflows unseen: the processor counts its
/// drops, but tells nobody.
#[derive(Debug)]
pub(super) struct Tally {
    max_queued: usize,
    queued: AtomicUsize,
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Tally {
    pub(super) fn new(max_queued: usize) -> Self {
        Self {
            max_queued,
            queued: AtomicUsize::new(0),
            exported: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Takes a place in the queue; `false` when there is none.
    pub(super) fn enter(&self) -> bool {
        if self.queued.fetch_add(1, Ordering::Relaxed) < self.max_queued {
            return true;
        }
        self.queued.fetch_sub(1, Ordering::Relaxed);
        self.dropped.fetch_add(1, Ordering::Relaxed);
        false
    }

    pub(super) fn counts(&self) -> SpanCounts {
        SpanCounts {
            exported: self.exported.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            queued: self.queued.load(Ordering::Relaxed) as u64,
        }
    }
}

/// A runtime that may be dropped anywhere: the plain one panics when it is dropped inside another.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn start() -> Result<Self, TelemetryError> {
        Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .thread_name("traces")
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
            .map_err(TelemetryError::Runtime)
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Sends batches, each within its time, and logs losses now and then.
pub(super) struct Exporter {
    // Before the runtime: the connection goes first.
    otlp: OtlpExporter,
    runtime: OwnRuntime,
    endpoint: String,
    timeout: Duration,
    /// Ends the export under way and all later ones at once.
    stop: CancellationToken,
    tally: Arc<Tally>,
    losses: Mutex<Losses>,
    /// Says, when it is dropped, that the sending thread is done.
    _ended: DropGuard,
}

impl Exporter {
    pub(super) fn new(
        collector: &Collector,
        resource: &Resource,
        stop: CancellationToken,
        ended: CancellationToken,
        tally: Arc<Tally>,
    ) -> Result<Self, TelemetryError> {
        let runtime = OwnRuntime::start()?;
        let timeout = Duration::from_millis(collector.timeout_ms);
        let mut otlp = {
            let _inside = runtime.0.as_ref().map(Runtime::enter);
            let builder = OtlpExporter::builder();
            match collector.protocol {
                Protocol::Grpc => builder.with_tonic().with_endpoint(&collector.endpoint).with_timeout(timeout).build(),
                Protocol::HttpProtobuf => builder
                    .with_http()
                    .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                    .with_endpoint(&collector.endpoint)
                    .with_timeout(timeout)
                    .build(),
            }
        }
        .map_err(|error| TelemetryError::Exporter(error.to_string()))?;
        otlp.set_resource(resource);
        let endpoint = collector.endpoint.clone();
        Ok(Self { otlp, runtime, endpoint, timeout, stop, tally, losses: Mutex::default(), _ended: ended.drop_guard() })
    }

    async fn send(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(OTelSdkError::AlreadyShutdown),
            // The exporter's own time limit holds between attempts only, so a connection that hangs would get past it.
            done = tokio::time::timeout(self.timeout, self.otlp.export(batch)) => {
                done.unwrap_or(Err(OTelSdkError::Timeout(self.timeout)))
            }
        }
    }

    fn log_losses(&self, result: &OTelSdkResult) {
        let counts = self.tally.counts();
        let Some(lost) = self.losses.lock().take_unlogged(counts.dropped + counts.failed, Instant::now()) else {
            return;
        };
        let why = match result {
            Err(error) => error.to_string(),
            Ok(()) => "spans come faster than it takes them".to_owned(),
        };
        tracing::warn!(collector = %self.endpoint, lost_spans = lost, why, "parts of traces are lost");
    }
}

impl SpanExporter for Exporter {
    /// Blocks: called by the batch processor on its own thread, never by a task.
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = match &self.runtime.0 {
            Some(runtime) => runtime.block_on(self.send(batch)),
            None => Err(OTelSdkError::AlreadyShutdown),
        };
        let counter = if result.is_ok() { &self.tally.exported } else { &self.tally.failed };
        counter.fetch_add(spans as u64, Ordering::Relaxed);
        self.tally.queued.fetch_sub(spans, Ordering::Relaxed);
        if !self.stop.is_cancelled() {
            self.log_losses(&result);
        }
        result
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Which losses have been logged already.
#[derive(Debug, Default)]
struct Losses {
    logged: u64,
    last: Option<Instant>,
}

impl Losses {
    /// How many to log now, if any.
    fn take_unlogged(&mut self, lost: u64, now: Instant) -> Option<u64> {
        let due = self.last.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(LOG_EVERY_S));
        let fresh = lost.saturating_sub(self.logged);
        if fresh == 0 || !due {
            return None;
        }
        *self = Self { logged: lost, last: Some(now) };
        Some(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_logged_at_most_once_a_minute_and_add_up() {
        let mut losses = Losses::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(losses.take_unlogged(0, at(0)), None);
        assert_eq!(losses.take_unlogged(5, at(1)), Some(5));
        assert_eq!(losses.take_unlogged(9, at(30)), None);
        assert_eq!(losses.take_unlogged(12, at(61)), Some(7));
        assert_eq!(losses.take_unlogged(12, at(200)), None);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let tally = Tally::new(2);
        assert_eq!([tally.enter(), tally.enter(), tally.enter()], [true, true, false]);
        assert_eq!(tally.counts(), SpanCounts { dropped: 1, queued: 2, ..SpanCounts::default() });
    }
}
