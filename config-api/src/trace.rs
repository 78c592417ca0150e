//! The spans of this service: one for each request, from the caller's trace context, and one for each transaction, whose
//! context is stored with what it writes.
//!
//! *Invariant:* no attribute holds anything of a body, a query or a credential.

use axum::RequestPartsExt;
use axum::extract::{MatchedPath, RawPathParams, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use model::{Key, Kind, Revision};
use store::{Author, Op};
use telemetry::trace::{
    self, Carried, Context, FutureExt, KeyValue, SpanKind, TraceContextExt, policy,
};

use crate::http::serve::Connection;

/// How many resources of one transaction are named in its span.
const NAMED: usize = 64;

/// How much is told of what clients call themselves.
const AGENT: usize = 128;

/// Handles a request in a span of its own, below the caller's.
pub(crate) async fn traced(request: Request, next: Next) -> Response {
    if telemetry::is_probe(request.uri().path()) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let header = |name: &str| Some(parts.headers.get(name)?.to_str().ok()?.to_owned());
    let carried = Carried {
        traceparent: header("traceparent"),
        tracestate: header("tracestate"),
    };
    let route = parts.extensions.get::<MatchedPath>();
    let name = match route {
        Some(route) => format!("{} {}", parts.method, route.as_str()),
        None => parts.method.to_string(),
    };
    let attributes = attributes(&mut parts).await;
    let span = trace::span(name, SpanKind::Server).with_attributes(attributes);
    let cx = trace::start(span, &carried.context());
    let request = Request::from_parts(parts, body);
    let response = next.run(request).with_context(cx.clone()).await;
    let code = response.status();
    let span = cx.span();
    span.set_attribute(KeyValue::new(
        "http.response.status_code",
        i64::from(code.as_u16()),
    ));
    if code.is_server_error() {
        span.set_attribute(KeyValue::new("error.type", code.as_str().to_owned()));
        trace::failed(&cx, code);
    }
    span.end();
    response
}

/// What is said of a request, by OpenTelemetry's conventions for HTTP, and the resource that its path names.
async fn attributes(parts: &mut Parts) -> Vec<KeyValue> {
    let scheme = match parts.extensions.get::<Connection>() {
        Some(connection) if connection.certificate.is_some() => "https",
        _ => parts.uri.scheme_str().unwrap_or("http"),
    };
    let mut attributes = vec![
        KeyValue::new("http.request.method", parts.method.to_string()),
        KeyValue::new("url.path", parts.uri.path().to_owned()),
        KeyValue::new("url.scheme", scheme.to_owned()),
    ];
    if let Some(route) = parts.extensions.get::<MatchedPath>() {
        attributes.push(KeyValue::new("http.route", route.as_str().to_owned()));
    }
    if let Some(connection) = parts.extensions.get::<Connection>() {
        let address = connection.remote.ip().to_string();
        attributes.push(KeyValue::new("client.address", address));
    }
    if let Some(agent) = parts.headers.get(http::header::USER_AGENT)
        && let Ok(agent) = agent.to_str()
    {
        let agent: String = agent.chars().take(AGENT).collect();
        attributes.push(KeyValue::new("user_agent.original", agent));
    }
    if let Ok(params) = parts.extract::<RawPathParams>().await {
        let param = |name| Some((params.iter()).find(|(n, _)| *n == name)?.1);
        if let (Some(group), Some(version), Some(plural)) =
            (param("group"), param("version"), param("plural"))
            && let Some(kind) = Kind::from_gvr(group, version, plural)
            && let Some(name) = param("name")
        {
            let namespace = param("namespace").unwrap_or_default();
            attributes.extend(policy(kind.name(), namespace, name));
        }
    }
    attributes
}

/// The span of a transaction, below the request's; and its author, who carries the span's context into the store.
pub(crate) fn transaction(ops: &[Op], author: Author) -> (Context, Author) {
    let keys: Vec<Key> = ops.iter().filter_map(written).collect();
    let mut attributes = vec![
        KeyValue::new("db.system.name", "etcd"),
        KeyValue::new("db.operation.name", "txn"),
        KeyValue::new("policy.count", count(keys.len())),
    ];
    if let [key] = &keys[..] {
        attributes.extend(policy(key.kind.name(), &key.namespace, &key.name));
    }
    let span = trace::span("etcd transaction", SpanKind::Client).with_attributes(attributes);
    let cx = trace::start(span, &Context::current());
    if keys.len() > 1 && cx.span().is_recording() {
        for key in keys.iter().take(NAMED) {
            let named = policy(key.kind.name(), &key.namespace, &key.name);
            cx.span().add_event("policy", named.to_vec());
        }
    }
    let Carried {
        traceparent,
        tracestate,
    } = Carried::of(&cx);
    let author = Author {
        traceparent,
        tracestate,
        ..author
    };
    (cx, author)
}

/// What became of a transaction; ends its span. The request's span is told the revision, too.
pub(crate) fn committed(cx: &Context, outcome: &store::Result<Revision>) {
    match outcome {
        Ok(revision) => {
            let revision = KeyValue::new("mesh.revision", revision.0);
            cx.span().set_attribute(revision.clone());
            Context::map_current(|request| request.span().set_attribute(revision));
        }
        Err(error) => trace::failed(cx, error),
    }
    cx.span().end();
}

fn written(op: &Op) -> Option<Key> {
    match op {
        Op::Put { object, .. } => Some(object.key()),
        Op::Delete { key, .. } => Some(key.clone()),
        Op::Liveness {
            namespace, name, ..
        } => Some(Key::new(
            Kind::WorkloadEntry,
            namespace.clone(),
            name.clone(),
        )),
        Op::Guard { .. } | Op::Rollout { .. } | Op::Forget { .. } => None,
    }
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}
