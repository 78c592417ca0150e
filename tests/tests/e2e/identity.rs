//! From `POST …/bootstrap` to a certificate: a real config-api and a real issuer, and Envoys that know nothing but their bootstrap.

use std::time::Duration;

use anyhow::bail;
use compile::{ISSUER_CLUSTER, sds_source};
use reqwest::Method;
use serde_json::{Value, json};
use store::etcd::{EtcdConfig, EtcdStore};
use store::{Area, Vault};
use weft_tests::envoy::{self, Envoy, Version};
use weft_tests::mesh::{Mesh, Variant};
use weft_tests::{binaries, wait};
use xds::pb::envoy::config::cluster::v3::Cluster;
use xds::pb::envoy::config::cluster::v3::cluster::EdsClusterConfig;
use xds::{Resource, ResourceType};

const ORDERS: &str = "spiffe://cluster.local/ns/shop/sa/orders";

/// The configuration sources of secrets anywhere in a bootstrap.
fn sources(value: &Value) -> Vec<&Value> {
    let inner: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    };
    let own = value.get("sds_config").into_iter();
    own.chain(inner.into_iter().flat_map(sources)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_gets_its_certificate_by_its_bootstrap_alone_and_loses_it_with_its_workload() {
    let mesh = Mesh::secure("identity", &[]).await.unwrap();
    let workload = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
        "metadata": {"name": "orders-v1", "namespace": "shop"},
        "spec": {"address": "127.0.9.9", "serviceAccount": "orders"},
    });
    mesh.apply(&workload.to_string()).await.unwrap();
    let bootstrap = mesh.bootstrap("shop", "orders-v1", Variant::Delta);
    let bootstrap = bootstrap.await.unwrap();

    // What compiled resources say, byte for byte: else Envoy would open other streams for the same secrets.
    let eds = |source| Cluster {
        name: "c".into(),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(source),
            ..Default::default()
        }),
        ..Default::default()
    };
    let compiled = Resource::new(&eds(sds_source(ISSUER_CLUSTER)));
    let sources = sources(&bootstrap);
    assert_eq!(sources.len(), 2);
    for source in sources {
        let cluster = json!({"name": "c", "eds_cluster_config": {"eds_config": source}});
        let written = Resource::from_json(ResourceType::Cluster, &cluster).unwrap();
        assert_eq!(written.body(), compiled.body());
    }

    let bearer =
        bootstrap["static_resources"]["secrets"][0]["generic_secret"]["secret"]["inline_string"]
            .as_str()
            .unwrap();
    let token = bearer.strip_prefix("Bearer ").unwrap().to_owned();
    let mut envoys = Vec::new();
    for (host, version) in [(3, Version::Newest), (4, Version::Oldest)] {
        let name = format!("envoy-{}", version.number());
        let (bootstrap, admin) = (bootstrap.clone(), mesh.net.at(host, 9901));
        let envoy = Envoy::start(&mesh.run, &name, version, bootstrap, admin)
            .await
            .unwrap();
        let what = "the certificate";
        let has = async || match envoy.ask("/certs").await?.body {
            certs if certs.contains(ORDERS) => Ok(()),
            certs => bail!("/certs says {certs}"),
        };
        envoy
            .process
            .until(what, envoy::PATIENCE, has)
            .await
            .unwrap();
        let dump = envoy.ask("/config_dump").await.unwrap().body;
        assert!(dump.contains("weft-credential") && !dump.contains(&token));
        envoys.push(envoy);
    }

    // It is nowhere but in the bootstrap.
    let endpoint = format!("http://{}", mesh.net.at(1, 2379));
    let etcd = EtcdStore::new(EtcdConfig::new([endpoint]));
    let tokens = etcd.read_all(Area::Tokens).await.unwrap();
    assert!(!tokens.is_empty());
    let output = std::process::Command::new(binaries::tool("etcdctl").unwrap())
        .args([
            "--endpoints",
            &mesh.net.at(1, 2379).to_string(),
            "get",
            "",
            "--from-key",
        ])
        .output()
        .unwrap();
    let everything = String::from_utf8_lossy(&output.stdout);
    assert!(
        everything.contains("orders-v1") && everything.contains("/tokens/"),
        "{everything}"
    );
    let mut places = vec![("etcd", everything.into_owned())];
    let issuer = mesh.issuer.as_ref().unwrap();
    for process in [&mesh.api, issuer, &mesh.pusher] {
        places.push((
            process.name(),
            std::fs::read_to_string(process.log()).unwrap(),
        ));
    }
    let history = mesh.call(Method::GET, "/v1/history", None).await.unwrap();
    places.push(("history", history.body));
    for (place, text) in &places {
        assert!(
            !text.is_empty() && !text.contains(&token),
            "{place} holds the credential"
        );
    }

    // Certificates last for a day here: only the end of the credential ends the streams. (At the start the issuer may not
    // have known it yet.)
    let mut before = Vec::new();
    for envoy in &envoys {
        before.push(envoy.stat("sds.default.update_failure").await.unwrap());
    }
    let path = "/apis/networking.istio.io/v1/namespaces/shop/workloadentries/orders-v1";
    let deleted = mesh.call(Method::DELETE, path, None).await;
    deleted.unwrap().ok().unwrap();
    for (envoy, before) in envoys.iter().zip(before) {
        wait::until(
            "the end of the streams",
            Duration::from_secs(120),
            async || match envoy.stat("sds.default.update_failure").await? {
                now if now == before => bail!("they are open"),
                _ => Ok(()),
            },
        )
        .await
        .unwrap();
    }
    let left = etcd.read_all(Area::Tokens).await.unwrap();
    assert_eq!(left.len(), 2, "those of the services");
}
