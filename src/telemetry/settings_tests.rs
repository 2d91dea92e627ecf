use super::*;

const HERE: (&str, &str) = (ENDPOINT, "http://localhost:4317");

fn read(variables: &[(&str, &str)]) -> Result<TraceSettings, TelemetryError> {
    TraceSettings::from_lookup(|name| {
        variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    })
}

fn collector_of(variables: &[(&str, &str)]) -> (String, Protocol) {
    let collector = read(variables).unwrap().collector.unwrap();
    (collector.endpoint, collector.protocol)
}

#[test]
fn nothing_is_traced_until_a_collector_is_named() {
    assert_eq!(read(&[]).unwrap(), TraceSettings::default());
    assert_eq!(read(&[(ENDPOINT, " ")]).unwrap(), TraceSettings::default());
    // Meant for somebody else, so not even wrong values matter.
    assert_eq!(read(&[(SAMPLER, "jaeger_remote")]).unwrap(), TraceSettings::default());
}

#[test]
fn tracing_can_be_turned_off_although_a_collector_is_named() {
    for off in [("OTEL_SDK_DISABLED", "TRUE"), (EXPORTER, "none")] {
        assert_eq!(read(&[HERE, off]).unwrap().collector, None, "{off:?}");
    }
    assert!(read(&[HERE, ("OTEL_SDK_DISABLED", "no")]).unwrap().collector.is_some());
}

#[test]
fn the_address_of_traces_wins_and_is_taken_as_it_is() {
    let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    let traces = (TRACES_ENDPOINT, "http://traces:9/elsewhere");
    assert_eq!(collector_of(&[HERE, traces, protocol]).0, "http://traces:9/elsewhere");
    assert_eq!(collector_of(&[HERE, protocol]).0, "http://localhost:4317/v1/traces");
    assert_eq!(collector_of(&[(ENDPOINT, "http://a/b/"), protocol]).0, "http://a/b/v1/traces");
}

#[test]
fn without_a_protocol_the_port_decides() {
    assert_eq!(collector_of(&[HERE]), ("http://localhost:4317".to_owned(), Protocol::Grpc));
    assert_eq!(collector_of(&[(ENDPOINT, "http://jaeger:4318")]).1, Protocol::HttpProtobuf);
    let for_traces = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc");
    let for_all = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    assert_eq!(collector_of(&[(ENDPOINT, "http://jaeger:4318"), for_traces, for_all]).1, Protocol::Grpc);
}

#[test]
fn samplers_are_those_of_the_specification() {
    let arg = (SAMPLER_ARG, "0.25");
    for (name, parent_based, ratio) in [
        ("always_on", false, 1.0),
        ("always_off", false, 0.0),
        ("traceidratio", false, 0.25),
        ("parentbased_always_on", true, 1.0),
        ("parentbased_always_off", true, 0.0),
        ("parentbased_traceidratio", true, 0.25),
    ] {
        let settings = read(&[HERE, (SAMPLER, name), arg]).unwrap();
        assert_eq!(settings.sampler, SamplerSettings { parent_based, ratio }, "{name}");
    }
    assert_eq!(read(&[HERE]).unwrap().sampler, SamplerSettings { parent_based: true, ratio: 1.0 });
}

#[test]
fn a_value_that_is_not_supported_is_refused_by_name() {
    for (variable, value) in [
        (ENDPOINT, "localhost:4317"),
        (ENDPOINT, "https://collector:4317"),
        (ENDPOINT, "http://user:secret@collector:4317"),
        (ENDPOINT, "not an address"),
        (EXPORTER, "zipkin"),
        (SAMPLER, "sometimes"),
        (PROTOCOLS[1], "http/json"),
        (TIMEOUTS[0], "10s"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
    ] {
        let error = read(&[(variable, value), HERE]).unwrap_err().to_string();
        assert!(error.contains(variable) && !error.contains("secret"), "{error}");
    }
    for arg in ["2", "-0.1", "NaN", "half"] {
        let error = read(&[HERE, (SAMPLER, "traceidratio"), (SAMPLER_ARG, arg)]).unwrap_err().to_string();
        assert!(error.contains(SAMPLER_ARG), "{error}");
    }
}

#[test]
fn attributes_are_pairs_and_the_rest_is_skipped() {
    let settings = read(&[HERE, ("OTEL_RESOURCE_ATTRIBUTES", "a=1, b = two ,c,=d,e=f=g")]).unwrap();
    let expected = [("a", "1"), ("b", "two"), ("e", "f=g")];
    assert_eq!(settings.resource_attributes, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
}

#[test]
fn a_batch_is_never_larger_than_the_queue() {
    assert_eq!(read(&[HERE, ("OTEL_BSP_MAX_QUEUE_SIZE", "100")]).unwrap().batch_spans, 100);
}
