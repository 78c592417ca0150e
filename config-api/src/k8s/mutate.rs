//! POST, PUT, PATCH and DELETE of resources.
//!
//! *Invariant:* with `dryRun=All` nothing is written, and everything else is the same.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Request, StatusCode, header};
use model::{Key, Object};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Expect, Op};

use super::admit::{Admitted, Place, admit};
use super::patch::Patch;
use super::read::{self, RENDERINGS};
use super::selector::Selector;
use super::target::{Collection, Item};
use super::write::{self, Outcome, Precondition};
use crate::app::App;
use crate::http::body::{self, Media};
use crate::http::negotiate::Accept;
use crate::http::query::{FieldValidation, Params, parse_resource_version};
use crate::http::status::{Result, Status};
use crate::http::warning;
use crate::identity::Caller;

/// Everything a mutating request says besides its target.
struct Ask {
    accept: Accept,
    params: Params,
    headers: HeaderMap,
    dry_run: bool,
    validation: FieldValidation,
    body: bytes::Bytes,
}

impl Ask {
    async fn of(app: &App, params: Params, mut request: Request<Body>) -> Result<Self> {
        let headers = std::mem::take(request.headers_mut());
        let accept = Accept::of(&headers, &RENDERINGS)?;
        let (dry_run, validation) = (params.dry_run()?, params.field_validation()?);
        let body = body::read(&headers, request.into_body(), app.config.max_body_bytes).await?;
        Ok(Self {
            accept,
            params,
            headers,
            dry_run,
            validation,
            body,
        })
    }

    /// The answer to a write.
    fn answer(
        &self,
        app: &App,
        of: &Collection,
        outcome: &Outcome,
        mut warnings: Vec<String>,
    ) -> Result<Response> {
        let code = if matches!(outcome, Outcome::Created(_)) {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        let object = outcome.object();
        warnings.extend(app.analyse(object));
        let body = read::one(
            of,
            object,
            app.local_status_of(object),
            self.accept,
            &self.params,
        )?;
        let mut response = self.accept.respond(code, &body);
        response
            .headers_mut()
            .insert(header::ETAG, read::etag(object));
        warning::add(response.headers_mut(), warnings.iter().map(String::as_str));
        Ok(response)
    }
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    of: Collection,
    params: Params,
    request: Request<Body>,
) -> Result<Response> {
    let ask = Ask::of(&app, params, request).await?;
    let Some(namespace) = of.namespace.clone() else {
        return Err(Status::method_not_allowed(
            "POST needs a namespace: /apis/{group}/{version}/namespaces/{namespace}/{plural}",
            "GET, HEAD, DELETE",
        ));
    };
    let body = body::value(Media::document(&ask.headers)?, &ask.body)?;
    let place = Place {
        kind: of.kind,
        namespace,
        name: None,
    };
    let Admitted { object, warnings } = admit(&place, body, ask.validation)?;
    if let Some(version) = &object.metadata.resource_version {
        return Err(Status::bad_request(format!(
            "metadata.resourceVersion: {version:?} must not be set on a resource that is to be created"
        )));
    }
    let author = caller.author(&format!("create {}", object.key()));
    let make = |_: Option<&Object>| Ok(object.clone());
    let outcome = write::write(
        &app,
        &object.key(),
        Precondition::Absent,
        ask.dry_run,
        &author,
        make,
    )
    .await?;
    ask.answer(&app, &of, &outcome, warnings)
}

pub(crate) async fn replace(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    item: Item,
    params: Params,
    request: Request<Body>,
) -> Result<Response> {
    let ask = Ask::of(&app, params, request).await?;
    let body = body::value(Media::document(&ask.headers)?, &ask.body)?;
    let place = place(&item);
    let Admitted { object, warnings } = admit(&place, body, ask.validation)?;
    let precondition = precondition(&ask.headers, object.metadata.resource_version.as_deref())?;
    let author = caller.author(&format!("replace {}", item.key));
    let make = |_: Option<&Object>| Ok(object.clone());
    let outcome = write::write(&app, &item.key, precondition, ask.dry_run, &author, make).await?;
    ask.answer(&app, &item.collection(), &outcome, warnings)
}

pub(crate) async fn patch(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    item: Item,
    params: Params,
    request: Request<Body>,
) -> Result<Response> {
    let ask = Ask::of(&app, params, request).await?;
    let patch = Patch::parse(Media::of(&ask.headers)?, &ask.body)?;
    let place = place(&item);
    let of = item.collection();
    // The precondition of the URL's entity tag, and the one inside the patch, are checked against the same present state.
    let tag = match precondition(&ask.headers, None)? {
        Precondition::Any => Precondition::Present,
        other => other,
    };
    let warnings = std::sync::Mutex::new(Vec::new());
    let make = |prior: Option<&Object>| {
        let prior = prior.ok_or_else(|| Status::not_found(&item.key))?;
        let patched = patch.apply(&item.key, super::present::object(&of, prior, None))?;
        let admitted = admit(&place, patched, ask.validation)?;
        if admitted.object.metadata.resource_version != prior.metadata.resource_version {
            let asked = admitted
                .object
                .metadata
                .resource_version
                .as_deref()
                .unwrap_or("none");
            return Err(Status::conflict(
                &item.key,
                format!("the object has been modified: the patch is for resourceVersion {asked}"),
            ));
        }
        *warnings
            .lock()
            .expect("no code panics while it holds this lock") = admitted.warnings;
        Ok(admitted.object)
    };
    let author = caller.author(&format!("patch {}", item.key));
    let outcome = write::write(&app, &item.key, tag, ask.dry_run, &author, make).await?;
    let warnings = warnings
        .into_inner()
        .expect("no code panics while it holds this lock");
    ask.answer(&app, &of, &outcome, warnings)
}

/// Kubernetes' `DeleteOptions`, as far as they mean something for objects without dependents. `propagationPolicy`,
/// `orphanDependents` and `gracePeriodSeconds` do not: such a delete is always immediate.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
struct DeleteOptions {
    preconditions: Option<DeletePreconditions>,
    dry_run: Option<Vec<String>>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
struct DeletePreconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl DeleteOptions {
    fn of(ask: &Ask) -> Result<Self> {
        let options: Self = body::parse("DeleteOptions", &ask.headers, &ask.body)?;
        if let Some(other) = options.dry_run.iter().flatten().find(|d| *d != "All") {
            return Err(Status::bad_request(format!(
                "DeleteOptions.dryRun: {other:?} must be All"
            )));
        }
        Ok(options)
    }

