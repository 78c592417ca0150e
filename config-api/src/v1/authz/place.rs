//! Who calls, and which workloads are called, from the way people name them.
//!
//! *Invariant:* a name that means nothing here is an error that says what there is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::mesh::{View, workload_labels};
use model::spec::{Port, WorkloadEntry};
use model::{Key, Kind, Resource, Spec};

use crate::http::status::{Result, Status};

/// A port of a workload.
pub(super) struct Place {
    pub(super) workload: Key,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    /// Whether the proxy understands requests on it.
    pub(super) http: bool,
    /// The host it is called by; empty if it is called by no service.
    pub(super) host: String,
}

/// A caller.
#[derive(Default)]
pub(super) struct From {
    /// `<trust domain>/ns/<namespace>/sa/<account>`.
    pub(super) principal: Option<String>,
    pub(super) address: Option<IpAddr>,
}

fn unknown(field: &str, value: &str, rule: &str) -> Status {
    Status::bad_request(format!("{field}: {value:?} {rule}"))
}

fn workload<'m>(
    namespace: &str,
    name: &str,
    view: &mut View<'m, '_>,
) -> Option<(&'m Arc<Resource>, &'m WorkloadEntry)> {
    let resource = view.workload(&namespace.into(), &name.into())?;
    match &resource.spec {
        Spec::WorkloadEntry(entry) => Some((resource, entry)),
        _ => None,
    }
}

fn address(entry: &WorkloadEntry) -> Option<IpAddr> {
    entry.address.as_deref()?.parse().ok()
}

/// The caller that is named.
pub(super) fn caller(
    from: Option<&str>,
    namespace: &str,
    trust_domain: &str,
    view: &mut View<'_, '_>,
) -> Result<From> {
    let Some(from) = from.filter(|it| !it.is_empty()) else {
        return Ok(From::default());
    };
    let principal =
        |namespace: &str, account: &str| format!("{trust_domain}/ns/{namespace}/sa/{account}");
    let bare = from.strip_prefix("spiffe://").unwrap_or(from);
    if bare.contains("/ns/") {
        return Ok(From {
            principal: Some(bare.into()),
            ..From::default()
        });
    }
    if let Some((namespace, account)) = from.split_once('/') {
        return Ok(From {
            principal: Some(principal(namespace, account)),
            ..From::default()
        });
    }
    let (_, entry) = workload(namespace, from, view).ok_or_else(|| {
        let rule = format!("is no workload of the namespace {namespace}; a service account is written namespace/account");
        unknown("from", from, &rule)
    })?;
    Ok(From {
        principal: Some(principal(namespace, entry.account())),
        address: address(entry),
    })
}

/// The ports of workloads that are named.
pub(super) fn of(to: &str, namespace: &str, view: &mut View<'_, '_>) -> Result<Vec<Place>> {
    let (name, port) = match to.rsplit_once(':') {
        None => (to, None),
        Some((name, port)) => {
            let number = port.parse::<u16>();
            let number =
                number.map_err(|_| unknown("to", to, "must have a port after the colon"))?;
            (name, Some(number))
        }
    };
    match name.split_once('/') {
        Some((namespace, workload)) => of_workload(namespace, workload, port, view),
        None => of_service(name, namespace, port, view),
    }
}

fn of_workload(
    namespace: &str,
    name: &str,
    port: Option<u16>,
    view: &mut View<'_, '_>,
) -> Result<Vec<Place>> {
    let named = format!("{namespace}/{name}");
    let (resource, entry) = workload(namespace, name, view).ok_or_else(|| {
        unknown(
            "to",
            &named,
            "is no WorkloadEntry; a service is written by its host",
        )
    })?;
    let mut ports: BTreeMap<u16, (bool, String)> = BTreeMap::new();
    for service in view.services_of(&namespace.into(), &name.into()) {
        for port in &service.spec.ports {
            let at = workload_port(entry, port);
            ports
                .entry(at)
                .or_insert((is_http(port), service.host.to_string()));
        }
    }
    let (port, (http, host)) = match port {
        Some(port) => (port, ports.remove(&port).unwrap_or((true, String::new()))),
        None if ports.len() == 1 => ports.pop_first().expect("there is one"),
        None => {
            let rule = format!("needs a port: {}", list(ports.keys()));
            return Err(unknown("to", &named, &rule));
        }
    };
    Ok(vec![Place {
        workload: Key::new(Kind::WorkloadEntry, namespace, name),
        labels: workload_labels(resource),
        address: address(entry),
        port,
        http,
        host,
    }])
}

fn of_service(
    name: &str,
    namespace: &str,
    port: Option<u16>,
    view: &mut View<'_, '_>,
) -> Result<Vec<Place>> {
    let name = name.to_ascii_lowercase();
    // `reviews`, `reviews.default`, or the whole host.
    let hosts = [
        view.full_host(&name, namespace),
        format!("{name}.svc.{}", view.domain()),
    ];
    let service = hosts.iter().find_map(|host| view.service(namespace, host));
    let service = service.ok_or_else(|| {
        unknown(
            "to",
            &name,
            "is no service that the namespace sees; a workload is written namespace/name",
        )
    })?;
    let ports = &service.spec.ports;
    let found = match (port, ports.as_slice()) {
        (None, [only]) => Some(only),
        (number, _) => ports.iter().find(|it| Some(it.number) == number),
    };
    let port = found.ok_or_else(|| {
        let rule = format!(
            "needs one of its ports: {}",
            list(ports.iter().map(|it| &it.number))
        );
        unknown("to", &name, &rule)
    })?;
    let endpoints = view.endpoints(service);
    let places: Vec<Place> = endpoints
        .iter()
        .filter_map(|endpoint| {
            Some(Place {
                workload: endpoint.workload.clone()?,
                labels: endpoint.labels.clone(),
                address: address(endpoint.spec),
                port: workload_port(endpoint.spec, port),
                http: is_http(port),
                host: service.host.to_string(),
            })
        })
        .collect();
    if places.is_empty() {
        let rule = "has no workload of the mesh, so no policy stands before it";
        return Err(unknown("to", &name, rule));
    }
    Ok(places)
}

fn list<'n>(numbers: impl Iterator<Item = &'n u16>) -> String {
    let numbers: Vec<String> = numbers.map(u16::to_string).collect();
    numbers.join(", ")
}

/// Where a workload listens for a port of a service.
fn workload_port(entry: &WorkloadEntry, port: &Port) -> u16 {
    let own = entry.ports.get(&port.name).copied();
    own.or(port.target_port).unwrap_or(port.number)
}

/// Whether the proxy understands requests on a port: by its protocol, or the part of its name before a dash.
fn is_http(port: &Port) -> bool {
    let text = if port.protocol.is_empty() {
        &port.name
    } else {
        &port.protocol
    };
    let first = text.split('-').next().unwrap_or_default();
    matches!(
        first.to_ascii_uppercase().as_str(),
        "HTTP" | "HTTP2" | "GRPC"
    )
}
