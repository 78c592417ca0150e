//! `CUSTOM` policies: an RBAC filter that only notes what they match, and a filter that asks their provider about it.
//!
//! Source: Istio's `pilot/pkg/security/authz/builder/extauthz.go`.
//!
//! *Invariant:* what `CUSTOM` policies match is denied unless exactly one provider is named, known and reachable.

use std::time::Duration;

use model::authz::Policy;
use model::authz::terms::Protocol;
use model::spec::{
    AuthorizationAction, ExtAuthzBody, ExtAuthzGrpc, ExtAuthzHttp, ExtensionProvider,
};
use xds::pb::envoy::extensions::filters::http::ext_authz::v3 as http;
use xds::pb::envoy::extensions::filters::network::ext_authz::v3 as network;
use xds::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use xds::pb::envoy::r#type::matcher::v3::metadata_matcher::{PathSegment, path_segment::Segment};
use xds::pb::envoy::r#type::matcher::v3::{ListStringMatcher, MetadataMatcher};
use xds::pb::envoy::r#type::v3::HttpStatus;

use super::matchers;
use super::{
    CUSTOM_NOTES, Clients, HTTP_FILTER, NETWORK_FILTER, Rules, headers as of_headers, http_filter,
    is_custom, network_filter, rules,
};
use crate::listener::{self, Filter};
use crate::translate::pb;

/// What the notes of the RBAC filter begin with.
const NOTE_PREFIX: &str = "istio_ext_authz_";
/// The note: the name of the policy that matched.
const NOTE: &str = "istio_ext_authz_shadow_effective_policy_id";
/// How long a provider may take where nobody says, as in Istio.
const TIMEOUT: Duration = Duration::from_secs(600);

/// A provider that can be asked.
#[derive(Clone, Copy)]
pub(crate) struct Provider<'a> {
    /// As MeshConfig has it.
    pub(crate) config: &'a ExtensionProvider,
    /// The cluster that leads to it.
    pub(crate) cluster: &'a str,
}

/// The `CUSTOM` policies among these that decide something.
pub(crate) fn custom<'a, 'p>(
    policies: &'a [Policy<'p>],
) -> impl Iterator<Item = &'a Policy<'p>> + use<'a, 'p> {
    policies.iter().filter(|it| is_custom(it) && !it.dry_run)
}

