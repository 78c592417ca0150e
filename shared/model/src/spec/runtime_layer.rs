//! `RuntimeLayer` (`weft.mesh/v1`): runtime values for Envoys, over RTDS.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Struct, WorkloadSelector};

/// Runtime values, such as feature flags, for selected workloads.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuntimeLayer {
    /// The workloads; all of the namespace by default, of the mesh in the root namespace.
    pub workload_selector: Option<WorkloadSelector>,
    /// The values, by key; nested objects are allowed.
    pub layer: Struct,
}
