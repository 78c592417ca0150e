//! `GET /v1/proxies…`: what every live pusher says of the Envoys it serves, asked for at this moment.
//!
//! *Invariant:* a pusher that did not answer is named in the answer, so that nobody mistakes "unknown" for "none".

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use pusher_api::v1::{
    GetProxyConfigRequest, ListProxiesRequest, ListProxiesResponse, Proxy, SyncState, TypeStatus,
};
use serde_json::{Value, json};

use crate::access::{Act, Role, What};
use crate::app::App;
use crate::http::negotiate::Accept;
use crate::http::query::{Params, invalid};
use crate::http::status::{Result, Status};
use crate::http::warning;
use crate::identity::Caller;
use crate::pushers::{Answers, Silent};

/// The types of resources by the names the pushers use.
const TYPES: [&str; 8] = ["CDS", "EDS", "LDS", "RDS", "SRDS", "SDS", "RTDS", "ECDS"];

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let answers = ask(&app, "").await;
    let mut proxies = proxies(&answers);
    proxies.retain(|p| sees(&caller, p["id"].as_str().unwrap_or_default()));
    proxies.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
    let pushers: Vec<Value> = answers
        .answered
        .iter()
        .map(|(member, answer)| {
            let replica = answer.replica.clone().unwrap_or_default();
            json!({
                "instance": member.instance, "addresses": member.addresses, "revision": replica.revision,
                "streams": replica.streams, "watching": replica.watching, "version": replica.version,
            })
        })
        .collect();
    let body = json!({"proxies": proxies, "pushers": pushers, "silent": answers.silent});
    Ok(respond(accept, &body, &answers.silent))
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    permit(&caller, &id)?;
    let answers = ask(&app, &id).await;
    let found = proxies(&answers)
        .into_iter()
        .find(|p| p["id"] == id.as_str());
    let mut proxy = found.ok_or_else(|| unknown(&id, &answers.silent))?;
    proxy["silent"] = json!(answers.silent);
    Ok(respond(accept, &proxy, &answers.silent))
}

pub(super) async fn config(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    permit(&caller, &id)?;
    let wanted = params
        .get("type")
        .map(str::to_ascii_uppercase)
        .unwrap_or_default();
    if !wanted.is_empty() && !TYPES.contains(&wanted.as_str()) {
        return Err(invalid(
            "type",
            &wanted,
            &format!("must be one of {}", TYPES.join(", ")),
        ));
    }
    let answers = app
        .pushers
        .ask(|mut pusher| {
            let request = GetProxyConfigRequest {
                id: id.clone(),
                r#type: wanted.clone(),
            };
            async move { pusher.get_proxy_config(request).await }
        })
        .await;
    // A pusher without that proxy has answered: it is not silent.
    let silent: Vec<Silent> = answers
        .silent
        .into_iter()
        .filter(|s| !s.reason.starts_with("NotFound"))
        .collect();
    // During a move a proxy can be known twice; the newer configuration is the one in force.
    let newest = answers.answered.into_iter().max_by_key(|(_, a)| a.revision);
    let (member, answer) = newest.ok_or_else(|| unknown(&id, &silent))?;
    let resources: Vec<Value> = answer
        .resources
        .into_iter()
        .map(|r| {
            // What is not JSON is shown as the text it is.
            let resource: Value = serde_json::from_str(&r.json).unwrap_or(Value::String(r.json));
            json!({"type": r.r#type, "name": r.name, "version": r.version, "resource": resource})
        })
        .collect();
    let body = json!({
        "id": id, "pusher": member.instance, "revision": answer.revision, "resources": resources, "silent": silent,
    });
    Ok(respond(accept, &body, &silent))
}

/// Namespace and workload of a node id, `sidecar~<namespace>~<workload>`.
pub(super) fn place(id: &str) -> Option<(&str, &str)> {
    match id.split('~').collect::<Vec<_>>()[..] {
        [_, namespace, workload] => Some((namespace, workload)),
        _ => None,
    }
}

fn namespace(id: &str) -> Option<&str> {
    place(id).map(|(namespace, _)| namespace)
}

/// Whether the caller may read a proxy: by its namespace; one that names none is for those who may read all.
pub(super) fn sees(caller: &Caller, id: &str) -> bool {
    namespace(id).map_or_else(|| caller.sees_all(), |namespace| caller.sees(namespace))
}

fn permit(caller: &Caller, id: &str) -> Result<()> {
    let act = Act {
        verb: "get",
        what: What::Path("/v1/proxies"),
        namespace: namespace(id),
        role: Role::Viewer,
    };
    caller.require(&[(act, String::new())])
}

/// What every live pusher says of a proxy, or of all of them if `id` is empty.
pub(super) async fn ask(app: &App, id: &str) -> Answers<ListProxiesResponse> {
    app.pushers
        .ask(|mut pusher| {
            let request = ListProxiesRequest { id: id.to_owned() };
            async move { pusher.list_proxies(request).await }
        })
        .await
}

fn proxies(answers: &Answers<ListProxiesResponse>) -> Vec<Value> {
    answers
        .answered
        .iter()
        .flat_map(|(m, a)| a.proxies.iter().map(|p| proxy(p, &m.instance)))
        .collect()
}

fn proxy(proxy: &Proxy, pusher: &str) -> Value {
    json!({
        "id": proxy.id, "envoyVersion": proxy.envoy_version, "variant": proxy.variant, "connectedAt": connected_at(proxy),
        "peer": proxy.peer, "ackedRevision": proxy.acked_revision, "workloadKnown": proxy.workload_known,
        "pusher": pusher, "types": proxy.types.iter().map(type_status).collect::<Vec<_>>(),
    })
}

/// When its stream opened, in RFC 3339.
pub(super) fn connected_at(proxy: &Proxy) -> String {
    Timestamp::from_millisecond(proxy.connected_at_ms)
        .map(|t| t.to_string())
        .unwrap_or_default()
}

/// How far a proxy is with a type, in a word.
pub(super) fn state(status: &TypeStatus) -> &'static str {
    match status.state() {
        SyncState::Unspecified => "UNKNOWN",
        SyncState::NotSent => "NOT SENT",
        SyncState::Stale => "STALE",
        SyncState::Synced => "SYNCED",
        SyncState::Nack => "NACK",
    }
}

fn type_status(status: &TypeStatus) -> Value {
    json!({
        "type": status.r#type, "state": state(status), "sentRevision": status.sent_revision,
        "ackedRevision": status.acked_revision, "error": status.error, "resources": status.resources,
        "refused": status.refused,
    })
}

fn unknown(id: &str, silent: &[Silent]) -> Status {
    if silent.is_empty() {
        let message = format!(
            "no proxy {id:?} is connected to a live pusher; /v1/proxies lists those that are"
        );
        return Status::new(StatusCode::NOT_FOUND, "NotFound", message);
    }
    let names: Vec<String> = silent
        .iter()
        .map(|s| format!("{} ({})", s.instance, s.reason))
        .collect();
    Status::unavailable(format!(
        "no pusher that answered knows the proxy {id:?}, and these did not answer: {}",
        names.join(", ")
    ))
}

/// An answer that warns of those that kept silent.
pub(super) fn respond(accept: Accept, body: &Value, silent: &[Silent]) -> Response {
    let mut response = accept.respond(StatusCode::OK, body);
    let warnings: Vec<String> = silent
        .iter()
        .map(|s| {
            format!(
                "the pusher {} at {} did not answer: {}",
                s.instance, s.address, s.reason
            )
        })
        .collect();
    warning::add(response.headers_mut(), warnings.iter().map(String::as_str));
    response
}
