//! From what the store reports to what the compiler takes: decoded, and with the deletions that a fresh load implies.
//!
//! *Invariant:* what cannot be decoded changes nothing; its last good state stays in force and it is named. What only breaks a
//! rule is in force, the same on every replica, and named as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use model::{Key, Kind, Object, Revision, Spec};
use store::{Snapshot, Undecodable};
use tracing::warn;

use crate::views::Active;

/// A workload: its namespace and its name.
pub(crate) type Workload = (Arc<str>, Arc<str>);

/// What a value that cannot be decoded is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Key(Key),
    /// A name in the store that belongs to no resource.
    Store(String),
}

impl Name {
    fn of(value: &Undecodable) -> Self {
        value
            .key
            .clone()
            .map_or_else(|| Self::Store(value.etcd_key.clone()), Self::Key)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Store(name) => name.fmt(f),
        }
    }
}

/// What the model was made of.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Whether the store was read completely at least once.
    pub(crate) loaded: bool,
    /// The resources in force, and the revision each was last seen at.
    known: BTreeMap<Key, Revision>,
    /// The service account of each workload that is declared.
    pub(crate) accounts: OrdMap<Workload, Arc<str>>,
    down: BTreeSet<Workload>,
    /// The changes that not everybody gets yet.
    pub(crate) rollouts: Active,
    /// The epoch of the store that the revisions count in.
    pub(crate) epoch: String,
    /// What could not be decoded, and why.
    undecodable: BTreeMap<Name, String>,
    /// The resources in force that break a rule, and which.
    broken: BTreeMap<Key, String>,
}

impl State {
    /// One change, as the compiler takes it; `None` if it changes nothing.
    pub(crate) fn change(&mut self, change: store::Change) -> Option<compile::Change> {
        match change {
            store::Change::Put { object, .. } => self.put(&object),
            store::Change::Delete { key, .. } => {
                self.undecodable.remove(&Name::Key(key.clone()));
                self.known.contains_key(&key).then(|| self.delete(key))
            }
            store::Change::Liveness {
                namespace,
                name,
                up,
            } => self.liveness(namespace, name, up),
            store::Change::Rollout { id, rollout } => {
                match rollout.filter(|rollout| rollout.is_active()) {
                    Some(rollout) => self.rollouts.insert(id, rollout),
                    None => self.rollouts.remove(&id),
                };
                None
            }
            store::Change::Undecodable(value) => {
                warn!(%value, "skipping a value that cannot be decoded; what it replaced stays in force");
                self.undecodable.insert(Name::of(&value), value.error);
                None
            }
        }
    }

    /// How many resources are in force.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// The whole state at a revision, as changes to what was there at `last`.
    pub(crate) fn replace(&mut self, snapshot: Snapshot, last: Revision) -> Vec<compile::Change> {
        // After a restore the same revision may be of another write.
        let comparable = self.epoch == snapshot.epoch && last <= snapshot.revision;
        self.epoch = snapshot.epoch;
        self.undecodable = snapshot
            .undecodable
            .into_iter()
            .map(|value| (Name::of(&value), value.error))
            .collect();
        let active = snapshot.rollouts.iter().filter(|it| it.is_active());
        self.rollouts = active.map(|it| (it.id, it.clone())).collect();
        let named: BTreeSet<Key> = snapshot.objects.iter().map(|object| object.key()).collect();
        let gone: Vec<Key> = self
            .known
            .keys()
            .filter(|key| {
                !named.contains(key) && !self.undecodable.contains_key(&Name::Key((*key).clone()))
            })
            .cloned()
            .collect();
        let mut changes = Vec::new();
        for key in gone {
            changes.push(self.delete(key));
        }
        for object in snapshot.objects {
            if !comparable || self.known.get(&object.key()) != object.revision().as_ref() {
                changes.extend(self.put(&object));
            }
        }
        let down: BTreeSet<Workload> = snapshot.down.into_iter().collect();
        let turned: Vec<(Workload, bool)> =
            (self.down.difference(&down).map(|w| (w.clone(), true)))
                .chain(down.difference(&self.down).map(|w| (w.clone(), false)))
                .collect();
        for ((namespace, name), up) in turned {
            changes.extend(self.liveness(namespace, name, up));
        }
        changes
    }

    /// What people should know of values that could not be used, if there are any.
    pub(crate) fn complaint(&self) -> Option<String> {
        if !self.loaded {
            return Some("the policy is not loaded yet".to_owned());
        }
        if let Some((name, error)) = self.undecodable.first_key_value() {
            return Some(match self.undecodable.len() {
                1 => format!("{name} cannot be decoded: {error}"),
                n => format!("{n} values cannot be decoded, the first is {name}: {error}"),
            });
        }
        let (key, error) = self.broken.first_key_value()?;
        Some(match self.broken.len() {
            1 => format!("{key} is in force and breaks a rule: {error}"),
            n => format!("{n} resources are in force and break rules, the first is {key}: {error}"),
        })
    }

    fn delete(&mut self, key: Key) -> compile::Change {
        self.known.remove(&key);
        self.broken.remove(&key);
        if key.kind == Kind::WorkloadEntry {
            self.accounts
                .remove(&(key.namespace.clone(), key.name.clone()));
        }
        compile::Change::Delete(key)
    }

    fn put(&mut self, object: &Object) -> Option<compile::Change> {
        let key = object.key();
        match object.decode() {
            Ok(resource) => {
                self.undecodable.remove(&Name::Key(key.clone()));
                match resource.broken_rule() {
                    None => drop(self.broken.remove(&key)),
                    Some(error) => {
                        warn!(%key, %error, "a resource breaks a rule; it is in force");
                        self.broken.insert(key.clone(), error.to_string());
                    }
                }
                if let Spec::WorkloadEntry(entry) = &resource.spec {
                    let workload = (key.namespace.clone(), key.name.clone());
                    if self.accounts.get(&workload).map(|account| &**account)
                        != Some(entry.account())
                    {
                        self.accounts.insert(workload, entry.account().into());
                    }
                }
                self.known
                    .insert(key, object.revision().unwrap_or_default());
                Some(compile::Change::Put(Arc::new(resource)))
            }
            Err(error) => {
                warn!(%key, %error, "skipping a resource that cannot be decoded; what it replaced stays in force");
                self.undecodable.insert(Name::Key(key), error.to_string());
                None
            }
        }
    }

    fn liveness(
        &mut self,
        namespace: Arc<str>,
        name: Arc<str>,
        up: bool,
    ) -> Option<compile::Change> {
        let workload = (namespace.clone(), name.clone());
        let turned = if up {
            self.down.remove(&workload)
        } else {
            self.down.insert(workload)
        };
        turned.then_some(compile::Change::Liveness {
            namespace,
            name,
            up,
        })
    }
}

#[cfg(test)]
mod tests;
