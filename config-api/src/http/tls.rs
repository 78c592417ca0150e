//! TLS of the server: which certificate it shows, and whose client certificates it takes.
//!
//! *Invariant:* a client certificate that cannot be verified ends the handshake; one that is absent does not.

use std::io;
use std::sync::Arc;

use model::SpiffeId;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::mesh::{Mesh, PEERS};
use crate::config::{AccessConfig, AccessError};
use crate::reload::Reloaded;

/// Yields the configuration for the next connection, if there is one yet; whoever renews certificates stands behind it.
pub(crate) type Tls = Arc<dyn Fn() -> Option<Arc<ServerConfig>> + Send + Sync>;

/// The files of TLS, read anew when they change.
pub(crate) type Files = Arc<Reloaded<Arc<ServerConfig>>>;

/// The TLS that the flags ask for, if they do.
///
/// # Errors
/// If a file cannot be read or understood.
pub(crate) fn files(config: &AccessConfig) -> Result<Option<Files>, AccessError> {
    let (Some(chain), Some(key)) = (&config.tls_certificate_file, &config.tls_key_file) else {
        return Ok(None);
    };
    let mut paths = vec![chain.clone(), key.clone()];
    paths.extend(config.client_ca_file.clone());
    Reloaded::open("the files of TLS", paths, |contents| {
        let clients = contents.get(2).map(Vec::as_slice);
        server(&contents[0], &contents[1], clients).map(Arc::new)
    })
    .map(Some)
    .map_err(|why| AccessError::File("TLS", why))
}

/// How connections are taken.
#[derive(Clone, Default)]
pub(crate) struct Wire {
    /// TLS for clients; none if they speak in the clear.
    pub(crate) clients: Option<Tls>,
    /// TLS for replicas, and who these are.
    pub(crate) peers: Option<(Mesh, SpiffeId)>,
}

/// A connection whose first bytes were looked at.
pub(crate) enum Taken {
    /// In the clear.
    Plain(TcpStream),
    /// After the handshake, and whether it is a replica's.
    Secure(Box<TlsStream<TcpStream>>, bool),
}

/// The first byte of a TLS handshake; no HTTP request begins so.
const HANDSHAKE: u8 = 0x16;

impl Wire {
    /// Takes a connection as it begins.
    ///
    /// # Errors
    /// If it is not served so, or its handshake fails.
    pub(crate) async fn take(&self, stream: TcpStream) -> io::Result<Taken> {
        if self.clients.is_none() && self.peers.is_none() {
            return Ok(Taken::Plain(stream));
        }
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
            if self.clients.is_none() {
                return Ok(Taken::Plain(stream));
            }
            // Not even an answer: a client that hears one would go on in the clear.
            return Err(io::Error::other(
                "it is in the clear, and this port speaks HTTPS",
            ));
        }
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let peer = {
            let hello = start.client_hello();
            let mut offered = hello.alpn().into_iter().flatten();
            offered.any(|protocol| protocol == PEERS)
        };
        let none = || io::Error::other("there is no certificate for it");
        if !peer {
            let config = self
                .clients
                .as_ref()
                .and_then(|tls| tls())
                .ok_or_else(none)?;
            let stream = start.into_stream(config).await?;
            return Ok(Taken::Secure(Box::new(stream), false));
        }
        let (mesh, service) = self.peers.as_ref().ok_or_else(none)?;
        let meshed = mesh.borrow().clone().ok_or_else(none)?;
        let stream = start.into_stream(meshed.peers.clone()).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let shown = shown.and_then(<[_]>::first).ok_or_else(none)?;
        let (id, _) = mtls::leaf(shown).map_err(io::Error::other)?;
        if id != *service {
            return Err(io::Error::other(format!(
                "{id} is no replica of this service"
            )));
        }
        Ok(Taken::Secure(Box::new(stream), true))
    }
}

/// The mesh's certificate behind the closure that the server asks.
pub(crate) fn of_mesh(mesh: &Mesh) -> Tls {
    let mesh = mesh.clone();
    Arc::new(move || mesh.borrow().as_ref().map(|meshed| meshed.clients.clone()))
}

/// The seam: files behind the closure that the server asks.
pub(crate) fn of_files(files: &Files) -> Tls {
    let files = files.clone();
    Arc::new(move || Some(Arc::clone(&files.get())))
}

fn server(chain: &[u8], key: &[u8], clients: Option<&[u8]>) -> Result<ServerConfig, String> {
    let chain = certificates(chain).map_err(|why| format!("the certificate: {why}"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the key: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let wrong = |why: String| format!("the authorities of clients: {why}");
            let mut roots = RootCertStore::empty();
            for root in certificates(clients).map_err(wrong)? {
                roots.add(root).map_err(|error| wrong(error.to_string()))?;
            }
            // Others prove themselves by tokens, or ask for health.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| wrong(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("the certificate and its key: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    if read.is_empty() {
        return Err("there is no PEM certificate in it".into());
    }
    Ok(read)
}
