//! The compiler: holds the mesh and the proxies, and turns each change into the snapshots it changes.
//!
//! Whoever owns a compiler calls [`Compiler::apply`] with the changes of one revision and pushes to the proxies it
//! returns. Each class of proxies has a layer of resources that its proxies share, each proxy one of its own.
//!
//! *Invariant:* a change that changes no byte of a proxy's configuration does not name that proxy.

mod classes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::mesh::{Change, Fact, Mesh};
use model::mtls::Decision;
use model::{Key, Revision};
use xds::{ResourceType, Snapshot};

use crate::class::Class;
use crate::identity::Identities;
use crate::layer::{Layer, Owner};
use crate::memo::{Memo, News};
use crate::part::{Parts, Report};
use crate::route_config::Shell;
use crate::unit::{ClassId, Unit, Value, Weft, World};
use crate::{Proxy, inbound};

use classes::ClassState;

/// What a compiler has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The domain that completes short hosts.
    pub domain: String,
    /// The namespace whose policies hold everywhere.
    pub root_namespace: String,
    /// The mesh's identities. Without them, as long as xDS runs in plaintext, nothing of mutual TLS is compiled.
    pub identities: Option<Identities>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: "svc.cluster.local".into(),
            root_namespace: "istio-system".into(),
            identities: None,
        }
    }
}

/// A connected proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProxyId(u64);

/// What a change did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The revision.
    pub revision: Revision,
    /// The proxies whose snapshots changed.
    pub changed: Vec<ProxyId>,
    /// What was done for it.
    pub counters: Counters,
}

/// How much work was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Units that make resources from policy (clusters, endpoints, virtual hosts, listeners) that were computed.
    pub units_recompiled: u64,
    /// Units that only put such together or decide who sees what, that were computed.
    pub units_assembled: u64,
    /// Resources that were added, replaced or removed, each counted once per class or proxy that has it.
    pub resources_changed: u64,
    /// Classes of proxies at present.
    pub classes: u64,
    /// Units whose values are kept at present.
    pub units: u64,
}

#[derive(Clone)]
struct ProxyState {
    proxy: Arc<Proxy>,
    class: ClassId,
    own: Layer,
}

/// The compiler. A copy shares what it compiled and costs a walk over it: what a change would do is seen by applying it to a
/// copy, whose proxies have the same ids.
#[derive(Clone)]
pub struct Compiler {
    world: World,
    memo: Memo<Weft>,
    revision: Revision,
    classes: BTreeMap<ClassId, ClassState>,
    numbers: HashMap<Arc<Class>, ClassId>,
    proxies: BTreeMap<ProxyId, ProxyState>,
    next: u64,
    resources_changed: u64,
}

impl Compiler {
    /// A compiler of an empty mesh.
    pub fn new(settings: Settings) -> Self {
        Self::of(
            Mesh::new(settings.domain, settings.root_namespace),
            settings.identities,
            Revision::default(),
        )
    }

    /// A compiler of this mesh with these identities, as of this revision.
    pub fn of(mesh: Mesh, identities: Option<Identities>, revision: Revision) -> Self {
        Self {
            world: World {
                mesh,
                identities: identities.map(Arc::new),
                classes: Vec::new(),
            },
            memo: Memo::default(),
            revision,
            classes: BTreeMap::new(),
            numbers: HashMap::new(),
            proxies: BTreeMap::new(),
            next: 0,
            resources_changed: 0,
        }
    }

