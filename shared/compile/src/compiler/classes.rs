//! The classes of proxies that are connected, and the layer of each.
//!
//! *Invariant:* a class is kept, and its units are pinned, exactly as long as a connected proxy is of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use xds::Snapshot;

use super::{Compiler, ProxyId, parts};
use crate::class::Class;
use crate::layer::{Layer, Owner};
use crate::part::Parts;
use crate::route_config::Shell;
use crate::unit::{ClassId, Unit, Value};
use crate::{Proxy, Role};

/// A class that is in use.
#[derive(Clone, Default)]
pub(super) struct ClassState {
    pub(super) layer: Layer,
    domains: Arc<BTreeSet<Arc<str>>>,
    proxies: BTreeSet<ProxyId>,
    changed: bool,
}

impl Compiler {
    /// The proxies that change class, with their snapshots before.
    pub(super) fn moving(&self, moved: &[Unit]) -> Vec<(ProxyId, Arc<Snapshot>)> {
        let proxies = moved.iter().filter_map(|unit| match unit {
            Unit::Class(proxy) => Some(proxy),
            _ => None,
        });
        proxies
            .flat_map(|proxy| self.alike(proxy))
            .filter_map(|id| Some((id, self.snapshot(id)?)))
            .collect()
    }

    /// The connected proxies that say the same of themselves.
    pub(super) fn alike(&self, proxy: &Arc<Proxy>) -> impl Iterator<Item = ProxyId> {
        let proxies = self.proxies.iter();
        proxies
            .filter(move |(_, state)| state.proxy == *proxy)
            .map(|(id, _)| *id)
    }

    /// Takes over the new value of a pinned unit.
    pub(super) fn refresh(&mut self, unit: &Unit, changed: &mut BTreeSet<ProxyId>) {
        match unit {
            Unit::Class(proxy) => {
                for id in self.alike(proxy).collect::<Vec<_>>() {
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
                let parts = parts.clone();
                for id in self.alike(proxy).collect::<Vec<_>>() {
                    if self.set_own(id, parts.clone()) > 0 {
                        changed.insert(id);
                    }
                }
            }
            Unit::Accounts(..) | Unit::Clusters(_) | Unit::Endpoints(..) | Unit::Routes(..) => {}
        }
    }

    fn take_over(&mut self, id: ClassId, owner: &Owner, unit: &Unit) {
        if let Some(Value::Parts(parts)) = self.memo.get(unit) {
            let parts = parts.clone();
            self.set(id, owner, parts);
        }
    }

    /// What an owner contributes to the layer of a class, if the class is still in use.
    fn set(&mut self, id: ClassId, owner: &Owner, parts: Parts) {
        if let Some(state) = self.classes.get_mut(&id) {
            state.layer.set(owner, parts);
            state.changed = true;
        }
    }

    pub(super) fn join_class(&mut self, proxy_id: ProxyId, proxy: &Arc<Proxy>) -> ClassId {
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

    pub(super) fn leave_class(&mut self, proxy: ProxyId, id: ClassId) {
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
    pub(super) fn refresh_host(&mut self, id: ClassId, host: &Arc<str>) {
        if !self.classes.contains_key(&id) {
            return; // Its last proxy has moved to another class with the same change.
        }
        let unit = Unit::Host(id, host.clone());
        let parts = parts(self.memo.pin(&self.world, unit.clone()));
        if parts.is_empty() {
            self.memo.unpin(&unit);
        }
        self.set(id, &Owner::Host(host.clone()), parts);
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
    pub(super) fn finish_classes(&mut self) -> BTreeSet<ProxyId> {
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
