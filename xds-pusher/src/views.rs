//! What proxies are told while a change is delivered gradually: the first ones everything, all others the same without it.
//!
//! The owner of the model keeps one compiler, and a second while a rollout is active. What is no part of a rollout flows into
//! both at once; proxies have the same ids in both.
//!
//! *Invariant:* without an active rollout there is one view, and a rollout that ends by being rolled back changes nothing for
//! those who never had it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use compile::{Applied, Change, Compiler, Proxy, ProxyId};
use model::mtls::Decision;
use model::{Key, Resource, Revision};
use store::{Phase, Rollout};
use tracing::warn;
use uuid::Uuid;
use xds::Snapshot;

/// The active rollouts.
pub(crate) type Active = BTreeMap<Uuid, Arc<Rollout>>;

/// Both views.
pub(crate) struct Views {
    full: Compiler,
    stable: Option<Stable>,
    active: Active,
}

/// What those get who are not first.
struct Stable {
    compiler: Compiler,
    /// What stands there for what the rollouts replaced.
    priors: BTreeMap<Key, Option<Arc<Resource>>>,
}

/// What came of changes.
pub(crate) struct Outcome {
    /// What the compiler of everything says.
    pub(crate) applied: Applied,
    /// Whose configuration changed.
    pub(crate) changed: BTreeSet<ProxyId>,
    /// Whether others than before are first, of whom some got what they get now without a change.
    pub(crate) regrouped: bool,
}

impl Views {
    pub(crate) fn new(compiler: Compiler) -> Self {
        Self {
            full: compiler,
            stable: None,
            active: Active::new(),
        }
    }

    /// With everything in it.
    pub(crate) fn full(&self) -> &Compiler {
        &self.full
    }

    /// The active rollouts.
    pub(crate) fn active(&self) -> &Active {
        &self.active
    }

    /// The proxies that get every change at once; `None` if all do.
    pub(crate) fn first(&self) -> Option<BTreeSet<&str>> {
        self.stable.as_ref().map(|_| first(&self.active))
    }

    /// The configuration of a proxy.
    pub(crate) fn snapshot(&self, id: ProxyId) -> Option<Arc<Snapshot>> {
        self.of(id).snapshot(id)
    }

    /// The number of its class there, and the revision of that.
    pub(crate) fn place(&self, id: ProxyId) -> Option<(u64, i64)> {
        self.of(id).place(id)
    }

    /// The modes of mutual TLS in it.
    pub(crate) fn mtls(&self, id: ProxyId) -> BTreeMap<u16, Decision> {
        self.of(id).mtls(id)
    }

    /// A proxy connects.
    pub(crate) fn connect(&mut self, proxy: Proxy) -> ProxyId {
        if let Some(stable) = &mut self.stable {
            stable.compiler.connect(proxy.clone());
        }
        self.full.connect(proxy)
    }

    /// A proxy is gone.
    pub(crate) fn disconnect(&mut self, id: ProxyId) {
        if let Some(stable) = &mut self.stable {
            stable.compiler.disconnect(id);
        }
        self.full.disconnect(id);
    }

