//! Where TLS contexts have certificates from: uploaded ones from the issuer, by the names of TlsSecrets, and those in files of
//! the proxy's host.
//!
//! Envoy watches the directories of the files of a secret that came by SDS, and of no other: it reads them again when anything
//! is renamed there, be it a file or the link of a mounted volume. So a secret that names files goes to the proxy on the stream of
//! everything else, beside what uses it. *Invariant:* nothing made here holds a key, only names of secrets and files.

use std::time::Duration;

use model::Kind;
use pb::tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use pb::tls::{CertificateValidationContext, SdsSecretConfig, Secret, TlsCertificate, secret};

use super::pb;
use crate::identity::Identities;

/// The end of the names of authorities, as in Istio.
const AUTHORITIES: &str = "-cacert";

/// The TlsSecrets of a namespace, from the issuer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uploaded<'a> {
    /// The mesh's identities, and where the issuer is.
    pub(crate) identities: &'a Identities,
    /// The namespace of the proxy.
    pub(crate) namespace: &'a str,
}

impl Uploaded<'_> {
    /// The certificate and key of a TlsSecret.
    pub(crate) fn certificate(&self, name: &str) -> SdsSecretConfig {
        (self.identities).secret(&format!("{}/{name}", self.namespace))
    }

    /// The authorities of a TlsSecret.
    pub(crate) fn authorities(&self, name: &str) -> SdsSecretConfig {
        match name.ends_with(AUTHORITIES) {
            true => self.certificate(name),
            false => self.certificate(&format!("{name}{AUTHORITIES}")),
        }
    }
}

/// Why there is no secret of the issuer's in a mesh without identities.
pub(crate) const NO_IDENTITIES: &str =
    "this mesh has no certificate issuer: xds-pusher serves plaintext xDS; give it an identity";

/// Why an uploaded secret cannot be had in a mesh without identities.
pub(crate) fn impossible() -> String {
    format!(
        "a {} comes from the certificate issuer; {NO_IDENTITIES}, or name files",
        Kind::TlsSecret
    )
}

/// The secret of a certificate and its key in files. `owner`: the resource that uses it; secrets are not shared.
pub(crate) fn certificate_files(owner: &str, chain: &str, key: &str) -> Secret {
    let certificate = TlsCertificate {
        certificate_chain: Some(file(chain)),
        private_key: Some(file(key)),
        ..Default::default()
    };
    Secret {
        name: format!("file-cert:{chain}~{key}@{owner}"),
        r#type: Some(secret::Type::TlsCertificate(certificate)),
    }
}

/// The secret of authorities, and what they revoked, in files.
pub(crate) fn authority_files(owner: &str, authorities: &str, crl: Option<&str>) -> Secret {
    let files: Vec<&str> = [authorities].into_iter().chain(crl).collect();
    let context = CertificateValidationContext {
        trusted_ca: Some(file(authorities)),
        crl: crl.map(file),
        ..Default::default()
    };
    Secret {
        name: format!("file-root:{}@{owner}", files.join("~")),
        r#type: Some(secret::Type::ValidationContext(context)),
    }
}

/// A secret that comes on the stream of everything else.
pub(crate) fn beside(secret: &Secret) -> SdsSecretConfig {
    SdsSecretConfig {
        name: secret.name.clone(),
        sds_config: Some(pb::ads(Duration::from_secs(5))),
    }
}

/// Peers are verified with these authorities, and by these rules.
pub(crate) fn validated(
    authorities: SdsSecretConfig,
    rules: CertificateValidationContext,
) -> ValidationContextType {
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(rules),
        validation_context_sds_secret_config: Some(authorities),
        ..Default::default()
    })
}

fn file(path: &str) -> pb::DataSource {
    pb::DataSource {
        specifier: Some(pb::data_source::Specifier::Filename(path.into())),
        ..Default::default()
    }
}
