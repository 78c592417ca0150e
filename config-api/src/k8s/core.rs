//! The two core resources that kubectl asks for: namespaces, which exist by being used, and events, which the pushers know.
//!
//! *Invariant:* neither is stored.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tokio_stream::wrappers::WatchStream;

use super::read::RENDERINGS;
use crate::app::App;
use crate::http::negotiate::{Accept, Rendering};
use crate::http::query::{Params, invalid};
use crate::http::status::{Result, Status};
use crate::view::View;

pub(crate) async fn list_namespaces(
    State(app): State<Arc<App>>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &RENDERINGS)?;
    let fields = Fields::of(&params)?;
    if params.flag("watch")? {
        return watch_namespaces(&app, accept, fields, &params);
    }
    let view = app.fresh_view().await;
    let all: Vec<Value> = names(&app, &view)
        .iter()
        .map(|n| namespace(n, &view))
        .filter(|n| fields.selects(n))
        .collect();
    let metadata = json!({"resourceVersion": view.revision.to_string()});
    Ok(accept.respond(
        StatusCode::OK,
        &render(accept, "Namespace", "v1", &all, &metadata, namespace_cells),
    ))
}

pub(crate) async fn get_namespace(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &RENDERINGS)?;
    let view = app.fresh_view().await;
    if !names(&app, &view).contains(name.as_str()) {
        let message = format!("namespaces \"{name}\" not found: a namespace exists by being used");
        return Err(Status::new(StatusCode::NOT_FOUND, "NotFound", message));
    }
    let body = namespace(&name, &view);
    let body = match accept.rendering {
        Rendering::Plain => body,
        _ => render(
            accept,
            "Namespace",
            "v1",
            &[body],
            &json!({}),
            namespace_cells,
        ),
    };
    Ok(accept.respond(StatusCode::OK, &body))
}

/// The namespaces in use, and the two that always are: `default` and the root namespace.
fn names(app: &App, view: &View) -> BTreeSet<Arc<str>> {
    let mut names = view.namespaces();
    names.insert("default".into());
    names.insert(app.config.root_namespace.as_str().into());
    names
}

fn namespace(name: &str, view: &View) -> Value {
    let oldest = view
        .objects
        .values()
        .filter(|o| o.metadata.namespace == name)
        .filter_map(|o| o.metadata.creation_timestamp.clone())
        .min();
    json!({
        "kind": "Namespace", "apiVersion": "v1",
        "metadata": {
            "name": name,
            "uid": format!("namespace-{name}"),
            "resourceVersion": view.revision.to_string(),
            "creationTimestamp": oldest,
            "labels": {"kubernetes.io/metadata.name": name},
        },
        "spec": {},
        "status": {"phase": "Active"},
    })
}

fn namespace_cells(object: &Value) -> Vec<(&'static str, Value)> {
    vec![
        ("Name", object["metadata"]["name"].clone()),
        ("Status", object["status"]["phase"].clone()),
        ("Age", super::columns::age_of(object)),
    ]
}

fn watch_namespaces(
    app: &Arc<App>,
    accept: Accept,
    fields: Fields,
    params: &Params,
) -> Result<Response> {
    let permit = app.limits.watch()?;
    let known: BTreeSet<Arc<str>> = match params.resource_version()? {
        Some(r) if r.0 > 0 => names(app, &app.view.borrow()),
        _ => BTreeSet::new(),
    };
    let states = WatchStream::new(app.view.clone());
    let context = app.clone();
    let lines = states.scan((known, permit), move |(known, _permit), view| {
        let now = names(&context, &view);
        let mut out = Vec::new();
        let added = now.difference(known).map(|n| ("ADDED", n));
        for (event, name) in added.chain(known.difference(&now).map(|n| ("DELETED", n))) {
            let object = namespace(name, &view);
            if fields.selects(&object) {
                let body = match accept.rendering {
                    Rendering::Plain => object,
                    _ => render(
                        accept,
                        "Namespace",
                        "v1",
                        &[object],
                        &json!({}),
                        namespace_cells,
                    ),
                };
                super::watch::line(&mut out, event, &body);
            }
        }
        *known = now;
        std::future::ready(Some(Bytes::from(out)))
    });
    watch_response(
        app,
        lines.filter(|b| std::future::ready(!b.is_empty())),
        params,
    )
}

