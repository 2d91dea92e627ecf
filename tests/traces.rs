//! The way of a message through real nodes, as a real collector gets it: one trace, from socket to socket.

mod common;
#[path = "common/otlp.rs"]
mod otlp;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clique::wire::extended::State;
use common::cliques::Clique;
use otlp::{Received, Receiver};

const TRACE: [u8; 16] = [0xab; 16];
const CLIENT_SPAN: [u8; 8] = [0xcd; 8];

/// What a client says of its own span.
fn traceparent(trace: &[u8], is_sampled: bool) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("00-{}-{}-{:02x}", hex(trace), hex(&CLIENT_SPAN), u8::from(is_sampled))
}

/// Nodes that send their spans to this collector at once.
fn traced(count: usize, receiver: &Receiver) -> Clique {
    receiver.variables().into_iter().fold(Clique::new(count), |clique, (name, value)| clique.with(name, value))
}

/// What has come, as soon as there are so many spans of each of these names.
fn collected(receiver: &Receiver, accept: usize, cross: usize, deliver: usize) -> Vec<Received> {
    let wanted = [("accept", accept), ("cross", cross), ("deliver", deliver)];
    let has_come = |spans: &[Received]| {
        wanted.iter().all(|(name, count)| spans.iter().filter(|span| span.name() == *name).count() == *count)
    };
    tokio::runtime::Runtime::new().unwrap().block_on(receiver.wait_for(has_come))
}

/// The span that caused this one, times of waiting passed over: a busy machine has them too.
fn cause<'a>(spans: &'a [Received], span: &Received) -> Option<&'a Received> {
    let parent = spans.iter().find(|other| span.is_child_of(other))?;
    if parent.name() == "wait" { cause(spans, parent) } else { Some(parent) }
}

#[track_caller]
fn one<'a>(spans: &'a [Received], name: &str, node: usize) -> &'a Received {
    let service = format!("clique-node-{node}");
    let mut found = spans.iter().filter(|span| span.name() == name && span.service == service);
    let span = found.next().unwrap_or_else(|| panic!("no {name} from {service}: {spans:#?}"));
    assert!(found.next().is_none(), "more than one {name} from {service}");
    span
}

/// Checks what every span of a message has, and gives the message's id.
fn check_common(spans: &[Received]) -> String {
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.attribute("messaging.message.id")).collect();
    assert_eq!(ids.len(), 1, "one message, one id: {ids:?}");
    let traces: BTreeSet<&[u8]> = spans.iter().map(|span| &span.span.trace_id[..]).collect();
    assert_eq!(traces.len(), 1, "one message, one trace");
    let own: BTreeSet<&[u8]> = spans.iter().map(|span| &span.span.span_id[..]).collect();
    assert_eq!(own.len(), spans.len(), "each span has an id of its own");
    for span in spans {
        assert_eq!(span.attribute("messaging.system"), "clique");
        assert_eq!(span.attribute("messaging.operation.name"), span.name());
        let kind = if span.name() == "accept" { "send" } else { "process" };
        assert_eq!(span.attribute("messaging.operation.type"), kind);
        assert_eq!(span.service, format!("clique-node-{}", span.attribute("clique.node")));
        assert!(span.span.end_time_unix_nano >= span.span.start_time_unix_nano);
    }
    ids.into_iter().next().unwrap().to_owned()
}

