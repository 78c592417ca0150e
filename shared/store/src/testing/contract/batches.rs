//! Batches: compare-and-set, atomicity, limits, liveness.
//!
//! *Invariant:* see [`super`].

use serde_json::json;

use super::*;
use crate::Error;

pub async fn a_resource_is_created_read_replaced_and_deleted(rig: &dyn Rig) {
    let store = rig.store();
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
    let mut first = route("a", 1);
    first.metadata.uid = "u-1".into();
    first.metadata.resource_version = Some("ignored".into());
    first.metadata.labels.insert("app".into(), "shop".into());
    let created = commit(&store, [create(first.clone())]).await;
    first.metadata.resource_version = Some(created.to_string());
    assert_eq!(store.get(&key("a")).await.unwrap(), Some(first));
    let stored = rig
        .get_raw("config/networking.istio.io/VirtualService/default/a")
        .await
        .unwrap();
    let expected = r#"{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"a","namespace":"default","uid":"u-1","labels":{"app":"shop"}},"spec":{"hosts":["a-1"]}}"#;
    assert_eq!(String::from_utf8(stored).unwrap(), expected);

    let replaced = commit(&store, [replace(route("a", 2), created)]).await;
    assert!(replaced > created);
    let now = store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!(
        (now.revision(), now.spec),
        (Some(replaced), json!({ "hosts": ["a-2"] }))
    );

    let deleted = commit(&store, [delete("a", replaced)]).await;
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
    assert_eq!(store.revision().await.unwrap(), deleted);
}

pub async fn a_stale_expectation_names_the_key_and_what_it_is(rig: &dyn Rig) {
    let store = rig.store();
    let first = commit(&store, [create(route("a", 1))]).await;
    let second = commit(&store, [replace(route("a", 2), first)]).await;
    let stale = [
        (create(route("a", 3)), "a", Some(second)),
        (replace(route("a", 3), first), "a", Some(second)),
        (delete("a", first), "a", Some(second)),
        (replace(route("b", 1), first), "b", None),
        (delete("b", first), "b", None),
    ];
    for (op, name, was) in stale {
        match store.commit(vec![op], by("tester")).await {
            Err(Error::Conflict { key: k, actual }) => assert_eq!((k, actual), (key(name), was)),
            other => panic!("no conflict: {other:?}"),
        }
    }
    assert_eq!(store.revision().await.unwrap(), second);
}

pub async fn a_guard_holds_while_nothing_of_its_kind_is_written(rig: &dyn Rig) {
    let store = rig.store();
    let guarded = |op: Op, kind: Kind, since: Revision| {
        let ops = vec![Op::Guard { kind, since }, op];
        let store = store.clone();
        async move { store.commit(ops, by("tester")).await }
    };
    let (kind, other) = (Kind::VirtualService, Kind::DestinationRule);
    // Nothing of the kind is there at all.
    let first = guarded(create(route("a", 1)), kind, Revision(0))
        .await
        .unwrap();
    let second = guarded(create(route("b", 1)), kind, first).await.unwrap();
    // Another kind is no matter, nor is another's namespace a hiding place.
    let rule = object(other, "elsewhere", "a", json!({"host": "a"}));
    let third = guarded(create(rule), kind, second).await.unwrap();
    match guarded(create(route("c", 1)), kind, first).await {
        Err(Error::Overtaken { kind: k, since }) => assert_eq!((k, since), (kind, first)),
        overtaken => panic!("it was overtaken: {overtaken:?}"),
    }
    assert_eq!(store.get(&key("c")).await.unwrap(), None);
    let elsewhere = object(other, "default", "b", json!({"host": "b"}));
    assert!(matches!(
        guarded(create(elsewhere), other, second).await,
        Err(Error::Overtaken { .. })
    ));
    // A conflict of its own is told as such; a deletion overtakes nobody.
    assert!(matches!(
        guarded(create(route("a", 2)), kind, third).await,
        Err(Error::Conflict { .. })
    ));
    commit(&store, [delete("b", second)]).await;
    guarded(replace(route("a", 2), first), kind, first)
        .await
        .unwrap();
}

