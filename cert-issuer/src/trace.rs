//! The spans of this service: what it signs, the steps of its authority, and what was uploaded on its way to proxies.
//!
//! *Invariant:* no attribute holds anything of a key, a token or a certificate but whom it names and when it ends.

mod answers;

use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderMap;
use jiff::Timestamp;
use model::{Identity, Key};
use store::{Change, Event, Store};
use telemetry::trace::{self, Carried, Context, KeyValue, SpanKind, TraceContextExt, policy};
use tracing::debug;

pub(crate) use answers::Answers;

/// How many proxies of one change are named.
pub(crate) const NAMED: usize = 10;

/// What a value that others watch was last changed by: set before the value, read after it.
#[derive(Clone, Default)]
pub(crate) struct Cause(Arc<Mutex<Context>>);

impl Cause {
    pub(crate) fn set(&self, cx: Context) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = cx;
    }

    pub(crate) fn get(&self) -> Context {
        let cause = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cause.clone()
    }
}

/// The causes of what proxies are shown anew.
#[derive(Clone, Default)]
pub(crate) struct Causes {
    /// Of the authority that is in force.
    pub(crate) authority: Cause,
    /// Of what was uploaded.
    pub(crate) uploads: Cause,
    /// What proxies answer to that.
    pub(crate) answers: Answers,
}

/// The context that a caller sent.
pub(crate) fn caller(headers: &HeaderMap) -> Context {
    let header = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
    let carried = Carried {
        traceparent: header("traceparent"),
        tracestate: header("tracestate"),
    };
    carried.context()
}

/// Something is signed for an identity.
pub(crate) fn sign(kind: &'static str, identity: &Identity, parent: &Context) -> Context {
    let attributes = vec![
        KeyValue::new("svid.kind", kind),
        KeyValue::new("spiffe.id", identity.to_string()),
    ];
    let span = trace::span("sign", SpanKind::Internal).with_attributes(attributes);
    trace::start(span, parent)
}

/// A context below which nothing is recorded.
pub(crate) fn unnamed() -> Context {
    Context::new().with_telemetry_suppressed()
}

/// What came of it: until when it is valid, or why it was not signed.
pub(crate) fn signed(cx: &Context, outcome: Result<Timestamp, &dyn std::fmt::Display>) {
    match outcome {
        Ok(expires) => {
            let expires = KeyValue::new("svid.expires", expires.to_string());
            cx.span().set_attribute(expires);
        }
        Err(error) => trace::failed(cx, error),
    }
    cx.span().end();
}

/// The arrival of an event of some kind of resource, in the trace of who wrote it.
pub(crate) async fn arrival(store: &impl Store, event: &Event) -> Context {
    let Event::Changes {
        revision, changes, ..
    } = event
    else {
        return Context::new();
    };
    let keys: Vec<Key> = changes.iter().filter_map(key).collect();
    let Some(first) = keys.first() else {
        return Context::new();
    };
    let mut carried = Carried::default();
    if trace::is_exported() {
        // A watch of one kind sees no change records; the newest of this resource is most likely the one.
        match store.history(Some(first), None, 1).await {
            Ok(records) => {
                let record = records.into_iter().find(|it| it.revision == *revision);
                if let Some(record) = record {
                    carried.traceparent = record.author.traceparent;
                    carried.tracestate = record.author.tracestate;
                }
            }
            Err(error) => debug!(%error, "whose change it was is not known"),
        }
    }
    let mut attributes = vec![
        KeyValue::new("mesh.revision", revision.0),
        KeyValue::new("policy.count", count(keys.len())),
    ];
    if let [key] = &keys[..] {
        attributes.extend(policy(key.kind.name(), &key.namespace, &key.name));
    }
    let span = trace::span("watch", SpanKind::Consumer).with_attributes(attributes);
    trace::start(span, &carried.context())
}

fn key(change: &Change) -> Option<Key> {
    match change {
        Change::Put { object, .. } => Some(object.key()),
        Change::Delete { key, .. } => Some(key.clone()),
        Change::Undecodable(value) => value.key.clone(),
        Change::Liveness { .. } | Change::Rollout { .. } => None,
    }
}

/// A span of this service's own work.
pub(crate) fn work(name: &'static str, parent: &Context) -> Context {
    trace::start(trace::span(name, SpanKind::Internal), parent)
}

/// Says how many proxies something was shown to, names some, and ends the span.
pub(crate) fn shown(cx: &Context, proxies: &[&str]) {
    let total = KeyValue::new("proxies.total", count(proxies.len()));
    cx.span().set_attribute(total);
    for proxy in proxies.iter().take(NAMED) {
        let id = KeyValue::new("proxy.id", (*proxy).to_owned());
        cx.span().add_event("shown", vec![id]);
    }
    cx.span().end();
}

pub(crate) fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}
