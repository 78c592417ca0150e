#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::mesh::{Change, Mesh};
use crate::mtls::{SETTLE, Scope};
use crate::{Kind, Metadata, Object};

const MINUTE: Duration = Duration::from_secs(60);

fn put(mesh: &mut Mesh, kind: Kind, name: &str, spec: Value) {
    let metadata = Metadata {
        name: name.into(),
        namespace: "shop".into(),
        ..Metadata::default()
    };
    let object = Object {
        kind,
        metadata,
        spec,
    };
    mesh.apply(Change::Put(Arc::new(object.decode().unwrap())));
}

/// `orders` with `a`, which listens for `http` where it says so itself, and `b`; PERMISSIVE on port 99, else STRICT.
fn mesh() -> Mesh {
    let mut mesh = Mesh::new("svc.cluster.local", "root");
    let service = json!({
        "hosts": ["orders.shop.svc.cluster.local"], "resolution": "STATIC", "location": "MESH_INTERNAL",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}, {"number": 90, "name": "admin", "targetPort": 99, "protocol": "HTTP"}],
        "workloadSelector": {"labels": {"app": "orders"}},
    });
    put(&mut mesh, Kind::ServiceEntry, "orders", service);
    let labels = json!({"app": "orders"});
    let own = json!({"address": "10.0.0.1", "labels": labels, "ports": {"http": 8080}});
    put(&mut mesh, Kind::WorkloadEntry, "a", own);
    put(
        &mut mesh,
        Kind::WorkloadEntry,
        "b",
        json!({"address": "10.0.0.2", "labels": labels}),
    );
    let policy = json!({
        "selector": {"matchLabels": labels}, "mtls": {"mode": "STRICT"}, "portLevelMtls": {"99": {"mode": "PERMISSIVE"}},
    });
    put(&mut mesh, Kind::PeerAuthentication, "p", policy);
    mesh
}

fn statuses(mesh: &Mesh, said: &[(&str, &Acknowledged)], now: Timestamp) -> Vec<WorkloadStatus> {
    let mut read = BTreeSet::new();
    let mut view = mesh.view(&mut read);
    let service = view
        .services("orders.shop.svc.cluster.local")
        .next()
        .unwrap();
    let said = |key: &Key| {
        let (_, said) = said.iter().find(|(name, _)| **name == *key.name)?;
        Some((*said).clone())
    };
    status(service, &mut view, said, now)
}

fn acked(modes: &[(u16, Mode)], at: Timestamp) -> Acknowledged {
    Acknowledged::default().turned(&modes.iter().copied().collect(), MINUTE, at)
}

#[test]
fn each_port_is_what_its_proxy_acknowledged_beside_what_its_policy_decides() {
    let (mesh, start) = (mesh(), Timestamp::UNIX_EPOCH);
    let drained = start + SETTLE + MINUTE;
    let a = acked(&[(8080, Mode::Strict), (99, Mode::Permissive)], start);
    let all = statuses(&mesh, &[("a", &a)], start);
    let names: Vec<_> = all
        .iter()
        .map(|it| &*it.workload.as_ref().unwrap().name)
        .collect();
    assert_eq!(names, ["a", "b"]);
    let port = |workload: usize, number: u16| {
        let ports = &all[workload].ports;
        ports.iter().find(|it| it.port == number).unwrap()
    };
    let http = port(0, 8080);
    assert_eq!(http.service_ports, [80]);
    assert_eq!(http.state, State::Draining(drained));
    assert_eq!((http.acked, http.since), (true, Some(start)));
    let decision = http.decision.as_ref().unwrap();
    assert_eq!(
        (decision.mode, decision.scope),
        (Mode::Strict, Scope::Workload)
    );
    assert_eq!(&*decision.policy.as_ref().unwrap().name, "p");
    let admin = port(0, 99);
    assert_eq!(
        (admin.state, &admin.service_ports[..]),
        (State::Permissive, &[90][..])
    );
    assert_eq!(admin.decision.as_ref().unwrap().scope, Scope::Port);
    assert_eq!(all[0].state(), State::Mixed);
    // The other's proxy never said anything.
    assert_eq!(port(1, 80).state, State::Unknown);
    assert_eq!((port(1, 80).acked, port(1, 80).since), (false, None));
    assert_eq!(all[1].state(), State::Unknown);
    assert_eq!(
        statuses(&mesh, &[("a", &a)], drained)[0].ports[1].state,
        State::Strict
    );
}

#[test]
fn what_is_leaving_strict_is_strict_no_more() {
    let (mut mesh, start) = (mesh(), Timestamp::UNIX_EPOCH);
    let a = acked(&[(8080, Mode::Strict), (99, Mode::Strict)], start);
    let late = start + MINUTE * 10;
    let of = |mesh: &Mesh| statuses(mesh, &[("a", &a)], late)[0].ports.clone();
    // Its policy says PERMISSIVE since.
    assert_eq!(of(&mesh)[0].state, State::Permissive);
    assert!(!of(&mesh)[0].acked);
    assert_eq!(of(&mesh)[1].state, State::Strict);
    mesh.apply(Change::Delete(Key::new(
        Kind::PeerAuthentication,
        "shop",
        "p",
    )));
    assert_eq!(of(&mesh)[1].state, State::Permissive);
    assert_eq!(
        of(&mesh)[1].decision.as_ref().unwrap().scope,
        Scope::Default
    );
}

#[test]
fn those_that_are_down_and_those_without_a_proxy_count() {
    let (mut mesh, start) = (mesh(), Timestamp::UNIX_EPOCH);
    mesh.apply(Change::Liveness {
        namespace: "shop".into(),
        name: "b".into(),
        up: false,
    });
    assert_eq!(statuses(&mesh, &[], start).len(), 2);
    let service = json!({
        "hosts": ["orders.shop.svc.cluster.local"], "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "endpoints": [{"address": "10.0.0.9"}],
    });
    put(&mut mesh, Kind::ServiceEntry, "orders", service);
    let all = statuses(&mesh, &[], start);
    let found: Vec<_> = all
        .iter()
        .map(|it| (&it.workload, it.address.as_deref(), it.state()))
        .collect();
    assert_eq!(found, [(&None, Some("10.0.0.9"), State::Unknown)]);
    assert_eq!(all[0].ports[0].decision, None);
}

#[test]
fn one_word_for_several() {
    use State::{Disable, Draining, Mixed, Permissive, Strict, Unknown};
    let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + MINUTE);
    let rows = [
        (vec![], Unknown),
        (vec![Strict, Strict], Strict),
        (
            vec![Strict, Draining(early), Draining(late), Strict],
            Draining(late),
        ),
        (vec![Draining(late), Draining(early)], Draining(late)),
        (vec![Strict, Unknown], Mixed),
        (vec![Permissive, Permissive], Permissive),
        (vec![Permissive, Disable], Mixed),
        (vec![Strict, Permissive, Strict], Mixed),
        (vec![Mixed, Strict], Mixed),
        (vec![Draining(late), Permissive], Mixed),
    ];
    for (states, together) in rows {
        assert_eq!(State::together(states.clone()), together, "{states:?}");
    }
}
