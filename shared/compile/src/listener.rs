//! Listeners: what accepts connections, and the filters that connections then pass.
//!
//! *Invariant:* nothing here knows a service or a policy; callers say which routes and clusters are meant.

mod http;
mod pieces;

use model::spec::Subnet;
use xds::pb::envoy::config::listener::v3 as lds;
use xds::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;

pub(crate) use http::{Http, Routes, http_filter};
pub(crate) use pieces::{ListenerPiece, Takes, join};

use crate::translate::{endpoint, names, pb, tcp};

use xds::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter as hcm_filter,
};

pub(crate) use lds::{Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter};

/// A listener on an address.
pub(crate) fn listener(
    name: &str,
    address: &str,
    port: u16,
    direction: pb::TrafficDirection,
) -> Listener {
    Listener {
        name: name.into(),
        address: Some(endpoint::address(&endpoint::Address::new(address, port))),
        traffic_direction: direction.into(),
        ..Default::default()
    }
}

/// The name of a listener: `0.0.0.0_8000`.
pub(crate) fn name(address: &str, port: u16) -> String {
    format!("{address}_{port}")
}

/// A network filter.
pub(crate) fn filter(name: &str, config: pb::Any) -> Filter {
    Filter {
        name: name.into(),
        config_type: Some(lds::filter::ConfigType::TypedConfig(config)),
    }
}

/// An HTTP filter.
pub(crate) fn http_extension(name: &str, config: pb::Any) -> HttpFilter {
    HttpFilter {
        name: name.into(),
        config_type: Some(hcm_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

/// A filter that forwards the bytes of a connection.
pub(crate) fn tcp_filter(proxy: &pb::tcp_proxy::TcpProxy) -> Filter {
    filter("envoy.filters.network.tcp_proxy", pb::any(proxy))
}

/// A filter chain of one filter for every connection.
pub(crate) fn chain_of(filter: Filter) -> FilterChain {
    chain_through(vec![filter])
}

/// What becomes of connections made to the port of a listener that takes intercepted ones: to lead them where they were going
/// would lead them here again, without end. As Istio's `virtualOutbound-trap`.
pub(crate) fn trap(port: u16) -> FilterChain {
    let nowhere = tcp::to_cluster(names::BLACK_HOLE, tcp::Connections::default());
    FilterChain {
        filter_chain_match: Some(FilterChainMatch {
            destination_port: pb::u32_value(port.into()),
            ..Default::default()
        }),
        ..chain_of(tcp_filter(&nowhere))
    }
}

/// A filter chain of these filters for every connection.
pub(crate) fn chain_through(filters: Vec<Filter>) -> FilterChain {
    FilterChain {
        filters,
        ..Default::default()
    }
}

/// A filter chain as a TCP or TLS rule made it. `at`: the addresses of the service, where the rule names none.
pub(crate) fn chain(chain: &tcp::Chain, at: &[String]) -> FilterChain {
    let destinations = if chain.destination_subnets.is_empty() {
        at
    } else {
        &chain.destination_subnets
    };
    let condition = FilterChainMatch {
        prefix_ranges: destinations
            .iter()
            .filter_map(|cidr| cidr_range(cidr))
            .collect(),
        source_prefix_ranges: chain
            .source_subnets
            .iter()
            .filter_map(|cidr| cidr_range(cidr))
            .collect(),
        server_names: sni(&chain.sni_hosts),
        transport_protocol: if chain.sni_hosts.is_empty() {
            String::new()
        } else {
            "tls".into()
        },
        ..Default::default()
    };
    let condition = (condition != FilterChainMatch::default()).then_some(condition);
    FilterChain {
        filter_chain_match: condition,
        ..chain_of(tcp_filter(&chain.proxy))
    }
}

/// Server names as Envoy matches them; `*` is every name and so no condition.
pub(crate) fn sni(hosts: &[String]) -> Vec<String> {
    if hosts.iter().any(|host| host == "*") {
        Vec::new()
    } else {
        hosts.to_vec()
    }
}

/// An address or a CIDR as Envoy takes it.
pub(crate) fn cidr_range(text: &str) -> Option<pb::CidrRange> {
    let (address, length) = text.parse::<Subnet>().ok()?.parts();
    Some(pb::CidrRange {
        address_prefix: address.to_string(),
        prefix_len: pb::u32_value(length.into()),
    })
}

/// Looks at the first bytes of a connection for TLS and its server name.
pub(crate) fn tls_inspector() -> ListenerFilter {
    listener_filter(
        "envoy.filters.listener.tls_inspector",
        pb::any(&TlsInspector::default()),
    )
}

/// A listener filter.
pub(crate) fn listener_filter(name: &str, config: pb::Any) -> ListenerFilter {
    ListenerFilter {
        name: name.into(),
        config_type: Some(lds::listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

/// Whether a filter chain of a listener needs the TLS inspector.
pub(crate) fn looks_at_tls(chain: &FilterChain) -> bool {
    let condition = chain.filter_chain_match.as_ref();
    condition.is_some_and(|it| !it.server_names.is_empty() || !it.transport_protocol.is_empty())
}
