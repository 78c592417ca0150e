//! Watches and calls while the store is cut off, compacted or restored.
//!
//! *Invariant:* see [`super`].

use super::*;
use crate::Error;

pub async fn a_cut_watch_resumes_without_loss(rig: &dyn Rig) {
    let (store, other) = (rig.store(), rig.other());
    let (mut watch, _) = watch_all(&store).await;
    let mut at = commit(&other, [create(route("a", 0))]).await;
    assert_eq!(changes(&mut watch).await.0, at);
    for round in 1..4 {
        let mut revisions = Vec::new();
        rig.cut();
        disconnected(&mut watch).await;
        for n in 0..10 {
            at = commit(&other, [replace(route("a", round * 10 + n), at)]).await;
            revisions.push(at);
        }
        rig.restore();
        for expected in revisions {
            let (revision, changes) = changes(&mut watch).await;
            assert_eq!((revision, changes.len()), (expected, 1));
        }
    }
    // Coming back is told even when nothing happened.
    rig.cut();
    disconnected(&mut watch).await;
    rig.restore();
    assert_eq!(
        next(&mut watch).await,
        Some(Event::Progress { revision: at })
    );
}

pub async fn a_compaction_while_away_relists(rig: &dyn Rig) {
    let (store, other) = (rig.store(), rig.other());
    let first = commit(
        &other,
        ["gone", "kept", "changed"].map(|name| create(route(name, 1))),
    )
    .await;
    let (mut watch, before) = watch_all(&store).await;
    assert_eq!(names(&before), ["changed", "gone", "kept"]);
    rig.cut();
    disconnected(&mut watch).await;
    commit(&other, [delete("gone", first), create(route("new", 2))]).await;
    let last = commit(&other, [replace(route("changed", 2), first)]).await;
    rig.compact(last).await;
    rig.restore();
    let after = snapshot(&mut watch).await;
    assert_eq!(
        (after.revision, names(&after)),
        (last, vec!["changed", "kept", "new"])
    );
    assert_eq!(after.objects[0].spec["hosts"][0], "changed-2");
    let next = commit(&other, [delete("kept", first)]).await;
    assert_eq!(changes(&mut watch).await.0, next);
}

pub async fn without_relist_a_watch_ends_at_a_compaction(rig: &dyn Rig) {
    let (store, other) = (rig.store(), rig.other());
    let first = commit(&other, [create(route("a", 1))]).await;
    let mut watch = store
        .watch(Scope::default(), Some(first), false)
        .await
        .unwrap();
    let second = commit(&other, [replace(route("a", 2), first)]).await;
    assert_eq!(changes(&mut watch).await.0, second);
    rig.cut();
    disconnected(&mut watch).await;
    let third = commit(&other, [replace(route("a", 3), second)]).await;
    let fourth = commit(&other, [replace(route("a", 4), third)]).await;
    rig.compact(fourth).await;
    rig.restore();
    while let Some(event) = next(&mut watch).await {
        assert!(
            matches!(event, Event::Progress { .. } | Event::Disconnected { .. }),
            "{event:?}"
        );
    }
}

pub async fn a_watch_from_a_compacted_revision(rig: &dyn Rig) {
    let store = rig.store();
    let first = commit(&store, [create(route("a", 1))]).await;
    let second = commit(&store, [replace(route("a", 2), first)]).await;
    let third = commit(&store, [replace(route("a", 3), second)]).await;
    rig.compact(second).await;
    let refused = store
        .watch(Scope::default(), Some(first), false)
        .await
        .map(drop);
    assert!(
        matches!(refused, Err(Error::Compacted { asked }) if asked == first),
        "{refused:?}"
    );
    let future = Revision(third.0 + 1000);
    let refused = store
        .watch(Scope::default(), Some(future), false)
        .await
        .map(drop);
    assert!(
        matches!(refused, Err(Error::Future { asked }) if asked == future),
        "{refused:?}"
    );
    for lost in [first, future] {
        let mut watch = store
            .watch(Scope::default(), Some(lost), true)
            .await
            .unwrap();
        assert!(snapshot(&mut watch).await.revision >= third);
    }
    let mut watch = store
        .watch(Scope::default(), Some(second), false)
        .await
        .unwrap();
    assert_eq!(changes(&mut watch).await.0, third);
}

pub async fn a_new_epoch_relists(rig: &dyn Rig) {
    let (store, other) = (rig.store(), rig.other());
    commit(&store, [create(route("a", 1))]).await;
    let epoch = store.epoch().await.unwrap();
    let restore = async || {
        rig.put_raw("epoch", uuid::Uuid::new_v4().to_string().as_bytes())
            .await
    };
    let kind = Scope {
        kind: Some(Kind::VirtualService),
        namespace: None,
    };
    let (mut watch, _) = watch_all(&store).await;
    let mut scoped = store.watch(kind, None, true).await.unwrap();
    assert_eq!(names(&snapshot(&mut scoped).await), ["a"]);
    // Under a watch that is connected.
    restore().await;
    let anew = snapshot(&mut watch).await;
    assert_eq!(names(&anew), ["a"]);
    assert_ne!(store.epoch().await.unwrap(), epoch);
    assert_eq!(anew.epoch, store.epoch().await.unwrap().to_string());
    // And while it is away; a watch of one kind learns of either when it reconnects.
    rig.cut();
    disconnected(&mut watch).await;
    disconnected(&mut scoped).await;
    restore().await;
    commit(&other, [create(route("b", 1))]).await;
    rig.restore();
    assert_eq!(names(&snapshot(&mut watch).await), ["a", "b"]);
    assert_eq!(names(&snapshot(&mut scoped).await), ["a", "b"]);
}

pub async fn a_watch_may_begin_while_the_store_is_away(rig: &dyn Rig) {
    let (store, other) = (rig.store(), rig.other());
    commit(&other, [create(route("a", 1))]).await;
    rig.cut();
    let mut watch = store.watch(Scope::default(), None, true).await.unwrap();
    assert!(matches!(
        next(&mut watch).await,
        Some(Event::Disconnected { .. })
    ));
    rig.restore();
    assert_eq!(names(&snapshot(&mut watch).await), ["a"]);
}

pub async fn calls_fail_while_the_store_is_away(rig: &dyn Rig) {
    let store = rig.store();
    let first = commit(&store, [create(route("a", 1))]).await;
    let store = rig.impatient();
    rig.cut();
    assert!(matches!(
        store.get(&key("a")).await,
        Err(Error::Unavailable(_))
    ));
    assert!(matches!(store.revision().await, Err(Error::Unavailable(_))));
    assert!(matches!(
        store.list(Scope::default(), 0, None, None).await,
        Err(Error::Unavailable(_))
    ));
    let refused = store
        .commit(vec![create(route("b", 1))], by("tester"))
        .await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(matches!(
        store
            .watch(Scope::default(), Some(first), true)
            .await
            .map(drop),
        Err(Error::Unavailable(_))
    ));
    rig.restore();
    assert!(rig.store().get(&key("a")).await.unwrap().is_some());
}
