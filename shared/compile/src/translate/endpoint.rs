//! Endpoints: from the workloads behind a cluster to a `ClusterLoadAssignment`.
//!
//! Grouped by locality and ordered by their content, so that equal sets of workloads give equal bytes whatever order they
//! came in. Weights and priorities by locality are in [`super::locality`].
//!
//! *Invariant:* nothing here drops an endpoint; whether a workload belongs to the cluster was decided before.

use std::collections::BTreeMap;

use super::locality::{Balance, Place};
use super::{locality, mtls, pb};

/// What an endpoint says of its transport: `istio` is mutual TLS, anything else plaintext.
pub(crate) const TLS_MODE: &str = "tlsMode";

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Address {
    /// An IP address, or for DNS clusters a host name, and a port.
    Socket(String, u16),
    /// A unix domain socket.
    Unix(String),
}

impl Address {
    /// Reads `ServiceEntry.endpoints[].address`: `unix:///path` is a socket in the file system, anything else a host.
    pub(crate) fn new(address: &str, port: u16) -> Self {
        match address.strip_prefix("unix://") {
            Some(path) => Self::Unix(path.into()),
            None => Self::Socket(address.into(), port),
        }
    }
}

/// One endpoint of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// Where it is.
    pub(crate) place: Place,
    /// Where it listens.
    pub(crate) address: Address,
    /// Its share of the traffic; 0 means none was given, which counts as 1.
    pub(crate) weight: u32,
    /// The port its health is asked on, where that is not the one it serves on.
    pub(crate) health_check_port: Option<u16>,
    /// The labels of its workload, for `failoverPriority`.
    pub(crate) labels: BTreeMap<String, String>,
    /// The workload: `namespace/name`. Empty for an endpoint written into a ServiceEntry.
    pub(crate) workload: String,
    /// Whether its proxy takes mutual TLS there, and clients are to use it.
    pub(crate) mtls: bool,
}

impl Default for Address {
    fn default() -> Self {
        Self::Socket(String::new(), 0)
    }
}

/// The endpoints of a cluster. No endpoint gives an assignment without localities, which is how Envoy is told that the last
/// one left.
pub(crate) fn load_assignment(
    cluster: &str,
    endpoints: &[Endpoint],
    balance: &Balance<'_>,
) -> pb::ClusterLoadAssignment {
    let mut sorted: Vec<&Endpoint> = endpoints.iter().collect();
    sorted.sort();
    let groups = locality::groups(&sorted, balance);
    pb::ClusterLoadAssignment {
        cluster_name: cluster.into(),
        endpoints: groups.iter().map(locality_lb_endpoints).collect(),
        ..Default::default()
    }
}

fn locality_lb_endpoints(group: &locality::Group<'_>) -> pb::LocalityLbEndpoints {
    pb::LocalityLbEndpoints {
        locality: group.place.to_pb(),
        priority: group.priority,
        load_balancing_weight: pb::u32_value(group.weight),
        lb_endpoints: group
            .endpoints
            .iter()
            .map(|endpoint| lb_endpoint(endpoint))
            .collect(),
        ..Default::default()
    }
}

fn lb_endpoint(endpoint: &Endpoint) -> pb::LbEndpoint {
    pb::LbEndpoint {
        load_balancing_weight: pb::u32_value(endpoint.weight.max(1)),
        metadata: metadata(endpoint),
        host_identifier: Some(pb::lb_endpoint::HostIdentifier::Endpoint(pb::Endpoint {
            address: Some(address(&endpoint.address)),
            health_check_config: endpoint.health_check_port.map(health_check_config),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// Which workload it is, and by which of the cluster's transport sockets it is called.
fn metadata(endpoint: &Endpoint) -> Option<pb::Metadata> {
    let workload = (!endpoint.workload.is_empty())
        .then(|| pb::metadata("istio", "workload", pb::string(&endpoint.workload)));
    let mtls = endpoint.mtls.then(|| {
        let mode = pb::string(mtls::ALPN);
        pb::metadata("envoy.transport_socket_match", TLS_MODE, mode)
    });
    let both = [workload, mtls].into_iter().flatten();
    both.reduce(|mut one, other| {
        one.filter_metadata.extend(other.filter_metadata);
        one
    })
}

fn health_check_config(port: u16) -> pb::endpoint::HealthCheckConfig {
    pb::endpoint::HealthCheckConfig {
        port_value: port.into(),
        ..Default::default()
    }
}

/// An address as Envoy takes it.
pub(crate) fn address(address: &Address) -> pb::Address {
    use pb::address::Address as Kind;
    let kind = match address {
        Address::Socket(host, port) => Kind::SocketAddress(pb::SocketAddress {
            address: host.clone(),
            port_specifier: Some(pb::socket_address::PortSpecifier::PortValue((*port).into())),
            ..Default::default()
        }),
        Address::Unix(path) => Kind::Pipe(pb::Pipe {
            path: path.clone(),
            ..Default::default()
        }),
    };
    pb::Address {
        address: Some(kind),
    }
}

#[cfg(test)]
mod tests;