pub async fn a_batch_is_all_or_nothing(rig: &dyn Rig) {
    let store = rig.store();
    let first = commit(&store, [create(route("a", 1)), create(route("b", 1))]).await;
    let ops = vec![
        replace(route("a", 2), first),
        create(route("c", 2)),
        delete("b", Revision(first.0 - 1)),
    ];
    assert!(
        matches!(store.commit(ops, by("tester")).await, Err(Error::Conflict { key: k, .. }) if k == key("b"))
    );
    let page = store.list(Scope::default(), 0, None, None).await.unwrap();
    let specs: Vec<_> = page
        .objects
        .iter()
        .map(|o| o.spec["hosts"][0].as_str().unwrap())
        .collect();
    assert_eq!(specs, ["a-1", "b-1"]);
    assert_eq!(store.history(None, None, 0).await.unwrap().len(), 1);
}

pub async fn a_batch_is_one_revision_and_one_event(rig: &dyn Rig) {
    let store = rig.store();
    let first = commit(&store, [create(route("a", 1)), create(route("b", 1))]).await;
    let (mut watch, _) = watch_all(&store).await;
    let down = Op::Liveness {
        namespace: "default".into(),
        name: "w".into(),
        up: false,
    };
    let ops = [
        replace(route("a", 2), first),
        delete("b", first),
        create(route("c", 2)),
        down,
    ];
    let second = commit(&store, ops).await;
    let Event::Changes {
        revision,
        mut changes,
        authors,
        written,
    } = event(&mut watch).await
    else {
        panic!("no changes")
    };
    // The record says when, in whole milliseconds.
    let age = jiff::Timestamp::now().duration_since(written.unwrap());
    assert!(
        (0..=PATIENCE.as_secs()).contains(&age.as_secs().try_into().unwrap()),
        "{age}"
    );
    assert_eq!((revision, authors), (second, vec![by("tester")]));
    changes.sort_by_key(|change| format!("{change:?}"));
    let of = |object: Object, at: Revision| {
        let metadata = Metadata {
            resource_version: Some(at.to_string()),
            ..object.metadata
        };
        Arc::new(Object { metadata, ..object })
    };
    let expected = [
        Change::Delete {
            key: key("b"),
            before: Some(of(route("b", 1), first)),
        },
        Change::Liveness {
            namespace: "default".into(),
            name: "w".into(),
            up: false,
        },
        Change::Put {
            object: of(route("a", 2), second),
            before: Some(of(route("a", 1), first)),
        },
        Change::Put {
            object: of(route("c", 2), second),
            before: None,
        },
    ];
    assert_eq!(changes, expected);
}

pub async fn a_key_is_written_once_in_a_batch(rig: &dyn Rig) {
    let store = rig.store();
    let ops = vec![
        create(route("a", 1)),
        create(route("b", 1)),
        create(route("a", 2)),
    ];
    assert!(
        matches!(store.commit(ops, by("tester")).await, Err(Error::Duplicate { key: k }) if k == key("a"))
    );
    assert_eq!(store.get(&key("b")).await.unwrap(), None);
}

pub async fn names_fit_into_keys(rig: &dyn Rig) {
    let store = rig.store();
    for name in ["", "a/b", "/"] {
        let result = store
            .commit(vec![create(route(name, 1))], by("tester"))
            .await;
        assert!(
            matches!(&result, Err(Error::Name { .. })),
            "{name:?}: {result:?}"
        );
        assert_eq!(store.get(&key(name)).await.unwrap(), None);
    }
}

pub async fn too_many_operations_are_refused_by_number(rig: &dyn Rig) {
    let store = rig.store();
    let batch = |n: usize| {
        (0..n)
            .map(|i| create(route(&format!("r{i}"), 1)))
            .collect::<Vec<_>>()
    };
    match store.commit(batch(128), by("tester")).await {
        Err(Error::TooLarge {
            what: "operations",
            actual: 128,
            limit: 127,
        }) => {}
        other => panic!("not refused: {other:?}"),
    }
    assert_eq!(
        store
            .list(Scope::default(), 0, None, None)
            .await
            .unwrap()
            .objects,
        []
    );
    commit(&store, batch(127)).await;
    assert_eq!(
        store
            .list(Scope::default(), 0, None, None)
            .await
            .unwrap()
            .objects
            .len(),
        127
    );
}

