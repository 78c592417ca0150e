//! TCP and TLS routes: from a VirtualService's `tcp` and `tls` rules to filter chains in the making.
//!
//! A [`Chain`] says which connections it takes and holds the finished `tcp_proxy`; the caller knows the listener and puts it
//! there. As Istio's `buildSidecarOutboundTLSFilterChainOpts` and `…TCPFilterChainOpts`.
//!
//! *Invariant:* no two chains made here take the same connections.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::spec::{
    Destination, L4MatchAttributes, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute,
};
use pb::tcp_proxy::tcp_proxy::{
    ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight,
};

use xds::pb::envoy::config::accesslog::v3::AccessLog;

use super::policy::Upstream;
use super::{pb, route};

/// Where routes are compiled for: one VirtualService, on one listener, for one proxy.
pub(crate) struct Scope<'a> {
    /// The VirtualService's name.
    pub(crate) name: &'a str,
    /// The VirtualService's namespace.
    pub(crate) namespace: &'a str,
    /// The listener's port.
    pub(crate) port: u16,
    /// What the routes are bound to: `mesh`, or gateways as `namespace/name`.
    pub(crate) gateways: &'a [String],
    /// The labels of the proxy's workload.
    pub(crate) proxy_labels: &'a BTreeMap<String, String>,
    /// The namespace of the proxy.
    pub(crate) proxy_namespace: &'a str,
    /// What a destination leads to, with what its policy says of connections.
    pub(crate) resolve: &'a dyn Fn(&Destination) -> (Upstream, Connections),
}

/// What a destination's policy and the mesh say of the connections through a `tcp_proxy`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections {
    /// `connectionPool.tcp.idleTimeout`.
    pub(crate) idle_timeout: Option<Duration>,
    /// `connectionPool.tcp.maxConnectionDuration`.
    pub(crate) max_duration: Option<Duration>,
    /// `consistentHash.useSourceIp`.
    pub(crate) hash_source_ip: bool,
    /// Where their ends are logged, if anywhere.
    pub(crate) access_log: Vec<AccessLog>,
}

/// A filter chain in the making.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chain {
    /// Server names it takes; empty for any.
    pub(crate) sni_hosts: Vec<String>,
    /// Destination addresses it takes, as CIDR; empty for the service's own.
    pub(crate) destination_subnets: Vec<String>,
    /// Source addresses it takes, as CIDR; empty for any.
    pub(crate) source_subnets: Vec<String>,
    /// Where it leads.
    pub(crate) proxy: pb::tcp_proxy::TcpProxy,
}

/// The chains of `tls` rules; the first of several with the same server names, subnets counts.
pub(crate) fn tls_chains(rules: &[TlsRoute], scope: &Scope<'_>) -> Vec<Chain> {
    let mut taken = BTreeSet::new();
    let mut chains = Vec::new();
    for rule in rules {
        for condition in rule.matches.iter().filter(|it| tls_concerns(it, scope)) {
            let sni_hosts = sni_hosts(condition);
            if taken.insert((sni_hosts.clone(), &condition.destination_subnets)) {
                chains.push(Chain {
                    sni_hosts,
                    destination_subnets: condition.destination_subnets.clone(),
                    source_subnets: Vec::new(),
                    proxy: proxy(&rule.route, scope),
                });
            }
        }
    }
    chains
}

/// The chains of `tcp` rules, up to and including the first that takes every connection.
pub(crate) fn tcp_chains(rules: &[TcpRoute], scope: &Scope<'_>) -> Vec<Chain> {
    let mut taken = BTreeSet::new();
    let mut chains = Vec::new();
    for rule in rules {
        let matches = rule.matches.iter().filter(|it| tcp_concerns(it, scope));
        let mut conditions: Vec<(Vec<String>, Vec<String>)> = matches
            .map(|it| (it.destination_subnets.clone(), source_subnets(it)))
            .collect();
        if rule.matches.is_empty() {
            conditions.push(Default::default());
        }
        for (destination_subnets, source_subnets) in conditions {
            let all = destination_subnets.is_empty() && source_subnets.is_empty();
            if taken.insert((destination_subnets.clone(), source_subnets.clone())) {
                chains.push(Chain {
                    sni_hosts: Vec::new(),
                    destination_subnets,
                    source_subnets,
                    proxy: proxy(&rule.route, scope),
                });
            }
            if all {
                return chains;
            }
        }
    }
    chains
}

