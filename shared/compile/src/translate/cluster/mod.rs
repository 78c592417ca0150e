//! Clusters: from a service port with the policy that holds for it to an Envoy cluster.
//!
//! The policy comes merged ([`super::policy::effective`]); this module knows no DestinationRule. Istio's defaults stand where the
//! policy is silent: least request, 10 s to connect, no limits, no panic.
//!
//! *Invariant:* nothing deprecated in Envoy 1.36 to 1.40 is set.

mod connection_pool;
pub(crate) mod health;
mod http;
mod load_balancer;
mod outlier;
pub(crate) mod tls;

use std::collections::BTreeMap;
use std::time::Duration;

use model::spec::{LocalityLoadBalancerSetting, SimpleLb, TcpKeepalive, TrafficPolicy};
use pb::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy,
};

pub(crate) use http::Protocol;

use super::endpoint::{self, Endpoint};
use super::locality::{Balance, Place};
use super::secrets::Uploaded;
use super::{mtls, pb};

/// How Envoy learns the endpoints of a cluster (`ServiceEntry.resolution`).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Discovery<'a> {
    /// `STATIC`, and `NONE` at gateways: by EDS.
    Eds,
    /// `DNS`: every address of every name.
    StrictDns(&'a [Endpoint]),
    /// `DNS_ROUND_ROBIN`: for each connection, the address of the first name that DNS gives next.
    LogicalDns(&'a [Endpoint]),
    /// `NONE`: where the connection was going before it was intercepted.
    OriginalDst,
    /// `NONE` where nothing is intercepted: the host that a request names.
    Name,
    /// Endpoints that never change: the workload's own ports.
    Static(&'a [Endpoint]),
}

/// What the mesh sets for every cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults<'a> {
    /// `MeshConfig.connectTimeout`.
    pub(crate) connect_timeout: Duration,
    /// `MeshConfig.tcpKeepalive`.
    pub(crate) tcp_keepalive: Option<&'a TcpKeepalive>,
    /// `MeshConfig.localityLbSetting`.
    pub(crate) locality: Option<&'a LocalityLoadBalancerSetting>,
    /// The file with the proxy's system certificates, for TLS without `caCertificates`.
    pub(crate) system_ca: &'a str,
}

/// Who calls: decides locality.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    /// The locality of the proxy.
    pub(crate) place: &'a Place,
    /// The labels of its workload.
    pub(crate) labels: &'a BTreeMap<String, String>,
}

/// Everything an outbound cluster is made of.
#[derive(Clone, Debug)]
pub(crate) struct Input<'a> {
    /// The cluster's name ([`super::names::outbound`]).
    pub(crate) name: &'a str,
    /// How its endpoints are found.
    pub(crate) discovery: Discovery<'a>,
    /// What its port speaks.
    pub(crate) protocol: Protocol,
    /// The policy that holds for the port.
    pub(crate) policy: &'a TrafficPolicy,
    /// `ServiceEntry.subjectAltNames`, for TLS that names none itself.
    pub(crate) subject_alt_names: &'a [String],
    /// How it takes part in the mutual TLS of the mesh, if there is any.
    pub(crate) peers: Option<mtls::Peers<'a>>,
    /// Where certificates come from that the policy names by `credentialName`, if they can be had.
    pub(crate) uploaded: Option<Uploaded<'a>>,
    /// The active health check, if its workloads have one ([`health::health_check`]).
    pub(crate) health_check: Option<pb::HealthCheck>,
    /// Namespace and name of the DestinationRule the policy came from.
    pub(crate) rule: Option<(&'a str, &'a str)>,
    /// The mesh's defaults.
    pub(crate) defaults: Defaults<'a>,
    /// Who calls.
    pub(crate) caller: Caller<'a>,
}