fn watch_response(
    app: &App,
    lines: impl Stream<Item = Bytes> + Send + 'static,
    params: &Params,
) -> Result<Response> {
    let timeout = params
        .seconds("timeoutSeconds")?
        .unwrap_or_else(super::watch::default_timeout);
    let shutdown = app.shutdown.clone();
    let end = async move {
        tokio::select! {
            () = tokio::time::sleep(timeout) => {}
            () = shutdown.cancelled() => {}
        }
    };
    let body = Body::from_stream(lines.take_until(end).map(Ok::<_, std::convert::Infallible>));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

pub(crate) async fn list_events(
    State(app): State<Arc<App>>,
    path: Option<Path<String>>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &RENDERINGS)?;
    let fields = Fields::of(&params)?;
    let namespace = path.map(|Path(namespace)| namespace);
    if params.flag("watch")? {
        // Events are what the pushers say when asked; a watch of them stays open and silent.
        let permit = app.limits.watch()?;
        let silence = futures::stream::pending::<Bytes>().map(move |bytes| {
            let _held_while_open = &permit;
            bytes
        });
        return watch_response(&app, silence, &params);
    }
    let events: Vec<Value> = app
        .events(namespace.as_deref())
        .await
        .into_iter()
        .filter(|e| fields.selects(e))
        .collect();
    let metadata = json!({"resourceVersion": app.view.borrow().revision.to_string()});
    Ok(accept.respond(
        StatusCode::OK,
        &render(accept, "Event", "v1", &events, &metadata, event_cells),
    ))
}

fn event_cells(object: &Value) -> Vec<(&'static str, Value)> {
    let kind = object["involvedObject"]["kind"]
        .as_str()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let name = object["involvedObject"]["name"]
        .as_str()
        .unwrap_or_default();
    vec![
        (
            "Last Seen",
            super::columns::age_since(&object["lastTimestamp"]),
        ),
        ("Type", object["type"].clone()),
        ("Reason", object["reason"].clone()),
        ("Object", format!("{kind}/{name}").into()),
        ("Message", object["message"].clone()),
    ]
}

fn render(
    accept: Accept,
    kind: &str,
    version: &str,
    items: &[Value],
    metadata: &Value,
    cells: impl Fn(&Value) -> Vec<(&'static str, Value)>,
) -> Value {
    let partial = |o: &Value| json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": o["metadata"]});
    match accept.rendering {
        Rendering::Table => {
            let definitions: Vec<Value> = cells(&json!({}))
                .iter()
                .map(|(name, _)| {
                    let format = if *name == "Name" { "name" } else { "" };
                    json!({"name": name, "type": "string", "format": format, "description": "", "priority": 0})
                })
                .collect();
            let rows: Vec<Value> = items
                .iter()
                .map(|o| {
                    let cells: Vec<Value> = cells(o).into_iter().map(|(_, v)| v).collect();
                    json!({"cells": cells, "object": partial(o)})
                })
                .collect();
            json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "columnDefinitions": definitions, "rows": rows,
            })
        }
        Rendering::Metadata => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "items": items.iter().map(partial).collect::<Vec<_>>(),
        }),
        _ => {
            json!({"kind": format!("{kind}List"), "apiVersion": version, "metadata": metadata, "items": items})
        }
    }
}

/// A field selector over the JSON of a core resource.
struct Fields(Vec<(String, bool, String)>);

/// The fields that core resources can be selected by.
const SELECTABLE: [&str; 11] = [
    "metadata.name",
    "metadata.namespace",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "type",
    "reason",
];

impl Fields {
    fn of(params: &Params) -> Result<Self> {
        let Some(text) = params.get("fieldSelector") else {
            return Ok(Self(Vec::new()));
        };
        let mut terms = Vec::new();
        for term in text.split(',').filter(|t| !t.is_empty()) {
            let parsed = match (
                term.split_once("!="),
                term.split_once("==").or_else(|| term.split_once('=')),
            ) {
                (Some((f, v)), _) => Some((f, false, v)),
                (None, Some((f, v))) => Some((f, true, v)),
                (None, None) => None,
            };
            match parsed {
                Some((field, equal, value)) if SELECTABLE.contains(&field) => {
                    terms.push((
                        format!("/{}", field.replace('.', "/")),
                        equal,
                        value.to_owned(),
                    ));
                }
                _ => {
                    return Err(invalid(
                        "fieldSelector",
                        text,
                        &format!("may name {}", SELECTABLE.join(", ")),
                    ));
                }
            }
        }
        Ok(Self(terms))
    }

    fn selects(&self, object: &Value) -> bool {
        self.0.iter().all(|(pointer, equal, value)| {
            let actual = object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default();
            (actual == value) == *equal
        })
    }
}
