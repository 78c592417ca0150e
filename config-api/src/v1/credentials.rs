//! `/v1/namespaces/{ns}/workloads/{name}/credentials`: which credentials a workload has, and taking them back.
//!
//! *Invariant:* nothing that is answered here lets anybody in: a credential is named by a part of its hash.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use model::{Key, Kind};
use serde_json::{Value, json};

use crate::app::App;
use crate::credentials::{self, Held};
use crate::http::negotiate::Accept;
use crate::http::status::{Result, Status};
use crate::identity::Caller;

/// `GET`: those that are valid, oldest first.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let held = held(&app, &namespace, &name).await?;
    let shown: Vec<Value> = held.iter().map(Held::to_json).collect();
    let body = json!({"namespace": namespace, "workload": name, "credentials": shown});
    Ok(accept.respond(StatusCode::OK, &body))
}

/// `DELETE`: revokes all.
pub(super) async fn revoke_all(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let held = held(&app, &namespace, &name).await?;
    revoke(&app, &caller, accept, &held).await
}

/// `DELETE …/{id}`: revokes one.
pub(super) async fn revoke_one(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name, id)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let mut held = held(&app, &namespace, &name).await?;
    held.retain(|one| one.id() == id);
    if held.is_empty() {
        let message = format!(
            "the workload {namespace}/{name} has no credential {id:?}; it may have been revoked already. GET …/credentials \
             lists those it has"
        );
        return Err(Status::new(StatusCode::NOT_FOUND, "NotFound", message));
    }
    revoke(&app, &caller, accept, &held).await
}

/// The credentials of a workload. Those of one that is gone can be seen and revoked as long as there are any.
async fn held(app: &App, namespace: &str, name: &str) -> Result<Vec<Held>> {
    let held = credentials::of(app, namespace, name).await?;
    let key = Key::new(Kind::WorkloadEntry, namespace, name);
    if held.is_empty() && app.store.get(&key).await?.is_none() {
        return Err(Status::not_found(&key));
    }
    Ok(held)
}

async fn revoke(app: &App, caller: &Caller, accept: Accept, held: &[Held]) -> Result<Response> {
    credentials::revoke(app, held, &caller.traced("revoke credentials")).await?;
    let ids: Vec<&str> = held.iter().map(Held::id).collect();
    Ok(accept.respond(StatusCode::OK, &json!({"revoked": ids})))
}
