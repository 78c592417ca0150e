//! REST polling (rule C9).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use xds::{Resource, Server, Snapshot, SnapshotCache, make};

use crate::envoy::{Envoy, VERSIONS, free_port, http, until};

async fn serve(cache: Arc<SnapshotCache>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Server::new(cache)
        .load_timeout(Duration::from_millis(50))
        .rest();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

async fn post(port: u16, noun: &str, body: &Value) -> (u16, String) {
    let url = format!("http://127.0.0.1:{port}/v3/discovery:{noun}");
    let response = http()
        .post(url)
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn c9_polling_serves_the_same_snapshot() {
    let cache = Arc::new(SnapshotCache::by_id());
    let port = serve(cache.clone()).await;
    let node = json!({"id": "n"});
    assert_eq!(post(port, "clusters", &json!({"node": node})).await.0, 503);
    let snapshot = Snapshot::of(
        1,
        [
            Resource::new(&make::eds_cluster("a")),
            Resource::new(&make::endpoints("a", &[("127.0.0.1", 1)])),
            Resource::new(&make::http_listener("l", "127.0.0.1", 1, make::rds("r"))),
            Resource::new(&make::routes("r", vec![make::route("/", "a")])),
            Resource::new(&make::tls_secret("s", "CHAIN", "KEY")),
        ],
    );
    cache.set("n", snapshot);
    for (noun, name) in [
        ("clusters", "a"),
        ("endpoints", "a"),
        ("listeners", "l"),
        ("routes", "r"),
        ("secrets", "s"),
    ] {
        let request = json!({"node": node, "resource_names": [name]});
        let (status, body) = post(port, noun, &request).await;
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            body["resources"].as_array().unwrap().len(),
            1,
            "{noun} {body}"
        );
        let again =
            json!({"node": node, "resource_names": [name], "version_info": body["versionInfo"]});
        assert_eq!(post(port, noun, &again).await.0, 304);
        if noun == "secrets" {
            assert_eq!(
                body["resources"][0]["tlsCertificate"]["privateKey"]["inlineString"],
                "KEY"
            );
        }
    }
    assert_eq!(post(port, "runtime", &json!({"node": node})).await.0, 200);
    assert_eq!(post(port, "clusters", &json!({})).await.0, 400);
    assert_eq!(post(port, "clusters", &json!([1])).await.0, 400);
}

#[tokio::test]
async fn c9_envoy_polls() {
    for version in VERSIONS {
        let (listener, cache) = (free_port(), Arc::new(SnapshotCache::by_id()));
        let port = serve(cache.clone()).await;
        let show = |revision, body: &str| {
            let routes = make::routes("inline", vec![make::direct_response("/", 200, body)]);
            let routes = make::RouteSpecifier::RouteConfig(routes);
            let listener = make::http_listener("l", "127.0.0.1", listener, routes);
            cache.set("polls", Snapshot::of(revision, [Resource::new(&listener)]));
        };
        show(1, "one");
        let rest = "{ resource_api_version: V3, api_config_source: { api_type: REST, transport_api_version: V3, \
             cluster_names: [rest], refresh_delay: 0.2s, request_timeout: 60s } }";
        let bootstrap = format!(
            "node: {{ id: polls, cluster: c }}\n\
             admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: ADMIN }} }} }}\n\
             dynamic_resources: {{ cds_config: {rest}, lds_config: {rest} }}\n\
             static_resources:\n  clusters:\n  - name: rest\n    type: STATIC\n    connect_timeout: 1s\n    \
             load_assignment: {{ cluster_name: rest, endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: \
             {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }} ] }} ] }}\n"
        );
        let envoy = Envoy::start(version, &bootstrap);
        until(listener, "/", 200, "one", &envoy).await;
        show(2, "two");
        until(listener, "/", 200, "two", &envoy).await;
        envoy.content();
    }
}
