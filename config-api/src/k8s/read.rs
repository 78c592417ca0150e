//! GET of one resource and LIST of many.
//!
//! *Invariant:* every page of a list is of one revision, and an error of the store is never shown as an empty list.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use model::{Key, Object, Revision};
use serde_json::{Value, json};

use super::page::Continue;
use super::present::{self, RowObject};
use super::selector::Selector;
use super::target::{Collection, Item};
use super::watch;
use crate::app::App;
use crate::http::negotiate::{Accept, Rendering};
use crate::http::query::{Params, invalid};
use crate::http::status::{Result, Status};
use crate::http::warning;

/// The renderings of resources.
pub(super) const RENDERINGS: [Rendering; 2] = [Rendering::Table, Rendering::Metadata];

/// How many resources are fetched at once while a selector thins them out.
const SCAN: usize = 500;

pub(crate) async fn get(
    State(app): State<Arc<App>>,
    item: Item,
    params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &RENDERINGS)?;
    if let Some(asked) = params.resource_version()? {
        not_in_the_future(&app, asked).await?;
    }
    let object = app
        .store
        .get(&item.key)
        .await?
        .ok_or_else(|| Status::not_found(&item.key))?;
    let tag = etag(&object);
    if headers.get(header::IF_NONE_MATCH).is_some_and(|v| v == tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let status = app.status_of(&object).await;
    let body = one(&item.collection(), &object, status, accept, &params)?;
    let mut response = accept.respond(StatusCode::OK, &body);
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

/// One object in the agreed rendering.
pub(super) fn one(
    of: &Collection,
    object: &Object,
    status: Option<Value>,
    accept: Accept,
    params: &Params,
) -> Result<Value> {
    Ok(match accept.rendering {
        Rendering::Table => {
            let metadata = json!({"resourceVersion": object.metadata.resource_version});
            present::table(of, &[(object, status)], include_object(params)?, &metadata)
        }
        Rendering::Metadata => present::partial(object),
        _ => present::object(of, object, status),
    })
}

/// `includeObject` of Tables.
pub(super) fn include_object(params: &Params) -> Result<RowObject> {
    match params.get("includeObject") {
        None | Some("Metadata") => Ok(RowObject::Metadata),
        Some("None") => Ok(RowObject::None),
        Some("Object") => Ok(RowObject::Object),
        Some(other) => Err(invalid(
            "includeObject",
            other,
            "must be None, Metadata or Object",
        )),
    }
}

/// The entity tag of an object: its revision.
pub(crate) fn etag(object: &Object) -> HeaderValue {
    let version = object.metadata.resource_version.as_deref().unwrap_or("0");
    HeaderValue::from_str(&format!("\"{version}\"")).expect("a revision is digits")
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    of: Collection,
    params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    if params.flag("watch")? {
        let selector = Selector::of(&params)?;
        return watch::watch(&app, of, selector, &params, &headers).await;
    }
    let accept = Accept::of(&headers, &RENDERINGS)?;
    let selector = Selector::of(&params)?;
    let found = collect(&app, &of, &selector, &params).await?;
    let mut metadata = json!({"resourceVersion": found.revision.to_string()});
    if let Some(next) = &found.next {
        metadata["continue"] = Continue::encode(found.revision, next).into();
        if selector.is_everything() {
            metadata["remainingItemCount"] = found.remaining.into();
        }
    }
    let mut statuses = app
        .statuses_of(&found.objects, of.kind, of.namespace.as_deref())
        .await;
    let body = match accept.rendering {
        Rendering::Table => {
            let rows: Vec<(&Object, Option<Value>)> = found
                .objects
                .iter()
                .map(|o| (o.as_ref(), statuses.remove(&o.key())))
                .collect();
            present::table(&of, &rows, include_object(&params)?, &metadata)
        }
        Rendering::Metadata => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "items": found.objects.iter().map(|o| present::partial(o)).collect::<Vec<_>>(),
        }),
        _ => {
            let items: Vec<Value> = found
                .objects
                .iter()
                .map(|o| present::object(&of, o, statuses.remove(&o.key())))
                .collect();
            json!({
                "kind": format!("{}List", of.kind.name()), "apiVersion": of.api_version(),
                "metadata": metadata, "items": items,
            })
        }
    };
    let mut response = accept.respond(StatusCode::OK, &body);
    warning::add(
        response.headers_mut(),
        found.undecodable.iter().map(String::as_str),
    );
    Ok(response)
}

