//! A pusher in this process, on a store in memory and real sockets: policy in, xDS out.
#![allow(clippy::unwrap_used, missing_docs)]

mod client;
mod fixture;

use std::sync::Arc;

use serde_json::json;

use client::Client;
use fixture::{Fixture, service};

const CDS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const EDS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const SHOP: &str = "outbound|80||shop.default.svc.cluster.local";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_reaches_a_stream() {
    let pusher = Fixture::start().await;
    pusher.put(service("shop", "127.0.0.1")).await;
    let mut client = Client::connect(pusher.grpc, "sidecar~default~web").await;
    client.subscribe(CDS, &["*"]).await;
    let response = client
        .until(CDS, |r| r.resources.iter().any(|r| r.name == SHOP))
        .await;
    assert_eq!(response.control_plane.unwrap().identifier, "test-pusher");
    client.subscribe(EDS, &[SHOP]).await;
    let before = client.until(EDS, |r| !r.resources.is_empty()).await;

    pusher.put(service("shop", "127.0.0.2")).await;
    let after = client.until(EDS, |r| !r.resources.is_empty()).await;
    assert_ne!(before.resources[0].version, after.resources[0].version);
    assert_eq!(
        after.resources.len(),
        1,
        "one endpoint changed, one resource is sent"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_named_and_streams_are_served_all_the_same() {
    let pusher = Fixture::start().await;
    pusher.put(service("shop", "127.0.0.1")).await;
    pusher.until_ready(|_| true).await;
    pusher.store.set_available(false);
    pusher.store.cut_watches();
    let report = pusher.until_unready().await;
    assert!(
        report["checks"]["etcd"]["reason"]
            .as_str()
            .unwrap()
            .contains("cut"),
        "{report}"
    );

    let mut client = Client::connect(pusher.grpc, "sidecar~default~web").await;
    client.subscribe(CDS, &["*"]).await;
    client
        .until(CDS, |r| r.resources.iter().any(|r| r.name == SHOP))
        .await;

    pusher.store.set_available(true);
    pusher.put(service("late", "127.0.0.1")).await;
    client
        .until(CDS, |r| r.resources.iter().any(|r| r.name.contains("late")))
        .await;
    pusher.until_ready(|_| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_value_is_named_and_its_last_good_state_stays() {
    let pusher = Fixture::start().await;
    pusher.put(service("shop", "127.0.0.1")).await;
    let mut client = Client::connect(pusher.grpc, "sidecar~default~web").await;
    client.subscribe(CDS, &["*"]).await;
    client
        .until(CDS, |r| r.resources.iter().any(|r| r.name == SHOP))
        .await;

    let path = "config/networking.istio.io/ServiceEntry/default/shop";
    assert!(pusher.store.get_raw(path).is_some(), "the path is right");
    pusher.store.put_raw(path, b"{ damaged");
    let report = pusher
        .until_ready(|report| report["checks"]["config"]["warning"].is_string())
        .await;
    assert!(
        report["checks"]["config"]["warning"]
            .as_str()
            .unwrap()
            .contains("default/shop"),
        "{report}"
    );

    // Others go on, and the damaged one is neither removed nor changed.
    pusher.put(service("other", "127.0.0.1")).await;
    let response = client
        .until(CDS, |r| {
            r.resources.iter().any(|r| r.name.contains("other"))
        })
        .await;
    assert!(response.removed_resources.is_empty());
    let mut fresh = Client::connect(pusher.grpc, "sidecar~default~web").await;
    fresh.subscribe(CDS, &["*"]).await;
    fresh
        .until(CDS, |r| r.resources.iter().any(|r| r.name == SHOP))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_charged_to_the_policy_that_caused_it() {
    let pusher = Fixture::start().await;
    pusher.put(service("shop", "127.0.0.1")).await;
    let mut client = Client::connect(pusher.grpc, "sidecar~default~web").await;
    client.refuse(SHOP);
    client.subscribe(CDS, &["*"]).await;
    client
        .until(CDS, |r| r.resources.iter().any(|r| r.name == SHOP))
        .await;
    let mut api = pusher.api().await;
    let status = loop {
        // Each answer drives the bisection on until one resource is left.
        client.drain().await;
        let statuses = api
            .list_resource_status(pusher_api::v1::ListResourceStatusRequest::default())
            .await
            .unwrap();
        if let Some(status) = statuses
            .into_inner()
            .statuses
            .into_iter()
            .find(|s| s.refused_by > 0)
        {
            break status;
        }
    };
    assert_eq!(
        (status.kind.as_str(), status.name.as_str()),
        ("ServiceEntry", "shop")
    );
    assert_eq!(status.examples[0].resource, SHOP);
    assert_eq!(status.examples[0].error, "refused by the test");
    let proxies = api
        .list_proxies(pusher_api::v1::ListProxiesRequest::default())
        .await
        .unwrap()
        .into_inner();
    let types = &proxies.proxies[0].types;
    assert_eq!(types[0].state(), pusher_api::v1::SyncState::Nack);
    assert!(!proxies.proxies[0].workload_known);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_exactly_while_what_was_refused_is_wanted() {
    let pusher = Fixture::start().await;
    pusher.put(service("shop", "127.0.0.1")).await;
    let mut client = Client::connect(pusher.grpc, "sidecar~default~web").await;
    client.subscribe(CDS, &["*"]).await;
    client
        .until(CDS, |r| r.resources.iter().any(|r| r.name == SHOP))
        .await;
    client.subscribe(EDS, &[SHOP]).await;
    client.until(EDS, |r| !r.resources.is_empty()).await;
    let mut api = pusher.api().await;
    let mut refused_by = async |client: &mut Client, expected: u32| {
        let deadline = tokio::time::Instant::now() + fixture::PATIENCE;
        loop {
            client.drain().await;
            let request = pusher_api::v1::ListResourceStatusRequest::default();
            let statuses = api
                .list_resource_status(request)
                .await
                .unwrap()
                .into_inner()
                .statuses;
            let refused: u32 = statuses.iter().map(|s| s.refused_by).sum();
            if refused == expected {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "expected {expected}: {statuses:?}"
            );
        }
    };

    client.refuse(SHOP);
    pusher.put(service("shop", "127.0.0.2")).await;
    refused_by(&mut client, 1).await;

    // Back to what it has: there is nothing left that it refuses.
    client.accept();
    pusher.put(service("shop", "127.0.0.1")).await;
    refused_by(&mut client, 0).await;

    // The same again: it is not sent again, and is told all the same.
    pusher.put(service("shop", "127.0.0.2")).await;
    refused_by(&mut client, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_configuration_can_be_read() {
    let pusher = Fixture::start().await;
    pusher.put(service("shop", "127.0.0.1")).await;
    let mut client = Client::connect(pusher.grpc, "sidecar~default~web").await;
    client.subscribe(CDS, &["*"]).await;
    client.until(CDS, |r| !r.resources.is_empty()).await;
    let mut api = pusher.api().await;
    let request = |id: &str| pusher_api::v1::GetProxyConfigRequest {
        id: id.into(),
        r#type: "CDS".into(),
    };
    let config = api
        .get_proxy_config(request("sidecar~default~web"))
        .await
        .unwrap()
        .into_inner();
    let shop = config.resources.iter().find(|r| r.name == SHOP).unwrap();
    let body: serde_json::Value = serde_json::from_str(&shop.json).unwrap();
    assert_eq!(body["name"], json!(SHOP));
    let missing = api
        .get_proxy_config(request("sidecar~default~nobody"))
        .await
        .unwrap_err();
    assert_eq!(missing.code(), tonic::Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_no_proxy_of_the_mesh_is_refused() {
    let pusher = Fixture::start().await;
    let mut client = Client::connect(pusher.grpc, "test-id").await;
    client.subscribe(CDS, &["*"]).await;
    let error = client.failure().await;
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().contains("test-id"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_registers_and_leaves() {
    use futures::StreamExt;
    let pusher = Fixture::start().await;
    let store: Arc<dyn store::Store> = Arc::new(pusher.store.another());
    let mut members = store.members("xds-pusher").await.unwrap();
    let present = loop {
        let set = members.next().await.unwrap();
        if !set.is_empty() {
            break set;
        }
    };
    assert_eq!(present[0].addresses["grpc"], pusher.grpc.to_string());
    pusher.stop().await;
    while !members.next().await.unwrap().is_empty() {}
}
