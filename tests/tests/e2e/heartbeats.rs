//! A workload that lives by heartbeats: silent, it leaves; back, it returns.

use std::time::{Duration, Instant};

use serde_json::json;
use weft_tests::wait;

use crate::edge::{Edge, is, routes, selecting_service};

const ORDERS: &str = "outbound|80||orders.shop.svc.cluster.local";
const TTL: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_workload_leaves_after_its_ttl_and_returns() {
    let edge = Edge::start("heartbeats").await.unwrap();
    let mesh = &edge.mesh;
    let _backends = (
        edge.backend(2, "orders", "v1").await.unwrap(),
        edge.backend(3, "orders", "v2").await.unwrap(),
    );
    mesh.apply(
        &[
            selecting_service("orders"),
            routes("beat", "- route: [{ destination: { host: orders } }]"),
        ]
        .join("---\n"),
    )
    .await
    .unwrap();
    let beat = async |n: u8| {
        let body = json!({
            "ttl": "4s",
            "labels": { "app": "orders" },
            "spec": { "address": mesh.net.ip(n).to_string(), "ports": { "http": 9000 }, "labels": { "app": "orders" } },
        });
        let path = format!("/v1/namespaces/shop/workloads/orders-{n}/heartbeat");
        mesh.call(reqwest::Method::PUT, &path, Some(&body))
            .await
            .unwrap()
            .ok()
            .unwrap();
    };
    let have = async |ns: &[u8]| {
        let expected: Vec<_> = ns.iter().map(|n| mesh.net.at(*n, 9000)).collect();
        for gateway in &edge.gateways {
            gateway
                .envoy
                .has_endpoints(ORDERS, &expected, wait::PATIENCE)
                .await
                .unwrap_or_else(|e| panic!("{}: {e}", gateway.name));
        }
    };
    let keep_2_alive = async {
        loop {
            beat(2).await;
            tokio::time::sleep(TTL / 4).await;
        }
    };
    let story = async {
        beat(2).await;
        beat(3).await;
        have(&[2, 3]).await;
        let last = Instant::now();
        beat(3).await;
        have(&[2]).await;
        let left = last.elapsed();
        assert!(
            left >= TTL,
            "it left after {left:?}, before its TTL had passed"
        );
        edge.all_answer("/", is("orders v1")).await.unwrap();
        beat(3).await;
        have(&[2, 3]).await;
        edge.all_answer("/", is("orders v2")).await.unwrap();
    };
    tokio::select! {
        () = keep_2_alive => unreachable!("it never ends"),
        () = story => {}
    }
    edge.finish().await;
}
