#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use pb::route_action::{ClusterSpecifier, HostRewriteSpecifier};

use crate::translate::pb;
use crate::translate::policy::Upstream;
use crate::translate::route::tests::{TO_A, action, one, rule};
use crate::translate::route::{HttpRoute, Scope, routes};

#[test]
fn headers_set_beats_add_and_host_becomes_a_rewrite() {
    let route = one(&rule(
        "headers: {request: {set: {Host: set.io, a: s}, add: {a: t, ':authority': add.io}, remove: [x, host, ':path']}, \
          response: {remove: [y]}}",
    ));
    let options: Vec<_> = route
        .request_headers_to_add
        .iter()
        .map(|it| {
            let header = it.header.as_ref().unwrap();
            (
                header.key.as_str(),
                header.value.as_str(),
                it.append_action().as_str_name(),
            )
        })
        .collect();
    let want = [
        ("a", "s", "OVERWRITE_IF_EXISTS_OR_ADD"),
        ("a", "t", "APPEND_IF_EXISTS_OR_ADD"),
    ];
    assert_eq!(options, want);
    assert_eq!(route.request_headers_to_remove, ["x"]);
    assert_eq!(route.response_headers_to_remove, ["y"]);
    let literal = HostRewriteSpecifier::HostRewriteLiteral("set.io".into());
    assert_eq!(action(&route).host_rewrite_specifier, Some(literal));
}

#[test]
fn authority_of_rewrite_beats_headers_and_the_routes_beats_a_destinations() {
    let host = |yaml: &str| action(&one(yaml)).host_rewrite_specifier.clone();
    let literal = |host: &str| Some(HostRewriteSpecifier::HostRewriteLiteral(host.into()));
    let route = "headers: {request: {set: {host: header}}}";
    let to = "route: [{destination: {host: a}, headers: {request: {set: {host: to}}}}]";
    assert_eq!(
        host(&format!(
            "[{{rewrite: {{authority: rewrite}}, {route}, {to}}}]"
        )),
        literal("rewrite")
    );
    assert_eq!(host(&format!("[{{{route}, {to}}}]")), literal("header"));
    assert_eq!(host(&format!("[{{{to}}}]")), literal("to"));
}

#[test]
fn headers_of_one_of_several_destinations_are_its_own() {
    let route = one(
        "[{route: [{destination: {host: a}, weight: 1, headers: {response: {add: {v: a}}}}, \
                     {destination: {host: b}, weight: 1}]}]",
    );
    let Some(ClusterSpecifier::WeightedClusters(weighted)) = &action(&route).cluster_specifier
    else {
        panic!("weighted clusters")
    };
    assert_eq!(weighted.clusters[0].response_headers_to_add.len(), 1);
    assert_eq!(weighted.clusters[1].response_headers_to_add.len(), 0);
    assert_eq!(route.response_headers_to_add.len(), 0);
}

#[test]
fn rewrite_uri() {
    let prefix = one(&rule("match: [{uri: {prefix: /a}}], rewrite: {uri: /b}"));
    assert_eq!(action(&prefix).prefix_rewrite, "/b");
    let regex = one(&rule(
        r"rewrite: {uriRegexRewrite: {match: '^/x/(.*)$', rewrite: '/\1'}}",
    ));
    let rewrite = action(&regex).regex_rewrite.clone().unwrap();
    assert_eq!(
        (
            rewrite.pattern.unwrap().regex.as_str(),
            rewrite.substitution.as_str()
        ),
        ("^/x/(.*)$", r"/\1")
    );
}

#[test]
fn timeout_is_off_by_default() {
    let timeouts = |yaml: &str| {
        let route = one(yaml);
        let action = action(&route);
        let grpc = action
            .max_stream_duration
            .and_then(|it| it.grpc_timeout_header_max);
        (action.timeout.unwrap(), grpc)
    };
    let none = pb::Duration::default();
    assert_eq!(timeouts(&rule("name: x")), (none, Some(none)));
    assert_eq!(timeouts(&rule("timeout: 0s")), (none, Some(none)));
    let five = pb::Duration {
        seconds: 5,
        nanos: 0,
    };
    assert_eq!(
        timeouts(&rule("timeout: 5s")),
        (five, None),
        "max_stream_duration would switch it off"
    );
}

