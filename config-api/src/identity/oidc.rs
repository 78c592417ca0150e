//! JWTs of an OpenID Connect issuer: who they name, if everything about them holds.
//!
//! *Invariant:* the algorithm is the operator's choice and the key's, never the token's; whatever is missing or unknown is
//! refused.

mod keys;
#[cfg(test)]
mod tests;

use std::str::FromStr;
use std::sync::Arc;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::tokens::Subject;
pub(crate) use keys::{Fetcher, Keys, Origin};

/// How far the clocks of the issuer and of this machine may differ, in seconds.
const LEEWAY: u64 = 30;

/// What a token must say, and what is read from it.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) algorithms: Vec<Signature>,
    pub(crate) name_claim: String,
    pub(crate) groups_claim: String,
}

/// An algorithm that tokens may be signed by: asymmetric ones only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature(Algorithm);

impl FromStr for Signature {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let all = [
            ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512,
        ];
        let found = all.into_iter().find(|a| format!("{a:?}") == text);
        found.map(Self).ok_or_else(|| {
            let names: Vec<String> = all.iter().map(|a| format!("{a:?}")).collect();
            format!("{text:?} is not one of {}", names.join(", "))
        })
    }
}

/// Why a token was not taken.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It is no good.
    #[error("{0}")]
    Token(String),
    /// Nobody can say: the issuer's keys are not known.
    #[error("the keys of the OIDC issuer cannot be had: {0}")]
    Keys(String),
}

/// Verifies tokens of one issuer.
pub(crate) struct Oidc {
    settings: Settings,
    keys: Arc<Keys>,
}

impl Oidc {
    pub(crate) fn new(settings: Settings, keys: Arc<Keys>) -> Self {
        Self { settings, keys }
    }

    /// Whether a bearer token looks like a JWT at all.
    pub(crate) fn is_jwt(token: &str) -> bool {
        token.split('.').count() == 3
    }

    /// Who a token names. A key that is not known yet is asked for once.
    ///
    /// # Errors
    /// What is wrong with the token, or that its keys cannot be had.
    pub(crate) async fn subject(&self, token: &str) -> Result<Subject, Refusal> {
        let header = decode_header(token)
            .map_err(|error| Refusal::Token(format!("its header cannot be read: {error}")))?;
        if !self.settings.algorithms.contains(&Signature(header.alg)) {
            return Err(Refusal::Token(format!(
                "it is signed by {:?}, which --oidc-algorithms does not allow",
                header.alg
            )));
        }
        if let Some(critical) = &header.crit {
            return Err(Refusal::Token(format!(
                "it has critical extensions that are not understood: {critical:?}"
            )));
        }
        let kid = header.kid.as_deref();
        let key = match self.keys.find(kid) {
            Some(key) => key,
            None => {
                self.keys.refresh().await;
                self.keys.find(kid).ok_or_else(|| self.no_key(kid))?
            }
        };
        self.settings.verify(token, header.alg, &key)
    }

    fn no_key(&self, kid: Option<&str>) -> Refusal {
        match (self.keys.trouble(), kid) {
            (Some(why), _) => Refusal::Keys(why),
            (None, Some(kid)) => Refusal::Token(format!("its issuer has no key {kid:?}")),
            (None, None) => {
                Refusal::Token("it names no key (kid), and its issuer has not just one".into())
            }
        }
    }
}

impl Settings {
    fn verify(&self, token: &str, algorithm: Algorithm, key: &Jwk) -> Result<Subject, Refusal> {
        let refuse = |why: String| Refusal::Token(why);
        let of_key = key.common.key_algorithm.map(|a| a.to_string());
        if of_key.is_some_and(|of_key| of_key != format!("{algorithm:?}")) {
            return Err(refuse("its algorithm is not that of its key".into()));
        }
        let decoding = DecodingKey::from_jwk(key)
            .map_err(|error| refuse(format!("its issuer's key cannot be used: {error}")))?;
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims = decode::<Map<String, Value>>(token, &decoding, &validation)
            .map_err(|error| refuse(error.to_string()))?
            .claims;
        self.named(&claims).map_err(refuse)
    }

    fn named(&self, claims: &Map<String, Value>) -> Result<Subject, String> {
        let claim = &self.name_claim;
        let name = claims
            .get(claim)
            .and_then(Value::as_str)
            .unwrap_or_default();
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(format!("its claim {claim:?} is no name"));
        }
        if claim == "email" && claims.get("email_verified") == Some(&Value::Bool(false)) {
            return Err("its e-mail address is not verified".into());
        }
        let groups: Vec<&str> = match claims.get(&self.groups_claim) {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        Ok(Subject {
            name: format!("oidc:{name}"),
            groups: groups.iter().map(|group| format!("oidc:{group}")).collect(),
        })
    }
}
