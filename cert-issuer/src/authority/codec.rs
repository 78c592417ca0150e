//! An authority as bytes, to be sealed and stored.
//!
//! *Invariant:* what holds a key in the clear is wiped when it is dropped, and its types do not leave this module.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use model::TrustDomain;
use rustls::pki_types::CertificateDer;
use seal::OpeningKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Authority, Cross, JwtKey, Root, Stage};
use crate::key::{KeyError, PrivateKey};
use crate::x509::{Signer, X509Error};

/// Room for an authority's encoding, so that no buffer with keys in it is left behind by growing.
const ROOM: usize = 64 * 1024;

/// Why bytes are no authority.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Not the form.
    #[error("not an authority's encoding: {0}")]
    Form(String),
    /// A key cannot be used.
    #[error("a stored key cannot be used")]
    Key(#[from] KeyError),
    /// A certificate cannot be used.
    #[error("a stored certificate cannot be used")]
    X509(#[from] X509Error),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredAuthority {
    version: u32,
    trust_domain: TrustDomain,
    sequence: u64,
    roots: Vec<StoredRoot>,
    issuing: StoredSigner,
    jwt_keys: Vec<StoredJwtKey>,
    /// Absent in what was stored before there were any.
    #[serde(default)]
    sealing_keys: Vec<StoredSealingKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRoot {
    name: String,
    signer: StoredSigner,
    stage: Stage,
    since: Timestamp,
    sequence: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lineage: Vec<StoredCross>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCross {
    by: String,
    /// DER in base64.
    certificate: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSigner {
    /// DER in base64.
    certificate: String,
    key: StoredKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredJwtKey {
    id: String,
    key: StoredKey,
    stage: Stage,
    since: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSealingKey {
    name: String,
    key: StoredKey,
}

/// PKCS#8, or the 32 bytes of a sealing key, in base64.
struct StoredKey(Zeroizing<String>);

impl Serialize for StoredKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for StoredKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Zeroizing::new(String::deserialize(deserializer)?)))
    }
}

impl Authority {
    /// Everything, private keys included, to be sealed.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let stored = StoredAuthority {
            version: 1,
            trust_domain: self.trust_domain.clone(),
            sequence: self.sequence,
            roots: self.roots.iter().map(stored_root).collect(),
            issuing: stored_signer(&self.issuing),
            jwt_keys: self.jwt_keys.iter().map(stored_jwt_key).collect(),
            sealing_keys: self.sealing_keys.iter().map(stored_sealing_key).collect(),
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(ROOM));
        serde_json::to_writer(&mut *bytes, &stored).expect("strings and numbers serialize");
        bytes
    }

    /// What [`Self::to_bytes`] made.
    ///
    /// # Errors
    /// [`CodecError`]; it shows nothing of the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let stored: StoredAuthority = serde_json::from_slice(bytes).map_err(|error| {
            // The error's own text may quote what it stumbled over.
            CodecError::Form(format!("line {}, column {}", error.line(), error.column()))
        })?;
        if stored.version != 1 {
            return Err(CodecError::Form(format!(
                "it is of version {}; this program knows version 1",
                stored.version
            )));
        }
        let trust_domain = stored.trust_domain;
        let signer = |stored: StoredSigner| -> Result<Arc<Signer>, CodecError> {
            let certificate = certificate(&stored.certificate)?;
            let key = key(&stored.key)?;
            Ok(Arc::new(Signer::restore(&trust_domain, certificate, key)?))
        };
        let cross = |stored: StoredCross| -> Result<Cross, CodecError> {
            Ok(Cross::restore(
                stored.by,
                certificate(&stored.certificate)?,
            )?)
        };
        let root = |stored: StoredRoot| -> Result<Root, CodecError> {
            Ok(Root {
                lineage: stored
                    .lineage
                    .into_iter()
                    .map(cross)
                    .collect::<Result<_, _>>()?,
                name: stored.name,
                signer: signer(stored.signer)?,
                stage: stored.stage,
                since: stored.since,
                sequence: stored.sequence,
            })
        };
        let jwt_key = |stored: StoredJwtKey| -> Result<JwtKey, CodecError> {
            Ok(JwtKey {
                id: stored.id,
                key: Arc::new(key(&stored.key)?),
                stage: stored.stage,
                since: stored.since,
            })
        };
        let sealing_key = |stored: StoredSealingKey| {
            OpeningKey::restore(&stored.name, &decoded(&stored.key)?)
                .map_err(|error| CodecError::Form(error.to_string()))
        };
        let roots = stored
            .roots
            .into_iter()
            .map(root)
            .collect::<Result<Vec<_>, _>>()?;
        let active = |root: &&Root| root.stage == Stage::Active;
        if roots.iter().filter(active).count() != 1 {
            return Err(CodecError::Form("not exactly one root is active".into()));
        }
        Ok(Self {
            sequence: stored.sequence,
            issuing: signer(stored.issuing)?,
            jwt_keys: stored
                .jwt_keys
                .into_iter()
                .map(jwt_key)
                .collect::<Result<_, _>>()?,
            sealing_keys: (stored.sealing_keys.into_iter())
                .map(sealing_key)
                .collect::<Result<_, _>>()?,
            roots,
            trust_domain,
        })
    }
}

fn stored_root(root: &Root) -> StoredRoot {
    StoredRoot {
        name: root.name.clone(),
        signer: stored_signer(&root.signer),
        stage: root.stage,
        since: root.since,
        sequence: root.sequence,
        lineage: root.lineage.iter().map(stored_cross).collect(),
    }
}

fn stored_cross(cross: &Cross) -> StoredCross {
    StoredCross {
        by: cross.by.clone(),
        certificate: STANDARD.encode(cross.certificate()),
    }
}

fn stored_signer(signer: &Signer) -> StoredSigner {
    StoredSigner {
        certificate: STANDARD.encode(signer.certificate()),
        key: stored_key(signer.key()),
    }
}

fn stored_jwt_key(key: &JwtKey) -> StoredJwtKey {
    StoredJwtKey {
        id: key.id.clone(),
        key: stored_key(&key.key),
        stage: key.stage,
        since: key.since,
    }
}

fn stored_sealing_key(key: &OpeningKey) -> StoredSealingKey {
    StoredSealingKey {
        name: key.name().to_owned(),
        key: StoredKey(Zeroizing::new(STANDARD.encode(key.secret()))),
    }
}

fn stored_key(key: &PrivateKey) -> StoredKey {
    StoredKey(Zeroizing::new(STANDARD.encode(key.pkcs8())))
}

fn key(stored: &StoredKey) -> Result<PrivateKey, CodecError> {
    Ok(PrivateKey::from_pkcs8(decoded(stored)?)?)
}

fn decoded(stored: &StoredKey) -> Result<Zeroizing<Vec<u8>>, CodecError> {
    let bytes = STANDARD.decode(&*stored.0);
    let bytes = bytes.map_err(|_| CodecError::Form("a key is not base64".into()))?;
    Ok(Zeroizing::new(bytes))
}

fn certificate(stored: &str) -> Result<CertificateDer<'static>, CodecError> {
    let der = STANDARD
        .decode(stored)
        .map_err(|_| CodecError::Form("a certificate is not base64".into()))?;
    Ok(CertificateDer::from(der))
}
