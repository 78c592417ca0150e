//! Private keys that people upload, sealed so that only the certificate issuer can open them: HPKE (RFC 9180) with X25519,
//! HKDF-SHA256 and ChaCha20-Poly1305.
//!
//! The issuer keeps [`OpeningKey`]s and publishes the [`SealingKey`] of the newest; config-api seals with it and can open
//! nothing. What a value is for (the resource, the public key that belongs to it, the key it is sealed under) is bound into
//! it, so that it opens nowhere else. *Invariant:* nothing secret here has a `Serialize`, shows in `Debug` or in an error.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use model::Key;
use model::spec::SealedPrivateKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey;

/// Where the issuer publishes its [`SealingKey`], below `ca/`.
pub const PUBLISHED: &str = "sealing.json";

/// Bytes of a key, public or private.
const KEY_LEN: usize = 32;

/// Why something cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// What is published is no sealing key.
    #[error("ca/{PUBLISHED} holds no sealing key: {0}")]
    Published(String),
    /// Not 32 bytes.
    #[error("the sealing key {0:?} is not 32 bytes")]
    Length(String),
    /// Sealed under a key that is not known.
    #[error("it is sealed under {name:?}, which is not among the known keys: {known}")]
    UnknownKey {
        /// The key's name.
        name: String,
        /// The names of those that are known.
        known: String,
    },
    /// Changed, or sealed for another resource or another certificate.
    #[error("it does not open: it was changed, or sealed for another resource or certificate")]
    Tampered,
}

/// The public half: it seals and opens nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct SealingKey {
    name: String,
    key: Public,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Published {
    name: String,
    suite: String,
    public_key: String,
}

/// The algorithms, as they are published.
const SUITE: &str = "DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305";

impl SealingKey {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As it is published.
    pub fn to_bytes(&self) -> Vec<u8> {
        let published = Published {
            name: self.name.clone(),
            suite: SUITE.into(),
            public_key: STANDARD.encode(self.key.to_bytes()),
        };
        serde_json::to_vec(&published).expect("strings always serialize")
    }

    /// What was published.
    ///
    /// # Errors
    /// [`SealError::Published`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let not = |why: &str| SealError::Published(why.to_owned());
        let published: Published =
            serde_json::from_slice(bytes).map_err(|error| not(&error.to_string()))?;
        if published.suite != SUITE {
            return Err(not(&format!("its suite is not {SUITE}")));
        }
        let key = STANDARD.decode(&published.public_key).unwrap_or_default();
        let key = Public::from_bytes(&key).map_err(|_| not("publicKey is no X25519 key"))?;
        Ok(Self {
            name: published.name,
            key,
        })
    }

    /// Seals a private key for a resource. `public_key_sha256`: of the public key that belongs to it.
    pub fn seal(&self, of: &Key, public_key_sha256: &str, private_key: &str) -> SealedPrivateKey {
        let (encapsulated, ciphertext) =
            hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
                &OpModeS::Base,
                &self.key,
                &info(of, public_key_sha256, &self.name),
                private_key.as_bytes(),
                &[],
                &mut rand::rng(),
            )
            .expect("one short message to a key that was read is always sealed");
        SealedPrivateKey {
            key: self.name.clone(),
            public_key_sha256: public_key_sha256.to_owned(),
            encapsulated: STANDARD.encode(encapsulated.to_bytes()),
            ciphertext: STANDARD.encode(ciphertext),
        }
    }
}

/// A key that opens. Its `Debug` shows its name alone.
#[derive(Clone)]
pub struct OpeningKey {
    name: String,
    key: Private,
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningKey({})", self.name)
    }
}

impl OpeningKey {
    /// A new key of this name.
    pub fn generate(name: impl Into<String>) -> Self {
        let (key, _) = X25519HkdfSha256::gen_keypair_with_rng(&mut rand::rng());
        Self {
            name: name.into(),
            key,
        }
    }

    /// A key from what [`Self::secret`] gave.
    ///
    /// # Errors
    /// [`SealError::Length`].
    pub fn restore(name: &str, secret: &[u8]) -> Result<Self, SealError> {
        let key = Private::from_bytes(secret).map_err(|_| SealError::Length(name.to_owned()))?;
        Ok(Self {
            name: name.to_owned(),
            key,
        })
    }

    /// The key's bytes, to be encrypted and stored.
    pub fn secret(&self) -> Zeroizing<[u8; KEY_LEN]> {
        let mut secret = Zeroizing::new([0; KEY_LEN]);
        self.key.write_exact(secret.as_mut());
        secret
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its public half.
    pub fn sealing_key(&self) -> SealingKey {
        SealingKey {
            name: self.name.clone(),
            key: X25519HkdfSha256::sk_to_pk(&self.key),
        }
    }
}

/// Opens what was sealed for a resource, by whichever of these keys it is sealed under. Gives the private key in PEM.
///
/// # Errors
/// [`SealError::UnknownKey`], [`SealError::Tampered`].
pub fn open(
    keys: &[OpeningKey],
    of: &Key,
    sealed: &SealedPrivateKey,
) -> Result<Zeroizing<String>, SealError> {
    let key = keys.iter().find(|key| key.name == sealed.key);
    let key = key.ok_or_else(|| SealError::UnknownKey {
        name: sealed.key.clone(),
        known: keys
            .iter()
            .map(OpeningKey::name)
            .collect::<Vec<_>>()
            .join(", "),
    })?;
    let opened = || {
        let encapsulated = STANDARD.decode(&sealed.encapsulated).ok()?;
        let ciphertext = STANDARD.decode(&sealed.ciphertext).ok()?;
        let opened = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &key.key,
            &Encapsulated::from_bytes(&encapsulated).ok()?,
            &info(of, &sealed.public_key_sha256, &key.name),
            &ciphertext,
            &[],
        );
        // Sealed as text.
        String::from_utf8(opened.ok()?).ok().map(Zeroizing::new)
    };
    opened().ok_or(SealError::Tampered)
}

/// What a sealed value is bound to. None of the parts can hold a zero byte.
fn info(of: &Key, public_key_sha256: &str, name: &str) -> Vec<u8> {
    format!(
        "weft-seal-1\0{}/{of}\0{public_key_sha256}\0{name}",
        of.kind.group()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests;
