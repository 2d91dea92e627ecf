//! Message spans: decided at the entrance, recorded when they are over.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator as _, RandomIdGenerator, Sampler, SamplingDecision,
    ShouldSample as _, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
};
use opentelemetry_semantic_conventions::attribute::{SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION};
use tokio_util::sync::CancellationToken;

use super::exporter::{Exporter, Tally};
use super::{RemoteParent, SamplerSettings, SpanCounts, TelemetryError, TraceSettings};
use crate::chat::Trace;

/// What the sending thread gets to end after it was told to stop.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a service is called in traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceName<'a> {
    /// Unless the environment has a name for it: a process that is one service.
    Default(&'a str),
    /// Whatever the environment says: one of several services in a process, which must stay distinct.
    Fixed(&'a str),
}

/// A stretch of a message's way that is over.
#[derive(Debug, Clone)]
pub struct SpanRecord {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    /// What this was done for; the first span of a trace has none.
    pub parent_span_id: Option<[u8; 8]>,
    /// The parent was recorded by another node or by the client.
    pub parent_is_remote: bool,
    pub name: Cow<'static, str>,
    pub kind: SpanKind,
    pub start: SystemTime,
    pub end: SystemTime,
    pub attributes: Vec<KeyValue>,
    pub status: SpanStatus,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpanStatus {
    #[default]
    Ok,
    /// It failed, and why if that is known.
    Error(Option<&'static str>),
}

impl From<SpanStatus> for Status {
    fn from(status: SpanStatus) -> Self {
        match status {
            // `Unset` is the specification's word for an ordinary end; its `Ok` overrules errors found elsewhere.
            SpanStatus::Ok => Self::Unset,
            SpanStatus::Error(why) => Self::error(why.unwrap_or_default()),
        }
    }
}

/// One service's spans. Clones share the queue and the connection; services in one process each have their own.
#[derive(Clone, Default)]
pub struct Spans {
    inner: Option<Arc<Inner>>,
    ids: RandomIdGenerator,
}

struct Inner {
    sampler: SamplerSettings,
    scope: InstrumentationScope,
    processor: BatchSpanProcessor,
    tally: Arc<Tally>,
    endpoint: String,
    /// Nothing more is taken.
    closed: AtomicBool,
    /// Ends the exporter's work, whatever it is waiting for.
    stop: CancellationToken,
    /// The sending thread is done.
    ended: CancellationToken,
}

impl Spans {
    /// Traces nothing, and costs nothing.
    #[must_use]
    pub fn disabled() -> Self {
        Self::default()
    }

    /// Starts the thread that sends a service's spans; [`Spans::disabled`] if the settings name no collector.
    ///
    /// `instance` tells apart the processes or nodes that share a service name. The collector is not waited for.
    ///
    /// # Errors
    /// When the exporter cannot be set up.
    pub fn new(settings: &TraceSettings, name: ServiceName<'_>, instance: &str) -> Result<Self, TelemetryError> {
        let Some(collector) = &settings.collector else {
            return Ok(Self::disabled());
        };
        let tally = Arc::new(Tally::new(settings.queue_spans));
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let resource = resource(settings, name, instance);
        let exporter = Exporter::new(collector, &resource, stop.clone(), ended.clone(), Arc::clone(&tally))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(settings.queue_spans)
            .with_max_export_batch_size(settings.batch_spans)
            .with_scheduled_delay(Duration::from_millis(settings.delay_ms))
            .build();
        let inner = Inner {
            sampler: settings.sampler,
            scope: InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
            processor: BatchSpanProcessor::new(exporter, batches),
            tally,
            endpoint: collector.endpoint.clone(),
            closed: AtomicBool::new(false),
            stop,
            ended,
        };
        Ok(Self { inner: Some(Arc::new(inner)), ids: RandomIdGenerator::default() })
    }

    /// Whether any message can be traced.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.inner.is_some()
    }

    /// Decides, once, at the entrance, whether a message is traced.
    ///
    /// If so, the ids are those of the entrance's own span: the parent's trace or a new one, and a fresh span. Its
    /// parent is `parent.span_id`. A refusal neither allocates nor locks.
    #[must_use]
    pub fn decide(&self, parent: Option<RemoteParent>) -> Option<Trace> {
        let sampler = self.inner.as_deref()?.sampler;
        let trace_id = match parent {
            Some(parent) if sampler.parent_based => parent.sampled.then_some(parent.trace_id)?,
            _ if sampler.ratio <= 0.0 => return None,
            parent => {
                let trace_id = parent.map_or_else(|| self.ids.new_trace_id(), |p| TraceId::from_bytes(p.trace_id));
                sampled_by_ratio(sampler.ratio, trace_id).then_some(trace_id.to_bytes())?
            }
        };
        Some(Trace { trace_id, span_id: self.span_id() })
    }

    /// A fresh span id.
    #[must_use]
    pub fn span_id(&self) -> [u8; 8] {
        loop {
            let id = self.ids.new_span_id();
            // Zero means "no span".
            if id != SpanId::INVALID {
                return id.to_bytes();
            }
        }
    }

    /// Queues a span for the collector. Never waits: with a full queue the span is dropped and counted.
    pub fn record(&self, span: SpanRecord) {
        let Some(inner) = &self.inner else { return };
        if inner.closed.load(Ordering::Relaxed) || !inner.tally.enter() {
            return;
        }
        inner.processor.on_end(SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(span.trace_id),
                SpanId::from_bytes(span.span_id),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: span.parent_span_id.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: span.parent_is_remote,
            span_kind: span.kind,
            name: span.name,
            start_time: span.start,
            // The clock may have been set back meanwhile; a viewer would show centuries.
            end_time: span.end.max(span.start),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.status.into(),
            instrumentation_scope: inner.scope.clone(),
        });
    }

    /// What became of the spans so far.
    #[must_use]
    pub fn counts(&self) -> SpanCounts {
        self.inner.as_ref().map_or_else(SpanCounts::default, |inner| inner.tally.counts())
    }

    /// Sends what is queued, for at most `timeout`, and ends the sending thread. Later spans are ignored.
    pub async fn shutdown(&self, timeout: Duration) {
        let Some(inner) = &self.inner else { return };
        if inner.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        let flushing = Arc::clone(inner);
        // How it went is in the counts.
        let _ = tokio::task::spawn_blocking(move || flushing.processor.shutdown_with_timeout(timeout)).await;
        inner.stop.cancel();
        // Nothing holds the thread up any more; the bound is for a system that does not run it.
        let _ = tokio::time::timeout(LAST_WORDS, inner.ended.cancelled()).await;
        let counts = inner.tally.counts();
        let lost = counts.dropped + counts.failed + counts.queued;
        if lost > 0 {
            let collector = inner.endpoint.as_str();
            tracing::warn!(collector, lost_spans = lost, sent_spans = counts.exported, "tracing ends with losses");
        }
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.inner.as_ref().map(|inner| inner.endpoint.as_str());
        f.debug_struct("Spans").field("collector", &endpoint).finish_non_exhaustive()
    }
}

/// The specification's arithmetic, so that every service keeps the same traces at the same ratio.
fn sampled_by_ratio(ratio: f64, trace_id: TraceId) -> bool {
    let sampler = Sampler::TraceIdRatioBased(ratio);
    let result = sampler.should_sample(None, trace_id, "", &SpanKind::Server, &[], &[]);
    result.decision == SamplingDecision::RecordAndSample
}

/// Who records: later attributes overrule earlier ones.
fn resource(settings: &TraceSettings, name: ServiceName<'_>, instance: &str) -> Resource {
    let own = |name: &str| {
        [KeyValue::new(SERVICE_NAME, name.to_owned()), KeyValue::new(SERVICE_INSTANCE_ID, instance.to_owned())]
    };
    let given = settings.resource_attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let resource = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attribute(KeyValue::new(SERVICE_VERSION, env!("CARGO_PKG_VERSION")));
    match name {
        ServiceName::Fixed(name) => resource.with_attributes(given).with_attributes(own(name)),
        ServiceName::Default(name) => resource
            .with_attributes(own(name))
            .with_attributes(given)
            .with_attributes(settings.service_name.iter().map(|name| KeyValue::new(SERVICE_NAME, name.clone()))),
    }
    .build()
}

#[cfg(test)]
#[path = "spans_tests.rs"]
mod tests;
