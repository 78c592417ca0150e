//! `GET /v1/history…`: the change records; `POST /v1/rollback`: back to what they say was there.
//!
//! *Invariant:* a rollback is a change like any other: recorded, in one revision, and it can be rolled back.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, Request, StatusCode};
use model::{Key, Kind, Object, Revision};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use store::ChangeRecord;

use super::batch::{self, Step};
use crate::access::Role;
use crate::app::App;
use crate::http::body;
use crate::http::negotiate::Accept;
use crate::http::query::{Params, invalid, parse_resource_version};
use crate::http::status::{Result, Status};
use crate::identity::Caller;
use crate::k8s::write::Precondition;
use crate::secrets::Origin;

/// How many change records are answered when the caller does not say.
const PAGE: usize = 50;
/// The most change records one request may look at.
const MOST: usize = 10_000;

pub(super) async fn all(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    answer(&app, &caller, None, &params, &headers).await
}

pub(super) async fn of_kind(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((kind, namespace, name)): Path<(String, String, String)>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    let key = Key::new(kind_named(None, &kind)?, namespace, name);
    answer(&app, &caller, Some(key), &params, &headers).await
}

pub(super) async fn of_group(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((group, kind, namespace, name)): Path<(String, String, String, String)>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    let key = Key::new(kind_named(Some(&group), &kind)?, namespace, name);
    answer(&app, &caller, Some(key), &params, &headers).await
}

/// A kind by any of its names.
fn kind_named(group: Option<&str>, name: &str) -> Result<Kind> {
    let lower = name.to_ascii_lowercase();
    Kind::ALL
        .into_iter()
        .filter(|k| group.is_none_or(|g| g == k.group()))
        .find(|k| {
            k.singular() == lower
                || k.plural() == lower
                || k.short_names().contains(&lower.as_str())
        })
        .ok_or_else(|| {
            let message = format!(
                "there is no kind {name:?}{}",
                group.map(|g| format!(" in {g:?}")).unwrap_or_default()
            );
            Status::new(
                StatusCode::NOT_FOUND,
                "NotFound",
                format!("{message}; /apis lists what is"),
            )
        })
}

async fn answer(
    app: &App,
    caller: &Caller,
    key: Option<Key>,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(headers, &[])?;
    let limit = match params.number("limit")? {
        None | Some(0) => PAGE,
        Some(limit) if limit as usize <= MOST => limit as usize,
        Some(limit) => {
            return Err(invalid(
                "limit",
                &limit.to_string(),
                &format!("must be at most {MOST}"),
            ));
        }
    };
    let before = params
        .get("before")
        .map(|id| {
            id.parse()
                .map_err(|_| invalid("before", id, "must be the id of a change"))
        })
        .transpose()?;
    let records = app.store.history(key.as_ref(), before, limit).await?;
    let next = (records.len() == limit)
        .then(|| records.last().map(|r| r.id))
        .flatten();
    let seen = |record: ChangeRecord| visible(record, caller, key.as_ref());
    let changes: Vec<Value> = records
        .into_iter()
        .filter_map(seen)
        .map(|r| change(&r))
        .collect();
    Ok(accept.respond(StatusCode::OK, &json!({"changes": changes, "next": next})))
}

/// The part of a record that is about one resource, or any, and in namespaces that the caller may read.
fn visible(mut record: ChangeRecord, caller: &Caller, key: Option<&Key>) -> Option<ChangeRecord> {
    (record.edits).retain(|e| key.is_none_or(|k| *k == e.key) && caller.sees(&e.key.namespace));
    record.liveness.retain(|turn| caller.sees(&turn.namespace));
    (record.deeds).retain(|deed| key.is_none() && caller.sees(&deed.namespace));
    let anything =
        !record.edits.is_empty() || !record.liveness.is_empty() || !record.deeds.is_empty();
    (anything || caller.sees_all()).then_some(record)
}

fn change(record: &ChangeRecord) -> Value {
    let edits: Vec<Value> = record
        .edits
        .iter()
        .map(|e| {
            json!({
                "apiVersion": e.key.kind.api_version(), "kind": e.key.kind.name(),
                "namespace": e.key.namespace, "name": e.key.name,
                "before": e.before.as_ref().map(Object::to_json), "after": e.after.as_ref().map(Object::to_json),
            })
        })
        .collect();
    let deeds = record.deeds.iter().map(|deed| {
        json!({
            "kind": deed.kind, "namespace": deed.namespace, "name": deed.name,
            "before": deed.before.map(|at| at.to_string()),
            "after": deed.after.then(|| record.revision.to_string()),
        })
    });
    let deeds: Vec<Value> = deeds.collect();
    json!({
        "id": record.id, "revision": record.revision.to_string(), "time": record.time, "who": record.author.who,
        "verb": record.author.verb, "traceparent": record.author.traceparent, "edits": edits,
        "liveness": record.liveness, "deeds": deeds,
    })
}

/// What to roll back. Without a resource: everything. Without a destination: the last change.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Rollback {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    /// Back to the state as of this revision.
    revision: Option<Value>,
    /// Back to this generation of the one resource.
    generation: Option<i64>,
    /// Undo this one change, by its id.
    #[schemars(with = "Option<String>", extend("format" = "uuid"))]
    change: Option<uuid::Uuid>,
}

