//! `POST /v1/authz/check`: what the policies that are stored make of a call, rule by rule.
//!
//! *Invariant:* nothing is asked of a proxy or of a provider; what holds is told, not what has arrived.

mod place;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Request, StatusCode};
use model::authz::call::{Call, Http};
use model::authz::path::normalize;
use model::authz::{Outcome, Policy, RuleId, explain, is_dry_run, verdict};
use model::mesh::View;
use model::mtls::{Mode, modes};
use model::{Key, Spec, TrustDomain};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::{Act, Role, What};
use crate::app::App;
use crate::http::body;
use crate::http::negotiate::Accept;
use crate::http::status::{Result, Status};
use crate::identity::Caller;
use place::Place;

/// A call to judge. With a method, a path, a host, headers or claims it is a request; else a connection.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Check {
    /// The caller: `<trust domain>/ns/<namespace>/sa/<account>`, `<namespace>/<account>`, or the name of a workload. Nobody,
    /// over plaintext, if absent.
    from: Option<String>,
    /// The caller's address; that of the workload by default.
    from_ip: Option<String>,
    /// The workload `<namespace>/<name>[:port]`, or the service `<host>[:port]`, of which every workload is judged.
    to: String,
    /// Where short names are; `default` by default.
    namespace: Option<String>,
    /// The method; GET by default.
    method: Option<String>,
    /// The path as a client sends it; `/` by default. It is normalised as the proxy does it.
    path: Option<String>,
    /// The host; that of the service by default.
    host: Option<String>,
    /// Headers, `name: value`; one may stand several times.
    headers: Vec<String>,
    /// The claims of the token, taken as verified.
    claims: Option<Value>,
}

pub(super) async fn check(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let bytes = body::read(&headers, request.into_body(), app.config.max_body_bytes).await?;
    let check: Check = body::parse("check", &headers, &bytes)?;
    let view = app.fresh_view().await;
    let mut record = std::collections::BTreeSet::new();
    let mut mesh = view.mesh.view(&mut record);
    let namespace = check.namespace.as_deref().unwrap_or("default");
    let permit = |namespaces: &mut dyn Iterator<Item = &str>| {
        let act = |namespace| Act {
            verb: "get",
            what: What::Path("/v1/authz/check"),
            namespace: Some(namespace),
            role: Role::Viewer,
        };
        let acts: Vec<_> = namespaces.map(|it| (act(it), String::new())).collect();
        caller.require(&acts)
    };
    if check.to.is_empty() {
        let rule = "to: is missing; name a service, or a workload as namespace/name";
        return Err(Status::bad_request(rule));
    }
    // Before anything is looked up: an error may tell what there is.
    let named = check.to.split_once('/').map(|(namespace, _)| namespace);
    permit(&mut std::iter::once(namespace).chain(named))?;
    let places = place::of(&check.to, namespace, &mut mesh)?;
    permit(&mut places.iter().map(|it| &*it.workload.namespace))?;
    let own = &app.config.identity.trust_domain;
    let trust_domain = own.to_string();
    let from = place::caller(check.from.as_deref(), namespace, &trust_domain, &mut mesh)?;
    let call = call(&check, &from)?;
    let workloads = places
        .iter()
        .map(|place| judged(place, &call, own, &mut mesh));
    let body =
        json!({"revision": view.revision.to_string(), "workloads": workloads.collect::<Vec<_>>()});
    Ok(accept.respond(StatusCode::OK, &body))
}

/// The call, as far as it does not depend on where it goes.
fn call(check: &Check, from: &place::From) -> Result<Call> {
    let wrong = |field: &str, value: &str, rule: &str| {
        Status::bad_request(format!("{field}: {value:?} {rule}"))
    };
    let ip = match &check.from_ip {
        None => from.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Some(text) => text
            .parse()
            .map_err(|_| wrong("fromIp", text, "must be an IP address"))?,
    };
    let headers = check.headers.iter().map(|line| {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| wrong("headers", line, "must be written name: value"))?;
        Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    });
    let headers = headers.collect::<Result<Vec<_>>>()?;
    let asked = [&check.method, &check.path, &check.host];
    let is_request =
        asked.iter().any(|it| it.is_some()) || !headers.is_empty() || check.claims.is_some();
    let text = |it: &Option<String>, usual: &str| it.as_deref().unwrap_or(usual).to_owned();
    Ok(Call {
        principal: from.principal.clone(),
        source_ip: ip,
        remote_ip: ip,
        destination_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        destination_port: 0,
        sni: None,
        http: is_request.then(|| Http {
            method: text(&check.method, "GET"),
            host: text(&check.host, ""),
            path: text(&check.path, "/"),
            headers,
            claims: check.claims.clone(),
        }),
    })
}

