#![allow(clippy::unwrap_used)]

use super::*;

fn node(id: &str) -> Node {
    Node {
        id: id.into(),
        cluster: "class".into(),
        ..Default::default()
    }
}

#[test]
fn a_node_sees_what_is_set_before_and_after_it_connects() {
    let cache = SnapshotCache::by_id();
    let mut early = cache.snapshots(&node("a"), &Peer::default()).unwrap();
    assert!(early.borrow_and_update().is_none());
    cache.set("a", Snapshot::new(7));
    assert_eq!(early.borrow_and_update().as_ref().unwrap().revision(), 7);
    let late = cache.snapshots(&node("a"), &Peer::default()).unwrap();
    assert_eq!(late.borrow().as_ref().unwrap().revision(), 7);
    assert!(
        cache
            .snapshots(&node("b"), &Peer::default())
            .unwrap()
            .borrow()
            .is_none()
    );
    cache.clear("a");
    assert!(cache.get("a").is_none() && cache.keys().is_empty());
}

#[test]
fn nodes_of_a_class_share_a_snapshot() {
    let cache = SnapshotCache::by(|node| node.cluster.clone());
    cache.set("class", Snapshot::new(1));
    let snapshot = |id| {
        cache
            .snapshots(&node(id), &Peer::default())
            .unwrap()
            .borrow()
            .clone()
            .unwrap()
    };
    assert!(Arc::ptr_eq(&snapshot("a"), &snapshot("b")));
}

#[test]
fn keys_that_nodes_made_up_are_forgotten_with_their_streams() {
    let cache = SnapshotCache::by_id();
    for i in 0..100 {
        drop(
            cache
                .snapshots(&node(&format!("made up {i}")), &Peer::default())
                .unwrap(),
        );
    }
    assert!(cache.slots().len() <= 1);
}