    /// Applies the changes of one revision, after which these rollouts are active.
    pub(crate) fn apply(
        &mut self,
        revision: Revision,
        changes: Vec<Change>,
        active: Active,
    ) -> Outcome {
        let before = std::mem::replace(&mut self.active, active);
        let had = self.stable.is_some();
        if !self.active.is_empty() && self.stable.is_none() {
            self.stable = Some(Stable {
                compiler: self.full.clone(),
                priors: BTreeMap::new(),
            });
        }
        let mut changed = BTreeSet::new();
        if let Some(stable) = &mut self.stable {
            let priors = priors(&self.active);
            let mut others: Vec<Change> = (changes.iter())
                .filter(|change| key(change).is_none_or(|key| !priors.contains_key(&key)))
                .cloned()
                .collect();
            for (key, prior) in &priors {
                if stable.priors.get(key) != Some(prior) {
                    others.push(put(key, prior.as_ref()));
                }
            }
            let over: Vec<Key> = (stable.priors.keys())
                .filter(|key| !priors.contains_key(key))
                .cloned()
                .collect();
            let applied = self.full.apply(revision, changes);
            // What is no longer held back, as it is now.
            let mesh = self.full.mesh();
            others.extend(over.iter().map(|key| put(key, mesh.resource(key))));
            let held = stable.compiler.apply(revision, others);
            stable.priors = priors;
            // When the views become one, everybody has had what he was told until now.
            let all = self.active.is_empty();
            let first = first(if all { &before } else { &self.active });
            let is_first = |id: &ProxyId| {
                let node = self.full.node(*id);
                node.is_some_and(|node| first.contains(&**node))
            };
            changed.extend(held.changed.into_iter().filter(|id| !is_first(id)));
            changed.extend(applied.changed.iter().filter(|id| is_first(id)));
            let regrouped = had && !all && first != self::first(&before);
            if all {
                self.stable = None;
            }
            return Outcome {
                applied,
                changed,
                regrouped,
            };
        }
        let applied = self.full.apply(revision, changes);
        changed.extend(&applied.changed);
        Outcome {
            applied,
            changed,
            regrouped: false,
        }
    }

    /// The connected proxies that a rollout changes something for: what those who are not first will get.
    pub(crate) fn affected(&self, id: Uuid) -> Vec<Arc<str>> {
        let (Some(stable), Some(rollout)) = (&self.stable, self.active.get(&id)) else {
            return Vec::new();
        };
        let mut trial = stable.compiler.clone();
        let mesh = self.full.mesh();
        let changes: Vec<Change> = (rollout.priors.iter())
            .map(|prior| put(&prior.key, mesh.resource(&prior.key)))
            .collect();
        let applied = trial.apply(self.full.revision(), changes);
        let nodes = applied.changed.into_iter();
        nodes.filter_map(|id| trial.node(id).cloned()).collect()
    }

    fn of(&self, id: ProxyId) -> &Compiler {
        let Some(stable) = &self.stable else {
            return &self.full;
        };
        let first = (self.full.node(id)).is_some_and(|node| is_first(&self.active, node));
        if first { &self.full } else { &stable.compiler }
    }
}

/// Who is told everything.
pub(crate) fn is_first(active: &Active, node: &str) -> bool {
    let mut given = active.values().filter(|it| is_given(it));
    given.any(|rollout| rollout.proxies.iter().any(|it| it == node))
}

fn first(active: &Active) -> BTreeSet<&str> {
    let given = active.values().filter(|it| is_given(it));
    given
        .flat_map(|rollout| rollout.proxies.iter().map(String::as_str))
        .collect()
}

/// Whether somebody has it: also after it stopped, so that nobody goes back and forth.
fn is_given(rollout: &Rollout) -> bool {
    matches!(rollout.phase, Phase::First | Phase::Stopped)
}

/// What stands for what the rollouts replaced.
fn priors(active: &Active) -> BTreeMap<Key, Option<Arc<Resource>>> {
    let all = active.values().flat_map(|rollout| &rollout.priors);
    let prior = all.map(|prior| {
        let before = prior.before.as_ref().map(|object| object.decode());
        let before = match before.transpose() {
            Ok(before) => before.map(Arc::new),
            Err(error) => {
                warn!(key = %prior.key, %error, "what a rollout replaced cannot be decoded; it counts as absent");
                None
            }
        };
        (prior.key.clone(), before)
    });
    prior.collect()
}

fn key(change: &Change) -> Option<Key> {
    match change {
        Change::Put(resource) => Some(resource.key()),
        Change::Delete(key) => Some(key.clone()),
        Change::Liveness { .. } | Change::Mtls { .. } => None,
    }
}

fn put(key: &Key, resource: Option<&Arc<Resource>>) -> Change {
    match resource {
        Some(resource) => Change::Put(resource.clone()),
        None => Change::Delete(key.clone()),
    }
}
