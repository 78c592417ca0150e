//! Constructors for the usual resources. Each returns Envoy's own message, so that what is not covered here can be set
//! on it before it becomes a [`Resource`](crate::Resource).
//!
//! ```
//! use xds::{Resource, Snapshot, make};
//!
//! let snapshot = Snapshot::of(1, [
//!     Resource::new(&make::eds_cluster("service-a")),
//!     Resource::new(&make::endpoints("service-a", &[("127.0.0.1", 9000)])),
//!     Resource::new(&make::routes("http_route", vec![
//!         make::route("/service-a", "service-a"),
//!         make::direct_response("/", 404, "Not Found"),
//!     ])),
//!     Resource::new(&make::http_listener("http_listener", "0.0.0.0", 8080, make::rds("http_route"))),
//! ]);
//! assert!(snapshot.consistent().is_ok());
//! ```
//!
//! *Invariant:* nothing made here is deprecated in a supported Envoy.

use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::google::protobuf::{Duration, UInt32Value};
use envoy_types::util::pack_any;

/// What an HTTP listener takes its routes from.
pub type RouteSpecifier = hcm::http_connection_manager::RouteSpecifier;

/// The configuration source "this same aggregated stream".
pub fn ads() -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        // Envoy ACKs clusters only when all are warm: one that waits for ever would hold up all others.
        initial_fetch_timeout: Some(seconds(5)),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource {},
        )),
        ..Default::default()
    }
}

/// An address and a TCP port.
pub fn address(host: &str, port: u16) -> core::Address {
    let socket = core::SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port.into())),
        ..Default::default()
    };
    core::Address {
        address: Some(core::address::Address::SocketAddress(socket)),
    }
}

/// The endpoints of a cluster, all of one locality.
pub fn endpoints(cluster: &str, addresses: &[(&str, u16)]) -> endpoint::ClusterLoadAssignment {
    let one = |(host, port): &(&str, u16)| endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
            endpoint::Endpoint {
                address: Some(address(host, *port)),
                ..Default::default()
            },
        )),
        ..Default::default()
    };
    endpoint::ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![endpoint::LocalityLbEndpoints {
            lb_endpoints: addresses.iter().map(one).collect(),
            // gRPC's client demands a locality and its weight; Envoy only looks at them if told to.
            locality: Some(core::Locality::default()),
            load_balancing_weight: Some(UInt32Value { value: 1 }),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A cluster whose endpoints come by EDS under its own name, round robin, 1 s to connect.
pub fn eds_cluster(name: &str) -> Cluster {
    let eds = cluster::EdsClusterConfig {
        eds_config: Some(ads()),
        service_name: String::new(),
    };
    Cluster {
        eds_cluster_config: Some(eds),
        ..of_type(name, cluster::DiscoveryType::Eds)
    }
}

/// A cluster of fixed addresses.
pub fn static_cluster(name: &str, addresses: &[(&str, u16)]) -> Cluster {
    Cluster {
        load_assignment: Some(endpoints(name, addresses)),
        ..of_type(name, cluster::DiscoveryType::Static)
    }
}

/// A cluster of all addresses that DNS has for a host; IPv4 only.
pub fn dns_cluster(name: &str, host: &str, port: u16) -> Cluster {
    Cluster {
        load_assignment: Some(endpoints(name, &[(host, port)])),
        dns_lookup_family: cluster::DnsLookupFamily::V4Only as i32,
        connect_timeout: Some(seconds(3)),
        ..of_type(name, cluster::DiscoveryType::StrictDns)
    }
}

/// The same cluster reached by TLS, with this server name; `ca` is a PEM bundle that the server is verified against
/// (`None`: it is not verified).
pub fn with_tls(cluster: Cluster, sni: &str, ca: Option<&str>) -> Cluster {
    let san = tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::Dns as i32,
        matcher: Some(envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher {
            match_pattern: Some(
                envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern::Exact(
                    sni.to_owned(),
                ),
            ),
            ..Default::default()
        }),
        ..Default::default()
    };
    let validation = ca.map(|ca| {
        tls::common_tls_context::ValidationContextType::ValidationContext(
            tls::CertificateValidationContext {
                trusted_ca: Some(inline(ca)),
                match_typed_subject_alt_names: vec![san],
                ..Default::default()
            },
        )
    });
    let context = tls::UpstreamTlsContext {
        sni: sni.to_owned(),
        common_tls_context: Some(tls::CommonTlsContext {
            validation_context_type: validation,
            ..Default::default()
        }),
        ..Default::default()
    };
    let socket = core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack_any(
            context,
        ))),
    };
    Cluster {
        transport_socket: Some(socket),
        ..cluster
    }
}

/// Requests whose path has this prefix go to this cluster.
pub fn route(prefix: &str, cluster: &str) -> route::Route {
    let action = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(
            cluster.to_owned(),
        )),
        ..Default::default()
    };
    route::Route {
        action: Some(route::route::Action::Route(action)),
        ..matching(prefix)
    }
}

/// The same route with the host that upstream sees replaced. (No effect on a route that leads to no cluster.)
pub fn with_host(mut of: route::Route, host: &str) -> route::Route {
    if let Some(route::route::Action::Route(action)) = &mut of.action {
        action.host_rewrite_specifier =
            Some(route::route_action::HostRewriteSpecifier::HostRewriteLiteral(host.to_owned()));
    }
    of
}

