//! Who may declare a host.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Api, answer};

fn entry(namespace: &str, name: &str, host: &str, export: Option<&[&str]>) -> Value {
    let mut entry = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hosts": [host], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "DNS"},
    });
    if host.starts_with('*') {
        entry["spec"]["resolution"] = "NONE".into();
    }
    if let Some(export) = export {
        entry["spec"]["exportTo"] = json!(export);
    }
    entry
}

fn path(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!(
        "/apis/networking.istio.io/v1/namespaces/{}/serviceentries/{}",
        metadata["namespace"].as_str().unwrap(),
        metadata["name"].as_str().unwrap()
    )
}

async fn put(api: &Api, object: &Value) -> (u16, Value) {
    let (code, body) = api.put(&path(object), object).await;
    (code.as_u16(), body)
}

#[tokio::test]
async fn a_host_is_declared_by_its_owner_alone() {
    let api = Api::start().await;
    let none: Option<&[&str]> = None;
    assert_eq!(
        put(&api, &entry("shop", "a", "pay.example.com", none))
            .await
            .0,
        201
    );
    let (code, status) = put(&api, &entry("evil", "a", "pay.example.com", none)).await;
    assert_eq!(code, 422, "{status}");
    let cause = &status["details"]["causes"][0];
    assert_eq!(cause["field"], "spec.hosts");
    let message = cause["message"].as_str().unwrap();
    for part in [
        "pay.example.com",
        "\"shop\" owns",
        "ServiceEntry \"a\"",
        "exportTo: [\".\"]",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    for (namespace, host, export, code) in [
        // For itself alone anybody may declare it; for others nobody, however it is written.
        ("b", "pay.example.com", Some(&["."][..]), 201),
        ("c", "pay.example.com", Some(&["c"][..]), 201),
        ("d", "pay.example.com", Some(&["~"][..]), 201),
        ("e", "pay.example.com", Some(&["*"][..]), 422),
        ("f", "pay.example.com", Some(&[".", "g"][..]), 422),
        ("g", "PAY.example.com", None, 422),
        // Its owner may declare it again, and the root namespace whatever it likes.
        ("shop", "pay.example.com", None, 201),
        ("istio-system", "pay.example.com", None, 201),
        // Wildcards cover what is beneath them, and only that.
        ("wild", "*.w.example.com", None, 201),
        ("h", "x.w.example.com", None, 422),
        ("h", "*.x.w.example.com", None, 422),
        ("h", "w.example.com", None, 201),
        ("i", "*.example.com", None, 201),
        // Names that say whose they are.
        ("shop", "orders.shop.svc.cluster.local", None, 201),
        ("j", "other.shop.svc.cluster.local", None, 422),
        ("j", "other.shop.svc.cluster.local", Some(&["."][..]), 201),
        ("istio-system", "third.shop.svc.cluster.local", None, 201),
    ] {
        let name = format!("n{}", host.len() + export.map_or(0, <[_]>::len));
        let (got, body) = put(&api, &entry(namespace, &name, host, export)).await;
        assert_eq!(got, code, "{namespace} {host} {export:?}: {body}");
    }
    // Widening what was private is a claim; changing what is claimed already is none.
    assert_eq!(
        put(&api, &entry("b", "n16", "pay.example.com", none))
            .await
            .0,
        422
    );
    let dry = api
        .put(
            &format!("{}?dryRun=All", path(&entry("e", "x", "", none))),
            &entry("e", "x", "pay.example.com", none),
        )
        .await;
    assert_eq!(dry.0, 422);
}

#[tokio::test]
async fn a_host_is_free_once_its_owner_lets_it_go() {
    let api = Api::start().await;
    let (mine, theirs) = (
        entry("a", "x", "a.example.com", None),
        entry("b", "x", "a.example.com", None),
    );
    assert_eq!(put(&api, &mine).await.0, 201);
    assert_eq!(put(&api, &theirs).await.0, 422);
    assert_eq!(api.delete(&path(&mine)).await.0, 200);
    assert_eq!(put(&api, &theirs).await.0, 201);
    // A rollback is no way around it.
    let back = json!({"kind": "ServiceEntry", "namespace": "a", "name": "x"});
    let (code, status) = api.post("/v1/rollback", &back).await;
    assert_eq!(code, 422, "{status}");
}

#[tokio::test]
async fn a_batch_is_judged_as_a_whole() {
    let api = Api::start().await;
    let apply = async |items: Vec<Value>| {
        let list = json!({"kind": "List", "apiVersion": "v1", "items": items});
        let (code, body) = api.post("/v1/apply", &list).await;
        (code.as_u16(), body)
    };
    let (a, b) = (
        entry("a", "x", "a.example.com", None),
        entry("b", "x", "a.example.com", None),
    );
    let (code, status) = apply(vec![
        entry("c", "y", "c.example.com", None),
        a.clone(),
        b.clone(),
    ])
    .await;
    assert_eq!(code, 422, "{status}");
    assert!(
        status["details"]["causes"][0]["field"]
            .as_str()
            .unwrap()
            .starts_with("items["),
        "{status}"
    );
    assert!(api.everything().await.is_empty());
    assert_eq!(apply(vec![a]).await.0, 200);
    // In one revision the host goes from one namespace to the other.
    assert_eq!(
        apply(vec![entry("a", "x", "other.example.com", None), b])
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn of_two_claims_at_once_one_succeeds() {
    let first = Api::start().await;
    let second = Api::beside(first.store.clone(), |_| {}).await;
    for round in 0..10 {
        let host = format!("h{round}.example.com");
        let claims = (0..8).map(|n| {
            let api = if n % 2 == 0 { &first } else { &second };
            let object = entry(&format!("ns{n}"), &format!("r{round}"), &host, None);
            async move { answer(api.request(Method::PUT, &path(&object)).json(&object)).await }
        });
        let answers = join_all(claims).await;
        let won = answers.iter().filter(|(code, _)| *code == 201).count();
        let lost = answers.iter().filter(|(code, _)| *code == 422).count();
        assert_eq!((won, lost), (1, 7), "{answers:?}");
    }
    assert_eq!(first.everything().await.len(), 10);
}
