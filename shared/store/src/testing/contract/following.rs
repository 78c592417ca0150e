//! Watches that are not disturbed.
//!
//! *Invariant:* see [`super`].

use serde_json::json;

use super::*;

pub async fn a_watch_begins_with_a_snapshot(rig: &dyn Rig) {
    let store = rig.store();
    let first = commit(&store, [create(route("a", 1)), create(route("b", 1))]).await;
    let second = commit(&store, [delete("a", first)]).await;
    let (mut watch, snapshot) = watch_all(&store).await;
    assert!(snapshot.revision >= second);
    assert_eq!(names(&snapshot), ["b"]);
    assert_eq!(snapshot.objects[0].revision(), Some(first));
    let third = commit(&store, [create(route("c", 1))]).await;
    let (revision, changes) = changes(&mut watch).await;
    assert_eq!(revision, third);
    assert!(
        matches!(&changes[..], [Change::Put { object, before: None }] if object.key() == key("c")),
        "{changes:?}"
    );
}

pub async fn a_watch_resumes_after_a_revision(rig: &dyn Rig) {
    let store = rig.store();
    let mut revisions = Vec::new();
    for i in 0..6 {
        revisions.push(commit(&store, [create(route(&format!("r{i}"), 1))]).await);
    }
    for relist in [true, false] {
        let mut watch = store
            .watch(Scope::default(), Some(revisions[2]), relist)
            .await
            .unwrap();
        for expected in &revisions[3..] {
            assert_eq!(changes(&mut watch).await.0, *expected);
        }
    }
    let present = store.revision().await.unwrap();
    let mut watch = store
        .watch(Scope::default(), Some(present), false)
        .await
        .unwrap();
    let next = commit(&store, [create(route("next", 1))]).await;
    assert_eq!(changes(&mut watch).await.0, next);
}

pub async fn a_watch_of_a_kind_sees_only_it(rig: &dyn Rig) {
    let store = rig.store();
    let of = |kind, namespace: &str, name: &str| create(object(kind, namespace, name, json!({})));
    commit(
        &store,
        [
            of(Kind::Gateway, "a", "old"),
            of(Kind::Gateway, "b", "old"),
            of(Kind::Sidecar, "a", "old"),
        ],
    )
    .await;
    let namespaced = Scope {
        kind: Some(Kind::Gateway),
        namespace: Some("a".into()),
    };
    let across = Scope {
        kind: Some(Kind::Gateway),
        namespace: None,
    };
    let mut namespaced = store.watch(namespaced, None, true).await.unwrap();
    let mut across = store.watch(across, None, true).await.unwrap();
    assert_eq!(snapshot(&mut namespaced).await.objects.len(), 1);
    assert_eq!(snapshot(&mut across).await.objects.len(), 2);
    commit(&store, [of(Kind::Sidecar, "a", "new")]).await;
    commit(&store, [of(Kind::Gateway, "b", "new")]).await;
    let last = commit(
        &store,
        [
            of(Kind::Gateway, "a", "new"),
            of(Kind::Sidecar, "a", "newer"),
        ],
    )
    .await;
    let (revision, changes_) = changes(&mut namespaced).await;
    assert_eq!((revision, changes_.len()), (last, 1));
    assert_eq!(changes(&mut across).await.1.len(), 1);
    assert_eq!(changes(&mut across).await.0, last);
}

pub async fn a_damaged_value_is_reported_and_skipped(rig: &dyn Rig) {
    let store = rig.store();
    commit(&store, [create(route("a", 1)), create(route("b", 1))]).await;
    let (mut watch, _) = watch_all(&store).await;
    rig.put_raw(
        "config/networking.istio.io/VirtualService/default/a",
        b"\xff\xfe",
    )
    .await;
    let (revision, damaged) = changes(&mut watch).await;
    let [Change::Undecodable(undecodable)] = &damaged[..] else {
        panic!("{damaged:?}")
    };
    assert_eq!(
        (&undecodable.key, undecodable.revision),
        (&Some(key("a")), revision)
    );
    assert!(
        undecodable
            .etcd_key
            .ends_with("/config/networking.istio.io/VirtualService/default/a")
    );
    // The rest goes on, and a repair is a change from nothing that is known.
    let repaired = commit(
        &store,
        [replace(route("a", 2), revision), create(route("c", 1))],
    )
    .await;
    let (revision, changes_) = changes(&mut watch).await;
    assert_eq!((revision, changes_.len()), (repaired, 2));
    assert!(
        changes_
            .iter()
            .all(|change| matches!(change, Change::Put { before: None, .. })),
        "{changes_:?}"
    );
    // A damaged change record hides nothing.
    rig.put_raw(&format!("changes/{}", uuid::Uuid::now_v7()), b"?")
        .await;
    let last = commit(&store, [create(route("d", 1))]).await;
    assert_eq!(changes(&mut watch).await.0, last);
    assert_eq!(store.history(None, None, 0).await.unwrap().len(), 3);
}

pub async fn a_slow_consumer_loses_nothing(rig: &dyn Rig) {
    let store = rig.store();
    let (mut watch, _) = watch_all(&store).await;
    let mut at = commit(&store, [create(route("a", 0))]).await;
    let mut revisions = vec![at];
    for n in 1..300 {
        at = commit(&store, [replace(route("a", n), at)]).await;
        revisions.push(at);
    }
    for expected in revisions {
        assert_eq!(changes(&mut watch).await.0, expected);
    }
}

/// With what was there before, in themselves and in the change record, the events are 2.4 MB: etcd splits them,
/// the record from the rest.
pub async fn a_large_revision_stays_whole(rig: &dyn Rig) {
    let store = rig.store();
    let name = |i: usize| format!("s{i:03}");
    let of =
        |i: usize, x: String| object(Kind::ServiceEntry, "default", &name(i), json!({ "x": x }));
    let mut at = Vec::new();
    for half in [0..50, 50..100] {
        let revision = commit(&store, half.map(|i| create(of(i, "x".repeat(12_000))))).await;
        at.extend([revision; 50]);
    }
    let (mut watch, _) = watch_all(&store).await;
    let second = commit(
        &store,
        (0..100).map(|i| replace(of(i, "small".into()), at[i])),
    )
    .await;
    let third = commit(&store, [create(route("a", 1))]).await;
    let mut late = store
        .watch(Scope::default(), Some(at[99]), false)
        .await
        .unwrap();
    for watch in [&mut watch, &mut late] {
        let Event::Changes {
            revision,
            changes: whole,
            authors,
            ..
        } = event(watch).await
        else {
            panic!("no changes")
        };
        assert_eq!((revision, whole.len(), authors.len()), (second, 100, 1));
        assert!(whole.iter().all(|change| matches!(
            change,
            Change::Put {
                before: Some(_),
                ..
            }
        )));
        assert_eq!(changes(watch).await.0, third);
    }
}

/// What is written under the root beside resources moves a watch on, so that it reaches the store's revision.
pub async fn others_writes_are_progress(rig: &dyn Rig) {
    let store = rig.store();
    let (mut watch, snapshot) = watch_all(&store).await;
    rig.put_raw("elsewhere", b"x").await;
    let now = store.revision().await.unwrap();
    assert!(now > snapshot.revision);
    assert_eq!(
        next(&mut watch).await,
        Some(Event::Progress { revision: now })
    );
}
