//! How messages are traced, from the standard `OTEL_` variables.

use tonic::transport::Uri;

use super::TelemetryError;

/// Path of traces below a collector's base address (OTLP/HTTP).
const TRACES_PATH: &str = "v1/traces";
/// The port registered for OTLP over gRPC.
const GRPC_PORT: u16 = 4317;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";

/// How spans are encoded on the way to the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    HttpProtobuf,
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// The whole address, the path of OTLP/HTTP included.
    pub endpoint: String,
    pub protocol: Protocol,
    /// The longest that one export may take, retries included.
    pub timeout_ms: u64,
}

/// Which messages are traced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplerSettings {
    /// The decision of a message that comes with a trace context is followed.
    pub parent_based: bool,
    /// Of the others, how many: 0 none, 1 all. The trace id decides, as everywhere in OpenTelemetry.
    pub ratio: f64,
}

/// How a service traces messages.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSettings {
    /// Without one nothing is traced.
    pub collector: Option<Collector>,
    pub sampler: SamplerSettings,
    /// What the environment calls the service.
    pub service_name: Option<String>,
    /// What else is said about the service.
    pub resource_attributes: Vec<(String, String)>,
    /// Most spans that wait for the collector (about 350 bytes each, set aside at the start); more are dropped.
    pub queue_spans: usize,
    /// Most spans sent at once.
    pub batch_spans: usize,
    /// The longest that a span waits for others to be sent with.
    pub delay_ms: u64,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            collector: None,
            sampler: SamplerSettings { parent_based: true, ratio: 1.0 },
            service_name: None,
            resource_attributes: Vec::new(),
            // Larger and quicker than OpenTelemetry's 2,048 spans and 5,000 ms: one message to everyone is a burst of
            // spans, and whoever follows a message looks for it at once.
            queue_spans: 8_192,
            batch_spans: 512,
            delay_ms: 1_000,
        }
    }
}

impl TraceSettings {
    /// Reads the variables of the OpenTelemetry specification, each through `lookup`; empty counts as not set.
    ///
    /// Nothing is traced unless `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set; the other
    /// variables are not even looked at then, because they may be meant for other programs. Without a protocol, port
    /// 4317 means gRPC and any other means `http/protobuf`.
    ///
    /// `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_EXPORTER_OTLP_TRACES_HEADERS` are left to the exporter, which takes them
    /// from the environment itself.
    ///
    /// # Errors
    /// When a variable has a value that is not supported.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, TelemetryError> {
        let get = |variable: &str| lookup(variable).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let Some(collector) = collector(&get)? else {
            return Ok(Self::default());
        };
        let default = Self::default();
        let queue_spans = bounded(&get, "OTEL_BSP_MAX_QUEUE_SIZE", default.queue_spans as u64)? as usize;
        Ok(Self {
            collector: Some(collector),
            sampler: sampler(&get)?,
            service_name: get("OTEL_SERVICE_NAME"),
            resource_attributes: get("OTEL_RESOURCE_ATTRIBUTES").map_or_else(Vec::new, |list| attributes(&list)),
            queue_spans,
            batch_spans: (bounded(&get, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", default.batch_spans as u64)? as usize)
                .min(queue_spans),
            delay_ms: bounded(&get, "OTEL_BSP_SCHEDULE_DELAY", default.delay_ms)?,
        })
    }
}

fn collector(get: &impl Fn(&str) -> Option<String>) -> Result<Option<Collector>, TelemetryError> {
    if get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let (variable, address) = match (get(TRACES_ENDPOINT), get(ENDPOINT)) {
        (Some(address), _) => (TRACES_ENDPOINT, address),
        (None, Some(address)) => (ENDPOINT, address),
        (None, None) => return Ok(None),
    };
    match get(EXPORTER).as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(None),
        Some(other) => return Err(unsupported(EXPORTER, other, "otlp or none")),
    }
    let uri = address_of(variable, &address)?;
    let protocol = match first(get, PROTOCOLS) {
        Some((_, value)) if value == "grpc" => Protocol::Grpc,
        Some((_, value)) if value == "http/protobuf" => Protocol::HttpProtobuf,
        Some((variable, value)) => return Err(unsupported(variable, &value, "grpc or http/protobuf")),
        None if uri.port_u16() == Some(GRPC_PORT) => Protocol::Grpc,
        None => Protocol::HttpProtobuf,
    };
    let endpoint = match (protocol, variable) {
        (Protocol::HttpProtobuf, ENDPOINT) => format!("{}/{TRACES_PATH}", address.trim_end_matches('/')),
        _ => address,
    };
    let timeout_ms = match first(get, TIMEOUTS) {
        Some((variable, _)) => bounded(get, variable, 0)?,
        None => 10_000,
    };
    Ok(Some(Collector { endpoint, protocol, timeout_ms }))
}

fn address_of(variable: &'static str, address: &str) -> Result<Uri, TelemetryError> {
    let wrong = |problem| TelemetryError::Endpoint { variable, problem };
    let uri: Uri = address.parse().map_err(|_| wrong("must be an address like http://localhost:4317"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(wrong("cannot be https: let the node send to a collector next to it, and that one encrypt"));
        }
        _ => return Err(wrong("must begin with http://, like http://localhost:4317")),
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err(wrong("must not contain a user or password: set OTEL_EXPORTER_OTLP_HEADERS instead"))
        }
        _ => Ok(uri),
    }
}

fn sampler(get: &impl Fn(&str) -> Option<String>) -> Result<SamplerSettings, TelemetryError> {
    let name = get(SAMPLER).unwrap_or_else(|| "parentbased_always_on".to_owned());
    let (parent_based, root) = match name.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, name.as_str()),
    };
    let ratio = match root {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => ratio(get)?,
        _ => {
            let allowed = "always_on, always_off or traceidratio, or one of these after parentbased_";
            return Err(unsupported(SAMPLER, &name, allowed));
        }
    };
    Ok(SamplerSettings { parent_based, ratio })
}

fn ratio(get: &impl Fn(&str) -> Option<String>) -> Result<f64, TelemetryError> {
    let Some(text) = get(SAMPLER_ARG) else {
        return Ok(1.0);
    };
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err(unsupported(SAMPLER_ARG, &text, "a number from 0 to 1, like 0.01")),
    }
}

/// A number of spans or milliseconds. The bound keeps a slip of the finger from reserving all memory.
fn bounded(get: &impl Fn(&str) -> Option<String>, variable: &'static str, default: u64) -> Result<u64, TelemetryError> {
    let Some(text) = get(variable) else {
        return Ok(default);
    };
    match text.parse() {
        Ok(number @ 1..=1_000_000) => Ok(number),
        _ => Err(unsupported(variable, &text, "a whole number from 1 to 1000000")),
    }
}

/// `key=value` pairs separated by commas, taken as they are; what is no pair is skipped, as the specification's own
/// readers do.
fn attributes(list: &str) -> Vec<(String, String)> {
    list.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

fn first<const N: usize>(
    get: &impl Fn(&str) -> Option<String>,
    variables: [&'static str; N],
) -> Option<(&'static str, String)> {
    variables.into_iter().find_map(|variable| Some((variable, get(variable)?)))
}

fn unsupported(variable: &'static str, value: &str, allowed: &'static str) -> TelemetryError {
    TelemetryError::Setting { variable, value: value.to_owned(), allowed }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
