//! What follows from what a proxy acknowledges: its clients learn it.

use serde_json::json;
use weft_tests::envoy::Version;
use weft_tests::mesh::{Mesh, Options, Variant};
use weft_tests::otlp::{Protocol, Sink, Span};

use super::{OTHER, TRACE, has, put};
use crate::edge::{selecting_service, workload};

const MODES: &str = "/apis/security.istio.io/v1/namespaces/shop/peerauthentications/default";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_when_a_sidecar_takes_mutual_tls_is_in_the_same_trace() {
    let sink = Sink::start().await.unwrap();
    let options = Options {
        environment: &sink.environment(Protocol::Grpc),
        issuer: Some(&[]),
        ..Options::default()
    };
    let mesh = Mesh::start_with("mode-traced", options).await.unwrap();
    let mode = |mode: &str| {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": { "name": "default", "namespace": "shop" },
            "spec": { "mtls": { "mode": mode } }
        })
    };
    let entries = [(20, "orders"), (21, "web")].map(|(host, app)| {
        let at = mesh.net.at(host, 9000);
        workload("shop", &format!("{app}-1"), at, &[("app", app)])
    });
    let documents = [selecting_service("orders"), entries.join("---\n")];
    mesh.apply(&documents.join("---\n")).await.unwrap();
    put(&mesh, OTHER, MODES, &mode("DISABLE")).await;
    let (variant, version) = (Variant::Delta, Version::Newest);
    let mut envoys = Vec::new();
    for (host, name) in [(20, "orders-1"), (21, "web-1")] {
        let envoy = mesh.envoy("shop", name, variant, version, host).await;
        let envoy = envoy.unwrap();
        envoy.ready().await.unwrap();
        envoys.push(envoy);
    }
    put(&mesh, TRACE, MODES, &mode("STRICT")).await;
    let is = |span: &Span| span.name == "watch" && span.get("policy.type") == "peerauthentication";
    sink.span(TRACE, "of its arrival", is).await.unwrap();
    let is = |span: &Span| {
        span.name == "ACK"
            && has(
                span,
                &[("proxy.id", "sidecar~shop~orders-1"), ("xds.type", "LDS")],
            )
    };
    sink.span(TRACE, "of the server's ACK", is).await.unwrap();
    let is = |span: &Span| span.name == "store mode" && span.get("policy.name") == "orders-1";
    let stored = sink.span(TRACE, "of storing it", is).await.unwrap();
    let is = |span: &Span| span.name == "watch" && span.parent == stored.id;
    let watch = sink.span(TRACE, "of who learns it", is).await.unwrap();
    let what = [
        ("policy.type", "workloadentry"),
        ("policy.name", "orders-1"),
        ("policy.namespace", "shop"),
    ];
    assert!(has(&watch, &what), "{watch:?}");
    let is = |span: &Span| span.name == "compile" && span.parent == watch.id;
    let compile = sink.span(TRACE, "of what follows", is).await.unwrap();
    assert!(has(&compile, &what), "{compile:?}");
}
