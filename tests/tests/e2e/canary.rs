//! A canary release at the edge: subsets, weights, testers, mirrors, retries, a streaming response, a rollback.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use serde_json::json;
use weft_tests::backend::Backend;
use weft_tests::envoy;
use weft_tests::http;
use weft_tests::load::Load;
use weft_tests::wait;

use crate::edge::{Edge, is, routes, rule, selecting_service, service, who, workload};

const V1: &str = "outbound|80|v1|orders.shop.svc.cluster.local";

async fn two_versions(edge: &Edge) -> (Backend, Backend) {
    let backends = (
        edge.backend(2, "orders", "v1").await.unwrap(),
        edge.backend(3, "orders", "v2").await.unwrap(),
    );
    let net = &edge.mesh.net;
    let documents = [
        selecting_service("orders"),
        rule("orders", &["v1", "v2"], ""),
        workload(
            "shop",
            "orders-v1",
            net.at(2, 9000),
            &[("app", "orders"), ("version", "v1")],
        ),
        workload(
            "shop",
            "orders-v2",
            net.at(3, 9000),
            &[("app", "orders"), ("version", "v2")],
        ),
    ];
    edge.mesh.apply(&documents.join("---\n")).await.unwrap();
    backends
}

fn split(v1: u32, v2: u32) -> String {
    routes(
        "canary",
        &format!(
            "- match: [{{ headers: {{ x-user: {{ exact: tester }} }} }}]\n  route: [{{ destination: {{ host: orders, subset: v2 }} }}]\n\
         - route:\n  - {{ destination: {{ host: orders, subset: v1 }}, weight: {v1} }}\n  \
         - {{ destination: {{ host: orders, subset: v2 }}, weight: {v2} }}"
        ),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_testers_and_one_call_back() {
    let edge = Edge::start("canary").await.unwrap();
    let _backends = two_versions(&edge).await;
    edge.mesh.apply(&split(100, 0)).await.unwrap();
    edge.all_answer("/", is("orders v1")).await.unwrap();
    edge.mesh.apply(&split(90, 10)).await.unwrap();
    for gateway in &edge.gateways {
        // Seen once, the split is in force; on a worker thread that has not heard of it yet the bounds still hold.
        wait::until("the canary to answer", wait::PATIENCE, async || {
            let answer = gateway.get("/").await?;
            if who(&answer) == "orders v2" {
                Ok(())
            } else {
                anyhow::bail!("{}", who(&answer))
            }
        })
        .await
        .unwrap();
        let load = Load {
            at_most: 1000,
            per_second: 2000,
            ..Load::new(gateway.address, "shop.example", "/")
        };
        let report = load.start().finish().await.flawless().unwrap();
        let v2 = report.answers["orders v2"];
        // Binomial: mean 100, deviation 9.5; five deviations.
        assert!(
            (52..=148).contains(&v2),
            "{}: {:?}",
            gateway.name,
            report.answers
        );
        for _ in 0..20 {
            let answer = http::send(gateway.request("/").header("x-user", "tester"))
                .await
                .unwrap();
            assert_eq!(who(&answer), "orders v2", "{}", gateway.name);
        }
    }
    let body = json!({ "kind": "VirtualService", "namespace": "shop", "name": "canary" });
    edge.mesh
        .call(reqwest::Method::POST, "/v1/rollback", Some(&body))
        .await
        .unwrap()
        .ok()
        .unwrap();
    for gateway in &edge.gateways {
        wait::until("the canary to be gone", wait::PATIENCE, async || {
            for _ in 0..100 {
                let answer = gateway.get("/").await?;
                if who(&answer) != "orders v1" {
                    anyhow::bail!("{}", answer.body);
                }
            }
            Ok(())
        })
        .await
        .unwrap();
    }
    edge.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_and_retries_reach_the_backend() {
    let edge = Edge::start("mirror").await.unwrap();
    let backends = two_versions(&edge).await;
    let shadow = edge.backend(4, "shadow", "v1").await.unwrap();
    let documents = [
        service("shadow", &[edge.mesh.net.at(4, 9000)]),
        routes(
            "canary",
            "- match: [{ uri: { prefix: /mirrored } }]\n  route: [{ destination: { host: orders, subset: v1 } }]\n  \
             mirror: { host: shadow }\n  mirrorPercentage: { value: 100 }\n\
             - match: [{ uri: { prefix: /retried } }]\n  route: [{ destination: { host: orders, subset: v1 } }]\n  \
             retries: { attempts: 3, perTryTimeout: 60s, retryOn: 5xx }\n\
             - match: [{ uri: { prefix: /once } }]\n  route: [{ destination: { host: orders, subset: v1 } }]\n  \
             retries: { attempts: 0 }\n\
             - route: [{ destination: { host: orders, subset: v1 } }]",
        ),
    ];
    edge.mesh.apply(&documents.join("---\n")).await.unwrap();
    edge.all_answer("/retried", is("orders v1")).await.unwrap();
    for gateway in &edge.gateways {
        let name = &gateway.name;
        let path = format!("/mirrored/{name}");
        assert_eq!(
            who(&gateway.answers(&path, is("orders v1")).await.unwrap()),
            "orders v1"
        );
        let seen = wait::until("the mirrored request", wait::PATIENCE, async || {
            shadow
                .seen()
                .into_iter()
                .find(|s| s.path == path)
                .ok_or("not seen")
        });
        let seen = seen.await.unwrap();
        assert!(seen.authority.contains("-shadow"), "{seen:?}");

        let path = format!("/retried/fail/2/{name}");
        let answer = gateway.get(&path).await.unwrap();
        assert_eq!(
            (answer.status, who(&answer).as_str()),
            (200, "orders v1"),
            "{name}"
        );
        let tries = backends.0.seen().iter().filter(|s| s.path == path).count();
        assert_eq!(tries, 3, "{name}: two failures and a success");
        let path = format!("/once/fail/2/once-{name}");
        assert_eq!(gateway.get(&path).await.unwrap().status, 503, "{name}");
        assert_eq!(
            backends.0.seen().iter().filter(|s| s.path == path).count(),
            1,
            "{name}"
        );
    }
    edge.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streaming_response_survives_a_swap() {
    let edge = Edge::start("stream").await.unwrap();
    let backends = two_versions(&edge).await;
    edge.mesh.apply(&split(100, 0)).await.unwrap();
    edge.all_answer("/", is("orders v1")).await.unwrap();
    let mut streams = Vec::new();
    for gateway in &edge.gateways {
        let request = gateway
            .request("/hold/swap")
            .timeout(Duration::from_secs(300));
        let response = request.send().await.unwrap();
        let mut body = response.bytes_stream();
        let first = body.next().await.unwrap().unwrap();
        streams.push((gateway.name.clone(), body, first.to_vec()));
    }
    // v1 loses its route, its subset and thereby its cluster while the responses are open.
    let only_v2 = routes(
        "canary",
        "- route: [{ destination: { host: orders, subset: v2 } }]",
    );
    edge.mesh
        .apply(&[rule("orders", &["v2"], ""), only_v2].join("---\n"))
        .await
        .unwrap();
    edge.all_answer("/", is("orders v2")).await.unwrap();
    for gateway in &edge.gateways {
        wait::until(
            "the cluster to be gone",
            envoy::PATIENCE,
            async || match gateway.envoy.endpoints(V1).await {
                Err(error) if error.to_string().contains("there is no cluster") => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", gateway.name));
    }
    // All of it has arrived, and the responses are still open: their backend ends them when it is told now.
    for (name, body, _) in &mut streams {
        let more = body.next().now_or_never();
        assert!(more.is_none(), "{name}: it ended before: {more:?}");
    }
    let release = format!("http://{}/release/swap", backends.0.address());
    http::get(release).await.unwrap().ok().unwrap();
    for (name, mut body, mut text) in streams {
        while let Some(chunk) = body.next().await {
            text.extend(chunk.unwrap_or_else(|error| panic!("{name}: the stream broke: {error}")));
        }
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, "v1 held\nv1 released\n", "{name}");
    }
    edge.finish().await;
}