#[test]
fn a_message_is_one_trace_from_its_senders_socket_to_its_readers() {
    let receiver = Receiver::start();
    let clique = traced(3, &receiver).started();
    let (mut alice, mut bob) = (clique.frames(0, "alice"), clique.lines(1, "bob"));
    clique.wait_people(2);
    alice.send("bob", "hello");
    assert_eq!(bob.line(), "alice: hello");
    let spans = collected(&receiver, 1, 2, 1);

    let id = check_common(&spans);
    assert!(id.starts_with("0.") && id.ends_with("/1"), "the first message of node 0: {id}");
    let accept = one(&spans, "accept", 0);
    assert!(accept.span.parent_span_id.is_empty(), "the trace begins here");
    assert_eq!(accept.attribute("messaging.destination.name"), "bob");
    assert_eq!(accept.attribute("messaging.client.id"), "alice");
    assert_eq!(accept.attribute("messaging.message.body.size"), "5");
    for node in [1, 2] {
        let cross = one(&spans, "cross", node);
        assert_eq!(cause(&spans, cross).unwrap().span.span_id, accept.span.span_id);
        assert_eq!(cross.attribute("clique.link.from"), "0");
        assert_eq!(cross.attribute("clique.link.to"), node.to_string());
    }
    let deliver = one(&spans, "deliver", 1);
    assert!(deliver.is_child_of(one(&spans, "cross", 1)));
    assert_eq!(deliver.attribute("messaging.destination.name"), "bob");
    assert_eq!(deliver.attribute("clique.replayed"), "false");
    assert_eq!(spans.iter().filter(|span| span.name() != "wait").count(), 4);
}

#[test]
fn everybody_who_hears_a_message_is_in_its_trace_and_each_message_has_its_own() {
    let receiver = Receiver::start();
    let clique = traced(3, &receiver).started();
    let mut alice = clique.frames(0, "alice");
    let mut readers: Vec<_> = (0..3).map(|index| clique.frames(index, &format!("reader{index}"))).collect();
    clique.wait_people(4);
    for text in ["first", "second"] {
        alice.send("*", text);
    }
    for reader in &mut readers {
        assert_eq!((reader.hear().text(), reader.hear().text()), ("first", "second"));
    }
    let spans = collected(&receiver, 2, 4, 6);
    let traces: BTreeSet<&[u8]> = spans.iter().map(|span| &span.span.trace_id[..]).collect();
    assert_eq!(traces.len(), 2);
    for trace in traces {
        let spans: Vec<Received> = spans.iter().filter(|span| span.span.trace_id == trace).cloned().collect();
        check_common(&spans);
        assert_eq!(one(&spans, "accept", 0).attribute("messaging.destination.name"), "*");
        for node in 0..3 {
            let deliver = one(&spans, "deliver", node);
            assert_eq!(deliver.attribute("messaging.destination.name"), format!("reader{node}"));
            // On the sender's own node nothing is crossed.
            let arrived = if node == 0 { one(&spans, "accept", 0) } else { one(&spans, "cross", node) };
            assert!(deliver.is_child_of(arrived));
        }
    }
}

#[test]
fn a_client_that_traces_is_the_root_and_is_told_the_trace() {
    let receiver = Receiver::start();
    let clique = traced(2, &receiver).started();
    let (mut alice, mut bob) = (clique.extended(0, "alice"), clique.extended(1, "bob"));
    clique.wait_people(2);
    // One that is not sampled where it begins is not sampled here.
    alice.send_traced("bob", "unseen", &traceparent(&[0xee; 16], false));
    assert_eq!(bob.delivery().traceparent, "");
    let reference = alice.send_traced("bob", "hello", &traceparent(&TRACE, true));
    let hex = "ab".repeat(16);
    assert_eq!(alice.receipt(reference, State::Accepted).trace_id, hex);
    let delivery = bob.delivery();
    assert!(delivery.traceparent.starts_with(&format!("00-{hex}-")), "{}", delivery.traceparent);
    let spans = collected(&receiver, 1, 1, 1);
    check_common(&spans);
    let accept = one(&spans, "accept", 0);
    assert_eq!(accept.span.trace_id, TRACE);
    assert_eq!(accept.span.parent_span_id, CLIENT_SPAN);
    assert!(one(&spans, "deliver", 1).is_child_of(one(&spans, "cross", 1)));
    // Nonsense in place of a trace is no trace of the client's, and no reason to refuse the message.
    let reference = alice.send_traced("bob", "nonsense", "00-xyz");
    assert!(!alice.receipt(reference, State::Accepted).trace_id.contains("ab".repeat(8).as_str()));
    assert_eq!(bob.delivery().text, b"nonsense");
}

