//! `GET /v1/mtls…`: which services take mutual TLS, plaintext or both, by which policy, and since when.
//!
//! *Invariant:* what is answered rests on everything that was committed before the question; a replica that does not know
//! it yet says so.

mod find;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use jiff::Timestamp;
use model::Key;
use model::mesh::Service;
use model::mtls::{self, Acknowledged, PortStatus, State as Takes, WorkloadStatus};
use pusher_api::v1::{ListProxiesResponse, Proxy};
use serde_json::{Value, json};
use store::Entries;
use tracing::error;

use super::proxies;
use crate::access::{Act, Role, What};
use crate::app::App;
use crate::http::negotiate::Accept;
use crate::http::query::Params;
use crate::http::status::{Result, Status};
use crate::identity::Caller;
use crate::pushers::{Answers, Silent};
use crate::view::View;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let namespace = namespace(&caller, &params)?;
    let now = Now::of(&app).await?;
    let services = now.services(&caller, namespace);
    let services = services
        .iter()
        .map(|it| now.service(it, find::name(it, &now.view)));
    let services: Vec<Value> = services.collect();
    let silent = &now.silent;
    let body = json!({"services": services, "silent": silent});
    Ok(proxies::respond(accept, &body, silent))
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let namespace = namespace(&caller, &params)?;
    let now = Now::of(&app).await?;
    let services = now.services(&caller, namespace);
    let service = find::service(&name, &services)?;
    let silent = &now.silent;
    let mut body = now.service(service, &name);
    body["silent"] = json!(silent);
    Ok(proxies::respond(accept, &body, silent))
}

/// The namespace asked for, which the caller must see.
fn namespace<'a>(caller: &Caller, params: &'a Params) -> Result<Option<&'a str>> {
    let Some(namespace) = params.get("namespace") else {
        return Ok(None);
    };
    let act = Act {
        verb: "get",
        what: What::Path("/v1/mtls"),
        namespace: Some(namespace),
        role: Role::Viewer,
    };
    caller.require(&[(act, String::new())])?;
    Ok(Some(namespace))
}

/// What is known at this moment.
struct Now {
    view: View,
    modes: Entries,
    /// Live proxies, by namespace and workload.
    proxies: HashMap<(String, String), Value>,
    silent: Vec<Silent>,
    time: Timestamp,
    /// Whether the mesh has no identities.
    plaintext: bool,
}

impl Now {
    async fn of(app: &App) -> Result<Self> {
        let (answers, view) = tokio::join!(proxies::ask(app, ""), app.current_view());
        let modes = app.modes.borrow().clone();
        Ok(Self {
            view: view?,
            modes: modes.ok_or_else(|| {
                Status::unavailable("what proxies acknowledged of mutual TLS was not read yet")
            })?,
            proxies: by_workload(&answers),
            silent: answers.silent,
            time: Timestamp::now(),
            plaintext: app.config.insecure_plaintext_xds,
        })
    }

    /// The services of the namespaces that the caller sees, or of one; by namespace and host. Of those that share both, the
    /// oldest is in force.
    fn services(&self, caller: &Caller, namespace: Option<&str>) -> Vec<Arc<Service>> {
        let mut read = BTreeSet::new();
        let mut mesh = self.view.mesh.view(&mut read);
        let mut services = BTreeMap::new();
        for service in self.view.mesh.hosts().flat_map(|host| mesh.services(host)) {
            let of = service.namespace();
            if namespace.is_none_or(|wanted| wanted == &**of) && caller.sees(of) {
                services
                    .entry((of.clone(), service.host.clone()))
                    .or_insert_with(|| service.clone());
            }
        }
        services.into_values().collect()
    }

    fn service(&self, service: &Service, name: &str) -> Value {
        let mut read = BTreeSet::new();
        let mut mesh = self.view.mesh.view(&mut read);
        let mut workloads =
            mtls::status(service, &mut mesh, |key| self.acknowledged(key), self.time);
        if self.plaintext {
            let ports = workloads
                .iter_mut()
                .flat_map(|workload| &mut workload.ports);
            ports.for_each(|port| port.state = Takes::Disable);
        }
        let state = match self.plaintext {
            true => Takes::Disable,
            false => Takes::together(workloads.iter().map(WorkloadStatus::state)),
        };
        let names = workloads
            .iter()
            .filter_map(|it| Some(&*it.workload.as_ref()?.name));
        let mut json = json!({
            "service": name, "host": service.host, "namespace": service.namespace(),
            "mtls_mode": state.to_string(), "workloads": names.collect::<Vec<_>>(),
        });
        add(&mut json, "draining_until", state.until());
        add(&mut json, "reason", self.reason(state, &workloads));
        json["details"] = workloads.iter().map(|it| self.workload(it)).collect();
        json
    }

