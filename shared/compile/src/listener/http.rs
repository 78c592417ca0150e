//! The HTTP connection manager, as Istio sets it up where a stock Envoy can.
//!
//! *Invariant:* every one has the CORS, fault and router filters, in this order, so that routes can rely on them; what decides
//! which requests pass stands after CORS.

use model::mesh::View;
use model::spec::NormalizationType;
use xds::pb::envoy::config::accesslog::v3 as log;
use xds::pb::envoy::extensions::filters::http::{
    dynamic_forward_proxy::v3 as forward, router::v3::Router,
};
use xds::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;

use super::{Filter, filter, http_extension as extension};
use crate::security::{self, Security};
use crate::settings;
use crate::translate::{cluster, pb};

use hcm::HttpFilter;
use hcm::http_connection_manager::{
    ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
    ServerHeaderTransformation, UpgradeConfig,
};

/// Where the routes of a listener come from.
pub(crate) enum Routes<'a> {
    /// A route configuration of the snapshot.
    Named(&'a str),
    /// These, which never change apart from their listener.
    Inline(Box<pb::RouteConfiguration>),
}

/// What distinguishes one HTTP connection manager from another.
pub(crate) struct Http<'a> {
    /// The prefix of its statistics.
    pub(crate) stat_prefix: &'a str,
    /// Its routes.
    pub(crate) routes: Routes<'a>,
    /// Whether it is at the edge: it then does not believe what clients say of themselves.
    pub(crate) edge: bool,
    /// Whether it is an HTTP proxy, which resolves names of its own and refuses `CONNECT` with 405.
    pub(crate) forward_proxy: bool,
    /// Whether the workload is told which identity the client proved, in a header that clients cannot forge.
    pub(crate) identified: bool,
    /// What decides which requests pass.
    pub(crate) security: Vec<HttpFilter>,
    /// How paths are normalised before anything looks at them.
    pub(crate) normalization: NormalizationType,
    /// Whether paths that are not plain are sent back: where policies are applied.
    pub(crate) strict: bool,
    /// Where accesses are logged, if anywhere.
    pub(crate) access_log: Vec<log::AccessLog>,
}

impl<'a> Http<'a> {
    /// For calls out of a workload.
    pub(crate) fn outbound(
        stat_prefix: &'a str,
        routes: Routes<'a>,
        view: &mut View<'_, '_>,
    ) -> Self {
        Self {
            stat_prefix,
            routes,
            edge: false,
            forward_proxy: false,
            identified: false,
            security: Vec::new(),
            normalization: security::normalization(view),
            strict: false,
            access_log: settings::access_log(view),
        }
    }

    /// For applications that use the proxy as their HTTP proxy.
    pub(crate) fn proxy(stat_prefix: &'a str, routes: Routes<'a>, view: &mut View<'_, '_>) -> Self {
        Self {
            forward_proxy: true,
            ..Self::outbound(stat_prefix, routes, view)
        }
    }

    /// For what arrives at a workload.
    pub(crate) fn inbound(
        stat_prefix: &'a str,
        routes: Routes<'a>,
        security: &Security,
        view: &mut View<'_, '_>,
    ) -> Self {
        Self {
            security: security.http.clone(),
            strict: true,
            ..Self::outbound(stat_prefix, routes, view)
        }
    }

    /// For what arrives at the edge.
    pub(crate) fn gateway(
        stat_prefix: &'a str,
        routes: Routes<'a>,
        security: &Security,
        view: &mut View<'_, '_>,
    ) -> Self {
        Self {
            edge: true,
            ..Self::inbound(stat_prefix, routes, security, view)
        }
    }
}

