//! What proxies are told while a change is delivered gradually: the first ones everything, all others the same without it.
//!
//! The owner of the model keeps one compiler, and a second while a rollout is active. What is no part of a rollout flows into
//! both at once, and is computed once where both are alike; proxies have the same ids in both.
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
use xds::{ResourceType, Snapshot};

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
    /// The proxies for whom it is something else than everything.
    differing: BTreeSet<ProxyId>,
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

    /// The proxies from which something is held back.
    pub(crate) fn held(&self) -> BTreeSet<Arc<str>> {
        let differing = self.stable.iter().flat_map(|stable| &stable.differing);
        let held = differing.filter(|id| !self.is_first(**id));
        held.filter_map(|id| self.full.node(*id).cloned()).collect()
    }

    /// Whether something is held back from a proxy.
    pub(crate) fn holds_back_from(&self, id: ProxyId) -> bool {
        let mut stable = self.stable.iter();
        stable.any(|stable| stable.differing.contains(&id)) && !self.is_first(id)
    }

    /// A proxy connects.
    pub(crate) fn connect(&mut self, proxy: Proxy) -> ProxyId {
        let Some(stable) = &mut self.stable else {
            return self.full.connect(proxy);
        };
        self.full.record();
        let id = self.full.connect(proxy.clone());
        let apart = stable.apart();
        (stable.compiler).follow(&mut self.full, apart, |stable| stable.connect(proxy));
        stable.compare(&self.full, [id]);
        id
    }

    /// A proxy is gone.
    pub(crate) fn disconnect(&mut self, id: ProxyId) {
        if let Some(stable) = &mut self.stable {
            stable.compiler.disconnect(id);
            stable.differing.remove(&id);
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
        if !self.active.is_empty() && !had {
            self.stable = Some(Stable {
                compiler: self.full.clone(),
                priors: BTreeMap::new(),
                differing: BTreeSet::new(),
            });
        }
        let Some(mut stable) = self.stable.take() else {
            let applied = self.full.apply(revision, changes);
            return Outcome {
                changed: applied.changed.iter().copied().collect(),
                applied,
                regrouped: false,
            };
        };
        if self.active.is_empty() {
            return self.unite(&stable, &before, revision, changes);
        }
        let (over, news) = stable.hold(priors(&self.active));
        let mut others: Vec<Change> = (changes.iter())
            .filter(|change| key(change).is_none_or(|key| !stable.priors.contains_key(&key)))
            .cloned()
            .collect();
        self.full.record();
        let applied = self.full.apply(revision, changes);
        // What is held back from now on as it was, and what is no longer held back as it is now.
        others.extend(news);
        let mesh = self.full.mesh();
        others.extend(over.iter().map(|key| put(key, mesh.resource(key))));
        let apart = stable.apart();
        let held = (stable.compiler).follow(&mut self.full, apart, |stable| {
            stable.apply(revision, others)
        });
        let touched = held.changed.iter().chain(&applied.changed).copied();
        stable.compare(&self.full, touched);
        self.stable = Some(stable);
        let (own, others) = (applied.changed.iter(), held.changed.iter());
        let mut changed: BTreeSet<ProxyId> =
            own.filter(|id| self.is_first(**id)).copied().collect();
        changed.extend(others.filter(|id| !self.is_first(**id)));
        Outcome {
            applied,
            changed,
            regrouped: had && first(&self.active) != first(&before),
        }
    }

    /// Everybody gets everything again: a change for those to whom it is something else than they were told.
    fn unite(
        &mut self,
        stable: &Stable,
        before: &Active,
        revision: Revision,
        changes: Vec<Change>,
    ) -> Outcome {
        let applied = self.full.apply(revision, changes);
        let touched = applied.changed.iter().chain(&stable.differing).copied();
        let changed = touched.filter(|id| {
            let node = self.full.node(*id);
            match node.is_some_and(|node| is_first(before, node)) {
                true => applied.changed.contains(id),
                false => stable.differs(&self.full, *id),
            }
        });
        Outcome {
            changed: changed.collect(),
            applied: applied.clone(),
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
        if self.is_first(id) {
            &self.full
        } else {
            &stable.compiler
        }
    }

    fn is_first(&self, id: ProxyId) -> bool {
        let node = self.full.node(id);
        node.is_some_and(|node| is_first(&self.active, node))
    }
}

impl Stable {
    /// Holds these back from now on. Returns what is held back no longer, and what is now, as it was.
    fn hold(&mut self, priors: BTreeMap<Key, Option<Arc<Resource>>>) -> (Vec<Key>, Vec<Change>) {
        let before = std::mem::replace(&mut self.priors, priors);
        let new = (self.priors.iter()).filter(|(key, prior)| before.get(key) != Some(prior));
        let new = new.map(|(key, prior)| put(key, prior.as_ref())).collect();
        let over = before
            .into_keys()
            .filter(|key| !self.priors.contains_key(key));
        (over.collect(), new)
    }

    /// What makes everything what it is here.
    fn apart(&self) -> Vec<Change> {
        let priors = self.priors.iter();
        priors
            .map(|(key, prior)| put(key, prior.as_ref()))
            .collect()
    }

    /// Finds out which of these proxies get something else here.
    fn compare(&mut self, full: &Compiler, proxies: impl IntoIterator<Item = ProxyId>) {
        for id in proxies {
            match self.differs(full, id) {
                true => self.differing.insert(id),
                false => self.differing.remove(&id),
            };
        }
    }

    fn differs(&self, full: &Compiler, id: ProxyId) -> bool {
        match (self.compiler.snapshot(id), full.snapshot(id)) {
            (Some(one), Some(other)) => {
                (ResourceType::ALL.into_iter()).any(|ty| !one.diff(&other, ty).is_empty())
            }
            _ => false,
        }
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
