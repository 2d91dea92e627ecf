use super::*;
use crate::telemetry::{Collector, Protocol};

/// Nobody listens there; nothing is sent in these tests.
fn sampling(parent_based: bool, ratio: f64) -> Spans {
    let settings = TraceSettings {
        collector: Some(Collector {
            endpoint: "http://127.0.0.1:9".to_owned(),
            protocol: Protocol::Grpc,
            timeout_ms: 100,
        }),
        sampler: SamplerSettings { parent_based, ratio },
        ..TraceSettings::default()
    };
    Spans::new(&settings, ServiceName::Default("test"), "1").unwrap()
}

fn parent(sampled: bool) -> RemoteParent {
    RemoteParent { trace_id: [7; 16], span_id: [3; 8], sampled }
}

#[test]
fn disabled_spans_decide_against_every_message() {
    assert_eq!(Spans::disabled().decide(Some(parent(true))), None);
    assert!(!Spans::new(&TraceSettings::default(), ServiceName::Default("test"), "1").unwrap().is_enabled());
}

#[test]
fn a_message_without_parent_starts_a_trace_of_its_own() {
    let spans = sampling(true, 1.0);
    let (one, other) = (spans.decide(None).unwrap(), spans.decide(None).unwrap());
    assert_ne!(one.trace_id, other.trace_id);
    assert_ne!(one.span_id, other.span_id);
}

#[test]
fn a_parent_based_sampler_follows_the_parent() {
    for ratio in [0.0, 1.0] {
        let spans = sampling(true, ratio);
        let trace = spans.decide(Some(parent(true))).unwrap();
        assert_eq!(trace.trace_id, [7; 16]);
        assert_ne!(trace.span_id, [3; 8]);
        assert_eq!(spans.decide(Some(parent(false))), None);
    }
    assert_eq!(sampling(true, 0.0).decide(None), None);
}

#[test]
fn other_samplers_keep_the_parent_s_trace_but_not_its_decision() {
    assert_eq!(sampling(false, 1.0).decide(Some(parent(false))).unwrap().trace_id, [7; 16]);
    assert_eq!(sampling(false, 0.0).decide(Some(parent(true))), None);
}

#[test]
fn a_ratio_keeps_about_that_part_and_every_service_keeps_the_same() {
    let spans = sampling(true, 0.25);
    let kept = (0..40_000).filter(|_| spans.decide(None).is_some()).count();
    assert!((9_000..11_000).contains(&kept), "{kept} of 40,000");

    let (low, high) = (TraceId::from(1_u128), TraceId::from(u128::MAX));
    assert!(sampled_by_ratio(0.25, low) && !sampled_by_ratio(0.25, high));
}

#[test]
fn the_environment_names_a_service_unless_its_name_is_fixed() {
    let named = |settings: &TraceSettings, name: ServiceName<'_>| {
        let resource = resource(settings, name, "node-1");
        [SERVICE_NAME, SERVICE_INSTANCE_ID]
            .map(|key| resource.get(&key.into()).map(|value| value.to_string()).unwrap_or_default())
    };
    let mut settings = TraceSettings::default();
    assert_eq!(named(&settings, ServiceName::Default("clique")), ["clique", "node-1"]);

    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    settings.resource_attributes = vec![pair("service.name", "listed"), pair("service.instance.id", "pod-9")];
    assert_eq!(named(&settings, ServiceName::Default("clique")), ["listed", "pod-9"]);

    settings.service_name = Some("chat".to_owned());
    assert_eq!(named(&settings, ServiceName::Default("clique")), ["chat", "pod-9"]);
    assert_eq!(named(&settings, ServiceName::Fixed("clique-2")), ["clique-2", "node-1"]);
}
