//! `/v1/ca`: how far roots and keys of the certificate authority have come, and what operators ask of it.
//!
//! *Invariant:* nothing here knows a key: a request is written where the issuer that leads takes it up, and its answer is read
//! from there.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures::StreamExt;
use http::{HeaderMap, Request, StatusCode};
use jiff::Timestamp;
use model::{AuthorityOutcome, AuthorityRequest, AuthorityStep, FederatedBundle, TrustBundle};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Area, Deed, Expect, VaultError, VaultOp};

use crate::app::App;
use crate::http::body;
use crate::http::negotiate::Accept;
use crate::http::status::{Result, Status};
use crate::identity::Caller;

/// Where the issuer shows what is public, below [`Area::Ca`].
const STATUS: &str = "status.json";

/// How long the issuer may take: a new leader is found within seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    /// `rotateIssuing`, `rotateRoot` or `revokeRoot`.
    step: String,
    /// The root that is to be revoked.
    name: Option<String>,
}

impl Wanted {
    fn step(self) -> Result<AuthorityStep> {
        match (self.step.as_str(), self.name) {
            ("rotateIssuing", None) => Ok(AuthorityStep::RotateIssuing),
            ("rotateRoot", None) => Ok(AuthorityStep::RotateRoot),
            ("revokeRoot", Some(name)) => Ok(AuthorityStep::RevokeRoot(name)),
            ("revokeRoot", None) => Err(Status::bad_request(
                "name: missing; name the root that is to be revoked, as GET /v1/ca shows it",
            )),
            ("rotateIssuing" | "rotateRoot", Some(name)) => Err(Status::bad_request(format!(
                "name: {name:?} means nothing for {}; leave it out",
                self.step
            ))),
            (other, _) => Err(Status::bad_request(format!(
                "step: {other:?} must be rotateIssuing, rotateRoot or revokeRoot"
            ))),
        }
    }
}

/// `GET`: what is public of the authority.
pub(super) async fn status(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    Ok(accept.respond(StatusCode::OK, &shown(&app).await?))
}

/// `POST`: asks for a step, and waits until the issuer took it or refused.
pub(super) async fn ask(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let bytes = body::read(&headers, request.into_body(), app.config.max_body_bytes).await?;
    let wanted: Wanted = body::parse("request", &headers, &bytes)?;
    let author = caller.traced("POST /v1/ca");
    let request = AuthorityRequest {
        step: wanted.step()?,
        who: caller.who,
        made: Timestamp::now(),
        traceparent: author.traceparent.clone(),
        tracestate: author.tracestate.clone(),
        outcome: None,
    };
    // The request is deleted once it is answered; who made it stays on record.
    let asked = Deed {
        kind: "AuthorityRequest".into(),
        namespace: String::new(),
        name: request.step.to_string(),
        before: None,
        after: true,
    };
    // Nobody would take it up.
    shown(&app).await?;
    let path = format!("requests/{}", uuid::Uuid::now_v7());
    let put = VaultOp::Put {
        path: path.clone(),
        value: request.to_bytes(),
        expect: Expect::Absent,
    };
    (app.vault)
        .write_recorded(Area::Ca, vec![put], None, author, vec![asked])
        .await?;
    let outcome = tokio::time::timeout(PATIENCE, outcome(&app, &path)).await;
    let in_time = outcome.is_ok();
    withdraw(&app, &path, in_time).await?;
    match outcome {
        Ok(Ok(AuthorityOutcome::Done)) => Ok(accept.respond(StatusCode::OK, &shown(&app).await?)),
        Ok(Ok(AuthorityOutcome::Refused(why))) => {
            Err(Status::new(StatusCode::CONFLICT, "Conflict", why))
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Status::unavailable(
            "no cert-issuer took the request up, so it was withdrawn and nothing changed; is one running on the same etcd?",
        )),
    }
}

/// What the issuer shows of the authority.
async fn shown(app: &App) -> Result<Value> {
    let entry = app.vault.read(Area::Ca, STATUS).await?;
    let entry = entry.ok_or_else(|| {
        Status::unavailable(
            "there is no certificate authority yet; start a cert-issuer on the same etcd",
        )
    })?;
    let mut shown: Value = serde_json::from_slice(&entry.value)
        .map_err(|error| Status::internal(format!("ca/{STATUS} is damaged: {error}")))?;
    let federated = federated(app).await?;
    if !federated.is_empty() {
        shown["federated"] = federated.into();
    }
    Ok(shown)
}

/// The trust domains that MeshConfig names, and the bundle that is in force of each.
async fn federated(app: &App) -> Result<Vec<Value>> {
    let configured = {
        let view = app.fresh_view().await;
        let mut record = std::collections::BTreeSet::new();
        let mut mesh = view.mesh.view(&mut record);
        let config = mesh.mesh_config();
        config.map_or_else(Vec::new, |config| config.federated_trust_domains.clone())
    };
    let mut shown = Vec::new();
    for domain in &configured {
        let text = domain.trust_domain_bundle.as_deref();
        let entry = app.vault.read(Area::Federation, &domain.trust_domain);
        let stored = entry
            .await?
            .map(|it| FederatedBundle::from_bytes(&it.value));
        let stored = stored.and_then(std::result::Result::ok);
        let fetched = stored.filter(|it| it.configured == FederatedBundle::digest(text));
        let bundle = match &fetched {
            Some(fetched) => TrustBundle::try_from(fetched.bundle.clone()).ok(),
            None => text.and_then(|text| TrustBundle::parse(text.as_bytes()).ok()),
        };
        shown.push(json!({
            "trustDomain": domain.trust_domain,
            "bundleEndpointURL": domain.bundle_endpoint_url,
            "bundle": match (&bundle, &fetched) {
                (None, _) => "missing",
                (Some(_), None) => "configured",
                (Some(_), Some(_)) => "fetched",
            },
            "fetched": fetched.map(|it| it.fetched),
            "sequence": bundle.as_ref().and_then(TrustBundle::sequence),
            "roots": bundle.map_or(0, |it| it.roots().len()),
        }));
    }
    Ok(shown)
}

/// Waits for what becomes of a request.
async fn outcome(app: &App, path: &str) -> Result<AuthorityOutcome> {
    let mut sets = app.vault.follow(Area::Ca).await?;
    while let Some(set) = sets.next().await {
        let Some(entry) = set.get(path) else { continue };
        let request = AuthorityRequest::from_bytes(&entry.value)
            .map_err(|error| Status::internal(format!("ca/{path} is damaged: {error}")))?;
        if let Some(outcome) = request.outcome {
            return Ok(outcome);
        }
    }
    Err(Status::unavailable("this replica is stopping"))
}

/// Takes a request out of the store. One that was not answered in time may be answered at this moment: then that is said.
async fn withdraw(app: &App, path: &str, answered: bool) -> Result<()> {
    let Some(entry) = app.vault.read(Area::Ca, path).await? else {
        return Ok(());
    };
    let delete = VaultOp::Delete {
        path: path.to_owned(),
        expect: entry.revision,
    };
    let late = !answered
        && AuthorityRequest::from_bytes(&entry.value)
            .is_ok_and(|request| request.outcome.is_some());
    match app.vault.write(Area::Ca, vec![delete], None).await {
        Ok(_) if late => {}
        Ok(_) => return Ok(()),
        // The issuer forgets an answered one by itself.
        Err(VaultError::Conflict { .. }) if answered => return Ok(()),
        Err(VaultError::Conflict { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Err(Status::unavailable(
        "the request was taken up late; GET /v1/ca shows what became of it",
    ))
}
