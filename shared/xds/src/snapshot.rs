//! The resources of one node at one revision: persistent maps in two layers, one that nodes of a class share and one
//! of the node's own.
//!
//! *Invariant:* no operation here costs more than what it changes; nothing is copied that did not change.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::{Ref, Resource, ResourceType};

type Names = HashSet<Arc<str>>;

/// Resources of one type.
#[derive(Default)]
struct Layer {
    map: OrdMap<Arc<str>, Resource>,
    /// Sum of the digests: changes with the content, whatever the order it came about in.
    digest: u64,
    /// What these resources refer to, by type; found when first asked for.
    refs: OnceLock<[Names; ResourceType::COUNT]>,
}

impl Clone for Layer {
    fn clone(&self) -> Self {
        Self {
            map: self.map.clone(),
            digest: self.digest,
            refs: OnceLock::new(),
        }
    }
}

impl Layer {
    fn insert(&mut self, resource: Resource) {
        self.refs = OnceLock::new();
        self.digest = self.digest.wrapping_add(resource.digest());
        if let Some(old) = self.map.insert(resource.name().clone(), resource) {
            self.digest = self.digest.wrapping_sub(old.digest());
        }
    }
    fn remove(&mut self, name: &str) {
        if let Some(old) = self.map.remove(name) {
            self.refs = OnceLock::new();
            self.digest = self.digest.wrapping_sub(old.digest());
        }
    }
    fn refs(&self, to: ResourceType) -> &Names {
        &self.refs.get_or_init(|| {
            let mut names: [Names; ResourceType::COUNT] = Default::default();
            for reference in self.map.values().flat_map(Resource::refs) {
                names[reference.ty as usize].insert(reference.name.clone());
            }
            names
        })[to as usize]
    }
}

/// The resources of one type: `own` ones hide `shared` ones of the same name.
#[derive(Clone, Default)]
struct Set {
    shared: Arc<Layer>,
    own: Arc<Layer>,
}

impl Set {
    fn get(&self, name: &str) -> Option<&Resource> {
        self.own.map.get(name).or_else(|| self.shared.map.get(name))
    }
    /// One layer with all of it.
    fn flat(&self) -> Arc<Layer> {
        if self.shared.map.is_empty() {
            return self.own.clone();
        }
        let mut all = self.shared.clone();
        if !self.own.map.is_empty() {
            let layer = Arc::make_mut(&mut all);
            self.own
                .map
                .values()
                .for_each(|resource| layer.insert(resource.clone()));
        }
        all
    }
    fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared) && Arc::ptr_eq(&self.own, &other.own)
    }
}

/// The resources of one node, or of a class of nodes, at one revision. Cheap to clone and to change a clone of:
/// the maps share what did not change, and a difference of two costs what changed.
#[derive(Clone, Default)]
pub struct Snapshot {
    revision: i64,
    version: Option<Arc<str>>,
    sets: [Set; ResourceType::COUNT],
}

/// A reference into nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{from_type} {from:?} refers to {} {:?}, which is not in the snapshot: add it, or remove the reference", .to.ty, .to.name)]
pub struct Inconsistency {
    /// The type of the resource that refers.
    pub from_type: ResourceType,
    /// Its name.
    pub from: Arc<str>,
    /// What it refers to.
    pub to: Ref,
}

impl Snapshot {
    /// An empty snapshot.
    pub fn new(revision: i64) -> Self {
        Self {
            revision,
            ..Self::default()
        }
    }

    /// A snapshot of these resources.
    pub fn of(revision: i64, resources: impl IntoIterator<Item = Resource>) -> Self {
        let mut snapshot = Self::new(revision);
        snapshot.extend(resources);
        snapshot
    }

    /// What a class of nodes shares, with what is one node's own on top of it; where both have a name, the node's own
    /// wins. Neither is copied. The revision is the higher of the two.
    pub fn layered(shared: &Self, own: &Self) -> Self {
        Self {
            revision: shared.revision.max(own.revision),
            version: own.version.clone().or_else(|| shared.version.clone()),
            sets: std::array::from_fn(|i| Set {
                shared: shared.sets[i].flat(),
                own: own.sets[i].flat(),
            }),
        }
    }

    /// A number that rises: what ACKs are reported as.
    pub fn revision(&self) -> i64 {
        self.revision
    }
    /// Sets the revision.
    pub fn set_revision(&mut self, revision: i64) {
        self.revision = revision;
    }
    /// The version that the caller gave to the whole, if any.
    pub fn version(&self) -> Option<&Arc<str>> {
        self.version.as_ref()
    }
    /// Gives the whole a version, which state-of-the-world responses of every type then carry, in place of one that is
    /// derived from content. It has to change whenever content does.
    pub fn set_version(&mut self, version: &str) {
        self.version = Some(version.into());
    }

