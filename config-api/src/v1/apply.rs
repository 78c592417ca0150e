//! `POST /v1/apply`: many documents, all or none, in one revision. `POST /v1/diff`: what that would change.
//!
//! *Invariant:* a diff and an apply of the same documents plan the same changes.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Request, StatusCode};
use model::Object;
use serde_json::{Value, json};

use super::batch::{self, Done, Step};
use super::{documents, preview};
use crate::access::Role;
use crate::app::App;
use crate::http::body;
use crate::http::negotiate::Accept;
use crate::http::query::Params;
use crate::http::status::Result;
use crate::http::warning;
use crate::identity::Caller;
use crate::k8s::names;
use crate::rollouts;

pub(super) async fn apply(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    params: Params,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let dry_run = params.dry_run()?;
    let (steps, mut warnings) = read(&app, &params, &headers, request).await?;
    batch::permit(&caller, "apply", Role::Editor, &steps)?;
    let plan = rollouts::plan(&params, &app.fresh_view().await)?;
    let done = batch::run(
        &app,
        &steps,
        dry_run,
        &caller.author("apply"),
        plan.as_ref(),
    )
    .await?;
    analyse(&app, &done, &mut warnings).await;
    let mut body = done.to_json(dry_run);
    let changed = done.planned.iter().any(|it| it.result != "unchanged");
    if let (Some(plan), true, false) = (&plan, changed, dry_run) {
        warnings.push(format!(
            "the change {}",
            rollouts::told(plan, done.revision)
        ));
        body["gradual"] = json!(true);
    }
    body["warnings"] = json!(warnings);
    let mut response = accept.respond(StatusCode::OK, &body);
    warning::add(response.headers_mut(), warnings.iter().map(String::as_str));
    Ok(response)
}

pub(super) async fn diff(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    params: Params,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let xds = params.flag("xds")?;
    let (steps, mut warnings) = read(&app, &params, &headers, request).await?;
    batch::permit(&caller, "diff", Role::Viewer, &steps)?;
    let done = batch::run(&app, &steps, true, &caller.author("diff"), None).await?;
    analyse(&app, &done, &mut warnings).await;
    let Done { revision, planned } = done;
    let preview = match xds {
        true => Some(preview::ask(&app, &caller, &planned, &mut warnings).await),
        false => None,
    };
    let results: Vec<Value> = planned
        .iter()
        .filter(|p| p.result != "unchanged")
        .map(|p| {
            json!({
                "apiVersion": p.key.kind.api_version(), "kind": p.key.kind.name(),
                "namespace": p.key.namespace, "name": p.key.name, "result": p.result,
                "before": p.before.as_ref().map(essence), "after": p.after.as_ref().map(essence),
            })
        })
        .collect();
    let mut body =
        json!({"revision": revision.to_string(), "results": results, "warnings": warnings});
    if let Some(preview) = preview {
        body["xds"] = preview;
    }
    let mut response = accept.respond(StatusCode::OK, &body);
    warning::add(response.headers_mut(), warnings.iter().map(String::as_str));
    Ok(response)
}

/// Adds what is to be warned about the objects of a batch, all of them standing beside what is stored.
async fn analyse(app: &App, done: &Done, warnings: &mut Vec<String>) {
    let after = done.planned.iter().filter_map(|p| p.after.as_ref());
    let objects: Vec<_> = after.collect();
    let beside = app.fresh_view().await.beside(&objects);
    for object in objects {
        let found = beside.analyse(object).into_iter();
        warnings.extend(found.map(|w| format!("{}: {w}", object.key())));
    }
}

/// What people declare of an object: without what only this API decides.
pub(super) fn essence(object: &Object) -> Value {
    let mut json = object.to_json();
    if let Some(metadata) = json["metadata"].as_object_mut() {
        for field in ["uid", "resourceVersion", "generation", "creationTimestamp"] {
            metadata.shift_remove(field);
        }
    }
    json
}

async fn read(
    app: &App,
    params: &Params,
    headers: &HeaderMap,
    request: Request<Body>,
) -> Result<(Vec<Step>, Vec<String>)> {
    let validation = params.field_validation()?;
    let namespace = params.get("namespace").unwrap_or("default");
    if !names::is_label(namespace) {
        return Err(crate::http::query::invalid(
            "namespace",
            namespace,
            "is not the name of a namespace",
        ));
    }
    let bytes = body::read(headers, request.into_body(), app.config.max_body_bytes).await?;
    documents::steps(headers, &bytes, validation, namespace)
}
