//! The steps of a sampled message as spans, in the terms of the messaging conventions.
//!
//! ```text
//! client's send ─▶ accept (its node) ─▶ [wait] ─▶ cross (each other node) ─▶ [wait] ─▶ deliver (each addressee)
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::hub::{Mark, Sampled, TraceStep, crossing_span};
use crate::{
    chat::Trace,
    clique::Origin,
    telemetry::{KeyValue, RemoteParent, SpanKind, SpanRecord, SpanStatus, Spans, attributes, trace_field},
};

/// A wait shorter than this is not shown as one, in milliseconds.
const MIN_WAIT_MS: u64 = 20;

/// The spans of one node.
#[derive(Debug, Clone)]
pub struct NodeSpans {
    spans: Spans,
    node: u16,
}

/// A span about a message, before it is filled in.
struct Step {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    parent_span_id: Option<[u8; 8]>,
    name: &'static str,
    kind: SpanKind,
    start_unix_us: u64,
    end_unix_us: u64,
    attributes: Vec<KeyValue>,
}

impl NodeSpans {
    #[must_use]
    pub fn new(spans: Spans, node: u16) -> Self {
        Self { spans, node }
    }

    /// Decides, once and for all nodes, whether a message is traced.
    #[must_use]
    pub fn decide(&self, parent: Option<RemoteParent>) -> Option<Sampled> {
        let trace = self.spans.decide(parent)?;
        Some(Sampled { trace, parent_span_id: parent.map(|parent| parent.span_id) })
    }

    /// Records what the hub reports.
    pub fn record(&self, step: TraceStep) {
        match step {
            TraceStep::Accepted {
                sampled,
                origin,
                number,
                sender,
                to,
                text_bytes,
                received_unix_us,
                accepted_unix_us,
            } => {
                tracing::debug!(
                    trace_id = trace_field(Some(sampled.trace)),
                    id = %format_args!("{origin}/{number}"),
                    node = self.node,
                    "message accepted"
                );
                let mut attributes = self.attributes(attributes::OPERATION_SEND, "accept", origin, number);
                attributes.push(KeyValue::new(attributes::MESSAGING_DESTINATION_NAME, to));
                attributes.push(KeyValue::new(attributes::MESSAGING_CLIENT_ID, sender));
                let bytes = i64::try_from(text_bytes).unwrap_or(i64::MAX);
                attributes.push(KeyValue::new(attributes::MESSAGING_MESSAGE_BODY_SIZE, bytes));
                self.put(Step {
                    trace_id: sampled.trace.trace_id,
                    span_id: sampled.trace.span_id,
                    parent_span_id: sampled.parent_span_id,
                    name: "accept",
                    kind: SpanKind::Server,
                    start_unix_us: received_unix_us,
                    end_unix_us: accepted_unix_us,
                    attributes,
                });
            }
            TraceStep::Crossed {
                trace,
                origin,
                number,
                from_node,
                accepted_unix_ms,
                sent_unix_us,
                received_unix_us,
            } => {
                let waited_from = accepted_unix_ms * 1_000;
                let parent = if sent_unix_us >= waited_from + MIN_WAIT_MS * 1_000 {
                    let reason = "the link was cut, or the log is being caught up on";
                    self.wait(&trace, trace.span_id, (origin, number), (waited_from, sent_unix_us), reason)
                } else {
                    trace.span_id
                };
                let mut attributes = self.attributes(attributes::OPERATION_PROCESS, "cross", origin, number);
                attributes.push(KeyValue::new(attributes::CLIQUE_LINK_FROM, i64::from(from_node)));
                attributes.push(KeyValue::new(attributes::CLIQUE_LINK_TO, i64::from(self.node)));
                self.put(Step {
                    trace_id: trace.trace_id,
                    span_id: crossing_span(&trace, self.node),
                    parent_span_id: Some(parent),
                    name: "cross",
                    kind: SpanKind::Consumer,
                    start_unix_us: sent_unix_us,
                    end_unix_us: received_unix_us,
                    attributes,
                });
            }
        }
    }

