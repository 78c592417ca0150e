//! POST, PUT, PATCH and DELETE of resources.
//!
//! *Invariant:* with `dryRun=All` nothing is written, and everything else is the same.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use model::{Key, Object};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Expect, Op, Plan};

use super::admit::{Admitted, Place, admit};
use super::patch::Patch;
use super::read::{self, RENDERINGS};
use super::selector::Selector;
use super::target::{Collection, Item};
use super::write::{self, Outcome, Precondition};
use crate::app::App;
use crate::condition;
use crate::http::body::{self, Media};
use crate::http::negotiate::Accept;
use crate::http::query::{FieldValidation, Params, invalid, parse_resource_version};
use crate::http::status::{Result, Status};
use crate::http::warning;
use crate::identity::Caller;
use crate::rollouts;

/// Everything a mutating request says besides its target, and who says it.
pub(crate) struct Ask {
    app: Arc<App>,
    caller: Caller,
    accept: Accept,
    params: Params,
    headers: HeaderMap,
    dry_run: bool,
    validation: FieldValidation,
    plan: Option<Plan>,
    body: Bytes,
}

impl FromRequest<Arc<App>> for Ask {
    type Rejection = Status;

    async fn from_request(request: Request<Body>, app: &Arc<App>) -> Result<Self> {
        let (mut parts, body) = request.into_parts();
        let params = Params::from_request_parts(&mut parts, app).await?;
        let caller = parts.extensions.remove::<Caller>();
        let headers = parts.headers;
        Ok(Self {
            accept: Accept::of(&headers, &RENDERINGS)?,
            dry_run: params.dry_run()?,
            validation: params.field_validation()?,
            plan: rollouts::plan(&params, &app.fresh_view().await)?,
            body: body::read(&headers, body, app.config.max_body_bytes).await?,
            app: app.clone(),
            caller: caller.expect("every request is given its caller"),
            params,
            headers,
        })
    }
}

impl Ask {
    /// The resource in the body.
    fn document(&self, place: &Place) -> Result<Admitted> {
        let body = body::value(Media::document(&self.headers)?, &self.body)?;
        admit(place, body, self.validation)
    }

