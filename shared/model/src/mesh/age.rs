//! Who is older: the rule that decides every conflict between resources.
//!
//! *Invariant:* no clock; ages are compared as written at creation.

use std::sync::Arc;

use crate::{Kind, Metadata};

/// When a resource was created, and its name and namespace for ties. The least is the oldest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Age {
    created: Arc<str>,
    name: Arc<str>,
    namespace: Arc<str>,
    kind: Kind,
}

impl Age {
    /// The age of a resource. One without a creation time counts as the oldest.
    pub fn new(kind: Kind, metadata: &Metadata) -> Self {
        Self {
            created: metadata
                .creation_timestamp
                .as_deref()
                .unwrap_or_default()
                .into(),
            name: metadata.name.as_str().into(),
            namespace: metadata.namespace.as_str().into(),
            kind,
        }
    }

    /// The age of something that is older than every other.
    pub fn oldest() -> Self {
        Self {
            created: "".into(),
            name: "".into(),
            namespace: "".into(),
            kind: Kind::ServiceEntry,
        }
    }

    /// The age of something that is younger than every other.
    pub fn youngest(key: &crate::Key) -> Self {
        Self {
            created: "~".into(),
            name: key.name.clone(),
            namespace: key.namespace.clone(),
            kind: key.kind,
        }
    }

    /// Whose age it is.
    pub fn key(&self) -> crate::Key {
        crate::Key {
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}
