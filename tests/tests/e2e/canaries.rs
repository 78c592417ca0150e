//! What is secret is found nowhere: not in etcd, not in what services log at their most talkative, not in their traces, not in what they answer,
//! and not in what one leaves behind when it is aborted.
//!
//! *Invariant:* the same search finds each secret where it may be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cert_issuer::authority::Policy;
use cert_issuer::ca::Ca;
use cert_issuer::envelope::KeyList;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use reqwest::Method;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use store::etcd::{EtcdConfig, EtcdStore};
use weft_tests::envoy::{self, Version};
use weft_tests::mesh::{Mesh, Options, Variant};
use weft_tests::otlp::{Protocol, Sink};
use weft_tests::{binaries, http, wait};

/// A secret and what it is.
struct Canary {
    what: String,
    forms: Vec<Vec<u8>>,
}

impl Canary {
    fn text(what: &str, text: &str) -> Self {
        Self {
            what: what.into(),
            forms: vec![text.into()],
        }
    }

    /// The secret number of a P-256 key, as it is and in base64 however its encoding falls.
    fn key(what: &str, pkcs8: &[u8]) -> Self {
        let secret = &pkcs8[36..68];
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        // The part of it that begins a line of PEM.
        let base64 = STANDARD.encode(&pkcs8[48..66]);
        Self {
            what: what.into(),
            forms: vec![
                secret.to_vec(),
                STANDARD.encode(secret).into(),
                base64.into(),
                hex.into(),
            ],
        }
    }

