//! Two trust domains, each with a real issuer, and real Envoys of the first that take callers of the second.

use std::process::Command;
use std::sync::Arc;

use cert_issuer::authority::rotation::Step;
use cert_issuer::authority::{Authority, Policy};
use cert_issuer::ca::Ca;
use cert_issuer::envelope::KeyList;
use model::{Credential, Key, Kind, Metadata, Object};
use rcgen::{CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};
use serde_json::{Value, json};
use store::etcd::EtcdStore;
use store::testing::Etcd;
use store::{Area, Author, Expect, Op, Store, Vault};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::envoy::{Envoy, ORDERS, TYPE, cluster, sds};
use crate::fixture::{Issuer, KEYS, credential, json, until};

const PARTNER: &str = "spiffe://partner/ns/shop/sa/cart";
const CALLER: &str = "spiffe://td/ns/shop/sa/cart";
const ENDPOINT: &str = "spiffe://partner/ns/weft-system/sa/cert-issuer";

/// Bundles that are fetched every two seconds.
const BRIEF: [&str; 2] = ["--root-overlap=8s", "--root-patience=12h"];

/// Sets the MeshConfig.
async fn configure(store: &EtcdStore, spec: Value) {
    let key = Key::new(Kind::MeshConfig, "istio-system", "default");
    let before = store.get(&key).await.unwrap();
    let object = Object {
        kind: key.kind,
        metadata: Metadata {
            name: key.name.to_string(),
            namespace: key.namespace.to_string(),
            ..Metadata::default()
        },
        spec,
    };
    let expect = before.map_or(Expect::Absent, |it| Expect::At(it.revision().unwrap()));
    let put = Op::Put { object, expect };
    store.commit(vec![put], Author::default()).await.unwrap();
}

fn federated(url: &str, bundle: &str) -> Value {
    json!({"allowLocalBundleEndpoints": true, "federatedTrustDomains": [{
        "trustDomain": "partner",
        "bundleEndpointURL": url,
        "bundleEndpointProfile": {"type": "https_spiffe", "endpointSPIFFEID": ENDPOINT},
        "trustDomainBundle": bundle,
    }]})
}

fn authority(store: &EtcdStore, trust_domain: &str) -> Ca {
    let keys = KeyList::parse(KEYS).unwrap();
    let domain = trust_domain.parse().unwrap();
    Ca::new(Arc::new(store.clone()), keys, domain, Policy::default())
}

/// A certificate with its key, in files.
struct Shown {
    dir: tempfile::TempDir,
}

impl Shown {
    fn new(chain: &str, key: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("chain"), chain).unwrap();
        std::fs::write(dir.path().join("key"), key).unwrap();
        Self { dir }
    }

    /// What an issuer signs for a credential.
    async fn signed(issuer: &Issuer, token: &Credential) -> Self {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default();
        let csr = csr.serialize_request(&key).unwrap().pem().unwrap();
        let client = issuer.client().await;
        let mut signed = None;
        until("a certificate", async || {
            let request = client.post(issuer.url("/v1/x509-svid")).body(csr.clone());
            let answer = request.bearer_auth(token.expose()).send().await.unwrap();
            let fine = answer.status().is_success();
            signed = fine.then_some(answer);
            fine
        })
        .await;
        let signed = json(&signed.unwrap().text().await.unwrap());
        Self::new(signed["chain"].as_str().unwrap(), &key.serialize_pem())
    }

    /// A certificate of any name that an authority could sign, though no issuer would.
    fn forged(authority: &Authority, id: &str) -> Self {
        let signer = authority.issuing();
        let issuer = rcgen::Issuer::from_ca_cert_der(signer.certificate(), signer.key()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let chain = [leaf.der(), signer.certificate()];
        let chain = cert_issuer::x509::certificates_pem(chain);
        Self::new(&chain, &key.serialize_pem())
    }

    /// Whether who listens there takes it: then what is behind greets.
    async fn is_taken(&self, port: u16) -> bool {
        let at = |name: &str| self.dir.path().join(name);
        let mut client = Command::new("timeout");
        client
            .args([
                "30", "openssl", "s_client", "-quiet", "-alpn", "istio", "-connect",
            ])
            .arg(format!("127.0.0.1:{port}"))
            .arg("-cert")
            .arg(at("chain"))
            .arg("-cert_chain")
            .arg(at("chain"))
            .arg("-key")
            .arg(at("key"))
            .stdin(std::process::Stdio::null());
        let ran = tokio::task::spawn_blocking(move || client.output().unwrap());
        let ran = ran.await.unwrap();
        String::from_utf8_lossy(&ran.stdout).contains("hello")
    }
}

