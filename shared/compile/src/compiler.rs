//! The compiler: holds the mesh and the proxies, and turns each change into the snapshots it changes.
//!
//! Whoever owns a compiler calls [`Compiler::apply`] with the changes of one revision and pushes to the proxies it
//! returns. Each class of proxies has a layer of resources that its proxies share, each proxy one of its own.
//!
//! *Invariant:* a change that changes no byte of a proxy's configuration does not name that proxy.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::mesh::{Change, Fact, Mesh};
use model::{Key, Revision};
use xds::{ResourceType, Snapshot};

use crate::class::Class;
use crate::layer::{Layer, Owner};
use crate::memo::Memo;
use crate::part::{Parts, Report};
use crate::route_config::Shell;
use crate::unit::{ClassId, Unit, Value, Weft, World};
use crate::{Proxy, Role};

/// What a compiler has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The domain that completes short hosts.
    pub domain: String,
    /// The namespace whose policies hold everywhere.
    pub root_namespace: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: "svc.cluster.local".into(),
            root_namespace: "istio-system".into(),
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
}

#[derive(Default)]
struct ClassState {
    layer: Layer,
    domains: Arc<BTreeSet<Arc<str>>>,
    proxies: BTreeSet<ProxyId>,
    changed: bool,
}

struct ProxyState {
    proxy: Arc<Proxy>,
    class: ClassId,
    own: Layer,
}

