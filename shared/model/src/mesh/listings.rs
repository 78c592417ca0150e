//! Under which facts a resource is listed: the one place that says which references of a kind are looked up backwards.
//!
//! A new kind of resource that others look for by anything but its key gets an arm in [`of`].
//!
//! *Invariant:* a listing depends on the resource alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::host::full_host;
use super::index::{Entry, Listings};
use super::{Age, Exports, Fact, Service};
use crate::spec::{
    DestinationRule, Labels, PolicySelector, ServiceEntry, VirtualService, WorkloadSelector,
};
use crate::{Kind, Resource, Spec};

/// The gateway that stands for all sidecars.
pub(super) const MESH_GATEWAY: &str = "mesh";

/// The listings of a resource, in a mesh of this domain.
pub(super) fn of(resource: &Resource, domain: &str) -> Listings {
    let namespace: Arc<str> = resource.metadata.namespace.as_str().into();
    match &resource.spec {
        Spec::ServiceEntry(entry) => services(resource, entry),
        Spec::VirtualService(spec) => routes(spec, &namespace, domain),
        Spec::DestinationRule(spec) => rule(spec, namespace, domain),
        Spec::Gateway(spec) => one(Fact::Gateways, Entry::Selects(Some(spec.selector.clone()))),
        Spec::Sidecar(spec) => one(
            Fact::Sidecars(namespace),
            Entry::Selects(selector(spec.workload_selector.as_ref())),
        ),
        Spec::WorkloadGroup(spec) => {
            let labels = spec
                .metadata
                .as_ref()
                .map(|metadata| metadata.labels.clone())
                .unwrap_or_default();
            one(
                Fact::WorkloadGroups(namespace),
                Entry::Selects(Some(labels)),
            )
        }
        Spec::RuntimeLayer(spec) => one(
            Fact::RuntimeLayers(namespace),
            Entry::Selects(selector(spec.workload_selector.as_ref())),
        ),
        Spec::PeerAuthentication(spec) => one(
            Fact::PeerAuthentications(namespace),
            Entry::Selects(policy_selector(spec.selector.as_ref())),
        ),
        // What is meant for something else than workloads must not hold for all of them.
        Spec::AuthorizationPolicy(spec)
            if spec.target_ref.is_none() && spec.target_refs.is_empty() =>
        {
            one(
                Fact::AuthorizationPolicies(namespace),
                Entry::Selects(policy_selector(spec.selector.as_ref())),
            )
        }
        Spec::RequestAuthentication(spec)
            if spec.target_ref.is_none() && spec.target_refs.is_empty() =>
        {
            one(
                Fact::RequestAuthentications(namespace),
                Entry::Selects(policy_selector(spec.selector.as_ref())),
            )
        }
        Spec::AuthorizationPolicy(_) | Spec::RequestAuthentication(_) => Listings::new(),
        Spec::MeshConfig(_) | Spec::TlsSecret(_) | Spec::WorkloadEntry(_) => Listings::new(),
    }
}

/// What a selector selects by; `None` if it selects everything.
fn selector(selector: Option<&WorkloadSelector>) -> Option<Labels> {
    selector
        .map(|selector| selector.labels.clone())
        .filter(|labels| !labels.is_empty())
}

/// What the selector of a security policy selects by; `None` if it selects everything.
fn policy_selector(selector: Option<&PolicySelector>) -> Option<Labels> {
    selector
        .map(|selector| selector.match_labels.clone())
        .filter(|labels| !labels.is_empty())
}

fn one(fact: Fact, entry: Entry) -> Listings {
    Listings::from([(fact, entry)])
}

