//! A collector of traces, for tests: takes OTLP over gRPC and over HTTP on one port, and keeps every span.
//!
//! *Invariant:* what was received is kept as it came; nothing is sorted out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span as Proto;
use prost::Message as _;
use tokio::task::AbortHandle;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::wait;

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`.
    Grpc,
    /// `http/protobuf`.
    Http,
}

impl Protocol {
    /// As in `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http/protobuf",
        }
    }
}

/// A span as it was received.
#[derive(Clone, Debug)]
pub struct Span {
    /// `service.name` of its resource.
    pub service: String,
    /// How it came.
    pub protocol: Protocol,
    /// The headers or metadata that it came with.
    pub headers: HeaderMap,
    /// Its name.
    pub name: String,
    /// Its trace, in hex.
    pub trace: String,
    /// Its own id, in hex.
    pub id: String,
    /// The id of its parent, empty for none.
    pub parent: String,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Its events: name and attributes.
    pub events: Vec<(String, BTreeMap<String, String>)>,
    /// The spans it is linked with: trace and id.
    pub links: Vec<(String, String)>,
    /// Its status, if it failed.
    pub error: Option<String>,
    /// How long it took.
    pub duration: Duration,
}

impl Span {
    /// An attribute, empty if it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// What was received so far.
#[derive(Clone, Debug, Default)]
struct Received {
    spans: Arc<Mutex<Vec<Span>>>,
    /// Every request, as bytes.
    raw: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A running collector; it ends when it is dropped.
#[derive(Debug)]
pub struct Sink {
    url: String,
    received: Received,
    server: AbortHandle,
}

impl Sink {
    /// Starts to listen on a free port of loopback.
    ///
    /// # Errors
    /// If there is none.
    pub async fn start() -> Result<Self> {
        Self::start_as(None).await
    }

    /// The same over TLS, by gRPC only, with this certificate and its key in PEM.
    ///
    /// # Errors
    /// If there is no port, or this is no certificate.
    pub async fn start_as(identity: Option<(&str, &str)>) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let received = Received::default();
        let http = Router::new()
            .route("/v1/traces", post(take))
            .with_state(received.clone());
        let grpc = tonic::service::Routes::new(TraceServiceServer::new(received.clone()));
        let router = grpc.into_axum_router().merge(http);
        let mut server = Server::builder().accept_http1(true);
        if let Some((certificate, key)) = identity {
            let identity = Identity::from_pem(certificate, key);
            server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
        }
        let server = server.add_routes(router.into());
        let server = tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let server = server.abort_handle();
        let scheme = if identity.is_some() { "https" } else { "http" };
        Ok(Self {
            url: format!("{scheme}://{address}"),
            received,
            server,
        })
    }

    /// The variables by which services export to it at once.
    pub fn environment(&self, protocol: Protocol) -> Vec<(&'static str, String)> {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.url.clone()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.name().into()),
            ("OTEL_BSP_SCHEDULE_DELAY", "100".into()),
        ]
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Span> {
        let spans = self.received.spans.lock();
        spans.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The spans of one trace so far.
    pub fn trace(&self, trace: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| span.trace == trace);
        spans
    }

    /// Every request so far, as bytes.
    pub fn raw(&self) -> Vec<Vec<u8>> {
        let raw = self.received.raw.lock();
        raw.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the span of a trace that `is` the one.
    ///
    /// # Errors
    /// If it does not come; the message holds the spans of the trace.
    pub async fn span(&self, trace: &str, what: &str, is: impl Fn(&Span) -> bool) -> Result<Span> {
        wait::until(&format!("the span {what}"), wait::PATIENCE, async || {
            let spans = self.trace(trace);
            let found = spans.iter().find(|span| is(span)).cloned();
            found.ok_or_else(|| anyhow::anyhow!("there are {}", drawn(&spans)))
        })
        .await
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Spans as a tree, one on a line.
pub fn drawn(spans: &[Span]) -> String {
    fn below(spans: &[Span], parent: &str, depth: usize, out: &mut String) {
        for span in spans.iter().filter(|span| span.parent == parent) {
            let line = format!(
                "\n{}{} {} {:?} {:?}",
                "  ".repeat(depth),
                span.service,
                span.name,
                span.attributes,
                span.error
            );
            out.push_str(&line);
            below(spans, &span.id, depth + 1, out);
        }
    }
    let mut out = String::new();
    let known = |id: &str| spans.iter().any(|span| span.id == id);
    let mut roots: Vec<&str> = (spans.iter().map(|span| span.parent.as_str()))
        .filter(|parent| !known(parent))
        .collect();
    roots.sort_unstable();
    roots.dedup();
    for root in roots {
        below(spans, root, 0, &mut out);
    }
    out
}

impl Received {
    fn add(&self, request: ExportTraceServiceRequest, protocol: Protocol, headers: &HeaderMap) {
        let raw = request.encode_to_vec();
        let mut all = Vec::new();
        for of_resource in request.resource_spans {
            let resource = attributes(of_resource.resource.unwrap_or_default().attributes);
            let service = resource.get("service.name").cloned().unwrap_or_default();
            let protos = of_resource.scope_spans.into_iter().flat_map(|of| of.spans);
            all.extend(protos.map(|proto| span(proto, &service, protocol, headers)));
        }
        let spans = self.spans.lock();
        spans.unwrap_or_else(PoisonError::into_inner).extend(all);
        let kept = self.raw.lock();
        kept.unwrap_or_else(PoisonError::into_inner).push(raw);
    }
}

async fn take(State(received): State<Received>, headers: HeaderMap, body: Bytes) -> StatusCode {
    match ExportTraceServiceRequest::decode(body) {
        Ok(request) => {
            received.add(request, Protocol::Http, &headers);
            StatusCode::OK
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let headers = request.metadata().clone().into_headers();
        self.add(request.into_inner(), Protocol::Grpc, &headers);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn span(proto: Proto, service: &str, protocol: Protocol, headers: &HeaderMap) -> Span {
    let took = (proto.end_time_unix_nano).saturating_sub(proto.start_time_unix_nano);
    Span {
        service: service.to_owned(),
        protocol,
        headers: headers.clone(),
        name: proto.name,
        trace: hex(&proto.trace_id),
        id: hex(&proto.span_id),
        parent: hex(&proto.parent_span_id),
        attributes: attributes(proto.attributes),
        events: (proto.events.into_iter())
            .map(|event| (event.name, attributes(event.attributes)))
            .collect(),
        links: (proto.links.into_iter())
            .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
            .collect(),
        error: (proto.status)
            .filter(|status| status.code == 2)
            .map(|status| status.message),
        duration: Duration::from_nanos(took),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let pairs = pairs.into_iter();
    pairs
        .map(|pair| (pair.key, pair.value.map(text).unwrap_or_default()))
        .collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Any::StringValue(text)) => text,
        Some(Any::BoolValue(value)) => value.to_string(),
        Some(Any::IntValue(value)) => value.to_string(),
        Some(Any::DoubleValue(value)) => value.to_string(),
        Some(Any::ArrayValue(array)) => {
            let items: Vec<String> = array.values.into_iter().map(text).collect();
            items.join(",")
        }
        other => format!("{other:?}"),
    }
}
