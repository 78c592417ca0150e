//! What a change costs in a mesh of 10,000 services, counted.

use std::sync::Arc;

use compile::{Change, Compiler, Identities, Settings};
use model::Revision;
use serde_json::{Value, json};

use crate::support::{identities, proxy, resource};

const SERVICES: usize = 10_000;

fn service(number: usize, endpoint: &str) -> Change {
    let spec = json!({
        "hosts": [format!("s{number}.default.svc.cluster.local")],
        "ports": [{"number": 80, "protocol": "HTTP", "name": "http"}],
        "location": "MESH_INTERNAL", "resolution": "STATIC",
        "endpoints": [{"address": endpoint}],
    });
    put("ServiceEntry", &format!("s{number}"), &spec)
}

fn put(kind: &str, name: &str, spec: &Value) -> Change {
    Change::Put(Arc::new(resource(json!({
        "apiVersion": "networking.istio.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    }))))
}

#[test]
fn a_change_among_ten_thousand_services_costs_what_depends_on_it() {
    for identities in [None, Some(identities("cluster.local"))] {
        count(identities);
    }
}

fn count(identities: Option<Identities>) {
    let mut compiler = Compiler::new(Settings {
        identities,
        ..Settings::default()
    });
    compiler.apply(
        Revision(1),
        (0..SERVICES).map(|number| service(number, "10.0.0.1")),
    );
    let proxies = ["sidecar~default~a", "sidecar~other~b"].map(|id| compiler.connect(proxy(id)));
    assert_eq!(compiler.counters().classes, 2);

    let applied = compiler.apply(Revision(2), [service(4711, "10.0.0.2")]);
    assert_eq!(applied.changed, proxies);
    assert_eq!(
        applied.counters.units_recompiled, 1,
        "the endpoints are shared by both classes"
    );
    assert_eq!(applied.counters.resources_changed, 2, "one in each class");

    let applied = compiler.apply(Revision(3), [service(4711, "10.0.0.2")]);
    assert_eq!(
        (applied.changed.len(), applied.counters.units_recompiled),
        (0, 0),
        "nothing changed"
    );

    let applied = compiler.apply(Revision(4), [service(SERVICES, "10.0.0.3")]);
    assert_eq!(
        applied.counters.units_recompiled, 4,
        "cluster and endpoints once, virtual hosts per class"
    );
    assert_eq!(
        applied.counters.resources_changed,
        2 * 3,
        "cluster, endpoints and route configuration in each class"
    );

    let route = json!({
        "hosts": ["s1.default.svc.cluster.local"],
        "http": [{"route": [{"destination": {"host": "s2.default.svc.cluster.local"}}]}],
    });
    let applied = compiler.apply(Revision(5), [put("VirtualService", "route", &route)]);
    assert_eq!(
        applied.counters.units_recompiled, 2,
        "the virtual host of one service per class"
    );
    assert_eq!(
        applied.counters.resources_changed, 2,
        "the route configuration in each class"
    );
}