    /// The mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.world.mesh
    }

    /// The revision of the last [`apply`](Self::apply).
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// From now on keeps what it computes, for [`follow`](Self::follow).
    pub fn record(&mut self) {
        self.memo.record();
    }

    /// Does a step that the compiler it is a copy of has done since [`record`](Self::record), and takes over what that computed
    /// for it. `apart` are the changes that would make the other's mesh what this one's is after the step; what depends on
    /// them is computed here.
    pub fn follow<T>(
        &mut self,
        other: &mut Self,
        apart: impl IntoIterator<Item = Change>,
        step: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let mut mesh = other.world.mesh.clone();
        let differ: BTreeSet<Fact> = apart.into_iter().flat_map(|it| mesh.apply(it)).collect();
        self.memo.offer(other.memo.news().without(&differ));
        let done = step(self);
        self.memo.offer(News::default());
        done
    }

    /// Applies the changes of one revision.
    pub fn apply(
        &mut self,
        revision: Revision,
        changes: impl IntoIterator<Item = Change>,
    ) -> Applied {
        let before = self.counters();
        let facts: BTreeSet<Fact> = changes
            .into_iter()
            .flat_map(|change| self.world.mesh.apply(change))
            .collect();
        self.revision = revision;
        let moved = self.memo.update(&self.world, facts.iter().cloned());
        let moving = self.moving(&moved);
        let mut changed = BTreeSet::new();
        for unit in &moved {
            self.refresh(unit, &mut changed);
        }
        for fact in &facts {
            if let Fact::Service(host) | Fact::MeshRoutes(host) = fact {
                for id in self.classes.keys().copied().collect::<Vec<_>>() {
                    self.refresh_host(id, host);
                }
            }
        }
        changed.extend(self.finish_classes());
        for (id, before) in moving {
            let after = self.snapshot(id).expect("it is connected");
            if ResourceType::ALL
                .into_iter()
                .any(|ty| !before.diff(&after, ty).is_empty())
            {
                changed.insert(id);
            } else {
                changed.remove(&id);
            }
        }
        let after = self.counters();
        Applied {
            revision,
            changed: changed.into_iter().collect(),
            counters: after.since(&before),
        }
    }

    /// A proxy connects.
    pub fn connect(&mut self, proxy: Proxy) -> ProxyId {
        let id = ProxyId(self.next);
        self.next += 1;
        let proxy = Arc::new(proxy);
        let class = self.join_class(id, &proxy);
        let state = ProxyState {
            proxy: proxy.clone(),
            class,
            own: Layer::default(),
        };
        self.proxies.insert(id, state);
        let parts = parts(self.memo.pin(&self.world, Unit::Own(proxy)));
        self.set_own(id, parts);
        self.finish_classes();
        id
    }

    /// What a proxy has for itself. Returns how many resources that changed.
    fn set_own(&mut self, id: ProxyId, parts: Parts) -> u64 {
        let own = &mut self.proxies.get_mut(&id).expect("it is connected").own;
        own.set(&Owner::Fixed, parts);
        let count = own.finish(&Shell::default(), self.revision);
        self.resources_changed += count;
        count
    }

    /// A proxy is gone.
    pub fn disconnect(&mut self, id: ProxyId) {
        let Some(state) = self.proxies.remove(&id) else {
            return;
        };
        if self.alike(&state.proxy).next().is_none() {
            self.memo.unpin(&Unit::Own(state.proxy.clone()));
            self.memo.unpin(&Unit::Class(state.proxy));
        }
        self.leave_class(id, state.class);
    }

    /// The connected proxy with this node id, if there is one.
    pub fn find(&self, node: &str) -> Option<ProxyId> {
        self.proxies
            .iter()
            .find(|(_, state)| &*state.proxy.id == node)
            .map(|(id, _)| *id)
    }

    /// The node id of a connected proxy.
    pub fn node(&self, id: ProxyId) -> Option<&Arc<str>> {
        self.proxies.get(&id).map(|state| &state.proxy.id)
    }

    /// The configuration of a connected proxy.
    pub fn snapshot(&self, id: ProxyId) -> Option<Arc<Snapshot>> {
        let state = self.proxies.get(&id)?;
        let shared = self.classes.get(&state.class)?.layer.snapshot();
        Some(Arc::new(Snapshot::layered(shared, state.own.snapshot())))
    }

    /// The number of a connected proxy's class, and the revision of its snapshot.
    pub fn place(&self, id: ProxyId) -> Option<(u64, i64)> {
        let state = self.proxies.get(&id)?;
        let shared = self.classes.get(&state.class)?.layer.snapshot();
        let revision = shared.revision().max(state.own.snapshot().revision());
        Some((u64::from(state.class.0), revision))
    }

    /// Which mode of mutual TLS the [`snapshot`](Self::snapshot) of a sidecar has compiled into each port of its workload, by
    /// which policy. Whoever publishes [`Change::Mtls`] does so when the sidecar has acknowledged that snapshot. Empty
    /// without identities.
    pub fn mtls(&self, id: ProxyId) -> BTreeMap<u16, Decision> {
        let Some(state) = self.proxies.get(&id) else {
            return BTreeMap::new();
        };
        let class = self.world.classes[state.class.0 as usize].as_ref();
        match (class, &self.world.identities) {
            (Some(class), Some(_)) => inbound::decisions(
                &state.proxy,
                class,
                &mut self.world.mesh.view(&mut BTreeSet::new()),
            ),
            _ => BTreeMap::new(),
        }
    }

    /// What people should know about the resources they wrote, as long as proxies are connected that it concerns.
    pub fn statuses(&self) -> BTreeMap<Key, BTreeSet<String>> {
        let shared = self
            .classes
            .values()
            .flat_map(|class| class.layer.reports());
        let own = self.proxies.values().flat_map(|proxy| proxy.own.reports());
        let mut statuses: BTreeMap<Key, BTreeSet<String>> = BTreeMap::new();
        for Report { key, message } in shared.chain(own) {
            statuses
                .entry(key.clone())
                .or_default()
                .insert(message.clone());
        }
        statuses
    }

    /// The resources that people wrote and a resource of a proxy was made from; the last written comes first, for it is the
    /// likeliest to be at fault.
    pub fn source_of(&self, id: ProxyId, ty: ResourceType, name: &str) -> Vec<Key> {
        let Some(state) = self.proxies.get(&id) else {
            return Vec::new();
        };
        let mut sources = state.own.sources(ty, name);
        if let Some(class) = self.classes.get(&state.class) {
            sources.extend(class.layer.sources(ty, name));
        }
        let mut sources: Vec<Key> = sources.into_iter().collect();
        sources.sort_by_key(|key| std::cmp::Reverse(self.world.mesh.written(key)));
        sources
    }

    /// The work done since the beginning.
    pub fn counters(&self) -> Counters {
        Counters {
            units_recompiled: self.memo.runs(1) + self.memo.runs(2) + self.memo.runs(3),
            units_assembled: self.memo.runs(0) + self.memo.runs(4),
            resources_changed: self.resources_changed,
            classes: self.classes.len() as u64,
            units: self.memo.len() as u64,
        }
    }
}

impl Counters {
    fn since(&self, before: &Self) -> Self {
        Self {
            units_recompiled: self.units_recompiled - before.units_recompiled,
            units_assembled: self.units_assembled - before.units_assembled,
            resources_changed: self.resources_changed - before.resources_changed,
            classes: self.classes,
            units: self.units,
        }
    }
}

fn parts(value: Value) -> Parts {
    match value {
        Value::Parts(parts) => parts,
        other => unreachable!("this unit yields parts, not {other:?}"),
    }
}
