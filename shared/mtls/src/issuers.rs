//! Asking issuers to certify a key.
//!
//! *Invariant:* an issuer is believed by its identity, never by its address.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use issuer_api::v1::SignX509SvidRequest;
use issuer_api::v1::issuer_client::IssuerClient;
use jiff::Timestamp;
use model::{Credential, Identity, SpiffeId};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tonic::metadata::{Ascii, MetadataValue};
use zeroize::Zeroizing;

use crate::keep::Roots;
use crate::material::anonymous;
use crate::{Material, channel};

/// How long one issuer may take to answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

/// The live issuers, and what a service proves itself to them with.
pub struct Issuers {
    /// What the service proves itself with.
    pub(crate) credential: Credential,
    /// The identity that the issuer must have.
    pub(crate) issuer: SpiffeId,
    /// Where issuers are, `host:port`, best first.
    pub(crate) addresses: watch::Receiver<Vec<String>>,
    /// Whom to believe.
    pub(crate) roots: Roots,
}

/// How an issuer fared that was asked to sign.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Where it is.
    pub address: String,
    /// How long it took.
    pub took: Duration,
    /// Why it did not, if so.
    pub failed: Option<String>,
}

impl Issuers {
    /// Has every live issuer certify a new key, verifies the certificate by the roots of the mesh, and throws it away.
    ///
    /// # Errors
    /// If there is nobody to ask or no root to verify by.
    pub async fn try_all(&self, deadline: Duration) -> Result<Vec<Tried>, String> {
        let roots = self.roots.borrow().clone();
        let roots = roots.ok_or("the certificate authority has published no roots yet")?;
        let addresses = self.addresses.borrow().clone();
        if addresses.is_empty() {
            return Err("no cert-issuer is registered".into());
        }
        let tries = addresses.into_iter().map(|address| {
            let roots = roots.clone();
            async move {
                let begun = Instant::now();
                let signed = async {
                    let (material, _) = self.ask(&address, roots).await?;
                    material.verify().map_err(|error| error.to_string())
                };
                let failed = match tokio::time::timeout(deadline, signed).await {
                    Ok(signed) => signed.err(),
                    Err(_) => Some(format!("no answer within {deadline:?}")),
                };
                Tried {
                    took: begun.elapsed(),
                    address,
                    failed,
                }
            }
        });
        Ok(join_all(tries).await)
    }

    /// A certificate of one issuer, and when to ask again.
    pub(crate) async fn ask(
        &self,
        address: &str,
        roots: Arc<RootCertStore>,
    ) -> Result<(Material, Timestamp), String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| text(&error))?;
        let request = CertificateParams::default()
            .serialize_request(&key)
            .map_err(|error| text(&error))?;
        let config = anonymous(roots.clone(), self.issuer.clone()).map_err(|error| text(&error))?;
        let channel = channel(address, config.into(), ANSWER).map_err(|error| text(&error))?;
        let mut request = tonic::Request::new(SignX509SvidRequest {
            csr: request.der().to_vec(),
        });
        let bearer = Zeroizing::new(format!("Bearer {}", self.credential.expose()));
        let mut bearer: MetadataValue<Ascii> = bearer
            .parse()
            .map_err(|_| "the credential is no header value")?;
        bearer.set_sensitive(true);
        request.metadata_mut().insert("authorization", bearer);
        let answer = IssuerClient::new(channel).sign_x509_svid(request).await;
        let answer = answer.map_err(|status| said(&status))?.into_inner();
        let identity: Identity = answer
            .spiffe_id
            .parse()
            .map_err(|error: model::SpiffeIdError| text(&error))?;
        let instant = |seconds| Timestamp::from_second(seconds).map_err(|error| text(&error));
        let chain = answer.chain.into_iter().map(CertificateDer::from).collect();
        let key = Zeroizing::new(key.serialize_der());
        let material = Material::new(identity, chain, key, instant(answer.expires_at)?, roots);
        // Shows now rather than at the first connection that it can be used.
        material.server().map_err(|error| text(&error))?;
        Ok((material, instant(answer.renew_at)?))
    }
}

/// A status and what is behind it.
fn said(status: &tonic::Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = status.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
