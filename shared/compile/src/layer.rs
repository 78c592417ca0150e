//! A layer of a snapshot as the sum of what its owners contribute: replacing one owner's parts costs those parts, and the
//! joining of the resources that several owners contribute to.
//!
//! *Invariant:* the layer is a function of the parts it holds, never of the order in which they came.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Key, Revision};
use xds::{Resource, ResourceType, Snapshot};

use crate::listener::{self, ListenerPiece};
use crate::part::{Part, Parts, Report};
use crate::route_config::Shell;

/// Who contributes parts to a layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Owner {
    /// The class or the proxy itself.
    Fixed,
    /// A host of the mesh.
    Host(Arc<str>),
    /// A domain of a gateway.
    Domain(Arc<str>),
}

/// A layer.
#[derive(Clone, Default)]
pub(crate) struct Layer {
    snapshot: Snapshot,
    held: BTreeMap<Owner, Parts>,
    virtual_hosts: BTreeMap<Arc<str>, BTreeMap<Owner, Vec<Resource>>>,
    listeners: BTreeMap<Arc<str>, BTreeMap<Owner, Vec<ListenerPiece>>>,
    reports: BTreeMap<Report, usize>,
    dirty: BTreeSet<(ResourceType, Arc<str>)>,
    changed: u64,
}

impl Layer {
    /// The layer as a snapshot, as of the last [`Layer::finish`].
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What people should know.
    pub(crate) fn reports(&self) -> impl Iterator<Item = &Report> {
        self.reports.keys()
    }

    /// The owners that contribute something.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.held.keys()
    }

    /// The resources that people wrote and a resource was made from.
    pub(crate) fn sources(&self, ty: ResourceType, name: &str) -> BTreeSet<Key> {
        let parts = self.held.values().flat_map(|parts| parts.iter());
        parts
            .filter(|part| part.makes(ty, name))
            .flat_map(|part| part.sources.iter().cloned())
            .collect()
    }

    /// Puts parts in the place of those an owner contributed before.
    #[allow(clippy::needless_pass_by_value, reason = "callers hand it over")]
    pub(crate) fn set(&mut self, owner: &Owner, parts: Parts) {
        let before = match parts.is_empty() {
            true => self.held.remove(owner),
            false => self.held.insert(owner.clone(), parts.clone()),
        };
        let old = before.unwrap_or_else(|| Arc::from([]));
        let gone = old.iter().filter(|part| !holds(&parts, part));
        let come = parts.iter().filter(|part| !holds(&old, part));
        let mut kept: BTreeSet<(ResourceType, &Arc<str>)> = BTreeSet::new();
        for part in come.clone() {
            kept.extend(
                part.resources
                    .iter()
                    .map(|resource| (resource.ty(), resource.name())),
            );
        }
        for part in gone {
            for resource in &part.resources {
                if !kept.contains(&(resource.ty(), resource.name())) {
                    self.remove(resource.ty(), resource.name());
                }
            }
            self.touch(part);
            for report in &part.reports {
                release(&mut self.reports, report);
            }
        }
        for part in come {
            for resource in &part.resources {
                self.insert(resource.clone());
            }
            self.touch(part);
            for report in &part.reports {
                *self.reports.entry(report.clone()).or_default() += 1;
            }
        }
        self.set_pieces(owner, &old, &parts);
    }

    /// Joins what is contributed to by several, where something changed. Returns how many resources changed since the last
    /// call; if any, the snapshot is now of this revision.
    pub(crate) fn finish(&mut self, shell: &Shell, revision: Revision) -> u64 {
        for (ty, name) in std::mem::take(&mut self.dirty) {
            let joined = match ty {
                ResourceType::Route => {
                    let pieces = self.virtual_hosts.get(&name);
                    let pieces: Vec<_> = pieces
                        .into_iter()
                        .flat_map(BTreeMap::values)
                        .flatten()
                        .collect();
                    shell.join(&name, &pieces)
                }
                _ => {
                    let pieces = self.listeners.get(&name);
                    let pieces: Vec<_> = pieces
                        .into_iter()
                        .flat_map(BTreeMap::values)
                        .flatten()
                        .collect();
                    listener::join(&name, &pieces).map(|listener| Resource::new(&listener))
                }
            };
            match joined {
                Some(resource) => self.insert(resource),
                None => self.remove(ty, &name),
            }
        }
        if self.changed > 0 {
            self.snapshot.set_revision(revision.0);
        }
        std::mem::take(&mut self.changed)
    }

    /// Marks every joined resource for joining again: what they are joined with has changed.
    pub(crate) fn touch_all(&mut self) {
        self.dirty.extend(
            self.virtual_hosts
                .keys()
                .map(|name| (ResourceType::Route, name.clone())),
        );
        self.dirty.extend(
            self.listeners
                .keys()
                .map(|name| (ResourceType::Listener, name.clone())),
        );
    }

    fn touch(&mut self, part: &Part) {
        self.dirty.extend(
            part.virtual_hosts
                .iter()
                .map(|(name, _)| (ResourceType::Route, name.clone())),
        );
        self.dirty.extend(
            part.listeners
                .iter()
                .map(|(name, _)| (ResourceType::Listener, name.clone())),
        );
    }

    fn set_pieces(&mut self, owner: &Owner, old: &Parts, new: &Parts) {
        for part in old.iter() {
            part.virtual_hosts
                .iter()
                .for_each(|(name, _)| take(&mut self.virtual_hosts, name, owner));
            part.listeners
                .iter()
                .for_each(|(name, _)| take(&mut self.listeners, name, owner));
        }
        for part in new.iter() {
            for (name, piece) in &part.virtual_hosts {
                let pieces = self.virtual_hosts.entry(name.clone()).or_default();
                pieces.entry(owner.clone()).or_default().push(piece.clone());
            }
            for (name, piece) in &part.listeners {
                let pieces = self.listeners.entry(name.clone()).or_default();
                pieces.entry(owner.clone()).or_default().push(piece.clone());
            }
        }
    }

    fn insert(&mut self, resource: Resource) {
        if self.snapshot.get(resource.ty(), resource.name()) != Some(&resource) {
            self.changed += 1;
            self.snapshot.insert(resource);
        }
    }

    fn remove(&mut self, ty: ResourceType, name: &str) {
        if self.snapshot.get(ty, name).is_some() {
            self.changed += 1;
            self.snapshot.remove(ty, name);
        }
    }
}

fn holds(parts: &Parts, part: &Arc<Part>) -> bool {
    parts
        .iter()
        .any(|other| Arc::ptr_eq(other, part) || other == part)
}

fn release(reports: &mut BTreeMap<Report, usize>, report: &Report) {
    if let Some(count) = reports.get_mut(report) {
        *count -= 1;
        if *count == 0 {
            reports.remove(report);
        }
    }
}

fn take<T>(
    slots: &mut BTreeMap<Arc<str>, BTreeMap<Owner, Vec<T>>>,
    name: &Arc<str>,
    owner: &Owner,
) {
    if let Some(pieces) = slots.get_mut(name) {
        pieces.remove(owner);
        if pieces.is_empty() {
            slots.remove(name);
        }
    }
}
