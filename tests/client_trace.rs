//! The client's part in a trace.

mod client_fake;
#[path = "common/otlp.rs"]
mod otlp;

use client_fake::{FakeNode, Manners, Piped, client};
use clique::{telemetry::parse_traceparent, wire::extended::FromClient};
use otlp::Receiver;

#[tokio::test(flavor = "multi_thread")]
async fn each_message_is_a_producer_span_whose_context_goes_to_the_node() {
    let receiver = Receiver::start();
    let node = FakeNode::start(0, Manners::default());
    let mut command = client(&[&node]);
    command.args(["--name", "alice"]).envs(receiver.variables());
    let mut client = Piped::start(&mut command);
    client.type_line("bob hello");
    let traceparent = node.hear(|said| match said {
        FromClient::Send(send) => Some(send.traceparent),
        _ => None,
    });
    assert_eq!(client.end(), 0);

    let parent = parse_traceparent(&traceparent).expect("the node can read it");
    assert!(parent.sampled);
    // The last spans are sent before the process ends.
    let spans = receiver.wait_for(|spans| !spans.is_empty()).await;
    let span = &spans[0];
    assert_eq!((span.service.as_str(), span.name()), ("clique-client", "send"));
    assert_eq!(span.span.kind, opentelemetry_proto::tonic::trace::v1::span::SpanKind::Producer as i32);
    assert_eq!((&span.span.trace_id[..], &span.span.span_id[..]), (&parent.trace_id[..], &parent.span_id[..]));
    assert_eq!(span.attribute("messaging.destination.name"), "bob");
}
