//! HTTP routes: from a VirtualService's `http` rules to Envoy routes and virtual hosts.
//!
//! The rules come with delegates already merged ([`delegate::merge`]) and in the order in which they are tried. Each match of a
//! rule becomes a route of its own, as in Istio's `BuildHTTPRoutesForVirtualService`.
//!
//! *Invariant:* no route follows a route that matches everything.

mod action;
mod cors;
pub(crate) mod delegate;
mod fault;
mod hash;
mod headers;
mod matching;
mod redirect;
mod retry;
mod virtual_host;

use std::collections::BTreeMap;

use model::spec::{Destination, HttpMatchRequest, HttpRetry, HttpRoute};

pub(crate) use virtual_host::{allow_any, block_all, default_route, inbound_route, virtual_host};

use super::policy::Upstream;
use super::{names, pb};

/// Where routes are compiled for: one VirtualService, on one listener, for one proxy.
pub(crate) struct Scope<'a> {
    /// The VirtualService's name.
    pub(crate) name: &'a str,
    /// The VirtualService's namespace.
    pub(crate) namespace: &'a str,
    /// The listener's port: what `match.port` is compared with, and the port of a destination that leaves it open.
    pub(crate) port: u16,
    /// Whether the listener terminates TLS, for redirects.
    pub(crate) tls: bool,
    /// What the routes are bound to: `mesh`, or gateways as `namespace/name`.
    pub(crate) gateways: &'a [String],
    /// The labels of the proxy's workload.
    pub(crate) proxy_labels: &'a BTreeMap<String, String>,
    /// The namespace of the proxy.
    pub(crate) proxy_namespace: &'a str,
    /// The mesh's retry policy, for routes without one.
    pub(crate) default_retry: Option<&'a HttpRetry>,
    /// What a destination leads to.
    pub(crate) resolve: &'a dyn Fn(&Destination) -> Upstream,
}

/// The routes of a VirtualService for one listener and proxy, up to and including the first that matches everything. Empty
/// when no rule concerns this proxy on this port.
pub(crate) fn routes(rules: &[HttpRoute], scope: &Scope<'_>) -> Vec<pb::Route> {
    let mut routes = Vec::new();
    for rule in rules {
        let matches = rule.matches.iter().map(Some);
        let unconditional = rule.matches.is_empty().then_some(None);
        for condition in matches.chain(unconditional) {
            if !concerns(condition, scope) {
                continue;
            }
            let route = route(rule, condition, scope);
            let last = is_catch_all(&route);
            routes.push(route);
            if last {
                return routes;
            }
        }
    }
    routes
}

/// Moves routes that match everything behind all others, for a gateway host that several VirtualServices share
/// (`SortVHostRoutes`).
pub(crate) fn catch_all_last(routes: Vec<pb::Route>) -> Vec<pb::Route> {
    let (last, mut first): (Vec<_>, Vec<_>) = routes.into_iter().partition(is_catch_all);
    first.extend(last);
    first
}

/// Whether a route matches every request: nothing after it is reached (`IsCatchAllRoute`).
pub(crate) fn is_catch_all(route: &pb::Route) -> bool {
    use pb::route_match::PathSpecifier::{Prefix, SafeRegex};
    let Some(condition) = &route.r#match else {
        return false;
    };
    let any_path = match &condition.path_specifier {
        Some(Prefix(prefix)) => prefix == "/",
        Some(SafeRegex(regex)) => regex.regex == ".*",
        _ => false,
    };
    any_path && condition.headers.is_empty() && condition.query_parameters.is_empty()
}

/// The conditions that are known before any request: the listener's port, the gateways, and who the proxy is. When gateways
/// are named, the proxy's labels and namespace do not count (`sourceMatchHTTP`).
fn concerns(condition: Option<&HttpMatchRequest>, scope: &Scope<'_>) -> bool {
    let Some(condition) = condition else {
        return true;
    };
    if condition.port.is_some_and(|port| port != scope.port) {
        return false;
    }
    if !condition.gateways.is_empty() {
        return bound_to(&condition.gateways, scope.namespace, scope.gateways);
    }
    let labels = &condition.source_labels;
    labels
        .iter()
        .all(|(key, value)| scope.proxy_labels.get(key) == Some(value))
        && condition
            .source_namespace
            .as_deref()
            .is_none_or(|ns| ns == scope.proxy_namespace)
}