#[test]
fn what_is_not_sampled_leaves_no_span() {
    let receiver = Receiver::start();
    let mut clique = traced(2, &receiver).with("OTEL_TRACES_SAMPLER", "always_off").started();
    let (mut alice, mut bob) = (clique.frames(0, "alice"), clique.frames(1, "bob"));
    clique.wait_people(2);
    for number in 0..100 {
        alice.send("bob", number.to_string());
        assert_eq!(bob.hear().text(), number.to_string());
    }
    // What a node has it sends before it ends.
    for index in [0, 1] {
        assert_eq!(clique.terminate(index).code(), Some(0));
    }
    assert!(receiver.spans().is_empty(), "{:?}", receiver.spans());
}

#[test]
fn a_link_that_was_cut_is_a_wait_before_the_crossing() {
    let receiver = Receiver::start();
    let clique = traced(2, &receiver).started();
    let (mut alice, mut bob) = (clique.frames(0, "alice"), clique.frames(1, "bob"));
    clique.wait_people(2);
    clique.pause(1);
    clique.wait_for(0, 1, 2);
    let sent = Instant::now();
    alice.send("bob", "kept");
    // A busy machine may have told of the cut before it took the message.
    alice.notices_of(["bob was last seen on node 1", "node 1 cannot be reached now;"]);
    // Far longer than the shortest wait that is shown.
    while sent.elapsed() < Duration::from_millis(200) {
        alice.sync();
    }
    clique.resume(1);
    assert_eq!(bob.hear_person().text(), "kept");
    let spans = collected(&receiver, 1, 1, 1);
    check_common(&spans);
    let wait = one(&spans, "wait", 1);
    assert!(wait.is_child_of(one(&spans, "accept", 0)));
    assert!(one(&spans, "cross", 1).is_child_of(wait));
    assert!(wait.attribute("clique.wait.reason").contains("the link was cut"), "{wait:?}");
    let cross = one(&spans, "cross", 1);
    assert!(wait.span.end_time_unix_nano <= cross.span.start_time_unix_nano);
}

#[test]
fn a_reader_who_is_slow_is_a_wait_before_the_delivery() {
    const FILLER: usize = 600;
    let receiver = Receiver::start();
    // Only what its client traces, so that what fills the reader's buffers is not.
    let clique = traced(2, &receiver).with("OTEL_TRACES_SAMPLER", "parentbased_always_off").started();
    let (mut alice, mut bob) = (clique.extended(0, "alice"), clique.frames(1, "bob"));
    clique.wait_people(2);
    let fill = |alice: &mut common::extended::Extended| {
        let last = (0..FILLER).map(|_| alice.send("bob", vec![b'x'; 30_000])).last().unwrap();
        // Until it is at the reader's node: who reads before that is not behind.
        alice.receipt(last, State::Replicated);
    };
    fill(&mut alice);
    alice.send_traced("bob", "late", &traceparent(&TRACE, true));
    fill(&mut alice);
    while bob.hear().text() != "late" {}
    let spans = collected(&receiver, 1, 1, 1);
    check_common(&spans);
    let deliver = one(&spans, "deliver", 1);
    assert_eq!(deliver.attribute("clique.replayed"), "true");
    let wait = spans.iter().find(|span| deliver.is_child_of(span)).unwrap();
    assert_eq!(wait.name(), "wait");
    assert!(wait.attribute("clique.wait.reason").contains("the reader was slow"), "{wait:?}");
    assert!(wait.is_child_of(one(&spans, "cross", 1)));
}

#[test]
fn a_collector_that_is_not_there_does_no_harm() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // It accepts connections, as far as the system does that by itself, and answers nothing.
    let silent = format!("http://{}", nowhere.local_addr().unwrap());
    for endpoint in ["http://127.0.0.1:1".to_owned(), silent] {
        let mut clique = Clique::new(2).with("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).started();
        let (mut alice, mut bob) = (clique.frames(0, "alice"), clique.frames(1, "bob"));
        clique.wait_people(2);
        for number in 0..1_000 {
            alice.send("bob", number.to_string());
            assert_eq!(bob.hear().text(), number.to_string());
        }
        for index in [0, 1] {
            assert_eq!(clique.terminate(index).code(), Some(0));
        }
    }
}
