//! Calls to services: the clusters of a service and their endpoints.
//!
//! A service's clusters are the same for all callers for whom the same DestinationRules hold, so they are computed once for
//! all of them.
//!
//! *Invariant:* every EDS cluster made here has its endpoints in the same snapshot, perhaps none.

mod credentials;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::mesh::{Service, View, selects};
use model::spec::{Location, Port, ReadinessProbe, Resolution, TlsMode};
use model::{Key, Kind, Spec};
use xds::{Resource, ResourceType};

pub(crate) use rules::Rules;

use crate::identity::Identities;
use crate::part::{Part, Parts, Report};
use crate::port::Protocol;
use crate::settings;
use crate::translate::secrets::{NO_IDENTITIES, Uploaded};
use crate::translate::{cluster, endpoint, locality, mtls, names, pb, policy};
use crate::unit::{ClassId, Reading, Unit};
use crate::{Interception, Role};

use pb::string_matcher::MatchPattern::{Exact, Prefix};

/// A service as called by proxies that are alike to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// The ServiceEntry.
    pub(crate) entry: Key,
    /// The host.
    pub(crate) host: Arc<str>,
    /// The DestinationRules that hold, the oldest first.
    pub(crate) rules: Vec<Key>,
    /// The namespace whose TlsSecrets they may use, where a rule names any.
    pub(crate) credentials: Option<Arc<str>>,
    /// What a call leads to if the service has no resolution.
    pub(crate) unresolved: Unresolved,
    /// Where they are: `region/zone/subzone`.
    pub(crate) locality: String,
    /// Their labels, as far as policies look at them.
    pub(crate) labels: BTreeMap<String, String>,
}

/// What a call to a service with `resolution: NONE` leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unresolved {
    /// The address the connection was going to when it was intercepted. Of services with a resolution as well.
    Address,
    /// The service's endpoints, at gateways, as in Istio.
    Endpoints,
    /// The host that the request names: nothing was intercepted.
    Name,
}

/// A cluster of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cluster {
    /// The port of the service.
    pub(crate) port: u16,
    /// The subset, or nothing for all endpoints.
    pub(crate) subset: Arc<str>,
}

/// Everything of a host for a class: nothing if the class does not see it.
pub(crate) fn host(id: ClassId, host: &Arc<str>, read: &mut Reading<'_>) -> Parts {
    let class = read.class(id);
    let scope = read.scope(id);
    let mut parts = Vec::new();
    let service = read
        .view()
        .service(&class.namespace, host)
        .filter(|service| scope.imports(service));
    if let Some(service) = service {
        let target = Arc::new(target(service, id, read));
        let clusters = read.part(Unit::Clusters(target.clone()));
        let assignments = clusters
            .resources
            .iter()
            .flat_map(Resource::refs)
            .filter(|it| it.ty == ResourceType::Endpoint);
        let wanted: BTreeSet<Cluster> = assignments
            .filter_map(|it| Cluster::of_name(&it.name))
            .collect();
        parts.push(clusters);
        parts.extend(
            wanted
                .into_iter()
                .map(|cluster| read.part(Unit::Endpoints(target.clone(), cluster))),
        );
    }
    if class.role == Role::Sidecar {
        let rules = read.view().mesh_routes(&class.namespace, host);
        let routed = rules.iter().any(|rule| rule.host == *host);
        if routed || service.is_some() {
            parts.push(read.part(Unit::Routes(id, host.clone())));
        }
    }
    parts.into()
}

/// A service as a class calls it.
pub(crate) fn target(service: &Service, id: ClassId, read: &mut Reading<'_>) -> Target {
    let class = read.class(id);
    let rules = read.view().rules(&class.namespace, &class.labels, service);
    Target {
        entry: service.entry.clone(),
        host: service.host.clone(),
        credentials: credentials::of(&rules, &class, &mut read.view()),
        rules,
        unresolved: match (service.spec.resolution, class.role, class.interception) {
            (Resolution::None, Role::Gateway, _) => Unresolved::Endpoints,
            (Resolution::None, Role::Sidecar, Interception::Explicit) => Unresolved::Name,
            _ => Unresolved::Address,
        },
        locality: class.locality.clone(),
        labels: class.labels.clone(),
    }
}

