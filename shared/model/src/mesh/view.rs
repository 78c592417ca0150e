//! Reading the mesh: every method notes the facts its answer rests on.
//!
//! What an answer *contains* may need further facts: a list of keys says who is listed, and [`View::resource`] of each says
//! what it is, so a change inside one of them is not a change of the list.
//!
//! *Invariant:* no method returns anything that can change without a fact it noted changing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::host::covering;
use super::index::Entry;
use super::{Age, Fact, Mesh, Record, Service, host, selects, workload_labels, workloads};
use crate::spec::{MeshConfig, WorkloadEntry};
use crate::{Key, Kind, Resource, Spec, mtls};

/// A window on a [`Mesh`] that notes what is read through it.
pub struct View<'m, 'r> {
    mesh: &'m Mesh,
    record: &'r mut dyn Record,
}

/// A resource in a list, and the host it is listed under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which resource.
    pub key: Key,
    /// The host, perhaps a wildcard, that it names.
    pub host: Arc<str>,
}

/// Something that a service's traffic goes to: a workload, or an endpoint written into the ServiceEntry.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint<'m> {
    /// Address, ports, weight, locality, network.
    pub spec: &'m WorkloadEntry,
    /// Its labels, of metadata and spec together.
    pub labels: BTreeMap<String, String>,
    /// The WorkloadEntry; `None` for an endpoint written into the ServiceEntry.
    pub workload: Option<Key>,
    /// The ports on which its proxy takes mutual TLS.
    mtls: Option<&'m BTreeSet<u16>>,
}

impl Endpoint<'_> {
    /// Whether its proxy takes mutual TLS on a port.
    pub fn takes_mtls(&self, port: u16) -> bool {
        self.mtls.is_some_and(|ports| ports.contains(&port))
    }
}

impl<'m, 'r> View<'m, 'r> {
    pub(super) fn new(mesh: &'m Mesh, record: &'r mut dyn Record) -> Self {
        Self { mesh, record }
    }

