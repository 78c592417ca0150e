#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{Metadata, Object};

fn put(kind: Kind, namespace: &str, name: &str, labels: &[(&str, &str)], spec: Value) -> Change {
    let metadata = Metadata {
        name: name.into(),
        namespace: namespace.into(),
        labels: labels
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect(),
        ..Metadata::default()
    };
    Change::Put(Arc::new(
        Object {
            kind,
            metadata,
            spec,
        }
        .decode()
        .unwrap(),
    ))
}

fn service(name: &str, spec: &Value) -> Change {
    let mut whole = json!({"hosts": [format!("{name}.ns.svc.cluster.local")], "ports": [{"number": 80, "protocol": "HTTP"}]});
    whole
        .as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    put(Kind::ServiceEntry, "ns", name, &[], whole)
}

fn workload(name: &str, app: &str) -> Change {
    put(
        Kind::WorkloadEntry,
        "ns",
        name,
        &[("app", app)],
        json!({"address": "10.0.0.1"}),
    )
}

fn mesh() -> Mesh {
    Mesh::new("svc.cluster.local", "istio-system")
}

fn host(name: &str) -> Arc<str> {
    format!("{name}.ns.svc.cluster.local").into()
}

#[test]
fn wildcards_cover_what_is_below_them() {
    assert!(host::covers("*.foo.com", "a.foo.com") && host::covers("*.foo.com", "a.b.foo.com"));
    assert!(!host::covers("*.foo.com", "foo.com") && !host::covers("*.foo.com", "afoo.com"));
    assert!(host::covers("*", "*.foo.com") && host::covers("*.com", "*.foo.com"));
    assert_eq!(host::intersection("*.foo.com", "*"), Some("*.foo.com"));
    assert_eq!(host::intersection("a.com", "b.com"), None);
    let covering: Vec<String> = host::covering("a.b.c").collect();
    assert_eq!(covering, ["a.b.c", "*.b.c", "*.c", "*"]);
}

#[test]
fn an_endpoint_is_no_part_of_its_service() {
    let mut mesh = mesh();
    mesh.apply(service(
        "a",
        &json!({"resolution": "STATIC", "endpoints": [{"address": "10.0.0.1"}]}),
    ));
    let facts = mesh.apply(service(
        "a",
        &json!({"resolution": "STATIC", "endpoints": [{"address": "10.0.0.2"}]}),
    ));
    let key = Key::new(Kind::ServiceEntry, "ns", "a");
    assert_eq!(
        facts,
        BTreeSet::from([Fact::Endpoints(host("a")), Fact::Resource(key)])
    );
}

#[test]
fn a_workload_touches_the_services_that_select_it_and_no_others() {
    let mut mesh = mesh();
    for app in ["a", "b"] {
        mesh.apply(service(
            app,
            &json!({"workloadSelector": {"labels": {"app": app}}}),
        ));
    }
    let facts = mesh.apply(workload("w", "a"));
    assert!(
        facts.contains(&Fact::Endpoints(host("a"))) && !facts.contains(&Fact::Endpoints(host("b")))
    );
    let facts = mesh.apply(workload("w", "b"));
    assert!(
        facts.contains(&Fact::Endpoints(host("a"))) && facts.contains(&Fact::Endpoints(host("b")))
    );
    assert!(facts.contains(&Fact::ServicesOf("ns".into(), "w".into())));
}

#[test]
fn a_workload_that_is_down_is_no_endpoint() {
    let mut mesh = mesh();
    mesh.apply(service(
        "a",
        &json!({"workloadSelector": {"labels": {"app": "a"}}}),
    ));
    mesh.apply(workload("w", "a"));
    let turn = |up| Change::Liveness {
        namespace: "ns".into(),
        name: "w".into(),
        up,
    };
    let endpoints = |mesh: &Mesh| {
        let mut facts = BTreeSet::new();
        let mut view = mesh.view(&mut facts);
        let service = view.service("ns", &host("a")).unwrap();
        view.endpoints(service).len()
    };
    assert_eq!(endpoints(&mesh), 1);
    assert_eq!(
        mesh.apply(turn(false)),
        BTreeSet::from([Fact::Endpoints(host("a"))])
    );
    assert_eq!(endpoints(&mesh), 0);
    assert_eq!(mesh.apply(turn(false)), BTreeSet::new());
    mesh.apply(turn(true));
    assert_eq!(endpoints(&mesh), 1);
}

#[test]
fn where_mutual_tls_is_taken_is_a_matter_of_endpoints() {
    let mut mesh = mesh();
    mesh.apply(service(
        "a",
        &json!({"workloadSelector": {"labels": {"app": "a"}}}),
    ));
    mesh.apply(workload("w", "a"));
    let takes = |ports: &[u16]| Change::Mtls {
        namespace: "ns".into(),
        name: "w".into(),
        ports: ports.iter().copied().collect(),
    };
    let taken = |mesh: &Mesh| {
        let mut facts = BTreeSet::new();
        let mut view = mesh.view(&mut facts);
        let service = view.service("ns", &host("a")).unwrap();
        let endpoint = &view.endpoints(service)[0];
        [80, 81].map(|port| endpoint.takes_mtls(port))
    };
    assert_eq!(taken(&mesh), [false, false]);
    let endpoints = BTreeSet::from([Fact::Endpoints(host("a"))]);
    assert_eq!(mesh.apply(takes(&[80])), endpoints);
    assert_eq!(taken(&mesh), [true, false]);
    assert_eq!(mesh.apply(takes(&[80])), BTreeSet::new());
    assert_eq!(mesh.apply(takes(&[])), endpoints);
    assert_eq!(taken(&mesh), [false, false]);
}

#[test]
fn a_rule_for_a_wildcard_touches_the_hosts_below_it() {
    let mut mesh = mesh();
    mesh.apply(service("a", &json!({})));
    let facts = mesh.apply(put(
        Kind::DestinationRule,
        "ns",
        "rule",
        &[],
        json!({"host": "*.ns.svc.cluster.local"}),
    ));
    assert!(facts.contains(&Fact::Rules("ns".into(), host("a"))));
    let mut noted = BTreeSet::new();
    let mut view = mesh.view(&mut noted);
    let service = view.service("other", &host("a")).unwrap();
    assert_eq!(
        view.rules("other", &Default::default(), service).len(),
        1,
        "the service's namespace counts"
    );
    assert!(
        noted.contains(&Fact::Rules("other".into(), host("a"))),
        "the caller's was looked at first"
    );
}

#[test]
fn writing_the_same_again_changes_nothing() {
    let mut mesh = mesh();
    mesh.apply(service("a", &json!({})));
    assert_eq!(mesh.apply(service("a", &json!({}))), BTreeSet::new());
}
