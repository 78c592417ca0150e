//! How a workload proves who it is before it has a certificate: a random token, of which only a hash is kept.
//!
//! config-api makes one for a bootstrap and shows it once; the issuer recognizes it. *Invariant:* nothing here stores or
//! shows a token; what is stored does not lead back to it.

#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Identity;

/// What a token begins with, so that one that leaked is recognized for what it is.
const PREFIX: &str = "weft_";

/// Random bytes of a token.
pub const CREDENTIAL_BYTES: usize = 32;

/// A token of 256 random bits. Its `Debug` shows nothing, and it is wiped when it is dropped.
pub struct Credential(Zeroizing<String>);

impl Credential {
    /// The token of these bytes, which must be random.
    pub fn new(random: &Zeroizing<[u8; CREDENTIAL_BYTES]>) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(64));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(random.as_slice(), &mut text);
        Self(text)
    }

    /// A token as somebody presents it; `None` if it has not the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).ok()?);
        (bytes.len() == CREDENTIAL_BYTES).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The token's text, to be shown once to whom it is for: the value of `authorization` is `Bearer` and this.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its SHA-256 in hexadecimal: the name under which its record is stored. A token is random enough that no salt is
    /// needed, and looking a hash up tells nothing by the time it takes.
    pub fn hash(&self) -> String {
        use std::fmt::Write as _;
        let digest = ring::digest::digest(&ring::digest::SHA256, self.0.as_bytes());
        let mut text = String::with_capacity(64);
        for byte in digest.as_ref() {
            write!(text, "{byte:02x}").expect("a string can always be written to");
        }
        text
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// What is stored of a token, under its [hash](Credential::hash). Deleting it revokes the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialRecord {
    /// Who presents it.
    pub identity: Identity,
    /// The workload it was made for, in the identity's namespace.
    pub workload: String,
    /// The `uid` of that workload's WorkloadEntry, with which it ends; absent where there is none, as of the control
    /// plane's own services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_uid: Option<String>,
    /// When it was made.
    pub created: Timestamp,
}

impl CredentialRecord {
    /// As it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings always serialize")
    }

    /// What was stored.
    ///
    /// # Errors
    /// It is no record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
