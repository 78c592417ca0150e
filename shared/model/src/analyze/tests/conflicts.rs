//! Gateways that meet on a port, and delegates that do not fit.

use serde_json::{Value, json};

use super::{mesh, resource, warnings};
use crate::mesh::Change;
use crate::{Kind, analyze};

fn server(port: u16, protocol: &str, host: &str) -> Value {
    let tls = (protocol == "TLS").then(|| json!({"mode": "PASSTHROUGH"}));
    json!({"port": {"number": port, "name": "x", "protocol": protocol}, "hosts": [host], "tls": tls})
}

/// Beside the Gateway shop, which has HTTP on 8000, and tls, which has TLS on 8443 for a.example.
#[test]
fn servers_that_take_the_same_connections_are_told() {
    let mut mesh = mesh();
    let select = json!({"istio": "ingressgateway"});
    let mut put = |name: &str, created: &str, servers: Value| {
        let spec = json!({"selector": select, "servers": servers});
        let made = resource(Kind::Gateway, name, created, &spec);
        mesh.apply(Change::Put(std::sync::Arc::new(made)));
    };
    put(
        "tls",
        "2026-01-01T00:00:00Z",
        json!([server(8443, "TLS", "*/A.example")]),
    );
    put(
        "young",
        "2026-03-03T00:00:00Z",
        json!([server(9000, "TCP", "*")]),
    );
    let said = |servers: Value, selector: &Value| -> Vec<String> {
        let spec = json!({"selector": selector, "servers": servers});
        let made = resource(Kind::Gateway, "other/new", "2026-02-02T00:00:00Z", &spec);
        analyze(&made, &mesh)
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let taken = |at: usize, by: &str| {
        format!(
            "spec.servers[{at}].port.number: takes the same connections as spec.servers[0] of {by} and is in force; use another port or other hosts"
        )
    };
    let rows = [
        (json!([server(8000, "HTTP", "*.shop.example")]), None),
        (
            json!([server(8000, "TCP", "*")]),
            Some(taken(0, "Gateway default/shop, which is older")),
        ),
        (json!([server(8000, "TLS", "*.shop.example")]), None),
        (json!([server(8443, "TLS", "b.example")]), None),
        (
            json!([server(8443, "TLS", "prod/a.example")]),
            Some(taken(0, "Gateway default/tls, which is older")),
        ),
        (json!([server(9000, "TCP", "*")]), None),
        (
            json!([server(7000, "TCP", "*"), server(7000, "TCP", "*")]),
            Some(taken(1, "this Gateway")),
        ),
    ];
    for (servers, expected) in rows {
        assert_eq!(
            said(servers.clone(), &select),
            Vec::from_iter(expected),
            "{servers}"
        );
    }
}

#[test]
fn gateways_of_different_workloads_may_listen_alike() {
    let mut mesh = mesh();
    let labels = json!({"address": "127.0.0.9", "labels": {"istio": "egress"}});
    let made = resource(
        Kind::WorkloadEntry,
        "egress",
        "2026-01-01T00:00:00Z",
        &labels,
    );
    mesh.apply(Change::Put(std::sync::Arc::new(made)));
    let spec = json!({"selector": {"istio": "egress"}, "servers": [server(8000, "TCP", "*")]});
    let made = resource(Kind::Gateway, "new", "2026-02-02T00:00:00Z", &spec);
    assert_eq!(analyze(&made, &mesh), []);
}

#[test]
fn a_delegate_that_does_not_fit_is_told_on_both_sides() {
    let to = json!([{"destination": {"host": "reviews"}}]);
    let root = json!({"hosts": ["x.shop.example"], "http": [
        {"match": [{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}], "delegate": {"name": "child", "namespace": "default"}},
    ]});
    let child = json!({"http": [
        {"match": [{"uri": {"prefix": "/a/x"}}, {"uri": {"exact": "/b"}}], "route": to},
        {"match": [{"uri": {"exact": "/b/y"}}, {"uri": {"prefix": "/c"}}], "route": to},
        {"route": to},
    ]});
    let mut mesh = mesh();
    for (name, spec) in [("root", &root), ("child", &child)] {
        let made = resource(Kind::VirtualService, name, "2026-01-01T00:00:00Z", spec);
        mesh.apply(Change::Put(std::sync::Arc::new(made)));
    }
    let said = |name: &str, spec: &Value| -> Vec<String> {
        let made = resource(Kind::VirtualService, name, "2026-01-01T00:00:00Z", spec);
        analyze(&made, &mesh)
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(
        said("root", &root),
        [
            "spec.http[0].delegate: spec.http[1] of VirtualService default/child is left out here: its match[1] is not within the match of this route"
        ]
    );
    assert_eq!(
        said("child", &child),
        [
            "spec.http[1].match[1]: is not within the match of spec.http[0] of VirtualService default/root, which delegates here, so this route is left out there; narrow it"
        ]
    );
    let everything =
        json!({"hosts": ["x.shop.example"], "http": [{"delegate": {"name": "child"}}]});
    assert_eq!(said("root", &everything), Vec::<String>::new());
    let hosts = json!({"hosts": ["y.shop.example"], "http": [{"delegate": {"name": "old"}}]});
    let expected = "spec.http[0].delegate: VirtualService default/old has hosts, so it is no delegate; remove its hosts";
    assert_eq!(warnings(Kind::VirtualService, "new", &hosts), [expected]);
}