/// The compiler.
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
            Revision::default(),
        )
    }

    /// A compiler of this mesh, as of this revision.
    pub fn of(mesh: Mesh, revision: Revision) -> Self {
        Self {
            world: World {
                mesh,
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

    /// The mesh. A copy is cheap: what a change would do is shown by another compiler of a changed copy.
    pub fn mesh(&self) -> &Mesh {
        &self.world.mesh
    }

    /// The revision of the last [`apply`](Self::apply).
    pub fn revision(&self) -> Revision {
        self.revision
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
        let mut state = ProxyState {
            proxy: proxy.clone(),
            class,
            own: Layer::default(),
        };
        let parts = parts(self.memo.pin(&self.world, Unit::Own(proxy)));
        state.own.set(&Owner::Fixed, parts);
        self.resources_changed += state.own.finish(&Shell::default(), self.revision);
        self.proxies.insert(id, state);
        self.finish_classes();
        id
    }

    /// A proxy is gone.
    pub fn disconnect(&mut self, id: ProxyId) {
        let Some(state) = self.proxies.remove(&id) else {
            return;
        };
        if !self
            .proxies
            .values()
            .any(|other| other.proxy == state.proxy)
        {
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

    /// The configuration of a connected proxy.
    pub fn snapshot(&self, id: ProxyId) -> Option<Arc<Snapshot>> {
        let state = self.proxies.get(&id)?;
        let shared = self.classes.get(&state.class)?.layer.snapshot();
        Some(Arc::new(Snapshot::layered(shared, state.own.snapshot())))
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
            units_recompiled: self.memo.runs(0) + self.memo.runs(1) + self.memo.runs(2),
            units_assembled: self.memo.runs(3),
            resources_changed: self.resources_changed,
            classes: self.classes.len() as u64,
        }
    }
}

/// Classes and their layers.
impl Compiler {
    /// The proxies that change class, with their snapshots before.
    fn moving(&self, moved: &[Unit]) -> Vec<(ProxyId, Arc<Snapshot>)> {
        let proxies = moved.iter().filter_map(|unit| match unit {
            Unit::Class(proxy) => Some(proxy),
            _ => None,
        });
        let ids = proxies.flat_map(|proxy| {
            self.proxies
                .iter()
                .filter(move |(_, state)| state.proxy == *proxy)
        });
        ids.filter_map(|(id, _)| Some((*id, self.snapshot(*id)?)))
            .collect()
    }

    /// Takes over the new value of a pinned unit.
    fn refresh(&mut self, unit: &Unit, changed: &mut BTreeSet<ProxyId>) {
        match unit {
            Unit::Class(proxy) => {
                let moving: Vec<_> = self
                    .proxies
                    .iter()
                    .filter(|(_, state)| state.proxy == *proxy)
                    .map(|(id, _)| *id)
                    .collect();
                for id in moving {
                    let from = self.proxies[&id].class;
                    let to = self.join_class(id, proxy);
                    if from != to {
                        self.leave_class(id, from);
                    }
                    self.proxies.get_mut(&id).expect("it was just found").class = to;
                }
            }
            Unit::Scope(id) => {
                if let Some(state) = self.classes.get_mut(id) {
                    state.layer.touch_all();
                    state.changed = true;
                    self.refresh_hosts(*id);
                }
            }
            Unit::Domains(id) => self.refresh_domains(*id),
            Unit::Host(id, host) => self.refresh_host(*id, host),
            Unit::Domain(id, domain) => self.take_over(*id, &Owner::Domain(domain.clone()), unit),
            Unit::Fixed(id) => self.take_over(*id, &Owner::Fixed, unit),
            Unit::Own(proxy) => {
                let Some(Value::Parts(parts)) = self.memo.get(unit) else {
                    return;
                };
                for (id, state) in self
                    .proxies
                    .iter_mut()
                    .filter(|(_, state)| state.proxy == *proxy)
                {
                    state.own.set(&Owner::Fixed, parts.clone());
                    let count = state.own.finish(&Shell::default(), self.revision);
                    self.resources_changed += count;
                    if count > 0 {
                        changed.insert(*id);
                    }
                }
            }
            Unit::Clusters(_) | Unit::Endpoints(..) | Unit::Routes(..) => {}
        }
    }

    fn take_over(&mut self, id: ClassId, owner: &Owner, unit: &Unit) {
        if let (Some(state), Some(Value::Parts(parts))) =
            (self.classes.get_mut(&id), self.memo.get(unit))
        {
            state.layer.set(owner, parts.clone());
            state.changed = true;
        }
    }

    fn join_class(&mut self, proxy_id: ProxyId, proxy: &Arc<Proxy>) -> ClassId {
        let Value::Class(class) = self.memo.pin(&self.world, Unit::Class(proxy.clone())) else {
            unreachable!("a class is computed for a proxy");
        };
        let id = match self.numbers.get(&class) {
            Some(id) => *id,
            None => self.open_class(&class),
        };
        self.classes
            .get_mut(&id)
            .expect("a numbered class has a state")
            .proxies
            .insert(proxy_id);
        id
    }

    fn open_class(&mut self, class: &Arc<Class>) -> ClassId {
        let free = self.world.classes.iter().position(Option::is_none);
        let at = free.unwrap_or(self.world.classes.len());
        let id = ClassId(u32::try_from(at).expect("fewer than 2^32 classes fit in memory"));
        if free.is_none() {
            self.world.classes.push(None);
        }
        self.world.classes[at] = Some(class.clone());
        self.numbers.insert(class.clone(), id);
        self.classes.insert(id, ClassState::default());
        self.memo.pin(&self.world, Unit::Scope(id));
        self.memo.pin(&self.world, Unit::Fixed(id));
        self.take_over(id, &Owner::Fixed, &Unit::Fixed(id));
        if class.role == Role::Gateway {
            self.memo.pin(&self.world, Unit::Domains(id));
            self.refresh_domains(id);
        }
        self.refresh_hosts(id);
        id
    }

    fn leave_class(&mut self, proxy: ProxyId, id: ClassId) {
        let Some(state) = self.classes.get_mut(&id) else {
            return;
        };
        state.proxies.remove(&proxy);
        if !state.proxies.is_empty() {
            return;
        }
        let state = self.classes.remove(&id).expect("it was just found");
        for owner in state.layer.owners() {
            match owner {
                Owner::Host(host) => self.memo.unpin(&Unit::Host(id, host.clone())),
                Owner::Domain(domain) => self.memo.unpin(&Unit::Domain(id, domain.clone())),
                Owner::Fixed => {}
            }
        }
        for domain in state.domains.iter() {
            self.memo.unpin(&Unit::Domain(id, domain.clone()));
        }
        for unit in [Unit::Fixed(id), Unit::Domains(id), Unit::Scope(id)] {
            self.memo.unpin(&unit);
        }
        let class = self.world.classes[id.0 as usize]
            .take()
            .expect("a class is kept while it is in use");
        self.numbers.remove(&class);
    }

    /// Looks at every host: which are seen, and what they contribute.
    fn refresh_hosts(&mut self, id: ClassId) {
        let held = self.classes[&id]
            .layer
            .owners()
            .filter_map(|owner| match owner {
                Owner::Host(host) => Some(host.clone()),
                _ => None,
            });
        let hosts: BTreeSet<Arc<str>> = held.chain(self.world.mesh.hosts().cloned()).collect();
        for host in hosts {
            self.refresh_host(id, &host);
        }
    }

    /// Takes over what a host contributes. A host that contributes nothing is forgotten, for only a change of the host itself
    /// or of the scope can make it contribute, and then it is looked at again.
    fn refresh_host(&mut self, id: ClassId, host: &Arc<str>) {
        if !self.classes.contains_key(&id) {
            return; // Its last proxy has moved to another class with the same change.
        }
        let unit = Unit::Host(id, host.clone());
        let parts = parts(self.memo.pin(&self.world, unit.clone()));
        if parts.is_empty() {
            self.memo.unpin(&unit);
        }
        let state = self
            .classes
            .get_mut(&id)
            .expect("only classes in use are refreshed");
        state.layer.set(&Owner::Host(host.clone()), parts);
        state.changed = true;
    }

    /// Takes over which domains the gateways of a class answer to.
    fn refresh_domains(&mut self, id: ClassId) {
        let Some(Value::Domains(domains)) = self.memo.get(&Unit::Domains(id)).cloned() else {
            return;
        };
        let Some(state) = self.classes.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut state.domains, domains.clone());
        for gone in before.difference(&domains) {
            state.layer.set(&Owner::Domain(gone.clone()), Arc::from([]));
            self.memo.unpin(&Unit::Domain(id, gone.clone()));
        }
        state.changed = true;
        for come in domains.difference(&before) {
            let unit = Unit::Domain(id, come.clone());
            self.memo.pin(&self.world, unit.clone());
            self.take_over(id, &Owner::Domain(come.clone()), &unit);
        }
    }

    /// Joins what changed in the layers of classes. Returns the proxies that it concerns.
    fn finish_classes(&mut self) -> BTreeSet<ProxyId> {
        let mut concerned = BTreeSet::new();
        for (id, state) in &mut self.classes {
            if !std::mem::take(&mut state.changed) {
                continue;
            }
            let Some(Value::Scope(scope)) = self.memo.get(&Unit::Scope(*id)) else {
                continue;
            };
            let class = self.world.classes[id.0 as usize]
                .as_ref()
                .expect("a class is kept while it is in use");
            let count = state.layer.finish(&Shell::of(class, scope), self.revision);
            self.resources_changed += count;
            if count > 0 {
                concerned.extend(state.proxies.iter().copied());
            }
        }
        concerned
    }
}

impl Counters {
    fn since(&self, before: &Self) -> Self {
        Self {
            units_recompiled: self.units_recompiled - before.units_recompiled,
            units_assembled: self.units_assembled - before.units_assembled,
            resources_changed: self.resources_changed - before.resources_changed,
            classes: self.classes,
        }
    }
}

fn parts(value: Value) -> Parts {
    match value {
        Value::Parts(parts) => parts,
        other => unreachable!("this unit yields parts, not {other:?}"),
    }
}
