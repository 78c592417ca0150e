//! An Envoy bootstrap for a workload: who it is, what it proves that with, and where its issuers and pushers are.
//!
//! *Invariant:* a bootstrap holds no policy; everything but the way to issuers and pushers comes over that way. The
//! credential in it is shown this once.

mod config;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use model::{Key, Kind, Object};
use store::{Member, rendezvous};

use crate::app::App;
use crate::credentials;
use crate::http::negotiate::Accept;
use crate::http::query::{Params, invalid};
use crate::http::status::{Result, Status};
use crate::http::warning;
use crate::identity::Caller;
use config::{Identified, Place};

/// Where a pusher listens when none has registered yet.
const USUAL_PUSHER: &str = "127.0.0.1:18000";

/// Where an issuer listens when none has registered yet.
const USUAL_ISSUER: &str = "127.0.0.1:18010";

/// `POST …/bootstrap`, and `GET` where a bootstrap holds no credential.
pub(super) async fn bootstrap(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
    params: Params,
    method: Method,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let plaintext = app.config.insecure_plaintext_xds;
    if !plaintext && method != Method::POST {
        return Err(Status::method_not_allowed(
            "a bootstrap holds a new credential, which is made and shown once; ask for it with POST",
            "POST",
        ));
    }
    let key = Key::new(Kind::WorkloadEntry, namespace, name);
    let workload = app.store.get(&key).await?.ok_or_else(|| {
        Status::not_found(&key).within("a workload is a WorkloadEntry; apply it first")
    })?;
    let role = match params.get("type") {
        Some("sidecar") => "sidecar",
        Some("gateway") => "gateway",
        Some(other) => return Err(invalid("type", other, "must be sidecar or gateway")),
        None => role(&app, &workload).await,
    };
    let options = Options::of(&params)?;
    let node = format!("{role}~{}~{}", key.namespace, key.name);
    let mut warnings = Vec::new();
    let mut known = |members: &[Member], always: &[String], what: &str, usual: &str| {
        let mut addresses = addresses(members, &node);
        addresses.extend_from_slice(always);
        if !addresses.is_empty() {
            return addresses;
        }
        warnings.push(format!(
            "no {what} is registered; the bootstrap names the usual address, {usual}"
        ));
        vec![usual.to_owned()]
    };
    let config = &app.config;
    let always = &config.bootstrap_pushers;
    let pushers = known(&app.pushers.members(), always, "pusher", USUAL_PUSHER);
    let pushers = Place::all(&pushers)?;
    let body = if plaintext {
        config::plaintext(&node, &workload, &pushers, &options)
    } else {
        let issuers = app.issuers.borrow().clone();
        let always = &config.bootstrap_issuers;
        let issuers = Place::all(&known(&issuers, always, "issuer", USUAL_ISSUER))?;
        let identity = credentials::identity(&app, &workload)?;
        let bundle = credentials::bundle(&app).await?;
        credentials::room(&app, &key.namespace, &key.name).await?;
        let (credential, record) = credentials::make(identity, &workload);
        let author = caller.traced(&format!("POST {}/{}/bootstrap", key.namespace, key.name));
        credentials::store(&app, &credential, &record, author).await?;
        let identified = Identified {
            credential: &credential,
            bundle: &bundle,
            issuers: &issuers,
            trust_domain: &app.config.identity.trust_domain,
            system_namespace: &app.config.identity.system_namespace,
        };
        config::identified(&node, &workload, &pushers, &options, &identified)
    };
    let mut response = accept.respond(StatusCode::OK, &body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    warning::add(headers, warnings.iter().map(String::as_str));
    Ok(response)
}

/// A gateway is a workload that a Gateway selects, or that is labelled as Istio labels its gateways.
async fn role(app: &App, workload: &Object) -> &'static str {
    let labels = &workload.metadata.labels;
    let selected = || async {
        app.fresh_view()
            .await
            .objects
            .values()
            .filter(|o| o.kind == Kind::Gateway)
            .any(|gateway| {
                let selector = gateway.spec["selector"]
                    .as_object()
                    .filter(|s| !s.is_empty());
                selector.is_some_and(|s| {
                    s.iter()
                        .all(|(k, v)| labels.get(k).map(String::as_str) == v.as_str())
                })
            })
    };
    let labelled = labels.get("istio").is_some_and(|l| l.ends_with("gateway"));
    if labelled || selected().await {
        "gateway"
    } else {
        "sidecar"
    }
}

/// The addresses of live members, the owner of this node first, the others in the order in which they would succeed it.
fn addresses(members: &[Member], node: &str) -> Vec<String> {
    rendezvous::order(node, members)
        .into_iter()
        .filter_map(|member| member.addresses.get("grpc").cloned())
        .collect()
}

struct Options {
    api_type: &'static str,
    admin_address: String,
    admin_port: u32,
}

impl Options {
    fn of(params: &Params) -> Result<Self> {
        let api_type = match params.get("variant") {
            None | Some("delta") => "DELTA_GRPC",
            Some("sotw") => "GRPC",
            Some(other) => return Err(invalid("variant", other, "must be delta or sotw")),
        };
        let admin_address = params.get("adminAddress").unwrap_or("127.0.0.1").to_owned();
        if admin_address.parse::<IpAddr>().is_err() {
            return Err(invalid(
                "adminAddress",
                &admin_address,
                "must be an IP address",
            ));
        }
        let admin_port = params.number("adminPort")?.unwrap_or(9901);
        if admin_port > 65535 {
            return Err(invalid(
                "adminPort",
                &admin_port.to_string(),
                "must be a port, 0 to 65535",
            ));
        }
        Ok(Self {
            api_type,
            admin_address,
            admin_port,
        })
    }
}
