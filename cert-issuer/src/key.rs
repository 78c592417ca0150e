//! Keys: ECDSA P-256 private keys that show nothing and are wiped, and any public key that may be certified.
//!
//! *Invariant:* a private key has no `Serialize`, and its `Debug` and errors hold none of it.

use std::fmt;

use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use ring::rand::SecureRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair as _,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use crate::pem;

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// Not a P-256 key in PKCS#8.
    #[error("the private key is no ECDSA P-256 key in PKCS#8")]
    Private,
    /// Not a certificate signing request.
    #[error("the request is no PKCS#10 certificate signing request in DER or PEM: {0}")]
    Request(String),
    /// The request is not signed by the key it is for, so nothing shows that the caller holds that key.
    #[error("the request's signature is not by the key it asks to be certified")]
    Possession,
    /// Not a public key.
    #[error("the public key is no SubjectPublicKeyInfo in DER: {0}")]
    Public(String),
    /// A kind or size of key that is not certified.
    #[error(
        "a public key must be ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more; this is {0}"
    )]
    Kind(String),
}

/// A private key. Its encoding is wiped when it is dropped (what `ring` keeps beside it is out of our reach).
pub struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: EcdsaKeyPair,
    random: ring::rand::SystemRandom,
}

impl PrivateKey {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, random)
            .map_err(|_| KeyError::Random)?;
        Self::from_pkcs8(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// A key from its PKCS#8 encoding.
    ///
    /// # Errors
    /// [`KeyError::Private`].
    pub fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let pair = pair(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8)?;
        let random = ring::rand::SystemRandom::new();
        Ok(Self {
            pkcs8,
            pair,
            random,
        })
    }

    /// The PKCS#8 encoding.
    pub fn pkcs8(&self) -> &Zeroizing<Vec<u8>> {
        &self.pkcs8
    }

    /// The PKCS#8 encoding in PEM.
    pub fn pem(&self) -> Zeroizing<String> {
        pem::encode("PRIVATE KEY", &self.pkcs8)
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        PublicKey {
            info: self.subject_public_key_info(),
            bits: self.pair.public_key().as_ref().to_vec(),
        }
    }

    /// The two coordinates of the public key, 32 bytes each.
    pub fn coordinates(&self) -> ([u8; 32], [u8; 32]) {
        let (mut x, mut y) = ([0; 32], [0; 32]);
        // An uncompressed point: 4, x, y.
        let point = self.pair.public_key().as_ref();
        x.copy_from_slice(&point[1..33]);
        y.copy_from_slice(&point[33..65]);
        (x, y)
    }

    /// Signs as JSON Web Signatures have it (ES256): both integers in 32 bytes each.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = pair(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.pkcs8)?
            .sign(&self.random, message)
            .map_err(|_| KeyError::Random)?;
        Ok(signature.as_ref().to_vec())
    }
}

fn pair(algorithm: &'static EcdsaSigningAlgorithm, pkcs8: &[u8]) -> Result<EcdsaKeyPair, KeyError> {
    // Only a blinding factor is drawn here.
    EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &ring::rand::SystemRandom::new())
        .map_err(|_| KeyError::Private)
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.pair.sign(&self.random, message);
        let signature = signature.map_err(|_| rcgen::Error::RingUnspecified)?;
        Ok(signature.as_ref().to_vec())
    }
}

/// A public key of a kind that may be certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The SubjectPublicKeyInfo in DER.
    info: Vec<u8>,
    /// The key in it.
    bits: Vec<u8>,
}

impl PublicKey {
    /// A key from its SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// [`KeyError::Public`], [`KeyError::Kind`].
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let (rest, info) = SubjectPublicKeyInfo::from_der(der)
            .map_err(|error| KeyError::Public(error.to_string()))?;
        if !rest.is_empty() {
            return Err(KeyError::Public("it has bytes after its end".into()));
        }
        Self::accept(&info)
    }

    /// The key of a certificate signing request, whose signature shows that the requester holds it. Whatever else the
    /// request asks for (names, usages, validity) is not even read: a certificate's contents are the issuer's to choose.
    ///
    /// # Errors
    /// [`KeyError::Request`], [`KeyError::Possession`], [`KeyError::Kind`].
    pub fn of_request(request: &[u8]) -> Result<Self, KeyError> {
        let der = match pem::decode("CERTIFICATE REQUEST", request) {
            Some(der) => der.map_err(|error| KeyError::Request(error.to_string()))?,
            None => request.to_vec(),
        };
        let (rest, request) = X509CertificationRequest::from_der(&der)
            .map_err(|error| KeyError::Request(error.to_string()))?;
        if !rest.is_empty() {
            return Err(KeyError::Request("it has bytes after its end".into()));
        }
        let key = Self::accept(&request.certification_request_info.subject_pki)?;
        request
            .verify_signature()
            .map_err(|_| KeyError::Possession)?;
        Ok(key)
    }

    fn accept(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyError> {
        const ED25519: &str = "1.3.101.112";
        const CURVES: [&str; 2] = ["1.2.840.10045.3.1.7", "1.3.132.0.34"];
        let algorithm = info.algorithm.algorithm.to_id_string();
        let kind = match info.parsed() {
            Ok(Parsed::EC(_)) => {
                let curve = info.algorithm.parameters.as_ref();
                let curve = curve.and_then(|any| any.as_oid().ok());
                let curve = curve.map_or(String::new(), |oid| oid.to_id_string());
                (!CURVES.contains(&curve.as_str())).then(|| format!("ECDSA on curve {curve:?}"))
            }
            Ok(Parsed::RSA(key)) if key.key_size() >= 2048 => None,
            Ok(Parsed::RSA(key)) => Some(format!("RSA of {} bits", key.key_size())),
            _ if algorithm == ED25519 => None,
            _ => Some(format!("of algorithm {algorithm}")),
        };
        match kind {
            Some(kind) => Err(KeyError::Kind(kind)),
            None => Ok(Self {
                info: info.raw.to_vec(),
                bits: info.subject_public_key.data.to_vec(),
            }),
        }
    }
}

impl PublicKeyData for PublicKey {
    fn subject_public_key_info(&self) -> Vec<u8> {
        self.info.clone()
    }
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }
    /// Not used: it would only serve to write what [`Self::subject_public_key_info`] has already.
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
mod tests;
