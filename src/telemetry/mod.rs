//! What an operator sees: logs on standard error, and the way of each sampled message as spans sent over OTLP.
//!
//! ```text
//! entrance   decide(parent) ── not sampled ──▶ nothing more: no span, no allocation, no context in the entry
//!               │ sampled
//!               ▼
//!            chat::Trace travels in the entry ──▶ every node that handles it: record(SpanRecord), after the fact
//!                                                        │ a bounded queue; full = dropped and counted
//!                                                        ▼
//!                                   threads of its own per service ──▶ collector
//! ```
//!
//! Spans do not go through the `tracing` macros: even unsampled those cost a microsecond per message. `tracing` is
//! for logs and for the life of connections and links.
//!
//! A collector that is absent, slow or hanging costs the callers nothing: [`Spans::record`] never waits, every export
//! ends within its time, and losses are counted ([`Spans::counts`]) and logged at most once a minute.

pub mod attributes;
mod exporter;
mod logs;
mod settings;
mod spans;

pub use crate::wire::traceparent::{RemoteParent, TraceId, format_traceparent, parse_traceparent};
pub use exporter::SpanCounts;
pub use logs::{LogFormat, init_logs};
pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::SpanKind;
pub use settings::{Collector, Protocol, SamplerSettings, TraceSettings};
pub use spans::{ServiceName, SpanRecord, SpanStatus, Spans};

/// The `trace_id` field of a log line about a message; absent when the message is not sampled.
///
/// ```
/// # let trace = None;
/// tracing::info!(trace_id = clique::telemetry::trace_field(trace), "the addressee is not known");
/// ```
#[must_use]
pub fn trace_field(trace: Option<crate::chat::Trace>) -> Option<tracing::field::DisplayValue<TraceId>> {
    trace.map(|trace| tracing::field::display(TraceId(trace.trace_id)))
}

/// Why logs or traces cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("{variable} is {value:?}, but it must be {allowed}")]
    Setting { variable: &'static str, value: String, allowed: &'static str },
    /// The value is left out: an address can carry a password.
    #[error("{variable} {problem}")]
    Endpoint { variable: &'static str, problem: &'static str },
    #[error("the way to the trace collector cannot be set up ({0}); check the OTEL_EXPORTER_OTLP_ variables")]
    Exporter(String),
    #[error("sending traces needs a few more open files ({0}); raise the limit, or set OTEL_SDK_DISABLED=true")]
    Runtime(std::io::Error),
    #[error(
        "the log filter {filter:?} cannot be read ({reason}); write a level (error, warn, info, debug, trace), or \
         target=level pairs, separated by commas"
    )]
    Filter { filter: String, reason: String },
    #[error("logging has already been started in this process")]
    LogsStarted,
}
