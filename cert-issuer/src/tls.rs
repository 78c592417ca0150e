//! The issuer's own TLS: a certificate from its own authority, renewed like any other, and the identities of peers.
//!
//! *Invariant:* no session outlives its handshake's trust: sessions are not resumed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::Identity;
use ring::rand::SystemRandom;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use telemetry::Check;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::authority::{Authority, AuthorityError};
use crate::ca::{Current, chain};
use crate::caller::Connection;
use crate::key::PrivateKey;
use crate::sds::renewal;
use crate::x509;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How many handshakes may be under way.
const HANDSHAKES: usize = 256;

/// Why the issuer cannot serve TLS.
#[derive(Debug, thiserror::Error)]
enum TlsError {
    #[error("the issuer's own certificate cannot be signed")]
    Sign(#[from] AuthorityError),
    #[error("the TLS library takes no client verifier")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("the TLS library does not take the certificate")]
    Tls(#[from] rustls::Error),
}

/// How connections are served; `None` until there is an authority.
pub(crate) type Serving = watch::Receiver<Option<Arc<ServerConfig>>>;

/// Who the issuer is to its clients.
pub(crate) struct Own {
    pub(crate) identity: Identity,
    pub(crate) server_names: Vec<String>,
    pub(crate) ttl: SignedDuration,
}

impl Own {
    /// Keeps a certificate for the issuer itself, for ever.
    pub(crate) async fn keep(
        self,
        mut current: Current,
        publish: watch::Sender<Option<Arc<ServerConfig>>>,
        check: Check,
    ) {
        loop {
            let authority = current.borrow_and_update().clone();
            let due = match authority.map(|authority| self.config(&authority)) {
                None => None,
                Some(Ok((config, due))) => {
                    publish.send_replace(Some(Arc::new(config)));
                    check.ok();
                    Some(due)
                }
                Some(Err(error)) => {
                    let error = chain(&error);
                    warn!(error, "the issuer's own certificate is not renewed");
                    check.fail(error);
                    Some(Timestamp::now() + SignedDuration::from_secs(5))
                }
            };
            let sleep = async {
                match due {
                    Some(at) => {
                        let left = at.duration_since(Timestamp::now());
                        tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = current.changed() => if changed.is_err() { return },
                () = sleep => {}
            }
        }
    }

    fn config(&self, authority: &Authority) -> Result<(ServerConfig, Timestamp), TlsError> {
        let (now, random) = (Timestamp::now(), SystemRandom::new());
        let key = PrivateKey::generate(&random).map_err(AuthorityError::from)?;
        let id = self.identity.id();
        let names = &self.server_names;
        let svid = authority.sign(&id, &key.public(), now, self.ttl, names, &random)?;
        let mut roots = RootCertStore::empty();
        for root in authority.bundle() {
            roots.add(root.clone())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(svid.chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok((config, renewal(now, svid.not_after, rand::random())))
    }
}

/// Accepts connections and takes them through their handshakes; runs until cancelled.
pub(crate) async fn accept(
    listener: TcpListener,
    serving: Serving,
    connections: mpsc::Sender<std::io::Result<Stream>>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else {
            return;
        };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Too many open files, usually.
                warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let config = serving.borrow().clone();
        let connections = connections.clone();
        tokio::spawn(async move {
            let _permit = permit;
            // Without an authority there is nothing to serve with; the client tries again.
            let Some(config) = config else {
                debug!("a connection came before there was a certificate authority");
                return;
            };
            match tokio::time::timeout(HANDSHAKE, handshake(socket, config)).await {
                Ok(Ok(stream)) => drop(connections.send(Ok(stream)).await),
                Ok(Err(error)) => debug!(error, "a TLS handshake failed"),
                Err(_) => debug!("a TLS handshake took too long"),
            }
        });
    }
}

async fn handshake(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Stream, String> {
    let address = socket.peer_addr().map_err(|error| error.to_string())?;
    socket
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let stream = TlsAcceptor::from(config).accept(socket).await;
    let stream = stream.map_err(|error| format!("{address}: {error}"))?;
    let leaf = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first);
    let certificate = match leaf {
        None => None,
        Some(leaf) => {
            let (id, not_after) =
                x509::leaf(leaf).map_err(|error| format!("{address}: {error}"))?;
            let identity = Identity::try_from(&id);
            Some((
                identity.map_err(|error| format!("{address}: {error}"))?,
                not_after,
            ))
        }
    };
    let connection = Connection {
        address,
        certificate,
    };
    Ok(Stream { stream, connection })
}

/// A connection after its handshake.
pub(crate) struct Stream {
    stream: TlsStream<TcpStream>,
    connection: Connection,
}

impl Connected for Stream {
    type ConnectInfo = Connection;
    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