impl<'a> Input<'a> {
    /// How the cluster's endpoints are balanced over localities; EDS must use the same.
    pub(crate) fn balance(&self) -> Balance<'a> {
        balance(self.policy, self.caller, self.defaults.locality)
    }

    /// Whether connections go where somebody else says, not to endpoints that say how they are called.
    fn by_address(&self) -> bool {
        self.is_original_dst() || matches!(self.discovery, Discovery::Name)
    }

    fn is_original_dst(&self) -> bool {
        let simple = self.policy.load_balancer.as_ref().and_then(|it| it.simple);
        matches!(self.discovery, Discovery::OriginalDst) || simple == Some(SimpleLb::Passthrough)
    }
}

/// How the endpoints of a cluster with this policy are balanced over localities for a caller.
pub(crate) fn balance<'a>(
    policy: &'a TrafficPolicy,
    caller: Caller<'a>,
    mesh: Option<&'a LocalityLoadBalancerSetting>,
) -> Balance<'a> {
    let rule = policy
        .load_balancer
        .as_ref()
        .and_then(|it| it.locality_lb_setting.as_ref());
    Balance::new(
        caller.place,
        caller.labels,
        rule,
        mesh,
        policy.outlier_detection.is_some(),
    )
}

/// The cluster of a service port, or of a subset of it.
pub(crate) fn outbound(input: &Input<'_>) -> pb::Cluster {
    let balance = input.balance();
    let pool = input.policy.connection_pool.as_ref();
    let version = http::version(input.protocol, pool);
    let transport = tls::transport(input, version);
    let health_checks: Vec<_> = input.health_check.iter().cloned().collect();
    let mut cluster = pb::Cluster {
        // A host that has left the registry leaves at once, whatever the health check thinks of it.
        ignore_health_on_host_removal: !health_checks.is_empty(),
        health_checks,
        outlier_detection: input
            .policy
            .outlier_detection
            .as_ref()
            .map(outlier::outlier_detection),
        common_lb_config: Some(load_balancer::common(input, &balance)),
        transport_socket: transport.socket,
        transport_socket_matches: transport.matches,
        typed_extension_protocol_options: http::options(version, pool, transport.policy),
        metadata: input
            .rule
            .map(|(ns, name)| super::route::config_metadata("destination-rule", ns, name)),
        ..base(input.name, input.defaults, input.policy)
    };
    if matches!(input.discovery, Discovery::Name) {
        return by_name(cluster);
    }
    if input.is_original_dst() {
        cluster.cluster_discovery_type = discovery_type(DiscoveryType::OriginalDst);
        cluster.lb_policy = LbPolicy::ClusterProvided.into();
        return cluster;
    }
    discover(&mut cluster, input.discovery, &balance);
    load_balancer::apply(&mut cluster, input.policy.load_balancer.as_ref());
    cluster
}

/// The cluster of one of the workload's own ports. Of the policy only the connection pool concerns it, as in Istio.
pub(crate) fn inbound(
    name: &str,
    protocol: Protocol,
    endpoint: &Endpoint,
    policy: &TrafficPolicy,
    defaults: Defaults<'_>,
) -> pb::Cluster {
    let (place, labels) = (Place::default(), BTreeMap::new());
    let balance = Balance::new(&place, &labels, None, None, false);
    let pool = policy.connection_pool.as_ref();
    let mut cluster = pb::Cluster {
        typed_extension_protocol_options: http::options(http::version(protocol, pool), pool, None),
        ..base(name, defaults, policy)
    };
    discover(
        &mut cluster,
        Discovery::Static(std::slice::from_ref(endpoint)),
        &balance,
    );
    cluster
}

/// The cluster that leads wherever the connection was going (`PassthroughCluster`).
pub(crate) fn passthrough(name: &str, defaults: Defaults<'_>) -> pb::Cluster {
    pb::Cluster {
        cluster_discovery_type: discovery_type(DiscoveryType::OriginalDst),
        lb_policy: LbPolicy::ClusterProvided.into(),
        typed_extension_protocol_options: http::downstream_protocol(),
        ..base(name, defaults, &TrafficPolicy::default())
    }
}

/// The cluster that leads to whatever host a request names (`ForwardCluster`), found by DNS.
pub(crate) fn forward(name: &str, defaults: Defaults<'_>) -> pb::Cluster {
    by_name(base(name, defaults, &TrafficPolicy::default()))
}

