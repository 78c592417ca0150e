//! The units the compiler computes, and what each is computed by: the map of this crate.
//!
//! To add a kind of Envoy resource, add a unit here if it depends on something that no unit depends on yet, and otherwise a
//! resource to the part of the unit that it belongs to.
//!
//! *Invariant:* a unit of one rank demands units of lower ranks only.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::Key;
use model::mesh::{Fact, Mesh, Record, View};

use crate::class::{self, Class};
use crate::identity::Identities;
use crate::memo::{Program, Reader};
use crate::outbound::{self, Target};
use crate::part::{Part, Parts};
use crate::scope::Scope;
use crate::{Proxy, Role, gateway, inbound, runtime, sidecar};

/// A class, by number: short to hash, and never given to another class while it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClassId(pub(crate) u32);

/// What is computed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unit {
    /// The accounts that a service runs as: entry and host.
    Accounts(Key, Arc<str>),
    /// Which class a proxy is in.
    Class(Arc<Proxy>),
    /// What a class sees.
    Scope(ClassId),
    /// The domains that the gateways of a class answer to.
    Domains(ClassId),
    /// The clusters of a service.
    Clusters(Arc<Target>),
    /// The endpoints of one cluster.
    Endpoints(Arc<Target>, outbound::Cluster),
    /// The virtual hosts and outbound filter chains of a host, for a class.
    Routes(ClassId, Arc<str>),
    /// Everything of a host, for a class.
    Host(ClassId, Arc<str>),
    /// The virtual hosts of a domain of a gateway, for a class.
    Domain(ClassId, Arc<str>),
    /// What a class has whatever services there are.
    Fixed(ClassId),
    /// What arrives at the workload of a proxy.
    Own(Arc<Proxy>),
}

/// What a unit yields.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Accounts(Arc<BTreeSet<Arc<str>>>),
    Class(Arc<Class>),
    Scope(Arc<Scope>),
    Domains(Arc<BTreeSet<Arc<str>>>),
    Part(Arc<Part>),
    Parts(Parts),
}

/// What units are computed from.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) mesh: Mesh,
    /// The mesh's identities; they never change, so reading them is no dependency.
    pub(crate) identities: Option<Arc<Identities>>,
    /// The classes in use, by number.
    pub(crate) classes: Vec<Option<Arc<Class>>>,
}

/// The compiler as a program for the memo.
pub(crate) struct Weft;

pub(crate) type Reading<'a> = Reader<'a, Weft>;

impl Program for Weft {
    type Unit = Unit;
    type Fact = Fact;
    type Value = Value;
    type Input = World;
    type Context = Option<Arc<Class>>;
    const RANKS: usize = 5;

    fn rank(unit: &Unit) -> usize {
        match unit {
            Unit::Accounts(..) => 0,
            Unit::Class(_) | Unit::Clusters(_) | Unit::Endpoints(..) => 1,
            Unit::Scope(_) | Unit::Domains(_) | Unit::Own(_) => 2,
            Unit::Routes(..) | Unit::Domain(..) | Unit::Fixed(_) => 3,
            Unit::Host(..) => 4,
        }
    }

    fn context(unit: &Unit, world: &World) -> Option<Arc<Class>> {
        match unit {
            Unit::Scope(id)
            | Unit::Domains(id)
            | Unit::Routes(id, _)
            | Unit::Host(id, _)
            | Unit::Domain(id, _)
            | Unit::Fixed(id) => world.classes.get(id.0 as usize)?.clone(),
            Unit::Accounts(..)
            | Unit::Class(_)
            | Unit::Clusters(_)
            | Unit::Endpoints(..)
            | Unit::Own(_) => None,
        }
    }

