//! What a service shows to others, and whom it believes.

use std::sync::Arc;

use jiff::Timestamp;
use model::{Identity, SpiffeId};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::leaf;

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// The verifier of clients.
    #[error("the TLS library takes no client verifier")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The certificate or its key.
    #[error("the TLS library does not take the certificate")]
    Tls(#[from] Error),
}

/// What a service shows and believes at present; `None` until the issuer answered.
pub type Current = watch::Receiver<Option<Arc<Material>>>;

/// A certificate, its key, and the roots of this moment.
pub struct Material {
    identity: Identity,
    chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<Vec<u8>>,
    not_after: Timestamp,
    roots: Arc<RootCertStore>,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("identity", &self.identity)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Material {
    pub(crate) fn new(
        identity: Identity,
        chain: Vec<CertificateDer<'static>>,
        key: Zeroizing<Vec<u8>>,
        not_after: Timestamp,
        roots: Arc<RootCertStore>,
    ) -> Self {
        Self {
            identity,
            chain,
            key,
            not_after,
            roots,
        }
    }

    /// Whose it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When the certificate ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Verifies the certificate as who is shown it does.
    ///
    /// # Errors
    /// If its chain leads to no root, or it is not valid now.
    pub fn verify(&self) -> Result<(), MaterialError> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider()).build()?;
        let (leaf, intermediates) = self
            .chain
            .split_first()
            .ok_or(Error::NoCertificatesPresented)?;
        verifier.verify_client_cert(leaf, intermediates, UnixTime::now())?;
        Ok(())
    }

    /// For a server whose clients must show a certificate of the mesh.
    ///
    /// # Errors
    /// If the certificate cannot be used.
    pub fn server(&self) -> Result<ServerConfig, MaterialError> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider()).build()?;
        self.serving(verifier)
    }

    fn serving(
        &self,
        verifier: Arc<dyn rustls::server::danger::ClientCertVerifier>,
    ) -> Result<ServerConfig, MaterialError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// For a server whose clients may show a certificate of the mesh, and need not.
    ///
    /// # Errors
    /// If the certificate cannot be used.
    pub fn open_server(&self) -> Result<ServerConfig, MaterialError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider())
            .allow_unauthenticated()
            .build()?;
        self.serving(verifier)
    }

    /// For a client of this peer alone.
    ///
    /// # Errors
    /// If the certificate cannot be used.
    pub fn client(&self, peer: SpiffeId) -> Result<ClientConfig, MaterialError> {
        let config = verifying(self.roots.clone(), peer)?
            .with_client_auth_cert(self.chain.clone(), self.key())?;
        Ok(finished(config))
    }

    /// The certificate with what signed it, and its key, for who shows them by other means.
    pub fn pair(&self) -> store::etcd::Identity {
        (self.chain.clone(), self.key())
    }

    fn key(&self) -> rustls::pki_types::PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.to_vec()).into()
    }
}

/// For a client of this peer that shows no certificate of its own.
///
/// # Errors
/// If the TLS library takes nothing of it.
pub fn anonymous(roots: Arc<RootCertStore>, peer: SpiffeId) -> Result<ClientConfig, MaterialError> {
    Ok(finished(verifying(roots, peer)?.with_no_client_auth()))
}

type Verifying = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn verifying(roots: Arc<RootCertStore>, peer: SpiffeId) -> Result<Verifying, MaterialError> {
    let provider = provider();
    let verifier = Verifier {
        roots,
        peer,
        provider: provider.clone(),
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn finished(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    // Whom we reach is said by the SPIFFE ID alone.
    config.enable_sni = false;
    config
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Takes a server by its SPIFFE ID.
#[derive(Debug)]
struct Verifier {
    roots: Arc<RootCertStore>,
    peer: SpiffeId,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let (id, _) = leaf(certificate).map_err(|error| Error::General(error.to_string()))?;
        if id != self.peer {
            return Err(Error::General(format!(
                "the peer is {id}, not {}",
                self.peer
            )));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
