//! What happens to those who are not who they say, and while nobody can say who is who.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use reqwest::Method;
use serde_json::{Value, json};
use weft_tests::envoy::{self, Envoy, Version};
use weft_tests::mesh::{Mesh, Variant};
use weft_tests::{http, wait};

use crate::mtls::Identity;
use crate::sidecars::Sidecars;

/// How often a service refused somebody, by its own count.
async fn refusals(admin: SocketAddr, metric: &str) -> Result<f64> {
    let text = http::get(format!("http://{admin}/metrics"))
        .await?
        .ok()?
        .body;
    let lines = text.lines().filter(|line| line.starts_with(metric));
    let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(counts.sum())
}

async fn rises(what: &str, admin: SocketAddr, metric: &str, from: f64) {
    wait::until(what, envoy::PATIENCE, async || {
        match refusals(admin, metric).await? {
            now if now > from => Ok(()),
            now => bail!("{metric} is {now}"),
        }
    })
    .await
    .unwrap();
}

/// An Envoy of `shop/a-1` whose bootstrap somebody changed.
async fn impostor(mesh: &Mesh, bootstrap: &Value, n: u8, change: impl Fn(&mut Value)) -> Envoy {
    let mut bootstrap = bootstrap.clone();
    change(&mut bootstrap);
    let name = format!("impostor-{n}");
    Envoy::start(
        &mesh.run,
        &name,
        Version::Newest,
        bootstrap,
        mesh.net.at(n, 9901),
    )
    .await
    .unwrap()
}

/// What a pusher would say of the client whose stream it passes on, if that was who may speak for this node.
fn passed(node: &str) -> Value {
    let account = match node {
        "sidecar~shop~b-1" => "b",
        _ => "a",
    };
    let namespace = node.split('~').nth(1).unwrap();
    let id = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
    json!([
        {"key": "weft-passed-hops", "value": "1"},
        {"key": "weft-passed-spiffe-id", "value": id},
        {"key": "weft-passed-certificate-expiry", "value": "4000000000"},
        {"key": "weft-passed-address", "value": "127.0.0.1:1"},
    ])
}