pub(super) async fn rollback(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    params: Params,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let dry_run = params.dry_run()?;
    let bytes = body::read(&headers, request.into_body(), app.config.max_body_bytes).await?;
    let wanted: Rollback = body::parse("rollback", &headers, &bytes)?;
    let steps = wanted.steps(&app).await?;
    batch::permit(&caller, "rollback", Role::Editor, &steps)?;
    let done = batch::run(&app, &steps, dry_run, &caller.author("rollback"), None).await?;
    Ok(accept.respond(StatusCode::OK, &done.to_json(dry_run)))
}

impl Rollback {
    fn key(&self) -> Result<Option<Key>> {
        match (&self.kind, &self.namespace, &self.name) {
            (None, None, None) => Ok(None),
            (Some(kind), Some(namespace), Some(name)) => Ok(Some(Key::new(
                kind_named(self.group.as_deref(), kind)?,
                namespace.as_str(),
                name.as_str(),
            ))),
            _ => Err(Status::bad_request(
                "kind, namespace and name: give all three for one resource, or none for all",
            )),
        }
    }

    fn revision(&self) -> Result<Option<Revision>> {
        match &self.revision {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => parse_resource_version(text).map(Some),
            Some(other) => parse_resource_version(&other.to_string()).map(Some),
        }
    }

    async fn steps(&self, app: &App) -> Result<Vec<Step>> {
        let key = self.key()?;
        let wanted = match (self.revision()?, self.generation, self.change, &key) {
            (Some(revision), None, None, _) => as_of(app, key.as_ref(), revision).await?,
            (None, Some(generation), None, Some(key)) => {
                generation_of(app, key, generation).await?
            }
            (None, Some(_), None, None) => {
                return Err(Status::bad_request(
                    "generation: is of one resource; give kind, namespace and name too",
                ));
            }
            (None, None, Some(id), None) => before_change(app, id).await?,
            (None, None, None, _) => before_last(app, key.as_ref()).await?,
            _ => {
                return Err(Status::bad_request(
                    "give one of revision, generation and change; change stands alone, without a resource",
                ));
            }
        };
        Ok(wanted
            .into_iter()
            .map(|(key, state)| match state {
                Some(mut object) => {
                    // The restored object keeps the identity of what is there now.
                    object.metadata.uid.clear();
                    Step::Put {
                        object,
                        precondition: Precondition::Any,
                        origin: Origin::Record,
                    }
                }
                None => Step::Delete { key },
            })
            .collect())
    }
}

type States = BTreeMap<Key, Option<Object>>;

async fn records(app: &App, key: Option<&Key>, limit: usize) -> Result<Vec<ChangeRecord>> {
    Ok(app.store.history(key, None, limit).await?)
}

fn none_such(what: &str) -> Status {
    let message = format!("{what} is not on record; /v1/history lists what is");
    Status::new(StatusCode::NOT_FOUND, "NotFound", message)
}

/// The newest change to resources; a workload's turn is none.
async fn before_last(app: &App, key: Option<&Key>) -> Result<States> {
    let records = records(app, key, 100).await?;
    let last = records
        .into_iter()
        .find(|r| !r.edits.is_empty())
        .ok_or_else(|| none_such("a change"))?;
    Ok(undone(&[last], key))
}

async fn before_change(app: &App, id: uuid::Uuid) -> Result<States> {
    let record = records(app, None, MOST)
        .await?
        .into_iter()
        .find(|r| r.id == id);
    Ok(undone(
        &[record.ok_or_else(|| none_such(&format!("change {id}")))?],
        None,
    ))
}

/// The state as of a revision: every change after it undone.
async fn as_of(app: &App, key: Option<&Key>, revision: Revision) -> Result<States> {
    let all = records(app, key, MOST).await?;
    let later: Vec<ChangeRecord> = all
        .iter()
        .filter(|r| r.revision > revision)
        .cloned()
        .collect();
    let reaches = all.iter().any(|r| r.revision <= revision);
    let created_since = key.is_some()
        && all.last().is_some_and(|r| {
            r.edits
                .iter()
                .any(|e| Some(&e.key) == key && e.before.is_none())
        });
    if later.is_empty() {
        return Ok(States::new());
    }
    if !reaches && !created_since {
        return Err(none_such(&format!(
            "revision {revision}, or a change before it,"
        )));
    }
    Ok(undone(&later, key))
}

/// What was there before these changes, newest first: the oldest change to a resource says it.
fn undone(records: &[ChangeRecord], key: Option<&Key>) -> States {
    let mut states = States::new();
    for edit in records
        .iter()
        .flat_map(|r| &r.edits)
        .filter(|e| key.is_none_or(|k| *k == e.key))
    {
        states.insert(edit.key.clone(), edit.before.clone());
    }
    states
}

async fn generation_of(app: &App, key: &Key, generation: i64) -> Result<States> {
    let records = records(app, Some(key), MOST).await?;
    let versions = records
        .iter()
        .flat_map(|r| &r.edits)
        .filter(|e| e.key == *key);
    let found = versions
        .flat_map(|e| [e.after.as_ref(), e.before.as_ref()])
        .flatten()
        .find(|o| o.metadata.generation == Some(generation))
        .cloned();
    let object = found.ok_or_else(|| none_such(&format!("generation {generation} of {key}")))?;
    Ok(States::from([(key.clone(), Some(object))]))
}
