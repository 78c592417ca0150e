//! Real Envoys that get their identity from the issuer and use it: the shape of a workload's bootstrap, with a backend that
//! demands their certificate.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use cert_issuer::authority::rotation::Step;
use cert_issuer::ca::Ca;
use model::Credential;
use serde_json::{Value, json};
use store::testing::Etcd;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::backend::Backend;
use crate::fixture::{Issuer, KEYS, PATIENCE, credential, get, json, revoke, until};

pub(crate) const ORDERS: &str = "spiffe://td/ns/shop/sa/orders";

/// Certificates that are renewed every 15 s, and authorities that outlast the test unless they are told to go.
const BRIEF: [&str; 4] = [
    "--svid-ttl=30s",
    "--root-overlap=8s",
    "--root-patience=12h",
    "--issuing-ttl=240h",
];

pub(crate) struct Envoy {
    process: Child,
    dir: TempDir,
    admin: u16,
    pub(crate) listener: u16,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

fn at(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

pub(crate) fn cluster(name: &str, port: u16, tls: Option<&Value>) -> Value {
    let mut cluster = json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(port)}}]}]},
    });
    if let Some(tls) = tls {
        cluster["transport_socket"] =
            json!({"name": "envoy.transport_sockets.tls", "typed_config": tls});
    }
    cluster
}

pub(crate) const TYPE: &str = "type.googleapis.com/envoy.extensions";

/// Where secrets come from.
pub(crate) fn sds(api_type: &str) -> Value {
    json!({
        "resource_api_version": "V3", "initial_fetch_timeout": "5s",
        "api_config_source": {
            "api_type": api_type, "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {
                "cluster_name": "weft-issuer",
                "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}},
            }, "timeout": "0s"}],
        },
    })
}

/// A filter that adds a secret to requests.
pub(crate) fn injector(credential: &Value) -> Value {
    json!({"name": "envoy.filters.http.credential_injector", "typed_config": {
        "@type": format!("{TYPE}.filters.http.credential_injector.v3.CredentialInjector"), "overwrite": true,
        "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": {
            "@type": format!("{TYPE}.http.injected_credentials.generic.v3.Generic"),
            "credential": credential, "header": "authorization",
        }},
    }})
}

/// The way to the issuer, with a credential and a pinned bundle.
fn issuer_cluster(port: u16, bundle: &str) -> Value {
    let tls = json!({
        "@type": format!("{TYPE}.transport_sockets.tls.v3.UpstreamTlsContext"), "sni": "pusher",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "validation_context": {"trusted_ca": {"inline_string": bundle}},
        },
    });
    let mut issuer = cluster("weft-issuer", port, Some(&tls));
    issuer["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": format!("{TYPE}.upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": {"http2_protocol_options": {"connection_keepalive": {"interval": "5s", "timeout": "3s"}}},
        "http_filters": [
            injector(&json!({"name": "weft-credential"})),
            {"name": "envoy.filters.http.upstream_codec", "typed_config": {
                "@type": format!("{TYPE}.filters.http.upstream_codec.v3.UpstreamCodec"),
            }},
        ],
    }});
    issuer
}