/// Requests whose path has this prefix are answered by Envoy itself.
pub fn direct_response(prefix: &str, status: u32, body: &str) -> route::Route {
    let action = route::DirectResponseAction {
        status,
        body: Some(inline(body)),
        ..Default::default()
    };
    route::Route {
        action: Some(route::route::Action::DirectResponse(action)),
        ..matching(prefix)
    }
}

/// A route configuration with these routes for all hosts; the first that matches counts.
pub fn routes(name: &str, routes: Vec<route::Route>) -> route::RouteConfiguration {
    let host = route::VirtualHost {
        name: "all".to_owned(),
        domains: vec!["*".to_owned()],
        routes,
        ..Default::default()
    };
    route::RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![host],
        ..Default::default()
    }
}

/// Routes by RDS, under this name.
pub fn rds(name: &str) -> RouteSpecifier {
    RouteSpecifier::Rds(hcm::Rds {
        config_source: Some(ads()),
        route_config_name: name.to_owned(),
    })
}

/// An HTTP connection manager with these routes and nothing but the router.
pub fn http(routes: RouteSpecifier) -> hcm::HttpConnectionManager {
    let router = hcm::HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(
            Router::default(),
        ))),
        ..Default::default()
    };
    hcm::HttpConnectionManager {
        stat_prefix: "ingress_http".to_owned(),
        route_specifier: Some(routes),
        http_filters: vec![router],
        ..Default::default()
    }
}

/// A listener on an address, with this connection manager on every connection.
pub fn listener(
    name: &str,
    host: &str,
    port: u16,
    http: hcm::HttpConnectionManager,
) -> listener::Listener {
    let filter = listener::Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(http))),
    };
    listener::Listener {
        name: name.to_owned(),
        address: Some(address(host, port)),
        filter_chains: vec![listener::FilterChain {
            filters: vec![filter],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A plain HTTP listener. Routes by [`rds`], or inline: `RouteSpecifier::RouteConfig(routes(…))`.
pub fn http_listener(
    name: &str,
    host: &str,
    port: u16,
    routes: RouteSpecifier,
) -> listener::Listener {
    listener(name, host, port, http(routes))
}

/// A listener for gRPC clients, which resolve `xds:///<name>` to its routes and connect by themselves.
pub fn api_listener(name: &str, routes: RouteSpecifier) -> listener::Listener {
    let api = listener::ApiListener {
        api_listener: Some(pack_any(http(routes))),
    };
    listener::Listener {
        name: name.to_owned(),
        api_listener: Some(api),
        ..Default::default()
    }
}

/// A certificate chain and its key, in PEM.
pub fn tls_secret(name: &str, chain: &str, key: &str) -> tls::Secret {
    let certificate = tls::TlsCertificate {
        certificate_chain: Some(inline(chain)),
        private_key: Some(inline(key)),
        ..Default::default()
    };
    tls::Secret {
        name: name.to_owned(),
        r#type: Some(tls::secret::Type::TlsCertificate(certificate)),
    }
}

/// A text such as a token.
pub fn generic_secret(name: &str, text: &str) -> tls::Secret {
    let generic = tls::GenericSecret {
        secret: Some(inline(text)),
        ..Default::default()
    };
    tls::Secret {
        name: name.to_owned(),
        r#type: Some(tls::secret::Type::GenericSecret(generic)),
    }
}

/// A bundle of certificates that peers are verified against, and what their authorities have revoked, in PEM. With a `crl`, Envoy
/// wants one of every authority that leads to a peer.
pub fn ca_secret(name: &str, bundle: &str, crl: Option<&str>) -> tls::Secret {
    let context = tls::CertificateValidationContext {
        trusted_ca: Some(inline(bundle)),
        crl: crl.map(inline),
        ..Default::default()
    };
    tls::Secret {
        name: name.to_owned(),
        r#type: Some(tls::secret::Type::ValidationContext(context)),
    }
}

/// Bundles of several trust domains, by their names, each in PEM. A peer is verified by the bundle of the trust domain that
/// its SPIFFE ID names, and by no other.
pub fn spiffe_secret<'a>(
    name: &str,
    bundles: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> tls::Secret {
    use tls::spiffe_cert_validator_config::TrustDomain;
    let domain = |(name, bundle): (&str, &str)| TrustDomain {
        name: name.to_owned(),
        trust_bundle: Some(inline(bundle)),
        ..Default::default()
    };
    let validator = tls::SpiffeCertValidatorConfig {
        trust_domains: bundles.into_iter().map(domain).collect(),
        ..Default::default()
    };
    let context = tls::CertificateValidationContext {
        custom_validator_config: Some(core::TypedExtensionConfig {
            name: "envoy.tls.cert_validator.spiffe".into(),
            typed_config: Some(pack_any(validator)),
        }),
        ..Default::default()
    };
    tls::Secret {
        name: name.to_owned(),
        r#type: Some(tls::secret::Type::ValidationContext(context)),
    }
}

fn of_type(name: &str, discovery: cluster::DiscoveryType) -> Cluster {
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(seconds(1)),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(discovery as i32)),
        ..Default::default()
    }
}

fn matching(prefix: &str) -> route::Route {
    let path = route::route_match::PathSpecifier::Prefix(prefix.to_owned());
    route::Route {
        r#match: Some(route::RouteMatch {
            path_specifier: Some(path),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn inline(text: &str) -> core::DataSource {
    core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineString(text.to_owned())),
        ..Default::default()
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}