    /// Adds or replaces a resource.
    pub fn insert(&mut self, resource: Resource) {
        Arc::make_mut(&mut self.sets[resource.ty() as usize].own).insert(resource);
    }
    /// Removes a resource, from both layers; snapshots that share the lower one keep it.
    pub fn remove(&mut self, ty: ResourceType, name: &str) {
        let set = &mut self.sets[ty as usize];
        for layer in [&mut set.own, &mut set.shared] {
            if layer.map.contains_key(name) {
                Arc::make_mut(layer).remove(name);
            }
        }
    }
    /// One resource.
    pub fn get(&self, ty: ResourceType, name: &str) -> Option<&Resource> {
        self.sets[ty as usize].get(name)
    }
    /// All of a type, by name.
    pub fn iter(&self, ty: ResourceType) -> impl Iterator<Item = &Resource> {
        let set = &self.sets[ty as usize];
        let mut own = set.own.map.values().peekable();
        let mut shared = set.shared.map.values().peekable();
        std::iter::from_fn(move || match (own.peek(), shared.peek()) {
            (Some(a), Some(b)) => {
                let order = a.name().cmp(b.name());
                if order.is_ge() {
                    let under = shared.next();
                    if order.is_gt() {
                        return under;
                    }
                }
                own.next()
            }
            (Some(_), None) => own.next(),
            (None, _) => shared.next(),
        })
    }
    /// How many of a type there are.
    pub fn len(&self, ty: ResourceType) -> usize {
        let Set { shared, own } = &self.sets[ty as usize];
        let hidden = own
            .map
            .keys()
            .filter(|name| !shared.map.is_empty() && shared.map.contains_key(*name))
            .count();
        shared.map.len() + own.map.len() - hidden
    }
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.sets
            .iter()
            .all(|set| set.own.map.is_empty() && set.shared.map.is_empty())
    }

    /// The names of a type under which `newer` has something else than `self`, or only one of them has something; in
    /// order, each once. Costs what changed: maps, and parts of maps, that both share are not looked at.
    pub fn diff(&self, newer: &Self, ty: ResourceType) -> BTreeSet<Arc<str>> {
        let (a, b) = (&self.sets[ty as usize], &newer.sets[ty as usize]);
        let mut names = BTreeSet::new();
        for (a, b) in [(&a.shared, &b.shared), (&a.own, &b.own)] {
            if !Arc::ptr_eq(a, b) {
                names.extend(a.map.diff(&b.map).map(|item| match item {
                    DiffItem::Add(name, _) | DiffItem::Remove(name, _) => name.clone(),
                    DiffItem::Update { new: (name, _), .. } => name.clone(),
                }));
            }
        }
        names.retain(|name| a.get(name) != b.get(name));
        names
    }
    /// Whether both share their resources of a type, so that no difference has to be looked for.
    pub(crate) fn same(&self, other: &Self, ty: ResourceType) -> bool {
        self.sets[ty as usize].ptr_eq(&other.sets[ty as usize])
    }

    /// A hash of all resources of a type, by name and version.
    pub(crate) fn digest(&self, ty: ResourceType) -> u64 {
        let Set { shared, own } = &self.sets[ty as usize];
        let hidden = own
            .map
            .keys()
            .filter_map(|name| shared.map.get(name))
            .map(Resource::digest);
        hidden.fold(shared.digest.wrapping_add(own.digest), u64::wrapping_sub)
    }

    /// Whether a resource of type `from` refers to this one. (One that the node's own layer hides counts, too.)
    pub(crate) fn refers(&self, from: ResourceType, to: ResourceType, name: &str) -> bool {
        let set = &self.sets[from as usize];
        set.own.refs(to).contains(name) || set.shared.refs(to).contains(name)
    }
    /// What resources of type `from` refer to, of type `to`.
    pub(crate) fn referred(
        &self,
        from: ResourceType,
        to: ResourceType,
    ) -> impl Iterator<Item = &Arc<str>> {
        let set = &self.sets[from as usize];
        set.own.refs(to).iter().chain(set.shared.refs(to))
    }

    /// Whether every reference leads to something in the snapshot.
    ///
    /// # Errors
    /// All references that do not.
    pub fn consistent(&self) -> Result<(), Vec<Inconsistency>> {
        self.consistent_except(|_| false)
    }

    /// As [`consistent`](Self::consistent), except for references to what Envoy has from elsewhere: clusters of its
    /// bootstrap, for instance.
    ///
    /// # Errors
    /// All references that lead nowhere.
    pub fn consistent_except(
        &self,
        elsewhere: impl Fn(&Ref) -> bool,
    ) -> Result<(), Vec<Inconsistency>> {
        let lost: Vec<Inconsistency> = ResourceType::ALL
            .into_iter()
            .flat_map(|ty| self.iter(ty))
            .flat_map(|from| from.refs().iter().map(move |to| (from, to)))
            .filter(|(_, to)| self.get(to.ty, &to.name).is_none() && !elsewhere(to))
            .map(|(from, to)| Inconsistency {
                from_type: from.ty(),
                from: from.name().clone(),
                to: to.clone(),
            })
            .collect();
        if lost.is_empty() { Ok(()) } else { Err(lost) }
    }
}

impl Extend<Resource> for Snapshot {
    fn extend<I: IntoIterator<Item = Resource>>(&mut self, resources: I) {
        resources
            .into_iter()
            .for_each(|resource| self.insert(resource));
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Snapshot");
        out.field("revision", &self.revision);
        for ty in ResourceType::ALL {
            out.field(ty.short(), &self.len(ty));
        }
        out.finish()
    }
}

#[cfg(test)]
mod tests;