/// The HTTP filters; without a provider, what the policies match is denied.
pub(crate) fn http_filters(
    policies: &[Policy<'_>],
    provider: Option<Provider<'_>>,
    clients: &Clients,
) -> Vec<HttpFilter> {
    let policies: Vec<_> = custom(policies).collect();
    if policies.is_empty() {
        return Vec::new();
    }
    let rules = rules(
        &policies,
        AuthorizationAction::Custom,
        Protocol::Http,
        clients,
    );
    let headers_noted = of_headers::notes(policies.iter().copied(), CUSTOM_NOTES).into_iter();
    let Some((ask, provider)) = provider.and_then(|it| Some((http_services(it)?, it))) else {
        let deny = http_filter(Rules {
            enforced: Some(rules),
            shadow: None,
        });
        return headers_noted.chain([deny]).collect();
    };
    let note = http_filter(Rules {
        enforced: None,
        shadow: Some((rules, NOTE_PREFIX)),
    });
    let (of_http, of_grpc) = parts(provider);
    let (open, status, body) = match (of_http, of_grpc) {
        (Some(it), _) => (
            it.fail_open,
            &it.status_on_error,
            &it.include_request_body_in_check,
        ),
        (_, Some(it)) => (
            it.fail_open,
            &it.status_on_error,
            &it.include_request_body_in_check,
        ),
        _ => (false, &None, &None),
    };
    let sent = of_http.map(|it| it.include_request_headers_in_check.as_slice());
    let config = http::ExtAuthz {
        transport_api_version: pb::ApiVersion::V3.into(),
        failure_mode_allow: open,
        status_on_error: Some(HttpStatus {
            code: status
                .as_deref()
                .and_then(|it| it.parse().ok())
                .unwrap_or(403),
        }),
        with_request_body: body.as_ref().map(body_settings),
        filter_enabled_metadata: Some(noted(HTTP_FILTER)),
        allowed_headers: headers(sent.unwrap_or_default()),
        services: Some(ask),
        ..Default::default()
    };
    let ask = listener::http_extension("envoy.filters.http.ext_authz", pb::any(&config));
    headers_noted.chain([note, ask]).collect()
}

/// The network filters. Only a provider of gRPC can be asked about connections.
pub(crate) fn network_filters(
    policies: &[Policy<'_>],
    provider: Option<Provider<'_>>,
) -> Vec<Filter> {
    let policies: Vec<_> = custom(policies).collect();
    if policies.is_empty() {
        return Vec::new();
    }
    let rules = rules(
        &policies,
        AuthorizationAction::Custom,
        Protocol::Tcp,
        &Clients::Seen,
    );
    let grpc = provider.and_then(|it| Some((it.config.envoy_ext_authz_grpc.as_ref()?, it)));
    let Some((config, provider)) = grpc else {
        return vec![network_filter(Rules {
            enforced: Some(rules),
            shadow: None,
        })];
    };
    let note = network_filter(Rules {
        enforced: None,
        shadow: Some((rules, NOTE_PREFIX)),
    });
    let config = network::ExtAuthz {
        stat_prefix: "tcp.".into(),
        grpc_service: Some(grpc_service(config, provider.cluster)),
        failure_mode_allow: config.fail_open,
        transport_api_version: pb::ApiVersion::V3.into(),
        filter_enabled_metadata: Some(noted(NETWORK_FILTER)),
        ..Default::default()
    };
    let ask = listener::filter("envoy.filters.network.ext_authz", pb::any(&config));
    vec![note, ask]
}

type Parts<'a> = (Option<&'a ExtAuthzHttp>, Option<&'a ExtAuthzGrpc>);

fn parts(provider: Provider<'_>) -> Parts<'_> {
    let config = provider.config;
    (
        config.envoy_ext_authz_http.as_ref(),
        config.envoy_ext_authz_grpc.as_ref(),
    )
}

fn http_services(provider: Provider<'_>) -> Option<http::ext_authz::Services> {
    use http::ext_authz::Services;
    match parts(provider) {
        (Some(config), _) => Some(Services::HttpService(http_service(
            config,
            provider.cluster,
        ))),
        (_, Some(config)) => Some(Services::GrpcService(grpc_service(
            config,
            provider.cluster,
        ))),
        _ => None,
    }
}

fn grpc_service(config: &ExtAuthzGrpc, cluster: &str) -> pb::GrpcService {
    use pb::grpc_service::{EnvoyGrpc, TargetSpecifier};
    let timeout = config.timeout.map_or(TIMEOUT, |it| it.0);
    pb::GrpcService {
        timeout: Some(pb::duration(timeout)),
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: cluster.into(),
            // The name of the cluster, which Envoy would send, is none that servers take.
            authority: authority(&config.service, config.port),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn http_service(config: &ExtAuthzHttp, cluster: &str) -> http::HttpService {
    let timeout = config.timeout.map_or(TIMEOUT, |it| it.0);
    let added = config.include_additional_headers_in_check.iter();
    let added = added.map(|(key, value)| pb::HeaderValue {
        key: key.clone(),
        value: value.clone(),
        ..Default::default()
    });
    http::HttpService {
        server_uri: Some(pb::HttpUri {
            uri: format!("http://{}", authority(&config.service, config.port)),
            timeout: Some(pb::duration(timeout)),
            http_upstream_type: Some(pb::http_uri::HttpUpstreamType::Cluster(cluster.into())),
        }),
        path_prefix: config.path_prefix.clone().unwrap_or_default(),
        authorization_request: Some(http::AuthorizationRequest {
            headers_to_add: added.collect(),
            ..Default::default()
        }),
        authorization_response: Some(http::AuthorizationResponse {
            allowed_upstream_headers: headers(&config.headers_to_upstream_on_allow),
            allowed_client_headers: headers(&config.headers_to_downstream_on_deny),
            allowed_client_headers_on_success: headers(&config.headers_to_downstream_on_allow),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Where a provider is, without the namespace of its service.
fn authority(service: &str, port: u16) -> String {
    let host = service.rsplit('/').next().unwrap_or_default();
    format!("{host}:{port}")
}

/// Names of headers: exact, `prefix*` or `*suffix`, in any case.
fn headers(names: &[String]) -> Option<ListStringMatcher> {
    let patterns = names.iter().map(|name| pb::StringMatcher {
        ignore_case: true,
        ..matchers::string(model::authz::matching::Pattern::of(name))
    });
    (!names.is_empty()).then(|| ListStringMatcher {
        patterns: patterns.collect(),
    })
}

fn body_settings(body: &ExtAuthzBody) -> http::BufferSettings {
    http::BufferSettings {
        max_request_bytes: body.max_request_bytes,
        allow_partial_message: body.allow_partial_message,
        pack_as_bytes: body.pack_as_bytes,
    }
}

/// That the RBAC filter before noted a policy.
fn noted(filter: &str) -> MetadataMatcher {
    MetadataMatcher {
        filter: filter.into(),
        path: vec![PathSegment {
            segment: Some(Segment::Key(NOTE.into())),
        }],
        value: Some(matchers::value(matchers::string(
            model::authz::matching::Pattern::Prefix("ns["),
        ))),
        ..Default::default()
    }
}
