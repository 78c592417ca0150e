//! Kubernetes' reviews of oneself: `kubectl auth can-i` and `kubectl auth whoami`.
//!
//! *Invariant:* what a review allows is what a request would be allowed, by the same rule.

mod protobuf;

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Request, StatusCode, header};
use model::Kind;
use serde_json::{Value, json};

use crate::access::{Act, What, role_of};
use crate::app::App;
use crate::http::body::{self, Media};
use crate::http::negotiate::Accept;
use crate::http::status::{Result, Status};
use crate::identity::Caller;

pub(crate) async fn access(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let bytes = body::read(&headers, request.into_body(), app.config.max_body_bytes).await?;
    let mut review = match headers.get(header::CONTENT_TYPE) {
        Some(media) if media == "application/vnd.kubernetes.protobuf" => {
            protobuf::review(&bytes)
                .map_err(|why| Status::bad_request(format!("the protobuf body: {why}")))?
        }
        _ => body::value(Media::document(&headers)?, &bytes)?,
    };
    let asked = &review["spec"]["resourceAttributes"];
    if !asked.is_object() {
        return Err(Status::bad_request(
            "spec.resourceAttributes: is missing; reviews are of resources only",
        ));
    }
    let refusal = verdict(&caller, asked).err();
    review["status"] = json!({"allowed": refusal.is_none(), "reason": refusal.unwrap_or_default()});
    Ok(accept.respond(StatusCode::CREATED, &review))
}

/// Whether the caller may do what is asked about, or why not.
fn verdict(caller: &Caller, asked: &Value) -> std::result::Result<(), String> {
    let text = |field: &str| asked[field].as_str().unwrap_or_default();
    let (verb, group, plural) = (text("verb"), text("group"), text("resource"));
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| kind.group() == group && kind.plural() == plural && kind.supported())
        .ok_or_else(|| format!("there is no resource {plural:?} in the group {group:?}"))?;
    if !["", "status"].contains(&text("subresource")) {
        return Err(format!(
            "{plural} have no subresource {:?}",
            text("subresource")
        ));
    }
    let role = role_of(verb).ok_or_else(|| format!("there is no verb {verb:?}"))?;
    let act = Act {
        verb,
        what: What::Resource(kind, text("name")),
        namespace: Some(text("namespace")).filter(|n| !n.is_empty()),
        role,
    };
    (caller.require(&[(act, String::new())])).map_err(|refusal| refusal.to_string())
}

pub(crate) async fn who(
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let body = json!({
        "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
        "status": {"userInfo": {"username": caller.who, "groups": caller.groups}},
    });
    Ok(accept.respond(StatusCode::CREATED, &body))
}
