//! One span for each message that is sent, from the order to the node's first answer.
//!
//! It is the first span of the message's trace: the node's own are its children, since the node is told its id.

use std::{collections::HashMap, time::SystemTime};

use parking_lot::Mutex;

use crate::{
    chat::Trace,
    telemetry::{
        KeyValue, SpanKind, SpanRecord, SpanStatus, Spans,
        attributes::{
            MESSAGING_DESTINATION_NAME, MESSAGING_MESSAGE_BODY_SIZE, MESSAGING_OPERATION_NAME,
            MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM, OPERATION_SEND, SYSTEM,
        },
        format_traceparent,
    },
};

/// The spans of messages that wait for an answer. As many as the session lets wait.
#[derive(Debug)]
pub struct Traced {
    spans: Spans,
    open: Mutex<HashMap<u64, Open>>,
}

#[derive(Debug)]
struct Open {
    trace: Trace,
    start: SystemTime,
    to: String,
    text_bytes: usize,
}

/// How the node answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Taken,
    Refused,
    /// The connection was lost.
    None,
}

impl Traced {
    pub fn new(spans: Spans) -> Self {
        Self { spans, open: Mutex::default() }
    }

    /// A message is sent; gives its W3C traceparent, empty if it is not traced.
    pub fn begin(&self, reference: u64, to: &str, text_bytes: usize) -> String {
        let Some(trace) = self.spans.decide(None) else { return String::new() };
        let open = Open { trace, start: SystemTime::now(), to: to.to_owned(), text_bytes };
        self.open.lock().insert(reference, open);
        format_traceparent(&trace)
    }

    /// The node has answered, or cannot any more.
    pub fn end(&self, reference: u64, answer: Answer) {
        if !self.spans.is_enabled() {
            return;
        }
        let Some(open) = self.open.lock().remove(&reference) else { return };
        let bytes = i64::try_from(open.text_bytes).unwrap_or(i64::MAX);
        self.spans.record(SpanRecord {
            trace_id: open.trace.trace_id,
            span_id: open.trace.span_id,
            parent_span_id: None,
            parent_is_remote: false,
            name: "send".into(),
            kind: SpanKind::Producer,
            start: open.start,
            end: SystemTime::now(),
            attributes: vec![
                KeyValue::new(MESSAGING_SYSTEM, SYSTEM),
                KeyValue::new(MESSAGING_OPERATION_TYPE, OPERATION_SEND),
                KeyValue::new(MESSAGING_OPERATION_NAME, "send"),
                KeyValue::new(MESSAGING_DESTINATION_NAME, open.to),
                KeyValue::new(MESSAGING_MESSAGE_BODY_SIZE, bytes),
            ],
            status: match answer {
                Answer::Taken => SpanStatus::Ok,
                Answer::Refused => SpanStatus::Error(Some("refused")),
                Answer::None => SpanStatus::Error(Some("the connection was lost before the node answered")),
            },
        });
    }
}
