//! From `POST …/bootstrap` to a certificate: a real config-api and a real issuer, and Envoys that know nothing but their bootstrap.

use std::time::Duration;

use anyhow::{Result, bail};
use compile::{ISSUER_CLUSTER, sds_source};
use serde_json::{Value, json};
use store::etcd::{EtcdConfig, EtcdStore};
use store::{Area, Vault};
use weft_tests::envoy::{self, Envoy, Version};
use weft_tests::net::Block;
use weft_tests::process::Process;
use weft_tests::run::Run;
use weft_tests::{binaries, http, stack, wait};
use xds::pb::envoy::config::cluster::v3::Cluster;
use xds::pb::envoy::config::cluster::v3::cluster::EdsClusterConfig;
use xds::{Resource, ResourceType};

const KEYS: &str = "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n";
const ORDERS: &str = "spiffe://cluster.local/ns/shop/sa/orders";

/// etcd, an issuer and a config-api that gives out credentials.
struct Plane {
    net: Block,
    run: Run,
    api: Process,
    issuer: Process,
    _etcd: Process,
}

impl Plane {
    async fn start(name: &str) -> Result<Self> {
        let net = Block::claim()?;
        let run = Run::temporary(name)?;
        let etcd = stack::etcd(&run, "etcd", net.at(1, 2379), &run.path("etcd")).await?;
        let keys = run.path("keys");
        std::fs::write(&keys, KEYS)?;
        let service = |program: &str, args: String| {
            let args: Vec<String> = args.split_whitespace().map(ToOwned::to_owned).collect();
            let log = run.path(&format!("{program}.log"));
            Process::start(program, &binaries::built(program)?, &args, &log)
        };
        let etcd_flag = format!("--etcd-endpoints http://{} --log trace", net.at(1, 2379));
        let issuer = service(
            "cert-issuer",
            format!(
                "{etcd_flag} serve --listen {} --admin-listen {} --key-encryption-keys-file {}",
                net.at(1, 18010),
                net.at(1, 18011),
                keys.display()
            ),
        )?;
        let api = service(
            "config-api",
            format!("{etcd_flag} --listen {}", net.at(1, 8080)),
        )?;
        api.listens(net.at(1, 8080), stack::PATIENCE).await?;
        Ok(Self {
            net,
            run,
            api,
            issuer,
            _etcd: etcd,
        })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.net.at(1, 8080))
    }

    fn workload(&self) -> String {
        self.url("/apis/networking.istio.io/v1/namespaces/shop/workloadentries/orders-v1")
    }

    async fn register(&self) -> Result<()> {
        let workload = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": {"name": "orders-v1", "namespace": "shop"},
            "spec": {"address": "127.0.9.9", "serviceAccount": "orders"},
        });
        let put = http::client().put(self.workload()).json(&workload);
        http::send(put).await?.ok().map(drop)
    }

    /// A bootstrap that names the issuer, as soon as there is one.
    async fn bootstrap(&self) -> Result<Value> {
        let url = self.url("/v1/namespaces/shop/workloads/orders-v1/bootstrap");
        let issuer = envoy::socket_address(self.net.at(1, 18010));
        wait::until("a bootstrap", stack::PATIENCE, async || {
            let bootstrap = http::send(http::client().post(&url)).await?.ok()?.json()?;
            let named = "/static_resources/clusters/1/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
            match bootstrap.pointer(named) {
                Some(address) if *address == issuer => Ok(bootstrap),
                other => bail!("it names {other:?}"),
            }
        })
        .await
    }
}

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
    let plane = Plane::start("identity").await.unwrap();
    plane.register().await.unwrap();
    let bootstrap = plane.bootstrap().await.unwrap();

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
        let (bootstrap, admin) = (bootstrap.clone(), plane.net.at(host, 9901));
        let envoy = Envoy::start(&plane.run, &name, version, bootstrap, admin)
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
    let endpoint = format!("http://{}", plane.net.at(1, 2379));
    let etcd = EtcdStore::new(EtcdConfig::new([endpoint]));
    let tokens = etcd.read_all(Area::Tokens).await.unwrap();
    assert!(!tokens.is_empty());
    let output = std::process::Command::new(binaries::tool("etcdctl").unwrap())
        .args([
            "--endpoints",
            &plane.net.at(1, 2379).to_string(),
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
    for process in [&plane.api, &plane.issuer] {
        places.push((
            process.name(),
            std::fs::read_to_string(process.log()).unwrap(),
        ));
    }
    let history = http::get(plane.url("/v1/history")).await.unwrap().body;
    places.push(("history", history));
    for (place, text) in &places {
        assert!(
            !text.is_empty() && !text.contains(&token),
            "{place} holds the credential"
        );
    }

    // Certificates last for a day here: only the end of the credential ends the streams.
    for envoy in &envoys {
        assert_eq!(envoy.stat("sds.default.update_failure").await.unwrap(), 0);
    }
    let deleted = http::send(http::client().delete(plane.workload())).await;
    deleted.unwrap().ok().unwrap();
    for envoy in &envoys {
        wait::until(
            "the end of the streams",
            Duration::from_secs(120),
            async || match envoy.stat("sds.default.update_failure").await? {
                0 => bail!("they are open"),
                _ => Ok(()),
            },
        )
        .await
        .unwrap();
    }
    assert!(etcd.read_all(Area::Tokens).await.unwrap().is_empty());
}
