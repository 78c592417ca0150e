//! Certificates and keys as people write them: read, and told whether they belong together.
//!
//! *Invariant:* no error quotes a key or what might be one.

pub(crate) mod revocation;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::pem;

/// Which keys Envoys serve with.
const KINDS: &str = "must be ECDSA P-256 or P-384, or RSA of 2048 to 4096 bits";

/// What a certificate says that others must agree with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The SubjectPublicKeyInfo in DER.
    public_key: Vec<u8>,
    /// Whether its key is of a kind that Envoys serve with; the rule if not.
    pub(crate) kind: Result<(), String>,
    not_before: Timestamp,
    not_after: Timestamp,
    subject: String,
    /// Whether the next certificate of the text signed this one; true of the last.
    signed_by_next: bool,
}

impl Facts {
    /// The SHA-256 of its public key, in base64 (as in `verifyCertificateSpki`).
    pub(crate) fn public_key_sha256(&self) -> String {
        sha256(&self.public_key)
    }

    /// What people should know about it at a time.
    fn at(&self, now: Timestamp) -> Option<String> {
        let Self {
            subject,
            not_before,
            not_after,
            ..
        } = self;
        if now > *not_after {
            Some(format!(
                "the certificate of {subject:?} expired at {not_after}"
            ))
        } else if now < *not_before {
            Some(format!(
                "the certificate of {subject:?} is valid from {not_before} only"
            ))
        } else {
            None
        }
    }
}

/// The certificates of a text.
///
/// # Errors
/// What is wrong, and the way out.
pub(crate) fn certificates(text: &str) -> Result<Vec<Facts>, String> {
    let blocks = pem::blocks(text)?;
    let mut parsed = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        if block.label.ends_with("PRIVATE KEY") {
            return Err("holds a private key, which belongs in privateKey".into());
        }
        if block.label != "CERTIFICATE" {
            return Err(format!(
                "may hold CERTIFICATE blocks only, not {:?}; remove it",
                block.label
            ));
        }
        let Ok(([], certificate)) = X509Certificate::from_der(&block.der) else {
            return Err(format!("the block {} is no X.509 certificate", at + 1));
        };
        parsed.push(certificate);
    }
    let facts = parsed.iter().enumerate().map(|(at, certificate)| {
        let next = parsed.get(at + 1);
        facts(certificate, next).map_err(|why| format!("the certificate {} {why}", at + 1))
    });
    facts.collect()
}

fn facts(
    certificate: &X509Certificate<'_>,
    next: Option<&X509Certificate<'_>>,
) -> Result<Facts, String> {
    let time = |seconds: i64| {
        Timestamp::from_second(seconds).map_err(|_| "has a validity out of range".to_owned())
    };
    let validity = certificate.validity();
    let key = certificate.public_key();
    let signed = next.is_none_or(|next| {
        certificate.issuer() == next.subject()
            && certificate
                .verify_signature(Some(next.public_key()))
                .is_ok()
    });
    Ok(Facts {
        public_key: key.raw.to_vec(),
        kind: kind(key),
        not_before: time(validity.not_before.timestamp())?,
        not_after: time(validity.not_after.timestamp())?,
        subject: certificate.subject().to_string(),
        signed_by_next: signed,
    })
}

fn kind(key: &SubjectPublicKeyInfo<'_>) -> Result<(), String> {
    const CURVES: [&str; 2] = ["1.2.840.10045.3.1.7", "1.3.132.0.34"];
    let found = match key.parsed() {
        Ok(PublicKey::EC(_)) => {
            let curve = key.algorithm.parameters.as_ref();
            let curve = curve.and_then(|any| any.as_oid().ok());
            let curve = curve.map_or(String::new(), |oid| oid.to_id_string());
            if CURVES.contains(&curve.as_str()) {
                return Ok(());
            }
            format!("ECDSA on the curve {curve:?}")
        }
        Ok(PublicKey::RSA(key)) if (2048..=4096).contains(&key.key_size()) => return Ok(()),
        Ok(PublicKey::RSA(key)) => format!("RSA of {} bits", key.key_size()),
        _ => format!("of the algorithm {}", key.algorithm.algorithm),
    };
    Err(format!("has a key that is {found}; it {KINDS}"))
}

/// The SHA-256 of the public key that belongs to a private key, in base64.
///
/// # Errors
/// What is wrong, and the way out.
pub(crate) fn private_key(text: &str) -> Result<String, String> {
    let blocks = pem::blocks(text)?;
    // openssl writes the parameters of a curve before the key.
    let mut keys = blocks.iter().filter(|block| block.label != "EC PARAMETERS");
    let (Some(block), None) = (keys.next(), keys.next()) else {
        return Err(
            "must hold one private key and nothing else; the certificate belongs in certificate"
                .into(),
        );
    };
    let der = block.der.to_vec();
    let key = match block.label.as_str() {
        "PRIVATE KEY" => PrivateKeyDer::Pkcs8(der.into()),
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.into()),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.into()),
        "ENCRYPTED PRIVATE KEY" => {
            return Err("is encrypted; decrypt it with `openssl pkey`".into());
        }
        _ => {
            return Err(
                "must be a PRIVATE KEY, an RSA PRIVATE KEY or an EC PRIVATE KEY in PEM".into(),
            );
        }
    };
    let key = any_supported_type(&key).map_err(|_| format!("cannot be read; it {KINDS}"))?;
    let public = key.public_key().ok_or("has no public key")?;
    Ok(sha256(&public))
}

/// What people should know about certificates at a time, and about their order.
pub(crate) fn remarks(certificates: &[Facts], now: Timestamp) -> Vec<String> {
    certificates.iter().filter_map(|it| it.at(now)).collect()
}

/// The first certificate that the one after it did not sign, counted from 1.
pub(crate) fn broken_chain(certificates: &[Facts]) -> Option<usize> {
    let at = certificates.iter().position(|it| !it.signed_by_next)?;
    Some(at + 1)
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, bytes))
}
