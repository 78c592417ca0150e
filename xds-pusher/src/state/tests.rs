#![allow(clippy::unwrap_used)]

use compile::Change;
use model::{Kind, Metadata};
use serde_json::json;

use super::*;

fn object(name: &str, revision: i64) -> Arc<Object> {
    let resource_version = Some(revision.to_string());
    let metadata = Metadata {
        name: name.into(),
        namespace: "ns".into(),
        resource_version,
        ..Metadata::default()
    };
    Arc::new(Object {
        kind: Kind::Sidecar,
        metadata,
        spec: json!({"egress": [{"hosts": ["./*"]}]}),
    })
}

fn snapshot(revision: i64, objects: &[Arc<Object>]) -> Snapshot {
    Snapshot {
        revision: Revision(revision),
        objects: objects.to_vec(),
        ..Snapshot::default()
    }
}

/// `+name`, `-name`, `^name` (up), `vname` (down) and `=name` (where it takes mutual TLS).
fn told(changes: &[Change]) -> Vec<String> {
    let tell = |change: &Change| match change {
        Change::Put(resource) => format!("+{}", resource.metadata.name),
        Change::Delete(key) => format!("-{}", key.name),
        Change::Liveness { name, up, .. } => format!("{}{name}", if *up { '^' } else { 'v' }),
        Change::Mtls { name, .. } => format!("={name}"),
    };
    changes.iter().map(tell).collect()
}

#[test]
fn a_fresh_load_says_only_what_differs() {
    let mut state = State::default();
    assert_eq!(
        told(&state.replace(snapshot(5, &[object("a", 1), object("b", 2)]), Revision(0))),
        ["+a", "+b"]
    );
    assert_eq!(
        told(&state.replace(snapshot(6, &[object("a", 1), object("b", 2)]), Revision(0))),
        Vec::<String>::new()
    );
    assert_eq!(
        told(&state.replace(snapshot(9, &[object("b", 8), object("c", 7)]), Revision(0))),
        ["-a", "+b", "+c"]
    );
}

/// A restore makes revisions anew: what is at the same one as before may be something else.
#[test]
fn revisions_of_another_history_are_not_compared() {
    let mut state = State::default();
    let both = [object("a", 1), object("b", 2)];
    state.replace(snapshot(9, &both), Revision(0));
    assert_eq!(
        told(&state.replace(snapshot(8, &both), Revision(9))),
        ["+a", "+b"]
    );
    let other = Snapshot {
        epoch: "other".into(),
        ..snapshot(10, &both)
    };
    assert_eq!(
        told(&state.replace(other.clone(), Revision(8))),
        ["+a", "+b"]
    );
    assert!(state.replace(other, Revision(10)).is_empty());
}

#[test]
fn liveness_is_told_when_it_turns() {
    let mut state = State::default();
    let down = |names: &[&str]| Snapshot {
        down: names
            .iter()
            .map(|name| (Arc::from("ns"), Arc::from(*name)))
            .collect(),
        ..Snapshot::default()
    };
    assert_eq!(told(&state.replace(down(&["a"]), Revision(0))), ["va"]);
    assert_eq!(
        told(&state.replace(down(&["b"]), Revision(0))),
        ["^a", "vb"]
    );
    let again = store::Change::Liveness {
        namespace: "ns".into(),
        name: "b".into(),
        up: false,
    };
    assert!(state.change(again).is_none());
}

#[test]
fn what_cannot_be_decoded_is_kept_and_named() {
    let mut state = State {
        loaded: true,
        ..State::default()
    };
    state.replace(snapshot(5, &[object("a", 1)]), Revision(0));
    let damaged = Undecodable {
        etcd_key: "/weft/v1/config/networking.istio.io/Sidecar/ns/a".into(),
        key: Some(object("a", 1).key()),
        revision: Revision(6),
        error: "not JSON".into(),
    };
    let lost = Snapshot {
        undecodable: vec![damaged.clone()],
        ..snapshot(7, &[])
    };
    assert_eq!(
        told(&state.replace(lost, Revision(5))),
        Vec::<String>::new(),
        "it is not deleted"
    );
    assert!(
        state.complaint().unwrap().contains("Sidecar ns/a"),
        "{:?}",
        state.complaint()
    );

    let repaired = store::Change::Put {
        object: object("a", 8),
        before: None,
    };
    assert!(state.change(repaired).is_some());
    assert_eq!(state.complaint(), None);

    assert!(state.change(store::Change::Undecodable(damaged)).is_none());
    let deleted = store::Change::Delete {
        key: object("a", 8).key(),
        before: None,
    };
    assert_eq!(
        told(&state.change(deleted).into_iter().collect::<Vec<_>>()),
        ["-a"]
    );
    assert_eq!(state.complaint(), None);
}

#[test]
fn a_spec_that_cannot_be_read_changes_nothing() {
    let mut state = State {
        loaded: true,
        ..State::default()
    };
    let broken = Object {
        spec: json!({"egress": 3}),
        ..(*object("a", 1)).clone()
    };
    let change = store::Change::Put {
        object: Arc::new(broken),
        before: None,
    };
    assert!(state.change(change).is_none());
    assert!(
        state.complaint().unwrap().contains("spec.egress"),
        "{:?}",
        state.complaint()
    );
}

/// Refusing it would have replicas differ, and a stricter rule of a later version take policy out of force.
#[test]
fn what_breaks_a_rule_is_in_force_and_named() {
    let mut state = State {
        loaded: true,
        ..State::default()
    };
    let mut broken = (*object("a", 1)).clone();
    broken.spec = json!({"egress": [{"hosts": ["no slash"]}]});
    let changes = state.replace(snapshot(5, &[Arc::new(broken)]), Revision(0));
    assert_eq!(told(&changes), ["+a"]);
    let complaint = state.complaint().unwrap();
    assert!(
        complaint.contains("Sidecar ns/a") && complaint.contains("spec.egress[0].hosts[0]"),
        "{complaint}"
    );

    let mended = store::Change::Put {
        object: object("a", 6),
        before: None,
    };
    assert!(state.change(mended).is_some());
    assert_eq!(state.complaint(), None);
}
