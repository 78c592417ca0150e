//! `TlsSecret` (`weft.mesh/v1`): a certificate of one's own with its key, and authorities to verify others with.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::certificate::{self, revocation};

/// A certificate with its key, for servers of Gateways and for DestinationRules that name it in `credentialName`; or
/// authorities that their peers are verified with; or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TlsSecret {
    /// The certificate in PEM, and after it those that lead to its authority.
    pub certificate: Option<String>,
    /// The certificate's key in PEM. It is taken and never shown: what is stored is sealedPrivateKey.
    pub private_key: Option<PrivateKeyPem>,
    /// The authorities in PEM that peers are verified with: in MUTUAL the clients, in a DestinationRule the servers.
    pub ca_certificates: Option<String>,
    /// What those authorities have revoked: a revocation list of each of them, in PEM. A peer is refused when it is on one, and
    /// when an authority of its has none here, or none that is still valid.
    pub ca_crl: Option<String>,
    /// The key, sealed for the certificate issuer, who alone can open it. It is written by the API; keep it as it is to keep the
    /// key.
    pub sealed_private_key: Option<SealedPrivateKey>,
}

/// A private key as it was sealed. Nothing in it is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SealedPrivateKey {
    /// The name of the issuer's key that it is sealed under.
    pub key: String,
    /// The SHA-256 of the public key that belongs to it, in base64.
    pub public_key_sha256: String,
    /// What the issuer derives the key of the ciphertext from, in base64.
    pub encapsulated: String,
    /// The private key, encrypted, in base64.
    pub ciphertext: String,
}

/// A private key in PEM. Its `Debug` shows nothing, and it is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct PrivateKeyPem(Zeroizing<String>);

impl From<String> for PrivateKeyPem {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<Zeroizing<String>> for PrivateKeyPem {
    fn from(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

impl PrivateKeyPem {
    /// The key's text.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The SHA-256 of the public key that belongs to it, in base64.
    ///
    /// # Errors
    /// It is no key that can be used; the error shows nothing of it.
    pub fn public_key_sha256(&self) -> Result<String, String> {
        certificate::private_key(&self.0)
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem(…)")
    }
}

impl JsonSchema for PrivateKeyPem {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PrivateKeyPem".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "password", "writeOnly": true})
    }
}

impl TlsSecret {
    /// What people should know about the certificates at a time: those that expired, and those that are not valid yet.
    pub fn remarks(&self, now: Timestamp) -> Vec<String> {
        let fields = [
            ("spec.certificate", &self.certificate),
            ("spec.caCertificates", &self.ca_certificates),
        ];
        let fields = fields
            .into_iter()
            .filter_map(|(path, text)| Some((path, text.as_deref()?)));
        let lists = self.ca_crl.as_deref().zip(self.ca_certificates.as_deref());
        let lists = lists.and_then(|(lists, by)| revocation::lists(lists, by).ok());
        let lists = lists.map(|lists| lists.remarks(now)).unwrap_or_default();
        let lists = lists.into_iter().map(|it| format!("spec.caCrl: {it}"));
        fields
            .flat_map(|(path, text)| {
                let certificates = certificate::certificates(text).unwrap_or_default();
                let remarks = certificate::remarks(&certificates, now).into_iter();
                remarks.map(move |remark| format!("{path}: {remark}"))
            })
            .chain(lists)
            .collect()
    }
}
