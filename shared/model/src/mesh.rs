//! The whole mesh, indexed: every resource, who lists whom, which workloads live. Persistent, so a copy is cheap and a
//! preview of a change is a changed copy.
//!
//! Changes go in through [`Mesh::apply`], which costs the change and reports the [`Fact`]s it changed. Reads go through a
//! [`View`], which notes the facts that were read; whoever computes from a view therefore knows when to compute again.
//!
//! *Invariant:* nothing of the mesh can be read without a [`View`], apart from the list of hosts.

mod age;
mod exports;
mod fact;
pub mod host;
mod hosts;
mod index;
mod labels;
mod listings;
mod service;
mod view;
mod workloads;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

pub use age::Age;
pub use exports::Exports;
pub use fact::{Fact, Record};
pub use labels::selects;
pub use service::Service;
pub use view::{Endpoint, Listed, View};
pub use workloads::{SERVICE_ACCOUNT, workload_labels};

use crate::{Key, Kind, Resource, Revision};
use hosts::Hosts;
use index::Index;
use workloads::Workloads;

/// One change to the mesh.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A resource was created or replaced.
    Put(Arc<Resource>),
    /// A resource was deleted.
    Delete(Key),
    /// A workload's heartbeats stopped, or returned.
    Liveness {
        /// The workload's namespace.
        namespace: Arc<str>,
        /// The workload's name.
        name: Arc<str>,
        /// Whether it lives.
        up: bool,
    },
    /// The proxy of a workload acknowledged a configuration that takes mutual TLS on these ports of the workload itself, and
    /// on no others. Clients follow this, never bare policy.
    Mtls {
        /// The workload's namespace.
        namespace: Arc<str>,
        /// The workload's name.
        name: Arc<str>,
        /// The ports.
        ports: BTreeSet<u16>,
    },
}

/// All resources, indexed.
#[derive(Clone, Debug)]
pub struct Mesh {
    domain: Arc<str>,
    root: Arc<str>,
    resources: OrdMap<Key, Arc<Resource>>,
    down: OrdSet<Key>,
    mtls: OrdMap<Key, Arc<BTreeSet<u16>>>,
    index: Index,
    hosts: Hosts,
    workloads: Workloads,
}

impl Mesh {
    /// An empty mesh of this domain (`svc.cluster.local`), with this root namespace (`istio-system`).
    pub fn new(domain: impl Into<Arc<str>>, root: impl Into<Arc<str>>) -> Self {
        Self {
            domain: domain.into(),
            root: root.into(),
            resources: OrdMap::new(),
            down: OrdSet::new(),
            mtls: OrdMap::new(),
            index: Index::default(),
            hosts: Hosts::default(),
            workloads: Workloads::default(),
        }
    }

    /// The domain that completes short hosts.
    pub fn domain(&self) -> &Arc<str> {
        &self.domain
    }

    /// The namespace whose policies hold everywhere.
    pub fn root_namespace(&self) -> &Arc<str> {
        &self.root
    }

    /// Reads, noting what is read.
    pub fn view<'m, 'r>(&'m self, record: &'r mut dyn Record) -> View<'m, 'r> {
        View::new(self, record)
    }