/// The chain to a service that no rule speaks of.
pub(crate) fn default_chain(
    cluster: &str,
    sni_hosts: Vec<String>,
    connections: Connections,
) -> Chain {
    Chain {
        sni_hosts,
        destination_subnets: Vec::new(),
        source_subnets: Vec::new(),
        proxy: to_cluster(cluster, connections),
    }
}

/// A `tcp_proxy` to one cluster.
pub(crate) fn to_cluster(cluster: &str, connections: Connections) -> pb::tcp_proxy::TcpProxy {
    tcp_proxy(
        cluster,
        ClusterSpecifier::Cluster(cluster.into()),
        connections,
    )
}

fn tls_concerns(condition: &TlsMatchAttributes, scope: &Scope<'_>) -> bool {
    concerns(
        scope,
        condition.port,
        &condition.gateways,
        &condition.source_labels,
        condition.source_namespace.as_deref(),
    )
}

fn tcp_concerns(condition: &L4MatchAttributes, scope: &Scope<'_>) -> bool {
    concerns(
        scope,
        condition.port,
        &condition.gateways,
        &condition.source_labels,
        condition.source_namespace.as_deref(),
    )
}

/// What is known before a connection comes (`matchTLS`, `matchTCP`): all of it must hold.
fn concerns(
    scope: &Scope<'_>,
    port: Option<u16>,
    gateways: &[String],
    labels: &BTreeMap<String, String>,
    namespace: Option<&str>,
) -> bool {
    port.is_none_or(|port| port == scope.port)
        && (gateways.is_empty() || route::bound_to(gateways, scope.namespace, scope.gateways))
        && labels
            .iter()
            .all(|(key, value)| scope.proxy_labels.get(key) == Some(value))
        && namespace.is_none_or(|namespace| namespace == scope.proxy_namespace)
}

/// The server names; `*` among them is any, which Envoy says by naming none.
fn sni_hosts(condition: &TlsMatchAttributes) -> Vec<String> {
    let any = condition.sni_hosts.iter().any(|host| host == "*");
    if any {
        Vec::new()
    } else {
        condition.sni_hosts.clone()
    }
}

fn source_subnets(condition: &L4MatchAttributes) -> Vec<String> {
    condition.source_subnet.iter().cloned().collect()
}

/// One destination whatever its weight; of several those with a weight. The first destination's policy speaks for the
/// connections, as in Istio.
fn proxy(destinations: &[RouteDestination], scope: &Scope<'_>) -> pb::tcp_proxy::TcpProxy {
    let resolved: Vec<_> = destinations
        .iter()
        .map(|it| {
            let (upstream, connections) = (scope.resolve)(&it.destination);
            (
                upstream.cluster(&it.destination, scope.port),
                it.weight,
                connections,
            )
        })
        .collect();
    let connections = resolved
        .first()
        .map(|(_, _, connections)| connections.clone())
        .unwrap_or_default();
    if let [(cluster, ..)] = resolved.as_slice() {
        return to_cluster(cluster, connections);
    }
    let weighted = resolved.into_iter().filter(|(_, weight, _)| *weight > 0);
    let clusters = weighted.map(|(name, weight, _)| ClusterWeight {
        name,
        weight,
        ..Default::default()
    });
    let clusters = WeightedCluster {
        clusters: clusters.collect(),
    };
    let stat_prefix = format!("{}.{}", scope.name, scope.namespace);
    tcp_proxy(
        &stat_prefix,
        ClusterSpecifier::WeightedClusters(clusters),
        connections,
    )
}

fn tcp_proxy(
    stat_prefix: &str,
    specifier: ClusterSpecifier,
    connections: Connections,
) -> pb::tcp_proxy::TcpProxy {
    let source_ip = pb::HashPolicy {
        policy_specifier: Some(pb::hash_policy::PolicySpecifier::SourceIp(
            Default::default(),
        )),
    };
    pb::tcp_proxy::TcpProxy {
        stat_prefix: stat_prefix.into(),
        cluster_specifier: Some(specifier),
        idle_timeout: connections.idle_timeout.map(pb::duration),
        max_downstream_connection_duration: connections.max_duration.map(pb::duration),
        hash_policy: connections
            .hash_source_ip
            .then_some(source_ip)
            .into_iter()
            .collect(),
        access_log: connections.access_log,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