/// Whether one of the named gateways is among those that are compiled for. A name without a namespace is in the
/// VirtualService's own.
pub(crate) fn bound_to(named: &[String], namespace: &str, gateways: &[String]) -> bool {
    named.iter().any(|name| {
        let full = match name.as_str() {
            "mesh" => name.clone(),
            name if name.contains('/') => name.to_owned(),
            name => format!("{namespace}/{name}"),
        };
        gateways.contains(&full)
    })
}

fn route(rule: &HttpRoute, condition: Option<&HttpMatchRequest>, scope: &Scope<'_>) -> pb::Route {
    let operations = headers::operations(rule.headers.as_ref());
    let mut route = pb::Route {
        name: name(rule, condition),
        r#match: Some(matching::route_match(condition)),
        metadata: Some(config_metadata(
            "virtual-service",
            scope.namespace,
            scope.name,
        )),
        stat_prefix: condition
            .and_then(|it| it.stat_prefix.clone())
            .unwrap_or_default(),
        typed_per_filter_config: per_filter_config(rule),
        request_headers_to_add: operations.request_to_add,
        request_headers_to_remove: operations.request_to_remove,
        response_headers_to_add: operations.response_to_add,
        response_headers_to_remove: operations.response_to_remove,
        ..Default::default()
    };
    if let Some(redirect) = &rule.redirect {
        route.action = Some(redirect::redirect(redirect, scope));
    } else if let Some(response) = &rule.direct_response {
        route.action = Some(redirect::direct_response(response));
    } else {
        action::forward(&mut route, rule, operations.authority, scope);
    }
    route.decorator = Some(decorator(&route, scope));
    route
}

/// `<rule>.<match>`, of which either may be missing.
fn name(rule: &HttpRoute, condition: Option<&HttpMatchRequest>) -> String {
    let rule = rule.name.as_deref().unwrap_or_default();
    match condition.and_then(|it| it.name.as_deref()) {
        Some(name) => format!("{rule}.{name}"),
        None => rule.to_owned(),
    }
}

/// The fault and CORS filters are told per route. Two filters at most, so the map is sorted by whoever encodes the resource.
fn per_filter_config(rule: &HttpRoute) -> std::collections::HashMap<String, pb::Any> {
    let fault = rule.fault.as_ref().and_then(fault::fault);
    let cors = rule.cors_policy.as_ref().map(cors::cors);
    let filters = [
        ("envoy.filters.http.fault", fault),
        ("envoy.filters.http.cors", cors),
    ];
    let given = filters
        .into_iter()
        .filter_map(|(name, config)| Some((name.to_owned(), config?)));
    given.collect()
}

/// Which resource a route came from, as Istio's tools read it.
pub(crate) fn config_metadata(kind: &str, namespace: &str, name: &str) -> pb::Metadata {
    let path = format!("/apis/networking.istio.io/v1/namespaces/{namespace}/{kind}/{name}");
    pb::metadata("istio", "config", pb::string(path))
}

/// The name of the span of a request on this route (`GetRouteOperation`).
fn decorator(route: &pb::Route, scope: &Scope<'_>) -> pb::Decorator {
    use pb::route_match::PathSpecifier::{Path, Prefix, SafeRegex};
    let path = match route
        .r#match
        .as_ref()
        .and_then(|it| it.path_specifier.as_ref())
    {
        Some(Prefix(prefix)) => format!("{prefix}*"),
        Some(Path(path)) => path.clone(),
        Some(SafeRegex(regex)) => regex.regex.clone(),
        _ => "/*".into(),
    };
    let cluster = match &route.action {
        Some(pb::route::Action::Route(action)) => match &action.cluster_specifier {
            Some(pb::route_action::ClusterSpecifier::Cluster(name)) => names::host_and_port(name),
            _ => None,
        },
        _ => None,
    };
    let operation = match cluster {
        Some((host, port)) => format!("{host}:{port}{path}"),
        None => format!("{}:{}{path}", scope.name, scope.port),
    };
    pb::Decorator {
        operation,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