    fn is_in(&self, place: &[u8]) -> bool {
        let found = |form: &Vec<u8>| place.windows(form.len()).any(|bytes| bytes == form);
        self.forms.iter().any(found)
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// Every key and value of etcd.
fn etcd(mesh: &Mesh) -> Vec<u8> {
    let endpoint = mesh.net.at(1, 2379).to_string();
    let dump = std::process::Command::new(binaries::tool("etcdctl").unwrap())
        .args(["--endpoints", &endpoint, "get", "", "--from-key"])
        .output()
        .unwrap();
    assert!(dump.status.success());
    dump.stdout
}

/// The core dumps where the services run.
fn cores() -> BTreeSet<PathBuf> {
    let here = std::fs::read_dir(".").unwrap();
    let paths = here.map(|entry| entry.unwrap().path());
    let is_core = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name == "core" || name.starts_with("core.")
    };
    paths.filter(is_core).collect()
}

/// What the issuer hands to the proxy of a credential: a token, and the key of its certificate.
async fn issued(mesh: &Mesh, bearer: &str) -> (String, Vec<u8>) {
    let bundle = http::get(format!("http://{}/bundle.pem", mesh.net.at(1, 18011)));
    let bundle = bundle.await.unwrap().ok().unwrap().body;
    let roots = reqwest::Certificate::from_pem_bundle(bundle.as_bytes()).unwrap();
    let issuer = mesh.net.at(1, 18010);
    // Its certificate names no address.
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only(roots)
        .resolve("cert-issuer", issuer)
        .build()
        .unwrap();
    let ask = async |path: &str, body: serde_json::Value| {
        let url = format!("https://cert-issuer:{}{path}", issuer.port());
        let request = client.post(url).bearer_auth(bearer).json(&body);
        let text = request.send().await.unwrap().error_for_status().unwrap();
        let text = text.text().await.unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let token = ask("/v1/jwt-svid", json!({"audience": ["canary"]})).await;
    let wanted = json!({"node": {"id": "gateway~shop~gw"}, "resource_names": ["default"]});
    let secrets = ask("/v3/discovery:secrets", wanted).await;
    let key = secrets["resources"][0]["tlsCertificate"]["privateKey"]["inlineString"].as_str();
    let key = PrivatePkcs8KeyDer::from_pem_slice(key.unwrap().as_bytes()).unwrap();
    let token = token["token"].as_str().unwrap().to_owned();
    (token, key.secret_pkcs8_der().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_found_anywhere() {
    // What is started from here on may write a core as large as it likes; where, the kernel says.
    let (_, most) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    setrlimit(Resource::RLIMIT_CORE, most, most).unwrap();
    let before = cores();
    let sink = Sink::start().await.unwrap();
    let options = Options {
        issuer: Some(&[]),
        trace: true,
        environment: &sink.environment(Protocol::Http),
        ..Options::default()
    };
    let mut mesh = Mesh::start_with("canaries", options).await.unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["shop.example".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let gateway = "
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: { name: gw, namespace: shop, labels: { istio: ingressgateway } }
spec: { address: $IP, labels: { istio: ingressgateway }, serviceAccount: gw }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: shop, namespace: shop }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { port: { number: 8443, name: https, protocol: HTTPS }, hosts: ['*'], tls: { mode: SIMPLE, credentialName: shop } }
";
    let gateway = gateway.replace("$IP", &mesh.net.ip(10).to_string());
    let uploaded = json!({
        "apiVersion": "weft.mesh/v1", "kind": "TlsSecret",
        "metadata": {"name": "shop", "namespace": "shop"},
        "spec": {"certificate": certificate, "privateKey": key.serialize_pem()},
    });
    mesh.apply(&format!("{gateway}---\n{uploaded}"))
        .await
        .unwrap();
    let bootstrap = mesh.bootstrap("shop", "gw", Variant::Delta).await.unwrap();
    let bearer =
        bootstrap["static_resources"]["secrets"][0]["generic_secret"]["secret"]["inline_string"]
            .as_str()
            .unwrap()
            .strip_prefix("Bearer ")
            .unwrap()
            .to_owned();
    let admin = mesh.net.at(250, 9901);
    let proxy = envoy::Envoy::start(&mesh.run, "envoy-gw", Version::Newest, bootstrap, admin)
        .await
        .unwrap();
    proxy.ready().await.unwrap();
    wait::until(
        "the uploaded certificate",
        envoy::PATIENCE,
        async || match proxy.ask("/certs").await?.body.contains("shop.example") {
            true => Ok(()),
            false => anyhow::bail!("it is not there"),
        },
    )
    .await
    .unwrap();

    // What there is to be found.
    let credentials = mesh.run.path("credentials");
    let keys = std::fs::read_to_string(credentials.join("key-encryption-keys")).unwrap();
    let (_, kek) = keys.trim().split_once(':').unwrap();
    let store = EtcdStore::new(EtcdConfig::new([format!(
        "http://{}",
        mesh.net.at(1, 2379)
    )]));
    let domain = "cluster.local".parse().unwrap();
    let list = KeyList::parse(&keys).unwrap();
    let ca = Ca::new(Arc::new(store), list, domain, Policy::default());
    let (authority, _) = ca.load().await.unwrap();
    let plain = authority.to_bytes();
    let root = &authority.active_root().signer;
    let mut canaries = vec![
        Canary::key("the root's key", root.key().pkcs8()),
        Canary::key("the issuing key", authority.issuing().key().pkcs8()),
        Canary::key("the tokens' key", authority.jwt_keys()[0].key.pkcs8()),
    ];
    let sealing = authority.sealing_keys()[0].secret();
    let mut forms = Canary::text("the sealing key", &STANDARD.encode(sealing.as_slice()));
    forms.forms.push(sealing.to_vec());
    canaries.push(forms);
    for canary in &canaries {
        assert!(
            canary.is_in(&plain),
            "{} is not where it may be",
            canary.what
        );
    }
    canaries.push(Canary::key("the uploaded key", &key.serialize_der()));
    let mut encryption = Canary::text("the key-encryption key", kek);
    encryption.forms.push(STANDARD.decode(kek).unwrap());
    canaries.push(encryption);
    canaries.push(Canary::text("a proxy's credential", &bearer));
    let (token, key) = issued(&mesh, &bearer).await;
    canaries.push(Canary::text("a token", &token));
    canaries.push(Canary::key("the key of a proxy's certificate", &key));
    for service in ["config-api", "xds-pusher"] {
        let text = std::fs::read_to_string(credentials.join(service)).unwrap();
        canaries.push(Canary::text(
            &format!("{service}'s credential"),
            text.trim(),
        ));
    }

    // Where they must not be.
    let mut places = vec![("etcd".to_owned(), etcd(&mesh))];
    places.push((
        "/config_dump".into(),
        proxy.ask("/config_dump").await.unwrap().body.into(),
    ));
    let secret = "/apis/weft.mesh/v1/namespaces/shop/tlssecrets/shop";
    for path in [
        "/v1/history",
        "/v1/proxies",
        "/v1/proxies/gateway~shop~gw/config",
        "/v1/namespaces/shop/workloads/gw/credentials",
        "/metrics",
        "/readyz",
        secret,
    ] {
        let answer = mesh
            .call(Method::GET, path, None)
            .await
            .unwrap()
            .ok()
            .unwrap();
        places.push((path.into(), answer.body.into()));
    }
    for (port, path) in [
        (18001, "/metrics"),
        (18011, "/metrics"),
        (18011, "/keys"),
        (18011, "/bundle"),
    ] {
        let url = format!("http://{}{path}", mesh.net.at(1, port));
        places.push((
            url.clone(),
            http::get(url).await.unwrap().ok().unwrap().body.into(),
        ));
    }
    // What signed, stored, compiled and pushed is there.
    for name in ["sign", "open secret", "etcd transaction", "compile"] {
        wait::until(&format!("the span {name}"), wait::PATIENCE, async || {
            let spans = sink.spans();
            let found = spans.iter().any(|span| span.name == name);
            found.then_some(()).ok_or("it has not come")
        })
        .await
        .unwrap();
    }
    places.push(("a collector of traces".into(), sink.raw().concat()));
    let issuer = mesh.issuer.take().unwrap();
    for process in [&mesh.api, &mesh.pusher, &issuer] {
        process.signal(Signal::SIGABRT);
        wait::until("its end", envoy::PATIENCE, async || {
            process.exited().ok_or("it runs")
        })
        .await
        .unwrap();
        let log = read(process.log());
        assert!(
            String::from_utf8_lossy(&log).contains("TRACE"),
            "{} says little",
            process.name()
        );
        places.push((format!("{}'s log", process.name()), log));
    }
    places.push(("the Envoy's log".into(), read(proxy.process.log())));
    let dumped: Vec<_> = cores().difference(&before).cloned().collect();
    assert!(
        dumped.is_empty(),
        "a service wrote its memory to {dumped:?}"
    );
    for (place, content) in &places {
        assert!(!content.is_empty(), "{place} is empty");
        for canary in &canaries {
            assert!(!canary.is_in(content), "{} is in {place}", canary.what);
        }
    }
}