pub async fn too_many_bytes_are_refused_by_number(rig: &dyn Rig) {
    let store = rig.store();
    // A value is sent twice: to its key and in the change record.
    let of = |bytes: usize| {
        object(
            Kind::MeshConfig,
            "istio-system",
            "default",
            json!({ "text": "x".repeat(bytes) }),
        )
    };
    match store
        .commit(vec![create(of(800 * 1024))], by("tester"))
        .await
    {
        Err(Error::TooLarge {
            what: "bytes",
            actual,
            limit,
        }) => {
            assert!(actual > limit && limit == 1536 * 1024, "{actual} {limit}");
        }
        other => panic!("not refused: {other:?}"),
    }
    assert_eq!(
        store
            .list(Scope::default(), 0, None, None)
            .await
            .unwrap()
            .objects,
        []
    );
    // The largest that we let through is not too large for the store.
    let frame = 1200;
    commit(&store, [create(of((1536 * 1024 - frame) / 2))]).await;
}

pub async fn of_concurrent_writers_one_wins(rig: &dyn Rig) {
    let store = rig.store();
    commit(&store, [create(route("counter", 0))]).await;
    let count = async |store: Arc<dyn Store>| {
        for _ in 0..5 {
            loop {
                let object = store.get(&key("counter")).await.unwrap().unwrap();
                let host = object.spec["hosts"][0].as_str().unwrap();
                let n: usize = host.strip_prefix("counter-").unwrap().parse().unwrap();
                let op = replace(route("counter", n + 1), object.revision().unwrap());
                match store.commit(vec![op], by("tester")).await {
                    Ok(_) => break,
                    Err(Error::Conflict { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    };
    futures::join!(
        count(store.clone()),
        count(rig.other()),
        count(store.clone()),
        count(store.clone())
    );
    let object = store.get(&key("counter")).await.unwrap().unwrap();
    assert_eq!(object.spec["hosts"][0], "counter-20");
}

pub async fn liveness_turns_once(rig: &dyn Rig) {
    let store = rig.store();
    let (mut watch, snapshot) = watch_all(&store).await;
    assert_eq!(snapshot.down, []);
    let turn = |up| Op::Liveness {
        namespace: "shop".into(),
        name: "w1".into(),
        up,
    };
    let idle = commit(&store, [turn(true)]).await;
    assert_eq!(idle, store.revision().await.unwrap());
    let down = commit(&store, [turn(false)]).await;
    assert_eq!(
        commit(&store, [turn(false)]).await,
        down,
        "a second time writes nothing"
    );
    let change = |up| {
        vec![Change::Liveness {
            namespace: "shop".into(),
            name: "w1".into(),
            up,
        }]
    };
    assert_eq!(changes(&mut watch).await, (down, change(false)));
    let (_, late) = watch_all(&store).await;
    assert_eq!(late.down, [("shop".into(), "w1".into())]);
    let up = commit(&store, [turn(true)]).await;
    assert_eq!(changes(&mut watch).await, (up, change(true)));
    assert_eq!(watch_all(&store).await.1.down, []);
}

pub async fn a_new_workload_is_not_down(rig: &dyn Rig) {
    let store = rig.store();
    let entry = |name: &str| {
        object(
            Kind::WorkloadEntry,
            "shop",
            name,
            json!({ "address": "127.0.0.2" }),
        )
    };
    let down = |name: &str| Op::Liveness {
        namespace: "shop".into(),
        name: name.into(),
        up: false,
    };
    let names: Vec<String> = (0..100).map(|i| format!("w{i}")).collect();
    let first = commit(&store, names.iter().map(|name| create(entry(name)))).await;
    commit(&store, [down("w1"), down("w2"), down("early")]).await;
    let downs = async || {
        let down = watch_all(&store).await.1.down;
        down.into_iter()
            .map(|(_, name)| name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(downs().await, ["early", "w1", "w2"]);
    let (mut watch, _) = watch_all(&store).await;
    let remove = |name: &String| Op::Delete {
        key: entry(name).key(),
        expect: Expect::At(first),
    };
    commit(&store, names.iter().map(remove)).await;
    assert_eq!(
        changes(&mut watch).await.1.len(),
        102,
        "100 deletions and two turns"
    );
    assert_eq!(downs().await, ["early"]);
    commit(&store, [create(entry("early"))]).await;
    assert_eq!(downs().await, Vec::<String>::new());
    // What is asked for goes before what is implied.
    commit(&store, [create(entry("w1")), down("w1")]).await;
    assert_eq!(downs().await, ["w1"]);
}

pub async fn an_empty_batch_writes_nothing(rig: &dyn Rig) {
    let store = rig.store();
    let first = commit(&store, [create(route("a", 1))]).await;
    assert_eq!(commit(&store, []).await, first);
    assert_eq!(store.history(None, None, 0).await.unwrap().len(), 1);
}