/// The verdict at one workload, and what led to it.
fn judged(
    place: &Place,
    call: &Call,
    trust_domain: &TrustDomain,
    view: &mut View<'_, '_>,
) -> Value {
    let modes = modes(&view.peer_authentications(&place.workload.namespace, &place.labels));
    let decision = modes.of_port(place.port);
    let mut call = Call {
        destination_ip: place.address.unwrap_or(call.destination_ip),
        destination_port: place.port,
        ..call.clone()
    };
    let (mut notes, mut redirected) = (Vec::new(), None);
    let normalization = view
        .mesh_config()
        .and_then(|config| config.path_normalization.as_ref());
    let normalization = normalization.map(|it| it.normalization).unwrap_or_default();
    match &mut call.http {
        Some(_) if !place.http => {
            notes.push("the port is not HTTP to the proxy, so it is judged as a connection");
            call.http = None;
        }
        Some(http) => {
            if http.host.is_empty() {
                http.host.clone_from(&place.host);
            }
            let normalized = normalize(&http.path, normalization);
            if normalized.redirect {
                redirected = Some(format!(
                    "the path has an encoded slash, so the proxy answers with a redirect to {}, which is judged here",
                    normalized.path
                ));
            } else if normalized.path != http.path {
                redirected = Some(format!(
                    "the proxy makes the path {}, which is judged",
                    normalized.path
                ));
            }
            http.path = normalized.path;
        }
        None => {}
    }
    notes.extend(redirected.as_deref());
    if decision.mode == Mode::Disable && call.principal.take().is_some() {
        notes.push("the port takes plaintext only, so the caller has no identity there");
    }
    let refused = decision.mode == Mode::Strict && call.principal.is_none();
    if refused {
        notes.push("the port takes mutual TLS only, so the caller is refused before any policy");
    }
    let federated = view.mesh_config();
    let federated = federated.is_some_and(|config| !config.federated_trust_domains.is_empty());
    let home = federated.then(|| trust_domain.clone());
    let keys = view.authorization_policies(&place.workload.namespace, &place.labels);
    let mut policies = Vec::new();
    for key in keys {
        if let Some(resource) = view.resource(&key)
            && let Spec::AuthorizationPolicy(spec) = &resource.spec
        {
            policies.push(Policy {
                key,
                dry_run: is_dry_run(&resource.metadata),
                spec,
                home: home.clone(),
            });
        }
    }
    let verdict = verdict(&policies, &call);
    let allowed = verdict.outcome == Outcome::Allowed && !refused;
    let asked = verdict
        .asked
        .iter()
        .map(|(provider, by)| json!({"provider": provider, "by": rule_id(by)}));
    json!({
        "workload": format!("{}/{}", place.workload.namespace, place.workload.name),
        "port": place.port,
        "protocol": if call.http.is_some() { "HTTP" } else { "TCP" },
        "verdict": match (allowed, verdict.asked.is_empty()) {
            (true, true) => "ALLOWED",
            // Its provider has the word; what else there is would allow it.
            (true, false) => "ASKED",
            (false, _) => "DENIED",
        },
        "by": verdict.by.as_ref().filter(|_| !refused).map(rule_id),
        "asked": asked.collect::<Vec<_>>(),
        "audited": verdict.audited.iter().map(rule_id).collect::<Vec<_>>(),
        "mtls": {"mode": mode(decision.mode), "policy": decision.policy.as_ref().map(name)},
        "notes": notes,
        "policies": policies.iter().map(|it| explained(it, &call)).collect::<Vec<_>>(),
    })
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Disable => "DISABLE",
        Mode::Permissive => "PERMISSIVE",
        Mode::Strict => "STRICT",
    }
}

fn name(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}

fn rule_id(id: &RuleId) -> Value {
    json!({"policy": name(&id.policy), "rule": id.rule})
}

fn explained(policy: &Policy<'_>, call: &Call) -> Value {
    let alternatives = |these: &[Vec<explain::Explained>]| -> Vec<Vec<Value>> {
        let term = |it: &explain::Explained| {
            json!({
                "attribute": it.attribute, "values": it.values, "notValues": it.not_values, "found": it.found, "holds": it.holds,
            })
        };
        these
            .iter()
            .map(|terms| terms.iter().map(term).collect())
            .collect()
    };
    let rules = explain::rules(policy, call).into_iter().map(|rule| {
        json!({
            "rule": rule.at, "matches": rule.matches, "leftOut": rule.left_out,
            "sources": alternatives(&rule.sources), "operations": alternatives(&rule.operations),
        })
    });
    json!({
        "policy": name(&policy.key),
        "action": format!("{:?}", policy.spec.action).to_uppercase(),
        "dryRun": policy.dry_run,
        "rules": rules.collect::<Vec<_>>(),
    })
}