#[test]
fn retries_over_the_defaults() {
    let retry = |fields: &str| action(&one(&rule(fields))).retry_policy.clone();
    let default = retry("name: x").unwrap();
    let on = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
    assert_eq!(
        (
            default.num_retries.unwrap().value,
            default.retry_on.as_str()
        ),
        (2, on)
    );
    assert_eq!(default.host_selection_retry_max_attempts, 5);
    assert_eq!(default.retry_host_predicate.len(), 1);
    assert_eq!(
        retry("retries: {attempts: 0}"),
        None,
        "attempts: 0 turns retries off"
    );
    let given =
        retry("retries: {attempts: 3, perTryTimeout: 2s, retryOn: 'gateway-error, 409'}").unwrap();
    assert_eq!(given.num_retries.unwrap().value, 3);
    assert_eq!(given.per_try_timeout.unwrap().seconds, 2);
    assert_eq!(given.retry_on, "gateway-error,retriable-status-codes");
    assert_eq!(given.retriable_status_codes, [409]);
    let hosts = retry("retries: {attempts: 1, retryIgnorePreviousHosts: false}").unwrap();
    assert_eq!(hosts.retry_host_predicate, []);
    let remote =
        retry("retries: {attempts: 1, retryRemoteLocalities: true, backoff: 10ms}").unwrap();
    assert_eq!(
        remote.retry_priority.unwrap().name,
        "envoy.retry_priorities.previous_priorities"
    );
    assert_eq!(
        remote.retry_back_off.unwrap().base_interval.unwrap().nanos,
        10_000_000
    );
}

#[test]
fn mirrors_with_percentages() {
    let mirrors = |fields: &str| {
        let route = one(&rule(fields));
        let mirrors = &action(&route).request_mirror_policies;
        mirrors
            .iter()
            .map(|it| {
                it.runtime_fraction
                    .as_ref()
                    .unwrap()
                    .default_value
                    .unwrap()
                    .numerator
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        mirrors("mirror: {host: b}"),
        [1_000_000],
        "all requests when nothing is said"
    );
    assert_eq!(
        mirrors("mirror: {host: b}, mirrorPercentage: {value: 0.5}"),
        [5_000]
    );
    assert_eq!(
        mirrors("mirror: {host: b}, mirrorPercentage: {value: 0}"),
        [0; 0]
    );
    assert_eq!(
        mirrors(
            "mirrors: [{destination: {host: b}}, {destination: {host: c}, percentage: {value: 10}}]"
        ),
        [1_000_000, 100_000]
    );
}

#[test]
fn a_consistent_hash_goes_on_the_route_and_keeps_retries_on_the_host() {
    let yaml = "{httpCookie: {name: user, ttl: 0s}}";
    let hash: model::spec::ConsistentHashLb = serde_saphyr::from_str(yaml).unwrap();
    let rules: Vec<HttpRoute> = serde_saphyr::from_str(&format!("[{{{TO_A}}}]")).unwrap();
    let labels = BTreeMap::new();
    let gateways = ["mesh".to_owned()];
    let scope = Scope {
        name: "a",
        namespace: "shop",
        port: 80,
        tls: false,
        gateways: &gateways,
        proxy_labels: &labels,
        proxy_namespace: "shop",
        default_retry: None,
        resolve: &|_| Upstream {
            hash: Some(hash.clone()),
            ..Default::default()
        },
    };
    let route = routes(&rules, &scope).remove(0);
    assert_eq!(action(&route).hash_policy.len(), 1);
    assert_eq!(
        action(&route)
            .retry_policy
            .as_ref()
            .unwrap()
            .retry_host_predicate,
        []
    );
}
