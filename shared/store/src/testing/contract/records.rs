//! Change records and the epoch.
//!
//! *Invariant:* see [`super`].

use serde_json::json;

use super::*;

pub async fn history_is_newest_first(rig: &dyn Rig) {
    let store = rig.store();
    let author = Author {
        who: "alice".into(),
        verb: "PUT virtualservices/default/a".into(),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        tracestate: Some("vendor=1".into()),
    };
    let first = commit(&store, [create(route("a", 1)), create(route("b", 1))]).await;
    let second = store
        .commit(vec![replace(route("a", 2), first)], author.clone())
        .await
        .unwrap();
    let down = Op::Liveness {
        namespace: "shop".into(),
        name: "w".into(),
        up: false,
    };
    let third = commit(&store, [delete("a", second), down]).await;

    let all = store.history(None, None, 0).await.unwrap();
    assert_eq!(
        all.iter().map(|r| r.revision).collect::<Vec<_>>(),
        [third, second, first]
    );
    assert!(
        all.iter()
            .all(|r| r.time.parse::<jiff::Timestamp>().is_ok())
    );
    assert_eq!(all[1].author, author);
    assert_eq!(
        all[0].liveness,
        [crate::Turn {
            namespace: "shop".into(),
            name: "w".into(),
            up: false
        }]
    );

    let of_a = store.history(Some(&key("a")), None, 0).await.unwrap();
    let of = |n: usize, at: Revision| {
        let mut object = route("a", n);
        object.metadata.resource_version = Some(at.to_string());
        Some(object)
    };
    let edits: Vec<_> = of_a
        .iter()
        .map(|r| r.edits.iter().find(|e| e.key == key("a")).unwrap().clone())
        .collect();
    let edit = |before, after| crate::Edit {
        key: key("a"),
        before,
        after,
    };
    let expected = [
        edit(of(2, second), None),
        edit(of(1, first), of(2, second)),
        edit(None, of(1, first)),
    ];
    assert_eq!(edits, expected);
    assert_eq!(
        store.history(Some(&key("b")), None, 0).await.unwrap().len(),
        1
    );
    assert_eq!(store.history(Some(&key("c")), None, 0).await.unwrap(), []);
}

pub async fn history_is_paged(rig: &dyn Rig) {
    let store = rig.store();
    let mut at = commit(&store, [create(route("a", 0))]).await;
    let mut revisions = vec![at];
    for n in 1..7 {
        at = commit(&store, [replace(route("a", n), at)]).await;
        commit(&store, [create(route(&format!("b{n}"), n))]).await;
        revisions.push(at);
    }
    revisions.reverse();
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = store.history(Some(&key("a")), before, 3).await.unwrap();
        seen.extend(page.iter().map(|r| r.revision));
        let Some(last) = page.last() else { break };
        before = Some(last.id);
    }
    assert_eq!(seen, revisions);
}

pub async fn history_is_pruned_by_age(rig: &dyn Rig) {
    let store = rig.store();
    let first = commit(&store, [create(route("a", 1))]).await;
    // Records of long ago, which is known by their ids.
    for ago in [Duration::from_secs(7200), Duration::from_secs(86400 * 30)] {
        let then = jiff::Timestamp::now() - jiff::SignedDuration::try_from(ago).unwrap();
        let at = uuid::Timestamp::from_unix(
            uuid::NoContext,
            u64::try_from(then.as_second()).unwrap(),
            0,
        );
        let record = json!({ "time": then.to_string(), "who": "old", "verb": "test", "keys": [], "edits": [] });
        rig.put_raw(
            &format!("changes/{}", uuid::Uuid::new_v7(at)),
            record.to_string().as_bytes(),
        )
        .await;
    }
    let ages = async || {
        let records = store.history(None, None, 0).await.unwrap();
        records
            .iter()
            .map(|r| r.author.who.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ages().await, ["tester", "old", "old"]);
    assert_eq!(
        store
            .prune_history(Duration::from_secs(86400))
            .await
            .unwrap(),
        1
    );
    assert_eq!(ages().await, ["tester", "old"]);
    assert_eq!(
        store
            .prune_history(Duration::from_secs(3600))
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        store
            .prune_history(Duration::from_secs(3600))
            .await
            .unwrap(),
        0
    );
    assert_eq!(ages().await, ["tester"]);
    assert_eq!(
        store.get(&key("a")).await.unwrap().unwrap().revision(),
        Some(first)
    );
}

pub async fn secrets_are_not_recorded(rig: &dyn Rig) {
    let store = rig.store();
    let secret = |text: &str| {
        object(
            Kind::TlsSecret,
            "default",
            "s",
            json!({ "privateKey": text, "certificate": "shown" }),
        )
    };
    let first = commit(&store, [create(secret("hush-1"))]).await;
    commit(&store, [replace(secret("hush-2"), first)]).await;
    for record in store.history(None, None, 0).await.unwrap() {
        let stored = rig
            .get_raw(&format!("changes/{}", record.id))
            .await
            .unwrap();
        let stored = String::from_utf8(stored).unwrap();
        assert!(
            stored.contains("shown") && !stored.contains("hush"),
            "{stored}"
        );
    }
}

pub async fn the_last_commit_is_known(rig: &dyn Rig) {
    let store = rig.store();
    assert_eq!(store.last_commit().await.unwrap(), Revision(0));
    for name in ["a", "b", "c"] {
        let revision = commit(&store, [create(route(name, 1))]).await;
        rig.put_raw("elsewhere", b"x").await;
        assert_eq!(store.last_commit().await.unwrap(), revision);
    }
}

pub async fn the_epoch_is_stable(rig: &dyn Rig) {
    let (store, other) = (rig.store(), rig.other());
    let (one, two) = futures::join!(store.epoch(), other.epoch());
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(store.epoch().await.unwrap(), other.epoch().await.unwrap());
    rig.put_raw("epoch", b"not a UUID").await;
    assert!(matches!(
        store.epoch().await,
        Err(crate::Error::Undecodable(_))
    ));
}
