//! Traces: spans by OpenTelemetry, exported over OTLP as the `OTEL_*` variables say, and their W3C context on its way between
//! processes.
//!
//! Spans have ids, for logs and for what is stored, also where nothing is exported. *Invariant:* nothing here waits for a
//! collector but [`Traces::end`], and that not for long; and no library's spans are exported, only those that are started
//! through [`span`].

mod export;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanBuilder, Status, Tracer};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter as _};
use tracing::warn;

pub use opentelemetry::trace::{
    FutureExt, Link, Span, SpanContext, SpanKind, SpanRef, TraceContextExt,
};
pub use opentelemetry::{Context, ContextGuard, KeyValue, Value};

/// How many links a span may have: what merges many writes links all of them.
const LINKS: u32 = 1024;

/// Whether spans go anywhere.
static EXPORTED: AtomicBool = AtomicBool::new(false);

/// The traces of a process, from [`init`](crate::init) to its orderly end.
#[derive(Debug)]
#[must_use = "spans that were not exported yet are lost unless it is ended"]
pub struct Traces(Option<export::Worker>);

impl Traces {
    pub(crate) fn start(service: &'static str) -> Result<Self, ExporterBuildError> {
        if is_set("OTEL_SDK_DISABLED", "true") {
            return Ok(Self(None));
        }
        let resource = resource(service);
        let mut provider = SdkTracerProvider::builder().with_resource(resource.clone());
        if std::env::var_os("OTEL_SPAN_LINK_COUNT_LIMIT").is_none() {
            provider = provider.with_max_links_per_span(LINKS);
        }
        let mut worker = None;
        if wanted() {
            let mut exporter = exporter()?;
            exporter.set_resource(&resource);
            let (queue, started) = export::start(exporter);
            provider = provider.with_span_processor(queue);
            worker = Some(started);
            EXPORTED.store(true, Ordering::Relaxed);
        }
        global::set_tracer_provider(provider.build());
        Ok(Self(worker))
    }

    /// Exports what ended and was not exported yet, for as long as a few seconds.
    pub async fn end(self) {
        if let Some(worker) = self.0 {
            worker.end().await;
        }
    }
}

/// Whether spans are exported: what is only for them need not be done otherwise.
pub fn is_exported() -> bool {
    EXPORTED.load(Ordering::Relaxed)
}

/// The beginnings of a span; [`start`] starts it.
pub fn span(name: impl Into<Cow<'static, str>>, kind: SpanKind) -> SpanBuilder {
    SpanBuilder::from_name(name).with_kind(kind)
}

/// Starts a span below the one of a context, or a new trace. The span is current in the context that this returns, and ends
/// with the last copy of it unless it was ended before.
pub fn start(span: SpanBuilder, parent: &Context) -> Context {
    parent.with_span(tracer().build_with_context(span, parent))
}

fn tracer() -> BoxedTracer {
    global::tracer("weft")
}

/// What a span came to, if it failed.
pub fn failed(cx: &Context, why: impl std::fmt::Display) {
    cx.span().set_status(Status::error(why.to_string()));
}

/// A W3C trace context as it is written in headers and stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// `00-<trace>-<span>-<flags>`; `None` without a trace.
    pub traceparent: Option<String>,
    /// What vendors added.
    pub tracestate: Option<String>,
}

impl Carried {
    /// That of a context.
    pub fn of(cx: &Context) -> Self {
        let mut carried = Self::default();
        TraceContextPropagator::new().inject_context(cx, &mut carried);
        carried
    }

    /// A context below which spans continue the trace; an empty one if it is none, or not well-formed.
    pub fn context(&self) -> Context {
        TraceContextPropagator::new().extract_with_context(&Context::new(), self)
    }
}

impl Extractor for Carried {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.traceparent.as_deref(),
            "tracestate" => self.tracestate.as_deref(),
            _ => None,
        }
    }
    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

impl Injector for Carried {
    fn set(&mut self, key: &str, value: String) {
        let value = Some(value).filter(|value| !value.is_empty());
        match key {
            "traceparent" => self.traceparent = value,
            "tracestate" => self.tracestate = value,
            _ => {}
        }
    }
}

/// The attributes that name a resource of policy: its kind in lower case, its name and its namespace.
pub fn policy(kind: &str, namespace: &str, name: &str) -> [KeyValue; 3] {
    [
        KeyValue::new("policy.type", kind.to_ascii_lowercase()),
        KeyValue::new("policy.name", name.to_owned()),
        KeyValue::new("policy.namespace", namespace.to_owned()),
    ]
}

/// The trace and the span that are current, if there are any.
pub(crate) fn current() -> Option<SpanContext> {
    Context::map_current(|cx| {
        let span = cx.span();
        let span = span.span_context();
        span.is_valid().then(|| span.clone())
    })
}

/// Who the spans are of: this service, unless the environment says otherwise.
fn resource(service: &'static str) -> Resource {
    let own = [
        KeyValue::new("service.name", service),
        KeyValue::new("service.namespace", "weft"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", format!("{:016x}", instance())),
        KeyValue::new("telemetry.sdk.name", "opentelemetry"),
        KeyValue::new("telemetry.sdk.language", "rust"),
    ];
    let resource = Resource::builder_empty()
        .with_attributes(own)
        .with_detector(Box::new(EnvResourceDetector::new()));
    match std::env::var("OTEL_SERVICE_NAME") {
        Ok(name) if !name.is_empty() => resource.with_service_name(name).build(),
        _ => resource.build(),
    }
}

/// A number of this process's own: random keys of hashes are.
fn instance() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// The exporter that the environment names. All of its variables are read there, but for what follows.
fn exporter() -> Result<SpanExporter, ExporterBuildError> {
    let builder = SpanExporter::builder();
    let secure = of_traces("ENDPOINT").is_some_and(|endpoint| endpoint.starts_with("https:"));
    let grpc = of_traces("PROTOCOL").is_some_and(|name| name.eq_ignore_ascii_case("grpc"));
    if secure && grpc {
        // Left to itself it would trust nobody.
        let roots = ClientTlsConfig::new().with_enabled_roots();
        return builder.with_tonic().with_tls_config(roots).build();
    }
    builder.build()
}

/// A variable of OTLP, of traces if that is set, or else of everything.
fn of_traces(variable: &str) -> Option<String> {
    ["TRACES_", ""].into_iter().find_map(|of| {
        let value = std::env::var(format!("OTEL_EXPORTER_OTLP_{of}{variable}"));
        value.ok().filter(|value| !value.is_empty())
    })
}

/// Whether the environment wants spans exported: it names an endpoint or, expressly, the exporter.
fn wanted() -> bool {
    let endpoint = of_traces("ENDPOINT").is_some();
    match std::env::var("OTEL_TRACES_EXPORTER")
        .unwrap_or_default()
        .as_str()
    {
        "" => endpoint,
        "otlp" => true,
        "none" => false,
        other => {
            warn!("OTEL_TRACES_EXPORTER={other} is neither otlp nor none; no traces are exported");
            false
        }
    }
}

fn is_set(name: &str, value: &str) -> bool {
    std::env::var(name).is_ok_and(|is| is.eq_ignore_ascii_case(value))
}