/// What a list found.
pub(super) struct Found {
    pub(super) revision: Revision,
    pub(super) objects: Vec<Arc<Object>>,
    next: Option<Key>,
    remaining: u64,
    undecodable: Vec<String>,
}

/// Where and when a list reads.
struct Start {
    at: Option<Revision>,
    from: Option<Key>,
}

/// The selected resources, as `limit`, `continue` and `resourceVersion[Match]` ask.
pub(super) async fn collect(
    app: &App,
    of: &Collection,
    selector: &Selector,
    params: &Params,
) -> Result<Found> {
    let limit = params.number("limit")?.unwrap_or(0) as usize;
    let Start { mut at, mut from } = start(app, of, params, limit).await?;
    let mut found = Found {
        revision: Revision(0),
        objects: Vec::new(),
        next: None,
        remaining: 0,
        undecodable: Vec::new(),
    };
    loop {
        let room = if limit == 0 {
            0
        } else {
            limit - found.objects.len()
        };
        let fetch = match (room, selector.is_everything()) {
            (0, _) => 0,
            (room, true) => room,
            (room, false) => room.max(SCAN),
        };
        let page = app
            .store
            .list(of.scope(), fetch, from.take(), at)
            .await
            .map_err(expired_continue)?;
        found.revision = page.revision;
        found.remaining = page.remaining;
        found.undecodable.extend(
            page.undecodable
                .iter()
                .map(|u| format!("{u}; it is left out")),
        );
        for object in page.objects {
            if selector.matches(&object) {
                if limit > 0 && found.objects.len() == limit {
                    found.next = Some(object.key());
                    return Ok(found);
                }
                found.objects.push(object);
            }
        }
        match page.next {
            None => return Ok(found),
            Some(next) if limit > 0 && found.objects.len() == limit => {
                found.next = Some(next);
                return Ok(found);
            }
            Some(next) => (from, at) = (Some(next), Some(page.revision)),
        }
    }
}

async fn start(app: &App, of: &Collection, params: &Params, limit: usize) -> Result<Start> {
    let asked = params.resource_version()?;
    let matching = params.get("resourceVersionMatch");
    if let Some(token) = params.get("continue") {
        if matching.is_some() || asked.is_some_and(|r| r.0 != 0) {
            return Err(Status::bad_request(
                "query parameter continue: it pins the revision, so resourceVersion and resourceVersionMatch must be absent",
            ));
        }
        let (revision, from) = Continue::decode(of.kind, token)?;
        return Ok(Start {
            at: Some(revision),
            from: Some(from),
        });
    }
    let exact = match (matching, asked) {
        (None, Some(revision)) => limit > 0 && revision.0 > 0,
        (None, None) => false,
        (Some(m), None) => {
            return Err(invalid(
                "resourceVersionMatch",
                m,
                "needs a resourceVersion beside it",
            ));
        }
        (Some("Exact"), Some(Revision(0))) => {
            return Err(invalid(
                "resourceVersionMatch",
                "Exact",
                "needs a resourceVersion greater than 0",
            ));
        }
        (Some("Exact"), Some(_)) => true,
        (Some("NotOlderThan"), Some(_)) => false,
        (Some(m), Some(_)) => {
            return Err(invalid(
                "resourceVersionMatch",
                m,
                "must be Exact or NotOlderThan",
            ));
        }
    };
    if let Some(asked) = asked {
        not_in_the_future(app, asked).await?;
    }
    Ok(Start {
        at: asked.filter(|_| exact),
        from: None,
    })
}

/// Refuses a revision that has not happened yet, as Kubernetes does.
pub(super) async fn not_in_the_future(app: &App, asked: Revision) -> Result<()> {
    if asked.0 == 0 {
        return Ok(());
    }
    let now = app.store.revision().await?;
    if asked <= now {
        return Ok(());
    }
    let message = format!("Too large resource version: {asked}, current: {now}");
    let cause = crate::http::status::Cause {
        reason: "ResourceVersionTooLarge",
        message: "Too large resource version".into(),
        field: String::new(),
    };
    Err(Status::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
        .because(vec![cause])
        .retry_after(1))
}

fn expired_continue(error: store::Error) -> Status {
    match error {
        store::Error::Compacted { asked, .. } => Status::expired(format!(
            "The provided continue parameter or resourceVersion is too old: revision {asked} has been compacted; start the list again"
        )),
        other => other.into(),
    }
}
