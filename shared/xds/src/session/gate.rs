//! Make before break: new routes and listeners wait for the clusters they need, and what they stopped using is removed
//! only once they are known to have stopped.
//!
//! *Invariant:* nothing waits for ever on a client that says nothing; every wait here has an end that `deadline` knows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::state::{Good, Held};
use super::{Session, Variant};
use crate::{Resource, ResourceType, Snapshot};

/// The types that send traffic to clusters.
const USERS: [ResourceType; 3] = [
    ResourceType::Listener,
    ResourceType::ScopedRoute,
    ResourceType::Route,
];

impl Session {
    /// Whether this type has to wait for clusters to be ACKed.
    pub(super) fn gated(&mut self, now: Instant, ty: ResourceType) -> bool {
        if !USERS.contains(&ty) {
            return false;
        }
        let clusters = &self.types[ResourceType::Cluster as usize];
        let unsettled =
            clusters.subscribed() && !(clusters.flights.is_empty() && clusters.trials.is_empty());
        let state = &mut self.types[ty as usize];
        if !unsettled {
            state.waiting = None;
            return false;
        }
        let until = *state.waiting.get_or_insert(now) + self.options.route_wait;
        if now < until {
            state.wake_at(until);
        }
        now < until
    }

    /// Whether something has to wait because it would send traffic to a cluster that was refused.
    pub(super) fn blocked(&mut self, now: Instant, resource: &Resource) -> bool {
        let clusters = &self.types[ResourceType::Cluster as usize];
        if clusters.refused.is_empty() || !USERS.contains(&resource.ty()) {
            return false;
        }
        let missing = resource.refs_to(ResourceType::Cluster).any(|name| {
            clusters.refused.contains_key(name)
                && clusters.held(ResourceType::Cluster, name).good == Good::Nothing
                && clusters.names.contains(name)
        });
        if !missing {
            return false;
        }
        let state = &mut self.types[resource.ty() as usize];
        let until = *state.blocked.get_or_insert(now) + self.options.route_wait;
        if now < until {
            state.wake_at(until);
        }
        now < until
    }

    /// The clusters among `names` that the snapshot no longer has and the client has to keep.
    pub(super) fn kept_clusters(
        &mut self,
        now: Instant,
        target: &Snapshot,
        names: &BTreeSet<Arc<str>>,
    ) -> BTreeSet<Arc<str>> {
        let ty = ResourceType::Cluster;
        if !self.options.late_removal {
            return BTreeSet::new();
        }
        let clusters = &self.types[ty as usize];
        let leaving: Vec<(Arc<str>, Held)> = names
            .iter()
            .filter(|name| target.get(ty, name).is_none())
            .map(|name| (name.clone(), clusters.held(ty, name)))
            .filter(|(_, held)| held.good != Good::Nothing)
            .collect();
        self.leaving.retain(|name, _| {
            target.get(ty, name).is_none() && clusters.held(ty, name).good != Good::Nothing
        });
        let warm = leaving.is_empty() || self.listeners_have_routes();
        leaving
            .into_iter()
            .filter(|(name, held)| self.keeps(now, name, held, warm))
            .map(|(name, _)| name)
            .collect()
    }

    fn keeps(&mut self, now: Instant, name: &Arc<str>, held: &Held, warm: bool) -> bool {
        let cluster = ResourceType::Cluster;
        if self.options.only.is_some() {
            return false;
        }
        // Just connected: who uses the cluster will be asked for within moments.
        let soon = self.opened + self.options.grace;
        if self.variant == Variant::Delta && matches!(held.good, Good::Reported(_)) && now < soon {
            self.types[cluster as usize].wake_at(soon);
            return true;
        }
        let users = || {
            USERS
                .into_iter()
                .map(|ty| (ty, &self.types[ty as usize]))
                .filter(|(_, s)| s.subscribed())
        };
        if users().next().is_none() {
            return false;
        }
        // Routes that are gone, and that no listener names any more, are not in use, whatever was not said of them.
        let listeners = &self.types[ResourceType::Listener as usize];
        let target = self.target.as_deref();
        let over = |ty: ResourceType, name: &str| {
            ty == ResourceType::Route
                && listeners.subscribed()
                && target.is_some_and(|target| target.get(ty, name).is_none())
                && !listeners.refers(ResourceType::Listener, ty, name)
        };
        if users().any(|(ty, state)| state.doubtful(cluster, name, |user| over(ty, user))) {
            return true;
        }
        let unknown = |held: &Held| matches!(held.good, Good::Reported(_));
        let used = !warm
            || users().any(|(ty, state)| {
                state.refers(ty, cluster, name) || state.except.values().any(unknown)
            });
        if !used {
            return false;
        }
        let until = *self.leaving.entry(name.clone()).or_insert(now) + self.options.retain;
        if now < until {
            self.types[cluster as usize].wake_at(until);
        }
        now < until
    }

    /// Whether every route configuration that the ACKed listeners name was ACKed: until then the listeners before
    /// them, and the routes of those, are what takes traffic.
    fn listeners_have_routes(&self) -> bool {
        let route = ResourceType::Route;
        let (listeners, routes) = (
            &self.types[ResourceType::Listener as usize],
            &self.types[route as usize],
        );
        !listeners.subscribed()
            || !routes.opened
            || listeners
                .base
                .referred(ResourceType::Listener, route)
                .all(|name| {
                    routes.names.contains(name) && routes.held(route, name).good != Good::Nothing
                })
    }

    /// Whether endpoints that the snapshot no longer has are kept, because a cluster that leaves still needs them.
    pub(super) fn keeps_endpoints(&self, target: &Snapshot, name: &str) -> bool {
        let (cluster, endpoint) = (ResourceType::Cluster, ResourceType::Endpoint);
        let clusters = &self.types[cluster as usize];
        self.options.late_removal
            && clusters.subscribed()
            && !target.refers(cluster, endpoint, name)
            && (clusters.refers(cluster, endpoint, name)
                || clusters.doubtful(endpoint, name, |_| false))
    }
}