fn rule(spec: &DestinationRule, namespace: Arc<str>, domain: &str) -> Listings {
    let host = full_host(&spec.host, &namespace, domain);
    let exports = Exports::new(&spec.export_to, &namespace);
    let selected = spec
        .workload_selector
        .iter()
        .flat_map(|selector| selector.labels.keys().cloned());
    let policies = spec
        .subsets
        .iter()
        .map(|subset| &subset.traffic_policy)
        .chain([&spec.traffic_policy]);
    let balancers = policies
        .flatten()
        .filter_map(|policy| policy.load_balancer.as_ref()?.locality_lb_setting.as_ref());
    let labels: BTreeSet<String> = balancers
        .flat_map(|setting| setting.failover_priority.iter().cloned())
        .chain(selected)
        .collect();
    let mut listings = one(
        Fact::Rules(namespace, host.into()),
        Entry::Exported(exports),
    );
    if !labels.is_empty() {
        listings.insert(Fact::ProxyLabels, Entry::Words(labels));
    }
    listings
}

fn services(resource: &Resource, entry: &ServiceEntry) -> Listings {
    let spec = Arc::new(ServiceEntry {
        endpoints: Vec::new(),
        ..ServiceEntry::clone(entry)
    });
    let exports = Exports::new(&entry.export_to, &resource.metadata.namespace);
    let age = Age::new(Kind::ServiceEntry, &resource.metadata);
    let hosts = entry
        .hosts
        .iter()
        .map(|host| -> Arc<str> { host.to_ascii_lowercase().into() });
    let services = hosts.map(|host| {
        let service = Service {
            host: host.clone(),
            entry: resource.key(),
            spec: spec.clone(),
            exports: exports.clone(),
            age: age.clone(),
        };
        (Fact::Service(host), Entry::Service(Arc::new(service)))
    });
    let addresses = entry
        .addresses
        .iter()
        .map(|address| (Fact::Address(address.as_str().into()), Entry::There));
    services.chain(addresses).collect()
}

/// A gateway as VirtualServices name it, in full: `namespace/name`, or `mesh`.
pub(super) fn full_gateway(name: &str, namespace: &str) -> Arc<str> {
    if name == MESH_GATEWAY || name.contains('/') {
        name.into()
    } else {
        format!("{namespace}/{name}").into()
    }
}

fn routes(spec: &VirtualService, namespace: &Arc<str>, domain: &str) -> Listings {
    let exports = Exports::new(&spec.export_to, namespace);
    let hosts: Vec<Arc<str>> = spec
        .hosts
        .iter()
        .map(|host| full_host(host, namespace, domain).into())
        .collect();
    let mut listings = Listings::new();
    if hosts.is_empty() {
        return listings; // A delegate: found by its key.
    }
    let gateways: BTreeSet<Arc<str>> = match spec.gateways.as_slice() {
        [] => BTreeSet::from([MESH_GATEWAY.into()]),
        names => names
            .iter()
            .map(|name| full_gateway(name, namespace))
            .collect(),
    };
    for gateway in gateways {
        let mesh = &*gateway == MESH_GATEWAY;
        for host in &hosts {
            let fact = if mesh {
                Fact::MeshRoutes(host.clone())
            } else {
                Fact::GatewayRoutes(gateway.clone(), host.clone())
            };
            listings.insert(fact, Entry::Exported(exports.clone()));
        }
        if mesh {
            for of in [Some(namespace.clone()), None] {
                listings.insert(Fact::MeshRoutesIn(of), Entry::Exported(exports.clone()));
            }
        } else {
            let words = hosts.iter().map(|host| host.to_string()).collect();
            listings.insert(Fact::GatewayHosts(gateway), Entry::Words(words));
        }
    }
    let labels = source_labels(spec);
    if !labels.is_empty() {
        listings.insert(Fact::ProxyLabels, Entry::Words(labels));
    }
    listings
}

/// The keys of the callers' labels that the matches of a VirtualService look at.
fn source_labels(spec: &VirtualService) -> BTreeSet<String> {
    let http = spec
        .http
        .iter()
        .flat_map(|route| &route.matches)
        .map(|m| &m.source_labels);
    let tcp = spec
        .tcp
        .iter()
        .flat_map(|route| &route.matches)
        .map(|m| &m.source_labels);
    let tls = spec
        .tls
        .iter()
        .flat_map(|route| &route.matches)
        .map(|m| &m.source_labels);
    http.chain(tcp)
        .chain(tls)
        .flat_map(|labels| labels.keys().cloned())
        .collect()
}