    /// Why, where the mode alone does not say it.
    fn reason(&self, state: Takes, workloads: &[WorkloadStatus]) -> Option<&'static str> {
        if self.plaintext {
            return Some(
                "xDS runs in plaintext (--insecure-plaintext-xds): without identities there is no mutual TLS, whatever policies say",
            );
        }
        match state {
            Takes::Unknown if workloads.is_empty() => {
                Some("it has no workload and no endpoint: who answers for it is not known")
            }
            Takes::Unknown => Some(
                "no proxy of it has acknowledged anything: as far as anybody knows it takes plaintext",
            ),
            Takes::Draining(_) => Some(
                "new connections must be mutual TLS; those accepted before may still speak plaintext",
            ),
            Takes::Mixed => Some("its workloads or their ports differ; see details"),
            Takes::Disable | Takes::Permissive | Takes::Strict => None,
        }
    }

    /// What the proxy of a workload acknowledged, if that is stored and can be read.
    fn acknowledged(&self, workload: &Key) -> Option<Acknowledged> {
        let path = format!("{}/{}", workload.namespace, workload.name);
        let entry = self.modes.get(path.as_str())?;
        Acknowledged::from_bytes(&entry.value)
            .inspect_err(|error| error!(%error, path = format!("mtls/{path}"), "stored modes cannot be read"))
            .ok()
    }

    fn workload(&self, status: &WorkloadStatus) -> Value {
        let state = status.state();
        let name = status.workload.as_ref().map(|key| &key.name);
        let mut json =
            json!({"workload": name, "address": status.address, "mode": state.to_string()});
        add(&mut json, "draining_until", state.until());
        if let Some(key) = &status.workload {
            json["proxy"] = self.proxy(key);
            if self
                .view
                .down
                .contains(&(key.namespace.clone(), key.name.clone()))
            {
                json["down"] = true.into();
            }
        }
        json["ports"] = status.ports.iter().map(port).collect();
        json
    }

    /// The proxy of a workload as the pushers see it now.
    fn proxy(&self, workload: &Key) -> Value {
        let place = (workload.namespace.to_string(), workload.name.to_string());
        self.proxies.get(&place).cloned().unwrap_or_else(|| {
            // Nobody knows while a pusher is silent.
            json!({"connected": self.silent.is_empty().then_some(false)})
        })
    }
}

/// What is said of each proxy, by namespace and workload.
fn by_workload(answers: &Answers<ListProxiesResponse>) -> HashMap<(String, String), Value> {
    let answered = answers.answered.iter();
    let proxies = answered.flat_map(|(member, answer)| {
        let proxies = answer.proxies.iter();
        proxies.map(move |proxy| (proxy, &*member.instance))
    });
    let mut proxies: Vec<_> = proxies.collect();
    // During a move a proxy can be known twice: the later prevails.
    proxies.sort_by_key(|(proxy, _)| proxy.connected_at_ms);
    let placed = proxies.into_iter().filter_map(|(proxy, pusher)| {
        let (namespace, workload) = proxies::place(&proxy.id)?;
        Some(((namespace.into(), workload.into()), said(proxy, pusher)))
    });
    placed.collect()
}

fn said(proxy: &Proxy, pusher: &str) -> Value {
    let mut json = json!({
        "connected": true, "id": proxy.id, "connected_at": proxies::connected_at(proxy), "pusher": pusher,
        "acked_revision": proxy.acked_revision,
    });
    if let Some(listeners) = proxy.types.iter().find(|it| it.r#type == "LDS") {
        json["listeners"] = proxies::state(listeners).into();
        let refused = Some(&listeners.error).filter(|error| !error.is_empty());
        add(&mut json, "error", refused);
    }
    json
}

fn port(status: &PortStatus) -> Value {
    let mut json = json!({
        "port": status.port, "service_ports": status.service_ports, "mode": status.state.to_string(),
    });
    add(&mut json, "draining_until", status.state.until());
    if let Some(decision) = &status.decision {
        json["policy_mode"] = json!(decision.mode);
        json["scope"] = decision.scope.to_string().into();
        json["policy"] = json!(decision.policy.as_ref().map(
            |key| json!({"kind": key.kind.name(), "namespace": key.namespace, "name": key.name})
        ));
    }
    json["acked"] = status.acked.into();
    add(&mut json, "since", status.since);
    json
}

/// Adds a field if there is something to say.
fn add(json: &mut Value, field: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        json[field] = json!(value);
    }
}
