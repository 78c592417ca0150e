//! What arrives at a sidecar's own workload.
//!
//! Explicit: a listener on the workload's address and each port that a service leads to, or what a Sidecar's `ingress` says.
//! Transparent: one listener that tells the ports apart.
//!
//! *Invariant:* everything here leads to the workload itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Spec;
use model::mesh::View;
use model::spec::{ConnectionPoolSettings, DefaultEndpoint, Sidecar, TrafficPolicy, WorkloadEntry};
use xds::Resource;
use xds::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;

use crate::class::{self, Class};
use crate::listener::{self, FilterChain, FilterChainMatch, Http, Listener, Routes, http_filter};
use crate::part::{Part, Report};
use crate::port::Protocol;
use crate::security::{self, Security};
use crate::sidecar::{ANY, LOOPBACK};
use crate::translate::{cluster, endpoint, names, pb, route, tcp};
use crate::unit::{Reading, Unit, Value};
use crate::{Interception, Proxy, Role, outbound, settings};

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

/// What arrives at the workload of a proxy. Nothing arrives at gateways this way.
pub(crate) fn own(proxy: &Arc<Proxy>, read: &mut Reading<'_>) -> Part {
    let mut part = Part::default();
    let Value::Class(class) = read.demand(Unit::Class(proxy.clone())) else {
        unreachable!("a class is computed for a proxy")
    };
    let mut view = read.view();
    let workload = view
        .workload(&proxy.namespace, &proxy.workload)
        .and_then(|resource| match &resource.spec {
            Spec::WorkloadEntry(entry) => Some((resource.key(), entry)),
            _ => None,
        });
    let Some((key, workload)) = workload.filter(|_| proxy.role == Role::Sidecar) else {
        return part;
    };
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
            &ports, &security, &mut view,
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
        part.resources.push(Resource::new(&Listener {
            filter_chains: vec![chain(*port, inbound, &security, &mut view)],
            ..listener::listener(&name, address, *port, pb::TrafficDirection::Inbound)
        }));
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
            let at = outbound::workload_port(workload, port);
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

fn chain(
    port: u16,
    inbound: &Inbound,
    security: &Security,
    view: &mut View<'_, '_>,
) -> FilterChain {
    let cluster = names::inbound(port);
    if !inbound.protocol.is_http() {
        let proxy = tcp::to_cluster(&cluster, tcp::Connections::default());
        return listener::chain_behind(&security.network, listener::tcp_filter(&proxy));
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
    listener::chain_of(http_filter(Http::inbound(
        &prefix,
        Routes::Inline(Box::new(config)),
        security,
        view,
    )))
}

fn virtual_inbound(
    ports: &BTreeMap<u16, Inbound>,
    security: &Security,
    view: &mut View<'_, '_>,
) -> Listener {
    let original = listener::listener_filter(
        "envoy.filters.listener.original_dst",
        pb::any(&OriginalDst::default()),
    );
    let trap = listener::trap(VIRTUAL_INBOUND_PORT);
    let chains = ports.iter().map(|(port, inbound)| FilterChain {
        filter_chain_match: Some(FilterChainMatch {
            destination_port: pb::u32_value((*port).into()),
            ..Default::default()
        }),
        ..chain(*port, inbound, security, view)
    });
    let other = tcp::to_cluster(names::INBOUND_PASSTHROUGH, tcp::Connections::default());
    Listener {
        listener_filters: vec![original],
        filter_chains: std::iter::once(trap).chain(chains).collect(),
        default_filter_chain: Some(listener::chain_behind(
            &security.network,
            listener::tcp_filter(&other),
        )),
        ..listener::listener(
            "virtualInbound",
            ANY,
            VIRTUAL_INBOUND_PORT,
            pb::TrafficDirection::Inbound,
        )
    }
}