/// Replaces a text anywhere in a document.
fn replace(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) if text == from => *text = to.into(),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, from, to)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| replace(field, from, to)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impostors_are_refused_logged_and_counted() {
    let mesh = Mesh::secure("impostors", &[]).await.unwrap();
    let (issuer, pusher) = (mesh.net.at(1, 18011), mesh.net.at(1, 18001));
    const BY_ISSUER: &str = "weft_issuer_refusals_total";
    const BY_PUSHER: &str = "weft_pusher_refusals_total";
    let entry = |namespace: &str, name: &str, account: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
             metadata: {{ name: {name}, namespace: {namespace} }}\n\
             spec: {{ address: {}, serviceAccount: {account} }}\n",
            mesh.net.ip(40)
        )
    };
    let entries = [
        entry("shop", "a-1", "a"),
        entry("shop", "a-2", "a"),
        entry("shop", "b-1", "b"),
        entry("till", "a-1", "a"),
    ];
    mesh.apply(&entries.join("---\n")).await.unwrap();
    let bootstrap = mesh.bootstrap("shop", "a-1", Variant::Delta).await.unwrap();
    let honest = impostor(&mesh, &bootstrap, 10, |_| {}).await;
    honest.ready().await.unwrap();

    // The issuer knows which workload a credential is for, whatever the node says.
    for (n, node) in [
        (11, "sidecar~till~a-1"),
        (12, "sidecar~shop~b-1"),
        (13, "sidecar~shop~a-2"),
    ] {
        let before = refusals(issuer, BY_ISSUER).await.unwrap();
        let envoy = impostor(&mesh, &bootstrap, n, |it| it["node"]["id"] = node.into()).await;
        rises(node, issuer, BY_ISSUER, before).await;
        assert!(!envoy.ask("/certs").await.unwrap().body.contains("/sa/"));
    }
    let log = std::fs::read_to_string(mesh.issuer.as_ref().unwrap().log()).unwrap();
    assert!(log.contains("may not speak for node") && log.contains("made for the workload"));

    // Another account's secret.
    let before = refusals(issuer, BY_ISSUER).await.unwrap();
    let theirs = "spiffe://cluster.local/ns/shop/sa/b";
    let envoy = impostor(&mesh, &bootstrap, 14, |it| replace(it, "default", theirs)).await;
    rises("another's secret", issuer, BY_ISSUER, before).await;
    assert!(!envoy.ask("/certs").await.unwrap().body.contains("/sa/"));

    // The pusher knows by the certificate, wherever that came from. The others have credentials as well, which it knows.
    for (namespace, name) in [("till", "a-1"), ("shop", "b-1")] {
        mesh.bootstrap(namespace, name, Variant::Delta)
            .await
            .unwrap();
    }
    let signed = Identity::signed(&mesh, "a-1").await.unwrap();
    let roots = http::get(format!("http://{issuer}/bundle.pem"))
        .await
        .unwrap();
    let held = json!({
        "tls_certificates": [{
            "certificate_chain": {"filename": signed.path("chain.pem")},
            "private_key": {"filename": signed.path("key.pem")},
        }],
        "validation_context": {"trusted_ca": {"inline_string": roots.body}},
        "alpn_protocols": ["h2"],
    });
    let nodes = [
        "sidecar~shop~a-1",
        "sidecar~till~a-1",
        "sidecar~shop~b-1",
        "sidecar~shop~a-2",
    ];
    for (n, node) in (15..).zip(nodes) {
        let before = refusals(pusher, BY_PUSHER).await.unwrap();
        let envoy = impostor(&mesh, &bootstrap, n, |it| {
            it["node"]["id"] = node.into();
            // What one pusher tells another of a client is nothing from anybody else.
            it["dynamic_resources"]["ads_config"]["grpc_services"][0]["initial_metadata"] =
                passed(node);
            let clusters = it["static_resources"]["clusters"].as_array_mut().unwrap();
            let pusher = clusters
                .iter_mut()
                .find(|c| c["name"] == "weft-xds")
                .unwrap();
            pusher["transport_socket"]["typed_config"]["common_tls_context"] = held.clone();
        });
        if node == nodes[0] {
            envoy.await.ready().await.unwrap();
        } else {
            let _envoy = envoy.await;
            rises(node, pusher, BY_PUSHER, before).await;
        }
    }
    let log = std::fs::read_to_string(mesh.pusher.log()).unwrap();
    for why in [
        "another namespace",
        "whose service account is",
        "has no credential",
    ] {
        assert!(log.contains(why), "{why}: {}", mesh.pusher.tail(10));
    }

    // A workload that is given another account loses its stream.
    let before = refusals(pusher, BY_PUSHER).await.unwrap();
    mesh.apply(&entry("shop", "a-1", "b")).await.unwrap();
    rises("a workload's new account", pusher, BY_PUSHER, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_proxy_gets_nothing_new_and_serves_on() {
    let of = Sidecars::secure("revoked", &[]).await.unwrap();
    of.all_reach_all().await.unwrap();
    let (mesh, client) = (&of.mesh, &of.clients[0]);
    let path = format!("/v1/namespaces/shop/workloads/{}/credentials", client.name);
    let revoked = mesh.call(Method::DELETE, &path, None).await.unwrap();
    revoked.ok().unwrap();
    let node = format!("sidecar~shop~{}", client.name);
    mesh.pusher
        .until("the end of its stream", envoy::PATIENCE, async || {
            let proxies = mesh.call(Method::GET, "/v1/proxies", None).await?.ok()?;
            match proxies.body.contains(&node) {
                true => bail!("it is served"),
                false => Ok(()),
            }
        })
        .await
        .unwrap();
    let log = std::fs::read_to_string(mesh.pusher.log()).unwrap();
    assert!(
        log.contains("they may have been revoked"),
        "{}",
        mesh.pusher.tail(10)
    );
    for _ in 0..20 {
        client.get("http://orders/").await.unwrap().ok().unwrap();
    }
}

/// Certificates that are renewed after three quarters of a minute, and last as long again.
const BRIEF: [&str; 1] = ["--svid-ttl=90s"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_issuer_traffic_goes_on_and_readiness_says_so() {
    let mut of = Sidecars::secure("no-issuer", &BRIEF).await.unwrap();
    of.all_reach_all().await.unwrap();
    let loads = of.load(20);
    of.mesh.issuer.as_ref().unwrap().kill();
    let before = renewed(&of).await.unwrap();
    let pusher = &of.mesh.pusher;
    pusher
        .until(
            "the pusher to miss the issuer",
            Duration::from_secs(180),
            async || {
                let ready = of.mesh.pusher_readyz().await?;
                assert_eq!(ready.status, 200, "it serves on: {}", ready.body);
                match ready.body.contains("the certificate is not renewed") {
                    true => Ok(()),
                    false => bail!("{}", ready.body),
                }
            },
        )
        .await
        .unwrap();
    // The Envoys are beyond their renewal point as well, give or take a tenth.
    assert_eq!(renewed(&of).await.unwrap(), before);
    of.mesh.restart_issuer(&BRIEF).await.unwrap();
    wait::until("every Envoy's renewal", envoy::PATIENCE, async || {
        let now = renewed(&of).await?;
        match now.iter().zip(&before).all(|(now, before)| now > before) {
            true => Ok(()),
            false => bail!("{before:?}, now {now:?}"),
        }
    })
    .await
    .unwrap();
    wait::until("readiness", envoy::PATIENCE, async || {
        let ready = of.mesh.pusher_readyz().await?;
        match ready.body.contains("not renewed") {
            true => bail!("{}", ready.body),
            false => Ok(()),
        }
    })
    .await
    .unwrap();
    for load in loads {
        load.stop().await.flawless().unwrap();
    }
    of.finish().await;
}

/// How often each Envoy got a certificate.
async fn renewed(of: &Sidecars) -> Result<Vec<u64>> {
    let mut counts = Vec::new();
    for envoy in of.envoys() {
        counts.push(envoy.stat("sds.default.update_success").await?);
    }
    Ok(counts)
}
