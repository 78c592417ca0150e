//! What operators ask of the certificate authority: written where the issuer that leads takes it up.
//!
//! *Invariant:* nothing here is secret.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A request, and what became of it. Stored at `ca/requests/<id>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorityRequest {
    /// What is asked for.
    pub step: AuthorityStep,
    /// Who asks.
    pub who: String,
    /// When it was made.
    pub made: Timestamp,
    /// W3C trace context of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What vendors added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
    /// What became of it; absent until the issuer took it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AuthorityOutcome>,
}

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum AuthorityStep {
    /// A new issuing certificate, now.
    RotateIssuing,
    /// A new root, prepared now; it signs once it was shown to every proxy.
    RotateRoot,
    /// A root is distrusted at once, with all it signed.
    RevokeRoot(String),
}

impl std::fmt::Display for AuthorityStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RotateIssuing => f.write_str("rotateIssuing"),
            Self::RotateRoot => f.write_str("rotateRoot"),
            Self::RevokeRoot(name) => write!(f, "revokeRoot {name}"),
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum AuthorityOutcome {
    /// It was done.
    Done,
    /// It was not possible: why.
    Refused(String),
}

impl AuthorityRequest {
    /// As it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings always serialize")
    }

    /// What was stored.
    ///
    /// # Errors
    /// It is no request.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
