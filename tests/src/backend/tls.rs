//! A self-signed identity for backends that speak TLS.
//!
//! *Invariant:* the key never leaves the process; only the certificate can be written out.

use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// A certificate and its key.
#[derive(Clone)]
pub struct Identity {
    certificate: rcgen::Certificate,
    key: Arc<rcgen::KeyPair>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(self-signed)")
    }
}

impl Identity {
    /// A self-signed certificate for these DNS names or addresses.
    ///
    /// # Errors
    /// If a name is no name.
    pub fn self_signed(names: &[&str]) -> io::Result<Self> {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        Ok(Self {
            certificate: cert,
            key: Arc::new(signing_key),
        })
    }

    /// The certificate, which is also the authority that vouches for it.
    pub fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    pub(super) fn acceptor(&self) -> io::Result<TlsAcceptor> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).map_err(io::Error::other)?;
        let chain = vec![CertificateDer::from(self.certificate.der().to_vec())];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions();
        let config = config
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let mut config = config.map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
