//! Who a workload is: SPIFFE IDs, and the form they have in a mesh.
//!
//! Rules are those of the SPIFFE ID standard, section 2: one error variant each. *Invariant:* a value of these types is
//! well formed; its text is its only form.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest SPIFFE ID, in bytes (section 2.3).
const LONGEST_ID: usize = 2048;

/// The longest trust domain, in bytes (section 2.3).
const LONGEST_TRUST_DOMAIN: usize = 255;

/// Why a text is no SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Longer than 2048 bytes.
    #[error("a SPIFFE ID has at most {LONGEST_ID} bytes, not {0}")]
    TooLong(usize),
    /// Another scheme, or none.
    #[error("{0:?} must begin with \"spiffe://\"")]
    Scheme(String),
    /// No trust domain.
    #[error("the trust domain is empty; write spiffe://<trust domain>/…")]
    NoTrustDomain,
    /// A trust domain longer than 255 bytes.
    #[error("a trust domain has at most {LONGEST_TRUST_DOMAIN} bytes, not {0}")]
    TrustDomainTooLong(usize),
    /// A character that a trust domain must not have: an upper-case letter, a port's colon, `@`, `%` …
    #[error("trust domain {text:?}: {found:?} is not one of a-z, 0-9, '.', '-', '_'")]
    TrustDomainCharacter {
        /// The trust domain.
        text: String,
        /// The character.
        found: char,
    },
    /// A path that ends with a slash.
    #[error("path {0:?} must not end with '/'")]
    TrailingSlash(String),
    /// A path with nothing between two slashes.
    #[error("path {0:?} has an empty segment")]
    EmptySegment(String),
    /// A path with `.` or `..` as a segment.
    #[error("path {0:?} must not have '.' or '..' as a segment")]
    DotSegment(String),
    /// A character that a path must not have: a query's `?`, a fragment's `#`, `%` …
    #[error("path {text:?}: {found:?} is not one of a-z, A-Z, 0-9, '.', '-', '_'")]
    PathCharacter {
        /// The path.
        text: String,
        /// The character.
        found: char,
    },
    /// A SPIFFE ID that is not of the form of a mesh's workloads.
    #[error(
        "{0} is no workload's identity; that is spiffe://<trust domain>/ns/<namespace>/sa/<service account>"
    )]
    NoWorkload(String),
}

/// A trust domain, such as `cluster.local`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its SPIFFE ID, `spiffe://<name>`: what its bundle is named by.
    pub fn id(&self) -> SpiffeId {
        SpiffeId {
            trust_domain: self.clone(),
            path: "".into(),
        }
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        if text.is_empty() {
            return Err(SpiffeIdError::NoTrustDomain);
        }
        if text.len() > LONGEST_TRUST_DOMAIN {
            return Err(SpiffeIdError::TrustDomainTooLong(text.len()));
        }
        let allowed = |c: &char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
        match text.chars().find(|c| !allowed(c)) {
            Some(found) => Err(SpiffeIdError::TrustDomainCharacter {
                text: text.to_owned(),
                found,
            }),
            None => Ok(Self(text.into())),
        }
    }
}

/// Any SPIFFE ID. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    /// Empty, or segments with a slash before each.
    path: Arc<str>,
}

impl SpiffeId {
    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path: empty, or with a slash at its beginning.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > LONGEST_ID {
            return Err(SpiffeIdError::TooLong(text.len()));
        }
        let rest = text
            .strip_prefix("spiffe://")
            .ok_or_else(|| SpiffeIdError::Scheme(text.to_owned()))?;
        let (trust_domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let trust_domain = trust_domain.parse()?;
        check_path(path)?;
        Ok(Self {
            trust_domain,
            path: path.into(),
        })
    }
}

fn check_path(path: &str) -> Result<(), SpiffeIdError> {
    let Some(segments) = path.strip_prefix('/') else {
        return Ok(());
    };
    if path.ends_with('/') {
        return Err(SpiffeIdError::TrailingSlash(path.to_owned()));
    }
    for segment in segments.split('/') {
        match segment {
            "" => return Err(SpiffeIdError::EmptySegment(path.to_owned())),
            "." | ".." => return Err(SpiffeIdError::DotSegment(path.to_owned())),
            _ => {}
        }
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if let Some(found) = segment.chars().find(|c| !allowed(c)) {
            let text = path.to_owned();
            return Err(SpiffeIdError::PathCharacter { text, found });
        }
    }
    Ok(())
}

/// The identity of a workload in a mesh: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, as in Istio.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    trust_domain: TrustDomain,
    namespace: Arc<str>,
    service_account: Arc<str>,
}

impl Identity {
    /// The identity of a service account.
    ///
    /// # Errors
    /// If a part cannot be a segment of a SPIFFE ID's path.
    pub fn new(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, SpiffeIdError> {
        format!("{}/ns/{namespace}/sa/{service_account}", trust_domain.id()).parse()
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// The same as a SPIFFE ID.
    pub fn id(&self) -> SpiffeId {
        SpiffeId {
            trust_domain: self.trust_domain.clone(),
            path: format!("/ns/{}/sa/{}", self.namespace, self.service_account).into(),
        }
    }
}

impl TryFrom<&SpiffeId> for Identity {
    type Error = SpiffeIdError;

    fn try_from(id: &SpiffeId) -> Result<Self, SpiffeIdError> {
        let parts: Vec<&str> = id.path.split('/').collect();
        match parts[..] {
            ["", "ns", namespace, "sa", service_account] => Ok(Self {
                trust_domain: id.trust_domain.clone(),
                namespace: namespace.into(),
                service_account: service_account.into(),
            }),
            _ => Err(SpiffeIdError::NoWorkload(id.to_string())),
        }
    }
}

impl FromStr for Identity {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        Self::try_from(&text.parse::<SpiffeId>()?)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}{}", self.trust_domain, self.path)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}

/// `Debug` as `Display`, and serde as text.
macro_rules! as_text {
    ($($type:ty),+) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    )+};
}
as_text!(TrustDomain, SpiffeId, Identity);