/// The HTTP connection manager as a network filter.
pub(crate) fn http_filter(http: Http<'_>) -> Filter {
    let route_specifier = match http.routes {
        Routes::Named(name) => RouteSpecifier::Rds(hcm::Rds {
            config_source: Some(pb::ads(std::time::Duration::from_secs(15))),
            route_config_name: name.into(),
        }),
        Routes::Inline(config) => RouteSpecifier::RouteConfig(*config),
    };
    let server_header = if http.edge {
        ServerHeaderTransformation::Overwrite
    } else {
        ServerHeaderTransformation::PassThrough
    };
    let certificate = if http.edge || http.identified {
        ForwardClientCertDetails::SanitizeSet
    } else {
        ForwardClientCertDetails::Sanitize
    };
    let forward = http.forward_proxy.then(|| {
        let config = forward::FilterConfig {
            implementation_specifier: Some(
                forward::filter_config::ImplementationSpecifier::DnsCacheConfig(
                    cluster::dns_cache(),
                ),
            ),
            ..Default::default()
        };
        extension("envoy.filters.http.dynamic_forward_proxy", pb::any(&config))
    });
    let (escaped, merge_slashes, normalize) = paths(http.normalization, http.strict);
    // A browser asks whether it may ask before it has anything to show.
    let cors = extension("envoy.filters.http.cors", pb::any(&pb::cors::Cors {}));
    let fault = extension(
        "envoy.filters.http.fault",
        pb::any(&pb::fault::HttpFault::default()),
    );
    let filters = [cors].into_iter().chain(http.security).chain([fault]);
    let router = extension("envoy.filters.http.router", pb::any(&Router::default()));
    let manager = hcm::HttpConnectionManager {
        stat_prefix: http.stat_prefix.into(),
        route_specifier: Some(route_specifier),
        use_remote_address: pb::bool_value(http.edge),
        forward_client_cert_details: certificate.into(),
        set_current_client_cert_details: http.identified.then(|| {
            hcm::http_connection_manager::SetCurrentClientCertDetails {
                uri: true,
                ..Default::default()
            }
        }),
        server_header_transformation: server_header.into(),
        normalize_path: pb::bool_value(normalize),
        merge_slashes,
        path_with_escaped_slashes_action: escaped.into(),
        stream_idle_timeout: Some(pb::Duration::default()),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".into(),
            ..Default::default()
        }],
        scheme_header_transformation: Some(pb::SchemeHeaderTransformation {
            match_upstream: true,
            ..Default::default()
        }),
        local_reply_config: http.forward_proxy.then(connect_is_405),
        http_filters: filters.chain(forward).chain([router]).collect(),
        access_log: http.access_log,
        ..Default::default()
    };
    filter(
        "envoy.filters.network.http_connection_manager",
        pb::any(&manager),
    )
}

/// What is done about encoded slashes, repeated slashes, and the rest. The default is stricter than Istio's where policies are
/// applied, and no stricter elsewhere: a path that a client sends to a third party is not ours to change.
fn paths(
    normalization: NormalizationType,
    strict: bool,
) -> (PathWithEscapedSlashesAction, bool, bool) {
    use PathWithEscapedSlashesAction::{KeepUnchanged, UnescapeAndForward, UnescapeAndRedirect};
    match normalization {
        NormalizationType::Default if strict => (UnescapeAndRedirect, true, true),
        NormalizationType::Default | NormalizationType::Base => (KeepUnchanged, false, true),
        NormalizationType::None => (KeepUnchanged, false, false),
        NormalizationType::MergeSlashes => (KeepUnchanged, true, true),
        NormalizationType::DecodeAndMergeSlashes => (UnescapeAndForward, true, true),
    }
}

/// No route takes `CONNECT`, so Envoy answers 404; what the client should hear is that the method is not allowed.
fn connect_is_405() -> hcm::LocalReplyConfig {
    use log::access_log_filter::FilterSpecifier;
    let only = |specifier| log::AccessLogFilter {
        filter_specifier: Some(specifier),
    };
    let not_found = log::ComparisonFilter {
        op: log::comparison_filter::Op::Eq.into(),
        value: Some(pb::RuntimeUInt32 {
            default_value: 404,
            runtime_key: "weft.connect_status".into(),
        }),
    };
    let not_found = log::StatusCodeFilter {
        comparison: Some(not_found),
    };
    let connect = pb::HeaderMatcher {
        name: ":method".into(),
        header_match_specifier: Some(pb::header_matcher::HeaderMatchSpecifier::StringMatch(
            pb::StringMatcher {
                match_pattern: Some(pb::string_matcher::MatchPattern::Exact("CONNECT".into())),
                ..Default::default()
            },
        )),
        ..Default::default()
    };
    let both = log::AndFilter {
        filters: vec![
            only(FilterSpecifier::StatusCodeFilter(not_found)),
            only(FilterSpecifier::HeaderFilter(log::HeaderFilter {
                header: Some(connect),
            })),
        ],
    };
    let mapper = hcm::ResponseMapper {
        filter: Some(only(FilterSpecifier::AndFilter(both))),
        status_code: pb::u32_value(405),
        ..Default::default()
    };
    hcm::LocalReplyConfig {
        mappers: vec![mapper],
        ..Default::default()
    }
}
