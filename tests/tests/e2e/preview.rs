//! `diff --xds` shows what a change would do to the configuration of the connected proxies, and does nothing to them.

use serde_json::{Value, json};
use weft_tests::envoy::Version;
use weft_tests::http;
use weft_tests::mesh::{Options, Variant};

use crate::edge::{Edge, routes, service};
use crate::rollouts::reached;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diff_shows_what_proxies_would_be_told() {
    let kinds = [
        (Variant::Delta, Version::Newest),
        (Variant::Sotw, Version::Oldest),
    ];
    let edge = Edge::start_with("preview", &kinds, Options::default())
        .await
        .unwrap();
    let mesh = &edge.mesh;
    let says = |text: &str| {
        let answer = format!("- directResponse: {{ status: 200, body: {{ string: {text} }} }}");
        routes("says", &answer)
    };
    let applied = mesh.apply(&says("before")).await.unwrap();
    reached(mesh, applied["revision"].as_str().unwrap()).await;

    let change = [says("after"), service("fresh", &[mesh.net.at(2, 9000)])].join("---\n");
    let url = format!("http://{}/v1/diff?xds=true", mesh.api_address());
    let request = http::client()
        .post(url)
        .header("content-type", "application/yaml");
    let diff = http::send(request.body(change.clone())).await.unwrap();
    let diff = diff.ok().unwrap().json().unwrap();
    let classes = diff["xds"]["classes"].as_array().unwrap();
    assert_eq!(
        (classes.len(), &diff["xds"]["silent"]),
        (1, &json!([])),
        "{diff}"
    );
    let mut ids: Vec<Value> = (edge.gateways.iter())
        .map(|it| json!(format!("gateway~istio-system~{}", it.name)))
        .collect();
    ids.sort_by_key(Value::to_string);
    assert_eq!(
        classes[0]["proxies"],
        json!({"count": 2, "ids": ids}),
        "{diff}"
    );
    let resources = classes[0]["resources"].as_array().unwrap();
    let of = |ty: &str| resources.iter().find(|it| it["type"] == ty).unwrap();
    assert_eq!(of("RDS")["change"], "changed");
    let text = of("RDS")["diff"].as_str().unwrap();
    let line = |sign: char, word: &str| {
        let mut lines = text.lines();
        lines.any(|line| line.starts_with(sign) && line.contains(word))
    };
    assert!(line('-', "before") && line('+', "after"), "{text}");

    // The command line shows the same, and nobody was told anything.
    let file = mesh.run.path("change.yaml");
    std::fs::write(&file, &change).unwrap();
    let server = format!("http://{}", mesh.api_address());
    let output = crate::meshctl::meshctl(&server, &format!("diff -f {} --xds", file.display()))
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for wanted in [
        "2 proxies: gateway~istio-system~gw-",
        "\nRDS http.8000 changed\n",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
    }
    for gateway in &edge.gateways {
        assert_eq!(gateway.get("/").await.unwrap().body, "before");
    }
    edge.finish().await;
}
