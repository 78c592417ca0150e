//! Virtual hosts, and the routes that no VirtualService wrote.
//!
//! *Invariant:* every virtual host made here has a route that matches everything, or the routes it was given.

use model::spec::{ConsistentHashLb, HttpRetry};
use pb::route::Action;
use pb::route_action::{ClusterSpecifier, MaxStreamDuration};

use super::{action, hash, matching, retry};
use crate::translate::{names, pb};

/// The virtual host of a name and port: `reviews.default.svc.cluster.local:80`.
pub(crate) fn virtual_host(
    host: &str,
    port: u16,
    domains: Vec<String>,
    routes: Vec<pb::Route>,
) -> pb::VirtualHost {
    pb::VirtualHost {
        name: names::authority(host, port),
        domains,
        routes,
        include_request_attempt_count: true,
        ..Default::default()
    }
}

/// The route to a service that no VirtualService speaks of: no timeout, Istio's retries.
pub(crate) fn default_route(
    cluster: &str,
    hash: Option<&ConsistentHashLb>,
    default_retry: Option<&HttpRetry>,
) -> pb::Route {
    let operation = match names::host_and_port(cluster) {
        Some((host, port)) => format!("{host}:{port}/*"),
        None => format!("{cluster}/*"),
    };
    let action = pb::RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.into())),
        retry_policy: retry::retry(default_retry, false),
        hash_policy: hash.and_then(hash::hash_policy).into_iter().collect(),
        ..action::timed(None)
    };
    to_all("default", operation, Action::Route(action))
}

/// The route to the workload itself (`BuildDefaultHTTPInboundRoute`): no timeout, whatever a gRPC client asks for, and a retry
/// where the request provably never arrived.
pub(crate) fn inbound_route(cluster: &str, operation: String) -> pb::Route {
    let none = Some(pb::Duration::default());
    let action = pb::RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.into())),
        max_stream_duration: Some(MaxStreamDuration {
            max_stream_duration: none,
            grpc_timeout_header_max: none,
            ..Default::default()
        }),
        retry_policy: Some(pb::RetryPolicy {
            retry_on: "reset-before-request".into(),
            num_retries: pb::u32_value(2),
            ..Default::default()
        }),
        ..action::timed(None)
    };
    to_all("default", operation, Action::Route(action))
}

/// The virtual host for hosts nobody knows, where leaving the mesh is allowed (`outboundTrafficPolicy: ALLOW_ANY`).
pub(crate) fn allow_any(cluster: &str) -> pb::VirtualHost {
    let action = pb::RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.into())),
        ..action::timed(None)
    };
    for_unknown("allow_any", Action::Route(action))
}

/// The virtual host for hosts nobody knows, where only the registry may be called (`REGISTRY_ONLY`): 502, as in Istio.
pub(crate) fn block_all() -> pb::VirtualHost {
    let response = pb::DirectResponseAction {
        status: 502,
        ..Default::default()
    };
    for_unknown("block_all", Action::DirectResponse(response))
}

fn for_unknown(name: &str, action: Action) -> pb::VirtualHost {
    pb::VirtualHost {
        name: name.into(),
        domains: vec!["*".into()],
        routes: vec![to_all(name, format!("{name}/*"), action)],
        include_request_attempt_count: true,
        ..Default::default()
    }
}

fn to_all(name: &str, operation: String, action: Action) -> pb::Route {
    pb::Route {
        name: name.into(),
        r#match: Some(matching::route_match(None)),
        decorator: Some(pb::Decorator {
            operation,
            ..Default::default()
        }),
        action: Some(action),
        ..Default::default()
    }
}