/// Greets who connects.
async fn greeter() -> (u16, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            drop(socket.write_all(b"hello\n").await);
        }
    });
    (port, AbortOnDropHandle::new(task))
}

/// An Envoy that takes callers of both trust domains, as a sidecar in mode STRICT does.
fn server(version: &str, token: &Credential, issuer: (&str, u16), greeter: u16) -> Envoy {
    let sds = sds("DELTA_GRPC");
    let prefix = |domain: &str| json!({"san_type": "URI", "matcher": {"prefix": format!("spiffe://{domain}/")}});
    let tls = json!({
        "@type": format!("{TYPE}.transport_sockets.tls.v3.DownstreamTlsContext"),
        "require_client_certificate": true,
        "common_tls_context": {
            "alpn_protocols": ["istio"],
            "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": sds}],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": [prefix("td"), prefix("partner")]},
                "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": sds},
            },
        },
    });
    let chain = json!({
        "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": format!("{TYPE}.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": "in", "cluster": "greeter",
        }}],
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    });
    let greeter = cluster("greeter", greeter, None);
    Envoy::with_chain(
        version,
        "sidecar~shop~orders-v1",
        token,
        issuer,
        &greeter,
        &chain,
    )
}

async fn callers_of_a_federated_trust_domain(version: &str) {
    let (own, partners) = (Etcd::start().await, Etcd::start().await);
    let (store, partner_store) = (own.store(), partners.store());
    let partner = Issuer::of("partner", &partners, &BRIEF).await;
    let issuer = Issuer::start(&own, &BRIEF).await;
    let (greeter, _greets) = greeter().await;
    let token = credential(&store, ORDERS, "orders-v1").await;
    let bundle = issuer.bundle().await;
    let envoy = server(version, &token, (&bundle, issuer.address.port()), greeter);

    let caller = credential(&store, CALLER, "cart-v1").await;
    let caller = Shown::signed(&issuer, &caller).await;
    until(&format!("its own callers\n{}", envoy.log()), async || {
        caller.is_taken(envoy.listener).await
    })
    .await;
    let friend = credential(&partner_store, PARTNER, "cart-v1").await;
    let before = Shown::signed(&partner, &friend).await;
    assert!(
        !before.is_taken(envoy.listener).await,
        "nobody knows it yet"
    );

    // What a person would do: the bundle, once, by another way.
    let first = partner.admin("/bundle").await.unwrap();
    configure(&store, federated(&partner.url("/bundle"), &first)).await;
    until(
        &format!("callers of the partner\n{}", envoy.log()),
        async || before.is_taken(envoy.listener).await,
    )
    .await;
    assert!(caller.is_taken(envoy.listener).await);

    // Neither may vouch for the other's workloads.
    let (ours, _) = authority(&store, "td").load().await.unwrap();
    let theirs = authority(&partner_store, "partner");
    let (their_authority, _) = theirs.load().await.unwrap();
    for (what, forged, taken) in [
        ("ours by ours", Shown::forged(&ours, CALLER), true),
        (
            "theirs by theirs",
            Shown::forged(&their_authority, PARTNER),
            true,
        ),
        (
            "ours by theirs",
            Shown::forged(&their_authority, CALLER),
            false,
        ),
        ("theirs by ours", Shown::forged(&ours, PARTNER), false),
        (
            "a stranger's by theirs",
            Shown::forged(&their_authority, "spiffe://else/ns/a/sa/b"),
            false,
        ),
    ] {
        assert_eq!(
            forged.is_taken(envoy.listener).await,
            taken,
            "{what}\n{}",
            envoy.log()
        );
    }

    // Their new root signs only after others may have heard of it, so nothing is missed.
    theirs.force(&Step::PrepareRoot).await.unwrap();
    let old = their_authority.active_root().name.clone();
    until("the partner's new root to sign", async || {
        theirs.load().await.unwrap().0.active_root().name != old
    })
    .await;
    let after = Shown::signed(&partner, &friend).await;
    assert!(after.is_taken(envoy.listener).await, "{}", envoy.log());
    assert!(before.is_taken(envoy.listener).await);
    // What they distrust is distrusted here, too.
    theirs.force(&Step::RevokeRoot(old)).await.unwrap();
    until("the revoked root to be refused", async || {
        !before.is_taken(envoy.listener).await
    })
    .await;
    assert!(after.is_taken(envoy.listener).await, "{}", envoy.log());
    let stored = store.read(Area::Federation, "partner").await.unwrap();
    assert!(stored.is_some(), "what was fetched is kept");

    // Without the partner's issuer the last bundle stays, and that is said.
    partner.stop().await;
    until("readiness to say so", async || {
        let ready = issuer.admin("/readyz").await.unwrap();
        ready.contains("partner: not refreshed, the last bundle stays in force")
    })
    .await;
    assert!(after.is_taken(envoy.listener).await);
    let metrics = issuer.admin("/metrics").await.unwrap();
    let failed = metrics.lines().find(|line| {
        line.starts_with("weft_issuer_federation_refreshes_total") && line.contains("\"failed\"")
    });
    assert!(failed.unwrap().contains("trust_domain=\"partner\""));

    configure(&store, json!({})).await;
    until("the partner to be nobody again", async || {
        !after.is_taken(envoy.listener).await
    })
    .await;
    assert!(caller.is_taken(envoy.listener).await);
    until("what was fetched to be forgotten", async || {
        let stored = store.read(Area::Federation, "partner").await.unwrap();
        let ready = issuer.admin("/readyz").await.unwrap();
        stored.is_none() && !ready.contains("partner")
    })
    .await;
    issuer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_federated_trust_domain_on_1_40() {
    callers_of_a_federated_trust_domain("1.40.0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_federated_trust_domain_on_1_36() {
    callers_of_a_federated_trust_domain("1.36.4").await;
}

/// Each trust domain's bundle is a secret of its own, and the endpoint does not ask who asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_are_secrets_of_their_own() {
    let (own, partners) = (Etcd::start().await, Etcd::start().await);
    let store = own.store();
    let partner = Issuer::of("partner", &partners, &BRIEF).await;
    let issuer = Issuer::start(&own, &[]).await;
    let token = credential(&store, ORDERS, "orders-v1").await;
    let client = issuer.client().await;
    let ask = async |name: &str| {
        let request = client.post(issuer.url("/v3/discovery:secrets"));
        let node = json!({"id": "sidecar~shop~orders-v1"});
        let request = request.json(&json!({"node": node, "resource_names": [name]}));
        request.bearer_auth(token.expose()).send().await.unwrap()
    };
    until("the credential to be known", async || {
        ask("ROOTCA").await.status().is_success()
    })
    .await;
    assert!(!ask("spiffe://partner").await.status().is_success());
    let open = partner.client().await.get(partner.url("/bundle"));
    let bundle = open.send().await.unwrap().text().await.unwrap();
    assert_eq!(json(&bundle)["spiffe_refresh_hint"], 2);
    let static_only =
        json!({"federatedTrustDomains": [{"trustDomain": "partner", "trustDomainBundle": bundle}]});
    configure(&store, static_only).await;
    until("the partner's bundle", async || {
        ask("spiffe://partner").await.status().is_success()
    })
    .await;
    let text = async |name: &str| -> String {
        let answer = ask(name).await.text().await.unwrap();
        answer.replace("\\n", "")
    };
    let pem = |bundle: String| bundle.replace('\n', "");
    let (ours, theirs) = (pem(issuer.bundle().await), pem(partner.bundle().await));
    let in_each = [
        (text("spiffe://td").await, true, false),
        (text("spiffe://partner").await, false, true),
        (text("ROOTCA").await, true, true),
    ];
    for (secret, has_ours, has_theirs) in in_each {
        assert_eq!(secret.contains(&ours), has_ours, "{secret}");
        assert_eq!(secret.contains(&theirs), has_theirs, "{secret}");
    }
    let stranger = ask("spiffe://stranger").await;
    assert!(!stranger.status().is_success());
    issuer.stop().await;
}
