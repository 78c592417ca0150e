//! Which services select which workloads, in both directions.
//!
//! *Invariant:* a change of one workload or one selector looks only at names that share a label with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::labels::{LabelIndex, Labels};
use super::{Fact, Mesh, selects};
use crate::spec::ServiceEntry;
use crate::{Key, Kind, Resource, Spec};

/// Workloads by their labels; ServiceEntries by the first label of their selector.
#[derive(Clone, Debug, Default)]
pub(super) struct Workloads {
    workloads: LabelIndex,
    selectors: LabelIndex,
}

/// The label that every workload carries beside its own, so that whatever selects by labels selects by service account: it
/// names the account and cannot be set to anything else.
pub const SERVICE_ACCOUNT: &str = "weft.mesh/service-account";

/// The labels of a workload: those of the spec, overridden by those of the metadata, and its [`SERVICE_ACCOUNT`].
pub fn workload_labels(resource: &Resource) -> Labels {
    let Spec::WorkloadEntry(entry) = &resource.spec else {
        return resource.metadata.labels.clone();
    };
    let mut labels = entry.labels.clone();
    labels.extend(resource.metadata.labels.clone());
    labels.insert(SERVICE_ACCOUNT.into(), entry.account().into());
    labels
}

/// The selector of a service, if it has one that selects anything.
pub(super) fn selector(entry: &ServiceEntry) -> Option<&Labels> {
    entry
        .workload_selector
        .as_ref()
        .map(|selector| &selector.labels)
        .filter(|labels| !labels.is_empty())
}

fn service_entry(resource: &Resource) -> Option<&ServiceEntry> {
    match &resource.spec {
        Spec::ServiceEntry(entry) => Some(entry),
        _ => None,
    }
}

impl Mesh {
    /// The workloads of a namespace that a selector selects, by name.
    pub(super) fn selected<'a>(
        &'a self,
        namespace: &'a Arc<str>,
        selector: &'a Labels,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        let names = self.workloads.workloads.candidates(namespace, selector);
        names
            .filter_map(|name| {
                self.resources.get(&Key::new(
                    Kind::WorkloadEntry,
                    namespace.clone(),
                    name.clone(),
                ))
            })
            .filter(|workload| selects(selector, &workload_labels(workload)))
    }

    /// The ServiceEntries of a namespace whose selectors select these labels, by name.
    pub(super) fn selecting<'a>(
        &'a self,
        namespace: &'a Arc<str>,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        let lists = labels
            .iter()
            .flat_map(|(key, value)| self.workloads.selectors.names(namespace, key, value));
        let names: BTreeSet<&Arc<str>> = lists.collect();
        names
            .into_iter()
            .filter_map(|name| {
                self.resources.get(&Key::new(
                    Kind::ServiceEntry,
                    namespace.clone(),
                    name.clone(),
                ))
            })
            .filter(|entry| {
                service_entry(entry)
                    .and_then(selector)
                    .is_some_and(|selector| selects(selector, labels))
            })
    }

    /// That the endpoints changed of every service that selects a workload with these labels.
    pub(super) fn endpoint_facts<'a>(
        &'a self,
        workload: &'a Key,
        labels: &'a Labels,
    ) -> impl Iterator<Item = Fact> + 'a {
        self.selecting(&workload.namespace, labels)
            .flat_map(|entry| endpoints_of(entry))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// A workload was replaced: what changed for the services that select it.
    pub(super) fn workload_replaced(
        &mut self,
        key: &Key,
        before: Option<&Resource>,
        after: Option<&Resource>,
    ) -> BTreeSet<Fact> {
        let mut changed = BTreeSet::new();
        let (old, new) = (before.map(workload_labels), after.map(workload_labels));
        if old != new {
            if let Some(labels) = &old {
                self.workloads
                    .workloads
                    .remove(&key.namespace, labels, &key.name);
            }
            if let Some(labels) = &new {
                self.workloads
                    .workloads
                    .insert(&key.namespace, labels, &key.name);
            }
            changed.insert(Fact::ServicesOf(key.namespace.clone(), key.name.clone()));
        }
        for labels in [old, new].iter().flatten() {
            changed.extend(self.endpoint_facts(key, labels));
        }
        changed
    }

    /// A ServiceEntry was replaced: what changed for its endpoints and for the workloads it selects.
    pub(super) fn service_replaced(
        &mut self,
        key: &Key,
        before: Option<&Resource>,
        after: Option<&Resource>,
    ) -> BTreeSet<Fact> {
        let mut changed = BTreeSet::new();
        let (old, new) = (
            before.and_then(service_entry),
            after.and_then(service_entry),
        );
        let (old_selector, new_selector) = (old.and_then(selector), new.and_then(selector));
        if let Some(first) = old_selector.and_then(|labels| labels.iter().next()) {
            self.workloads
                .selectors
                .remove(&key.namespace, [first], &key.name);
        }
        if let Some(first) = new_selector.and_then(|labels| labels.iter().next()) {
            self.workloads
                .selectors
                .insert(&key.namespace, [first], &key.name);
        }
        let hosts_differ = old.map(|entry| &entry.hosts) != new.map(|entry| &entry.hosts);
        if old_selector != new_selector || hosts_differ {
            for selector in [old_selector, new_selector].into_iter().flatten() {
                let workloads = self.selected(&key.namespace, selector);
                changed.extend(workloads.map(|w| {
                    Fact::ServicesOf(key.namespace.clone(), w.metadata.name.as_str().into())
                }));
            }
        }
        let endpoints_differ =
            old.map(|entry| &entry.endpoints) != new.map(|entry| &entry.endpoints);
        if old_selector != new_selector || hosts_differ || endpoints_differ {
            changed.extend(before.into_iter().chain(after).flat_map(endpoints_of));
        }
        changed
    }
}

fn endpoints_of(entry: &Resource) -> Vec<Fact> {
    let hosts = service_entry(entry)
        .map(|entry| entry.hosts.as_slice())
        .unwrap_or_default();
    hosts
        .iter()
        .map(|host| Fact::Endpoints(host.to_ascii_lowercase().into()))
        .collect()
}
