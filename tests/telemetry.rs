//! Spans as a collector gets them, and what a collector that fails costs: nothing.

#[path = "common/otlp.rs"]
mod otlp;

use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime};

use clique::chat::Trace;
use clique::telemetry::{
    KeyValue, RemoteParent, ServiceName, SpanKind, SpanRecord, SpanStatus, Spans, TraceSettings, attributes,
};
use opentelemetry_proto::tonic::trace::v1::{span, status::StatusCode};
use otlp::Receiver;

/// Long enough for any machine; only there so that a test that hangs ends.
const DEADLINE: Duration = Duration::from_secs(60);
/// What a node grants its last spans.
const FLUSH: Duration = Duration::from_secs(20);

fn settings(variables: &[(&str, String)]) -> TraceSettings {
    TraceSettings::from_lookup(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone()))
        .unwrap()
}

fn service(receiver: &Receiver, name: &str) -> Spans {
    Spans::new(&settings(&receiver.variables()), ServiceName::Fixed(name), name).unwrap()
}

fn record_of(trace: Trace, name: &'static str) -> SpanRecord {
    let start = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    SpanRecord {
        trace_id: trace.trace_id,
        span_id: trace.span_id,
        parent_span_id: None,
        parent_is_remote: false,
        name: name.into(),
        kind: SpanKind::Server,
        start,
        end: start + Duration::from_micros(250),
        attributes: Vec::new(),
        status: SpanStatus::Ok,
    }
}

