//! JWT-SVIDs, and the key sets that verify them: the JWT-SVID standard, and the SPIFFE bundle format.
//!
//! *Invariant:* a token has a subject, at least one audience and an end; nothing else of a request is in it.

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use model::SpiffeId;
use serde_json::{Value, json};

use crate::authority::{Authority, JwtKey, Stage};
use crate::key::KeyError;

/// The longest audience, in bytes.
pub(crate) const LONGEST_AUDIENCE: usize = 1024;

/// The most audiences of one token, and the longest.
const AUDIENCES: (usize, usize) = (16, LONGEST_AUDIENCE);

/// Why a token is not signed.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// No audience, an empty one, or too many.
    #[error("audience: expected 1 to {} texts of 1 to {} bytes", AUDIENCES.0, AUDIENCES.1)]
    Audience,
    /// No key signs tokens at the moment.
    #[error("no key for tokens is active")]
    NoKey,
    /// The signature could not be made.
    #[error("the token could not be signed")]
    Sign(#[from] KeyError),
}

/// A signed token. Whoever holds it is its subject, so `Debug` does not show it.
pub struct JwtSvid {
    /// The token.
    pub token: zeroize::Zeroizing<String>,
    /// When it expires.
    pub not_after: Timestamp,
}

impl std::fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtSvid")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// A token that says to these audiences who its holder is.
    ///
    /// # Errors
    /// [`JwtError`].
    pub fn sign_jwt(
        &self,
        id: &SpiffeId,
        audience: &[String],
        issuer: Option<&str>,
        now: Timestamp,
        ttl: SignedDuration,
    ) -> Result<JwtSvid, JwtError> {
        let fits = |text: &String| (1..=AUDIENCES.1).contains(&text.len());
        if !(1..=AUDIENCES.0).contains(&audience.len()) || !audience.iter().all(fits) {
            return Err(JwtError::Audience);
        }
        let mut keys = self.jwt_keys().iter();
        let key = keys
            .find(|key| key.stage == Stage::Active)
            .ok_or(JwtError::NoKey)?;
        let not_after = now + ttl;
        let header = json!({"alg": "ES256", "kid": key.id, "typ": "JWT"});
        let mut claims = json!({
            "sub": id,
            "aud": audience,
            "iat": now.as_second(),
            "exp": not_after.as_second(),
        });
        if let Some(issuer) = issuer {
            claims["iss"] = issuer.into();
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = key.key.sign_fixed(signed.as_bytes())?;
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        let token = token.into();
        Ok(JwtSvid { token, not_after })
    }

    /// What is to be trusted, as a SPIFFE bundle: roots of certificates and keys of tokens. `refresh_hint`: how often those
    /// who poll it should, in seconds.
    pub fn spiffe_bundle(&self, refresh_hint: u64) -> Value {
        let roots = self.roots().iter().map(|root| {
            let (x, y) = root.signer.key().coordinates();
            json!({
                "kty": "EC", "crv": "P-256", "use": "x509-svid",
                "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
                "x5c": [STANDARD.encode(root.signer.certificate())],
            })
        });
        let keys = self.jwt_keys().iter().map(|key| jwk(key, "jwt-svid"));
        json!({
            "keys": roots.chain(keys).collect::<Vec<_>>(),
            "spiffe_sequence": self.sequence(),
            "spiffe_refresh_hint": refresh_hint,
        })
    }

    /// The keys of tokens as any OpenID Connect client reads them.
    pub fn jwks(&self) -> Value {
        let keys = self.jwt_keys().iter().map(|key| jwk(key, "sig"));
        json!({ "keys": keys.collect::<Vec<_>>() })
    }
}

fn jwk(key: &JwtKey, usage: &str) -> Value {
    let (x, y) = key.key.coordinates();
    json!({
        "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": key.id, "use": usage,
        "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
    })
}