impl Cluster {
    fn of_name(name: &str) -> Option<Self> {
        let mut parts = name.splitn(4, '|').skip(1);
        Some(Self {
            port: parts.next()?.parse().ok()?,
            subset: parts.next()?.into(),
        })
    }

    fn name(&self, host: &str) -> String {
        names::outbound(self.port, &self.subset, host)
    }
}

/// The clusters of a service: one per port, and one per port and subset.
pub(crate) fn clusters(target: &Target, read: &mut Reading<'_>) -> Part {
    let mut part = Part::default();
    let identities = read.identities();
    let accounts = identities.as_ref().map(|_| read.accounts(target));
    let mut view = read.view();
    let Some(service) = view.service_of_entry(&target.entry, &target.host) else {
        return part;
    };
    let names = identities
        .as_deref()
        .zip(accounts.as_deref())
        .map(|(identities, accounts)| (identities, peer_names(service, accounts, identities)));
    part.sources.insert(target.entry.clone());
    report_others(service, &mut view, &mut part);
    let rules = Rules::read(&target.rules, &mut view);
    part.reports.extend(rules.reports.iter().cloned());
    let defaults = settings::cluster_defaults(&mut view);
    let place = locality::Place::new(&target.locality);
    let caller = cluster::Caller {
        place: &place,
        labels: &target.labels,
    };
    let probe = probe(service, &mut view);
    for port in &service.spec.ports {
        if target.unresolved == Unresolved::Name && !by_name(port, target) {
            let message = format!(
                "spec.resolution: NONE leads where a connection was going before it was intercepted; with explicit \
                 interception nothing is, so connections to port {} find nobody: use STATIC or DNS",
                port.number
            );
            part.reports.insert(Report {
                key: target.entry.clone(),
                message,
            });
        }
        for (subset, labels) in rules.subsets_and_all() {
            let wanted = Cluster {
                port: port.number,
                subset: subset.into(),
            };
            let name = wanted.name(&target.host);
            let policy = rules.policy(subset, port.number);
            let endpoints = if by_eds(service, target) {
                Vec::new()
            } else {
                let mtls = identities.is_some() && in_mesh(service);
                of_subset(service, port, labels, None, mtls, &mut view)
            };
            let protocol = Protocol::of(port).of_cluster();
            let tls = policy
                .tls
                .as_ref()
                .is_some_and(|tls| tls.mode != TlsMode::Disable);
            let health_check = probe.as_ref().and_then(|(key, probe)| {
                let own = port.target_port.unwrap_or(port.number);
                let elsewhere = cluster::health::port(probe).is_some_and(|port| port != own);
                match cluster::health::health_check(probe, protocol, tls, &target.host) {
                    // What the proxy takes on the service's port says nothing of another one.
                    Ok(check) if elsewhere && identities.is_some() => {
                        Some(cluster::health::in_plaintext(check))
                    }
                    Ok(check) => Some(check),
                    Err(error) => {
                        part.reports.insert(Report {
                            key: key.clone(),
                            message: error.to_string(),
                        });
                        None
                    }
                }
            });
            let uploaded = identities.as_deref().zip(target.credentials.as_deref());
            let uploaded = uploaded.map(|(identities, namespace)| Uploaded {
                identities,
                namespace,
            });
            if let Some(tls) = &policy.tls {
                let files = cluster::tls::files(tls, &name, defaults.system_ca);
                part.resources.extend(files.iter().map(Resource::new));
                credentials::report(tls, uploaded.is_some(), target, &rules, &mut part);
                if tls.mode == TlsMode::IstioMutual && identities.is_none() {
                    part.reports.extend(rules.first.as_ref().map(|rule| Report {
                        key: rule.clone(),
                        message: format!("spec.trafficPolicy.tls.mode: ISTIO_MUTUAL is plaintext here: {NO_IDENTITIES}"),
                    }));
                }
            }
            let cluster = cluster::outbound(&cluster::Input {
                name: &name,
                discovery: discovery(service, port, target, &endpoints),
                protocol,
                policy: &policy,
                subject_alt_names: &service.spec.subject_alt_names,
                peers: names.as_ref().map(|(identities, names)| mtls::Peers {
                    identities,
                    names: names.clone(),
                    sni: names::outbound_sni(port.number, subset, &target.host),
                    automatic: in_mesh(service),
                }),
                uploaded,
                health_check,
                rule: rules
                    .first
                    .as_ref()
                    .map(|key| (&*key.namespace, &*key.name)),
                defaults,
                caller,
            });
            part.resources.push(Resource::new(&cluster));
        }
    }
    part
}

