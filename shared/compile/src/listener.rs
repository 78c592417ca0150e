//! Listeners: what accepts connections, and the filters that connections then pass.
//!
//! *Invariant:* nothing here knows a service or a policy; callers say which routes and clusters are meant.

mod http;
mod pieces;

use model::spec::{Subnet, TlsProtocol};
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

/// TLS that ends at the listener, with certificates from files; none if the settings name no files.
pub(crate) fn downstream_tls(
    settings: &model::spec::ServerTlsSettings,
    http: bool,
) -> Option<pb::TransportSocket> {
    let file = |path: &str| pb::DataSource {
        specifier: Some(pb::data_source::Specifier::Filename(path.into())),
        ..Default::default()
    };
    let (certificate, key) = settings
        .server_certificate
        .as_deref()
        .zip(settings.private_key.as_deref())?;
    let certificate = pb::tls::TlsCertificate {
        certificate_chain: Some(file(certificate)),
        private_key: Some(file(key)),
        ..Default::default()
    };
    let validation = pb::tls::CertificateValidationContext {
        trusted_ca: settings.ca_certificates.as_deref().map(file),
        crl: settings.ca_crl.as_deref().map(file),
        match_typed_subject_alt_names: settings
            .subject_alt_names
            .iter()
            .flat_map(|name| any_san(name))
            .collect(),
        ..Default::default()
    };
    let trusted = (validation != pb::tls::CertificateValidationContext::default()).then_some(
        pb::tls::common_tls_context::ValidationContextType::ValidationContext(validation),
    );
    let parameters = pb::tls::TlsParameters {
        tls_minimum_protocol_version: protocol(settings.min_protocol_version),
        tls_maximum_protocol_version: protocol(settings.max_protocol_version),
        cipher_suites: settings.cipher_suites.clone(),
        ..Default::default()
    };
    let context = pb::tls::DownstreamTlsContext {
        require_client_certificate: (settings.mode == model::spec::ServerTlsMode::Mutual)
            .then_some(pb::BoolValue { value: true }),
        common_tls_context: Some(pb::tls::CommonTlsContext {
            tls_certificates: vec![certificate],
            validation_context_type: trusted,
            tls_params: (parameters != pb::tls::TlsParameters::default()).then_some(parameters),
            alpn_protocols: if http {
                vec!["h2".into(), "http/1.1".into()]
            } else {
                Vec::new()
            },
            ..Default::default()
        }),
        ..Default::default()
    };
    Some(pb::TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(pb::transport_socket::ConfigType::TypedConfig(pb::any(
            &context,
        ))),
    })
}

/// A version of TLS as Envoy numbers it; 0 is Envoy's choice.
fn protocol(version: Option<TlsProtocol>) -> i32 {
    match version {
        None | Some(TlsProtocol::Auto) => 0,
        Some(TlsProtocol::V1_0) => 1,
        Some(TlsProtocol::V1_1) => 2,
        Some(TlsProtocol::V1_2) => 3,
        Some(TlsProtocol::V1_3) => 4,
    }
}

/// A name that a client's certificate may have, as a URI or as a DNS name.
fn any_san(name: &str) -> [pb::tls::SubjectAltNameMatcher; 2] {
    use pb::tls::subject_alt_name_matcher::SanType;
    [SanType::Uri, SanType::Dns].map(|of| pb::tls::SubjectAltNameMatcher {
        san_type: of.into(),
        matcher: Some(pb::StringMatcher {
            match_pattern: Some(pb::string_matcher::MatchPattern::Exact(name.into())),
            ..Default::default()
        }),
        ..Default::default()
    })
}
