//! `PUT/DELETE /v1/namespaces/{ns}/workloads/{name}/heartbeat`: a workload says that it lives, or that it leaves.
//!
//! *Invariant:* a heartbeat is forwarded at most once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{Method, Request, StatusCode, header};
use model::{Key, Kind, Object};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use store::Member;
use telemetry::trace::{Carried, Context};
use tokio::sync::oneshot;

use crate::app::App;
use crate::http::body;
use crate::http::query::FieldValidation;
use crate::http::status::{Cause, Result, Status};
use crate::identity::{CALLER, Caller, FORWARDED};
use crate::k8s::admit::{Admitted, Place, admit};
use crate::k8s::write::{self, Precondition};
use crate::liveness::{Beat, TTL, parse_ttl};
use crate::view::Workload;

/// What a heartbeat says. All of it may be absent once the workload is registered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Heartbeat {
    /// How long the workload counts as alive after this.
    ttl: Option<String>,
    healthy: bool,
    /// The WorkloadEntry's labels and spec; with a spec, the first heartbeat registers the workload.
    labels: Option<BTreeMap<String, String>>,
    spec: Option<Value>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            ttl: None,
            healthy: true,
            labels: None,
            spec: None,
        }
    }
}

pub(super) async fn beat(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
    request: Request<Body>,
) -> Result<Response> {
    let workload: Workload = (namespace.into(), name.into());
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts.headers, body, app.config.max_body_bytes).await?;
    if let Some(owner) = elsewhere(&app, &workload, &parts.headers) {
        return forward(&app, &caller, &owner, &parts, bytes).await;
    }
    let leaving = parts.method == Method::DELETE;
    let said: Heartbeat = if leaving {
        Heartbeat::default()
    } else {
        body::parse("heartbeat", &parts.headers, &bytes)?
    };
    let ttl = register(&app, &caller, &workload, &said).await?;
    let healthy = said.healthy && !leaving;
    let (done, recorded) = oneshot::channel();
    let beat = Beat {
        workload: workload.clone(),
        ttl,
        healthy,
        done,
    };
    let stopping = || Status::unavailable("this replica is stopping");
    app.beats.send(beat).await.map_err(|_| stopping())?;
    recorded
        .await
        .map_err(|_| stopping())?
        .map_err(Status::unavailable)?;
    let body = json!({
        "namespace": workload.0, "name": workload.1, "healthy": healthy, "ttl": format!("{}ms", ttl.as_millis()),
        "owner": app.peers.own.instance,
    });
    Ok(axum::Json(body).into_response())
}

/// The owner of the workload, if that is another replica and this one may pass the heartbeat on.
fn elsewhere(app: &App, workload: &Workload, headers: &http::HeaderMap) -> Option<Member> {
    if headers.contains_key(&FORWARDED) {
        return None;
    }
    let owner = app.peers.owner(workload);
    (owner.instance != app.peers.own.instance).then_some(owner)
}

/// Sees to it that the WorkloadEntry is there and has a TTL; writes only if it must. Returns the TTL.
async fn register(
    app: &App,
    caller: &Caller,
    workload: &Workload,
    said: &Heartbeat,
) -> Result<Duration> {
    let key = Key::new(Kind::WorkloadEntry, workload.0.clone(), workload.1.clone());
    if let Some(text) = &said.ttl {
        parse_ttl(text).map_err(|e| invalid(&key, "ttl", e))?;
    }
    let view = app.fresh_view().await;
    let present = view.objects.get(&key).cloned();
    let made = make(&key, present.as_deref(), said)?;
    let ttl = made.metadata.annotations.get(TTL).expect("make sees to it");
    let ttl = parse_ttl(ttl).map_err(|e| invalid(&key, "ttl", e))?;
    if present.is_none_or(|p| made != *p) {
        let author = caller.author(&format!("heartbeat {key}"));
        let make = |prior: Option<&Object>| {
            let object = make(&key, prior, said)?;
            Ok(Admitted {
                object,
                warnings: Vec::new(),
            })
        };
        write::write(app, &key, Precondition::Any, false, &author, None, make).await?;
        app.fresh_view().await;
    }
    Ok(ttl)
}

/// The WorkloadEntry as this heartbeat would have it.
fn make(key: &Key, prior: Option<&Object>, said: &Heartbeat) -> Result<Object> {
    let mut object = match (prior, &said.spec) {
        (Some(prior), _) => prior.clone(),
        (None, Some(_)) => write::unknown(key),
        (None, None) => {
            return Err(Status::not_found(key)
                .within("a heartbeat without a spec is for a workload that exists; apply its WorkloadEntry, or send its spec"));
        }
    };
    if let Some(spec) = &said.spec {
        object.spec = spec.clone();
    }
    if let Some(labels) = &said.labels {
        object.metadata.labels.clone_from(labels);
    }
    if let Some(ttl) = &said.ttl {
        object.metadata.annotations.insert(TTL.into(), ttl.clone());
    } else if !object.metadata.annotations.contains_key(TTL) {
        let why = format!(
            "Required value: the workload has no {TTL} annotation, so the heartbeat must say its ttl, such as \"10s\""
        );
        return Err(invalid(key, "ttl", why));
    }
    if prior.is_some_and(|p| *p == object) {
        return Ok(object);
    }
    let place = Place {
        kind: key.kind,
        namespace: key.namespace.clone(),
        name: Some(key.name.clone()),
    };
    Ok(admit(&place, object.to_json(), FieldValidation::Strict)?.object)
}

fn invalid(key: &Key, field: &str, message: String) -> Status {
    let cause = Cause {
        reason: "FieldValueInvalid",
        message,
        field: field.into(),
    };
    Status::invalid(key.kind, &key.name, vec![cause])
}

/// Passes a heartbeat to the workload's owner, and its answer back.
async fn forward(
    app: &App,
    caller: &Caller,
    owner: &Member,
    parts: &http::request::Parts,
    body: bytes::Bytes,
) -> Result<Response> {
    let unreachable = |why: String| {
        Status::unavailable(format!(
            "the replica {} owns this workload and cannot be reached: {why}",
            owner.instance
        ))
    };
    let address = owner
        .addresses
        .get("http")
        .ok_or_else(|| unreachable("it registered no http address".into()))?;
    let http = app.peers.http.client();
    let http = http.ok_or_else(|| unreachable("this replica has no certificate yet".into()))?;
    let mut request = http
        .request(
            parts.method.clone(),
            format!("{address}{}", parts.uri.path()),
        )
        .timeout(app.config.request_timeout / 2)
        .header(FORWARDED, app.peers.proof.token())
        .header(CALLER, caller.who.as_bytes());
    let carried = Carried::of(&Context::current());
    for (name, value) in [
        ("traceparent", carried.traceparent),
        ("tracestate", carried.tracestate),
    ] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    for name in [header::CONTENT_TYPE, header::ACCEPT] {
        if let Some(value) = parts.headers.get(&name) {
            request = request.header(name, value);
        }
    }
    let failed = |error: reqwest::Error| unreachable(error.to_string());
    let answer = request.body(body).send().await.map_err(failed)?;
    let code = answer.status();
    // 401: it does not know this replica yet.
    if code == StatusCode::UNAUTHORIZED || !(code.is_success() || code.is_client_error()) {
        return Err(unreachable(format!("it answered {code}")));
    }
    let media = answer.headers().get(header::CONTENT_TYPE).cloned();
    let mut response = (code, answer.bytes().await.map_err(failed)?).into_response();
    if let Some(media) = media {
        response.headers_mut().insert(header::CONTENT_TYPE, media);
    }
    Ok(response)
}