    /// Every host that a service or a VirtualService of the mesh names. Not a fact: who goes through all hosts must look at
    /// each again when [`Fact::Service`] or [`Fact::MeshRoutes`] of it changes.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<str>> {
        self.hosts.iter()
    }

    /// Every resource, by key. Not a fact: for copying and listing.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// The resources of a kind in a namespace, by name. Not a fact: for analysing and listing.
    pub fn resources_of(
        &self,
        kind: Kind,
        namespace: &Arc<str>,
    ) -> impl Iterator<Item = &Arc<Resource>> + use<'_> {
        let (first, namespace) = (Key::new(kind, namespace.clone(), ""), namespace.clone());
        self.resources
            .range(first..)
            .take_while(move |(key, _)| key.kind == kind && key.namespace == namespace)
            .map(|(_, resource)| resource)
    }

    /// A resource. Not a fact: for analysing.
    pub fn resource(&self, key: &Key) -> Option<&Arc<Resource>> {
        self.resources.get(key)
    }

    /// Whether a resource exists. Not a fact: for telling who made what.
    pub fn has(&self, key: &Key) -> bool {
        self.resources.contains_key(key)
    }

    /// When a resource was written last. Not a fact: for telling who made what.
    pub fn written(&self, key: &Key) -> Option<Revision> {
        self.resources
            .get(key)?
            .metadata
            .resource_version
            .as_ref()?
            .parse()
            .ok()
            .map(Revision)
    }

    /// Applies a change and reports the facts that changed.
    pub fn apply(&mut self, change: Change) -> BTreeSet<Fact> {
        match change {
            Change::Put(resource) => {
                let key = resource.key();
                let before = self.resources.insert(key.clone(), resource.clone());
                self.replaced(&key, before.as_deref(), Some(&resource))
            }
            Change::Delete(key) => {
                let before = self.resources.remove(&key);
                self.replaced(&key, before.as_deref(), None)
            }
            Change::Liveness {
                namespace,
                name,
                up,
            } => self.set_liveness(&Key::new(Kind::WorkloadEntry, namespace, name), up),
            Change::Mtls {
                namespace,
                name,
                ports,
            } => self.set_mtls(&Key::new(Kind::WorkloadEntry, namespace, name), ports),
        }
    }

    fn set_liveness(&mut self, key: &Key, up: bool) -> BTreeSet<Fact> {
        let turned = if up {
            self.down.remove(key).is_some()
        } else {
            self.down.insert(key.clone()).is_none()
        };
        self.endpoints_changed(key, turned)
    }

    fn set_mtls(&mut self, key: &Key, ports: BTreeSet<u16>) -> BTreeSet<Fact> {
        let before = self.mtls.get(key);
        let turned = before.map_or(!ports.is_empty(), |before| **before != ports);
        if ports.is_empty() {
            self.mtls.remove(key);
        } else {
            self.mtls.insert(key.clone(), Arc::new(ports));
        }
        self.endpoints_changed(key, turned)
    }

    /// What changes for the services that select a workload of which something turned that is not in its resource.
    fn endpoints_changed(&self, key: &Key, turned: bool) -> BTreeSet<Fact> {
        match self.resources.get(key) {
            Some(resource) if turned => self
                .endpoint_facts(key, &workload_labels(resource))
                .collect(),
            _ => BTreeSet::new(),
        }
    }

    fn replaced(
        &mut self,
        key: &Key,
        before: Option<&Resource>,
        after: Option<&Resource>,
    ) -> BTreeSet<Fact> {
        if before
            .zip(after)
            .is_some_and(|(before, after)| means_the_same(before, after))
        {
            return BTreeSet::new();
        }
        let listed = |resource: &Resource| {
            (
                Age::new(key.kind, &resource.metadata),
                listings::of(resource, &self.domain),
            )
        };
        let (old, new) = (before.map(listed), after.map(listed));
        let old_list = old.as_ref().map(|(age, list)| (age, list));
        let new_list = new.as_ref().map(|(age, list)| (age, list));
        let mut changed = self.index.replace(old_list, new_list);
        self.update_hosts(&changed);
        changed.extend(self.beneath_wildcards(&changed));
        if before.is_some() || after.is_some() {
            changed.insert(Fact::Resource(key.clone()));
        }
        match key.kind {
            Kind::ServiceEntry => changed.extend(self.service_replaced(key, before, after)),
            Kind::WorkloadEntry => changed.extend(self.workload_replaced(key, before, after)),
            _ => {}
        }
        changed
    }

    /// Keeps the list of hosts in step with what is listed under them.
    fn update_hosts(&mut self, changed: &BTreeSet<Fact>) {
        for fact in changed {
            if let Fact::Service(host) | Fact::MeshRoutes(host) = fact {
                let used = self.index.any(&Fact::Service(host.clone()))
                    || self.index.any(&Fact::MeshRoutes(host.clone()));
                if used {
                    self.hosts.insert(host)
                } else {
                    self.hosts.remove(host)
                }
            }
        }
    }

    /// What is listed under a wildcard holds for the hosts it covers, so their facts change with it.
    fn beneath_wildcards(&self, changed: &BTreeSet<Fact>) -> Vec<Fact> {
        let mut beneath = Vec::new();
        for fact in changed {
            match fact {
                Fact::Rules(namespace, host) if host.starts_with('*') => {
                    beneath.extend(
                        self.hosts
                            .covered(host)
                            .map(|h| Fact::Rules(namespace.clone(), h.clone())),
                    );
                }
                Fact::MeshRoutes(host) if host.starts_with('*') => {
                    beneath.extend(
                        self.hosts
                            .covered(host)
                            .map(|h| Fact::MeshRoutes(h.clone())),
                    );
                }
                _ => {}
            }
        }
        beneath
    }
}

/// Whether two versions of a resource differ only in what no proxy can tell: revisions and generations.
fn means_the_same(a: &Resource, b: &Resource) -> bool {
    let (x, y) = (&a.metadata, &b.metadata);
    a.spec == b.spec
        && x.labels == y.labels
        && x.annotations == y.annotations
        && x.creation_timestamp == y.creation_timestamp
}