impl Envoy {
    /// One whose listener passes connections to the backend, with the identity that it gets over SDS.
    fn start(
        version: &str,
        api_type: &str,
        node: &str,
        token: &Credential,
        bundle: &str,
        issuer: u16,
        backend: u16,
    ) -> Self {
        let sds = sds(api_type);
        let tls = json!({
            "@type": format!("{TYPE}.transport_sockets.tls.v3.UpstreamTlsContext"), "sni": "pusher",
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": sds}],
                "combined_validation_context": {
                    "default_validation_context": {"match_typed_subject_alt_names": [
                        {"san_type": "URI", "matcher": {"exact": crate::backend::PUSHER}},
                    ]},
                    "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": sds},
                },
            },
        });
        let backend = cluster("backend", backend, Some(&tls));
        let filter = json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": format!("{TYPE}.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": "in", "cluster": "backend",
        }});
        Self::with(version, node, token, (bundle, issuer), &backend, &filter)
    }

    /// One with a filter for connections, a cluster, and a way to the issuer.
    pub(crate) fn with(
        version: &str,
        node: &str,
        token: &Credential,
        issuer: (&str, u16),
        backend: &Value,
        filter: &Value,
    ) -> Self {
        let chain = json!({"filters": [filter]});
        Self::with_chain(version, node, token, issuer, backend, &chain)
    }

    /// One with a whole filter chain.
    pub(crate) fn with_chain(
        version: &str,
        node: &str,
        token: &Credential,
        (bundle, issuer): (&str, u16),
        backend: &Value,
        chain: &Value,
    ) -> Self {
        let (admin, listener) = (free_port(), free_port());
        let bootstrap = json!({
            "node": {"id": node, "cluster": "orders"},
            "admin": {"address": at(admin)},
            "static_resources": {
                "secrets": [{"name": "weft-credential", "generic_secret": {
                    "secret": {"inline_string": format!("Bearer {}", token.expose())},
                }}],
                "clusters": [backend, issuer_cluster(issuer, bundle)],
                "listeners": [{"name": "in", "address": at(listener), "filter_chains": [chain]}],
            },
        });
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bootstrap.json");
        std::fs::write(&file, bootstrap.to_string()).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools");
        let program = tools.join(format!("envoy-{version}"));
        assert!(
            program.exists(),
            "{} is missing: run tests/install-tools",
            program.display()
        );
        let process = Command::new(program)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "-c"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            process,
            dir,
            admin,
            listener,
        }
    }

    pub(crate) async fn ask(&self, path: &str) -> String {
        get((Ipv4Addr::LOCALHOST, self.admin).into(), path)
            .await
            .unwrap_or_default()
    }

    pub(crate) async fn stat(&self, name: &str) -> u64 {
        let body = self.ask(&format!("/stats?filter=^{name}$")).await;
        body.rsplit(": ")
            .next()
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(0)
    }

    /// What the backend says about a connection through this Envoy: the identity and serial number it was shown.
    async fn call(&self) -> Result<(String, String), String> {
        let call = async {
            let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.listener)).await?;
            let mut said = String::new();
            socket.read_to_string(&mut said).await?;
            std::io::Result::Ok(said)
        };
        let said = tokio::time::timeout(PATIENCE, call)
            .await
            .map_err(|e| e.to_string())?;
        let said = said.map_err(|e| e.to_string())?;
        let (id, serial) = said
            .split_once(' ')
            .ok_or_else(|| format!("it said {said:?}"))?;
        Ok((id.to_owned(), serial.to_owned()))
    }

    /// Waits until calls work.
    async fn works(&self) -> (String, String) {
        let mut last = None;
        until(&format!("calls to work\n{}", self.log()), async || {
            last = self.call().await.ok();
            last.is_some()
        })
        .await;
        last.unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

async fn fetches_and_uses_its_identity(version: &str, api_type: &str) {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    let issuer = Issuer::start(&etcd, &BRIEF).await;
    let backend = Backend::start(&issuer, &store).await;
    let token = credential(&store, ORDERS, "orders-v1").await;
    let start = |node: &str, token: &Credential, bundle: &str| {
        Envoy::start(
            version,
            api_type,
            node,
            token,
            bundle,
            issuer.address.port(),
            backend.port,
        )
    };
    let bundle = issuer.bundle().await;
    let envoy = start("sidecar~shop~orders-v1", &token, &bundle);
    let (id, first) = envoy.works().await;
    assert_eq!(id, ORDERS);
    let certs = json(&envoy.ask("/certs").await);
    let shown = certs["certificates"].to_string();
    assert!(shown.contains(ORDERS), "{shown}");
    let dump = envoy.ask("/config_dump").await;
    assert!(
        !dump.contains(token.expose()),
        "the credential shows in the dump"
    );

    // Another one of the account has a key of its own.
    let other = credential(&store, ORDERS, "orders-v2").await;
    let second = start("sidecar~shop~orders-v2", &other, &bundle);
    assert_ne!(second.works().await.1, first);

    // Renewal is pushed: nobody reconnects for it.
    until("a renewed certificate", async || {
        envoy.call().await.unwrap().1 != first
    })
    .await;
    assert_eq!(envoy.stat("cluster.weft-issuer.upstream_cx_total").await, 1);
    let update = "sds.default.update_rejected|cluster.backend.client_ssl_socket_factory.ssl_context_update_by_sds";
    assert!(
        !envoy
            .ask(&format!("/stats?filter={update}"))
            .await
            .contains("update_rejected: 1")
    );

    // A node that the credential is not for, and a credential that nobody issued.
    let node = start("sidecar~shop~orders-v3", &token, &bundle);
    let namespace = start("sidecar~bank~orders-v1", &token, &bundle);
    let unknown = Credential::new(&zeroize::Zeroizing::new([1; 32]));
    let stranger = start("sidecar~shop~orders-v1", &unknown, &bundle);
    for refused in [&node, &namespace, &stranger] {
        until("the refusal", async || {
            let failed = refused.stat("cluster.weft-issuer.upstream_cx_total").await > 0;
            failed && refused.ask("/server_info").await.contains("LIVE")
        })
        .await;
        assert!(refused.call().await.is_err());
        assert!(!refused.ask("/certs").await.contains("spiffe://td/"));
    }
    let metrics = issuer.admin("/metrics").await.unwrap();
    for reason in ["authentication", "authorization"] {
        let line = format!("weft_issuer_refusals_total{{reason=\"{reason}\"}}");
        assert!(metrics.contains(&line), "{metrics}");
    }
    issuer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_streams_of_a_revoked_credential_end_at_once() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    // Nothing is renewed during the test: only the revocation can end the streams.
    let issuer = Issuer::start(&etcd, &["--svid-ttl=24h"]).await;
    let backend = Backend::start(&issuer, &store).await;
    let bundle = issuer.bundle().await;
    let ports = (issuer.address.port(), backend.port);
    let start = |node: &str, token: &Credential| {
        Envoy::start(
            "1.40.0",
            "DELTA_GRPC",
            node,
            token,
            &bundle,
            ports.0,
            ports.1,
        )
    };
    let token = credential(&store, ORDERS, "orders-v1").await;
    let other = credential(&store, ORDERS, "orders-v2").await;
    let envoy = start("sidecar~shop~orders-v1", &token);
    let bystander = start("sidecar~shop~orders-v2", &other);
    envoy.works().await;
    bystander.works().await;
    let failures = async |envoy: &Envoy| {
        let of = async |secret: &str| envoy.stat(&format!("sds.{secret}.update_failure")).await;
        (of("default").await, of("ROOTCA").await)
    };
    // At the start the issuer may not have known the credentials yet.
    let (before, undisturbed) = (failures(&envoy).await, failures(&bystander).await);
    revoke(&store, &token).await;
    until("the end of both streams", async || {
        let (certificate, roots) = failures(&envoy).await;
        certificate > before.0 && roots > before.1
    })
    .await;
    assert_eq!(failures(&bystander).await, undisturbed);
    issuer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_envoy_fetches_and_uses_its_identity() {
    fetches_and_uses_its_identity("1.40.0", "DELTA_GRPC").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_envoy_fetches_and_uses_its_identity() {
    fetches_and_uses_its_identity("1.36.4", "GRPC").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issuing_certificate_and_root_rotate_without_a_failed_connection() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    let issuer = Issuer::start(&etcd, &BRIEF).await;
    let backend = Backend::start(&issuer, &store).await;
    let token = credential(&store, ORDERS, "orders-v1").await;
    let bundle = issuer.bundle().await;
    let (issuer_port, backend_port) = (issuer.address.port(), backend.port);
    let node = "sidecar~shop~orders-v1";
    let envoy = Envoy::start(
        "1.40.0",
        "DELTA_GRPC",
        node,
        &token,
        &bundle,
        issuer_port,
        backend_port,
    );
    envoy.works().await;

    let keys = cert_issuer::envelope::KeyList::parse(KEYS).unwrap();
    let policy = cert_issuer::authority::Policy::default();
    let ca = Ca::new(Arc::new(store.clone()), keys, "td".parse().unwrap(), policy);
    let roots = |pem: &str| pem.matches("BEGIN CERTIFICATE").count();
    let mut calls = 0;
    let mut waiting = async |what: &str, step: Option<Step>, holds: &dyn Fn(&str) -> bool| {
        if let Some(step) = step {
            ca.force(&step).await.unwrap();
        }
        until(what, async || {
            let call = envoy.call().await;
            assert!(call.is_ok(), "{what}: {call:?}\n{}", envoy.log());
            calls += 1;
            holds(&issuer.bundle().await)
        })
        .await;
    };
    waiting(
        "the issuing certificate",
        Some(Step::RotateIssuing),
        &|_| true,
    )
    .await;
    waiting("two roots", Some(Step::PrepareRoot), &|pem| roots(pem) == 2).await;
    let both = issuer.bundle().await;
    assert!(both.starts_with(&bundle), "the old one and a new one");
    waiting("the old root to go", None, &|pem| roots(pem) == 1).await;
    assert_ne!(issuer.bundle().await, bundle);
    waiting("certificates after that", None, &|_| true).await;
    assert!(calls > 20, "{calls} calls");

    // Started again, it knows nothing but its bootstrap, which pins a root that is gone; and it goes on.
    drop(envoy);
    let again = Envoy::start(
        "1.36.4",
        "DELTA_GRPC",
        node,
        &token,
        &bundle,
        issuer_port,
        backend_port,
    );
    let (_, first) = again.works().await;
    until("a renewed certificate", async || {
        again.call().await.unwrap().1 != first
    })
    .await;
    issuer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_is_activated_when_the_proxies_of_all_replicas_have_it() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    let first = Issuer::start(&etcd, &BRIEF).await;
    let second = Issuer::start(&etcd, &BRIEF).await;
    let backend = Backend::start(&first, &store).await;
    let bundle = first.bundle().await;
    // One at each replica, of which one leads.
    let mut envoys = Vec::new();
    for (name, issuer) in [("orders-v1", &first), ("orders-v2", &second)] {
        let token = credential(&store, ORDERS, name).await;
        let (node, port) = (format!("sidecar~shop~{name}"), issuer.address.port());
        let envoy = Envoy::start(
            "1.40.0",
            "DELTA_GRPC",
            &node,
            &token,
            &bundle,
            port,
            backend.port,
        );
        envoy.works().await;
        envoys.push(envoy);
    }
    let keys = cert_issuer::envelope::KeyList::parse(KEYS).unwrap();
    let policy = cert_issuer::authority::Policy::default();
    let ca = Ca::new(Arc::new(store.clone()), keys, "td".parse().unwrap(), policy);
    let prepared = ca.force(&Step::PrepareRoot).await.unwrap();
    let (old, new) = (&prepared.roots()[0].name, &prepared.roots()[1].name);
    assert_eq!(prepared.active_root().name, *old);
    // Patience lasts for hours: it is activated because everybody has acknowledged it.
    until("the new root to be active", async || {
        ca.load().await.unwrap().0.active_root().name == *new
    })
    .await;
    for envoy in &envoys {
        assert!(envoy.call().await.is_ok(), "{}", envoy.log());
    }
    first.stop().await;
    second.stop().await;
}
