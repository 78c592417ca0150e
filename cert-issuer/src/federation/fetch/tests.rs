#![allow(clippy::unwrap_used)]
//! A real HTTPS server whose certificate carries a DNS name and a SPIFFE ID, as bundle endpoints have one or the other.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::*;

const PEER: &str = "spiffe://b/server";

struct Server {
    port: u16,
    authority: rcgen::Certificate,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = ca.self_signed(&ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
        leaf.subject_alt_names
            .push(SanType::URI(PEER.try_into().unwrap()));
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let signed = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![signed.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(socket).await.ok()?;
                    let mut asked = Vec::new();
                    while !asked.ends_with(b"\r\n\r\n") {
                        asked.push(stream.read_u8().await.ok()?);
                    }
                    let asked = String::from_utf8(asked).unwrap();
                    let path = asked.split(' ').nth(1).unwrap();
                    stream.write_all(answer(path, port).as_bytes()).await.ok()?;
                    stream.shutdown().await.ok()
                });
            }
        });
        Self {
            port,
            authority,
            _task: AbortOnDropHandle::new(task),
        }
    }

    async fn fetch(&self, path: &str, trust: &Trust) -> Result<TrustBundle, String> {
        let endpoint = Endpoint {
            url: format!("https://localhost:{}{path}", self.port),
            peer: None,
            local: true,
        };
        bundle(&endpoint, trust)
            .await
            .map_err(|error| chain(&error))
    }

    fn spiffe(&self, peer: &str) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        Trust::Spiffe(peer.parse().unwrap(), roots.into())
    }

    fn web(&self) -> Trust {
        Trust::Web(Some(self.authority.pem().as_bytes().into()))
    }
}

fn answer(path: &str, port: u16) -> String {
    let to = |url: String| format!("302 Found\r\nlocation: {url}\r\ncontent-length: 0\r\n\r\n");
    let body = |text: &str| format!("200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    let rest = match path {
        "/bundle" => body(r#"{"keys": [], "spiffe_sequence": 4}"#),
        "/moved" => to("/bundle".into()),
        "/loop" => to("/loop".into()),
        "/plain" => to(format!("http://localhost:{port}/bundle")),
        "/user" => to(format!("https://me@localhost:{port}/bundle")),
        "/text" => body("hello"),
        "/large" => body(&" ".repeat(LARGEST + 1)),
        _ => "404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
    };
    format!("HTTP/1.1 {rest}")
}

#[tokio::test]
async fn a_bundle_is_fetched_by_either_profile_and_through_a_redirect() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let server = Server::start().await;
    for trust in [server.web(), server.spiffe(PEER)] {
        for path in ["/bundle", "/moved"] {
            let fetched = server.fetch(path, &trust).await.unwrap();
            assert_eq!(fetched.sequence(), Some(4));
        }
    }
}

#[tokio::test]
async fn an_endpoint_must_be_the_right_one() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let (server, other) = (Server::start().await, Server::start().await);
    for (trust, named) in [
        (other.web(), "certificate"),
        (other.spiffe(PEER), "certificate"),
        (
            server.spiffe("spiffe://b/another"),
            "the peer is spiffe://b/server",
        ),
        (Trust::Web(None), "certificate"),
    ] {
        let error = server.fetch("/bundle", &trust).await.unwrap_err();
        assert!(error.contains(named), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_bundle_or_leads_elsewhere_is_refused() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let server = Server::start().await;
    for (path, named) in [
        ("/none", "404"),
        ("/text", "JWK set"),
        ("/large", "more than"),
        ("/loop", "redirects"),
        ("/plain", "must be an https URL"),
        ("/user", "without a user"),
    ] {
        let error = server.fetch(path, &server.web()).await.unwrap_err();
        assert!(error.contains(named), "{path}: {error}");
    }
    let near = Endpoint {
        url: format!("https://localhost:{}/bundle", server.port),
        peer: None,
        local: false,
    };
    let error = bundle(&near, &server.web()).await.unwrap_err().to_string();
    assert!(error.contains("allowLocalBundleEndpoints"), "{error}");
}

#[test]
fn only_https_urls_elsewhere_are_endpoints() {
    let allows = |url: &str, local| allowed(&Url::parse(url).unwrap(), local).is_ok();
    assert!(allows("https://b.example/bundle", false));
    for url in [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://169.254.169.254/",
        "https://2130706433/",
        "https://localhost/",
    ] {
        assert!(!allows(url, false), "{url}");
        assert!(allows(url, true), "{url}");
    }
    for url in [
        "http://b.example/",
        "https://u@b.example/",
        "https://:p@b.example/",
    ] {
        assert!(!allows(url, true), "{url}");
    }
}

#[tokio::test]
async fn a_name_that_leads_here_is_no_endpoint() {
    let found = |local| Resolver { local }.resolve("localhost".parse().unwrap());
    let error = found(false).await.err().unwrap().to_string();
    assert!(error.contains("allowLocalBundleEndpoints"), "{error}");
    assert!(found(true).await.is_ok());
}
