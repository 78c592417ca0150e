//! `DestinationRule`: the subsets of a service and how connections to it are made. The policy itself is in
//! [`super::traffic_policy`].

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Labels, TrafficPolicy, WorkloadSelector};

/// Says how connections to a host are made, after routing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DestinationRule {
    /// The host of a service; a short name is completed with the rule's namespace.
    pub host: String,
    /// The policy of the host.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named subsets of the host's endpoints.
    #[serde(default)]
    pub subsets: Vec<Subset>,
    /// The namespaces in which it holds: `.` its own, `*` all (the default), or names.
    #[serde(default)]
    pub export_to: Vec<String>,
    /// The client workloads for which it holds; all by default.
    pub workload_selector: Option<WorkloadSelector>,
}

/// A named subset of a host's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// The endpoints that carry all of these labels.
    #[serde(default)]
    pub labels: Labels,
    /// The policy of the subset, over that of the host.
    pub traffic_policy: Option<TrafficPolicy>,
}
