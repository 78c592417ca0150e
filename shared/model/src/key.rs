//! How one resource refers to another: kind, namespace and name.

use std::fmt;
use std::sync::Arc;

use crate::Kind;

/// The identity of a resource. Cheap to clone; ordered by kind, namespace, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What kind of resource.
    pub kind: Kind,
    /// The namespace; every kind is namespaced.
    pub namespace: Arc<str>,
    /// The name, unique per kind and namespace.
    pub name: Arc<str>,
}

impl Key {
    /// A key of these parts.
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}
