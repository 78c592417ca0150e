//! How far the client is with the newest snapshot, as far as its answers tell.
//!
//! *Invariant:* nothing here is an estimate: each step was said by the client.

use std::sync::Arc;

use super::Session;
use super::state::{Good, TypeState};
use crate::{ResourceType, Snapshot};

/// How far a client is with a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// Something is not sent yet, or not answered.
    #[default]
    Behind,
    /// It answered everything it was sent.
    Acked,
    /// It asked for all routes that its listeners name, and ACKed them as well: a listener takes traffic only then. Clusters
    /// need no such step, for Envoy ACKs them when they are warm.
    Warm,
}

impl Session {
    /// How far the client is with the newest snapshot. On a stream of one type no more is known than that type.
    pub fn progress(&self) -> Progress {
        let Some(target) = &self.target else {
            return Progress::Behind;
        };
        let all = self.options.only.is_some();
        let needed = [ResourceType::Cluster, ResourceType::Listener];
        let asked = all || needed.iter().all(|ty| self.types[*ty as usize].opened);
        let mut opened = self.types.iter().filter(|state| state.opened);
        if !asked || !opened.all(|state| state.is_in_step(target)) {
            Progress::Behind
        } else if all || self.listeners_are_warm() {
            Progress::Warm
        } else {
            Progress::Acked
        }
    }

    /// The newest snapshot and how far the client is with it, if it got further since this was last asked.
    pub fn progressed(&mut self) -> Option<(Arc<Snapshot>, Progress)> {
        let target = self.target.clone()?;
        let before = match &self.seen {
            Some((seen, before)) if Arc::ptr_eq(seen, &target) => *before,
            _ => Progress::Behind,
        };
        if before == Progress::Warm {
            return None;
        }
        let now = self.progress();
        (now > before).then(|| {
            self.seen = Some((target.clone(), now));
            (target, now)
        })
    }

    fn listeners_are_warm(&self) -> bool {
        let (listener, route) = (ResourceType::Listener, ResourceType::Route);
        let routes = &self.types[route as usize];
        let held = |name: &str| {
            routes.names.contains(name) && routes.held(route, name).good != Good::Nothing
        };
        let mut named = self.types[listener as usize].base.referred(listener, route);
        named.all(|name| held(name) || self.refused_listeners_name(name))
    }

    /// Whether only listeners that the client refused name a route configuration: it never asks for that.
    fn refused_listeners_name(&self, route: &str) -> bool {
        let listener = ResourceType::Listener;
        let listeners = &self.types[listener as usize];
        let mut naming = (listeners.base.iter(listener))
            .filter(|it| (it.refs_to(ResourceType::Route)).any(|name| &**name == route));
        naming.all(|it| listeners.refused.get(it.name()) == Some(it.version()))
    }
}

impl TypeState {
    /// Whether everything that the client asked for of this snapshot was sent and answered.
    fn is_in_step(&self, target: &Arc<Snapshot>) -> bool {
        self.flights.is_empty()
            && self.trials.is_empty()
            && !self.owed
            && Arc::ptr_eq(&self.base, target)
            && !self.except.values().any(|held| held.asked)
    }
}
