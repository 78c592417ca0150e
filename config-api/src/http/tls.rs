//! TLS of the server: which certificate it shows, and whose client certificates it takes.
//!
//! *Invariant:* a client certificate that cannot be verified ends the handshake; one that is absent does not.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::config::{AccessConfig, AccessError};
use crate::reload::Reloaded;

/// Yields the configuration for the next connection; whoever renews certificates stands behind it.
pub(crate) type Tls = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

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

/// The seam: files behind the closure that the server asks.
pub(crate) fn of_files(files: &Files) -> Tls {
    let files = files.clone();
    Arc::new(move || Arc::clone(&files.get()))
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
