//! `ServiceEntry`: a service of the mesh, or outside of it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Port, WorkloadEntry, WorkloadSelector};

/// Describes a service: its hosts, its ports, and where its endpoints are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceEntry {
    /// The hosts of the service; a wildcard prefix (`*.example.com`) is allowed.
    pub hosts: Vec<String>,
    /// Virtual addresses of the service: IP addresses or CIDR prefixes.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The ports of the service.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// Whether the service is part of the mesh.
    #[serde(default)]
    pub location: Location,
    /// How the addresses of the service are found.
    #[serde(default)]
    pub resolution: Resolution,
    /// The endpoints of the service.
    #[serde(default)]
    pub endpoints: Vec<WorkloadEntry>,
    /// The WorkloadEntries of this namespace that are endpoints of the service.
    pub workload_selector: Option<WorkloadSelector>,
    /// The namespaces that see the service: `.` its own, `*` all (the default), `~` none, or names.
    #[serde(default)]
    pub export_to: Vec<String>,
    /// The identities that may serve it.
    #[serde(default)]
    pub subject_alt_names: Vec<String>,
}

/// Whether a service is part of the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Location {
    /// Outside of the mesh.
    #[default]
    MeshExternal,
    /// Part of the mesh.
    MeshInternal,
}

/// How the addresses of a service are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// Connections go to the address they were meant for.
    #[default]
    None,
    /// The endpoints' addresses, as they are.
    Static,
    /// By asynchronous DNS; every address found is an endpoint.
    Dns,
    /// By asynchronous DNS; one address at a time.
    DnsRoundRobin,
    /// By the DNS name in the request. Not supported yet.
    DynamicDns,
}