    /// Records the delivery of a message whose bytes were written to a socket.
    pub fn delivered(&self, mark: &Mark, recipient: &str, written_unix_us: u64) {
        let Some(trace) = &mark.trace else { return };
        let (origin, number) = (mark.origin, mark.number);
        tracing::debug!(
            trace_id = trace_field(Some(*trace)),
            id = %format_args!("{origin}/{number}"),
            node = self.node,
            "message delivered"
        );
        let arrived = if mark.origin.node == self.node { trace.span_id } else { crossing_span(trace, self.node) };
        let message = (mark.origin, mark.number);
        let parent = match mark.replayed_from_unix_ms {
            Some(from_ms) if mark.queued_unix_us >= (from_ms + MIN_WAIT_MS) * 1_000 => {
                let reason = "the reader was slow, or was not connected";
                self.wait(trace, arrived, message, (from_ms * 1_000, mark.queued_unix_us), reason)
            }
            _ => arrived,
        };
        let mut attributes = self.attributes(attributes::OPERATION_PROCESS, "deliver", mark.origin, mark.number);
        attributes.push(KeyValue::new(attributes::MESSAGING_DESTINATION_NAME, recipient.to_owned()));
        attributes.push(KeyValue::new(attributes::CLIQUE_REPLAYED, mark.replayed_from_unix_ms.is_some()));
        self.put(Step {
            trace_id: trace.trace_id,
            span_id: self.spans.span_id(),
            parent_span_id: Some(parent),
            name: "deliver",
            kind: SpanKind::Consumer,
            start_unix_us: mark.queued_unix_us,
            end_unix_us: written_unix_us,
            attributes,
        });
    }

    /// A span for the time in which nothing happened. Gives its id, as the parent of what follows.
    fn wait(
        &self,
        trace: &Trace,
        parent: [u8; 8],
        (origin, number): (Origin, u64),
        (start_unix_us, end_unix_us): (u64, u64),
        reason: &'static str,
    ) -> [u8; 8] {
        let span_id = self.spans.span_id();
        let mut attributes = self.attributes(attributes::OPERATION_PROCESS, "wait", origin, number);
        attributes.push(KeyValue::new(attributes::CLIQUE_WAIT_REASON, reason));
        self.put(Step {
            trace_id: trace.trace_id,
            span_id,
            parent_span_id: Some(parent),
            name: "wait",
            kind: SpanKind::Internal,
            start_unix_us,
            end_unix_us,
            attributes,
        });
        span_id
    }

    fn attributes(&self, kind: &'static str, name: &'static str, origin: Origin, number: u64) -> Vec<KeyValue> {
        vec![
            KeyValue::new(attributes::MESSAGING_SYSTEM, attributes::SYSTEM),
            KeyValue::new(attributes::MESSAGING_OPERATION_TYPE, kind),
            KeyValue::new(attributes::MESSAGING_OPERATION_NAME, name),
            KeyValue::new(attributes::MESSAGING_MESSAGE_ID, format!("{origin}/{number}")),
            KeyValue::new(attributes::CLIQUE_NODE, i64::from(self.node)),
        ]
    }

    fn put(&self, step: Step) {
        self.spans.record(SpanRecord {
            trace_id: step.trace_id,
            span_id: step.span_id,
            parent_span_id: step.parent_span_id,
            parent_is_remote: step.kind != SpanKind::Internal,
            name: step.name.into(),
            kind: step.kind,
            start: at(step.start_unix_us),
            // Clocks of different machines differ; a span never ends before it begins.
            end: at(step.end_unix_us.max(step.start_unix_us)),
            attributes: step.attributes,
            status: SpanStatus::Ok,
        });
    }
}

fn at(unix_us: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(unix_us)
}
