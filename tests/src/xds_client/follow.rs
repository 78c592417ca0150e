//! What a resource is called and which others it makes an Envoy ask for.
//!
//! *Invariant:* a resource that does not decode has no name and is counted all the same.

use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster};
use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener, filter::ConfigType};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use prost::Message as _;

use super::Type;

impl Type {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cluster, Self::Endpoint, Self::Listener, Self::Route];

    pub(crate) const fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    pub(crate) fn of(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.url() == url)
    }

    /// The type whose names this type's resources bring.
    pub(crate) const fn refers_to(self) -> Option<Self> {
        match self {
            Self::Cluster => Some(Self::Endpoint),
            Self::Listener => Some(Self::Route),
            Self::Endpoint | Self::Route => None,
        }
    }
}

/// What the service `clock` shows, if this is it.
pub(super) fn clock(ty: Type, bytes: &[u8]) -> Option<u32> {
    if ty != Type::Endpoint {
        return None;
    }
    let assignment = ClusterLoadAssignment::decode(bytes).ok()?;
    if !assignment.cluster_name.contains("|clock.") {
        return None;
    }
    let endpoint = assignment.endpoints.first()?.lb_endpoints.first()?;
    let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else {
        return None;
    };
    match endpoint.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => match socket.port_specifier.as_ref()? {
            PortSpecifier::PortValue(port) => Some(*port),
            PortSpecifier::NamedPort(_) => None,
        },
        _ => None,
    }
}

/// A resource's name and the names it refers to.
pub(super) fn read(ty: Type, bytes: &[u8]) -> Option<(String, Vec<String>)> {
    Some(match ty {
        Type::Cluster => {
            let cluster = Cluster::decode(bytes).ok()?;
            let eds = matches!(
                cluster.cluster_discovery_type,
                Some(cluster::ClusterDiscoveryType::Type(t)) if t == i32::from(cluster::DiscoveryType::Eds)
            );
            let service = cluster
                .eds_cluster_config
                .map(|c| c.service_name)
                .filter(|name| !name.is_empty());
            let refs = if eds {
                vec![service.unwrap_or_else(|| cluster.name.clone())]
            } else {
                Vec::new()
            };
            (cluster.name, refs)
        }
        Type::Endpoint => (
            ClusterLoadAssignment::decode(bytes).ok()?.cluster_name,
            Vec::new(),
        ),
        Type::Listener => {
            let listener = Listener::decode(bytes).ok()?;
            let chains = listener
                .filter_chains
                .iter()
                .chain(&listener.default_filter_chain);
            (
                listener.name,
                chains
                    .flat_map(|chain| &chain.filters)
                    .filter_map(route_name)
                    .collect(),
            )
        }
        Type::Route => (RouteConfiguration::decode(bytes).ok()?.name, Vec::new()),
    })
}

fn route_name(filter: &Filter) -> Option<String> {
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
        return None;
    };
    if !any.type_url.ends_with(".HttpConnectionManager") {
        return None;
    }
    match HttpConnectionManager::decode(any.value.as_slice())
        .ok()?
        .route_specifier?
    {
        RouteSpecifier::Rds(rds) => Some(rds.route_config_name),
        _ => None,
    }
}