    /// The domain that completes short hosts.
    pub fn domain(&self) -> &'m str {
        &self.mesh.domain
    }

    /// The namespace whose policies hold everywhere.
    pub fn root_namespace(&self) -> &'m Arc<str> {
        &self.mesh.root
    }

    /// A resource, by key.
    pub fn resource(&mut self, key: &Key) -> Option<&'m Arc<Resource>> {
        self.record.record(Fact::Resource(key.clone()));
        self.mesh.resources.get(key)
    }

    /// A WorkloadEntry.
    pub fn workload(&mut self, namespace: &Arc<str>, name: &Arc<str>) -> Option<&'m Arc<Resource>> {
        self.resource(&Key::new(
            Kind::WorkloadEntry,
            namespace.clone(),
            name.clone(),
        ))
    }

    /// Every service of a host, the oldest first, whoever may see it.
    pub fn services(&mut self, host: &str) -> impl Iterator<Item = &'m Arc<Service>> + use<'m> {
        let entries = self.list(Fact::Service(host.into()));
        entries.filter_map(|(_, entry)| match entry {
            Entry::Service(service) => Some(service),
            _ => None,
        })
    }

    /// The service that a host means for proxies of a namespace: of those they see the one of their own namespace, else the
    /// oldest.
    pub fn service(&mut self, namespace: &str, host: &str) -> Option<&'m Arc<Service>> {
        let default = self
            .mesh_config()
            .map(|config| config.default_service_export_to.as_slice())
            .unwrap_or_default();
        let seen = |service: &&Arc<Service>| {
            service
                .exports
                .reach(namespace, service.namespace(), default)
        };
        let mut visible = self.services(host).filter(seen).peekable();
        let oldest = visible.peek().copied();
        visible
            .find(|service| **service.namespace() == *namespace)
            .or(oldest)
    }

    /// The service of a host that a ServiceEntry declares.
    pub fn service_of_entry(&mut self, entry: &Key, host: &str) -> Option<&'m Arc<Service>> {
        self.services(host).find(|service| service.entry == *entry)
    }

    /// What traffic to a service goes to: its live workloads by name, or its own endpoints in their order.
    pub fn endpoints(&mut self, service: &Service) -> Vec<Endpoint<'m>> {
        self.record.record(Fact::Endpoints(service.host.clone()));
        let mesh = self.mesh;
        let Some(Spec::ServiceEntry(entry)) = mesh
            .resources
            .get(&service.entry)
            .map(|resource| &resource.spec)
        else {
            return Vec::new();
        };
        let own = entry.endpoints.iter().map(|spec| Endpoint {
            spec,
            labels: spec.labels.clone(),
            workload: None,
            mtls: None,
        });
        let selected = self
            .workloads(service)
            .filter_map(|resource| match &resource.spec {
                Spec::WorkloadEntry(spec) => Some(Endpoint {
                    spec,
                    labels: workload_labels(resource),
                    workload: Some(resource.key()),
                    mtls: mesh.mtls.get(&resource.key()).map(|ports| &**ports),
                }),
                _ => None,
            });
        let alive = selected.filter(|endpoint| {
            endpoint
                .workload
                .as_ref()
                .is_none_or(|key| !mesh.down.contains(key))
        });
        own.chain(alive).collect()
    }

    /// The workloads that a service selects, alive or not, by name.
    pub fn workloads(
        &mut self,
        service: &Service,
    ) -> impl Iterator<Item = &'m Arc<Resource>> + use<'m> {
        self.record.record(Fact::Endpoints(service.host.clone()));
        let mesh = self.mesh;
        let entry = mesh.resources.get_key_value(&service.entry);
        let selected = entry.and_then(|(key, resource)| match &resource.spec {
            Spec::ServiceEntry(entry) => {
                Some(mesh.selected(&key.namespace, workloads::selector(entry)?))
            }
            _ => None,
        });
        selected.into_iter().flatten()
    }

    /// The service accounts of everything that traffic to a service goes to, alive or not.
    pub fn accounts(&mut self, service: &Service) -> BTreeSet<Arc<str>> {
        self.record.record(Fact::Endpoints(service.host.clone()));
        let mesh = self.mesh;
        let entry = mesh.resources.get(&service.entry);
        let Some(Spec::ServiceEntry(entry)) = entry.map(|resource| &resource.spec) else {
            return BTreeSet::new();
        };
        let named = |spec: &&WorkloadEntry| spec.service_account.is_some();
        let own = entry
            .endpoints
            .iter()
            .filter(named)
            .map(WorkloadEntry::account);
        let selected = self.workloads(service);
        let selected = selected.filter_map(|resource| match &resource.spec {
            Spec::WorkloadEntry(spec) => Some(spec.account()),
            _ => None,
        });
        own.chain(selected).map(Into::into).collect()
    }

    /// The services that select a workload, by host.
    pub fn services_of(&mut self, namespace: &Arc<str>, name: &Arc<str>) -> Vec<&'m Arc<Service>> {
        self.record
            .record(Fact::ServicesOf(namespace.clone(), name.clone()));
        let Some(resource) = self.workload(namespace, name) else {
            return Vec::new();
        };
        let labels = workload_labels(resource);
        let entries: Vec<(Key, Vec<String>)> = (self.mesh.selecting(namespace, &labels))
            .filter_map(|entry| match &entry.spec {
                Spec::ServiceEntry(spec) => Some((entry.key(), spec.hosts.clone())),
                _ => None,
            })
            .collect();
        let mut services: Vec<_> = entries
            .iter()
            .flat_map(|(key, hosts)| {
                hosts
                    .iter()
                    .map(move |host| (key, host.to_ascii_lowercase()))
            })
            .filter_map(|(key, host)| self.service_of_entry(key, &host))
            .collect();
        services.sort_by(|a, b| (&a.host, &a.entry).cmp(&(&b.host, &b.entry)));
        services
    }

    /// The DestinationRules that hold for calls to a service from a namespace, the oldest first: those of the caller's
    /// namespace (unless that is the root), else of the service's, else of the root; in each, of the most specific host.
    /// A rule with a selector holds for the workloads of its own namespace that it selects, and before those without.
    pub fn rules(
        &mut self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        service: &Service,
    ) -> Vec<Key> {
        let default = self
            .mesh_config()
            .map(|config| config.default_destination_rule_export_to.as_slice())
            .unwrap_or_default();
        let root = &*self.mesh.root;
        let own = (namespace != root).then_some(namespace);
        let mut tried = BTreeSet::new();
        let places = own.into_iter().chain([&**service.namespace(), root]);
        for place in places.filter(|place| tried.insert((*place).to_owned())) {
            self.record
                .record(Fact::Rules(place.into(), service.host.clone()));
            for host in covering(&service.host) {
                let fact = Fact::Rules(place.into(), host.into());
                let visible = exported(self.mesh.index.list(fact), namespace, default);
                let held = self.held(visible, namespace, labels);
                if !held.is_empty() {
                    return held;
                }
            }
        }
        Vec::new()
    }

    /// The DestinationRules of a namespace that name exactly this host (in full), the oldest first, whoever may see them and
    /// whomever they select.
    pub fn rules_of(&mut self, namespace: &Arc<str>, host: &str) -> Vec<Key> {
        let fact = Fact::Rules(namespace.clone(), host.into());
        self.list(fact).map(|(age, _)| age.key()).collect()
    }

    /// Whether a selector selects a workload of a namespace, alive or not. Only for analysing: no fact is noted.
    pub(crate) fn selects_some(
        &self,
        namespace: &Arc<str>,
        selector: &BTreeMap<String, String>,
    ) -> bool {
        self.mesh.selected(namespace, selector).next().is_some()
    }

    /// Of these rules those that hold for callers of a namespace with these labels, those with a selector first.
    fn held(
        &mut self,
        rules: Vec<Key>,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Vec<Key> {
        let (mut selecting, mut others) = (Vec::new(), Vec::new());
        for key in rules {
            let selector = match self.resource(&key).map(|resource| &resource.spec) {
                Some(Spec::DestinationRule(rule)) => rule.workload_selector.as_ref(),
                _ => None,
            };
            match selector {
                None => others.push(key),
                Some(selector)
                    if *key.namespace == *namespace && selects(&selector.labels, labels) =>
                {
                    selecting.push(key)
                }
                Some(_) => {}
            }
        }
        selecting.append(&mut others);
        selecting
    }

    /// The VirtualServices bound to the mesh that hold for a host, as seen from a namespace: those that name the most
    /// specific host first, of one host the oldest first. The first is in force, the others are not.
    pub fn mesh_routes(&mut self, namespace: &str, host: &str) -> Vec<Listed> {
        self.record.record(Fact::MeshRoutes(host.into()));
        let default = self.default_routes_export();
        let mut found = Vec::new();
        for host in covering(host) {
            let host: Arc<str> = host.into();
            let visible = exported(
                self.mesh.index.list(Fact::MeshRoutes(host.clone())),
                namespace,
                default,
            );
            found.extend(visible.into_iter().map(|key| Listed {
                key,
                host: host.clone(),
            }));
        }
        found
    }

    /// The VirtualServices of a namespace (`None`: of all) that are bound to the mesh, as seen from another.
    pub fn mesh_routes_in(&mut self, of: Option<&Arc<str>>, namespace: &str) -> Vec<Key> {
        let default = self.default_routes_export();
        exported(
            self.list(Fact::MeshRoutesIn(of.cloned())),
            namespace,
            default,
        )
    }

    /// The VirtualServices bound to a gateway (`namespace/name`) that name exactly this host, the oldest first, as seen
    /// from a namespace.
    pub fn gateway_routes(&mut self, gateway: &Arc<str>, host: &str, namespace: &str) -> Vec<Key> {
        let default = self.default_routes_export();
        exported(
            self.list(Fact::GatewayRoutes(gateway.clone(), host.into())),
            namespace,
            default,
        )
    }

    /// The hosts that VirtualServices bound to a gateway name.
    pub fn gateway_hosts(&mut self, gateway: &Arc<str>) -> BTreeSet<String> {
        words(self.list(Fact::GatewayHosts(gateway.clone())))
    }

    /// The keys of the callers' labels that any policy looks at.
    pub fn proxy_labels(&mut self) -> BTreeSet<String> {
        words(self.list(Fact::ProxyLabels))
    }

    /// The Gateways that select a workload with these labels, the oldest first.
    pub fn gateways(&mut self, labels: &BTreeMap<String, String>) -> Vec<Key> {
        selecting(self.list(Fact::Gateways), |selector| {
            selector.is_none_or(|selector| selects(selector, labels))
        })
    }

    /// The Sidecar of a workload: the oldest of its namespace that selects it, else the oldest there without a selector, else
    /// the root namespace's.
    pub fn sidecar(
        &mut self,
        namespace: &Arc<str>,
        labels: &BTreeMap<String, String>,
    ) -> Option<Key> {
        let root = self.mesh.root.clone();
        let mut own = selecting(self.list(Fact::Sidecars(namespace.clone())), |selector| {
            selector.is_some_and(|selector| selects(selector, labels))
        });
        own.extend(selecting(
            self.list(Fact::Sidecars(namespace.clone())),
            |selector| selector.is_none(),
        ));
        own.extend(selecting(self.list(Fact::Sidecars(root)), |selector| {
            selector.is_none()
        }));
        own.into_iter().next()
    }

    /// The WorkloadGroups of a namespace whose workloads a selector selects, the oldest first.
    pub fn workload_groups(
        &mut self,
        namespace: &Arc<str>,
        selector: &BTreeMap<String, String>,
    ) -> Vec<Key> {
        selecting(
            self.list(Fact::WorkloadGroups(namespace.clone())),
            |labels| labels.is_some_and(|labels| selects(selector, labels)),
        )
    }

    /// The MeshConfig: `default` of the root namespace.
    pub fn mesh_config(&mut self) -> Option<&'m MeshConfig> {
        let key = Key::new(Kind::MeshConfig, self.mesh.root.clone(), "default");
        match &self.resource(&key)?.spec {
            Spec::MeshConfig(config) => Some(config),
            _ => None,
        }
    }

    /// The RuntimeLayers that hold for a workload: those of the root namespace, then those of its own; of each those for every
    /// workload, then those that select it; of each the oldest first.
    pub fn runtime_layers(
        &mut self,
        namespace: &Arc<str>,
        labels: &BTreeMap<String, String>,
    ) -> Vec<Key> {
        self.in_force(Fact::RuntimeLayers, namespace, labels)
    }

    /// The AuthorizationPolicies that hold for a workload, in the order of [`View::runtime_layers`].
    pub fn authorization_policies(
        &mut self,
        namespace: &Arc<str>,
        labels: &BTreeMap<String, String>,
    ) -> Vec<Key> {
        self.in_force(Fact::AuthorizationPolicies, namespace, labels)
    }

    /// The RequestAuthentications that hold for a workload, in the order of [`View::runtime_layers`].
    pub fn request_authentications(
        &mut self,
        namespace: &Arc<str>,
        labels: &BTreeMap<String, String>,
    ) -> Vec<Key> {
        self.in_force(Fact::RequestAuthentications, namespace, labels)
    }

    fn in_force(
        &mut self,
        fact: impl Fn(Arc<str>) -> Fact,
        namespace: &Arc<str>,
        labels: &BTreeMap<String, String>,
    ) -> Vec<Key> {
        let root = self.mesh.root.clone();
        let mut keys = Vec::new();
        for place in [&root, namespace] {
            let fact = fact(place.clone());
            keys.extend(selecting(self.list(fact.clone()), |selector| {
                selector.is_none()
            }));
            keys.extend(selecting(self.list(fact), |selector| {
                selector.is_some_and(|selector| selects(selector, labels))
            }));
            if *namespace == root {
                break;
            }
        }
        keys
    }

    /// The PeerAuthentications that hold for a workload of a namespace with these labels, of each scope the oldest. One with
    /// a selector in the root namespace holds for nobody, as in Istio.
    pub fn peer_authentications(
        &mut self,
        namespace: &Arc<str>,
        labels: &BTreeMap<String, String>,
    ) -> mtls::Policies<'m> {
        let root = self.mesh.root.clone();
        let mesh = self.oldest_peer_authentication(&root, |selector| selector.is_none());
        if *namespace == root {
            return mtls::Policies {
                mesh,
                ..Default::default()
            };
        }
        mtls::Policies {
            mesh,
            namespace: self.oldest_peer_authentication(namespace, |selector| selector.is_none()),
            workload: self.oldest_peer_authentication(namespace, |selector| {
                selector.is_some_and(|selector| selects(selector, labels))
            }),
        }
    }

    fn oldest_peer_authentication(
        &mut self,
        namespace: &Arc<str>,
        matches: impl Fn(Option<&'m BTreeMap<String, String>>) -> bool,
    ) -> Option<mtls::Policy<'m>> {
        let list = self.list(Fact::PeerAuthentications(namespace.clone()));
        let key = selecting(list, matches).into_iter().next()?;
        match &self.resource(&key)?.spec {
            Spec::PeerAuthentication(policy) => Some((key, policy)),
            _ => None,
        }
    }

    /// Whether an address belongs to this ServiceEntry: of those that claim it, the oldest has it.
    pub fn owns_address(&mut self, entry: &Key, address: &str) -> bool {
        self.list(Fact::Address(address.into()))
            .next()
            .is_some_and(|(age, _)| age.key() == *entry)
    }

    /// The full name of a host as written in a policy of a namespace.
    pub fn full_host(&self, host: &str, namespace: &str) -> String {
        host::full_host(host, namespace, &self.mesh.domain)
    }

    fn default_routes_export(&mut self) -> &'m [String] {
        self.mesh_config()
            .map(|config| config.default_virtual_service_export_to.as_slice())
            .unwrap_or_default()
    }

    fn list(&mut self, fact: Fact) -> impl Iterator<Item = (&'m Age, &'m Entry)> + use<'m> {
        let mesh: &'m Mesh = self.mesh;
        self.record.record(fact.clone());
        mesh.index.list(fact)
    }
}

fn exported<'m>(
    list: impl Iterator<Item = (&'m Age, &'m Entry)>,
    namespace: &str,
    default: &[String],
) -> Vec<Key> {
    let keys = list.filter_map(|(age, entry)| match entry {
        Entry::Exported(exports) => Some((age.key(), exports)),
        _ => None,
    });
    keys.filter(|(key, exports)| exports.reach(namespace, &key.namespace, default))
        .map(|(key, _)| key)
        .collect()
}

fn words<'m>(list: impl Iterator<Item = (&'m Age, &'m Entry)>) -> BTreeSet<String> {
    let words = list.filter_map(|(_, entry)| match entry {
        Entry::Words(words) => Some(words),
        _ => None,
    });
    words.flatten().cloned().collect()
}

fn selecting<'m>(
    list: impl Iterator<Item = (&'m Age, &'m Entry)>,
    matches: impl Fn(Option<&'m BTreeMap<String, String>>) -> bool,
) -> Vec<Key> {
    let chosen = list.filter(
        |(_, entry)| matches!(entry, Entry::Selects(selector) if matches(selector.as_ref())),
    );
    chosen.map(|(age, _)| age.key()).collect()
}
