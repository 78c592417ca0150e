//! What protects a caller: timeouts, circuit breakers, outlier ejection.

use futures::future::join_all;
use weft_tests::envoy;
use weft_tests::wait;

use crate::edge::{Edge, is, routes, rule, service};

const ORDERS: &str = "outbound|80||orders.shop.svc.cluster.local";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_is_504_and_a_full_circuit_breaker_503() {
    let edge = Edge::start("limits").await.unwrap();
    let _backend = edge.backend(2, "orders", "v1").await.unwrap();
    let pool = "trafficPolicy: { connectionPool: { tcp: { maxConnections: 1 }, http: { http1MaxPendingRequests: 1 } } }";
    let documents = [
        service("orders", &[edge.mesh.net.at(2, 9000)]),
        rule("orders", &[], pool),
        routes(
            "limits",
            "- match: [{ uri: { prefix: /short } }]\n  timeout: 0.3s\n  route: [{ destination: { host: orders } }]\n\
             - retries: { attempts: 0 }\n  route: [{ destination: { host: orders } }]",
        ),
    ];
    edge.mesh.apply(&documents.join("---\n")).await.unwrap();
    edge.all_answer("/", is("orders v1")).await.unwrap();
    for gateway in &edge.gateways {
        let name = &gateway.name;
        let late = |answer: &weft_tests::http::Answer| answer.status == 504;
        gateway.answers("/short/delay/60000", late).await.unwrap();
        let answers = join_all((0..10).map(|_| gateway.get("/delay/2000"))).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        let refused: Vec<_> = answers.iter().filter(|a| a.status == 503).collect();
        assert!(
            !refused.is_empty() && refused.len() < 10,
            "{name}: {answers:?}"
        );
        for answer in refused {
            assert_eq!(
                answer.header("x-envoy-overloaded"),
                Some("true"),
                "{name}: {answer:?}"
            );
        }
        let overflow = format!("cluster.{ORDERS}.upstream_rq_pending_overflow");
        assert!(gateway.envoy.stat(&overflow).await.unwrap() > 0, "{name}");
    }
    edge.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outlier_is_ejected() {
    let edge = Edge::start("outlier").await.unwrap();
    let _good = edge.backend(2, "orders", "good").await.unwrap();
    let bad = edge.backend(3, "orders", "bad").await.unwrap();
    bad.set_status(Some(500));
    let net = &edge.mesh.net;
    let detection = "trafficPolicy: { outlierDetection: { consecutive5xxErrors: 3, interval: 0.2s, baseEjectionTime: 60s, maxEjectionPercent: 100 } }";
    let documents = [
        service("orders", &[net.at(2, 9000), net.at(3, 9000)]),
        rule("orders", &[], detection),
        routes(
            "outlier",
            "- retries: { attempts: 0 }\n  route: [{ destination: { host: orders } }]",
        ),
    ];
    edge.mesh.apply(&documents.join("---\n")).await.unwrap();
    edge.all_answer("/", is("orders good")).await.unwrap();
    for gateway in &edge.gateways {
        wait::until("the ejection", envoy::PATIENCE, async || {
            gateway.get("/").await?;
            let health = gateway.envoy.endpoints(ORDERS).await?;
            match health.get(&net.at(3, 9000).to_string()).map(String::as_str) {
                Some("failed_outlier_check") => Ok(()),
                other => anyhow::bail!("{other:?}"),
            }
        })
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", gateway.name));
        gateway.always(|answer| answer.status == 200).await;
    }
    edge.finish().await;
}
