//! What is stored, in memory: every resource as of one revision, for validation against what exists.
//!
//! *Invariant:* nothing that must be exact is answered from here; reads and preconditions go to the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use imbl::{OrdMap, OrdSet};
use model::mesh::{self, Mesh};
use model::{Key, Kind, Object, Revision};
use store::{Change, Event, Rollout, Snapshot, Store, Undecodable};
use telemetry::Check;
use tokio::sync::watch;
use tracing::warn;
use uuid::Uuid;

/// A workload's namespace and name.
pub(crate) type Workload = (Arc<str>, Arc<str>);

/// The state at one revision. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) revision: Revision,
    pub(crate) objects: OrdMap<Key, Arc<Object>>,
    /// The same, typed and indexed.
    pub(crate) mesh: Mesh,
    /// Whether the mesh has identities.
    identities: bool,
    /// Workloads recorded as down.
    pub(crate) down: OrdSet<Workload>,
    /// The rollouts on record.
    pub(crate) rollouts: OrdMap<Uuid, Arc<Rollout>>,
    /// Keys in etcd that cannot be decoded.
    undecodable: BTreeMap<String, Undecodable>,
    /// Why the view is not live, if it is not.
    pub(crate) stale: Option<String>,
}

impl View {
    /// Nothing, before the store was read.
    pub(crate) fn new(domain: &str, root_namespace: &str, identities: bool) -> Self {
        Self {
            identities,
            revision: Revision(0),
            objects: OrdMap::new(),
            mesh: Mesh::new(domain, root_namespace),
            down: OrdSet::new(),
            rollouts: OrdMap::new(),
            undecodable: BTreeMap::new(),
            stale: None,
        }
    }

    /// What is to be warned about when this object stands beside what is stored.
    pub(crate) fn analyse(&self, object: &Object) -> Vec<String> {
        self.beside(&[object]).analyse(object)
    }

    /// What is stored, with these objects in it.
    pub(crate) fn beside(&self, objects: &[&Object]) -> Beside {
        let mut mesh = self.mesh.clone();
        for resource in objects.iter().filter_map(|object| object.decode().ok()) {
            mesh.apply(mesh::Change::Put(Arc::new(resource)));
        }
        Beside {
            mesh,
            identities: self.identities,
        }
    }

    /// Whether what is stored under a key cannot be decoded.
    pub(crate) fn is_damaged(&self, key: &Key) -> bool {
        self.undecodable
            .values()
            .any(|value| value.key.as_ref() == Some(key))
    }

    /// The namespaces in use.
    pub(crate) fn namespaces(&self) -> BTreeSet<Arc<str>> {
        self.objects.keys().map(|k| k.namespace.clone()).collect()
    }

    /// The state after one event.
    pub(crate) fn apply(&mut self, event: Event) {
        match event {
            Event::Changes {
                revision, changes, ..
            } => {
                for change in changes {
                    self.change(change);
                }
                self.revision = revision;
                self.stale = None;
            }
            Event::Snapshot(snapshot) => self.restart(snapshot),
            Event::Progress { revision } => {
                self.revision = self.revision.max(revision);
                self.stale = None;
            }
            Event::Disconnected { reason } => self.stale = Some(reason),
        }
    }

    fn restart(&mut self, snapshot: Snapshot) {
        let held = std::mem::take(&mut self.objects);
        // What cannot be decoded now stays in force as it was.
        let kept = snapshot.undecodable.iter().filter_map(|u| {
            let key = u.key.clone()?;
            Some((key.clone(), held.get(&key)?.clone()))
        });
        *self = Self {
            identities: self.identities,
            revision: snapshot.revision,
            objects: kept
                .chain(snapshot.objects.iter().map(|o| (o.key(), o.clone())))
                .collect(),
            mesh: Mesh::new(
                self.mesh.domain().clone(),
                self.mesh.root_namespace().clone(),
            ),
            down: snapshot.down.into_iter().collect(),
            rollouts: (snapshot.rollouts.iter())
                .map(|it| (it.id, it.clone()))
                .collect(),
            undecodable: snapshot
                .undecodable
                .iter()
                .map(|u| (u.etcd_key.clone(), u.clone()))
                .collect(),
            stale: None,
        };
        let objects = self.objects.clone();
        for object in objects.values() {
            self.index(object);
        }
    }

