//! TLS towards etcd.
//!
//! etcd looks at certificates while a connection is made and never again, so that is when they are looked at here: every
//! connection asks its [`TlsSource`] anew. What was renewed is in force at the next connection, and open ones stay.
//!
//! *Invariant:* nothing here keeps a key, and no `Debug` shows one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Channel, Client, Error};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncBufReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Endpoint, Uri};

use super::EtcdConfig;
use super::config::KEEP_ALIVE;

/// How long a new connection waits for the server's first word.
const GREETING: Duration = Duration::from_secs(1);

/// A certificate, the issuing ones behind it, and its private key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What one connection to etcd believes and shows.
pub struct EtcdTls {
    /// The authorities that sign the servers' certificates.
    pub roots: RootCertStore,
    /// What we show, where etcd demands a certificate.
    pub identity: Option<Identity>,
    /// The name the servers' certificates must carry, if not the one in the endpoint.
    pub server_name: Option<String>,
}

impl EtcdTls {
    fn client(self) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(self.roots);
        let mut config = match self.identity {
            None => config.with_no_client_auth(),
            Some((chain, key)) => config
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("the certificate and its key: {error}"))?,
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        // What a session was begun with may have been replaced.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

type Make = dyn Fn() -> Result<EtcdTls, String> + Send + Sync;

/// Where every connection gets what it believes and shows.
#[derive(Clone)]
pub struct TlsSource(Arc<Make>);

impl fmt::Debug for TlsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsSource")
    }
}

impl TlsSource {
    /// `make` is called for every connection, and may block.
    pub fn new(make: impl Fn() -> Result<EtcdTls, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// Whether a connection could be begun with what there is now.
    pub(super) fn check(&self) -> Result<(), String> {
        self.0()?.client().map(drop)
    }
}

/// The authorities in a file.
pub(super) fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for root in certificates(path)? {
        let added = roots.add(root);
        added.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}

/// The certificate in a file and its key in another.
pub(super) fn identity((certificate, key): &(PathBuf, PathBuf)) -> Result<Identity, String> {
    let chain = certificates(certificate)?;
    let wrong = |error| format!("{} holds no private key in PEM: {error}", key.display());
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(wrong)?;
    Ok((chain, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| format!("{} is not PEM: {error}", path.display()))?;
    if found.is_empty() {
        return Err(format!("{} holds no certificate in PEM", path.display()));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// A client of one server, which connects when it is used, and again whenever the connection was lost.
pub(super) async fn connect(
    endpoint: &str,
    config: &EtcdConfig,
    source: &TlsSource,
) -> Result<Client, Error> {
    let uri: Uri = endpoint.parse()?;
    let connector = source.clone();
    let connect = tower::service_fn(move |uri: Uri| handshake(uri, connector.clone()));
    // The channel's scheme says HTTP, because TLS is the connector's; what etcd is told is the truth.
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let channel = Endpoint::from_shared(format!("http://{authority}"))?
        .origin(uri)
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .keep_alive_while_idle(false)
        .connect_timeout(config.request_timeout)
        .connect_with_connector_lazy(connect);
    Client::from_channel(Channel::Tonic(channel), Some(config.options())).await
}

async fn handshake(
    uri: Uri,
    source: TlsSource,
) -> std::io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let host = uri.host().unwrap_or_default();
    let at = format!("{host}:{}", uri.port_u16().unwrap_or(443));
    let wrong = |error: String| std::io::Error::other(format!("TLS to {at}: {error}"));
    let made = tokio::task::spawn_blocking(move || {
        let tls = source.0()?;
        let name = tls.server_name.clone();
        Ok((name, tls.client()?))
    });
    let made = made.await.map_err(std::io::Error::other)?;
    let (name, config) = made.map_err(wrong)?;
    let name = name.unwrap_or_else(|| host.trim_matches(['[', ']']).to_owned());
    let name = ServerName::try_from(name).map_err(|error| wrong(error.to_string()))?;
    let socket = TcpStream::connect(&at).await?;
    socket.set_nodelay(true)?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, socket);
    let mut stream = connected.await.map_err(|error| wrong(error.to_string()))?;
    // In TLS 1.3 a server refuses our certificate when the handshake is over for us. Otherwise etcd speaks first, as HTTP/2
    // wants it; a proxy before it may wait for us, and is not waited for.
    if let Ok(greeted) = tokio::time::timeout(GREETING, stream.fill_buf()).await {
        let greeting = greeted.map_err(|error| wrong(error.to_string()))?;
        if greeting.is_empty() {
            return Err(wrong("the server closed the connection".into()));
        }
    }
    Ok(TokioIo::new(stream))
}
