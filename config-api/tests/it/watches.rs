//! Watches: what a client that lists and watches sees.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::fixture::{Api, PATIENCE, VS, virtual_service};

/// The lines of a watch.
struct Lines(Response, Vec<u8>);

impl Lines {
    async fn open(api: &Api, query: &str, accept: &str) -> Self {
        let request = api
            .request(Method::GET, &format!("{VS}?watch=true&{query}"))
            .header("accept", accept);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self(response, Vec::new())
    }

    /// The next event, or `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        let line = async {
            loop {
                if let Some(end) = self.1.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = self.1.drain(..=end).collect();
                    return Some(serde_json::from_slice(&line).unwrap());
                }
                self.1.extend(self.0.chunk().await.unwrap()?);
            }
        };
        tokio::time::timeout(PATIENCE, line)
            .await
            .expect("an event in time")
    }

    /// The next event that is no bookmark: its type and the name of its object.
    async fn change(&mut self) -> (String, String) {
        loop {
            let event = self.next().await.expect("the watch goes on");
            if event["type"] != "BOOKMARK" {
                let name = event["object"]["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default();
                return (event["type"].as_str().unwrap().to_owned(), name.to_owned());
            }
        }
    }
}

fn pair(event: &str, name: &str) -> (String, String) {
    (event.to_owned(), name.to_owned())
}

const JSON: &str = "application/json";

#[tokio::test]
async fn from_now_from_nothing_and_from_a_revision() {
    let api = Api::start().await;
    let (_, first) = api.post(VS, &virtual_service("a", "b")).await;
    let version = first["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut from_nothing = Lines::open(&api, "", JSON).await;
    let mut from_any = Lines::open(&api, "resourceVersion=0", JSON).await;
    let mut from_there = Lines::open(&api, &format!("resourceVersion={version}"), JSON).await;
    assert_eq!(from_nothing.change().await, pair("ADDED", "a"));
    assert_eq!(from_any.change().await, pair("ADDED", "a"));
    api.put(&format!("{VS}/a"), &virtual_service("a", "c"))
        .await;
    api.delete(&format!("{VS}/a")).await;
    for lines in [&mut from_nothing, &mut from_any, &mut from_there] {
        assert_eq!(lines.change().await, pair("MODIFIED", "a"));
        assert_eq!(lines.change().await, pair("DELETED", "a"));
    }
}

#[tokio::test]
async fn a_label_that_comes_and_goes() {
    let api = Api::start().await;
    let mut lines = Lines::open(&api, "labelSelector=on%3Dyes", JSON).await;
    api.post(VS, &virtual_service("a", "b")).await;
    let label = |value: Value| json!({"metadata": {"labels": {"on": value}}});
    for value in [json!("yes"), json!("no"), json!("yes"), Value::Null] {
        api.patch(
            &format!("{VS}/a"),
            "application/merge-patch+json",
            &label(value),
        )
        .await;
    }
    for event in ["ADDED", "DELETED", "ADDED", "DELETED"] {
        assert_eq!(lines.change().await, pair(event, "a"));
    }
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let api = Api::start().await;
    api.post(VS, &virtual_service("a", "b")).await;
    let query = "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let mut lines = Lines::open(&api, query, JSON).await;
    assert_eq!(lines.next().await.unwrap()["type"], "ADDED");
    let bookmark = lines.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(bookmark["object"]["kind"], "VirtualService");
    let mut bounded = Lines::open(&api, &format!("{query}&timeoutSeconds=1"), JSON).await;
    while bounded.next().await.is_some() {}
}

#[tokio::test]
async fn events_can_be_tables() {
    let api = Api::start().await;
    let mut lines = Lines::open(&api, "", "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    api.post(VS, &virtual_service("a", "b")).await;
    let event = lines.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["kind"]),
        (&json!("ADDED"), &json!("Table"))
    );
    assert_eq!(event["object"]["rows"][0]["cells"][0], "a");
    assert_eq!(
        event["object"]["rows"][0]["object"]["kind"],
        "PartialObjectMetadata"
    );
}

#[tokio::test]
async fn what_is_compacted_is_gone() {
    let api = Api::start().await;
    let (_, first) = api.post(VS, &virtual_service("a", "b")).await;
    for host in ["c", "d", "e"] {
        api.put(&format!("{VS}/a"), &virtual_service("a", host))
            .await;
    }
    api.store
        .compact(store::Store::revision(&*api.store).await.unwrap());
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let (code, status) = api
        .get(&format!("{VS}?watch=true&resourceVersion={version}"))
        .await;
    assert_eq!(
        (code.as_u16(), &status["reason"]),
        (410, &json!("Expired")),
        "{status}"
    );
}

#[tokio::test]
async fn a_watch_survives_a_lost_connection_to_the_store() {
    let api = Api::start().await;
    let mut lines = Lines::open(&api, "", JSON).await;
    api.post(VS, &virtual_service("a", "b")).await;
    assert_eq!(lines.change().await, pair("ADDED", "a"));
    api.store.cut_watches();
    api.post(VS, &virtual_service("b", "b")).await;
    assert_eq!(lines.change().await, pair("ADDED", "b"));
}

#[tokio::test]
async fn namespaces_come_and_go_with_their_use() {
    let api = Api::start().await;
    let names = async |api: &Api| {
        let (_, list) = api.get("/api/v1/namespaces").await;
        let items = list["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|n| n["metadata"]["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&api).await, ["default", "istio-system"]);
    api.post(VS, &virtual_service("a", "b")).await;
    assert_eq!(names(&api).await, ["default", "istio-system", "shop"]);
    assert_eq!(api.get("/api/v1/namespaces/shop").await.0, 200);
    assert_eq!(api.get("/api/v1/namespaces/other").await.0, 404);
    api.delete(&format!("{VS}/a")).await;
    assert_eq!(names(&api).await, ["default", "istio-system"]);
}
