//! The certificate authority as a value: its roots, the issuing certificate, the keys that sign tokens, and what of these
//! peers are to trust. Replicas share it through the store; [`rotation`] says how one becomes the next.
//!
//! *Invariant:* exactly one root is active, the issuing certificate is signed by it, and both are in the bundle.

mod codec;
mod lineage;
pub mod rotation;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use model::{SpiffeId, TrustDomain};
use ring::rand::SecureRandom;
use rustls::pki_types::CertificateDer;
use seal::OpeningKey;

use crate::key::{KeyError, PrivateKey, PublicKey};
use crate::x509::{Serial, Signer, X509Error, X509Svid, certificates_pem};

pub use codec::CodecError;
pub use lineage::Cross;

/// What can go wrong with an authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// No key could be made.
    #[error("a key could not be made")]
    Key(#[from] KeyError),
    /// No certificate could be made.
    #[error("a certificate could not be made")]
    X509(#[from] X509Error),
    /// The root to be revoked is none of this authority's.
    #[error("{name:?} is no root of this authority; its roots are {known}")]
    NoSuchRoot {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The step is not possible as things are.
    #[error("{0}")]
    NotNow(String),
}

/// How long things last, and how slowly they are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A root's validity.
    pub root_ttl: SignedDuration,
    /// An issuing certificate's validity; it is replaced when half of it is over.
    pub issuing_ttl: SignedDuration,
    /// A workload certificate's validity, at most.
    pub svid_ttl: SignedDuration,
    /// How long a new root, or a new key for tokens, is shown to peers before it signs, at least.
    pub overlap: SignedDuration,
    /// How long a new root waits for proxies that do not acknowledge it, at most.
    pub patience: SignedDuration,
    /// A token's validity, at most.
    pub jwt_ttl: SignedDuration,
    /// How long a key signs tokens.
    pub jwt_key_ttl: SignedDuration,
}

/// How often those who poll the bundle should, at most: five minutes (Federation 4.1).
const REFRESH_HINT: u64 = 300;

impl Policy {
    /// How often those who poll the bundle should, in seconds: four times before a new root signs.
    pub fn refresh_hint(&self) -> u64 {
        let quarter = u64::try_from(self.overlap.as_secs() / 4).unwrap_or_default();
        quarter.clamp(1, REFRESH_HINT)
    }
}

impl Default for Policy {
    fn default() -> Self {
        let hours = SignedDuration::from_hours;
        Self {
            root_ttl: hours(24 * 3650),
            issuing_ttl: hours(24 * 90),
            svid_ttl: hours(24),
            overlap: hours(1),
            patience: hours(24 * 7),
            jwt_ttl: SignedDuration::from_mins(5),
            jwt_key_ttl: hours(24 * 30),
        }
    }
}

/// How far a root, or a key, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Trusted, and not signing yet.
    Prepared,
    /// Signing.
    Active,
    /// Trusted still, because of what it signed.
    Retiring,
}

/// A root and how far it has come.
#[derive(Clone, Debug)]
pub struct Root {
    /// Tells it from other roots.
    pub name: String,
    /// Its certificate and key.
    pub signer: Arc<Signer>,
    /// How far it has come.
    pub stage: Stage,
    /// Since when it is at this stage.
    pub since: Timestamp,
    /// The first bundle that holds it.
    pub sequence: u64,
    /// What leads from it to older roots, the newest first.
    pub lineage: Vec<Cross>,
}

/// A key that signs tokens.
#[derive(Clone, Debug)]
pub struct JwtKey {
    /// Its `kid`.
    pub id: String,
    /// The key.
    pub key: Arc<PrivateKey>,
    /// How far it has come.
    pub stage: Stage,
    /// Since when it is at this stage.
    pub since: Timestamp,
}

/// The authority at one moment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authority {
    trust_domain: TrustDomain,
    sequence: u64,
    roots: Vec<Root>,
    issuing: Arc<Signer>,
    jwt_keys: Vec<JwtKey>,
    /// The newest first, which seals.
    sealing_keys: Vec<OpeningKey>,
}

impl Authority {
    /// A new authority: one root, one issuing certificate, one key for tokens.
    ///
    /// # Errors
    /// [`AuthorityError::Key`], [`AuthorityError::X509`].
    pub fn create(
        trust_domain: &TrustDomain,
        policy: &Policy,
        now: Timestamp,
        random: &dyn SecureRandom,
    ) -> Result<Self, AuthorityError> {
        let root = rotation::new_root(trust_domain, policy, now, random)?;
        let issuing = rotation::new_issuing(&root.1, policy, now, random)?;
        let (name, signer) = root;
        let mut jwt_key = rotation::new_jwt_key(now, random)?;
        jwt_key.stage = Stage::Active;
        Ok(Self {
            trust_domain: trust_domain.clone(),
            sequence: 1,
            roots: vec![Root {
                name,
                signer,
                stage: Stage::Active,
                since: now,
                sequence: 1,
                lineage: Vec::new(),
            }],
            issuing,
            jwt_keys: vec![jwt_key],
            sealing_keys: vec![rotation::new_sealing_key(random)?],
        })
    }

    /// Whom it certifies.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Rises whenever what peers are to trust changes.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Its roots: the active one, and those that overlap with it.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The keys of tokens: the active one, and those that overlap with it.
    pub fn jwt_keys(&self) -> &[JwtKey] {
        &self.jwt_keys
    }

    /// The keys that open uploaded private keys: the one that they are sealed under now, then those before it. An authority
    /// that was stored before there were any has none until its next step.
    pub fn sealing_keys(&self) -> &[OpeningKey] {
        &self.sealing_keys
    }

    /// The certificate that signs workloads' certificates.
    pub fn issuing(&self) -> &Arc<Signer> {
        &self.issuing
    }

    /// The root that signs.
    pub fn active_root(&self) -> &Root {
        let mut roots = self.roots.iter();
        let active = roots.find(|root| root.stage == Stage::Active);
        active.expect("one root is active: see the invariant")
    }

    /// The certificates that peers are to trust.
    pub fn bundle(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.roots.iter().map(|root| root.signer.certificate())
    }

    /// The same in PEM.
    pub fn bundle_pem(&self) -> String {
        certificates_pem(self.bundle())
    }

    /// Certifies that a key is an identity's; see [`Signer::svid`].
    ///
    /// # Errors
    /// [`AuthorityError::X509`]; [`AuthorityError::Key`] if no serial number could be drawn.
    pub fn sign(
        &self,
        id: &SpiffeId,
        key: &PublicKey,
        now: Timestamp,
        ttl: SignedDuration,
        server_names: &[String],
        random: &dyn SecureRandom,
    ) -> Result<X509Svid, AuthorityError> {
        let serial = serial(random)?;
        Ok(self.issuing.svid(id, key, serial, now, ttl, server_names)?)
    }
}

fn serial(random: &dyn SecureRandom) -> Result<Serial, KeyError> {
    Ok(Serial(bytes(random)?))
}

fn bytes<const N: usize>(random: &dyn SecureRandom) -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    random.fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}
