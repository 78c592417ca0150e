//! What arrives at a sidecar's own workload.
//!
//! Explicit: a listener on the workload's address and each port that a service leads to, or what a Sidecar's `ingress` says.
//! Transparent: one listener that tells the ports apart.
//!
//! *Invariant:* everything here leads to the workload itself.

mod chains;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::mesh::View;
use model::mtls::{self, Decision, Mode, Modes};
use model::spec::{ConnectionPoolSettings, DefaultEndpoint, Sidecar, TrafficPolicy, WorkloadEntry};
use model::{Key, Spec};
use xds::Resource;
use xds::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;

use crate::class::{self, Class};
use crate::identity::Identities;
use crate::listener::{self, Filter, Http, Listener, Routes, http_filter};
use crate::part::{Part, Report};
use crate::port::Protocol;
use crate::security::{self, Security};
use crate::sidecar::{ANY, LOOPBACK};
use crate::translate::{cluster, endpoint, names, pb, route, tcp};
use crate::unit::{Reading, Unit, Value};
use crate::{Interception, Proxy, Role, settings};

/// Where intercepted connections to the workload arrive.
const VIRTUAL_INBOUND_PORT: u16 = 15006;

/// One port of the workload.
#[derive(Clone, Debug, PartialEq)]
struct Inbound {
    /// Where the proxy listens; `None` for the workload's address.
    bind: Option<String>,
    protocol: Protocol,
    /// Where the workload listens.
    to: endpoint::Address,
    /// The limits of what comes in.
    pool: Option<ConnectionPoolSettings>,
}

/// The mesh's identities and what policies make of them for a workload; without identities every mode is plaintext.
struct Transport {
    identities: Option<Arc<Identities>>,
    modes: Modes,
}

impl Transport {
    /// What holds for a port, or for those that nobody names.
    fn of(&self, port: Option<u16>) -> Option<(&Identities, Mode)> {
        let decision = port.map_or(&self.modes.others, |port| self.modes.of_port(port));
        Some((self.identities.as_deref()?, decision.mode))
    }
}

/// Which mode holds on each port of a workload, and why.
pub(crate) fn decisions(
    proxy: &Proxy,
    class: &Class,
    view: &mut View<'_, '_>,
) -> BTreeMap<u16, Decision> {
    let Some((_, workload)) = workload(proxy, view) else {
        return BTreeMap::new();
    };
    let modes = modes(proxy, view);
    ports(proxy, class, workload, view)
        .into_keys()
        .map(|port| (port, modes.of_port(port).clone()))
        .collect()
}

fn modes(proxy: &Proxy, view: &mut View<'_, '_>) -> Modes {
    let labels = class::labels(proxy, view);
    mtls::modes(&view.peer_authentications(&proxy.namespace, &labels))
}

/// The workload that a sidecar is beside.
fn workload<'m>(proxy: &Proxy, view: &mut View<'m, '_>) -> Option<(Key, &'m WorkloadEntry)> {
    let resource = view.workload(&proxy.namespace, &proxy.workload)?;
    match &resource.spec {
        Spec::WorkloadEntry(entry) if proxy.role == Role::Sidecar => Some((resource.key(), entry)),
        _ => None,
    }
}

/// What arrives at the workload of a proxy. Nothing arrives at gateways this way.
pub(crate) fn own(proxy: &Arc<Proxy>, read: &mut Reading<'_>) -> Part {
    let mut part = Part::default();
    let Value::Class(class) = read.demand(Unit::Class(proxy.clone())) else {
        unreachable!("a class is computed for a proxy")
    };
    let identities = read.identities();
    let mut view = read.view();
    let Some((key, workload)) = workload(proxy, &mut view) else {
        return part;
    };
    let modes = match identities {
        Some(_) => modes(proxy, &mut view),
        None => mtls::modes(&mtls::Policies::default()),
    };
    let transport = Transport { identities, modes };
    let ports = ports(proxy, &class, workload, &mut view);
    let labels = class::labels(proxy, &mut view);
    let policies = security::policies(&proxy.namespace, &labels, &mut view);
    let security = security::of(&policies, &class, read, &mut part);
    let mut view = read.view();
    let defaults = settings::cluster_defaults(&mut view);
    for (port, inbound) in &ports {
        let policy = TrafficPolicy {
            connection_pool: inbound.pool.clone(),
            ..Default::default()
        };
        let to = endpoint::Endpoint {
            address: inbound.to.clone(),
            ..Default::default()
        };
        let cluster = cluster::inbound(
            &names::inbound(*port),
            inbound.protocol.of_cluster(),
            &to,
            &policy,
            defaults,
        );
        part.resources.push(Resource::new(&cluster));
    }
    if class.interception == Interception::Transparent {
        let passthrough = cluster::passthrough(names::INBOUND_PASSTHROUGH, defaults);
        part.resources.push(Resource::new(&passthrough));
        part.resources.push(Resource::new(&virtual_inbound(
            &ports, &transport, &security, &mut view,
        )));
        return part;
    }
    for (port, inbound) in &ports {
        let address = inbound
            .bind
            .as_deref()
            .or(workload.address.as_deref())
            .unwrap_or_default();
        if let Err(reason) = bindable(address, *port, inbound) {
            part.reports.insert(Report {
                key: key.clone(),
                message: reason,
            });
            continue;
        }
        let name = listener::name(address, *port);
        let transport = transport.of(Some(*port));
        let filters = filters(*port, inbound, transport.is_some(), &security, &mut view);
        let chains = chains::of(None, &filters, inbound.protocol.is_http(), transport);
        part.resources
            .push(Resource::new(&chains::inspected(Listener {
                filter_chains: chains,
                ..listener::listener(&name, address, *port, pb::TrafficDirection::Inbound)
            })));
    }
    part
}

