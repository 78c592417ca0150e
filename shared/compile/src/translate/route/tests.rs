#![allow(clippy::unwrap_used)]

use pb::route::Action;
use pb::route_action::ClusterSpecifier;

use super::*;

/// Compiles `http:` rules for a sidecar in namespace `shop`, labels `app: web`, on port 80. Destinations are services
/// `<host>.shop.svc.cluster.local` with the one port 9080, except `two`, which has two.
pub(super) fn compile(yaml: &str) -> Vec<pb::Route> {
    compile_for(yaml, 80, &["mesh"])
}

pub(super) fn compile_for(yaml: &str, port: u16, gateways: &[&str]) -> Vec<pb::Route> {
    let rules: Vec<HttpRoute> = serde_saphyr::from_str(yaml).unwrap();
    let gateways: Vec<String> = gateways.iter().map(|it| (*it).to_owned()).collect();
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    let scope = Scope {
        name: "reviews",
        namespace: "shop",
        port,
        tls: false,
        gateways: &gateways,
        proxy_labels: &labels,
        proxy_namespace: "shop",
        default_retry: None,
        resolve: &|destination| Upstream {
            host: format!("{}.shop.svc.cluster.local", destination.host),
            ports: if destination.host == "two" {
                vec![1, 2]
            } else {
                vec![9080]
            },
            hash: None,
        },
    };
    routes(&rules, &scope)
}

pub(super) fn one(yaml: &str) -> pb::Route {
    let routes = compile(yaml);
    assert_eq!(routes.len(), 1, "{yaml}");
    routes.into_iter().next().unwrap()
}

pub(super) fn action(route: &pb::Route) -> &pb::RouteAction {
    match &route.action {
        Some(Action::Route(action)) => action,
        other => panic!("not forwarded: {other:?}"),
    }
}

pub(super) fn cluster(route: &pb::Route) -> String {
    match action(route).cluster_specifier.as_ref().unwrap() {
        ClusterSpecifier::Cluster(name) => name.clone(),
        ClusterSpecifier::WeightedClusters(weighted) => weighted
            .clusters
            .iter()
            .map(|it| format!("{}={}", it.name, it.weight.unwrap().value))
            .collect::<Vec<_>>()
            .join(" "),
        other => panic!("{other:?}"),
    }
}

pub(super) const TO_A: &str = "route: [{destination: {host: a}}]";

/// A rule to `a` with more fields, in flow style.
pub(super) fn rule(fields: &str) -> String {
    format!("[{{{fields}, {TO_A}}}]")
}
#[test]
fn destination_cluster() {
    let cases = [
        (
            "port.number wins",
            "[{route: [{destination: {host: a, port: {number: 1}}}]}]",
            "outbound|1||a",
        ),
        (
            "the only port of the service",
            "[{route: [{destination: {host: a}}]}]",
            "outbound|9080||a",
        ),
        (
            "the listener's of several",
            "[{route: [{destination: {host: two}}]}]",
            "outbound|80||two",
        ),
        (
            "subset",
            "[{route: [{destination: {host: a, subset: v1}}]}]",
            "outbound|9080|v1|a",
        ),
        (
            "the weight of a single one does not count",
            "[{route: [{destination: {host: a}, weight: 30}]}]",
            "outbound|9080||a",
        ),
    ];
    for (case, yaml, want) in cases {
        assert_eq!(
            cluster(&one(yaml)),
            format!("{want}.shop.svc.cluster.local"),
            "{case}"
        );
    }
}

#[test]
fn weight_zero_is_dropped_beside_others() {
    let route = one(
        "[{route: [{destination: {host: a}, weight: 90}, {destination: {host: b}, weight: 10}, \
                     {destination: {host: c}, weight: 0}]}]",
    );
    let want =
        "outbound|9080||a.shop.svc.cluster.local=90 outbound|9080||b.shop.svc.cluster.local=10";
    assert_eq!(cluster(&route), want);
    let left = one(
        "[{route: [{destination: {host: a}, weight: 100}, {destination: {host: b}, weight: 0}]}]",
    );
    assert_eq!(cluster(&left), "outbound|9080||a.shop.svc.cluster.local");
}

#[test]
fn nothing_follows_a_catch_all() {
    let routes = |yaml: &str| {
        compile(yaml)
            .iter()
            .map(|it| it.name.clone())
            .collect::<Vec<_>>()
    };
    let yaml = format!(
        "[{{name: x, match: [{{uri: {{prefix: /x}}}}, {{uri: {{prefix: /y}}, name: m}}], {TO_A}}}, \
          {{name: all, {TO_A}}}, {{name: after, {TO_A}}}]"
    );
    assert_eq!(routes(&yaml), ["x", "x.m", "all"]);
    for all in ["{uri: {prefix: /}}", "{uri: {regex: '.*'}}"] {
        let yaml = format!("[{{name: all, match: [{all}], {TO_A}}}, {{name: after, {TO_A}}}]");
        assert_eq!(routes(&yaml), ["all"], "{all}");
    }
    let narrow = "{uri: {prefix: /}, headers: {x: {exact: y}}}";
    let yaml = format!("[{{name: narrow, match: [{narrow}], {TO_A}}}, {{name: after, {TO_A}}}]");
    assert_eq!(routes(&yaml), ["narrow", "after"]);
}

