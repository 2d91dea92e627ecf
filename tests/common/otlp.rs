//! A trace collector for tests: real OTLP over gRPC or HTTP, on a loopback port, on a thread of its own.

// Each test uses the part that it needs.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// How long a test waits for spans before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A span as the collector got it, with who sent it.
#[derive(Debug, Clone)]
pub struct Received {
    /// `service.name` of the sender.
    pub service: String,
    pub resource: BTreeMap<String, String>,
    pub attributes: BTreeMap<String, String>,
    pub span: Span,
}

impl Received {
    pub fn name(&self) -> &str {
        &self.span.name
    }

    /// Whether `other` is this span's parent.
    pub fn is_child_of(&self, other: &Self) -> bool {
        self.span.trace_id == other.span.trace_id && self.span.parent_span_id == other.span.span_id
    }

    /// An attribute's value as text; empty if there is none.
    pub fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// The collector; it and all its connections end when it is dropped.
pub struct Receiver {
    address: SocketAddr,
    protocol: &'static str,
    spans: watch::Receiver<Vec<Received>>,
    runtime: Option<Runtime>,
}

impl Receiver {
    /// OTLP over gRPC, on a free port.
    pub fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// OTLP over gRPC, for a collector that comes back.
    pub fn start_at(address: SocketAddr) -> Self {
        Self::serve(address, "grpc", |listener, inbox| async move {
            let service = TraceServiceServer::new(Grpc(inbox)).max_decoding_message_size(64 << 20);
            let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        })
    }

    /// OTLP over HTTP with protobuf bodies, on a free port.
    pub fn start_http() -> Self {
        Self::serve(SocketAddr::from(([127, 0, 0, 1], 0)), "http/protobuf", |listener, inbox| async move {
            let traces = axum::routing::post(async move |headers: HeaderMap, body: Bytes| {
                let is_protobuf = headers.get("content-type").is_some_and(|kind| kind == "application/x-protobuf");
                match ExportTraceServiceRequest::decode(body) {
                    Ok(request) if is_protobuf => {
                        keep(&inbox, request);
                        (StatusCode::OK, ExportTraceServiceResponse::default().encode_to_vec())
                    }
                    _ => (StatusCode::BAD_REQUEST, Vec::new()),
                }
            });
            axum::serve(listener, axum::Router::new().route("/v1/traces", traces)).await.unwrap();
        })
    }

    fn serve<F>(
        address: SocketAddr,
        protocol: &'static str,
        serve: impl FnOnce(tokio::net::TcpListener, watch::Sender<Vec<Received>>) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (inbox, spans) = watch::channel(Vec::new());
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        {
            let _inside = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            runtime.spawn(serve(listener, inbox));
        }
        Self { address, protocol, spans, runtime: Some(runtime) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The variables of a process that traces every message and sends its spans here at once.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.endpoint()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", self.protocol.to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", "20".to_owned()),
        ]
    }

    /// What has come so far.
    pub fn spans(&self) -> Vec<Received> {
        self.spans.borrow().clone()
    }

    /// Waits until what has come satisfies `enough`, and gives it; fails the test when it does not in time.
    pub async fn wait_for(&self, mut enough: impl FnMut(&[Received]) -> bool) -> Vec<Received> {
        let mut spans = self.spans.clone();
        match tokio::time::timeout(PATIENCE, spans.wait_for(|spans| enough(spans))).await {
            Ok(spans) => spans.expect("the collector runs").clone(),
            Err(_) => panic!("not all spans came in time; these did: {:#?}", self.spans()),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Grpc(watch::Sender<Vec<Received>>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        keep(&self.0, request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn keep(inbox: &watch::Sender<Vec<Received>>, request: ExportTraceServiceRequest) {
    let mut fresh = Vec::new();
    for of_service in request.resource_spans {
        let resource = texts(of_service.resource.map(|resource| resource.attributes).unwrap_or_default());
        let service = resource.get("service.name").cloned().unwrap_or_default();
        for mut span in of_service.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let attributes = texts(std::mem::take(&mut span.attributes));
            fresh.push(Received { service: service.clone(), resource: resource.clone(), attributes, span });
        }
    }
    inbox.send_modify(|spans| spans.append(&mut fresh));
}

fn texts(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    }
}