/// A message's way over two nodes, recorded in two services, arrives as one trace.
async fn one_trace_over_two_services(receiver: &Receiver) {
    let (first, second) = (service(receiver, "clique-1"), service(receiver, "clique-2"));
    let client = RemoteParent { trace_id: [0xaa; 16], span_id: [0xbb; 8], sampled: true };
    let trace = first.decide(Some(client)).unwrap();

    first.record(SpanRecord {
        parent_span_id: Some(client.span_id),
        parent_is_remote: true,
        attributes: vec![
            KeyValue::new(attributes::MESSAGING_SYSTEM, attributes::SYSTEM),
            KeyValue::new(attributes::MESSAGING_MESSAGE_BODY_SIZE, 5),
            KeyValue::new(attributes::CLIQUE_REPLAYED, false),
        ],
        ..record_of(trace, "send bob")
    });
    let hop = Trace { span_id: second.span_id(), ..trace };
    second.record(SpanRecord {
        parent_span_id: Some(trace.span_id),
        parent_is_remote: true,
        kind: SpanKind::Consumer,
        status: SpanStatus::Error(Some("the reader went away")),
        ..record_of(hop, "deliver bob")
    });

    let spans = receiver.wait_for(|spans| spans.len() == 2).await;
    let sent = spans.iter().find(|span| span.name() == "send bob").unwrap();
    let delivered = spans.iter().find(|span| span.name() == "deliver bob").unwrap();

    assert_eq!((sent.service.as_str(), delivered.service.as_str()), ("clique-1", "clique-2"));
    assert_eq!(sent.resource["service.instance.id"], "clique-1");
    assert_eq!(sent.resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(sent.resource["telemetry.sdk.language"], "rust");

    assert_eq!(sent.span.trace_id, client.trace_id);
    assert_eq!(sent.span.span_id, trace.span_id);
    assert_eq!(sent.span.parent_span_id, client.span_id);
    assert!(delivered.is_child_of(sent));
    // Bits 8 and 9: it is known whether the parent is remote, and it is.
    assert_eq!(sent.span.flags & 0x300, 0x300);

    assert_eq!(sent.span.start_time_unix_nano, 1_700_000_000_123_000_000);
    assert_eq!(sent.span.end_time_unix_nano, 1_700_000_000_123_250_000);
    assert_eq!(sent.span.kind(), span::SpanKind::Server);
    assert_eq!(delivered.span.kind(), span::SpanKind::Consumer);
    assert_eq!(sent.attribute("messaging.system"), "clique");
    assert_eq!(sent.attribute("messaging.message.body.size"), "5");
    assert_eq!(sent.attribute("clique.replayed"), "false");

    assert_eq!(sent.span.status.clone().unwrap_or_default().code(), StatusCode::Unset);
    let failure = delivered.span.status.clone().unwrap();
    assert_eq!((failure.code(), failure.message.as_str()), (StatusCode::Error, "the reader went away"));

    first.shutdown(FLUSH).await;
    second.shutdown(FLUSH).await;
}

#[tokio::test]
async fn a_message_is_one_trace_over_grpc() {
    one_trace_over_two_services(&Receiver::start()).await;
}

#[tokio::test]
async fn a_message_is_one_trace_over_http() {
    one_trace_over_two_services(&Receiver::start_http()).await;
}

#[tokio::test]
async fn shutting_down_sends_what_is_queued_and_takes_no_more() {
    let receiver = Receiver::start();
    let mut variables = receiver.variables();
    variables.retain(|(name, _)| *name != "OTEL_BSP_SCHEDULE_DELAY");
    variables.push(("OTEL_BSP_SCHEDULE_DELAY", "1000000".to_owned()));
    let spans = Spans::new(&settings(&variables), ServiceName::Default("clique"), "1").unwrap();
    for _ in 0..3_000 {
        spans.record(record_of(spans.decide(None).unwrap(), "send"));
    }
    spans.shutdown(FLUSH).await;
    assert_eq!(receiver.spans().len(), 3_000);
    assert_eq!(spans.counts().exported, 3_000);

    spans.record(record_of(spans.decide(None).unwrap(), "late"));
    spans.shutdown(FLUSH).await;
    assert_eq!(spans.counts().queued, 0);
}

#[tokio::test]
async fn unsampled_messages_send_nothing() {
    let receiver = Receiver::start();
    for (name, arg) in [("always_off", "1"), ("traceidratio", "0"), ("parentbased_traceidratio", "0")] {
        let mut variables = receiver.variables();
        variables.push(("OTEL_TRACES_SAMPLER", name.to_owned()));
        variables.push(("OTEL_TRACES_SAMPLER_ARG", arg.to_owned()));
        let spans = Spans::new(&settings(&variables), ServiceName::Default("clique"), "1").unwrap();
        assert!(spans.is_enabled());
        assert!((0..1_000).all(|_| spans.decide(None).is_none()), "{name}");
        spans.shutdown(FLUSH).await;
    }
    assert!(receiver.spans().is_empty());
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_the_later_spans() {
    let receiver = Receiver::start();
    let address = receiver.address();
    let spans = service(&receiver, "clique-1");
    spans.record(record_of(spans.decide(None).unwrap(), "before"));
    receiver.wait_for(|spans| spans.len() == 1).await;

    drop(receiver);
    // The old collector's port is free once its runtime has let go of it.
    let receiver = tokio::task::spawn_blocking(move || {
        while TcpListener::bind(address).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Receiver::start_at(address)
    });
    let receiver = tokio::time::timeout(DEADLINE, receiver).await.unwrap().unwrap();
    // What was under way when the connection broke may be lost, what comes later is not.
    let arrived = receiver.wait_for(|spans| !spans.is_empty());
    let recording = async {
        loop {
            spans.record(record_of(spans.decide(None).unwrap(), "after"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        _ = arrived => {}
        () = recording => {}
    }
    spans.shutdown(FLUSH).await;
}

/// Records far more than the queue holds, and shuts down, without a collector that answers.
async fn records_and_stops(variables: &[(&str, String)]) {
    let spans = Spans::new(&settings(variables), ServiceName::Default("clique"), "1").unwrap();
    let began = Instant::now();
    for _ in 0..100_000 {
        spans.record(record_of(spans.decide(None).unwrap(), "send"));
    }
    assert!(began.elapsed() < DEADLINE);

    let began = Instant::now();
    spans.shutdown(Duration::from_millis(300)).await;
    assert!(began.elapsed() < DEADLINE);

    let counts = spans.counts();
    assert_eq!(counts.exported, 0);
    assert_eq!(counts.dropped + counts.failed + counts.queued, 100_000, "every span is accounted for: {counts:?}");
    assert!(counts.dropped > 0);
}

#[tokio::test]
async fn an_absent_collector_costs_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for protocol in ["grpc", "http/protobuf"] {
        records_and_stops(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.clone()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
        ])
        .await;
    }
}

#[tokio::test]
async fn a_collector_that_never_answers_costs_nothing() {
    // Connections are accepted by the system, and nobody ever reads them.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    for protocol in ["grpc", "http/protobuf"] {
        records_and_stops(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.clone()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
        ])
        .await;
    }
}

#[tokio::test]
async fn an_export_ends_when_its_time_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let spans = Spans::new(
        &settings(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", listener.local_addr().unwrap())),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".to_owned()),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "100".to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", "10".to_owned()),
        ]),
        ServiceName::Default("clique"),
        "1",
    )
    .unwrap();
    spans.record(record_of(spans.decide(None).unwrap(), "send"));
    let failed = async {
        while spans.counts().failed == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, failed).await.unwrap();
    spans.shutdown(FLUSH).await;
}

#[test]
fn spans_need_no_runtime_around_them() {
    let receiver = Receiver::start();
    let spans = service(&receiver, "clique-1");
    spans.record(record_of(spans.decide(None).unwrap(), "send"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(receiver.wait_for(|spans| spans.len() == 1));
}