    /// Writes what `make` makes of the present state, and answers.
    async fn write(
        &self,
        verb: &str,
        key: &Key,
        of: &Collection,
        precondition: Precondition,
        make: impl Fn(Option<&Object>) -> Result<Admitted>,
    ) -> Result<Response> {
        let author = self.caller.author(&format!("{verb} {key}"));
        let (outcome, mut warnings) = write::write(
            &self.app,
            key,
            precondition,
            self.dry_run,
            &author,
            self.plan.as_ref(),
            make,
        )
        .await?;
        let code = if matches!(outcome, Outcome::Created(_)) {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        let object = outcome.object();
        let found = self.app.fresh_view().await.analyse(object);
        let delivery = self.app.delivery_of(key);
        let status = condition::local(object, &found, delivery);
        let body = read::one(of, object, status, self.accept, &self.params)?;
        warnings.extend(found);
        let mut response = self.accept.respond(code, &body);
        let headers = response.headers_mut();
        headers.insert(header::ETAG, read::etag(object));
        warning::add(headers, warnings.iter().map(String::as_str));
        Ok(response)
    }
}

pub(crate) async fn create(of: Collection, ask: Ask) -> Result<Response> {
    let Some(namespace) = of.namespace.clone() else {
        return Err(Status::method_not_allowed(
            "POST needs a namespace: /apis/{group}/{version}/namespaces/{namespace}/{plural}",
            "GET, HEAD, DELETE",
        ));
    };
    let place = Place {
        kind: of.kind,
        namespace,
        name: None,
    };
    let admitted = ask.document(&place)?;
    if let Some(version) = &admitted.object.metadata.resource_version {
        return Err(Status::bad_request(format!(
            "metadata.resourceVersion: {version:?} must not be set on a resource that is to be created"
        )));
    }
    let key = admitted.object.key();
    let make = |_: Option<&Object>| Ok(admitted.clone());
    ask.write("create", &key, &of, Precondition::Absent, make)
        .await
}

pub(crate) async fn replace(item: Item, ask: Ask) -> Result<Response> {
    let admitted = ask.document(&place(&item))?;
    let version = admitted.object.metadata.resource_version.as_deref();
    let precondition = precondition(&ask.headers, version)?;
    let make = |_: Option<&Object>| Ok(admitted.clone());
    ask.write("replace", &item.key, &item.collection(), precondition, make)
        .await
}

pub(crate) async fn patch(item: Item, ask: Ask) -> Result<Response> {
    let patch = Patch::parse(Media::of(&ask.headers)?, &ask.body)?;
    let (place, of) = (place(&item), item.collection());
    // The precondition of the URL's entity tag, and the one inside the patch, are checked against the same present state.
    let tag = match precondition(&ask.headers, None)? {
        Precondition::Any => Precondition::Present,
        other => other,
    };
    let make = |prior: Option<&Object>| {
        let prior = prior.ok_or_else(|| Status::not_found(&item.key))?;
        let patched = patch.apply(&item.key, super::present::object(&of, prior, None))?;
        let admitted = admit(&place, patched, ask.validation)?;
        let asked = admitted.object.metadata.resource_version.as_deref();
        if asked != prior.metadata.resource_version.as_deref() {
            let asked = asked.unwrap_or("none");
            return Err(Status::conflict(
                &item.key,
                format!("the object has been modified: the patch is for resourceVersion {asked}"),
            ));
        }
        Ok(admitted)
    };
    ask.write("patch", &item.key, &of, tag, make).await
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

pub(crate) async fn delete(item: Item, ask: Ask) -> Result<Response> {
    let options = DeleteOptions::of(&ask)?;
    let dry_run = options.dry_run(&ask);
    let preconditions = options.preconditions.unwrap_or_default();
    let precondition = precondition(&ask.headers, preconditions.resource_version.as_deref())?;
    let author = ask.caller.author(&format!("delete {}", item.key));
    let gone = write::delete(
        &ask.app,
        &item.key,
        precondition,
        preconditions.uid.as_deref(),
        dry_run,
        &author,
        ask.plan.as_ref(),
    )
    .await?;
    let (gone, told) = gone;
    let kind = item.key.kind;
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {
            "name": gone.metadata.name, "group": kind.group(), "kind": kind.plural(), "uid": gone.metadata.uid,
        },
    });
    let mut response = ask.accept.respond(StatusCode::OK, &body);
    warning::add(response.headers_mut(), told.as_deref());
    Ok(response)
}

/// How many resources one transaction deletes at most when a whole collection goes.
const DELETE_BATCH: usize = 100;

pub(crate) async fn delete_collection(of: Collection, ask: Ask) -> Result<Response> {
    let dry_run = DeleteOptions::of(&ask)?.dry_run(&ask);
    if let Some(value) = ask.params.get("gradual").filter(|value| *value != "false") {
        let rule = "is not for the deletion of many: delete them by name";
        return Err(invalid("gradual", value, rule));
    }
    let selector = Selector::of(&ask.params)?;
    let found = read::collect(&ask.app, &of, &selector, &ask.params).await?;
    if !dry_run {
        let author = ask
            .caller
            .author(&format!("delete all {}", of.kind.plural()));
        for batch in found.objects.chunks(DELETE_BATCH) {
            let ops = batch
                .iter()
                .filter_map(|o| {
                    Some(Op::Delete {
                        key: o.key(),
                        expect: Expect::At(o.revision()?),
                    })
                })
                .collect::<Vec<_>>();
            rollouts::refuse_held(&ask.app, &ops, None).await?;
            ask.app.commit(ops, author.clone()).await?;
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