    fn index(&mut self, object: &Object) {
        // What was written past this API, or by a version that took it, is no part of the mesh; it is reported.
        let change = match object.decode() {
            Ok(resource) => mesh::Change::Put(Arc::new(resource)),
            Err(error) => {
                let value = Undecodable {
                    etcd_key: object.key().to_string(),
                    key: Some(object.key()),
                    revision: object.revision().unwrap_or_default(),
                    error: error.to_string(),
                };
                warn!(%value, "left out");
                self.undecodable.insert(value.etcd_key.clone(), value);
                mesh::Change::Delete(object.key())
            }
        };
        self.mesh.apply(change);
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Put { object, .. } => {
                self.mended(&object.key());
                self.index(&object);
                self.objects.insert(object.key(), object);
            }
            Change::Delete { key, .. } => {
                self.mended(&key);
                self.mesh.apply(mesh::Change::Delete(key.clone()));
                self.objects.remove(&key);
            }
            Change::Liveness {
                namespace,
                name,
                up,
            } => {
                if up {
                    self.down.remove(&(namespace, name));
                } else {
                    self.down.insert((namespace, name));
                }
            }
            Change::Rollout { id, rollout } => {
                match rollout {
                    Some(rollout) => self.rollouts.insert(id, rollout),
                    None => self.rollouts.remove(&id),
                };
            }
            Change::Undecodable(value) => {
                warn!(%value, "left out");
                self.undecodable.insert(value.etcd_key.clone(), value);
            }
        }
    }

    /// A write to a resource ends the complaint about it.
    fn mended(&mut self, key: &Key) {
        if !self.undecodable.is_empty() {
            self.undecodable.retain(|_, u| u.key.as_ref() != Some(key));
        }
    }

    /// Shows what is wrong with the view. A damaged value is somebody's to look at; everything else works.
    fn report(&self, check: &Check) {
        match (&self.stale, self.undecodable.values().next()) {
            (Some(reason), _) => check.fail(format!("etcd cannot be watched: {reason}")),
            (None, Some(first)) => {
                check.degraded(format!(
                    "{} damaged values in etcd, the first: {first}",
                    self.undecodable.len()
                ));
            }
            (None, None) => check.ok(),
        }
    }
}

/// What would be stored after a write.
pub(crate) struct Beside {
    mesh: Mesh,
    identities: bool,
}

/// What is to be said of a PeerAuthentication in a mesh without identities.
const NO_IDENTITIES: &str = "spec: has no effect: xDS runs in plaintext (--insecure-plaintext-xds), so no proxy has an identity to \
                             prove; run the mesh with identities";

impl Beside {
    /// What is to be warned about an object of it.
    pub(crate) fn analyse(&self, object: &Object) -> Vec<String> {
        let Ok(resource) = object.decode() else {
            return Vec::new();
        };
        let idle = !self.identities && object.kind == Kind::PeerAuthentication;
        let found = model::analyze(&resource, &self.mesh);
        let found = found.iter().map(ToString::to_string);
        (idle.then(|| NO_IDENTITIES.to_owned()).into_iter())
            .chain(found)
            .collect()
    }
}

/// Follows the store for ever; publishes each state, and its health.
pub(crate) async fn follow(store: Arc<dyn Store>, views: watch::Sender<View>, check: Check) {
    loop {
        match store.watch(store::Scope::default(), None, true).await {
            Ok(mut events) => {
                while let Some(event) = events.next().await {
                    views.send_modify(|view| view.apply(event));
                    views.borrow().report(&check);
                }
                views.send_modify(|view| view.stale = Some("the watch ended".into()));
            }
            Err(error) => views.send_modify(|view| view.stale = Some(error.to_string())),
        }
        views.borrow().report(&check);
        // The store has its own backoff once a watch is up; this only paces attempts to get one at all.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}
