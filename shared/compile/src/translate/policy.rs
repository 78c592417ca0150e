//! Which traffic policy holds for one port of one destination, and what a destination leads to.
//!
//! *Invariant:* a port-level setting replaces what stands at the level around it; nothing of that level shines through.

use model::spec::{ConsistentHashLb, Destination, TrafficPolicy};

use super::names;

/// What a destination leads to, as the mesh knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upstream {
    /// The full host name; empty if there is no such destination.
    pub(crate) host: String,
    /// The ports of the service; empty when nobody knows it.
    pub(crate) ports: Vec<u16>,
    /// The consistent hashing of the destination's policy ([`consistent_hash`]).
    pub(crate) hash: Option<ConsistentHashLb>,
}

impl Upstream {
    /// What a destination that does not exist leads to: the cluster without endpoints.
    pub(crate) fn nowhere() -> Self {
        Self::default()
    }

    /// The cluster of a destination (`GetDestinationCluster`).
    pub(crate) fn cluster(&self, destination: &Destination, listener_port: u16) -> String {
        if self.host.is_empty() {
            return names::BLACK_HOLE.into();
        }
        let port = self.port(destination, listener_port);
        names::outbound(
            port,
            destination.subset.as_deref().unwrap_or_default(),
            &self.host,
        )
    }

    /// The explicit port, else the service's only port, else the listener's.
    pub(crate) fn port(&self, destination: &Destination, listener_port: u16) -> u16 {
        let only = match self.ports.as_slice() {
            [only] => *only,
            _ => listener_port,
        };
        destination.port.map_or(only, |it| it.number)
    }
}

/// The policy for a port of a subset, or of the whole destination when `subset` is `None` (`MergeTrafficPolicy`): the
/// destination's, over it the subset's part by part, each replaced whole by its settings for the port.
pub(crate) fn effective(
    destination: Option<&TrafficPolicy>,
    subset: Option<&TrafficPolicy>,
    port: u16,
) -> TrafficPolicy {
    let mut effective = TrafficPolicy::default();
    for level in [destination, subset].into_iter().flatten() {
        apply(&mut effective, level);
        let of_port = level
            .port_level_settings
            .iter()
            .find(|it| it.port.number == port);
        if let Some(settings) = of_port {
            effective.connection_pool = settings.connection_pool.clone();
            effective.outlier_detection = settings.outlier_detection.clone();
            effective.load_balancer = settings.load_balancer.clone();
            effective.tls = settings.tls.clone();
        }
    }
    effective
}

fn apply(onto: &mut TrafficPolicy, level: &TrafficPolicy) {
    fn over<T: Clone>(onto: &mut Option<T>, level: &Option<T>) {
        if level.is_some() {
            onto.clone_from(level);
        }
    }
    over(&mut onto.connection_pool, &level.connection_pool);
    over(&mut onto.outlier_detection, &level.outlier_detection);
    over(&mut onto.load_balancer, &level.load_balancer);
    over(&mut onto.tls, &level.tls);
    over(&mut onto.proxy_protocol, &level.proxy_protocol);
    over(&mut onto.retry_budget, &level.retry_budget);
}

/// The consistent hashing of an effective policy.
pub(crate) fn consistent_hash(policy: &TrafficPolicy) -> Option<&ConsistentHashLb> {
    policy.load_balancer.as_ref()?.consistent_hash.as_ref()
}

#[cfg(test)]
mod tests;
