//! Envelope encryption of what is stored: AES-256-GCM under a key of the value's own, which is wrapped by a
//! key-encryption key that never enters the store.
//!
//! The path at which a value is stored is authenticated with it, so a value that is moved or swapped does not open. Every
//! value names the key-encryption key that wraps it: several can be known at once, the first seals, and re-encryption is to
//! open and seal again. *Invariant:* nothing opens that was not sealed so, and no error says more than that.

#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Bytes of a key of AES-256.
const KEY_LEN: usize = 32;

/// Why something cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The value has not the form of a sealed one.
    #[error("{path} holds nothing that was sealed: {reason}")]
    Form {
        /// Where it is stored.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The key-encryption key that wraps it is not among those that are known.
    #[error(
        "{path} is sealed under the key-encryption key {id:?}, which is not among the known ones: {known}"
    )]
    UnknownKey {
        /// Where it is stored.
        path: String,
        /// The key's name.
        id: String,
        /// The names of those that are known.
        known: String,
    },
    /// Another key of the same name, a value that was changed, or one that was sealed for another path.
    #[error(
        "{path} does not open: it was changed or moved, or {id:?} is another key than the one it was sealed under"
    )]
    Tampered {
        /// Where it is stored.
        path: String,
        /// The key-encryption key's name.
        id: String,
    },
}

/// Why a list of key-encryption keys cannot be used. Shows no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyListError {
    /// No key at all.
    #[error(
        "no key-encryption key is given; write a line <name>:<32 random bytes in base64>, such as from `openssl rand -base64 32`"
    )]
    Empty,
    /// A line without a name.
    #[error(
        "key-encryption key {0}: expected <name>:<32 random bytes in base64>, where a name is of letters, digits, '-', '_' and '.'"
    )]
    Line(usize),
    /// Not 32 bytes.
    #[error("key-encryption key {id:?}: expected 32 bytes in base64")]
    Length {
        /// Its name.
        id: String,
    },
    /// The same name twice.
    #[error("key-encryption key {id:?} is given twice")]
    Twice {
        /// Its name.
        id: String,
    },
}

/// A key-encryption key.
struct Key {
    id: String,
    bytes: Zeroizing<[u8; KEY_LEN]>,
}

/// The key-encryption keys: the first seals, all open.
pub struct KeyList(Vec<Key>);

impl fmt::Debug for KeyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

/// How a sealed value is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    /// The key-encryption key's name.
    kek: String,
    /// The data key, sealed by it: nonce and ciphertext, in base64.
    key: String,
    /// The value, sealed by the data key.
    data: String,
}

