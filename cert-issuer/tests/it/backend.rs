//! A server with an identity from the issuer, which says to each client whom it sees.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use store::etcd::EtcdStore;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::fixture::{Issuer, credential, json, until};

/// Who the backend is.
pub(crate) const PUSHER: &str = "spiffe://td/ns/weft-system/sa/xds-pusher";

type Config = Arc<Mutex<Option<Arc<ServerConfig>>>>;

pub(crate) struct Backend {
    pub(crate) port: u16,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Backend {
    /// Starts one that renews its certificate, and what it trusts, every two seconds.
    pub(crate) async fn start(issuer: &Issuer, store: &EtcdStore) -> Self {
        let token = credential(store, PUSHER, "pusher-1").await;
        let url = issuer.url("/v1/x509-svid");
        let mut client = issuer.client().await;
        let config = Config::default();
        let renewed = config.clone();
        let renew = tokio::spawn(async move {
            loop {
                let key = rcgen::KeyPair::generate().unwrap();
                let csr = rcgen::CertificateParams::default()
                    .serialize_request(&key)
                    .unwrap();
                let request = client.post(&url).body(csr.pem().unwrap());
                let answer = request.bearer_auth(token.expose()).send().await;
                if let Ok(answer) = answer
                    && answer.status().is_success()
                {
                    let signed = json(&answer.text().await.unwrap());
                    let text = |name: &str| signed[name].as_str().unwrap().to_owned();
                    let made = server(&text("chain"), &key.serialize_pem(), &text("bundle"));
                    *renewed.lock().unwrap() = Some(Arc::new(made));
                    // It trusts what it was told last.
                    let roots =
                        reqwest::Certificate::from_pem_bundle(text("bundle").as_bytes()).unwrap();
                    client = reqwest::Client::builder()
                        .no_proxy()
                        .tls_certs_only(roots)
                        .build()
                        .unwrap();
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        until("the backend's certificate", async || {
            config.lock().unwrap().is_some()
        })
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accept = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let config = config.lock().unwrap().clone().unwrap();
                tokio::spawn(async move { drop(serve(socket, config).await) });
            }
        });
        Self {
            port,
            _tasks: [renew, accept].map(AbortOnDropHandle::new),
        }
    }
}

fn server(chain: &str, key: &str, bundle: &str) -> ServerConfig {
    let certificates = |pem: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .map(Result::unwrap)
            .collect()
    };
    let mut roots = rustls::RootCertStore::empty();
    for root in certificates(bundle) {
        roots.add(root).unwrap();
    }
    let verifier = rustls::server::WebPkiClientVerifier::builder(roots.into())
        .build()
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(chain), key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Every connection shows its certificate.
    config.send_tls13_tickets = 0;
    config
}

async fn serve(socket: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<()> {
    let mut stream = tokio_rustls::TlsAcceptor::from(config)
        .accept(socket)
        .await?;
    let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let (id, _) = mtls::leaf(&leaf).unwrap();
    let serial = X509Certificate::from_der(&leaf)
        .unwrap()
        .1
        .raw_serial_as_string();
    stream
        .write_all(format!("{id} {serial}").as_bytes())
        .await?;
    stream.shutdown().await
}
