//! A resource as it is stored and shown: Kubernetes object shape, the spec kept as it was given.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Key, Kind};

/// A revision of the store (etcd's), the mesh's only clock. Zero is "before everything".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision(pub i64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Kubernetes `ObjectMeta`, as far as Weft keeps it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Unique per kind and namespace.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// Random at creation, stable afterwards.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The revision of the last write to this resource. Never stored in the value: the store fills it in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Rises when the spec changes, and only then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// RFC 3339, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A resource with its spec as it was given: what etcd holds and what `get` shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its metadata.
    pub metadata: Metadata,
    /// Its spec, verbatim.
    pub spec: Value,
}

impl Object {
    /// Its identity.
    pub fn key(&self) -> Key {
        Key::new(
            self.kind,
            self.metadata.namespace.as_str(),
            self.metadata.name.as_str(),
        )
    }

    /// Its revision, if it was read from a store.
    pub fn revision(&self) -> Option<Revision> {
        self.metadata
            .resource_version
            .as_ref()?
            .parse()
            .ok()
            .map(Revision)
    }

    /// The object in Kubernetes shape, with the stored `apiVersion`.
    pub fn to_json(&self) -> Value {
        serde_json::json!({
            "apiVersion": self.kind.api_version(),
            "kind": self.kind.name(),
            "metadata": self.metadata,
            "spec": self.spec,
        })
    }
}
