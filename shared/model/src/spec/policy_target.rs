//! Whom a security policy holds for: a selector, or references that are not supported yet.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Labels;

/// Which workloads a security policy holds for, by their labels. Every workload carries, beside its own, the label
/// `weft.mesh/service-account` with its service account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicySelector {
    /// Every one of these must be on the workload.
    pub match_labels: Labels,
}

/// A resource that a security policy holds for. Not supported yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicyTargetReference {
    /// Its group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}
