//! Cases of Istio's `TestComposePeerAuthentication` (`pilot/pkg/security/authn/policy_applier_test.go`) and what its comment
//! on `ComposePeerAuthentication` promises, asked through a mesh.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::mesh::{Change, Fact, Mesh, workload_labels};
use crate::{Kind, Metadata, Object, Spec};

type Written<'a> = (&'a str, u8, Value);

fn put(mesh: &mut Mesh, kind: Kind, place: &str, age: u8, spec: &Value) -> BTreeSet<Fact> {
    let (namespace, name) = place.split_once('/').unwrap();
    let metadata = Metadata {
        name: name.into(),
        namespace: namespace.into(),
        creation_timestamp: Some(format!("2026-01-0{age}T00:00:00Z")),
        ..Metadata::default()
    };
    let object = Object {
        kind,
        metadata,
        spec: spec.clone(),
    };
    mesh.apply(Change::Put(Arc::new(object.decode().unwrap())))
}

/// `foo/w`, labelled `app: foo`, of the account `orders`, among policies (place, age, spec).
fn mesh(policies: &[Written<'_>]) -> Mesh {
    let mut mesh = Mesh::new("svc.cluster.local", "root");
    let workload =
        json!({"address": "10.0.0.1", "labels": {"app": "foo"}, "serviceAccount": "orders"});
    put(&mut mesh, Kind::WorkloadEntry, "foo/w", 1, &workload);
    put(&mut mesh, Kind::WorkloadEntry, "root/w", 1, &workload);
    for (place, age, spec) in policies {
        put(&mut mesh, Kind::PeerAuthentication, place, *age, spec);
    }
    mesh
}

fn modes_in(mesh: &Mesh, namespace: &str) -> Modes {
    let mut read = BTreeSet::new();
    let mut view = mesh.view(&mut read);
    let namespace: Arc<str> = namespace.into();
    let workload = view.workload(&namespace, &"w".into()).unwrap();
    let labels = workload_labels(workload);
    modes(&view.peer_authentications(&namespace, &labels))
}

fn mode(mode: &str) -> Value {
    json!({"mtls": {"mode": mode}})
}

fn select(app: &str, mode: &str) -> Value {
    json!({"selector": {"matchLabels": {"app": app}}, "mtls": {"mode": mode}})
}

#[test]
fn the_narrowest_policy_that_says_something_is_in_force() {
    let ports = |ports: Value| json!({"selector": {"matchLabels": {"app": "foo"}}, "mtls": {"mode": "STRICT"}, "portLevelMtls": ports});
    let quiet = json!({"selector": {"matchLabels": {"app": "foo"}}, "portLevelMtls": {"80": {"mode": "STRICT"}, "90": {}}});
    let account = json!({"selector": {"matchLabels": {"weft.mesh/service-account": "orders"}}, "mtls": {"mode": "STRICT"}});
    let other = json!({"selector": {"matchLabels": {"weft.mesh/service-account": "users"}}, "mtls": {"mode": "STRICT"}});
    // What is in the mesh; what then holds for port 80 and for port 90, and the policy that decided it.
    #[rustfmt::skip]
    let rows: &[(&str, Vec<Written<'_>>, &str, &str)] = &[
        ("no config", vec![], "PERMISSIVE default -", "PERMISSIVE default -"),
        ("mesh only", vec![("root/d", 1, mode("STRICT"))], "STRICT mesh root/d", "STRICT mesh root/d"),
        ("mesh, unset", vec![("root/d", 1, mode("UNSET"))], "PERMISSIVE default -", "PERMISSIVE default -"),
        ("mesh vs namespace", vec![("root/d", 1, mode("STRICT")), ("foo/d", 1, mode("DISABLE"))],
            "DISABLE namespace foo/d", "DISABLE namespace foo/d"),
        ("NONE is DISABLE", vec![("foo/d", 1, mode("NONE"))], "DISABLE namespace foo/d", "DISABLE namespace foo/d"),
        ("namespace, no mode", vec![("root/d", 1, mode("STRICT")), ("foo/d", 1, json!({}))],
            "STRICT mesh root/d", "STRICT mesh root/d"),
        ("another namespace", vec![("bar/d", 1, mode("STRICT"))], "PERMISSIVE default -", "PERMISSIVE default -"),
        ("workload vs namespace", vec![("foo/d", 1, mode("STRICT")), ("foo/w", 2, select("foo", "PERMISSIVE"))],
            "PERMISSIVE workload foo/w", "PERMISSIVE workload foo/w"),
        ("workload of others", vec![("foo/d", 1, mode("STRICT")), ("foo/w", 2, select("bar", "PERMISSIVE"))],
            "STRICT namespace foo/d", "STRICT namespace foo/d"),
        ("workload, unset", vec![("foo/d", 1, mode("STRICT")), ("foo/w", 2, select("foo", "UNSET"))],
            "STRICT namespace foo/d", "STRICT namespace foo/d"),
        ("multiple mesh policy", vec![("root/young", 2, mode("STRICT")), ("root/old", 1, mode("DISABLE"))],
            "DISABLE mesh root/old", "DISABLE mesh root/old"),
        ("multiple namespace policy", vec![("foo/young", 2, mode("STRICT")), ("foo/old", 1, mode("DISABLE"))],
            "DISABLE namespace foo/old", "DISABLE namespace foo/old"),
        ("multiple workload policy", vec![("foo/young", 2, select("foo", "STRICT")), ("foo/old", 1, select("foo", "DISABLE"))],
            "DISABLE workload foo/old", "DISABLE workload foo/old"),
        ("the oldest is silent: not the next oldest, the namespace", vec![("foo/young", 2, select("foo", "STRICT")),
            ("foo/old", 1, select("foo", "UNSET")), ("foo/d", 3, mode("DISABLE"))],
            "DISABLE namespace foo/d", "DISABLE namespace foo/d"),
        ("of one age: by name", vec![("foo/b", 1, mode("STRICT")), ("foo/a", 1, mode("DISABLE"))],
            "DISABLE namespace foo/a", "DISABLE namespace foo/a"),
        ("port level", vec![("foo/w", 1, ports(json!({"80": {"mode": "DISABLE"}})))], "DISABLE port foo/w", "STRICT workload foo/w"),
        ("port level, unset inherits", vec![("foo/w", 1, ports(json!({"80": {"mode": "UNSET"}})))],
            "STRICT workload foo/w", "STRICT workload foo/w"),
        ("port level of a policy without a mode", vec![("root/d", 1, mode("DISABLE")), ("foo/w", 1, quiet)],
            "STRICT port foo/w", "DISABLE mesh root/d"),
        ("by service account", vec![("foo/w", 1, account)], "STRICT workload foo/w", "STRICT workload foo/w"),
        ("of another account", vec![("foo/w", 1, other)], "PERMISSIVE default -", "PERMISSIVE default -"),
    ];
    for (name, policies, port_80, port_90) in rows {
        let modes = modes_in(&mesh(policies), "foo");
        let shown = |port| {
            let it = modes.of_port(port);
            let policy = it
                .policy
                .as_ref()
                .map_or("-".into(), |key| format!("{}/{}", key.namespace, key.name));
            format!("{} {} {policy}", it.mode, it.scope)
        };
        assert_eq!((&*shown(80), &*shown(90)), (*port_80, *port_90), "{name}");
    }
}

#[test]
fn a_selector_in_the_root_namespace_selects_nobody() {
    // Istio: "Workload-level policy, aka the one with selector and not in root namespace."
    let mesh = mesh(&[("root/w", 1, select("foo", "STRICT"))]);
    for namespace in ["foo", "root"] {
        assert_eq!(modes_in(&mesh, namespace).others.scope, Scope::Default);
    }
}

#[test]
fn the_label_of_the_account_cannot_be_forged() {
    let mut mesh = mesh(&[]);
    let forged = json!({"address": "10.0.0.1", "labels": {"weft.mesh/service-account": "admin"}});
    put(&mut mesh, Kind::WorkloadEntry, "foo/w", 1, &forged);
    let mut read = BTreeSet::new();
    let mut view = mesh.view(&mut read);
    let resource = view.workload(&"foo".into(), &"w".into()).unwrap();
    assert!(matches!(resource.spec, Spec::WorkloadEntry(_)));
    assert_eq!(
        workload_labels(resource)["weft.mesh/service-account"],
        "default"
    );
}

#[test]
fn a_policy_changes_the_facts_of_its_namespace() {
    let mut mesh = mesh(&[]);
    let facts = put(
        &mut mesh,
        Kind::PeerAuthentication,
        "foo/d",
        1,
        &mode("STRICT"),
    );
    assert!(facts.contains(&Fact::PeerAuthentications("foo".into())));
    assert!(!facts.contains(&Fact::PeerAuthentications("root".into())));
    let mut read = BTreeSet::new();
    mesh.view(&mut read)
        .peer_authentications(&"foo".into(), &BTreeMap::new());
    let policy = Key::new(Kind::PeerAuthentication, "foo", "d");
    for fact in [
        Fact::PeerAuthentications("foo".into()),
        Fact::PeerAuthentications("root".into()),
        Fact::Resource(policy),
    ] {
        assert!(read.contains(&fact), "{fact:?}");
    }
}
