//! Authorities of a test, and clients that say what a server showed them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use weft_tests::{http, wait};

/// Who signs certificates of a test.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) chain: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(super) fn pair(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        Pair {
            chain: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn key(&self) -> String {
        self.0.key().serialize_pem()
    }
}

impl Pair {
    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()
    }

    /// Lines of the key that nobody may ever see.
    pub(super) fn secrets(&self) -> Vec<&str> {
        // 36 bytes of PKCS#8 come before the secret.
        let mut lines = self.key.lines().skip(1);
        let first = &lines.next().unwrap()[48..];
        lines
            .filter(|line| !line.starts_with('-'))
            .chain([first])
            .collect()
    }
}

/// A client of servers.
#[derive(Clone)]
pub(super) struct Client {
    connector: TlsConnector,
    address: SocketAddr,
    host: &'static str,
}

impl Client {
    pub(super) fn new(
        address: SocketAddr,
        host: &'static str,
        trusts: &str,
        shows: Option<&Pair>,
    ) -> Self {
        http::install_crypto();
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(trusts.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match shows {
            None => config.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![pair.der()], key).unwrap()
            }
        };
        Self {
            connector: TlsConnector::from(Arc::new(config)),
            address,
            host,
        }
    }

    async fn connect(&self) -> Result<Line> {
        let socket = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(self.host)?;
        let stream = self.connector.connect(name, socket).await?;
        let host = self.host;
        Ok(Line { stream, host })
    }

    /// The body of a 200 over a connection of its own, and the certificate that was shown.
    pub(super) async fn get(&self) -> Result<(String, CertificateDer<'static>)> {
        let mut line = self.connect().await?;
        Ok((line.get().await?, line.shown()))
    }

    /// Waits until the server shows this certificate to new connections, many times in a row: workers hear of it one by one.
    pub(super) async fn until_shown(&self, pair: &Pair) {
        wait::until("the certificate", wait::PATIENCE, async || {
            for _ in 0..10 {
                ensure!(self.get().await?.1 == pair.der(), "another one is shown");
            }
            Ok(())
        })
        .await
        .unwrap();
    }
}

/// A connection that is kept.
pub(super) struct Line {
    stream: TlsStream<TcpStream>,
    host: &'static str,
}

impl Line {
    fn shown(&self) -> CertificateDer<'static> {
        self.stream.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    }

    /// The body of a 200.
    async fn get(&mut self) -> Result<String> {
        let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        self.stream.write_all(request.as_bytes()).await?;
        let (mut answer, mut buffer) = (String::new(), [0; 4096]);
        loop {
            let read = self.stream.read(&mut buffer).await?;
            ensure!(read > 0, "the connection ended after {answer:?}");
            answer.push_str(std::str::from_utf8(&buffer[..read])?);
            let Some((head, body)) = answer.split_once("\r\n\r\n") else {
                continue;
            };
            ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.context("no length")?.trim().parse()? {
                return Ok(body.to_owned());
            }
        }
    }
}

/// Replaces a server's certificate under load: new connections get it, no request fails, and a connection that was open stays.
pub(super) async fn replaced_live(
    client: &Client,
    old: &Pair,
    new: &Pair,
    replace: impl AsyncFnOnce(),
) {
    client.until_shown(old).await;
    let (stop, made) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut tasks = tokio::task::JoinSet::new();
    for keeps in [true, false, false] {
        let (client, stop, made) = (client.clone(), stop.clone(), made.clone());
        tasks.spawn(async move {
            let mut line = client.connect().await?;
            while !stop.load(Ordering::Relaxed) {
                if !keeps {
                    line = client.connect().await?;
                }
                line.get().await?;
                made.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok((keeps, line.shown()))
        });
    }
    let more = async || {
        let goal = made.load(Ordering::Relaxed) + 50;
        wait::until("requests", wait::PATIENCE, async || {
            match made.load(Ordering::Relaxed) {
                made if made >= goal => Ok(()),
                made => Err(format!("{made} of {goal}")),
            }
        })
        .await
        .unwrap();
    };
    more().await;
    replace().await;
    client.until_shown(new).await;
    more().await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        let (kept, shown) = ended.unwrap().unwrap();
        assert_eq!(
            shown == old.der(),
            kept,
            "an open connection stays as it is"
        );
    }
}
