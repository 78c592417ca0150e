//! Forwarding: the destinations of a route with what is done to a request on its way there (`applyHTTPRouteDestination`).
//!
//! *Invariant:* a destination of weight 0 beside others gets no request.

use model::spec::{Destination, HttpRewrite, HttpRoute, HttpRouteDestination, Percent};
use pb::route_action::{
    ClusterSpecifier, HostRewriteSpecifier, MaxStreamDuration, RequestMirrorPolicy,
};
use pb::weighted_cluster::{ClusterWeight, cluster_weight};

use super::{Scope, hash, headers, retry};
use crate::translate::{pb, policy::Upstream};

/// Fills in where a route forwards to. `authority` is what the route's own headers set `host` to.
pub(super) fn forward(
    route: &mut pb::Route,
    rule: &HttpRoute,
    authority: Option<String>,
    scope: &Scope<'_>,
) {
    let rewrite = rule.rewrite.as_ref();
    let authority = rewrite.and_then(|it| it.authority.clone()).or(authority);
    let mut action = pb::RouteAction {
        prefix_rewrite: rewrite.and_then(prefix_rewrite).unwrap_or_default(),
        regex_rewrite: rewrite.and_then(regex_rewrite),
        host_rewrite_specifier: authority.map(HostRewriteSpecifier::HostRewriteLiteral),
        request_mirror_policies: mirrors(rule, scope),
        ..timed(rule.timeout.map(|it| *it))
    };
    let destinations = destinations(rule, scope);
    let hashes = destinations
        .iter()
        .filter_map(|(_, upstream)| upstream.hash.as_ref());
    action.hash_policy = hashes.filter_map(hash::hash_policy).collect();
    let one_hash = destinations.len() == 1 && !action.hash_policy.is_empty();
    action.retry_policy = retry::retry(rule.retries.as_ref().or(scope.default_retry), one_hash);
    match destinations.as_slice() {
        [(destination, upstream)] => single(route, &mut action, destination, upstream, scope),
        several => {
            action.cluster_specifier =
                Some(ClusterSpecifier::WeightedClusters(pb::WeightedCluster {
                    clusters: several
                        .iter()
                        .map(|(to, upstream)| weighted(to, upstream, scope))
                        .collect(),
                    ..Default::default()
                }));
        }
    }
    route.action = Some(pb::route::Action::Route(action));
}

/// An action with Istio's timeouts: none unless one is given. Envoy forgets `timeout` when `max_stream_duration` is set, and
/// answers 408 instead of 504 when that is over, so a gRPC client's own `grpc-timeout` counts only where the route has no
/// timeout.
pub(super) fn timed(timeout: Option<std::time::Duration>) -> pb::RouteAction {
    let timeout = timeout.unwrap_or_default();
    pb::RouteAction {
        timeout: Some(pb::duration(timeout)),
        max_stream_duration: timeout.is_zero().then(|| MaxStreamDuration {
            grpc_timeout_header_max: Some(pb::Duration::default()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The destinations that get requests: the only one whatever its weight, of several those with a weight.
fn destinations<'a>(
    rule: &'a HttpRoute,
    scope: &Scope<'_>,
) -> Vec<(&'a HttpRouteDestination, Upstream)> {
    let several = rule.route.len() > 1;
    let chosen = rule.route.iter().filter(|it| !several || it.weight > 0);
    chosen
        .map(|it| (it, (scope.resolve)(&it.destination)))
        .collect()
}

/// One destination: its header operations come after the route's own, and its authority only where the route sets none.
fn single(
    route: &mut pb::Route,
    action: &mut pb::RouteAction,
    destination: &HttpRouteDestination,
    upstream: &Upstream,
    scope: &Scope<'_>,
) {
    let operations = headers::operations(destination.headers.as_ref());
    route
        .request_headers_to_add
        .extend(operations.request_to_add);
    route
        .request_headers_to_remove
        .extend(operations.request_to_remove);
    route
        .response_headers_to_add
        .extend(operations.response_to_add);
    route
        .response_headers_to_remove
        .extend(operations.response_to_remove);
    if action.host_rewrite_specifier.is_none() {
        action.host_rewrite_specifier = operations
            .authority
            .map(HostRewriteSpecifier::HostRewriteLiteral);
    }
    let cluster = upstream.cluster(&destination.destination, scope.port);
    action.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster));
}

fn weighted(
    destination: &HttpRouteDestination,
    upstream: &Upstream,
    scope: &Scope<'_>,
) -> ClusterWeight {
    let operations = headers::operations(destination.headers.as_ref());
    ClusterWeight {
        name: upstream.cluster(&destination.destination, scope.port),
        weight: pb::u32_value(destination.weight),
        request_headers_to_add: operations.request_to_add,
        request_headers_to_remove: operations.request_to_remove,
        response_headers_to_add: operations.response_to_add,
        response_headers_to_remove: operations.response_to_remove,
        host_rewrite_specifier: operations
            .authority
            .map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
        ..Default::default()
    }
}

/// `rewrite.uri`: replaces the matched prefix, or the whole path when the match was exact or a regular expression.
fn prefix_rewrite(rewrite: &HttpRewrite) -> Option<String> {
    rewrite
        .uri
        .clone()
        .filter(|_| rewrite.uri_regex_rewrite.is_none())
}

fn regex_rewrite(rewrite: &HttpRewrite) -> Option<pb::RegexMatchAndSubstitute> {
    let regex = rewrite.uri_regex_rewrite.as_ref()?;
    Some(pb::RegexMatchAndSubstitute {
        pattern: Some(pb::regex(regex.pattern.as_str())),
        substitution: regex.rewrite.clone(),
    })
}

/// `mirror` and `mirrors`; no percentage means every request, 0 none.
fn mirrors(rule: &HttpRoute, scope: &Scope<'_>) -> Vec<RequestMirrorPolicy> {
    let percent = |exact: Option<Percent>| exact.map(|it| it.value);
    let of_single = percent(rule.mirror_percentage).or(rule.mirror_percent.map(f64::from));
    let single = rule.mirror.iter().map(|to| (to, of_single));
    let several = rule
        .mirrors
        .iter()
        .map(|it| (&it.destination, percent(it.percentage)));
    let wanted = single
        .chain(several)
        .map(|(to, percent)| (to, percent.unwrap_or(100.0)));
    wanted
        .filter(|(_, percent)| *percent > 0.0)
        .map(|(to, percent)| mirror(to, percent, scope))
        .collect()
}

fn mirror(destination: &Destination, percent: f64, scope: &Scope<'_>) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster: (scope.resolve)(destination).cluster(destination, scope.port),
        runtime_fraction: Some(pb::runtime_fraction(percent)),
        trace_sampled: Some(pb::BoolValue { value: false }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
