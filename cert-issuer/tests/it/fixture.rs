//! An issuer to test, over a real etcd.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cert_issuer::{Config, Listeners};
use clap::Parser;
use model::{Credential, CredentialRecord, Identity};
use ring::rand::SecureRandom;
use serde_json::Value;
use store::etcd::EtcdStore;
use store::testing::Etcd;
use store::{Area, Expect, Vault, VaultOp};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

/// How long a condition may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A key-encryption key.
pub(crate) const KEYS: &str = "first:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    config: Config,
}

/// A running issuer.
pub(crate) struct Issuer {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Issuer {
    /// One whose certificates are short-lived, so that much happens in a test.
    pub(crate) async fn start(etcd: &Etcd, flags: &[&str]) -> Self {
        Self::of("td", etcd, flags).await
    }

    /// One of another trust domain.
    pub(crate) async fn of(trust_domain: &str, etcd: &Etcd, flags: &[&str]) -> Self {
        let trust_domain = format!("--trust-domain={trust_domain}");
        let always = [
            "test",
            "--listen=127.0.0.1:0",
            "--admin-listen=127.0.0.1:0",
            &trust_domain,
        ];
        let mut config = Flags::parse_from([&always, flags].concat()).config;
        config.authority.key_encryption_keys = Some(KEYS.to_owned());
        let store = Arc::new(etcd.store());
        let listeners = Listeners::bind(&config).await.unwrap();
        let (address, admin) = (listeners.grpc().unwrap(), listeners.admin().unwrap());
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let running = tokio::spawn(async move {
            cert_issuer::run(config, listeners, store, token)
                .await
                .unwrap();
        });
        let issuer = Self {
            address,
            admin,
            shutdown,
            running,
        };
        until("the issuer to be ready", async || {
            issuer.admin("/readyz").await.is_some()
        })
        .await;
        issuer
    }

    /// The body of a 200 of the admin port.
    pub(crate) async fn admin(&self, path: &str) -> Option<String> {
        get(self.admin, path).await
    }

    pub(crate) async fn bundle(&self) -> String {
        self.admin("/bundle.pem").await.unwrap()
    }

    /// An HTTP client that trusts the issuer.
    pub(crate) async fn client(&self) -> reqwest::Client {
        self.builder().await.build().unwrap()
    }

    pub(crate) async fn builder(&self) -> reqwest::ClientBuilder {
        drop(rustls::crypto::ring::default_provider().install_default());
        let roots = reqwest::Certificate::from_pem_bundle(self.bundle().await.as_bytes()).unwrap();
        reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .tls_certs_only(roots)
    }

    /// A connection of nobody in particular.
    pub(crate) async fn channel(&self) -> Channel {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.bundle().await))
            .domain_name("cert-issuer");
        let channel = Channel::from_shared(self.url("")).unwrap().tls_config(tls);
        channel.unwrap().connect().await.unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        let running = &mut self.running;
        tokio::time::timeout(PATIENCE, running)
            .await
            .expect("it stops")
            .unwrap();
    }
}

/// A credential for a workload, as config-api will make it.
pub(crate) async fn credential(store: &EtcdStore, identity: &str, workload: &str) -> Credential {
    let mut random = zeroize::Zeroizing::new([0; model::CREDENTIAL_BYTES]);
    ring::rand::SystemRandom::new()
        .fill(random.as_mut())
        .unwrap();
    let credential = Credential::new(&random);
    let record = CredentialRecord {
        identity: identity.parse::<Identity>().unwrap(),
        workload: workload.to_owned(),
        workload_uid: None,
        created: jiff::Timestamp::now(),
    };
    let put = VaultOp::Put {
        path: credential.hash(),
        value: record.to_bytes(),
        expect: Expect::Absent,
    };
    store.write(Area::Tokens, vec![put], None).await.unwrap();
    credential
}

/// Revokes a credential.
pub(crate) async fn revoke(store: &EtcdStore, credential: &Credential) {
    let path = credential.hash();
    let entry = store.read(Area::Tokens, &path).await.unwrap().unwrap();
    let delete = VaultOp::Delete {
        path,
        expect: entry.revision,
    };
    store.write(Area::Tokens, vec![delete], None).await.unwrap();
}

/// The body of a 200 over plain HTTP.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Option<String> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .unwrap();
    let response = client
        .get(format!("http://{address}{path}"))
        .send()
        .await
        .ok()?;
    if !response.status().is_success() {
        return None;
    }
    response.text().await.ok()
}

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