    fn dry_run(&self, ask: &Ask) -> bool {
        ask.dry_run || self.dry_run.as_ref().is_some_and(|d| !d.is_empty())
    }
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    item: Item,
    params: Params,
    request: Request<Body>,
) -> Result<Response> {
    let ask = Ask::of(&app, params, request).await?;
    let options = DeleteOptions::of(&ask)?;
    let dry_run = options.dry_run(&ask);
    let preconditions = options.preconditions.unwrap_or_default();
    let precondition = precondition(&ask.headers, preconditions.resource_version.as_deref())?;
    let author = caller.author(&format!("delete {}", item.key));
    let gone = write::delete(
        &app,
        &item.key,
        precondition,
        preconditions.uid.as_deref(),
        dry_run,
        &author,
    )
    .await?;
    let kind = item.key.kind;
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {
            "name": gone.metadata.name, "group": kind.group(), "kind": kind.plural(), "uid": gone.metadata.uid,
        },
    });
    Ok(ask.accept.respond(StatusCode::OK, &body))
}

/// How many resources one transaction deletes at most when a whole collection goes.
const DELETE_BATCH: usize = 100;

pub(crate) async fn delete_collection(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    of: Collection,
    params: Params,
    request: Request<Body>,
) -> Result<Response> {
    let ask = Ask::of(&app, params, request).await?;
    let dry_run = DeleteOptions::of(&ask)?.dry_run(&ask);
    let selector = Selector::of(&ask.params)?;
    let found = read::collect(&app, &of, &selector, &ask.params).await?;
    if !dry_run {
        let author = caller.author(&format!("delete all {}", of.kind.plural()));
        for batch in found.objects.chunks(DELETE_BATCH) {
            let ops = batch
                .iter()
                .filter_map(|o| {
                    Some(Op::Delete {
                        key: o.key(),
                        expect: Expect::At(o.revision()?),
                    })
                })
                .collect();
            app.commit(ops, author.clone()).await?;
        }
    }
    let items: Vec<Value> = found
        .objects
        .iter()
        .map(|o| super::present::object(&of, o, None))
        .collect();
    let body = json!({
        "kind": format!("{}List", of.kind.name()), "apiVersion": of.api_version(),
        "metadata": {"resourceVersion": found.revision.to_string()}, "items": items,
    });
    Ok(ask.accept.respond(StatusCode::OK, &body))
}

fn place(item: &Item) -> Place {
    let Key {
        kind,
        namespace,
        name,
    } = item.key.clone();
    Place {
        kind,
        namespace,
        name: Some(name),
    }
}

/// From `resourceVersion`, `If-Match` and `If-None-Match`.
fn precondition(headers: &HeaderMap, version: Option<&str>) -> Result<Precondition> {
    let text = |name: header::HeaderName| {
        headers
            .get(name)
            .map(|v| v.to_str().unwrap_or("?").trim().to_owned())
    };
    if let Some(tag) = text(header::IF_NONE_MATCH) {
        return if tag == "*" {
            Ok(Precondition::Absent)
        } else {
            Err(Status::bad_request(format!(
                "if-none-match: {tag:?} must be * on a write: create only"
            )))
        };
    }
    let tag = match text(header::IF_MATCH).as_deref() {
        None => None,
        Some("*") => return Ok(Precondition::Present),
        Some(tag) => Some(tag.strip_prefix('"').and_then(|t| t.strip_suffix('"')).map(str::to_owned).ok_or_else(
            || Status::bad_request(format!("if-match: {tag:?} must be * or an ETag that this API gave out, with its quotes")),
        )?),
    };
    let version = version
        .filter(|v| !v.is_empty() && *v != "0")
        .map(str::to_owned);
    match (tag, version) {
        (Some(a), Some(b)) if a != b => Err(Status::bad_request(format!(
            "if-match: {a:?} and metadata.resourceVersion {b:?} contradict each other"
        ))),
        (Some(v), _) | (None, Some(v)) => Ok(Precondition::At(parse_resource_version(&v)?)),
        (None, None) => Ok(Precondition::Any),
    }
}