    fn compute(unit: &Unit, read: &mut Reading<'_>) -> Value {
        match unit {
            Unit::Accounts(entry, host) => {
                Value::Accounts(Arc::new(outbound::accounts(entry, host, &mut read.view())))
            }
            Unit::Class(proxy) => Value::Class(Arc::new(class::of(proxy, &mut read.view()))),
            Unit::Scope(id) => {
                Value::Scope(Arc::new(Scope::of(&read.class(*id), &mut read.view())))
            }
            Unit::Domains(id) => Value::Domains(Arc::new(gateway::domains(
                &read.class(*id),
                &mut read.view(),
            ))),
            Unit::Clusters(target) => Value::Part(outbound::clusters(target, read).signed(read)),
            Unit::Endpoints(target, cluster) => {
                Value::Part(outbound::endpoints(target, cluster, read).signed(read))
            }
            Unit::Routes(id, host) => Value::Part(sidecar::routes(*id, host, read).signed(read)),
            Unit::Host(id, host) => Value::Parts(outbound::host(*id, host, read)),
            Unit::Domain(id, domain) => {
                alone(gateway::virtual_hosts(*id, domain, read).signed(read))
            }
            Unit::Fixed(id) => {
                let own = match read.class(*id).role {
                    Role::Sidecar => sidecar::fixed(*id, read),
                    Role::Gateway => gateway::fixed(*id, read),
                };
                alone(own.signed(read))
            }
            Unit::Own(proxy) => {
                let inbound = inbound::own(proxy, read).signed(read);
                let runtime = runtime::layer(proxy, read).signed(read);
                Value::Parts(Arc::from([inbound, runtime]))
            }
        }
    }
}

fn alone(part: Arc<Part>) -> Value {
    Value::Parts(Arc::from([part]))
}

impl Part {
    /// The part, with every resource that was read for it as a source.
    fn signed(mut self, read: &Reading<'_>) -> Arc<Self> {
        let mesh = &read.input().mesh;
        self.sources
            .extend(read.noted().filter_map(|fact| match fact {
                Fact::Resource(key) if mesh.has(key) => Some(key.clone()),
                _ => None,
            }));
        Arc::new(self)
    }
}

impl Record for Reading<'_> {
    fn record(&mut self, fact: Fact) {
        self.note(fact);
    }
}

impl<'a> Reading<'a> {
    /// The mesh, through a view that notes what is read.
    pub(crate) fn view(&mut self) -> View<'a, '_> {
        let world = self.input();
        world.mesh.view(self)
    }

    /// The mesh's identities, if it has any. Who reads them depends on which trust domains are federated.
    pub(crate) fn identities(&mut self) -> Option<Arc<Identities>> {
        let identities = self.input().identities.clone()?;
        let mut view = self.view();
        let config = view.mesh_config();
        let federated = config.map_or(&[][..], |config| &config.federated_trust_domains);
        if federated.is_empty() {
            return Some(identities);
        }
        let names = federated
            .iter()
            .filter_map(|it| it.trust_domain.parse().ok());
        let names = names.filter(|name| *name != identities.trust_domain);
        Some(Arc::new(Identities {
            federated: names.collect(),
            ..(*identities).clone()
        }))
    }

    /// Whether the mesh has identities.
    pub(crate) fn has_identities(&self) -> bool {
        self.input().identities.is_some()
    }

    /// The accounts that a service runs as.
    pub(crate) fn accounts(&mut self, target: &Target) -> Arc<BTreeSet<Arc<str>>> {
        match self.demand(Unit::Accounts(target.entry.clone(), target.host.clone())) {
            Value::Accounts(accounts) => accounts,
            other => unreachable!("accounts are computed for accounts, not {other:?}"),
        }
    }

    /// A class. It never changes, so reading it is no dependency.
    pub(crate) fn class(&self, id: ClassId) -> Arc<Class> {
        self.input().classes[id.0 as usize]
            .clone()
            .expect("a class is kept while units of it are")
    }

    /// What a class sees.
    pub(crate) fn scope(&mut self, id: ClassId) -> Arc<Scope> {
        match self.demand(Unit::Scope(id)) {
            Value::Scope(scope) => scope,
            other => unreachable!("a scope is computed for a scope, not {other:?}"),
        }
    }

    /// The part that a unit yields.
    pub(crate) fn part(&mut self, unit: Unit) -> Arc<Part> {
        match self.demand(unit) {
            Value::Part(part) => part,
            other => unreachable!("a part is computed for this unit, not {other:?}"),
        }
    }
}