#[test]
fn gateway_hosts_put_catch_alls_last() {
    let mut all = compile(&format!("[{{name: all, {TO_A}}}]"));
    all.extend(compile(&format!(
        "[{{name: x, match: [{{uri: {{prefix: /x}}}}], {TO_A}}}]"
    )));
    let names: Vec<_> = catch_all_last(all).into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["x", "all"]);
}

#[test]
fn conditions_on_the_proxy_are_decided_here() {
    let cases = [
        ("match.port is the listener's", "port: 80", true),
        ("match.port is another", "port: 81", false),
        (
            "sourceLabels the proxy has",
            "sourceLabels: {app: web}",
            true,
        ),
        ("sourceLabels it lacks", "sourceLabels: {app: api}", false),
        ("sourceNamespace", "sourceNamespace: shop", true),
        ("another sourceNamespace", "sourceNamespace: web", false),
        ("gateways: mesh", "gateways: [mesh]", true),
        ("another gateway", "gateways: [shop/public]", false),
        (
            "gateways take the place of sourceLabels",
            "gateways: [mesh], sourceLabels: {app: api}",
            true,
        ),
    ];
    for (case, condition, concerned) in cases {
        let routes = compile(&rule(&format!("match: [{{{condition}}}]")));
        assert_eq!(!routes.is_empty(), concerned, "{case}");
    }
    let short = rule("match: [{gateways: [public]}]");
    assert_eq!(
        compile_for(&short, 80, &["shop/public"]).len(),
        1,
        "a short gateway is in the namespace"
    );
    assert!(compile_for(&short, 80, &["web/public"]).is_empty());
}
#[test]
fn redirects() {
    use pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let redirect = |fields: &str| {
        let routes = compile_for(&format!("[{{redirect: {{{fields}}}}}]"), 8080, &["mesh"]);
        match routes.into_iter().next().unwrap().action {
            Some(Action::Redirect(redirect)) => redirect,
            other => panic!("{other:?}"),
        }
    };
    let full = redirect("uri: /x, authority: a.io, scheme: https, redirectCode: 302");
    assert_eq!(full.response_code(), RedirectResponseCode::Found);
    assert_eq!(full.host_redirect, "a.io");
    assert_eq!(
        full.path_rewrite_specifier,
        Some(PathRewriteSpecifier::PathRedirect("/x".into()))
    );
    let scheme = SchemeRewriteSpecifier::SchemeRedirect("https".into());
    assert_eq!(full.scheme_rewrite_specifier, Some(scheme));
    assert_eq!(
        redirect("uri: /x").response_code(),
        RedirectResponseCode::MovedPermanently
    );
    let cases = [
        ("no port", "uri: /x", 0),
        ("port", "port: 8443", 8443),
        (
            "the default port of the scheme",
            "port: 443, scheme: https",
            0,
        ),
        ("FROM_REQUEST_PORT", "derivePort: FROM_REQUEST_PORT", 8080),
        (
            "FROM_PROTOCOL_DEFAULT",
            "derivePort: FROM_PROTOCOL_DEFAULT",
            0,
        ),
    ];
    for (case, fields, port) in cases {
        assert_eq!(
            redirect(&format!("{fields}, authority: a")).port_redirect,
            port,
            "{case}"
        );
    }
}

#[test]
fn direct_response_bodies() {
    use pb::data_source::Specifier::{InlineBytes, InlineString};
    let body = |fields: &str| match one(&format!("[{{directResponse: {{{fields}}}}}]")).action {
        Some(Action::DirectResponse(it)) => (it.status, it.body.map(|it| it.specifier.unwrap())),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        body("status: 404, body: {string: gone}"),
        (404, Some(InlineString("gone".into())))
    );
    assert_eq!(
        body("status: 503, body: {bytes: AAE=}"),
        (503, Some(InlineBytes(vec![0, 1])))
    );
    assert_eq!(body("status: 200"), (200, None));
}
#[test]
fn faults_and_cors_are_told_per_route() {
    use prost::Message;
    let route = one(&rule(
        "fault: {delay: {fixedDelay: 7s, percentage: {value: 100}}, abort: {httpStatus: 500}}, \
         corsPolicy: {allowOrigins: [{exact: 'https://a.io'}], allowMethods: [GET, POST], maxAge: 24h, \
                      unmatchedPreflights: IGNORE}",
    ));
    let config = |name: &str| route.typed_per_filter_config[name].value.as_slice();
    let fault = pb::fault::HttpFault::decode(config("envoy.filters.http.fault")).unwrap();
    assert_eq!(
        fault.delay.unwrap().percentage.unwrap().numerator,
        1_000_000
    );
    assert_eq!(
        fault.abort.unwrap().percentage.unwrap().numerator,
        0,
        "no percentage, no abort"
    );
    let cors = pb::cors::CorsPolicy::decode(config("envoy.filters.http.cors")).unwrap();
    assert_eq!(
        (cors.allow_methods.as_str(), cors.max_age.as_str()),
        ("GET,POST", "86400")
    );
    assert!(!cors.forward_not_matching_preflights.unwrap().value);
}
#[test]
fn operation_and_origin_are_named() {
    let route = one(&rule("match: [{uri: {prefix: /a}}]"));
    assert_eq!(
        route.decorator.unwrap().operation,
        "a.shop.svc.cluster.local:9080/a*"
    );
    let path = "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/reviews";
    assert_eq!(
        route.metadata,
        Some(pb::metadata("istio", "config", pb::string(path)))
    );
}
