//! Workloads that live by heartbeats.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use store::memory::MemoryStore;
use store::{Change, Event, Scope, Store};

use crate::fixture::{Api, PATIENCE, answer};

const BEAT: &str = "/v1/namespaces/shop/workloads/w-1/heartbeat";

fn registration(ttl: &str) -> Value {
    json!({"ttl": ttl, "labels": {"app": "w"}, "spec": {"address": "127.0.1.1"}})
}

/// Waits for the next turn of a workload.
async fn turn(events: &mut store::Watch) -> (String, bool) {
    let next = async {
        loop {
            if let Event::Changes { changes, .. } = events.next().await.unwrap() {
                for change in changes {
                    if let Change::Liveness { name, up, .. } = change {
                        return (name.to_string(), up);
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, next)
        .await
        .expect("a turn in time")
}

#[tokio::test]
async fn silence_is_recorded_and_a_heartbeat_restores_at_once() {
    let api = Api::start().await;
    let mut events = api.store.watch(Scope::default(), None, true).await.unwrap();
    assert_eq!(api.put(BEAT, &json!({})).await.0, 404, "not registered");
    let (code, beat) = api.put(BEAT, &registration("1h")).await;
    assert_eq!(
        (code.as_u16(), &beat["ttl"]),
        (200, &json!("3600000ms")),
        "{beat}"
    );
    let revision = api.store.revision().await.unwrap();
    assert_eq!(api.put(BEAT, &registration("1h")).await.0, 200);
    assert_eq!(
        api.store.revision().await.unwrap(),
        revision,
        "a heartbeat that changes nothing writes nothing"
    );

    let heard = Instant::now();
    assert_eq!(api.put(BEAT, &registration("400ms")).await.0, 200);
    assert_eq!(turn(&mut events).await, ("w-1".into(), false));
    assert!(heard.elapsed() >= Duration::from_millis(400));
    assert_eq!(api.put(BEAT, &registration("1h")).await.0, 200);
    assert_eq!(turn(&mut events).await, ("w-1".into(), true));
    assert_eq!(api.delete(BEAT).await.0, 200);
    assert_eq!(turn(&mut events).await, ("w-1".into(), false));
    assert_eq!(api.put(BEAT, &json!({"healthy": true})).await.0, 200);
    assert_eq!(turn(&mut events).await, ("w-1".into(), true));
    assert_eq!(api.put(BEAT, &json!({"healthy": false})).await.0, 200);
    assert_eq!(turn(&mut events).await, ("w-1".into(), false));
}

#[tokio::test]
async fn bad_heartbeats_are_refused() {
    let api = Api::start().await;
    for bad in [
        json!({"ttl": "soon", "spec": {"address": "127.0.1.1"}}),
        json!({"ttl": "1ms", "spec": {"address": "127.0.1.1"}}),
        json!({"ttl": "10s", "spec": {"adress": "127.0.1.1"}}),
        json!({"spec": {"address": "127.0.1.1"}}),
        json!({"tlt": "10s"}),
        json!([]),
    ] {
        let (code, refused) = api.put(BEAT, &bad).await;
        assert!(code.is_client_error(), "{bad}: {refused}");
    }
    assert!(api.everything().await.is_empty());
}

#[tokio::test]
async fn any_replica_takes_a_heartbeat_and_the_owner_times_it() {
    let store = Arc::new(MemoryStore::new());
    let a = Api::beside(store.clone(), |c| c.instance = Some("a".into())).await;
    let b = Api::beside(store.clone(), |c| c.instance = Some("b".into())).await;
    let mut members = store.members("config-api").await.unwrap();
    while members.next().await.unwrap().len() < 2 {}
    let beat = |api: &Api, n: usize| {
        let path = format!("/v1/namespaces/shop/workloads/w-{n}/heartbeat");
        answer(api.request(Method::PUT, &path).json(&registration("10s")))
    };
    // Until each replica knows of the other, both may think that they own everything.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut owners = Vec::new();
        for n in 0..10 {
            let (through_a, through_b) = (beat(&a, n).await, beat(&b, n).await);
            assert_eq!(
                (through_a.0.as_u16(), through_b.0.as_u16()),
                (200, 200),
                "{through_a:?} {through_b:?}"
            );
            owners
                .push([through_a, through_b].map(|it| it.1["owner"].as_str().unwrap().to_owned()));
        }
        let agreed = owners.iter().all(|[a, b]| a == b);
        if agreed
            && ["a", "b"]
                .iter()
                .all(|it| owners.iter().any(|[owner, _]| owner == it))
        {
            break;
        }
        assert!(Instant::now() < deadline, "{owners:?}");
    }
}

#[tokio::test]
async fn an_outage_evicts_nobody() {
    let api = Api::start().await;
    let mut events = api.store.watch(Scope::default(), None, true).await.unwrap();
    let ttl = Duration::from_secs(4);
    api.put(BEAT, &registration("4s")).await;
    api.store.set_available(false);
    api.until_readyz(503).await;
    // A whole TTL of silence, which is what would evict it.
    tokio::time::sleep(ttl).await;
    let back = Instant::now();
    api.store.set_available(true);
    assert_eq!(turn(&mut events).await, ("w-1".into(), false));
    assert!(
        back.elapsed() >= ttl,
        "a full TTL of grace, not {:?}",
        back.elapsed()
    );
}