impl KeyList {
    /// Keys from text: `<name>:<32 bytes in base64>`, separated by line ends or commas; lines that begin with `#` are
    /// comments.
    ///
    /// # Errors
    /// Which one is not so; none is shown.
    pub fn parse(text: &str) -> Result<Self, KeyListError> {
        let mut keys: Vec<Key> = Vec::new();
        let entries = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(|line| line.split(','))
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        for (at, entry) in entries.enumerate() {
            let named = entry.split_once(':').filter(|(id, _)| is_name(id));
            let (id, encoded) = named.ok_or(KeyListError::Line(at + 1))?;
            let id = id.to_owned();
            let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).unwrap_or_default());
            let Ok(bytes) = <[u8; KEY_LEN]>::try_from(decoded.as_slice()) else {
                return Err(KeyListError::Length { id });
            };
            if keys.iter().any(|key| key.id == id) {
                return Err(KeyListError::Twice { id });
            }
            let bytes = Zeroizing::new(bytes);
            keys.push(Key { id, bytes });
        }
        if keys.is_empty() {
            return Err(KeyListError::Empty);
        }
        Ok(Self(keys))
    }

    /// The names of the keys; that of the one that seals is the first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.id.as_str())
    }

    /// Seals a value for the path it will be stored at.
    ///
    /// # Errors
    /// [`EnvelopeError::Random`].
    pub fn seal(
        &self,
        path: &str,
        value: &[u8],
        random: &dyn SecureRandom,
    ) -> Result<Vec<u8>, EnvelopeError> {
        let kek = self.0.first().expect("a list has a key");
        let mut key = Zeroizing::new([0; KEY_LEN]);
        random
            .fill(key.as_mut())
            .map_err(|_| EnvelopeError::Random)?;
        let sealed = Sealed {
            kek: kek.id.clone(),
            key: encrypt(&kek.bytes, &aad("key", &kek.id, path), &*key, random)?,
            data: encrypt(&key, &aad("data", &kek.id, path), value, random)?,
        };
        Ok(serde_json::to_vec(&sealed).expect("strings always serialize"))
    }

    /// Opens what was sealed for this path.
    ///
    /// # Errors
    /// All but [`EnvelopeError::Random`].
    pub fn open(&self, path: &str, stored: &[u8]) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let sealed = Sealed::parse(path, stored)?;
        let kek = self.0.iter().find(|key| key.id == sealed.kek);
        let kek = kek.ok_or_else(|| EnvelopeError::UnknownKey {
            path: path.to_owned(),
            id: sealed.kek.clone(),
            known: self.ids().collect::<Vec<_>>().join(", "),
        })?;
        let open = || {
            let key = decrypt(&kek.bytes, &aad("key", &kek.id, path), &sealed.key)?;
            let key = Zeroizing::new(<[u8; KEY_LEN]>::try_from(key.as_slice()).ok()?);
            decrypt(&key, &aad("data", &kek.id, path), &sealed.data)
        };
        open().ok_or_else(|| EnvelopeError::Tampered {
            path: path.to_owned(),
            id: kek.id.clone(),
        })
    }

    /// Whether this was sealed by another key than the one that seals now.
    ///
    /// # Errors
    /// [`EnvelopeError::Form`].
    pub fn is_outdated(&self, path: &str, stored: &[u8]) -> Result<bool, EnvelopeError> {
        let sealed = Sealed::parse(path, stored)?;
        Ok(self.ids().next() != Some(sealed.kek.as_str()))
    }
}

impl Sealed {
    fn parse(path: &str, stored: &[u8]) -> Result<Self, EnvelopeError> {
        serde_json::from_slice(stored).map_err(|error| EnvelopeError::Form {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }
}

fn is_name(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !id.is_empty() && id.chars().all(allowed)
}

/// What is authenticated beside a ciphertext: its part in the envelope, the wrapping key's name, and the path. Neither of
/// the first two can hold a zero byte.
fn aad(part: &str, kek: &str, path: &str) -> Vec<u8> {
    format!("weft-envelope-1\0{part}\0{kek}\0{path}").into_bytes()
}

fn cipher(key: &[u8; KEY_LEN]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, key).expect("the length is AES-256's");
    LessSafeKey::new(key)
}

/// Nonce, ciphertext and tag, in base64.
fn encrypt(
    key: &[u8; KEY_LEN],
    aad: &[u8],
    value: &[u8],
    random: &dyn SecureRandom,
) -> Result<String, EnvelopeError> {
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce).map_err(|_| EnvelopeError::Random)?;
    // Room for the tag, or the value would be left behind in a buffer that was too small.
    let mut buffer = Zeroizing::new(Vec::with_capacity(value.len() + AES_256_GCM.tag_len()));
    buffer.extend_from_slice(value);
    cipher(key)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            &mut *buffer,
        )
        .expect("a value is far shorter than the cipher's limit of 64 GiB");
    Ok(STANDARD.encode([&nonce[..], &buffer[..]].concat()))
}

fn decrypt(key: &[u8; KEY_LEN], aad: &[u8], text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
    let (nonce, _) = bytes.split_first_chunk::<NONCE_LEN>()?;
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = cipher(key)
        .open_within(nonce, Aad::from(aad), &mut bytes, NONCE_LEN..)
        .ok()?
        .len();
    bytes.truncate(length);
    Some(bytes)
}
