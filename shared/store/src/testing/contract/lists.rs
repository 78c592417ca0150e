//! Lists: scopes, pages of one revision, damaged values.
//!
//! *Invariant:* see [`super`].

use serde_json::json;

use super::*;
use crate::Error;

fn scope(kind: Kind, namespace: Option<&str>) -> Scope {
    Scope {
        kind: Some(kind),
        namespace: namespace.map(Into::into),
    }
}

pub async fn a_list_is_scoped(rig: &dyn Rig) {
    let store = rig.store();
    let of = |kind, namespace: &str, name: &str| create(object(kind, namespace, name, json!({})));
    let revision = commit(
        &store,
        [
            of(Kind::VirtualService, "a", "x"),
            of(Kind::VirtualService, "a-b", "x"),
            of(Kind::VirtualService, "b", "y"),
            of(Kind::Gateway, "a", "g"),
        ],
    )
    .await;
    let list = async |scope: Scope| {
        let page = store.list(scope, 0, None, None).await.unwrap();
        assert_eq!(
            (page.revision, page.next, page.remaining),
            (revision, None, 0)
        );
        let mut keys: Vec<_> = page
            .objects
            .iter()
            .map(|o| format!("{} {}", o.key().namespace, o.key().name))
            .collect();
        keys.sort();
        keys
    };
    assert_eq!(list(scope(Kind::VirtualService, Some("a"))).await, ["a x"]);
    assert_eq!(
        list(scope(Kind::VirtualService, None)).await,
        ["a x", "a-b x", "b y"]
    );
    assert_eq!(list(scope(Kind::Gateway, None)).await, ["a g"]);
    assert_eq!(list(scope(Kind::Sidecar, None)).await, Vec::<String>::new());
    assert_eq!(list(Scope::default()).await.len(), 4);
}

pub async fn pages_are_of_one_revision(rig: &dyn Rig) {
    let store = rig.store();
    let first = commit(&store, (0..10).map(|i| create(route(&format!("r{i}"), 1)))).await;
    let all = || scope(Kind::VirtualService, Some("default"));
    let mut page = store.list(all(), 4, None, None).await.unwrap();
    let mut seen = Vec::new();
    let mut remaining = Vec::new();
    for i in 0.. {
        assert_eq!(page.revision, first);
        seen.extend(page.objects.iter().map(|o| o.metadata.name.clone()));
        remaining.push(page.remaining);
        // Between pages everything is turned over.
        commit(
            &store,
            [
                create(route(&format!("r1-{i}"), 2)),
                delete(&format!("r{}", 9 - i), first),
            ],
        )
        .await;
        let Some(next) = page.next else { break };
        page = store.list(all(), 4, Some(next), Some(first)).await.unwrap();
    }
    assert_eq!(seen, (0..10).map(|i| format!("r{i}")).collect::<Vec<_>>());
    assert_eq!(remaining, [6, 2, 0]);
    // More than one request's worth of keys.
    for chunk in 0..5 {
        commit(
            &store,
            (0..120).map(|i| create(route(&format!("s{chunk}-{i:03}"), 1))),
        )
        .await;
    }
    let page = store.list(all(), 0, Some(key("s")), None).await.unwrap();
    assert_eq!((page.objects.len(), page.next), (600, None));
    let page = store.list(all(), 550, Some(key("s")), None).await.unwrap();
    assert_eq!(
        (page.objects.len(), page.next, page.remaining),
        (550, Some(key("s4-070")), 50)
    );
}

pub async fn a_compacted_or_future_page_is_an_error(rig: &dyn Rig) {
    let store = rig.store();
    let first = commit(&store, [create(route("a", 1))]).await;
    let second = commit(&store, [replace(route("a", 2), first)]).await;
    rig.compact(second).await;
    let result = store.list(Scope::default(), 1, None, Some(first)).await;
    assert!(
        matches!(result, Err(Error::Compacted { asked }) if asked == first),
        "{result:?}"
    );
    let result = store.list(Scope::default(), 1, None, Some(second)).await;
    assert!(result.is_ok(), "{result:?}");
    let future = Revision(second.0 + 1000);
    let result = store.list(Scope::default(), 1, None, Some(future)).await;
    assert!(
        matches!(result, Err(Error::Future { asked }) if asked == future),
        "{result:?}"
    );
}

pub async fn what_cannot_be_decoded_is_listed_apart(rig: &dyn Rig) {
    let store = rig.store();
    commit(&store, ["a", "c", "e"].map(|name| create(route(name, 1)))).await;
    let at = |rest: &str| format!("config/networking.istio.io/VirtualService/default/{rest}");
    let other = r#"{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"x","namespace":"default"},"spec":{}}"#;
    for (path, value) in [
        (at("b"), "{ not JSON"),
        (at("d"), other),
        (at("d/e"), "{}"),
        (
            at("f"),
            r#"{"apiVersion":"v1","kind":"Secret","metadata":{},"spec":{}}"#,
        ),
        ("config/weft.mesh/Nothing/default/g".into(), "{}"),
        ("strange".into(), "{}"),
    ] {
        rig.put_raw(&path, value.as_bytes()).await;
    }
    let check = |undecodable: &[crate::Undecodable]| {
        let mut found: Vec<_> = undecodable
            .iter()
            .map(|u| u.key.as_ref().map(ToString::to_string))
            .collect();
        found.sort();
        let key = |name: &str| Some(format!("VirtualService default/{name}"));
        assert_eq!(
            found,
            [None, None, key("b"), key("d"), key("f")],
            "{undecodable:?}"
        );
        assert!(
            undecodable
                .iter()
                .all(|u| !u.error.is_empty() && u.revision > Revision(0))
        );
    };
    let page = store.list(Scope::default(), 0, None, None).await.unwrap();
    assert_eq!(
        page.objects
            .iter()
            .map(|o| o.metadata.name.as_str())
            .collect::<Vec<_>>(),
        ["a", "c", "e"]
    );
    check(&page.undecodable);
    let (_, snapshot) = watch_all(&store).await;
    assert_eq!(names(&snapshot), ["a", "c", "e"]);
    check(&snapshot.undecodable);
    // Pages go on past them.
    let page = store
        .list(scope(Kind::VirtualService, None), 1, None, None)
        .await
        .unwrap();
    assert_eq!(page.next, Some(key("b")));
    let page = store
        .list(
            scope(Kind::VirtualService, None),
            1,
            page.next,
            Some(page.revision),
        )
        .await
        .unwrap();
    assert_eq!(
        (
            page.objects[0].metadata.name.as_str(),
            page.undecodable.len()
        ),
        ("c", 1)
    );

    let Err(Error::Undecodable(undecodable)) = store.get(&key("b")).await else {
        panic!("it was decoded")
    };
    // It is repaired by replacing what is there.
    commit(&store, [replace(route("b", 1), undecodable.revision)]).await;
    assert!(store.get(&key("b")).await.unwrap().is_some());
}