/// The endpoints of one cluster.
pub(crate) fn endpoints(target: &Target, cluster: &Cluster, read: &mut Reading<'_>) -> Part {
    let mut part = Part::default();
    let identities = read.has_identities();
    let mut view = read.view();
    let service = view.service_of_entry(&target.entry, &target.host);
    let port = service.and_then(|service| {
        service
            .spec
            .ports
            .iter()
            .find(|port| port.number == cluster.port)
    });
    let (Some(service), Some(port)) = (service, port) else {
        return part;
    };
    part.sources.insert(target.entry.clone());
    let rules = Rules::read(&target.rules, &mut view);
    let Some((_, labels)) = rules
        .subsets_and_all()
        .find(|(name, _)| **name == *cluster.subset)
    else {
        return part;
    };
    let defaults = settings::cluster_defaults(&mut view);
    let place = locality::Place::new(&target.locality);
    let policy = rules.policy(&cluster.subset, cluster.port);
    let check_port = probe(service, &mut view).and_then(|(_, probe)| cluster::health::port(probe));
    let caller = cluster::Caller {
        place: &place,
        labels: &target.labels,
    };
    let balance = cluster::balance(&policy, caller, defaults.locality);
    let mtls = identities && in_mesh(service);
    let endpoints = of_subset(service, port, labels, check_port, mtls, &mut view);
    let assignment = endpoint::load_assignment(&cluster.name(&target.host), &endpoints, &balance);
    part.resources.push(Resource::new(&assignment));
    part
}

/// The accounts of everything that a service's traffic goes to, alive or not.
pub(crate) fn accounts(
    entry: &Key,
    host: &Arc<str>,
    view: &mut View<'_, '_>,
) -> BTreeSet<Arc<str>> {
    view.service_of_entry(entry, host)
        .map(|service| view.accounts(service))
        .unwrap_or_default()
}

/// The names that the certificates of a service may have: the SPIFFE IDs of its own accounts and its `subjectAltNames`. While
/// nothing runs for it, any account of its namespace.
fn peer_names(
    service: &Service,
    accounts: &BTreeSet<Arc<str>>,
    identities: &Identities,
) -> Vec<pb::tls::SubjectAltNameMatcher> {
    let namespace = service.namespace();
    let own = accounts
        .iter()
        .map(|account| mtls::uri(Exact(identities.id(namespace, account))));
    let others = service.spec.subject_alt_names.iter();
    let names: Vec<_> = own
        .chain(others.map(|name| cluster::tls::subject_alt_name(name)))
        .collect();
    if names.is_empty() {
        return vec![mtls::uri(Prefix(identities.id(namespace, "")))];
    }
    names
}

/// Whether the proxies of a service's workloads are this mesh's.
fn in_mesh(service: &Service) -> bool {
    service.spec.location == Location::MeshInternal
}

/// Other services of the same host that no caller of this one can reach are told so.
fn report_others(service: &Service, view: &mut View<'_, '_>, part: &mut Part) {
    for other in view.services(&service.host) {
        if other.age > service.age
            && other.exports == service.exports
            && other.namespace() == service.namespace()
        {
            let message = format!(
                "spec.hosts: {} is declared by the older ServiceEntry {}/{}, which is in force; remove the host from one of them",
                service.host, service.entry.namespace, service.entry.name
            );
            part.reports.insert(Report {
                key: other.entry.clone(),
                message,
            });
        }
    }
}

fn by_eds(service: &Service, target: &Target) -> bool {
    match service.spec.resolution {
        Resolution::Static => true,
        Resolution::None => target.unresolved == Unresolved::Endpoints,
        Resolution::Dns | Resolution::DnsRoundRobin | Resolution::DynamicDns => false,
    }
}

