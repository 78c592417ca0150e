//! SPIFFE bundles of trust domains: JWK sets as the SPIFFE Trust Domain and Bundle standard has them (section 4), and how one
//! that was fetched is stored.
//!
//! *Invariant:* a bundle says nothing of whose it is; that is told by who configured where it comes from.

#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::certificate::sha256;

/// The most keys of one bundle.
const MOST: usize = 1000;

/// What a trust domain is to be known by.
#[derive(Clone, PartialEq)]
pub struct TrustBundle {
    value: Value,
    sequence: Option<u64>,
    refresh_hint: Option<u64>,
    roots: Vec<CertificateDer<'static>>,
}

impl TrustBundle {
    /// Reads a bundle. Keys of a type or a use that is not known are ignored, as the standard has it (4.2).
    ///
    /// # Errors
    /// What is wrong, and the way out.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| format!("is no SPIFFE bundle, which is a JWK set in JSON: {error}"))?;
        Self::try_from(value)
    }

    /// Its sequence number: it rises with each change.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// After how many seconds it should be fetched again.
    pub fn refresh_hint(&self) -> Option<u64> {
        self.refresh_hint
    }

    /// The authorities of certificates; none if the trust domain gave them all up.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The whole bundle, keys of tokens too.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustBundle")
            .field("sequence", &self.sequence)
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}

impl TryFrom<Value> for TrustBundle {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let number = |name: &str| match &value[name] {
            Value::Null => Ok(None),
            given => given
                .as_u64()
                .map(Some)
                .ok_or_else(|| format!("{name}: {given} must be a whole number, 0 or more")),
        };
        let keys = value["keys"]
            .as_array()
            .ok_or("keys: is missing; a SPIFFE bundle is a JWK set, {\"keys\": […]}")?;
        if keys.len() > MOST {
            return Err(format!("keys: has more than {MOST} keys"));
        }
        let mut roots = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            if key.get("d").is_some() {
                return Err(format!(
                    "keys[{at}]: holds a private key, which must not leave its owner; give the public part only"
                ));
            }
            if key["use"] == "x509-svid" {
                roots.push(root(key).map_err(|why| format!("keys[{at}].x5c: {why}"))?);
            }
        }
        Ok(Self {
            sequence: number("spiffe_sequence")?,
            refresh_hint: number("spiffe_refresh_hint")?,
            roots,
            value,
        })
    }
}

/// The one certificate of a key for X.509-SVIDs (4.2.2).
fn root(key: &Value) -> Result<CertificateDer<'static>, String> {
    let chain = key["x5c"].as_array().map(Vec::as_slice);
    let Some([Value::String(text)]) = chain else {
        return Err("must hold exactly one certificate".into());
    };
    let der = STANDARD
        .decode(text)
        .map_err(|_| "is not base64".to_owned())?;
    match X509Certificate::from_der(&der) {
        Ok(([], certificate)) if certificate.is_ca() => Ok(der.into()),
        Ok(([], _)) => Err("must be the certificate of an authority, not of a workload".into()),
        _ => Err("is no X.509 certificate".into()),
    }
}

/// A bundle that was fetched. Stored at `federation/<trust domain>`; it is public.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FederatedBundle {
    /// The SHA-256 of the `trustDomainBundle` that was configured then: another one replaces what was fetched before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured: Option<String>,
    /// When it was fetched first.
    pub fetched: Timestamp,
    /// The bundle.
    pub bundle: Value,
}

impl FederatedBundle {
    /// What [`Self::configured`] is of a configured bundle.
    pub fn digest(configured: Option<&str>) -> Option<String> {
        configured.map(|text| sha256(text.as_bytes()))
    }

    /// As it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings always serialize")
    }

    /// What was stored.
    ///
    /// # Errors
    /// It is none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
