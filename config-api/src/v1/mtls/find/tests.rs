#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use model::mesh::{Change, Mesh};
use model::{Kind, Metadata, Object};
use serde_json::json;

use super::*;

fn services(declared: &[(&str, &str)]) -> Vec<Arc<Service>> {
    let mut mesh = Mesh::new("svc.cluster.local", "istio-system");
    for (n, (namespace, host)) in declared.iter().enumerate() {
        let metadata = Metadata {
            name: format!("s{n}"),
            namespace: (*namespace).into(),
            ..Metadata::default()
        };
        let ports = json!([{"number": 80, "name": "http", "protocol": "HTTP"}]);
        let object = Object {
            kind: Kind::ServiceEntry,
            metadata,
            spec: json!({"hosts": [host], "ports": ports, "resolution": "STATIC"}),
        };
        mesh.apply(Change::Put(Arc::new(object.decode().unwrap())));
    }
    let mut read = BTreeSet::new();
    let mut view = mesh.view(&mut read);
    let hosts = mesh.hosts().flat_map(|host| view.services(host));
    hosts.cloned().collect()
}

#[test]
fn a_name_means_one_service_or_none() {
    let all = services(&[
        ("shop", "orders.shop.svc.cluster.local"),
        ("bank", "orders.bank.svc.cluster.local"),
        ("shop", "reviews.shop.svc.cluster.local"),
        ("shop", "api.example.com"),
        ("bank", "api"),
        ("shop", "*.wild.example"),
    ]);
    let found = |name: &str| match service(name, &all) {
        Ok(service) => service.host.to_string(),
        Err(status) => format!("{} {status}", status.code().as_u16()),
    };
    let rows = [
        ("reviews", "reviews.shop.svc.cluster.local"),
        ("Reviews", "reviews.shop.svc.cluster.local"),
        ("reviews.shop", "reviews.shop.svc.cluster.local"),
        ("orders.bank", "orders.bank.svc.cluster.local"),
        (
            "orders.bank.svc.cluster.local.",
            "orders.bank.svc.cluster.local",
        ),
        // What is written in full means nothing else.
        ("api", "api"),
        ("*.wild.example", "*.wild.example"),
        (
            "orders",
            "409 \"orders\" could be any of orders.bank.svc.cluster.local in the namespace bank, orders.shop.svc.cluster.local in the \
             namespace shop; give the full name, or ?namespace=",
        ),
        (
            "order",
            "404 there is no service \"order\" in the namespaces you may read; did you mean orders?",
        ),
        (
            "wild.example",
            "404 there is no service \"wild.example\" in the namespaces you may read; did you mean *.wild.example?",
        ),
        (
            "zzz",
            "404 there is no service \"zzz\" in the namespaces you may read; /v1/mtls lists them",
        ),
    ];
    for (name, expected) in rows {
        assert_eq!(found(name), expected, "{name}");
    }
    let causes = service("orders", &all).unwrap_err().causes().to_vec();
    let ways: Vec<_> = causes
        .iter()
        .map(|it| it.message.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(
        ways,
        [
            "/v1/mtls/orders.bank.svc.cluster.local?namespace=bank",
            "/v1/mtls/orders.shop.svc.cluster.local?namespace=shop",
        ]
    );
}