/// The ports of a workload: those its Sidecar lists, else those that services lead to.
fn ports(
    proxy: &Proxy,
    class: &Class,
    workload: &WorkloadEntry,
    view: &mut View<'_, '_>,
) -> BTreeMap<u16, Inbound> {
    let sidecar = class
        .sidecar
        .as_ref()
        .and_then(|key| view.resource(key))
        .and_then(|resource| match &resource.spec {
            Spec::Sidecar(sidecar) => Some(sidecar),
            _ => None,
        });
    if let Some(sidecar) = sidecar.filter(|sidecar| !sidecar.ingress.is_empty()) {
        return by_sidecar(sidecar, workload);
    }
    let pool = sidecar.and_then(|sidecar| sidecar.inbound_connection_pool.clone());
    let mut ports = BTreeMap::new();
    for service in view.services_of(&proxy.namespace, &proxy.workload) {
        for port in &service.spec.ports {
            let at = workload.port(port);
            let to = endpoint::Address::new(LOOPBACK, at);
            ports.entry(at).or_insert(Inbound {
                bind: None,
                protocol: Protocol::of(port),
                to,
                pool: pool.clone(),
            });
        }
    }
    ports
}

fn by_sidecar(sidecar: &Sidecar, workload: &WorkloadEntry) -> BTreeMap<u16, Inbound> {
    let ports = sidecar.ingress.iter().map(|ingress| {
        let port = ingress.port.number;
        let to = match ingress.endpoint() {
            None => endpoint::Address::new(LOOPBACK, port),
            Some(DefaultEndpoint::Unix(path)) => endpoint::Address::new(&path, port),
            Some(DefaultEndpoint::Local(to)) => {
                endpoint::Address::new(&to.ip().to_string(), to.port())
            }
            Some(DefaultEndpoint::Workload(to)) => {
                endpoint::Address::new(workload.address.as_deref().unwrap_or_default(), to)
            }
        };
        (
            port,
            Inbound {
                bind: ingress.bind.clone(),
                protocol: Protocol::of(&ingress.port),
                to,
                pool: ingress
                    .connection_pool
                    .clone()
                    .or_else(|| sidecar.inbound_connection_pool.clone()),
            },
        )
    });
    ports.collect()
}

/// Whether the proxy can listen there: on an address of this host, and not where the workload itself listens.
fn bindable(address: &str, port: u16, inbound: &Inbound) -> Result<(), String> {
    if address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!(
            "spec.address {address:?} is no IP address, so the sidecar cannot listen on it; give the workload an address, or a Sidecar with ingress.bind"
        ));
    }
    if inbound.to == endpoint::Address::new(address, port) {
        return Err(format!(
            "spec.address {address}: the sidecar would listen where the workload does, on port {port}; give the workload another address (127.0.0.0/8 has many), or a Sidecar with ingress"
        ));
    }
    Ok(())
}

/// What a connection to a port goes through.
fn filters(
    port: u16,
    inbound: &Inbound,
    identified: bool,
    security: &Security,
    view: &mut View<'_, '_>,
) -> Vec<Filter> {
    let cluster = names::inbound(port);
    if !inbound.protocol.is_http() {
        let proxy = tcp::to_cluster(&cluster, settings::connections(view));
        return security.before(listener::tcp_filter(&proxy));
    }
    let host = pb::VirtualHost {
        name: format!("inbound|http|{port}"),
        domains: vec!["*".into()],
        routes: vec![route::inbound_route(&cluster, format!("inbound:{port}/*"))],
        ..Default::default()
    };
    let config = pb::RouteConfiguration {
        name: cluster.clone(),
        virtual_hosts: vec![host],
        validate_clusters: pb::bool_value(false),
        ..Default::default()
    };
    let prefix = format!("inbound_{port}");
    let http = Http::inbound(&prefix, Routes::Inline(Box::new(config)), security, view);
    vec![http_filter(Http { identified, ..http })]
}

/// One listener for all ports. What nobody names goes through in the mode of the workload, so that no port is open to
/// plaintext where the policy says `STRICT`.
fn virtual_inbound(
    ports: &BTreeMap<u16, Inbound>,
    transport: &Transport,
    security: &Security,
    view: &mut View<'_, '_>,
) -> Listener {
    let original = listener::listener_filter(
        "envoy.filters.listener.original_dst",
        pb::any(&OriginalDst::default()),
    );
    let mut filter_chains = vec![listener::trap(VIRTUAL_INBOUND_PORT)];
    for (port, inbound) in ports {
        let transport = transport.of(Some(*port));
        let filters = filters(*port, inbound, transport.is_some(), security, view);
        let http = inbound.protocol.is_http();
        filter_chains.extend(chains::of(Some(*port), &filters, http, transport));
    }
    let other = tcp::to_cluster(names::INBOUND_PASSTHROUGH, settings::connections(view));
    let other = security.before(listener::tcp_filter(&other));
    let mut default_filter_chain = None;
    if transport.identities.is_some() {
        let named = transport.modes.ports.keys();
        let named = named.filter(|port| !ports.contains_key(port)).copied();
        for port in named.map(Some).chain([None]) {
            filter_chains.extend(chains::of(port, &other, false, transport.of(port)));
        }
    } else {
        // Never beside ports that are STRICT: it would take what their chains refuse.
        default_filter_chain = Some(listener::chain_through(other));
    }
    chains::inspected(Listener {
        listener_filters: vec![original],
        filter_chains,
        default_filter_chain,
        ..listener::listener(
            "virtualInbound",
            ANY,
            VIRTUAL_INBOUND_PORT,
            pb::TrafficDirection::Inbound,
        )
    })
}