/// Leads a cluster to the host that a request names. The filter before it must share the [cache](dns_cache).
fn by_name(cluster: pb::Cluster) -> pb::Cluster {
    use pb::dynamic_forward_proxy::{
        ClusterConfig, cluster_config::ClusterImplementationSpecifier::DnsCacheConfig,
    };
    let config = ClusterConfig {
        cluster_implementation_specifier: Some(DnsCacheConfig(dns_cache())),
        // The server's name is the policy's matter, as with every other cluster.
        allow_insecure_cluster_options: !cluster.typed_extension_protocol_options.is_empty(),
        ..Default::default()
    };
    pb::Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::ClusterType(
            pb::cluster::CustomClusterType {
                name: "envoy.clusters.dynamic_forward_proxy".into(),
                typed_config: Some(pb::any(&config)),
            },
        )),
        lb_policy: LbPolicy::ClusterProvided.into(),
        ..cluster
    }
}

/// The cache of names that [`forward`] and the filter before it share; both must say the same.
pub(crate) fn dns_cache() -> pb::dns_cache::DnsCacheConfig {
    pb::dns_cache::DnsCacheConfig {
        name: "weft".into(),
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        ..Default::default()
    }
}

/// The cluster that leads nowhere (`BlackHoleCluster`).
pub(crate) fn black_hole(name: &str, defaults: Defaults<'_>) -> pb::Cluster {
    pb::Cluster {
        cluster_discovery_type: discovery_type(DiscoveryType::Static),
        ..base(name, defaults, &TrafficPolicy::default())
    }
}

/// What every cluster has: limits and timeouts.
fn base(name: &str, defaults: Defaults<'_>, policy: &TrafficPolicy) -> pb::Cluster {
    let pool = policy.connection_pool.as_ref();
    pb::Cluster {
        name: name.into(),
        connect_timeout: Some(pb::duration(connection_pool::connect_timeout(
            pool, defaults,
        ))),
        circuit_breakers: Some(connection_pool::circuit_breakers(policy)),
        upstream_connection_options: connection_pool::keepalive(pool, defaults),
        ..Default::default()
    }
}

fn discover(cluster: &mut pb::Cluster, discovery: Discovery<'_>, balance: &Balance<'_>) {
    let (kind, endpoints) = match discovery {
        Discovery::Eds => {
            cluster.eds_cluster_config = Some(eds(&cluster.name));
            (DiscoveryType::Eds, None)
        }
        Discovery::StrictDns(endpoints) => (DiscoveryType::StrictDns, Some(endpoints)),
        // Envoy takes exactly one name.
        Discovery::LogicalDns(endpoints) => (
            DiscoveryType::LogicalDns,
            Some(&endpoints[..endpoints.len().min(1)]),
        ),
        Discovery::OriginalDst | Discovery::Name => (DiscoveryType::OriginalDst, None),
        Discovery::Static(endpoints) => (DiscoveryType::Static, Some(endpoints)),
    };
    cluster.cluster_discovery_type = discovery_type(kind);
    if matches!(kind, DiscoveryType::StrictDns | DiscoveryType::LogicalDns) {
        cluster.dns_lookup_family = DnsLookupFamily::V4Preferred.into();
    }
    cluster.load_assignment =
        endpoints.map(|endpoints| endpoint::load_assignment(&cluster.name, endpoints, balance));
}

/// Endpoints over the stream the cluster came on. A service without an answer must not hold up all clusters for longer than
/// the fetch timeout.
fn eds(name: &str) -> EdsClusterConfig {
    EdsClusterConfig {
        eds_config: Some(pb::ads(Duration::from_secs(5))),
        service_name: name.into(),
    }
}

fn discovery_type(kind: DiscoveryType) -> Option<ClusterDiscoveryType> {
    Some(ClusterDiscoveryType::Type(kind.into()))
}

#[cfg(test)]
pub(crate) mod tests;