/// Only requests name a host.
fn by_name(port: &Port, target: &Target) -> bool {
    target.unresolved == Unresolved::Name && Protocol::of(port).is_http()
}

fn discovery<'a>(
    service: &Service,
    port: &Port,
    target: &Target,
    endpoints: &'a [endpoint::Endpoint],
) -> cluster::Discovery<'a> {
    match service.spec.resolution {
        _ if by_eds(service, target) => cluster::Discovery::Eds,
        _ if by_name(port, target) => cluster::Discovery::Name,
        Resolution::Dns => cluster::Discovery::StrictDns(endpoints),
        Resolution::DnsRoundRobin => cluster::Discovery::LogicalDns(endpoints),
        Resolution::Static | Resolution::None | Resolution::DynamicDns => {
            cluster::Discovery::OriginalDst
        }
    }
}

/// The endpoints of a service port whose labels satisfy a subset's. A service found by DNS that names no endpoints is its own.
fn of_subset(
    service: &Service,
    port: &Port,
    labels: &BTreeMap<String, String>,
    health_check_port: Option<u16>,
    mtls: bool,
    view: &mut View<'_, '_>,
) -> Vec<endpoint::Endpoint> {
    let found = view.endpoints(service);
    let by_dns = matches!(
        service.spec.resolution,
        Resolution::Dns | Resolution::DnsRoundRobin
    );
    if by_dns && found.is_empty() && service.spec.workload_selector.is_none() {
        let number = port.target_port.unwrap_or(port.number);
        let address = endpoint::Address::new(&service.host, number);
        return vec![endpoint::Endpoint {
            address,
            ..Default::default()
        }];
    }
    let chosen = found
        .into_iter()
        .filter(|endpoint| selects(labels, &endpoint.labels));
    let endpoints = chosen.map(|endpoint| {
        let at = endpoint.spec.port(port);
        endpoint::Endpoint {
            place: locality::Place::new(endpoint.spec.locality.as_deref().unwrap_or_default()),
            address: endpoint::Address::new(
                endpoint.spec.address.as_deref().unwrap_or_default(),
                at,
            ),
            weight: endpoint.spec.weight.unwrap_or_default(),
            health_check_port: health_check_port.filter(|check| *check != at),
            mtls: mtls && endpoint.takes_mtls(at),
            labels: endpoint.labels,
            workload: endpoint
                .workload
                .map(|key| format!("{}/{}", key.namespace, key.name))
                .unwrap_or_default(),
        }
    });
    endpoints.collect()
}

/// The readiness probe of the workloads of a service, if they are of a WorkloadGroup that has one.
fn probe<'m>(service: &Service, view: &mut View<'m, '_>) -> Option<(Key, &'m ReadinessProbe)> {
    let selector = service.spec.workload_selector.as_ref()?;
    for key in view.workload_groups(service.namespace(), &selector.labels) {
        debug_assert_eq!(key.kind, Kind::WorkloadGroup);
        if let Some(Spec::WorkloadGroup(group)) = view.resource(&key).map(|resource| &resource.spec)
            && let Some(probe) = &group.probe
        {
            return Some((key, probe));
        }
    }
    None
}

/// A destination's upstream, as routes name it.
pub(crate) fn hash(policy: &model::spec::TrafficPolicy) -> Option<model::spec::ConsistentHashLb> {
    policy::consistent_hash(policy).cloned()
}

/// The clusters that lead nowhere and anywhere, which every proxy has.
pub(crate) fn special(
    role: Role,
    interception: Interception,
    view: &mut View<'_, '_>,
) -> Vec<pb::Cluster> {
    let defaults = settings::cluster_defaults(view);
    let mut clusters = vec![cluster::black_hole(names::BLACK_HOLE, defaults)];
    match (role, interception) {
        (Role::Sidecar, Interception::Transparent) => {
            clusters.push(cluster::passthrough(names::PASSTHROUGH, defaults))
        }
        (Role::Sidecar, Interception::Explicit) => {
            clusters.push(cluster::forward(names::FORWARD, defaults))
        }
        (Role::Gateway, _) => {}
    }
    clusters
}
